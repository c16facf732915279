//! Matching and isolation, against an in-memory HubSpot that responds in any order, with or without
//! trace ids, per item or atomically.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the upstream of a test answers a few requests"
)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use leadsd_quota::{Caller, Priority, Requester};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::{
    matching::{is_affected, match_response},
    *,
};
use crate::leads::{
    AffectedInputs, BatchItem, BatchResponse, CostMeter, CreateLead, Guard, Lead, LeadId, Portal,
    PortalName, Reason, Response, SideEffect, Traced, Unlimited, Upstream,
};
use crate::telemetry::trace_context::TraceContext;

fn limits(concurrency: usize) -> BatchLimits {
    let response = ResponseLimit { max_bytes: 1 << 20, lead_size: |lead| lead.id.len() };
    BatchLimits { concurrency, response }
}

/// Maximum number of requests that isolation spends on one chunk.
const MAX_REQUESTS: u32 = 40;

/// An upstream that isolates batches over a function.
struct FnUpstream {
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
    respond: Box<dyn Fn(Request) -> Result<BatchResponse, Error> + Send + Sync>,
}

// === impl FnUpstream ===

impl std::fmt::Debug for FnUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FnUpstream")
    }
}

#[async_trait::async_trait]
impl Upstream for FnUpstream {
    async fn call(&self, _: &CallContext, request: Request) -> Result<Response, Error> {
        let outcomes = match request {
            Request::BatchCreate(inputs) => {
                let send =
                    |inputs| std::future::ready((self.respond)(Request::BatchCreate(inputs)));
                send_isolated(&inputs, self.missing, self.unresolved, send).await
            }
            Request::BatchArchive(ids) => {
                let send = |ids| std::future::ready((self.respond)(Request::BatchArchive(ids)));
                send_isolated(&ids, self.missing, self.unresolved, send).await
            }
            other => panic!("no test sends {other:?}"),
        };
        Ok(Response::Outcomes(outcomes))
    }
}

/// The context of a call to `respond`.
fn context(
    missing: MissingItemPolicy,
    respond: impl Fn(Request) -> Result<BatchResponse, Error> + Send + Sync + 'static,
) -> CallContext {
    let name = PortalName::parse("default").unwrap();
    // As in the operations table: only creates must not be repeated.
    let unresolved = match missing {
        MissingItemPolicy::OutcomeUnknown => UnresolvedPolicy::Fail,
        MissingItemPolicy::Unanswered | MissingItemPolicy::Succeeded => {
            UnresolvedPolicy::RetryAlone
        }
    };
    let upstream = Arc::new(FnUpstream { missing, unresolved, respond: Box::new(respond) });
    CallContext {
        portal: Arc::new(Portal { name, upstream, request_id_property: None }),
        deadline: tokio::time::Instant::now() + std::time::Duration::from_secs(60),
        requester: Requester { caller: Caller::new("test"), priority: Priority::Interactive },
        request_id: "test".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        memory: Arc::new(Unlimited),
        guard: Guard::default(),
    }
}

/// Behaviour of the in-memory HubSpot.
#[derive(Debug, Clone, Copy)]
struct Manner {
    echoes_trace_ids: bool,
    /// One invalid input fails the whole call, as without trace ids.
    all_or_nothing: bool,
    /// Errors name their input.
    names_culprits: bool,
    /// Seed for the order of results.
    order: u64,
}

/// Created leads and number of requests.
#[derive(Debug, Default)]
struct Hubspot {
    created: Mutex<Vec<String>>,
    calls: AtomicU32,
}

fn input(index: usize, bad: bool) -> Traced<CreateLead> {
    let mut properties = BTreeMap::from([("hs_lead_name".to_owned(), format!("lead {index}"))]);
    if bad {
        properties.insert("hs_lead_label".to_owned(), "BOILING".to_owned());
    }
    let input = CreateLead { properties, associations: Vec::new() };
    Traced { trace_id: format!("trace-{index}"), input }
}

fn is_bad(input: &Traced<CreateLead>) -> bool {
    input.input.properties.contains_key("hs_lead_label")
}

