//! Upserts against an account in memory, in simulated time.
#![expect(clippy::wildcard_enum_match_arm, reason = "an account answers a few requests")]

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::*;
use crate::{
    leads::{
        AffectedInputs, Association, AssociationType, BatchResponse, CreateLead, Lead, LeadId,
        Reason, RejectionSearch, SideEffect,
    },
    pipeline::{
        isolation::Isolation,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{account, context, lead_id, unavailable},
        write_order::WriteOrder,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Time that HubSpot takes for a request.
const LATENCY: Duration = Duration::from_millis(100);

/// Leads of an account by their unique values, which HubSpot folds.
#[derive(Debug, Default)]
struct Leads(Mutex<BTreeMap<String, Stored>>);

#[derive(Debug, Clone)]
struct Stored {
    id: String,
    name: String,
    contacts: usize,
    /// Number of leads that were created with this value.
    created: usize,
}

// === impl Leads ===

impl Leads {
    /// An account with leads of these unique values.
    fn with(keys: impl IntoIterator<Item = String>) -> Arc<Self> {
        let leads = Self::default();
        for (number, key) in keys.into_iter().enumerate() {
            let id = (number + 1).to_string();
            let lead = Stored { id, name: "old".to_owned(), contacts: 1, created: 1 };
            leads.0.lock().insert(key.to_lowercase(), lead);
        }
        Arc::new(leads)
    }

    fn find(&self, key: &str) -> Option<Lead> {
        let leads = self.0.lock();
        let stored = leads.get(&key.to_lowercase())?;
        let properties = BTreeMap::from([("crm_key".to_owned(), key.to_lowercase())]);
        Some(Lead { id: stored.id.clone(), properties, ..Lead::default() })
    }

    fn create(&self, create: &CreateLead) -> Result<Lead, Error> {
        let key = create.properties["crm_key"].to_lowercase();
        let mut leads = self.0.lock();
        if leads.contains_key(&key) {
            return Err(Error::new(Reason::AlreadyExists, "the value is taken"));
        }
        let id = (leads.len() + 1).to_string();
        let name = create.properties["hs_lead_name"].clone();
        let contacts = create.associations.iter().filter(|to| to.may_name_contact()).count();
        leads.insert(key, Stored { id: id.clone(), name, contacts, created: 1 });
        Ok(Lead { id, properties: create.properties.clone(), ..Lead::default() })
    }

    fn update(&self, id: &LeadId, properties: &BTreeMap<String, String>) -> Result<Lead, Error> {
        let mut leads = self.0.lock();
        let stored = leads.values_mut().find(|lead| lead.id == id.as_str());
        let stored = stored.ok_or_else(Error::lead_not_found)?;
        stored.name.clone_from(&properties["hs_lead_name"]);
        Ok(Lead { id: stored.id.clone(), ..Lead::default() })
    }

    fn respond(&self, request: &Request) -> Result<Response, Error> {
        let item = |lead, trace_id| BatchItem { lead, trace_id, created: None };
        let (mut response, mut missing) = (BatchResponse::default(), Vec::new());
        let mut add = |result: Result<Lead, Error>, trace_id: &String| match result {
            Ok(lead) => response.results.push(item(lead, Some(trace_id.clone()))),
            Err(error) => {
                let trace_ids = vec![trace_id.clone()];
                let affected = AffectedInputs { trace_ids, ..AffectedInputs::default() };
                response.errors.push(error.with_affected_inputs(affected));
            }
        };
        match request {
            Request::Get(get) => {
                let lead = self.find(get.id.as_str()).ok_or_else(Error::lead_not_found)?;
                return Ok(Response::Lead(lead.into()));
            }
            Request::Create(create) => return Ok(Response::Lead(self.create(create)?.into())),
            Request::Update(update) => {
                let lead = self.update(&update.id, &update.properties)?;
                return Ok(Response::Lead(lead.into()));
            }
            Request::BatchRead(read) => {
                for id in &read.ids {
                    match self.find(id.as_str()) {
                        Some(lead) => response.results.push(item(lead, None)),
                        None => missing.push(id.to_string()),
                    }
                }
            }
            Request::BatchCreate(inputs) => inputs
                .iter()
                .for_each(|Traced { trace_id, input }| add(self.create(input), trace_id)),
            Request::BatchUpdate(inputs) => inputs.iter().for_each(|Traced { trace_id, input }| {
                add(self.update(&input.id, &input.properties), trace_id);
            }),
            other => panic!("no part of an upsert: {other:?}"),
        }
        if !missing.is_empty() {
            let affected = AffectedInputs { ids: missing, ..AffectedInputs::default() };
            response.errors.push(Error::lead_not_found().with_affected_inputs(affected));
        }
        Ok(Response::Batch(response))
    }
}

fn upsert(key: &str, name: &str) -> Traced<UpsertLead> {
    let contact = Association {
        to_id: lead_id("900001"),
        types: vec![AssociationType::PRIMARY_CONTACT],
        position: None,
    };
    let input = UpsertLead {
        id: lead_id(key),
        id_property: Some("crm_key".to_owned()),
        properties: BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]),
        associations: vec![contact],
        contact: None,
    };
    Traced { trace_id: format!("{name} {key}"), input }
}

