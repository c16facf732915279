//! Faults and limits of HubSpot: code and reason of each, and no duplicate write.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, ScriptedResponse};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    harness::{TestApp, failure, properties},
    operations::VERSIONS,
};

/// Retry delay of an error, if it has one.
fn wait(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

#[tokio::test]
async fn every_hubspot_error_has_its_reason_and_retry_delay() {
    let limited = |policy, seconds: Option<u64>| ApiError::RateLimited {
        policy,
        retry_after: seconds.map(Duration::from_secs),
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let table = [
        (ApiError::Locked { body: true }, Code::Unavailable, "ACCOUNT_LOCKED", seconds(2)),
        (ApiError::Locked { body: false }, Code::Unavailable, "ACCOUNT_LOCKED", seconds(2)),
        (
            ApiError::Migrating(Duration::from_secs(3_600)),
            Code::Unavailable,
            "ACCOUNT_MIGRATING",
            seconds(3_600),
        ),
        (
            limited("TEN_SECONDLY_ROLLING", None),
            Code::ResourceExhausted,
            "RATE_LIMITED",
            seconds(10),
        ),
        (
            limited("TEN_SECONDLY_ROLLING", Some(4)),
            Code::ResourceExhausted,
            "RATE_LIMITED",
            seconds(4),
        ),
        (limited("SECONDLY", None), Code::ResourceExhausted, "RATE_LIMITED", seconds(1)),
        (limited("SECONDLY", Some(2)), Code::ResourceExhausted, "RATE_LIMITED", seconds(2)),
        (limited("DAILY", None), Code::ResourceExhausted, "DAILY_LIMIT_REACHED", None),
        (ApiError::GatewayLimited, Code::ResourceExhausted, "RATE_LIMITED", seconds(10)),
        (ApiError::Forbidden, Code::PermissionDenied, "UPSTREAM_FORBIDDEN", None),
    ];
    for (refusal, code, reason, retry) in table {
        let app = TestApp::start().await;
        let id = app.lead("Jane");
        app.hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Reject(refusal));
        let status = app.get(&id).await.unwrap_err();
        assert_eq!(wait(&status), retry, "{refusal:?}");
        let (got, got_reason, _) = failure(Err::<(), _>(status));
        assert_eq!((got, got_reason.as_str()), (code, reason), "{refusal:?}");
        // A service that has not learned of the limit yet.
        let app = TestApp::start().await;
        app.hubspot.script("POST", "/leads", ScriptedResponse::Reject(refusal));
        let answer = app.leads.clone().create_lead(app.create_request("Joan")).await;
        let (got, got_reason, _) = failure(answer);
        assert_eq!((got, got_reason.as_str()), (code, reason), "{refusal:?}");
        assert!(app.hubspot.lead_names().is_empty(), "a refused create is no create");
    }
}

#[tokio::test]
async fn broken_connection_retries_reads_and_leaves_creates_unknown() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    for (script, made) in [(ScriptedResponse::DropBefore, 0), (ScriptedResponse::DropAfter, 1)] {
        app.hubspot.script("GET", &format!("/{id}"), script.clone());
        let (code, reason, _) = failure(app.get(&id).await);
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
        let before = app.hubspot.lead_names().len();
        app.hubspot.script("POST", "/leads", script);
        let answer = app.leads.clone().create_lead(app.create_request("Joan")).await;
        let (code, reason, _) = failure(answer);
        assert_eq!((code, reason.as_str()), (Code::Unknown, "WRITE_OUTCOME_UNKNOWN"));
        assert_eq!(app.hubspot.lead_names().len() - before, made, "sent exactly once");
        assert_eq!(app.hubspot.scripts_left(), 0);
    }
}

#[tokio::test]
async fn gateway_pages_and_empty_errors_are_classified_by_status() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    app.hubspot.script_times(2, "GET", &format!("/{id}"), ScriptedResponse::html(502));
    app.hubspot.script_times(2, "GET", &format!("/{id}"), ScriptedResponse::empty(500));
    for _ in 0..4 {
        let (code, reason, _) = failure(app.get(&id).await);
        assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
    }
    app.get(&id).await.expect("the scripts are used up");
}