fn refusal(trace_ids: Vec<String>) -> Error {
    Error::new(Reason::ValidationFailed, "BOILING was not one of the allowed options")
        .with_affected_inputs(AffectedInputs { trace_ids, ..AffectedInputs::default() })
}

// === impl Hubspot ===

impl Hubspot {
    fn create(
        &self,
        manner: Manner,
        inputs: &[Traced<CreateLead>],
    ) -> Result<BatchResponse, Error> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        assert!(inputs.len() <= MAX_CHUNK, "HubSpot takes a hundred");
        let (bad, good): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| is_bad(input));
        let named = |input: &Traced<CreateLead>| {
            if manner.names_culprits { vec![input.trace_id.clone()] } else { Vec::new() }
        };
        if manner.all_or_nothing && !bad.is_empty() {
            return Err(refusal(bad.iter().flat_map(|input| named(input)).collect()));
        }
        let mut results: Vec<BatchItem> = good
            .into_iter()
            .map(|input| {
                self.created.lock().push(input.input.properties["hs_lead_name"].clone());
                let lead = Lead {
                    id: format!("id of {}", input.trace_id),
                    properties: input.input.properties.clone(),
                    ..Lead::default()
                };
                let trace_id = manner.echoes_trace_ids.then(|| input.trace_id.clone());
                BatchItem { lead, trace_id, created: None }
            })
            .collect();
        let mut order = manner.order;
        results.sort_by_cached_key(|_| {
            order = order.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            order >> 33
        });
        // Per-item errors always name their input; unnamed ones are the all-or-nothing kind.
        let errors = bad.into_iter().map(|input| refusal(vec![input.trace_id.clone()])).collect();
        Ok(BatchResponse { results, errors })
    }
}

async fn create(
    hubspot: &Arc<Hubspot>,
    manner: Manner,
    inputs: &[Traced<CreateLead>],
) -> Result<Vec<Outcome>, Error> {
    let hubspot = Arc::clone(hubspot);
    let ctx = context(MissingItemPolicy::OutcomeUnknown, move |request| match request {
        Request::BatchCreate(inputs) => hubspot.create(manner, &inputs),
        other => panic!("no create: {other:?}"),
    });
    run(&ctx, inputs, limits(3).write_plan(), Request::BatchCreate).await
}

fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_input_gets_its_own_result_in_input_order(
        count in 1_usize..260,
        bad in proptest::collection::btree_set(0_usize..260, 0..4),
        echoes_trace_ids: bool,
        all_or_nothing: bool,
        names_culprits: bool,
        order: u64,
    ) {
        let manner = Manner { echoes_trace_ids, all_or_nothing, names_culprits, order };
        let inputs: Vec<_> = (0..count).map(|i| input(i, bad.contains(&i))).collect();
        let hubspot: Arc<Hubspot> = Arc::default();
        let outcomes = block_on(create(&hubspot, manner, &inputs)).unwrap();
        prop_assert_eq!(outcomes.len(), count);
        // If HubSpot rejects both halves of a request alike and names no input, it rejects all of them.
        let common = |index: usize| {
            let first = index / MAX_CHUNK * MAX_CHUNK;
            let last = count.min(first + MAX_CHUNK);
            let middle = first + (last - first) / 2;
            let unnamed = manner.all_or_nothing && !manner.names_culprits;
            unnamed && bad.range(first..middle).count() > 0 && bad.range(middle..last).count() > 0
        };
        for (index, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(Some(item)) => {
                    prop_assert!(!bad.contains(&index));
                    prop_assert_eq!(&item.lead.id, &format!("id of trace-{index}"));
                }
                Ok(None) => prop_assert!(false, "a create has a result"),
                Err(error) => {
                    let is_bad = bad.contains(&index) || common(index);
                    prop_assert!(is_bad, "input {} is fine: {}", index, error);
                    prop_assert_eq!(error.reason(), Reason::ValidationFailed);
                }
            }
        }
        let mut created = hubspot.created.lock().clone();
        created.sort();
        created.dedup();
        prop_assert_eq!(created.len(), hubspot.created.lock().len(), "nothing is created twice");
        let chunks = u32::try_from(count.div_ceil(MAX_CHUNK)).unwrap();
        prop_assert!(hubspot.calls.load(Ordering::SeqCst) <= chunks * MAX_REQUESTS);
    }
}

