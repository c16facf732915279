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
    AffectedInputs, BatchItem, BatchResponse, CostMeter, CreateLead, FieldFault, Guard, Lead,
    LeadId, Portal, PortalName, PortalSettings, Reason, RejectionSearch, Response, SideEffect,
    Traced, Unlimited, Upstream, UpstreamFacts,
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
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        let outcomes = match request {
            Request::BatchCreate(inputs) => {
                let send =
                    |inputs, _| std::future::ready((self.respond)(Request::BatchCreate(inputs)));
                send_isolated(&inputs, self.missing, self.unresolved, &ctx.search, send).await
            }
            Request::BatchArchive(ids) => {
                let send = |ids, _| std::future::ready((self.respond)(Request::BatchArchive(ids)));
                send_isolated(&ids, self.missing, self.unresolved, &ctx.search, send).await
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
        portal: Arc::new(Portal { name, upstream, settings: PortalSettings::default() }),
        deadline: tokio::time::Instant::now() + std::time::Duration::from_secs(60),
        requester: Requester { caller: Caller::new("test"), priority: Priority::Interactive },
        request_id: "test".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        search: RejectionSearch::default(),
        is_row: false,
        may_create_contacts: false,
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
    let input = CreateLead { properties, associations: Vec::new(), contact: None, trace_id: None };
    Traced { trace_id: format!("trace-{index}"), input }
}

fn is_bad(input: &Traced<CreateLead>) -> bool {
    input.input.properties.contains_key("hs_lead_label")
}

fn refusal(trace_ids: Vec<String>) -> Error {
    let field = FieldFault::for_property("hs_lead_label", "is not one of the options");
    Error::new(Reason::ValidationFailed, "BOILING was not one of the allowed options")
        .with_fields(vec![field])
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
        for (index, outcome) in outcomes.iter().enumerate() {
            match outcome {
                Ok(Some(item)) => {
                    prop_assert!(!bad.contains(&index));
                    prop_assert_eq!(&item.lead.id, &format!("id of trace-{index}"));
                }
                Ok(None) => prop_assert!(false, "a create has a result"),
                Err(error) => {
                    prop_assert!(bad.contains(&index), "input {} is fine: {}", index, error);
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
fn inputs_with_other_values_are_searched_where_both_halves_are_rejected_alike() {
    let manner =
        Manner { echoes_trace_ids: true, all_or_nothing: true, names_culprits: false, order: 1 };
    let inputs: Vec<_> = (0..100).map(|i| input(i, [3, 60].contains(&i))).collect();
    let outcomes = block_on(create(&Arc::default(), manner, &inputs)).unwrap();
    let failed: Vec<usize> = (0..100).filter(|&index| outcomes[index].is_err()).collect();
    assert_eq!(failed, [3, 60]);
}

/// Number of requests for a hundred inputs that HubSpot rejects by `message`, which gets the number of the
/// request and of its inputs.
fn requests(
    message: impl Fn(usize, &[Traced<CreateLead>]) -> String + Send + Sync + 'static,
) -> usize {
    let count = AtomicU32::new(0);
    let total: Arc<Mutex<usize>> = Arc::default();
    let counted = Arc::clone(&total);
    let ctx = context(MissingItemPolicy::OutcomeUnknown, move |request| {
        let Request::BatchCreate(inputs) = request else { panic!("no create: {request:?}") };
        let number = count.fetch_add(1, Ordering::SeqCst);
        *counted.lock() += 1;
        Err(Error::new(Reason::ValidationFailed, message(number as usize, &inputs)))
    });
    let uuid = |index: usize| format!("550e8400-e29b-41d4-a716-4466554400{index:02}");
    let inputs: Vec<_> = (0..100)
        .map(|index| {
            let mut input = input(index, false);
            input.input.properties.insert("crm_key".to_owned(), uuid(index));
            input
        })
        .collect();
    let run = run(&ctx, &inputs, limits(1).write_plan(), Request::BatchCreate);
    let failed = block_on(run).unwrap();
    assert!(failed.iter().all(Result::is_err));
    let total = total.lock();
    *total
}

/// Creates `count` leads, of which HubSpot rejects each request that `rejects` returns an error for. Returns
/// the outcomes, and the number of requests.
fn create_rejected(
    count: usize,
    concurrency: usize,
    rejects: impl Fn(&[Traced<CreateLead>]) -> Option<Error> + Send + Sync + 'static,
) -> (Vec<Outcome>, u32) {
    let inputs: Vec<_> = (0..count).map(|index| input(index, false)).collect();
    send_rejected(&inputs, concurrency, rejects)
}

/// Sends creates, of which HubSpot rejects each request that `rejects` returns an error for.
fn send_rejected(
    inputs: &[Traced<CreateLead>],
    concurrency: usize,
    rejects: impl Fn(&[Traced<CreateLead>]) -> Option<Error> + Send + Sync + 'static,
) -> (Vec<Outcome>, u32) {
    let calls: Arc<AtomicU32> = Arc::default();
    let sent = Arc::clone(&calls);
    let ctx = context(MissingItemPolicy::OutcomeUnknown, move |request| {
        sent.fetch_add(1, Ordering::SeqCst);
        let Request::BatchCreate(inputs) = request else { panic!("no create: {request:?}") };
        if let Some(rejection) = rejects(&inputs) {
            return Err(rejection);
        }
        let result = |input: &Traced<CreateLead>| BatchItem {
            trace_id: Some(input.trace_id.clone()),
            ..found("1")
        };
        Ok(BatchResponse { results: inputs.iter().map(result).collect(), errors: Vec::new() })
    });
    let plan = limits(concurrency).write_plan();
    let outcomes = block_on(run(&ctx, inputs, plan, Request::BatchCreate)).unwrap();
    (outcomes, calls.load(Ordering::SeqCst))
}

/// The number of an input.
fn number(input: &Traced<CreateLead>) -> usize {
    input.trace_id["trace-".len()..].parse().unwrap()
}

/// Reasons of the failed inputs with their numbers of inputs.
fn reasons(outcomes: &[Outcome]) -> BTreeMap<&'static str, usize> {
    let mut reasons = BTreeMap::new();
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        *reasons.entry(error.reason().as_str()).or_default() += 1;
    }
    reasons
}

#[test]
fn a_duplicate_is_that_of_a_create_that_was_sent_alone() {
    // A repeated batch has been written before: its search ends early.
    let taken = || Error::new(Reason::AlreadyExists, "a lead has one of the values");
    let (outcomes, calls) = create_rejected(100, 1, move |_| Some(taken()));
    assert_eq!(calls, 16);
    let reasons = reasons(&outcomes);
    assert_eq!(reasons, BTreeMap::from([("ALREADY_EXISTS", 6), ("BATCH_REJECTED", 94)]));
    let error = outcomes[99].as_ref().unwrap_err();
    assert!(error.message().ends_with("HubSpot's error: a lead has one of the values"), "{error}");
    assert_eq!(error.side_effect(), SideEffect::None, "a repeat is safe");
}

#[test]
fn a_call_whose_batches_are_rejected_alike_ends_after_a_few_requests() {
    // Every request names a value that all inputs have, or none.
    let invalid = || Error::new(Reason::ValidationFailed, "the pipeline is not valid");
    let on_name = |name: &'static str| {
        let field = FieldFault::for_property(name, "is not valid");
        invalid().with_fields(vec![field])
    };
    for (rejection, concurrency, most) in
        [(invalid(), 1, 5), (on_name("hs_pipeline"), 1, 5), (invalid(), 4, 12), (invalid(), 32, 96)]
    {
        let expected = rejection.clone();
        let (outcomes, calls) =
            create_rejected(10_000, concurrency, move |_| Some(rejection.clone()));
        assert!(calls <= most, "{calls} requests for 10,000 inputs, {concurrency} at a time");
        assert_eq!(reasons(&outcomes), BTreeMap::from([("VALIDATION_FAILED", 10_000)]));
        assert_eq!(outcomes[0].as_ref().unwrap_err(), &expected);
        let unsent = outcomes[9_999].as_ref().unwrap_err();
        assert!(unsent.message().contains("was not sent"), "{unsent}");
        assert_eq!(unsent.fields(), expected.fields());
    }
    // The value of each input is another one: the batches are searched.
    let other = on_name("hs_lead_name");
    let (outcomes, calls) = create_rejected(1_000, 1, move |_| Some(other.clone()));
    assert_eq!(reasons(&outcomes).len(), 2, "some were sent alone, the others were not");
    assert!(calls <= 10 + 100, "{calls} requests");
}

#[test]
fn a_call_of_which_hubspot_accepts_a_part_is_sent_to_its_end() {
    let invalid = || Error::new(Reason::ValidationFailed, "the value is not valid");
    // Each of the first three batches has two invalid inputs in one half.
    let bad = [10, 20, 110, 120, 210, 220];
    let (outcomes, calls) = create_rejected(1_000, 1, move |inputs| {
        inputs.iter().any(|input| bad.contains(&number(input))).then(invalid)
    });
    assert!(calls <= 10 + 3 * 26, "{calls} requests");
    let failed = (0..1_000).filter(|&index| outcomes[index].is_err());
    assert_eq!(failed.collect::<Vec<_>>(), bad);
    // A part of the first batch is accepted: the cause is not that of the call.
    let (outcomes, calls) = create_rejected(1_000, 1, move |inputs| {
        let is_bad = |input: &Traced<CreateLead>| {
            let number = number(input);
            number == 0 || number >= 100 && number.is_multiple_of(50)
        };
        inputs.iter().any(is_bad).then(invalid)
    });
    let failed = |range: std::ops::Range<usize>| {
        outcomes[range].iter().filter(|outcome| outcome.is_err()).count()
    };
    assert_eq!((failed(0..100), failed(100..1_000)), (1, 900));
    assert!(calls <= 13 + 9 * 3, "{calls} requests");
}

#[test]
fn a_search_costs_a_call_at_most_a_hundred_requests() {
    // Ten unrelated inputs of each batch are rejected. HubSpot names none, or one at a time.
    for (is_named, calls) in [(false, 100 + 100), (true, 100 + 100 + 100)] {
        let (outcomes, sent) = create_rejected(10_000, 4, move |inputs| {
            let bad = inputs.iter().find(|input| number(input).is_multiple_of(10))?;
            let trace_ids = if is_named { vec![bad.trace_id.clone()] } else { Vec::new() };
            let named = AffectedInputs { trace_ids, ..AffectedInputs::default() };
            let message = format!("conflict {}", number(bad));
            Some(Error::new(Reason::Conflict, message).with_affected_inputs(named))
        });
        assert_eq!(sent, calls, "named: {is_named}");
        let reasons = reasons(&outcomes);
        assert_eq!(reasons.keys().copied().collect::<Vec<_>>(), ["BATCH_REJECTED", "CONFLICT"]);
    }
    // Every lead is unknown, and HubSpot names none.
    let calls: Arc<AtomicU32> = Arc::default();
    let sent = Arc::clone(&calls);
    let ctx = context(MissingItemPolicy::Unanswered, move |_| {
        sent.fetch_add(1, Ordering::SeqCst);
        Err(Error::lead_not_found())
    });
    let ids: Vec<LeadId> = (0..100).map(|id| LeadId::parse(&id.to_string()).unwrap()).collect();
    let run = run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive);
    let outcomes = block_on(run).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 16);
    let not_found = |outcome: &&Outcome| {
        outcome.as_ref().is_err_and(|error| error.reason() == Reason::LeadNotFound)
    };
    assert_eq!(outcomes.iter().filter(not_found).count(), 6, "those that were sent alone");
}