/// HubSpot with these leads. Requests act when they arrive, and `fate` may replace their responses.
fn hubspot(
    leads: &Arc<Leads>,
    fate: impl Fn(&Recorded) -> Option<Error> + Send + Sync + 'static,
) -> Arc<ScriptedUpstream> {
    let leads = Arc::clone(leads);
    ScriptedUpstream::new(move |call| {
        let response = leads.respond(&call.request);
        Scripted::after(LATENCY, fate(call).map_or(response, Err))
    })
}

/// One replica: the layers that an upsert passes.
fn replica(
    upstream: &Arc<ScriptedUpstream>,
) -> WriteOrder<Upsert<Isolation<Arc<ScriptedUpstream>>>> {
    let upserts = Upsert::new(Isolation::new(Arc::clone(upstream), Arc::default()));
    WriteOrder::new(upserts, account(10_000_000, 100_000), 100_000)
}

/// Sends upserts through a layer, in requests of up to `chunk` inputs, one after another.
async fn send(layer: &impl Layer, inputs: Vec<Traced<UpsertLead>>, chunk: usize) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for inputs in inputs.chunks(chunk) {
        let ctx = context(10 * MINUTE);
        let request = Request::Upsert { inputs: inputs.to_vec(), concurrency: 4 };
        let response = layer.call(&ctx, Arc::new(request), Dispatch::new(&ctx)).await;
        outcomes.extend(response.and_then(Response::into_outcomes).unwrap().outcomes);
    }
    outcomes
}

