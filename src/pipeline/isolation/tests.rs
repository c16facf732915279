//! Isolation against scripted responses.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt as _, poll};

use super::*;
use crate::{
    leads::{
        AffectedInputs, AssociationChange, AssociationChangeKind, BatchItem, BatchResponse,
        ChangeAssociations, Lead, LeadId, Outcome, Reason, SideEffect, Traced, UpdateLead,
        UpstreamFacts,
    },
    pipeline::{
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{context, create, found, get, lead, lead_id, ordinary, unavailable, update},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Sends `request` through the layer and returns the outcomes of its inputs.
async fn outcomes(upstream: &Arc<ScriptedUpstream>, request: Request) -> ChunkOutcomes {
    let ctx = context(MINUTE);
    let layer = Isolation::new(Arc::clone(upstream), Arc::default());
    let response = layer.call(&ctx, Arc::new(request), Dispatch::new(&ctx)).await;
    response.unwrap().into_outcomes().unwrap()
}

/// HubSpot that rejects batches with an input of `invalid` by `rejection`.
fn rejecting(invalid: &'static [usize], rejection: Error) -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(move |call| {
        let is_invalid = |id: &String| invalid.iter().any(|index| *id == index.to_string());
        if inputs(call).iter().any(is_invalid) {
            return Scripted::now(Err(rejection.clone()));
        }
        Scripted::now(ordinary(&call.request))
    })
}

/// An update of the leads 0, 1, ... below `count`, with the trace ids `trace-0`, `trace-1`, ...
fn batch_update(count: usize) -> Request {
    let input = |index: usize| Traced {
        trace_id: format!("trace-{index}"),
        input: UpdateLead {
            id: lead_id(&index.to_string()),
            id_property: None,
            properties: BTreeMap::new(),
            trace_id: None,
        },
    };
    Request::BatchUpdate((0..count).map(input).collect())
}

/// Ids of the inputs of a batch.
fn inputs(call: &Recorded) -> Vec<String> {
    let text = |id: &LeadId| id.to_string();
    match &*call.request {
        Request::Get(get) => vec![text(&get.id)],
        Request::BatchRead(read) => read.ids.iter().map(text).collect(),
        Request::BatchUpdate(inputs) => inputs.iter().map(|input| text(&input.input.id)).collect(),
        Request::BatchArchive(ids) => ids.iter().map(text).collect(),
        other => panic!("no test sends {other:?}"),
    }
}

/// Number of inputs of each request so far.
fn sizes(upstream: &ScriptedUpstream) -> Vec<usize> {
    upstream.requests().iter().map(|call| call.request.leads()).collect()
}

fn invalid() -> Error {
    Error::new(Reason::ValidationFailed, "HOT is not one of the allowed options")
}

/// Reasons of the failed inputs, by index.
fn failures(outcomes: &ChunkOutcomes) -> Vec<(usize, Reason)> {
    let reason = |(index, outcome): (usize, &Outcome)| {
        outcome.as_ref().err().map(|error| (index, error.reason()))
    };
    outcomes.outcomes.iter().enumerate().filter_map(reason).collect()
}