#[test]
fn words_about_the_request_do_not_make_a_rejection_another_one() {
    let uuid = |number: usize| format!("0a1b2c3d-0000-4000-8000-{number:012}");
    assert_eq!(requests(move |number, _| format!("no (request {})", uuid(number))), 3);
    assert_eq!(requests(|number, _| format!("no: 4bf92f3577b34da6a3ce929d0e0e{number:04}")), 3);
    assert_eq!(requests(|_, inputs| format!("{} inputs are not valid", inputs.len())), 3);
    for text in [
        "no at 2026-11-30T19:37:0#.123Z",
        "no (2026-11-30 19:37:0#)",
        "no, time=19:37:0#,123",
        "no: 176453145712#",
        "no at 176453145#.",
    ] {
        let text = move |number: usize| text.replace('#', &(number % 10).to_string());
        assert_eq!(requests(move |number, _| text(number)), 3, "{}", text(0));
    }
    // Values of inputs.
    let key = |inputs: &[Traced<CreateLead>]| {
        inputs[inputs.len() - 1].input.properties["crm_key"].clone()
    };
    assert_eq!(requests(move |_, inputs| format!("{} is not valid", key(inputs))), 16);
    assert_eq!(requests(|number, _| format!("{} is not valid", 2_000 + number)), 16);
}

