//! Tags, and creates whose response is lost.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::collections::BTreeMap;

use std::time::Duration;

use tokio::time::Instant;

use super::{resolve::FIRST_BACKOFF, *};
use crate::leads::{
    ResponseLimit,
    request::{BatchItem, ChunkOutcomes, Response},
    testing::RecordingUpstream,
};

const PROPERTY: &str = "leadsd_request_id";

fn value(id: &str) -> String {
    tag_value(Some(&RequestId::parse(id).unwrap()))
}

fn request(name: &str) -> CreateLead {
    let properties = BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]);
    CreateLead { properties, associations: Vec::new(), contact: None, trace_id: None }
}

fn traced(name: &str) -> Traced<CreateLead> {
    Traced { trace_id: format!("trace of {name}"), input: request(name) }
}

/// A lead that has the tag.
fn tagged(id: &str, tag: &str) -> Lead {
    let properties = BTreeMap::from([(PROPERTY.to_owned(), tag.to_owned())]);
    Lead { id: id.to_owned(), properties, ..Lead::default() }
}

fn limits() -> BatchLimits {
    let response = ResponseLimit { max_bytes: 1 << 20, lead_size: |lead| lead.id.len() };
    BatchLimits { concurrency: 1, response }
}

/// Results of a first call.
async fn create_all(
    ctx: &CallContext,
    inputs: Vec<Traced<CreateLead>>,
    tag: Option<IdempotencyTag>,
    limits: BatchLimits,
) -> Vec<Result<Lead, Error>> {
    let lead = |outcome: Outcome| Ok(outcome?.expect("a lead").lead);
    let progress = BatchProgress::new(inputs.len(), SideEffect::Possible, lead);
    let pending = |(index, input)| PendingCreate { index, input, unknown: None };
    let pending = inputs.into_iter().enumerate().map(pending).collect();
    create_many(ctx, pending, tag, limits, &progress).await;
    progress.results().expect("results")
}

fn item(lead: Lead) -> BatchItem {
    BatchItem { lead, trace_id: None, created: None }
}

fn outcomes(outcomes: Vec<Outcome>) -> Result<Response, Error> {
    Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
}

fn lost() -> Error {
    Error::new(Reason::WriteOutcomeUnknown, "the response is lost")
        .with_side_effect(SideEffect::Possible)
}

fn rejected() -> Error {
    Error::new(Reason::ValidationFailed, "the value is invalid")
}

fn exists() -> Error {
    Error::new(Reason::AlreadyExists, "a lead has the value")
}

fn kinds(upstream: &RecordingUpstream) -> Vec<&'static str> {
    let kind = |request: &Request| match request {
        Request::Create(_) | Request::BatchCreate(_) => "create",
        Request::BatchRead(_) => "look up",
        other => panic!("no create sends {other:?}"),
    };
    upstream.requests().iter().map(kind).collect()
}

fn sent_create(upstream: &RecordingUpstream, number: usize) -> CreateLead {
    let Request::Create(request) = &upstream.requests()[number] else { panic!("not a create") };
    request.clone()
}

async fn create(
    upstream: &std::sync::Arc<RecordingUpstream>,
    property: Option<&str>,
) -> Result<Arc<Lead>, Error> {
    let ctx = upstream.context(property);
    let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse("order-1").unwrap()));
    create_one(&ctx, request("Ada"), tag, None, &CreateRecovery::default()).await
}

#[test]
fn a_tag_is_stable_across_repeats_and_distinct_where_hubspot_ignores_case() {
    assert_eq!(value("order-17_a"), "order-17_a");
    assert_eq!(value(&"x".repeat(100)), "x".repeat(100));
    for id in ["A", "a/b", "..", "?x=1", &"x".repeat(101), &"x".repeat(128)] {
        assert_eq!(value(id), value(id));
        assert_ne!(value(id), id);
        assert!(LeadId::parse(&value(id)).is_ok(), "{id}");
    }
    assert_ne!(value("A"), value("a"));
    assert_ne!(tag_value(None), tag_value(None));
}