/// Ids of the leads of successful inputs, by index.
fn successes(outcomes: &ChunkOutcomes) -> Vec<Option<&str>> {
    outcomes
        .outcomes
        .iter()
        .map(|outcome| outcome.as_ref().ok()?.as_ref().map(|item| item.lead.id.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_input_of_a_read_has_its_own_outcome_in_input_order() {
    let upstream = ScriptedUpstream::new(|call| {
        let Ok(Response::Batch(response)) = ordinary(&call.request) else {
            return Scripted::now(Err(Error::lead_not_found()));
        };
        let mut results = response.results;
        results.reverse();
        results.retain(|item| item.lead.id != "8");
        Scripted::now(Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })))
    });
    let outcomes = outcomes(&upstream, batch_read(&["7", "8", "9"])).await;
    assert_eq!(successes(&outcomes), [Some("7"), None, Some("9")]);
    assert_eq!(
        failures(&outcomes),
        [(1, Reason::LeadNotFound)],
        "as in HubSpot's individual response"
    );
    assert!(outcomes.evaluated);
    assert_eq!(sizes(&upstream), [3, 1], "unmentioned inputs are requested once more");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_for_named_ids_returns_the_other_leads() {
    let named = AffectedInputs { ids: vec!["2".to_owned()], ..AffectedInputs::default() };
    let missing = Error::lead_not_found().with_affected_inputs(named);
    let upstream = rejecting(&[2], missing);
    let outcomes = outcomes(&upstream, batch_read(&["1", "2", "3"])).await;
    assert_eq!(successes(&outcomes), [Some("1"), None, Some("3")]);
    assert_eq!(failures(&outcomes), [(1, Reason::LeadNotFound)]);
    assert_eq!(sizes(&upstream), [3, 2, 1], "the missing lead may have been merged");
}

fn batch_read(ids: &[&str]) -> Request {
    Request::BatchRead(BatchRead {
        ids: ids.iter().map(|id| lead_id(id)).collect(),
        id_property: None,
        properties: vec!["hs_lead_name".to_owned()],
        properties_with_history: Vec::new(),
        archived: false,
    })
}

/// HubSpot with leads that were merged: an id of the form `1xx` is that of the lead `9xx`, or of `900`
/// if all were merged into one. An id of the form `5xx` is unknown.
fn merging(into_one: bool, shows_merged_ids: bool) -> Arc<ScriptedUpstream> {
    let survivor = move |id: &str| match id.strip_prefix('1') {
        Some(_) if into_one => "900".to_owned(),
        Some(rest) => format!("9{rest}"),
        None => id.to_owned(),
    };
    ScriptedUpstream::new(move |call| {
        Scripted::now(match &*call.request {
            Request::Get(get) if get.id.as_str().starts_with('5') => Err(Error::lead_not_found()),
            Request::Get(get) => found(&survivor(get.id.as_str())),
            Request::BatchRead(read) => {
                let (unknown, known): (Vec<_>, Vec<_>) =
                    read.ids.iter().partition(|id| id.as_str().starts_with('5'));
                let mut merged: BTreeMap<String, Vec<&str>> = BTreeMap::new();
                for id in known {
                    merged.entry(survivor(id.as_str())).or_default().push(id.as_str());
                }
                let is_asked = read.properties.iter().any(|name| name == MERGED_IDS);
                let item = |(id, ids): (&String, &Vec<&str>)| {
                    let mut lead = lead(id);
                    if is_asked && ids.len() == 1 && ids[0] == id {
                        lead.unset_properties.push(MERGED_IDS.to_owned());
                    } else if is_asked && shows_merged_ids {
                        lead.properties.insert(MERGED_IDS.to_owned(), ids.join(";"));
                    }
                    BatchItem { lead, trace_id: None, created: None }
                };
                let missing = unknown.into_iter().map(|id| {
                    let ids = vec![id.to_string()];
                    let affected = AffectedInputs { ids, ..AffectedInputs::default() };
                    Error::lead_not_found().with_affected_inputs(affected)
                });
                let results = merged.iter().rev().map(item).collect();
                let errors = missing.collect();
                Ok(Response::Batch(BatchResponse { results, errors }))
            }
            other => panic!("no test sends {other:?}"),
        })
    })
}

#[tokio::test(start_paused = true)]
async fn every_id_of_a_merged_lead_gets_its_lead_whatever_else_is_in_the_batch() {
    let many: Vec<String> = (0..100).map(|number| format!("1{number:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (ids, into_one, shows_merged_ids, requests) in [
        (&["101"][..], false, false, 1),
        (&["101", "7"], false, false, 1),
        (&["101", "102"], false, false, 3),
        (&["101", "901"], false, false, 2),
        (&["101", "102", "7", "900"], true, false, 4),
        (&["101", "102", "103"], false, true, 2),
        (&["101", "102", "103"], false, false, 5),
        (&["101", "502", "102", "7"], false, false, 4),
        (&["101", "502", "102", "103", "901"], false, true, 3),
        (&many, false, true, 2),
        (&many, true, true, 2),
        (&many, false, false, 102),
        (&many, true, false, 102),
    ] {
        let upstream = merging(into_one, shows_merged_ids);
        let outcomes = outcomes(&upstream, batch_read(ids)).await;
        let expected: Vec<_> = ids
            .iter()
            .map(|id| match (id.as_bytes()[0], into_one) {
                (b'5', _) => None,
                (b'1', true) => Some("900".to_owned()),
                (b'1', false) => Some(format!("9{}", &id[1..])),
                _ => Some((*id).to_owned()),
            })
            .collect();
        let found: Vec<_> =
            successes(&outcomes).into_iter().map(|id| id.map(str::to_owned)).collect();
        assert_eq!(found, expected, "{ids:?} {into_one} {shows_merged_ids}");
        assert_eq!(upstream.count(), requests, "{ids:?} {into_one} {shows_merged_ids}");
        let mut leads = outcomes.outcomes.iter().flatten().flatten().map(|item| &item.lead);
        let has_none = |lead: &Lead| lead.properties.is_empty() && lead.unset_properties.is_empty();
        assert!(leads.all(has_none), "the added property is removed");
    }
}

/// HubSpot whose batches and updates do not follow merges: they report the ids of merged leads and of unknown
/// leads as not found. An id of the form `1xx` is that of the lead `9xx`, and one of the form `5xx` is unknown.
fn not_following() -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(|call| Scripted::now(without_merges(call)))
}

/// The response of [`not_following`].
fn without_merges(call: &Recorded) -> Result<Response, Error> {
    let single = |id: &LeadId| match id.as_str().strip_prefix('1') {
        Some(rest) => found(&format!("9{rest}")),
        None if id.as_str().starts_with('5') => Err(Error::lead_not_found()),
        None => found(id.as_str()),
    };
    let ids: Vec<String> = match &*call.request {
        Request::Get(get) => return single(&get.id),
        Request::Update(update) if update.id.as_str().starts_with(['1', '5']) => {
            return Err(Error::lead_not_found());
        }
        Request::Update(update) => return single(&update.id),
        Request::ChangeAssociations(change) => {
            let is_missing = |id: &String| id.starts_with(['1', '5']);
            let ids = change.changes.iter().flat_map(|it| [&it.lead, &it.to_id]);
            let ids: Vec<String> = ids.map(ToString::to_string).filter(is_missing).collect();
            if ids.is_empty() {
                return Ok(Response::Batch(BatchResponse::default()));
            }
            let category = Some("OBJECT_NOT_FOUND".to_owned());
            let facts = UpstreamFacts { category, ..UpstreamFacts::default() };
            let affected = AffectedInputs { ids, ..AffectedInputs::default() };
            let error = Error::new(Reason::ValidationFailed, "no such lead").with_upstream(facts);
            return Err(error.with_affected_inputs(affected));
        }
        _ => inputs(call),
    };
    let (missing, known): (Vec<_>, Vec<_>) =
        ids.into_iter().partition(|id| id.starts_with(['1', '5']));
    let item = |id: &String| BatchItem { lead: lead(id), trace_id: None, created: None };
    let affected = AffectedInputs { ids: missing, ..AffectedInputs::default() };
    let errors = if affected.ids.is_empty() {
        Vec::new()
    } else {
        vec![Error::lead_not_found().with_affected_inputs(affected)]
    };
    let results = known.iter().map(item).collect();
    Ok(Response::Batch(BatchResponse { results, errors }))
}

/// Ids of the form `{first}xx` or `{first}xxx`.
fn ids(first: char, range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{first}{number:02}")).collect()
}

/// The expected leads for ids of [`not_following`].
fn survivors(ids: &[String]) -> Vec<Option<String>> {
    let survivor = |id: &String| match id.strip_prefix('1') {
        Some(rest) => Some(format!("9{rest}")),
        None => Some(id.clone()).filter(|id| !id.starts_with('5')),
    };
    ids.iter().map(survivor).collect()
}

#[tokio::test(start_paused = true)]
async fn merged_leads_that_batches_do_not_find_are_requested_individually() {
    let update = |id: &String| Traced {
        trace_id: format!("trace-{id}"),
        input: UpdateLead {
            id: lead_id(id),
            id_property: None,
            properties: BTreeMap::from([("hs_lead_name".to_owned(), "Ada".to_owned())]),
            trace_id: None,
        },
    };
    for ids in [
        ids('1', 0..100),
        [ids('5', 0..99), ids('1', 0..1)].concat(),
        [ids('7', 0..50), ids('1', 0..25), ids('5', 0..25)].concat(),
        ids('1', 0..1),
    ] {
        let missing = ids.iter().filter(|id| id.starts_with(['1', '5'])).count();
        let read: Vec<&str> = ids.iter().map(String::as_str).collect();
        for request in [batch_read(&read), Request::BatchUpdate(ids.iter().map(update).collect())] {
            let upstream = not_following();
            let outcomes = outcomes(&upstream, request).await;
            let found = successes(&outcomes).into_iter().map(|id| id.map(str::to_owned));
            assert_eq!(found.collect::<Vec<_>>(), survivors(&ids));
            assert!(failures(&outcomes).iter().all(|(_, reason)| *reason == Reason::LeadNotFound));
            let merged = ids.iter().filter(|id| id.starts_with('1')).count();
            let is_update = matches!(&*upstream.requests()[0].request, Request::BatchUpdate(_));
            assert_eq!(upstream.count(), 1 + missing + if is_update { merged } else { 0 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_of_a_merged_lead_changes_the_lead_into_which_it_was_merged() {
    for (id, expected, requests) in [("101", Some("901"), 3), ("7", Some("7"), 1), ("501", None, 2)]
    {
        let upstream = not_following();
        let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
        let ctx = context(MINUTE);
        let result = layer.call(&ctx, update(id, "Ada"), Dispatch::new(&ctx)).await;
        let result = result.and_then(Response::into_lead);
        assert_eq!(result.as_ref().ok().map(|lead| lead.id.as_str()), expected);
        let reason = result.err().map(|error| error.reason());
        assert_eq!(reason, expected.is_none().then_some(Reason::LeadNotFound));
        assert_eq!(upstream.count(), requests, "{id}");
        // An unknown lead is not read again.
        if expected.is_none() {
            let again = layer.call(&ctx, update(id, "Ada"), Dispatch::new(&ctx)).await;
            assert!(again.is_err());
            assert_eq!(upstream.count(), requests + 1);
        }
    }
    // A failed read does not tell that there is no lead.
    let upstream =
        ScriptedUpstream::sequence(vec![Err(Error::lead_not_found()), Err(unavailable())]);
    let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
    let ctx = context(MINUTE);
    let failed = layer.call(&ctx, update("101", "Ada"), Dispatch::new(&ctx)).await;
    assert_eq!(failed.unwrap_err().reason(), Reason::UpstreamUnavailable);
}

#[tokio::test(start_paused = true)]
async fn associations_of_merged_leads_are_those_of_the_leads_into_which_they_were_merged() {
    let upstream = not_following();
    let change = |lead: &str, to_id: &str| AssociationChange {
        lead: lead_id(lead),
        to_id: lead_id(to_id),
        types: Vec::new(),
    };
    let changes = [("101", "7"), ("7", "7"), ("501", "7"), ("101", "8"), ("7", "599")]
        .map(|(lead, to_id)| change(lead, to_id));
    let request = |changes: Vec<AssociationChange>| {
        let (kind, to) = (AssociationChangeKind::Create, "contacts".to_owned());
        Request::ChangeAssociations(ChangeAssociations { kind, to, changes })
    };
    let outcomes = outcomes(&upstream, request(changes.to_vec())).await;
    let invalid = Reason::ValidationFailed;
    assert_eq!(failures(&outcomes), [(2, invalid), (4, invalid)]);
    // The batch, the rest of it, the two leads, and the changes of the merged one.
    assert_eq!(upstream.count(), 5);
    let moved = vec![change("901", "7"), change("901", "8")];
    assert_eq!(*upstream.requests()[4].request, request(moved));
}

#[tokio::test(start_paused = true)]
async fn individual_requests_for_unknown_leads_are_bounded_and_remembered() {
    let upstream = not_following();
    let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
    let send = async |ctx: &CallContext, ids: &[String]| {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let request = Arc::new(batch_read(&ids));
        let response = layer.call(ctx, request, Dispatch::new(ctx)).await;
        response.unwrap().into_outcomes().unwrap()
    };
    let call = || {
        let mut ctx = context(MINUTE);
        ctx.search = ctx.search.begun();
        ctx
    };
    // Found leads do not count: 60 unknown and 40 merged in each of four batches.
    let ctx = call();
    let batch = |number: usize| {
        let first = 100 * number + 1_000;
        [ids('5', first..first + 60), ids('1', first..first + 40)].concat()
    };
    let mut reasons: BTreeMap<(char, Option<Reason>), usize> = BTreeMap::new();
    for number in 0..4 {
        let ids = batch(number);
        let chunk = send(&ctx, &ids).await;
        for (id, outcome) in ids.iter().zip(&chunk.outcomes) {
            let kind = if id.starts_with('5') { 'u' } else { 'm' };
            let error = outcome.as_ref().err();
            if let Some(error) = error.filter(|error| error.reason() == Reason::BatchRejected) {
                assert!(error.message().contains(id.as_str()), "{error}");
                assert!(!error.is_final() && error.side_effect() == SideEffect::None, "{error}");
            }
            *reasons.entry((kind, error.map(Error::reason))).or_default() += 1;
        }
    }
    // A lead that was not requested may have been merged: it is not told as unknown.
    let (unknown, unasked) = (Some(Reason::LeadNotFound), Some(Reason::BatchRejected));
    let expected =
        [(('m', None), 40), (('m', unasked), 120), (('u', unknown), 100), (('u', unasked), 140)];
    assert_eq!(reasons, BTreeMap::from(expected));
    let requests = upstream.requests();
    let individual = |first: char| {
        let is_one = |call: &&Recorded| matches!(&*call.request, Request::Get(get) if get.id.as_str().starts_with(first));
        requests.iter().filter(is_one).count()
    };
    assert_eq!(individual('5'), 100, "of 240 unknown leads");
    assert_eq!(individual('1'), 40, "the merged leads that were requested before the bound");
    // Another call of the same leads requests only those that were not. Calls that repeat the rest end.
    let before = upstream.count();
    send(&call(), &batch(0)).await;
    assert_eq!(upstream.count(), before + 1 + 40);
    for number in 1..4 {
        let ids = batch(number);
        let chunk = send(&call(), &ids).await;
        let is_open = |outcome: &Outcome| {
            outcome.as_ref().is_err_and(|error| error.reason() != Reason::LeadNotFound)
        };
        assert!(!chunk.outcomes.iter().any(is_open), "{chunk:?}");
        assert_eq!(
            successes(&chunk).iter().map(|id| id.map(str::to_owned)).collect::<Vec<_>>(),
            survivors(&ids)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn updates_of_unknown_leads_beyond_the_bound_are_not_told_as_unknown() {
    // A hundred unknown leads in one batch, and a merged one in the next.
    let upstream = not_following();
    let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
    let mut ctx = context(MINUTE);
    ctx.search = ctx.search.begun();
    let update = |id: String| Traced {
        trace_id: format!("trace-{id}"),
        input: UpdateLead {
            id: lead_id(&id),
            id_property: None,
            properties: BTreeMap::from([("hs_lead_name".to_owned(), "Ada".to_owned())]),
            trace_id: None,
        },
    };
    let batches = [ids('5', 1_000..1_100), [ids('1', 0..1), ids('7', 0..1)].concat()];
    let mut chunks = Vec::new();
    for ids in batches {
        let request = Arc::new(Request::BatchUpdate(ids.into_iter().map(update).collect()));
        let response = layer.call(&ctx, request, Dispatch::new(&ctx)).await;
        chunks.push(response.unwrap().into_outcomes().unwrap());
    }
    assert!(failures(&chunks[0]).iter().all(|(_, reason)| *reason == Reason::LeadNotFound));
    assert_eq!(failures(&chunks[1]), [(0, Reason::BatchRejected)]);
    assert_eq!(successes(&chunks[1]), [None, Some("700")]);
}

#[tokio::test(start_paused = true)]
async fn individual_requests_after_a_batch_take_half_of_the_time_and_report_their_errors() {
    // Each takes ten seconds, and eight are in progress at a time.
    let upstream = ScriptedUpstream::new(|call| {
        let time = match &*call.request {
            Request::Get(_) => MINUTE / 6,
            _ => Duration::ZERO,
        };
        Scripted::after(time, without_merges(call))
    });
    let many = ids('1', 0..100);
    let read: Vec<&str> = many.iter().map(String::as_str).collect();
    let start = tokio::time::Instant::now();
    let half = outcomes(&upstream, batch_read(&read)).await;
    assert_eq!(start.elapsed(), MINUTE / 2, "the other half is left to send the response");
    assert_eq!(successes(&half).iter().flatten().count(), 24);
    let failures_of_half = failures(&half);
    assert_eq!(failures_of_half.len(), 76);
    assert!(failures_of_half.iter().all(|(_, reason)| *reason != Reason::LeadNotFound));
    // An individual request that fails does not tell that there is no lead.
    let upstream = ScriptedUpstream::new(|call| match &*call.request {
        Request::Get(_) => Scripted::now(Err(unavailable())),
        _ => Scripted::now(without_merges(call)),
    });
    let failed = outcomes(&upstream, batch_read(&["101", "7"])).await;
    assert_eq!(failures(&failed), [(0, Reason::UpstreamUnavailable)]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_lead_that_a_batch_does_not_find_keeps_a_long_selection() {
    let names: Vec<String> = (0..1_000).map(|number| format!("property_{number}")).collect();
    let upstream = not_following();
    let read = BatchRead {
        ids: ["101", "7"].map(lead_id).to_vec(),
        id_property: None,
        properties: names.clone(),
        properties_with_history: Vec::new(),
        archived: false,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read.clone())).await;
    assert_eq!(successes(&outcomes), [Some("901"), Some("7")]);
    let last = BatchRead { ids: vec![lead_id("901")], ..read };
    assert_eq!(*upstream.requests()[2].request, Request::BatchRead(last));
    assert_eq!(upstream.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn updates_of_merged_leads_get_their_leads() {
    for (ids, requests) in [
        (&["101"][..], 1),
        (&["101", "7"], 1),
        (&["101", "102", "7"], 3),
        // HubSpot returns the lead once.
        (&["101", "901", "7"], 2),
    ] {
        let upstream = ScriptedUpstream::new(|call| {
            let Request::BatchUpdate(inputs) = &*call.request else { panic!("no other request") };
            let survivor = |id: &str| id.replacen("10", "90", 1);
            let mut ids: Vec<String> =
                inputs.iter().map(|input| survivor(input.input.id.as_str())).collect();
            ids.sort();
            ids.dedup();
            let item = |id: &String| BatchItem { lead: lead(id), trace_id: None, created: None };
            let results = ids.iter().rev().map(item).collect();
            Scripted::now(Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })))
        });
        let input = |id: &&str| Traced {
            trace_id: format!("trace-{id}"),
            input: UpdateLead {
                id: lead_id(id),
                id_property: None,
                properties: BTreeMap::from([("hs_lead_name".to_owned(), "Ada".to_owned())]),
                trace_id: None,
            },
        };
        let request = Request::BatchUpdate(ids.iter().map(input).collect());
        let outcomes = outcomes(&upstream, request).await;
        let expected: Vec<_> = ids.iter().map(|id| Some(id.replacen("10", "90", 1))).collect();
        let found: Vec<_> =
            successes(&outcomes).into_iter().map(|id| id.map(str::to_owned)).collect();
        assert_eq!(found, expected, "{ids:?}");
        assert_eq!(upstream.count(), requests, "{ids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_a_repeat_does_not_tell_that_an_update_had_no_effect() {
    let upstream = ScriptedUpstream::new(|call| {
        let results = ["901", "902"]
            .map(|id| BatchItem { lead: lead(id), trace_id: None, created: None })
            .to_vec();
        Scripted::now(match call.number {
            0 => Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })),
            1 => Err(unavailable()),
            _ => Err(invalid()),
        })
    });
    let outcomes = outcomes(&upstream, batch_update(2)).await;
    let mut reasons: Vec<_> =
        failures(&outcomes).into_iter().map(|(_, reason)| reason.as_str()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["VALIDATION_FAILED", "WRITE_OUTCOME_UNKNOWN"]);
}

#[tokio::test(start_paused = true)]
async fn a_merged_lead_with_a_long_selection_or_id_is_read_by_a_batch_of_one() {
    let names: Vec<String> = (0..1_000).map(|number| format!("property_{number}")).collect();
    for (ids, id_property, properties) in [
        (["101", "901"], None, names),
        (["a/1", "a/2"], Some("key".to_owned()), vec!["key".to_owned()]),
    ] {
        let upstream = ScriptedUpstream::new(|call| {
            let Request::BatchRead(read) = &*call.request else { panic!("the URL is too long") };
            // The second of the ids is found at first.
            let key = read.ids.last().unwrap().to_string();
            let properties = BTreeMap::from([("key".to_owned(), key)]);
            let lead = Lead { properties, ..lead("901") };
            let results = vec![BatchItem { lead, trace_id: None, created: None }];
            Scripted::now(Ok(Response::Batch(BatchResponse { results, errors: Vec::new() })))
        });
        let read = BatchRead {
            ids: ids.iter().map(|id| LeadId::parse_for_body(id).unwrap()).collect(),
            id_property,
            properties,
            properties_with_history: Vec::new(),
            archived: false,
        };
        let outcomes = outcomes(&upstream, Request::BatchRead(read)).await;
        assert_eq!(successes(&outcomes), [Some("901"), Some("901")]);
        assert_eq!(sizes(&upstream), [2, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_read_keeps_all_that_the_read_selects() {
    let upstream = rejecting(&[1], invalid());
    let read = BatchRead {
        ids: ["0", "1"].map(lead_id).to_vec(),
        id_property: None,
        properties: vec!["hs_lead_name".to_owned()],
        properties_with_history: vec!["hs_lead_label".to_owned()],
        archived: true,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read.clone())).await;
    assert_eq!(failures(&outcomes), [(1, Reason::ValidationFailed)]);
    let part = Request::BatchRead(BatchRead { ids: vec![lead_id("0")], ..read });
    assert_eq!(*upstream.requests()[1].request, part);
}

#[tokio::test(start_paused = true)]
async fn a_read_by_unique_value_is_matched_without_regard_to_case() {
    let upstream = ScriptedUpstream::new(|_| {
        let lead = Lead {
            properties: BTreeMap::from([("email".to_owned(), "ann@example.com".to_owned())]),
            ..lead("7")
        };
        let item = BatchItem { lead, trace_id: None, created: None };
        let response = BatchResponse { results: vec![item], errors: Vec::new() };
        Scripted::now(Ok(Response::Batch(response)))
    });
    let read = BatchRead {
        ids: vec![lead_id("Bob@example.com"), lead_id("Ann@example.com")],
        id_property: Some("email".to_owned()),
        properties: Vec::new(),
        properties_with_history: Vec::new(),
        archived: false,
    };
    let outcomes = outcomes(&upstream, Request::BatchRead(read)).await;
    assert_eq!(successes(&outcomes), [None, Some("7")]);
}

#[tokio::test(start_paused = true)]
async fn a_named_input_is_removed_and_the_rest_is_sent_again_at_once() {
    let named = AffectedInputs { trace_ids: vec!["trace-2".into()], ..AffectedInputs::default() };
    let upstream = rejecting(&[2], invalid().with_affected_inputs(named));
    let outcomes = outcomes(&upstream, batch_update(5)).await;
    assert_eq!(failures(&outcomes), [(2, Reason::ValidationFailed)]);
    assert_eq!(successes(&outcomes), [Some("0"), Some("1"), None, Some("3"), Some("4")]);
    assert_eq!(inputs(&upstream.requests()[1]), ["0", "1", "3", "4"]);
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_every_input_is_named_is_not_sent_again() {
    let ids = ["0", "1"].map(str::to_owned).to_vec();
    let named = AffectedInputs { ids, ..AffectedInputs::default() };
    let upstream = rejecting(&[0, 1], invalid().with_affected_inputs(named));
    let outcomes = outcomes(&upstream, batch_update(2)).await;
    assert_eq!(failures(&outcomes).len(), 2);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_that_names_no_input_is_halved_until_the_invalid_one_is_alone() {
    let upstream = rejecting(&[5], invalid());
    let outcomes = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&outcomes), [(5, Reason::ValidationFailed)]);
    assert_eq!(successes(&outcomes).iter().flatten().count(), 7);
    assert_eq!(sizes(&upstream), [8, 4, 4, 2, 1, 1, 2]);
    assert_eq!(inputs(&upstream.requests()[1]), ["0", "1", "2", "3"], "the first half is first");
}

#[tokio::test(start_paused = true)]
async fn three_invalid_inputs_of_a_hundred_do_not_fail_the_others() {
    // HubSpot quotes the first value that it does not accept.
    let upstream = ScriptedUpstream::new(|call| {
        let invalid = inputs(call).into_iter().find(|id| ["3", "50", "98"].contains(&id.as_str()));
        Scripted::now(match invalid {
            Some(id) => Err(Error::new(Reason::ValidationFailed, format!("HOT{id} is invalid"))),
            None => ordinary(&call.request),
        })
    });
    let outcomes = outcomes(&upstream, batch_update(100)).await;
    let reason = Reason::ValidationFailed;
    assert_eq!(failures(&outcomes), [(3, reason), (50, reason), (98, reason)]);
    assert!(upstream.count() <= 40);
}

#[tokio::test(start_paused = true)]
async fn a_batch_costs_at_most_forty_requests() {
    // Every tenth input is invalid, so that parts of the batch are accepted.
    let upstream = ScriptedUpstream::new(|call| {
        let message = format!("{}: HOT is not one of the allowed options", call.number);
        let is_invalid = inputs(call).iter().any(|id| id.ends_with('9'));
        Scripted::now(match is_invalid {
            true => Err(Error::new(Reason::ValidationFailed, message)),
            false => ordinary(&call.request),
        })
    });
    outcomes(&upstream, batch_update(100)).await;
    assert_eq!(upstream.count(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_is_accepted_costs_at_most_sixteen_requests() {
    let upstream = ScriptedUpstream::new(|call| {
        let message = format!("{}: HOT is not one of the allowed options", call.number);
        Scripted::now(Err(Error::new(Reason::ValidationFailed, message).with_attempts(3)))
    });
    let outcomes = outcomes(&upstream, batch_update(100)).await;
    assert_eq!(upstream.count(), 16);
    let failures = failures(&outcomes);
    assert_eq!(failures.len(), 100);
    let (individual, rest): (Vec<_>, Vec<_>) =
        failures.iter().partition(|(_, reason)| *reason == Reason::ValidationFailed);
    assert!(!individual.is_empty());
    assert!(rest.iter().all(|(_, reason)| *reason == Reason::BatchRejected));
    let last = outcomes.outcomes[99].as_ref().unwrap_err();
    assert!(last.message().contains("HOT is not one of the allowed options"), "{last}");
    assert_eq!((last.upstream().attempts, last.side_effect()), (3, SideEffect::None));
    assert!(outcomes.evaluated);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_names_no_input_and_repeats_in_both_halves_stops_after_three_requests() {
    let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(invalid())));
    let whole = outcomes(&upstream, batch_update(100)).await;
    assert_eq!(sizes(&upstream), [100, 50, 50]);
    let error = |outcome: &Outcome| outcome.clone().unwrap_err();
    assert!(whole.outcomes.iter().all(|outcome| error(outcome) == invalid()));
    assert_eq!(invalid().side_effect(), SideEffect::None, "the caller may repeat it");
    assert!(whole.evaluated);
    // Even where a half is one input.
    for (count, expected) in [(1, vec![1]), (2, vec![2, 1, 1]), (3, vec![3, 1, 2])] {
        let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(invalid())));
        let few = outcomes(&upstream, batch_update(count)).await;
        assert_eq!(sizes(&upstream), expected);
        assert!(few.outcomes.iter().all(|outcome| error(outcome) == invalid()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_one_half_or_of_another_cause_does_not_stop_the_search() {
    // The first half is valid: the second is searched, even where both of its halves are rejected.
    let upstream = rejecting(&[5, 7], invalid());
    let first = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&first), [5, 7].map(|index| (index, Reason::ValidationFailed)));
    // The halves are rejected for different causes.
    let upstream = ScriptedUpstream::new(|call| {
        let ids = inputs(call);
        let cause = ["1", "6"].into_iter().find(|id| ids.iter().any(|own| own == id));
        Scripted::now(match cause {
            Some(id) => Err(Error::new(Reason::ValidationFailed, format!("value {id} is invalid"))),
            None => ordinary(&call.request),
        })
    });
    let second = outcomes(&upstream, batch_update(8)).await;
    assert_eq!(failures(&second), [1, 6].map(|index| (index, Reason::ValidationFailed)));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_about_content_fails_every_input_after_one_request() {
    let doubtful = invalid().with_side_effect(SideEffect::Possible);
    for error in [unavailable(), doubtful] {
        let upstream = ScriptedUpstream::sequence(vec![Err(error.clone())]);
        let outcomes = outcomes(&upstream, batch_update(3)).await;
        assert_eq!(failures(&outcomes), [0, 1, 2].map(|index| (index, error.reason())));
        assert!(!outcomes.evaluated);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_for_another_reason_leaves_the_other_parts_their_results() {
    let upstream = ScriptedUpstream::new(|call| {
        Scripted::now(match call.number {
            0 => Err(invalid()),
            1 => Err(unavailable()),
            _ => ordinary(&call.request),
        })
    });
    let outcomes = outcomes(&upstream, batch_update(4)).await;
    assert_eq!(failures(&outcomes), [0, 1].map(|index| (index, Reason::UpstreamUnavailable)));
    assert_eq!(successes(&outcomes)[2..], [Some("2"), Some("3")]);
    assert!(outcomes.evaluated);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_the_response_does_not_mention_has_the_outcome_of_its_operation() {
    let empty = || ScriptedUpstream::sequence(vec![Ok(Response::Batch(BatchResponse::default()))]);
    let Request::Create(input) = (*create("0")).clone() else { unreachable!() };
    let traced_create = Traced { trace_id: "trace-0".to_owned(), input };
    for request in [batch_update(1), Request::BatchCreate(vec![traced_create])] {
        let outcomes = outcomes(&empty(), request).await;
        assert_eq!(failures(&outcomes), [(0, Reason::WriteOutcomeUnknown)]);
    }
    let outcomes = outcomes(&empty(), Request::BatchArchive(vec![lead_id("0")])).await;
    assert!(matches!(outcomes.outcomes[..], [Ok(None)]), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_another_request_leaves_the_outcome_of_each_input_open() {
    let upstream = ScriptedUpstream::sequence(vec![found("7")]);
    let outcomes = outcomes(&upstream, batch_update(2)).await;
    assert_eq!(failures(&outcomes), [0, 1].map(|index| (index, Reason::Internal)));
    let error = outcomes.outcomes[0].as_ref().unwrap_err();
    assert_eq!(error.side_effect(), SideEffect::Possible);
}

#[tokio::test(start_paused = true)]
async fn a_single_request_passes_through_unchanged() {
    let upstream = ScriptedUpstream::new(|call| Scripted::now(ordinary(&call.request)));
    let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
    let ctx = context(MINUTE);
    for request in [get("7"), create("7"), update("7", "Ann")] {
        let dispatch = Dispatch { prior_attempts: 3, ..Dispatch::new(&ctx) };
        let lead = layer.call(&ctx, request, dispatch).await.unwrap().into_lead().unwrap();
        assert_eq!(lead.id, "7");
    }
    let archive = Arc::new(Request::Archive(lead_id("7")));
    let response = layer.call(&ctx, archive, Dispatch::new(&ctx)).await;
    assert!(matches!(response, Ok(Response::Archived)));
    let attempts: Vec<u32> = upstream.requests().iter().map(|call| call.prior_attempts).collect();
    assert_eq!(attempts, [3, 3, 3, 0]);

    let rejected = Isolation::new(ScriptedUpstream::sequence(vec![Err(invalid())]), Arc::default());
    let error = rejected.call(&ctx, get("7"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error, invalid());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_batch_sends_no_further_part() {
    let upstream = ScriptedUpstream::new(|_| Scripted::after(MINUTE / 2, Err(invalid())));
    let ctx = context(MINUTE);
    let layer = Isolation::new(Arc::clone(&upstream), Arc::default());
    let mut call = layer.call(&ctx, Arc::new(batch_update(2)), Dispatch::new(&ctx)).boxed();
    assert!(poll!(call.as_mut()).is_pending());
    drop(call);
    tokio::time::sleep(MINUTE).await;
    assert_eq!((upstream.count(), upstream.in_progress()), (1, 0));
}