#[test]
fn a_hundred_inputs_that_hubspot_rejects_alike_cost_three_requests() {
    let manner =
        Manner { echoes_trace_ids: true, all_or_nothing: true, names_culprits: false, order: 1 };
    let inputs: Vec<_> = (0..100).map(|i| input(i, true)).collect();
    let hubspot: Arc<Hubspot> = Arc::default();
    let outcomes = block_on(create(&hubspot, manner, &inputs)).unwrap();
    assert_eq!(hubspot.calls.load(Ordering::SeqCst), 3);
    assert!(hubspot.created.lock().is_empty());
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err(), refusal(Vec::new()));
    }
}

#[test]
fn named_inputs_cost_one_more_request() {
    let manner =
        Manner { echoes_trace_ids: true, all_or_nothing: true, names_culprits: true, order: 1 };
    let inputs: Vec<_> = (0..100).map(|i| input(i, i % 10 == 0)).collect();
    let hubspot: Arc<Hubspot> = Arc::default();
    block_on(create(&hubspot, manner, &inputs)).unwrap();
    assert_eq!(hubspot.calls.load(Ordering::SeqCst), 2);
    assert_eq!(hubspot.created.lock().len(), 90);
}

#[test]
fn equal_inputs_without_trace_ids_have_an_unknown_outcome() {
    let inputs = [input(1, false), Traced { trace_id: "other".to_owned(), ..input(1, false) }];
    let manner =
        Manner { echoes_trace_ids: false, all_or_nothing: false, names_culprits: true, order: 1 };
    let outcomes = block_on(create(&Arc::default(), manner, &inputs)).unwrap();
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
        assert_eq!(error.side_effect(), SideEffect::Possible);
    }
}

/// Runs one chunk of reads with this response.
fn read(ids: &[&str], answer: BatchResponse) -> Vec<Outcome> {
    let ids: Vec<LeadId> = ids.iter().map(|id| LeadId::parse(id).unwrap()).collect();
    let ctx = context(MissingItemPolicy::Unanswered, move |_| Ok(answer.clone()));
    block_on(run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive)).unwrap()
}

fn found(id: &str) -> BatchItem {
    let lead = Lead { id: id.to_owned(), ..Lead::default() };
    BatchItem { lead, trace_id: None, created: None }
}

#[test]
fn one_error_applies_to_every_id_it_names() {
    let missing =
        Error::new(Reason::LeadNotFound, "not found").with_affected_inputs(AffectedInputs {
            ids: vec!["2".to_owned(), "4".to_owned()],
            ..AffectedInputs::default()
        });
    let answer = BatchResponse { results: vec![found("3"), found("1")], errors: vec![missing] };
    let outcomes = read(&["1", "2", "3", "4"], answer);
    let ids: Vec<Option<String>> = outcomes
        .into_iter()
        .map(|outcome| outcome.ok().flatten().map(|item| item.lead.id))
        .collect();
    assert_eq!(ids, [Some("1".to_owned()), None, Some("3".to_owned()), None]);
}

#[test]
fn an_id_that_is_not_mentioned_is_asked_for_once_more_and_never_not_found() {
    for count in [2, 100] {
        let requests = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&requests);
        let ctx = context(MissingItemPolicy::Unanswered, move |request| {
            let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let Request::BatchArchive(_) = request else { panic!("no read: {request:?}") };
            let results = if is_first { vec![found("0")] } else { Vec::new() };
            Ok(BatchResponse { results, errors: Vec::new() })
        });
        let ids: Vec<LeadId> =
            (0..count).map(|id| LeadId::parse(&id.to_string()).unwrap()).collect();
        let run = run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive);
        let outcomes = block_on(run).unwrap();
        assert!(outcomes[0].is_ok());
        for outcome in &outcomes[1..] {
            let error = outcome.as_ref().unwrap_err();
            assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
            assert_eq!(error.upstream().http_status, None, "no status is invented");
        }
        assert_eq!(requests.load(Ordering::SeqCst), 2, "one more request, whatever the number");
    }
}