#[test]
fn a_rejection_about_single_inputs_is_not_that_of_all_although_both_halves_get_it() {
    let facts = |status: u16, category: &str| UpstreamFacts {
        http_status: Some(status),
        category: Some(category.to_owned()),
        ..UpstreamFacts::default()
    };
    for rejection in [
        Error::lead_not_found(),
        Error::new(Reason::AlreadyExists, "Contact already exists"),
        Error::new(Reason::Conflict, "conflict").with_upstream(facts(409, "CONFLICT")),
        // A record to associate with.
        Error::new(Reason::ValidationFailed, "resource not found")
            .with_upstream(facts(404, "OBJECT_NOT_FOUND")),
    ] {
        let calls: Arc<AtomicU32> = Arc::default();
        let (sent, expected) = (Arc::clone(&calls), rejection.clone());
        let ctx = context(MissingItemPolicy::OutcomeUnknown, move |request| {
            sent.fetch_add(1, Ordering::SeqCst);
            let Request::BatchCreate(inputs) = request else { panic!("no create: {request:?}") };
            if inputs.iter().any(is_bad) {
                return Err(rejection.clone());
            }
            let result = |input: &Traced<CreateLead>| BatchItem {
                trace_id: Some(input.trace_id.clone()),
                ..found("1")
            };
            Ok(BatchResponse { results: inputs.iter().map(result).collect(), errors: Vec::new() })
        });
        let inputs: Vec<_> = (0..100).map(|i| input(i, [3, 60].contains(&i))).collect();
        let run = run(&ctx, &inputs, limits(1).write_plan(), Request::BatchCreate);
        let outcomes = block_on(run).unwrap();
        let failed: Vec<_> =
            (0..100).filter_map(|index| Some((index, outcomes[index].clone().err()?))).collect();
        assert_eq!(failed, [3, 60].map(|index| (index, expected.clone())));
        // The whole, and for each invalid input two parts of each size.
        let calls = calls.load(Ordering::SeqCst);
        assert!(calls <= 1 + 2 + 2 * 12, "{calls} requests for two invalid inputs");
    }
}