#[tokio::test]
async fn expired_token_is_replaced_within_the_call_and_a_rejected_one_is_reported() {
    let other =
        r#"{"status":"error","category":"A_NEW_CATEGORY","message":"no","correlationId":"c"}"#;
    let refusals = [
        ScriptedResponse::Reject(ApiError::Expired),
        ScriptedResponse::Reject(ApiError::Unauthenticated),
        ScriptedResponse::Reply(401, "application/json", other.to_owned()),
        ScriptedResponse::html(401),
        ScriptedResponse::empty(401),
    ];
    let cases = refusals.into_iter().flat_map(|refusal| [(refusal.clone(), 1), (refusal, 2)]);
    // Side by side: a new token is used for five seconds before it can be replaced.
    join_all(cases.map(|(refusal, times)| async move {
        let app = TestApp::builder().oauth().start().await;
        let id = app.lead("Jane");
        app.hubspot.script_times(times, "GET", &format!("/{id}"), refusal.clone());
        let answer = app.get(&id).await;
        assert_eq!(app.hubspot.grants(), 2, "{refusal:?}");
        if times == 1 {
            answer.expect("one new token is enough");
            return;
        }
        let (code, reason, _) = failure(answer);
        let rejected = (Code::FailedPrecondition, "CREDENTIAL_REJECTED");
        assert_eq!((code, reason.as_str()), rejected);
        // The rejection of a new token is final: no refresh for each further call.
        app.hubspot.script("GET", &format!("/{id}"), refusal.clone());
        assert_eq!(failure(app.get(&id).await).1, "CREDENTIAL_REJECTED");
        assert_eq!(app.hubspot.grants(), 2, "{refusal:?}");
        app.get(&id).await.expect("the token is still in use");
    }))
    .await;
}

#[tokio::test]
async fn secondly_limit_applies_only_if_hubspot_enforces_it() {
    for enforced in [true, false] {
        let app = TestApp::start().await;
        let ids: Vec<String> = (0..6).map(|_| app.lead("Jane")).collect();
        // The first response reports another limit than the current one.
        app.get(&ids[0]).await.expect("a lead");
        app.hubspot.limit(|limits| {
            limits.burst = 30;
            limits.secondly = enforced;
        });
        let answers = join_all(ids.iter().map(|id| app.get(id))).await;
        let refused: Vec<Status> = answers.into_iter().filter_map(Result::err).collect();
        // The check of the token may be in the same second as the first call.
        let expected = if enforced { 1 + 6 - 3..=2 + 6 - 3 } else { 0..=0 };
        assert!(expected.contains(&refused.len()), "{refused:?}");
        for status in refused {
            let quota = status.get_error_details().quota_failure().unwrap().violations[0].clone();
            assert_eq!(quota.subject, "SECONDLY");
            assert_eq!(wait(&status), Some(Duration::from_secs(1)));
        }
    }
}

#[tokio::test]
async fn rate_limit_without_a_policy_is_recognized() {
    for named in [true, false] {
        for retry_after in [true, false] {
            let app = TestApp::start().await;
            let id = app.lead("Jane");
            app.hubspot.limit(|limits| {
                limits.burst = 0;
                limits.window = Duration::from_secs(5);
                limits.name_policies = named;
                limits.retry_after = retry_after;
            });
            let status = app.get(&id).await.unwrap_err();
            let told = wait(&status).unwrap();
            assert_eq!(told < Duration::from_secs(6), retry_after, "{told:?}");
            let (code, reason, _) = failure(Err::<(), _>(status));
            assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
        }
    }
}