#[tokio::test(start_paused = true)]
async fn a_create_carries_its_tag_and_a_value_of_the_caller_is_kept() {
    let upstream = RecordingUpstream::new(|_, _| Ok(Response::Lead(tagged("1", "order-1").into())));
    create(&upstream, Some(PROPERTY)).await.expect("a lead");
    assert_eq!(sent_create(&upstream, 0).properties[PROPERTY], "order-1");

    create(&upstream, None).await.expect("a lead");
    assert!(!sent_create(&upstream, 1).properties.contains_key(PROPERTY));

    let ctx = upstream.context(Some(PROPERTY));
    let tag = IdempotencyTag::new(&ctx, None);
    let mut own = request("Ada");
    own.properties.insert(PROPERTY.to_owned(), "own".to_owned());
    create_one(&ctx, own, tag, None, &CreateRecovery::default()).await.expect("a lead");
    assert_eq!(sent_create(&upstream, 2).properties[PROPERTY], "own");
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_response_is_lost_is_found_by_its_tag() {
    let upstream = RecordingUpstream::new(|number, _| match number {
        0 => Err(lost()),
        _ => outcomes(vec![Ok(Some(item(tagged("7", "order-1"))))]),
    });
    let start = Instant::now();
    assert_eq!(create(&upstream, Some(PROPERTY)).await.expect("a lead").id, "7");
    assert_eq!(start.elapsed(), FIRST_BACKOFF);
    let Request::BatchRead(lookup) = &upstream.requests()[1] else { panic!("no lookup") };
    assert_eq!(lookup.ids, [LeadId::parse("order-1").unwrap()]);
    assert_eq!(lookup.id_property.as_deref(), Some(PROPERTY));
    assert!(lookup.properties.iter().any(|name| name == "hs_lead_name"));
    assert!(!lookup.archived);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_not_found_is_sent_again_with_growing_pauses() {
    let upstream = RecordingUpstream::new(|number, _| match number {
        0 | 2 | 4 => Err(lost()),
        6 => Ok(Response::Lead(tagged("8", "order-1").into())),
        _ => outcomes(vec![Err(Error::lead_not_found())]),
    });
    let start = Instant::now();
    assert_eq!(create(&upstream, Some(PROPERTY)).await.expect("a lead").id, "8");
    assert_eq!(
        kinds(&upstream),
        ["create", "look up"].repeat(3).into_iter().chain(["create"]).collect::<Vec<_>>()
    );
    assert_eq!(start.elapsed(), FIRST_BACKOFF * (1 + 2 + 4));
}

#[tokio::test(start_paused = true)]
async fn a_create_is_given_up_after_four_lookups() {
    let upstream = RecordingUpstream::new(|number, _| match number % 2 {
        0 => Err(lost()),
        _ => outcomes(vec![Err(Error::lead_not_found())]),
    });
    let error = create(&upstream, Some(PROPERTY)).await.expect_err("no response");
    assert_eq!(error, lost().with_retry_after(Duration::from_secs(2)), "a repeat has the same tag");
    assert_eq!(kinds(&upstream), ["create", "look up"].repeat(4));
}

#[tokio::test(start_paused = true)]
async fn the_error_stands_if_nothing_can_be_found() {
    // The outcome is known, or there is no tag.
    let upstream = RecordingUpstream::new(|_, _| Err(rejected()));
    assert_eq!(create(&upstream, Some(PROPERTY)).await.expect_err("rejected"), rejected());
    assert_eq!(kinds(&upstream), ["create"]);
    let upstream = RecordingUpstream::new(|_, _| Err(lost()));
    assert_eq!(create(&upstream, None).await.expect_err("lost"), lost());
    assert_eq!(kinds(&upstream), ["create"]);

    // Another unique value is in the way: sending the create again cannot help.
    let upstream = RecordingUpstream::new(|number, _| match number {
        0 => Err(exists()),
        _ => outcomes(vec![Err(Error::lead_not_found())]),
    });
    assert_eq!(create(&upstream, Some(PROPERTY)).await.expect_err("exists"), exists());
    assert_eq!(kinds(&upstream), ["create", "look up"]);

    // The lookup fails: the outcome stays unknown, and the log says why.
    let upstream = RecordingUpstream::new(|number, _| match number {
        0 => Err(lost()),
        _ => outcomes(vec![Err(rejected())]),
    });
    let error = create(&upstream, Some(PROPERTY)).await.expect_err("lost");
    assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
    assert_eq!(error.internal(), Some("VALIDATION_FAILED: the value is invalid"));
}

#[tokio::test(start_paused = true)]
async fn only_the_lost_creates_of_a_batch_are_looked_up_and_only_the_absent_are_sent_again() {
    let upstream = RecordingUpstream::new(|number, request| match (number, request) {
        // Created; lost and created; lost and absent; rejected; blocked by another lead.
        (0, _) => outcomes(vec![
            Ok(Some(item(tagged("1", "order-1-0")))),
            Err(lost()),
            Err(lost()),
            Err(rejected()),
            Err(exists()),
        ]),
        (_, Request::BatchRead(lookup)) => {
            let find = |id: &LeadId| match id.as_str() {
                "order-1-1" => Ok(Some(item(tagged("2", "order-1-1")))),
                _ => Err(Error::lead_not_found()),
            };
            outcomes(lookup.ids.iter().map(find).collect())
        }
        _ => Ok(Response::Lead(tagged("3", "order-1-2").into())),
    });
    let ctx = upstream.context(Some(PROPERTY));
    let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse("order-1").unwrap()));
    let inputs = ["a", "b", "c", "d", "e"].map(traced).to_vec();
    let created = create_all(&ctx, inputs, tag, limits()).await;
    let ids: Vec<_> =
        created.iter().map(|result| result.as_ref().map(|lead| lead.id.clone())).collect();
    let id = |id: &str| Ok(id.to_owned());
    assert_eq!(ids, [id("1"), id("2"), id("3"), Err(&rejected()), Err(&exists())]);
    assert_eq!(kinds(&upstream), ["create", "look up", "create"]);
    let Request::BatchRead(lookup) = &upstream.requests()[1] else { panic!("no lookup") };
    let wanted: Vec<_> = lookup.ids.iter().map(LeadId::as_str).collect();
    assert_eq!(wanted, ["order-1-1", "order-1-2", "order-1-4"]);
    assert_eq!(sent_create(&upstream, 2).properties["hs_lead_name"], "c");
}