#[test]
fn a_rejection_without_a_cause_that_repeats_in_both_halves_is_that_of_all() {
    for (status, category, reason, expected) in [
        (404, None, Reason::ValidationFailed, Reason::UpstreamInvalidResponse),
        (404, Some("VALIDATION_ERROR"), Reason::ValidationFailed, Reason::UpstreamInvalidResponse),
        (409, None, Reason::Conflict, Reason::Conflict),
        (409, Some("VALIDATION_ERROR"), Reason::Conflict, Reason::Conflict),
    ] {
        let facts = UpstreamFacts {
            http_status: Some(status),
            category: category.map(str::to_owned),
            ..UpstreamFacts::default()
        };
        let rejection = Error::new(reason, "resource not found").with_upstream(facts);
        let (sent, single) = (rejection.clone(), rejection.clone());
        let (outcomes, calls) = create_rejected(100, 1, move |_| Some(sent.clone()));
        assert_eq!(calls, 3);
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert_eq!(error.reason(), expected);
            assert!(error.message().contains("resource not found"), "{error}");
            assert_eq!(error.upstream(), rejection.upstream());
        }
        // A half that HubSpot accepts tells that the cause is in the other.
        let (outcomes, _) = create_rejected(100, 1, move |inputs| {
            inputs.iter().any(|input| number(input) == 60).then(|| single.clone())
        });
        let failed: Vec<_> =
            (0..100).filter_map(|index| Some((index, outcomes[index].clone().err()?))).collect();
        assert_eq!(failed, [(60, rejection)]);
    }
}