#[test]
fn an_id_that_a_repeat_mentions_gets_that_outcome() {
    let ctx = context(MissingItemPolicy::Unanswered, |request| match request {
        Request::BatchArchive(ids) if ids.len() == 3 => {
            Ok(BatchResponse { results: vec![found("1")], errors: Vec::new() })
        }
        Request::BatchArchive(ids) => {
            assert_eq!(ids.len(), 2);
            let ids = AffectedInputs { ids: vec!["3".to_owned()], ..AffectedInputs::default() };
            let missing = Error::lead_not_found().with_affected_inputs(ids);
            Ok(BatchResponse { results: vec![found("2")], errors: vec![missing] })
        }
        other => panic!("no read: {other:?}"),
    });
    let ids = ["1", "2", "3"].map(|id| LeadId::parse(id).unwrap());
    let run = run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive);
    let outcomes = block_on(run).unwrap();
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    assert_eq!(outcomes[2].as_ref().unwrap_err().reason(), Reason::LeadNotFound);
}

#[test]
fn the_result_of_a_merged_lead_is_matched_by_elimination() {
    let answer = BatchResponse { results: vec![found("9"), found("1")], errors: Vec::new() };
    let outcomes = read(&["1", "2"], answer);
    assert_eq!(outcomes[1].as_ref().unwrap().as_ref().unwrap().lead.id, "9");
}

#[test]
fn two_unmatched_results_are_not_assigned() {
    let answer = BatchResponse { results: vec![found("8"), found("9")], errors: Vec::new() };
    for outcome in read(&["1", "2"], answer) {
        assert_eq!(outcome.unwrap_err().reason(), Reason::UpstreamInvalidResponse);
    }
}

#[test]
fn an_outage_without_side_effects_fails_the_call_as_a_whole() {
    let ids: Vec<LeadId> = (0..250).map(|i| LeadId::parse(&i.to_string()).unwrap()).collect();
    let down = Error::new(Reason::UpstreamUnavailable, "down");
    let failure = down.clone();
    let ctx = context(MissingItemPolicy::Unanswered, move |_| Err(failure.clone()));
    let failed = block_on(run(&ctx, &ids, limits(2).write_plan(), Request::BatchArchive));
    assert_eq!(failed.unwrap_err(), down);
}

#[test]
fn an_outage_halfway_is_reported_per_input() {
    let ids: Vec<LeadId> = (0..250).map(|i| LeadId::parse(&i.to_string()).unwrap()).collect();
    let ctx = context(MissingItemPolicy::Succeeded, |request| match request {
        Request::BatchArchive(ids) if ids[0].as_str() == "100" => {
            Err(Error::new(Reason::UpstreamUnavailable, "down"))
        }
        _ => Ok(BatchResponse::default()),
    });
    let outcomes =
        block_on(run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive)).unwrap();
    let failed: Vec<usize> = (0..250).filter(|&i| outcomes[i].is_err()).collect();
    assert_eq!(failed, (100..200).collect::<Vec<_>>());
}

#[test]
fn an_error_that_names_an_input_applies_to_no_other() {
    let inputs = [input(0, true), input(1, true)];
    let named = Error::new(Reason::ValidationFailed, "no such property").with_affected_inputs(
        AffectedInputs {
            trace_ids: vec!["trace-0".to_owned()],
            unknown_properties: vec!["hs_lead_label".to_owned()],
            ..AffectedInputs::default()
        },
    );
    let other = Error::new(Reason::AlreadyExists, "a clash").with_affected_inputs(AffectedInputs {
        trace_ids: vec!["trace-1".to_owned()],
        ..AffectedInputs::default()
    });
    let errors = vec![named, other];
    let answer = BatchResponse { results: Vec::new(), errors };
    let (outcomes, _) = match_response(&inputs, answer, is_affected);
    let reasons: Vec<Reason> =
        outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap_err().reason()).collect();
    assert_eq!(reasons, [Reason::ValidationFailed, Reason::AlreadyExists]);
}
