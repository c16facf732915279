//! Public message and details of errors, and texts for the log only.

use leadsd_quota::BucketName;

use super::*;

#[test]
fn a_missing_lead_has_the_facts_of_hubspots_404() {
    let error = Error::lead_not_found();
    assert_eq!(error.reason(), Reason::LeadNotFound);
    assert_eq!(error.upstream().http_status, Some(404));
    assert_eq!(error.upstream().category.as_deref(), Some("OBJECT_NOT_FOUND"));
    assert_eq!(error.with_lead_id("7").message(), "HubSpot has no lead 7");
    let other = Error::new(Reason::Conflict, "conflict");
    assert_eq!(other.clone().with_lead_id("7"), other);
}

#[test]
fn an_invalid_request_names_every_field() {
    let faults = vec![FieldFault::new("id", "must not be empty"), FieldFault::new("limit", "is 0")];
    let error = Error::invalid(faults.clone());
    assert_eq!(error.reason(), Reason::InvalidRequest);
    assert_eq!(error.message(), "id: must not be empty; limit: is 0");
    assert_eq!(error.fields(), faults);
}

#[test]
fn only_the_log_gets_the_internal_text() {
    let error = Error::new(Reason::Internal, "internal error");
    assert_eq!(error.internal(), None);
    let error = error.with_internal("the file is missing");
    assert_eq!(error.internal(), Some("the file is missing"));
    assert_eq!(error.to_string(), "INTERNAL: internal error");
}

#[test]
fn the_limit_that_rejected_a_request_has_a_name() {
    let error = Error::new(Reason::Overloaded, "too many calls");
    assert_eq!((error.local_limit(), error.bucket()), (None, None));
    for (limit, name) in [
        (LocalLimit::Quota("burst"), Some("burst")),
        (LocalLimit::Admission("calls"), Some("calls")),
        (LocalLimit::WriteQueue, Some("lead")),
        (LocalLimit::CircuitBreaker, None),
    ] {
        let error = error.clone().with_local_limit(limit);
        assert_eq!((error.local_limit(), error.bucket()), (Some(limit), name));
    }
}

#[test]
fn a_rejection_by_the_quota_says_when_to_retry() {
    for (reason, expected) in [
        (leadsd_quota::Reason::Deadline, Reason::RateLimited),
        (leadsd_quota::Reason::QueueFull, Reason::Overloaded),
        (leadsd_quota::Reason::Exhausted, Reason::DailyLimitReached),
    ] {
        let retry_after = Duration::from_secs(3);
        let error = Error::from(Rejected { bucket: BucketName::Search, reason, retry_after });
        assert_eq!(error.reason(), expected);
        assert_eq!(error.bucket(), Some("search"));
        assert_eq!(error.retry_after(), Some(retry_after));
        assert_eq!(error.side_effect(), SideEffect::None);
    }
}

#[test]
fn a_deadline_that_leaves_no_time_for_a_response_is_exceeded_before_a_call() {
    let reason = leadsd_quota::Reason::ShortDeadline;
    let retry_after = Duration::from_secs(3);
    let error = Error::from(Rejected { bucket: BucketName::Burst, reason, retry_after });
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(error.retry_after(), None, "a later call with this deadline fails as well");
    assert_eq!(error.side_effect(), SideEffect::None);
}

#[test]
fn what_is_added_to_an_error_is_read_from_it() {
    let affected = AffectedInputs { ids: vec!["7".to_owned()], ..AffectedInputs::default() };
    let error = Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable");
    assert!(!error.is_deadline_limited());
    let error = error.with_attempts(3).with_affected_inputs(affected.clone()).deadline_limited();
    assert_eq!(error.upstream().attempts, 3);
    assert_eq!(error.affected_inputs(), &affected);
    assert!(error.is_deadline_limited());
}

#[test]
fn every_reason_has_a_unique_public_name() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
    let is_public = |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    assert!(names.iter().all(is_public), "{names:?}");
    assert!(!names.contains(""));
}