#[test]
fn a_rejection_that_names_an_associated_record_is_that_of_the_creates_with_this_record() {
    let contact = |index: usize| match index {
        3 | 60 => LeadId::parse("100000004242").unwrap(),
        _ => LeadId::parse(&format!("10000{index:02}")).unwrap(),
    };
    let inputs: Vec<_> = (0..100)
        .map(|index| {
            let Traced { trace_id, input } = input(index, false);
            Traced { trace_id, input: input.with_primary_contact(contact(index)) }
        })
        .collect();
    let invalid = "One or more associations are invalid";
    // An id that no create has does not name one, but it is not about all of them.
    for (message, id, most) in [
        (invalid, Some("100000004242"), 2),
        ("contact 100000004242 does not exist", None, 2),
        (invalid, Some("4243"), 1 + 2 + 2 * 12),
    ] {
        let ids: Vec<String> = id.map(str::to_owned).into_iter().collect();
        let named = AffectedInputs { ids, ..AffectedInputs::default() };
        let rejection = Error::new(Reason::ValidationFailed, message).with_affected_inputs(named);
        let expected = rejection.clone();
        let (outcomes, calls) = send_rejected(&inputs, 1, move |inputs| {
            inputs.iter().any(|input| [3, 60].contains(&number(input))).then(|| rejection.clone())
        });
        let failed: Vec<_> =
            (0..100).filter_map(|index| Some((index, outcomes[index].clone().err()?))).collect();
        assert_eq!(failed, [3, 60].map(|index| (index, expected.clone())), "{id:?} {message}");
        assert!(calls <= most, "{calls} requests: {id:?} {message}");
    }
    // A record of all creates.
    let common: Vec<_> = (0..100)
        .map(|index| {
            let Traced { trace_id, input } = input(index, false);
            Traced { trace_id, input: input.with_primary_contact(contact(3)) }
        })
        .collect();
    let named = AffectedInputs { ids: vec![contact(3).to_string()], ..AffectedInputs::default() };
    let rejection = Error::new(Reason::ValidationFailed, invalid).with_affected_inputs(named);
    let (outcomes, calls) = send_rejected(&common, 1, move |_| Some(rejection.clone()));
    assert_eq!(reasons(&outcomes), BTreeMap::from([("VALIDATION_FAILED", 100)]));
    assert_eq!(calls, 1);
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

/// Archives the leads `1`, `2`, ... up to `count`. Returns the outcomes and the sizes of the requests.
fn archive(
    count: usize,
    respond: impl Fn(&[LeadId]) -> Result<BatchResponse, Error> + Send + Sync + 'static,
) -> (Vec<Outcome>, Vec<usize>) {
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sent = Arc::clone(&sizes);
    let ctx = context(MissingItemPolicy::Succeeded, move |request| {
        let Request::BatchArchive(ids) = request else { panic!("no archive: {request:?}") };
        sent.lock().push(ids.len());
        respond(&ids)
    });
    let ids: Vec<LeadId> = (1..=count).map(|id| LeadId::parse(&id.to_string()).unwrap()).collect();
    let outcomes =
        block_on(run(&ctx, &ids, limits(1).write_plan(), Request::BatchArchive)).unwrap();
    let sizes = sizes.lock().clone();
    (outcomes, sizes)
}

#[test]
fn an_unnamed_error_of_an_archive_is_not_that_of_the_archived_leads() {
    let refused = || Error::new(Reason::ValidationFailed, "no");
    // The lead 3 is refused, and no error says so.
    let respond = move |ids: &[LeadId]| {
        let errors = ids.iter().filter(|id| id.as_str() == "3").map(|_| refused()).collect();
        Ok(BatchResponse { results: Vec::new(), errors })
    };
    for count in [3, 9] {
        let (outcomes, sizes) = archive(count, respond);
        let failed: Vec<(usize, Error)> = outcomes
            .into_iter()
            .enumerate()
            .filter_map(|(index, outcome)| Some((index, outcome.err()?)))
            .collect();
        if count < 9 {
            assert_eq!(failed, [(2, refused())]);
            assert_eq!(sizes, [3, 1, 1, 1]);
            continue;
        }
        // Too many to be asked for individually.
        assert_eq!((failed.len(), sizes), (9, vec![9]));
        for (_, error) in failed {
            assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
            assert_eq!(error.side_effect(), SideEffect::Possible);
            assert!(error.message().ends_with("HubSpot's errors: no"), "{error}");
        }
    }
    // With an error for each lead, none of them is archived.
    let (outcomes, sizes) = archive(9, move |ids| {
        Ok(BatchResponse { results: Vec::new(), errors: vec![refused(); ids.len()] })
    });
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err() == refused()));
    assert_eq!(sizes, [9]);
    // The individual request does not tell: the outcome stays open.
    let (outcomes, _) = archive(2, move |ids| match ids.len() {
        1 => Err(Error::new(Reason::UpstreamUnavailable, "down")),
        _ => Ok(BatchResponse { results: Vec::new(), errors: vec![refused()] }),
    });
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().side_effect(), SideEffect::Possible);
    }
}