fn created(outcome: &Outcome) -> bool {
    outcome.as_ref().unwrap().as_ref().unwrap().created == Some(true)
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_racing_upserts_make_no_duplicate_and_cost_three_calls_for_a_hundred_leads() {
    let key = |number: usize| format!("key-{number}");
    // Half of the leads exist. Two callers upsert the same leads, of which the second spells the values
    // in another way, at one replica or at two.
    for replicas in [1, 2] {
        let leads = Leads::with((0..5_000).step_by(2).map(key));
        let upstream = hubspot(&leads, |_| None);
        let (first, second) = (replica(&upstream), replica(&upstream));
        let inputs = |name: &str, upper: bool| {
            let key = |n| if upper { key(n).to_uppercase() } else { key(n) };
            (0..5_000).map(|n| upsert(&key(n), name)).collect::<Vec<_>>()
        };
        let second = if replicas == 1 { &first } else { &second };
        let (a, b) = tokio::join!(
            send(&first, inputs("first", false), 400),
            send(second, inputs("second", true), 400),
        );
        let stored = leads.0.lock().clone();
        assert_eq!(stored.len(), 5_000);
        assert!(stored.values().all(|lead| lead.created == 1 && lead.contacts == 1));
        let new = a.iter().chain(&b).filter(|outcome| created(outcome)).count();
        assert_eq!(new, 2_500, "each new lead is reported as created once");
        let calls = upstream.count();
        assert!(calls <= 300, "{calls} calls for 10,000 upserts at {replicas} replicas");
        if replicas == 1 {
            assert!(stored.values().all(|lead| lead.name == "second"), "in order of arrival");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_upsert_of_one_lead_is_sent_as_individual_requests() {
    let leads = Leads::with(["a".to_owned()]);
    let upstream = hubspot(&leads, |_| None);
    let layer = replica(&upstream);
    assert!(!created(&send(&layer, vec![upsert("A", "new")], 1).await[0]));
    assert!(created(&send(&layer, vec![upsert("b", "new")], 1).await[0]));
    let requests = upstream.requests();
    let kinds: Vec<_> =
        requests.iter().map(|call| std::mem::discriminant(&*call.request)).collect();
    assert_eq!(kinds[0], kinds[2]);
    assert!(matches!(*requests[1].request, Request::Update(_)));
    assert!(matches!(*requests[3].request, Request::Create(_)));
    let Request::Get(get) = &*requests[0].request else { panic!("{requests:?}") };
    assert_eq!(get.selection.properties, ["crm_key"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_of_the_same_unique_value_waits_for_the_upsert() {
    let leads = Leads::with([]);
    let upstream = hubspot(&leads, |_| None);
    let layer = replica(&upstream);
    let outcomes = join_all([
        send(&layer, vec![upsert("a", "first")], 1),
        send(&layer, vec![upsert("A", "second")], 1),
    ]);
    let outcomes = outcomes.await.concat();
    assert_eq!(outcomes.iter().map(created).collect::<Vec<_>>(), [true, false]);
    assert_eq!(leads.0.lock()["a"].name, "second");
    assert_eq!(upstream.count(), 4, "no create clashes");
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_to_a_create_is_resolved_by_another_lookup() {
    let lost =
        || Error::new(Reason::WriteOutcomeUnknown, "lost").with_side_effect(SideEffect::Possible);
    let leads = Leads::with([]);
    let upstream =
        hubspot(&leads, move |call| matches!(*call.request, Request::BatchCreate(_)).then(lost));
    let inputs = ["a", "b", "c"].map(|key| upsert(key, "new")).to_vec();
    let outcomes = send(&replica(&upstream), inputs, 100).await;
    let created = |outcome: &Outcome| outcome.clone().unwrap().unwrap().created;
    assert!(outcomes.iter().all(|outcome| created(outcome).is_none()), "it is not known");
    assert_eq!(leads.0.lock().len(), 3);
    assert_eq!(upstream.count(), 4, "lookup, create, lookup, update");
}

/// HubSpot with these leads that rejects batches of creates without naming an input: those that have one of
/// the values `taken`, or a value that a lead has.
fn rejecting_whole(leads: &Arc<Leads>, taken: &'static [&'static str]) -> Arc<ScriptedUpstream> {
    let account = Arc::clone(leads);
    let clash = || Error::new(Reason::AlreadyExists, "Contact already exists");
    ScriptedUpstream::new(move |call| {
        let is_taken = |create: &CreateLead| {
            let key = &*create.properties["crm_key"];
            taken.contains(&key) || account.find(key).is_some()
        };
        let is_rejected = match &*call.request {
            Request::BatchCreate(inputs) => inputs.iter().any(|input| is_taken(&input.input)),
            Request::Create(create) => is_taken(create),
            _ => false,
        };
        let response = if is_rejected { Err(clash()) } else { account.respond(&call.request) };
        Scripted::after(LATENCY, response)
    })
}

#[tokio::test(start_paused = true)]
async fn a_clash_that_names_no_input_leaves_the_other_new_leads_to_be_created() {
    // Some have a value of another unique property that another lead has.
    for (taken, most) in
        [(&["key-3", "key-60"][..], 31), (&["key-99"], 19), (&["key-0", "key-1", "key-2"], 26)]
    {
        let leads = Leads::with([]);
        let upstream = rejecting_whole(&leads, taken);
        let inputs = (0..100).map(|number| upsert(&format!("key-{number}"), "new")).collect();
        let outcomes = send(&replica(&upstream), inputs, 100).await;
        for (number, outcome) in outcomes.iter().enumerate() {
            let is_taken = taken.contains(&&*format!("key-{number}"));
            match outcome {
                Ok(_) => assert!(created(outcome) && !is_taken, "{number}"),
                Err(error) => {
                    assert!(is_taken, "{number}: {error}");
                    assert_eq!(error.reason(), Reason::AlreadyExists);
                }
            }
        }
        assert_eq!(leads.0.lock().len(), 100 - taken.len());
        let calls = upstream.count();
        assert!(calls <= most, "{calls} calls: three lookups, a create, and the search");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clash_with_another_client_that_names_no_input_costs_one_more_lookup() {
    let leads = Leads::with([]);
    let account = Arc::clone(&leads);
    let inner = rejecting_whole(&leads, &[]);
    // Another client creates half of the leads after the lookup.
    let layer = replica(&inner);
    let race = async {
        tokio::time::sleep(LATENCY / 2).await;
        for number in (0..100).step_by(2) {
            let key = format!("key-{number}");
            let UpsertLead { mut properties, associations, .. } = upsert(&key, "other").input;
            properties.insert("crm_key".to_owned(), key);
            account
                .create(&CreateLead { properties, associations, contact: None, trace_id: None })
                .unwrap();
        }
    };
    let inputs = (0..100).map(|number| upsert(&format!("key-{number}"), "new")).collect();
    let (outcomes, ()) = tokio::join!(send(&layer, inputs, 100), race);
    for (number, outcome) in outcomes.iter().enumerate() {
        assert_eq!(created(outcome), !number.is_multiple_of(2), "{number}");
    }
    assert!(leads.0.lock().values().all(|lead| lead.created == 1 && lead.name == "new"));
    assert_eq!(inner.count(), 5, "lookup, create, lookup, update and create");
}

#[tokio::test(start_paused = true)]
async fn creates_of_which_every_one_clashes_have_a_bounded_search() {
    let leads = Leads::with([]);
    let upstream = ScriptedUpstream::new({
        let account = Arc::clone(&leads);
        move |call| {
            let clash = || Error::new(Reason::AlreadyExists, "Contact already exists");
            let response = match &*call.request {
                Request::BatchCreate(_) | Request::Create(_) => Err(clash()),
                request => account.respond(request),
            };
            Scripted::after(LATENCY, response)
        }
    });
    let inputs = (0..1_000).map(|number| upsert(&format!("key-{number}"), "new")).collect();
    let layer = replica(&upstream);
    let ctx = CallContext {
        search: RejectionSearch::default().looking_up_duplicates(),
        ..context(10 * MINUTE)
    };
    let request = Request::Upsert { inputs, concurrency: 4 };
    let response = layer.call(&ctx, Arc::new(request), Dispatch::new(&ctx)).await;
    let outcomes = response.and_then(Response::into_outcomes).unwrap().outcomes;
    let reason = |outcome: &Outcome| outcome.as_ref().unwrap_err().reason();
    let is_known = |outcome: &Outcome| reason(outcome) == Reason::AlreadyExists;
    assert!(outcomes.iter().all(|it| is_known(it) || reason(it) == Reason::BatchRejected));
    let calls = upstream.count();
    assert!(calls <= 40 + 10 * 16, "{calls} calls: lookups and creates twice, and the search");
}

#[tokio::test(start_paused = true)]
async fn a_failed_lookup_fails_the_request_as_a_whole_and_writes_nothing() {
    let leads = Leads::with([]);
    let upstream =
        hubspot(&leads, |call| matches!(*call.request, Request::BatchRead(_)).then(unavailable));
    let ctx = context(MINUTE);
    let inputs = ["a", "b"].map(|key| upsert(key, "new")).to_vec();
    let request = Arc::new(Request::Upsert { inputs, concurrency: 4 });
    let response = replica(&upstream).call(&ctx, request, Dispatch::new(&ctx)).await.unwrap();
    let ChunkOutcomes { outcomes, evaluated } = response.into_outcomes().unwrap();
    assert!(!evaluated);
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap_err() == unavailable()));
    assert!(leads.0.lock().is_empty());
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_unique_property_has_its_own_lookup() {
    let leads = Leads::with(["a".to_owned(), "b".to_owned()]);
    let upstream = hubspot(&leads, |_| None);
    let mut inputs = ["a", "b", "c", "d"].map(|key| upsert(key, "new")).to_vec();
    for input in &mut inputs[2..] {
        input.input.id_property = Some("email".to_owned());
        input.input.properties.insert("crm_key".to_owned(), input.input.id.to_string());
    }
    let outcomes = send(&replica(&upstream), inputs, 100).await;
    assert_eq!(outcomes.iter().map(created).collect::<Vec<_>>(), [false, false, true, true]);
    let requests = upstream.requests();
    let lookups = requests.iter().filter_map(|call| match &*call.request {
        Request::BatchRead(read) => read.id_property.clone(),
        _ => None,
    });
    assert_eq!(lookups.collect::<Vec<_>>(), ["crm_key", "email"]);
    assert_eq!(requests.len(), 4);
}