#[tokio::test(start_paused = true)]
async fn creates_of_a_batch_that_is_rejected_without_a_name_are_looked_up_and_sent_again() {
    let unattributed = || Error::new(Reason::BatchRejected, "HubSpot named no input");
    // An earlier attempt created the first; another lead has a value of the third.
    let upstream = RecordingUpstream::new(move |number, request| match (number, request) {
        (0, _) => outcomes(vec![Err(unattributed()); 3]),
        (1, _) => outcomes(vec![
            Ok(Some(item(tagged("1", "order-1-0")))),
            Err(Error::lead_not_found()),
            Err(Error::lead_not_found()),
        ]),
        (2, Request::BatchCreate(inputs)) => {
            assert_eq!(inputs.len(), 2);
            outcomes(vec![Ok(Some(item(tagged("2", "order-1-1")))), Err(unattributed())])
        }
        other => panic!("no further request: {other:?}"),
    });
    let ctx = upstream.context(Some(PROPERTY));
    let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse("order-1").unwrap()));
    let created = create_all(&ctx, ["a", "b", "c"].map(traced).to_vec(), tag, limits()).await;
    let ids: Vec<_> =
        created.iter().map(|result| result.as_ref().map(|lead| lead.id.clone())).collect();
    let id = |id: &str| Ok(id.to_owned());
    assert_eq!(ids, [id("1"), id("2"), Err(&unattributed())]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_create_whose_repeat_is_in_a_rejected_batch_is_looked_up_again() {
    // The first attempts arrive after the first lookup, and clash with the second ones.
    let unattributed = || Error::new(Reason::BatchRejected, "HubSpot named no input");
    for arrives in [true, false] {
        let upstream = RecordingUpstream::new(move |number, request| match request {
            Request::BatchRead(lookup) if number > 1 && arrives => outcomes(
                lookup.ids.iter().map(|tag| Ok(Some(item(tagged("1", tag.as_str()))))).collect(),
            ),
            Request::BatchRead(lookup) => {
                outcomes(vec![Err(Error::lead_not_found()); lookup.ids.len()])
            }
            _ if number == 0 => outcomes(vec![Err(lost()); 2]),
            _ => outcomes(vec![Err(unattributed()); 2]),
        });
        let ctx = upstream.context(Some(PROPERTY));
        let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse("order-1").unwrap()));
        for result in create_all(&ctx, ["a", "b"].map(traced).to_vec(), tag, limits()).await {
            match result {
                Ok(lead) => assert!(arrives && lead.id == "1"),
                Err(error) => {
                    assert!(!arrives);
                    assert_eq!(error.side_effect(), SideEffect::Possible, "{error}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leads_that_are_looked_up_keep_their_ids_if_they_do_not_fit_in_the_response() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::BatchRead(lookup) => outcomes(
            lookup.ids.iter().map(|tag| Ok(Some(item(tagged("1", tag.as_str()))))).collect(),
        ),
        _ => outcomes(vec![Err(lost()), Err(lost()), Err(lost())]),
    });
    let ctx = upstream.context(Some(PROPERTY));
    let tag = IdempotencyTag::new(&ctx, None);
    let inputs = ["a", "b", "c"].map(traced).to_vec();
    let mut limits = limits();
    limits.response.max_bytes = 2;
    let created = create_all(&ctx, inputs, tag, limits).await;
    let leads = created.into_iter().map(|result| result.expect("found"));
    assert_eq!(leads.map(|lead| lead.is_id_only).collect::<Vec<_>>(), [false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_given_up_after_four_lookups_and_a_failed_repeat_changes_no_outcome() {
    let upstream = RecordingUpstream::new(|number, request| match (number, request) {
        (0, _) => outcomes(vec![Err(lost())]),
        (_, Request::BatchRead(_)) => outcomes(vec![Err(Error::lead_not_found())]),
        _ => Err(Error::new(Reason::Overloaded, "the queue is full")),
    });
    let ctx = upstream.context(Some(PROPERTY));
    let tag = IdempotencyTag::new(&ctx, None);
    let outcomes = create_all(&ctx, vec![traced("a")], tag, limits()).await;
    assert_eq!(outcomes[0].as_ref().expect_err("lost"), &lost());
    assert_eq!(kinds(&upstream), ["create", "look up"].repeat(4));
}

/// A hundred creates whose responses are lost at the same time; HubSpot has made half of them. Returns
/// the number of requests after the creates.
async fn lost_together(number: usize) -> usize {
    let made = |value: &str| value.len().is_multiple_of(2);
    let upstream = RecordingUpstream::new(move |_, request| match request {
        Request::BatchRead(lookup) => {
            let find = |id: &LeadId| {
                if made(id.as_str()) {
                    Ok(Some(item(tagged("1", id.as_str()))))
                } else {
                    Err(Error::lead_not_found())
                }
            };
            outcomes(lookup.ids.iter().map(find).collect())
        }
        Request::BatchCreate(inputs) => outcomes(
            inputs
                .iter()
                .map(|input| Ok(Some(item(tagged("2", &input.input.properties[PROPERTY])))))
                .collect(),
        ),
        _ => Err(lost()),
    });
    let recovery = CreateRecovery::default();
    let ctx = upstream.context(Some(PROPERTY));
    let creates = (0..number).map(|index| {
        let id = format!("order-{}", "x".repeat(index % 2 + 1));
        let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse(&id).unwrap()));
        create_one(&ctx, request("Ada"), tag, None, &recovery)
    });
    let leads = futures_util::future::join_all(creates).await;
    for (index, lead) in leads.into_iter().enumerate() {
        let expected = if index.is_multiple_of(2) { "2" } else { "1" };
        assert_eq!(lead.expect("a lead").id, expected);
    }
    upstream.requests().len() - number
}

#[tokio::test(start_paused = true)]
async fn creates_that_are_lost_together_take_one_lookup_and_one_batch() {
    assert_eq!(lost_together(100).await, 2, "one lookup, and one batch of those that are absent");
    assert_eq!(lost_together(300).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_stop_the_recovery_of_others() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::BatchRead(lookup) => {
            outcomes(lookup.ids.iter().map(|id| Ok(Some(item(tagged("1", id.as_str()))))).collect())
        }
        _ => Err(lost()),
    });
    let recovery = CreateRecovery::default();
    let ctx = upstream.context(Some(PROPERTY));
    let create = |id: &str| {
        let tag = IdempotencyTag::new(&ctx, Some(&RequestId::parse(id).unwrap()));
        create_one(&ctx, request("Ada"), tag, None, &recovery)
    };
    let first = tokio::time::timeout(FIRST_BACKOFF / 2, create("a"));
    let (first, second) = tokio::join!(first, create("b"));
    assert!(first.is_err(), "the caller has left");
    assert_eq!(second.expect("a lead").id, "1");
}

/// The result of a create that `error` ends, and the time that it took, while `failures` lookups fail.
async fn with_failing_lookups(
    error: Error,
    failures: usize,
    request_id: Option<&str>,
) -> (Result<Arc<Lead>, Error>, Duration) {
    let upstream = RecordingUpstream::new(move |number, request| match request {
        Request::BatchRead(_) if number <= failures => {
            Err(Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable"))
        }
        Request::BatchRead(lookup) => {
            outcomes(lookup.ids.iter().map(|id| Ok(Some(item(tagged("7", id.as_str()))))).collect())
        }
        _ => Err(error.clone()),
    });
    let ctx = upstream.context(Some(PROPERTY));
    let id = request_id.map(|id| RequestId::parse(id).unwrap());
    let tag = IdempotencyTag::new(&ctx, id.as_ref());
    let start = Instant::now();
    let result = create_one(&ctx, request("Ada"), tag, None, &CreateRecovery::default()).await;
    (result, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_is_repeated_within_the_deadline() {
    for error in [lost(), exists()] {
        for failures in [1, 2, 4] {
            let (result, _) = with_failing_lookups(error.clone(), failures, Some("order-1")).await;
            assert_eq!(result.expect("a lead").id, "7");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_stays_impossible_ends_as_unknown_before_the_deadline() {
    for error in [lost(), exists()] {
        let (result, took) = with_failing_lookups(error.clone(), 1_000, Some("order-1")).await;
        let unknown = result.expect_err("unknown");
        assert_eq!(
            unknown.reason(),
            Reason::WriteOutcomeUnknown,
            "never the clash with its own tag"
        );
        assert_eq!(unknown.side_effect(), SideEffect::Possible);
        assert!(unknown.retry_after().is_some(), "a repeat with the same id is safe");
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(10), "{took:?}");

        let (result, _) = with_failing_lookups(error, 1_000, None).await;
        let unknown = result.expect_err("unknown");
        assert_eq!(unknown.reason(), Reason::WriteOutcomeUnknown);
        assert_eq!(unknown.retry_after(), None, "a repeat would have another tag");
    }
}