#[tokio::test]
async fn daily_limit_counts_searches_and_oauth_calls_by_switch() {
    for (oauth, search_counts, oauth_counts, search_passes, get_passes) in [
        (false, true, false, false, false),
        (false, false, false, true, false),
        (true, true, false, true, true),
        (true, true, true, false, false),
    ] {
        let builder = TestApp::builder();
        let app = if oauth { builder.oauth() } else { builder }.start().await;
        let id = app.lead("Jane");
        app.hubspot.limit(|limits| {
            limits.daily = 0;
            limits.search_counts_daily = search_counts;
            limits.oauth_counts_daily = oauth_counts;
        });
        let search = app.leads.clone().search_leads(pb::SearchLeadsRequest::default()).await;
        assert_eq!(search.is_ok(), search_passes, "{oauth} {search_counts} {oauth_counts}");
        let get = app.get(&id).await;
        assert_eq!(get.is_ok(), get_passes, "{oauth} {search_counts} {oauth_counts}");
        if !get_passes {
            assert_eq!(failure(get).1, "DAILY_LIMIT_REACHED");
        }
    }
}

#[tokio::test]
async fn only_2026_09_enforces_required_properties() {
    for (version, _) in VERSIONS {
        let app = TestApp::builder().api_version(version).start().await;
        let strict = version == "2026-09";
        let id = app.lead("Jane");
        app.hubspot.require_on_create("hs_lead_source");
        let why = "hs_lead_disqualification_reason";
        app.hubspot.require_when(why, "hs_pipeline_stage", "unqualified-stage-id");
        let created = app.leads.clone().create_lead(app.create_request("Joan")).await;
        assert_eq!(created.is_err(), strict);
        let update = |more: &[(&str, &str)]| {
            let mut properties = properties(more);
            properties.insert("hs_pipeline_stage".into(), "unqualified-stage-id".into());
            pb::UpdateLeadRequest { id: id.clone(), properties, ..Default::default() }
        };
        let updated = app.leads.clone().update_lead(update(&[])).await;
        assert_eq!(updated.is_err(), strict);
        if strict {
            let (code, reason, fields) = failure(created);
            assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
            assert_eq!(fields, [r#"properties["hs_lead_source"]"#]);
            assert_eq!(failure(updated).2, [format!("properties[\"{why}\"]")]);
        }
        app.leads.clone().update_lead(update(&[(why, "no budget")])).await.unwrap();
    }
}

#[tokio::test]
async fn only_2026_09_normalizes_dates_and_warns() {
    for (version, _) in VERSIONS {
        let app = TestApp::builder().api_version(version).start().await;
        let update = pb::UpdateLeadRequest {
            id: app.lead("Jane"),
            properties: properties(&[("hs_next_activity_date", "4/1/2026")]),
            ..Default::default()
        };
        let updated = app.leads.clone().update_lead(update).await;
        if version != "2026-09" {
            assert_eq!(failure(updated).2, [r#"properties["hs_next_activity_date"]"#]);
            continue;
        }
        let lead = updated.unwrap().into_inner().lead.unwrap();
        let normal = "2026-04-01T00:00:00.000Z";
        assert_eq!(lead.properties["hs_next_activity_date"], normal);
        let warning = &lead.warnings[0];
        assert_eq!(warning.category, "PROPERTY_VALUE_NORMALIZED");
        assert_eq!(warning.context["propertyName"].values, ["hs_next_activity_date"]);
        assert_eq!(warning.context["rawValue"].values, ["4/1/2026"]);
        assert_eq!(warning.context["normalizedValue"].values, [normal]);
    }
}

#[tokio::test]
async fn omitted_refresh_token_is_kept() {
    join_all([true, false].map(|omit| async move {
        let app = TestApp::builder().oauth().start().await;
        let (before, _) = app.vault.get("hubspot/default").unwrap();
        app.hubspot.behave(|behaviour| behaviour.omit_refresh_token = omit);
        let id = app.lead("Jane");
        app.hubspot.expire_tokens();
        app.get(&id).await.unwrap();
        assert_eq!(app.hubspot.grants(), 2);
        let (after, _) = app.vault.get("hubspot/default").unwrap();
        assert_eq!(after["refresh_token"], before["refresh_token"]);
    }))
    .await;
}