#[test]
fn an_archive_that_gets_404_archives_the_known_leads() {
    // The leads 3 and 60 are unknown.
    let unknown = |ids: &[LeadId]| -> Vec<String> {
        let is_unknown = |id: &&LeadId| ["3", "60"].contains(&id.as_str());
        ids.iter().filter(is_unknown).map(ToString::to_string).collect()
    };
    for is_named in [false, true] {
        let (outcomes, sizes) = archive(100, move |ids| {
            let ids = unknown(ids);
            if ids.is_empty() {
                return Ok(BatchResponse::default());
            }
            let ids = if is_named { ids } else { Vec::new() };
            let named = AffectedInputs { ids, ..AffectedInputs::default() };
            Err(Error::lead_not_found().with_affected_inputs(named))
        });
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(None))), "{outcomes:?}");
        if is_named {
            assert_eq!(sizes, [100, 98]);
        } else {
            assert!(sizes.len() <= 27, "{sizes:?}");
        }
    }
    // An unknown lead alone, and every lead unknown.
    for count in [1, 2, 8] {
        let (outcomes, _) = archive(count, |_| Err(Error::lead_not_found()));
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(None))), "{outcomes:?}");
    }
    let (outcomes, _) = archive(2, |_| Err(Error::new(Reason::Conflict, "conflict")));
    assert!(outcomes.iter().all(Result::is_err));
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
fn after_an_error_of_the_whole_portal_no_further_request_is_sent() {
    let reject = |reason: Reason, http_status: Option<u16>| {
        let calls: Arc<AtomicU32> = Arc::default();
        let sent = Arc::clone(&calls);
        let ids: Vec<LeadId> = (0..1_000).map(|i| LeadId::parse(&i.to_string()).unwrap()).collect();
        let ctx = context(MissingItemPolicy::Succeeded, move |_| {
            sent.fetch_add(1, Ordering::SeqCst);
            let upstream = UpstreamFacts { http_status, ..UpstreamFacts::default() };
            Err(Error::new(reason, "rejected").with_upstream(upstream))
        });
        let run = run(&ctx, &ids, limits(2).write_plan(), Request::BatchArchive);
        assert_eq!(block_on(run).unwrap_err().reason(), reason, "one error for all");
        calls.load(Ordering::SeqCst)
    };
    assert!(reject(Reason::WrongDataCenter, Some(488)) <= 2);
    assert!(reject(Reason::MissingScopes, None) <= 2);
    assert_eq!(reject(Reason::UpstreamUnavailable, Some(503)), 10, "that may pass");
    // A proxy or firewall.
    for status in [302, 400, 403, 404, 413] {
        assert!(reject(Reason::UpstreamInvalidResponse, Some(status)) <= 2, "{status}");
    }
    assert_eq!(reject(Reason::UpstreamInvalidResponse, Some(200)), 10, "that may pass");
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
