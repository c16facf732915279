//! Changes of associations, over an upstream that records requests.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use super::*;
use crate::leads::{
    AffectedInputs, AssociationCategory, AssociationType, LeadId, UpstreamFacts,
    request::{ChunkOutcomes, Response},
    response_limit::ResponseLimit,
    service::Settings,
    testing::RecordingUpstream,
    validator::ValidationSettings,
};

fn service() -> Service {
    Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes: 1 << 20, lead_size: |_| 0 },
        validation: ValidationSettings::default(),
        clock: Arc::new(leadsd_base::time::SystemClock),
    })
}

fn id(text: &str) -> LeadId {
    LeadId::parse(text).expect("a valid id")
}

fn change(lead: &str, to_id: &str, types: &[i32]) -> AssociationChange {
    let category = AssociationCategory::HubspotDefined;
    let types = types.iter().map(|&type_id| AssociationType { category, type_id }).collect();
    AssociationChange { lead: id(lead), to_id: id(to_id), types }
}

/// Accepts every change but those of the records in `failing`, whose error names these ids.
fn hubspot(
    failing: &'static [(&'static str, Reason, &'static [&'static str])],
) -> Arc<RecordingUpstream> {
    RecordingUpstream::new(move |_, request| match request {
        Request::ChangeAssociations(request) => {
            let outcome = |change: &AssociationChange| {
                let failing = failing.iter().find(|(to_id, ..)| *to_id == change.to_id.as_str());
                let Some((_, reason, ids)) = failing else { return Ok(None) };
                let upstream = UpstreamFacts {
                    category: Some(OBJECT_NOT_FOUND.to_owned()),
                    ..UpstreamFacts::default()
                };
                let ids = ids.iter().map(|&id| id.to_owned()).collect();
                let affected = AffectedInputs { ids, ..AffectedInputs::default() };
                let error = Error::new(*reason, "no such record").with_upstream(upstream);
                Err(error.with_affected_inputs(affected))
            };
            let outcomes = request.changes.iter().map(outcome).collect();
            Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
        }
        request => panic!("{request:?}"),
    })
}

/// Kind, object type and number of changes of each request.
fn sent(upstream: &RecordingUpstream) -> Vec<(AssociationChangeKind, usize)> {
    let brief = |request: &Request| match request {
        Request::ChangeAssociations(request) => (request.kind, request.changes.len()),
        request => panic!("{request:?}"),
    };
    upstream.requests().iter().map(brief).collect()
}

#[tokio::test(start_paused = true)]
async fn a_hundred_changes_take_one_request_and_equal_ones_are_sent_once() {
    use AssociationAction::{Associate, Dissociate};
    let upstream = hubspot(&[]);
    let (service, ctx) = (service(), upstream.context(None));
    let mut changes: Vec<_> =
        (0..150).map(|lead| change(&format!("1{lead}"), "7", &[608])).collect();
    changes.extend(changes.clone());
    let to = || "contacts".to_owned();
    let results = service.change_associations(&ctx, None, Associate, to(), changes).await;
    assert_eq!(results.expect("results"), vec![Ok(()); 300]);
    assert_eq!(
        sent(&upstream),
        [(AssociationChangeKind::Create, 100), (AssociationChangeKind::Create, 50)]
    );
    // Removals of all types and of some are different requests of HubSpot.
    let upstream = hubspot(&[]);
    let ctx = upstream.context(None);
    let changes = vec![change("1", "7", &[]), change("1", "8", &[608]), change("2", "7", &[])];
    let results = service.change_associations(&ctx, None, Dissociate, to(), changes).await;
    assert_eq!(results.expect("results"), vec![Ok(()); 3]);
    assert_eq!(
        sent(&upstream),
        [(AssociationChangeKind::Remove, 2), (AssociationChangeKind::RemoveTypes, 1)]
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_says_whether_the_lead_or_the_record_does_not_exist() {
    let failing: &[(&str, Reason, &[&str])] = &[
        ("8", Reason::ValidationFailed, &["1"]),
        ("9", Reason::ValidationFailed, &["9"]),
        ("10", Reason::ValidationFailed, &[]),
    ];
    let upstream = hubspot(failing);
    let (service, ctx) = (service(), upstream.context(None));
    let changes: Vec<_> = ["7", "8", "9", "10"].map(|to_id| change("1", to_id, &[608])).into();
    let action = AssociationAction::Associate;
    let results = service.change_associations(&ctx, None, action, "contacts".to_owned(), changes);
    let results = results.await.expect("results");
    let facts = |result: &Result<(), Error>| {
        let error = result.as_ref().err()?;
        Some((error.reason(), error.fields().first().map(|fault| fault.field.clone())))
    };
    assert_eq!(
        results.iter().map(facts).collect::<Vec<_>>(),
        [
            None,
            Some((Reason::LeadNotFound, None)),
            Some((Reason::ValidationFailed, Some("to_id".to_owned()))),
            Some((Reason::ValidationFailed, None)),
        ]
    );
    let single = change("1", "9", &[608]);
    let result =
        service.change_association(&ctx, None, action, "contacts".to_owned(), single).await;
    assert_eq!(facts(&result), facts(&results[2]));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_the_same_request_id_sends_nothing_again() {
    let upstream = hubspot(&[("8", Reason::ValidationFailed, &["8"])]);
    let (service, ctx) = (service(), upstream.context(None));
    let request_id = || RequestId::parse("r-1").ok();
    let changes = || vec![change("1", "7", &[608]), change("1", "8", &[608])];
    let action = AssociationAction::Associate;
    for _ in 0..2 {
        let to = "contacts".to_owned();
        let results = service.change_associations(&ctx, request_id(), action, to, changes()).await;
        let reached: Vec<_> = results.expect("results").iter().map(Result::is_ok).collect();
        assert_eq!(reached, [true, false]);
    }
    assert_eq!(upstream.requests().len(), 1);
    let other = vec![change("2", "7", &[608])];
    let to = "contacts".to_owned();
    let reused = service.change_associations(&ctx, request_id(), action, to, other).await;
    assert_eq!(reused.unwrap_err().reason(), Reason::RequestIdReused);
}
