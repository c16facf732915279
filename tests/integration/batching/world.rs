//! Two services in front of accounts in the same state: one sends every call individually, the
//! other batches as many as possible. Each case has a separate portal and quota.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, Behaviour, ScriptedResponse};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Code;

use super::calls::{Answered, Ask, cost, request_for, token};
use crate::harness::{TestApp, properties};

/// Cases that run concurrently.
pub(super) const CONCURRENT_CASES: usize = 24;

/// Calls per second where permits are scarce.
const A_SECOND: usize = 10;

/// Factor between the time that a portal stays closed and the time in which its calls arrived in a
/// trial.
const MARGIN: u32 = 4;

/// Minimum time that a portal is closed, in seconds: a machine with other work stops for a second or two.
const MIN_CLOSED: u64 = 4;

/// Time for which a portal is closed where the test holds without a shared batch.
const CLOSED: Duration = Duration::from_secs(2);

/// Maximum time for which a portal is closed, in seconds: calls wait within the timeout of a test.
const MAX_CLOSED: u64 = 12;

/// Maximum number of portals that are closed for many calls at the same time: more would slow down
/// each other's arrival.
static CLOSED_FOR_MANY: Semaphore = Semaphore::const_new(6);

/// Minimum number of calls that count as many.
const MANY: usize = 50;

/// A portal that HubSpot has closed.
pub(crate) struct Closed {
    /// Maximum time for which it stays closed.
    pub(crate) time: Duration,
    /// HubSpot calls that closed it.
    pub(crate) cost: f64,
    _turn: Option<SemaphorePermit<'static>>,
}

/// Prefix of the names of leads that only probe HubSpot.
const WARM: &str = "Warm";

/// The two services.
pub(super) struct World {
    pub(super) alone: TestApp,
    pub(super) together: TestApp,
    portals: Vec<String>,
    /// Keeps the calls that close a portal from waiting for each other.
    closing: Semaphore,
    /// Id of the newest lead that both accounts had from the start.
    newest: u64,
}

/// Calls that one world makes sequentially and the other at once.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) portal: String,
    pub(super) asks: Vec<Ask>,
    /// Description for failures.
    pub(super) note: String,
}

/// Results of the calls of a case in one world.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answers: Vec<Answered>,
    /// HubSpot calls of the preparation.
    pub(super) before: f64,
}

/// Action between preparation and calls in one world.
pub(super) type Prepare<'a> = dyn Fn(&TestApp, &Case) + Sync + 'a;

// === impl Case ===

impl Case {
    pub(super) fn new(portal: &str, asks: Vec<Ask>) -> Self {
        Self { portal: portal.to_owned(), asks, note: String::new() }
    }
}

// === impl World ===

impl World {
    /// Two services with this many portals; the one without batching has `spare` more for each.
    pub(super) async fn start(
        portals: usize,
        spare: usize,
        behave: &dyn Fn(&mut Behaviour),
        settings: &[(&str, &str)],
    ) -> Self {
        let portals: Vec<String> = (0..portals).map(|number| format!("p{number}")).collect();
        let all =
            portals.iter().flat_map(|portal| (0..=spare).map(|number| spare_of(portal, number)));
        let all: Vec<String> = all.collect();
        let (alone, together) = tokio::join!(
            service(false, &all, behave, settings),
            service(true, &portals, behave, settings),
        );
        let closing = Semaphore::new(4);
        Self { alone, together, portals, closing, newest: 0 }
    }

    pub(super) fn portals(&self) -> Vec<String> {
        self.portals.clone()
    }

    /// Applies the same to both accounts.
    pub(super) fn both<T: PartialEq + std::fmt::Debug>(&self, make: impl Fn(&TestApp) -> T) -> T {
        let (made, other) = (make(&self.alone), make(&self.together));
        assert_eq!(made, other, "the accounts are in the same state");
        made
    }

    /// Creates a lead in both accounts.
    pub(super) fn lead(&mut self, values: Value) -> String {
        let id = self.both(|app| app.hubspot.add_lead(&app.contact, &values).expect("a good lead"));
        self.newest = id.parse().unwrap();
        id
    }

    /// Creates a lead with this name and key in both accounts.
    pub(super) fn keyed(&mut self, key: &str) -> String {
        self.lead(json!({"hs_lead_name": format!("Lead {key}"), "crm_key": key}))
    }

    /// Observes in these portals that trace ids are returned, unless calls are individual.
    pub(super) async fn warm_up(&self, portals: &[String]) {
        let all = portals.iter().map(|portal| warm_up(&self.together, portal));
        stream::iter(all).buffer_unordered(CONCURRENT_CASES).collect::<Vec<()>>().await;
    }

    /// Makes the calls sequentially, without a queue.
    pub(super) async fn ask_alone(&self, case: &Case, prepare: &Prepare<'_>) -> Outcome {
        prepare(&self.alone, case);
        let mut answers = Vec::new();
        for ask in &case.asks {
            answers.push(ask.send(&self.alone, &case.portal).await);
        }
        Outcome { answers, before: 0.0 }
    }

    /// Makes the calls at once while no permit is free, so that all of them share a batch.
    pub(super) async fn ask_together(&self, case: &Case, prepare: &Prepare<'_>) -> Outcome {
        let turn = self.closing.acquire().await;
        // A trial beside all other cases, so that it is as slow as they are.
        let calls = case.asks.len() * 2;
        let closed = close(&self.together, &case.portal, calls).await;
        drop(turn);
        self.ask_closed(case, prepare, closed).await
    }

    /// Makes the calls at once while the portal is closed for a fixed time. On a slow machine some
    /// arrive later and share no batch.
    async fn ask_at_once(&self, case: &Case, prepare: &Prepare<'_>) -> Outcome {
        let closed = close_for(&self.together, &case.portal, CLOSED).await;
        self.ask_closed(case, prepare, closed).await
    }

    async fn ask_closed(&self, case: &Case, prepare: &Prepare<'_>, closed: Closed) -> Outcome {
        prepare(&self.together, case);
        let asks = case.asks.iter().map(|ask| ask.send(&self.together, &case.portal));
        Outcome { answers: join_all(asks).await, before: closed.cost }
    }

    /// Makes the same calls in both worlds, and compares results, reported cost, and the state of
    /// the accounts.
    pub(super) async fn compare(&self, cases: &[Case], prepare: &Prepare<'_>) {
        self.together.hubspot.clear_log();
        let alone = stream::iter(cases).map(|case| self.ask_alone(case, prepare));
        let together = stream::iter(cases).map(|case| self.ask_at_once(case, prepare));
        let (alone, together): (Vec<Outcome>, Vec<Outcome>) = tokio::join!(
            alone.buffered(CONCURRENT_CASES).collect(),
            together.buffered(CONCURRENT_CASES).collect(),
        );
        for ((case, alone), together) in cases.iter().zip(&alone).zip(&together) {
            // Which of several equal calls is the first one is undefined.
            let by_ask = |outcome: &Outcome| {
                let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for (ask, answer) in case.asks.iter().zip(&outcome.answers) {
                    let own = seen.entry(format!("{ask:?}")).or_default();
                    own.push(format!("{:?}", answer.seen));
                    own.sort();
                }
                seen
            };
            let expected = by_ask(alone);
            for (ask, got) in by_ask(together) {
                assert_eq!(Some(&got), expected.get(&ask), "{ask} of {} {case:#?}", case.note);
            }
        }
        self.compare_costs(&together);
        self.compare_accounts();
    }

    /// The reported cost equals the HubSpot calls.
    fn compare_costs(&self, outcomes: &[Outcome]) {
        let answers = outcomes.iter().flat_map(|outcome| &outcome.answers);
        let costs: f64 = answers.map(|answer| answer.cost).sum();
        let before: f64 = outcomes.iter().map(|outcome| outcome.before).sum();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let calls = self.together.hubspot_calls().len() as f64;
        assert!((costs + before - calls).abs() < 0.01, "{costs} and {before} of {calls}");
    }

    /// Asserts that both accounts are equal; new leads have different ids.
    pub(super) fn compare_accounts(&self) {
        let [(known, new), (other_known, other_new)] =
            [&self.alone, &self.together].map(|app| self.dump(app));
        for (id, lead) in &known {
            assert_eq!(other_known.get(id), Some(lead), "lead {id}");
        }
        assert_eq!(other_known.len(), known.len());
        assert_eq!(other_new, new, "leads that are new");
    }

    fn dump(&self, app: &TestApp) -> (BTreeMap<u64, Value>, Vec<String>) {
        let (mut known, mut new) = (BTreeMap::new(), Vec::new());
        for mut lead in app.hubspot.leads() {
            let id: u64 = lead["id"].as_str().unwrap().parse().unwrap();
            if id <= self.newest {
                known.insert(id, lead);
                continue;
            }
            let name = lead["properties"]["hs_lead_name"].as_str().unwrap_or_default();
            if name.starts_with(WARM) {
                continue;
            }
            lead["id"] = json!("new");
            lead["properties"]["hs_object_id"] = json!("new");
            new.push(lead.to_string());
        }
        new.sort();
        (known, new)
    }

    /// Number of batches of this kind.
    pub(super) fn batches(&self, path: &str) -> usize {
        let log = self.together.hubspot.log();
        let of_many = |inputs: &Value| inputs.as_array().is_some_and(|inputs| inputs.len() > 1);
        log.iter().filter(|call| call.path.ends_with(path) && of_many(&call.body["inputs"])).count()
    }
}

/// Spare portal of another one, with unused quota and credential.
pub(super) fn spare_of(portal: &str, number: usize) -> String {
    if number == 0 { portal.to_owned() } else { format!("{portal}-{number}") }
}

/// A service with or without batching, in front of an account in a known state.
async fn service(
    together: bool,
    portals: &[String],
    behave: &dyn Fn(&mut Behaviour),
    settings: &[(&str, &str)],
) -> TestApp {
    // Individual calls do not wait.
    let burst = if together { A_SECOND * 10 } else { 1_000_000 };
    let names: Vec<&str> = portals.iter().map(String::as_str).collect();
    let mut builder = TestApp::builder()
        .portals(&names)
        .set("VAULT__POLL_INTERVAL", "1h")
        .set("QUOTA__BATCHING", &together.to_string())
        .set("QUOTA__BURST", &burst.to_string());
    for (key, value) in settings {
        builder = builder.set(key, value);
    }
    let app = builder.start().await;
    app.hubspot.behave(behave);
    app.hubspot.limit(|limits| limits.burst = burst);
    app.hubspot.add_unique_property("crm_key");
    app
}

async fn warm_up(app: &TestApp, portal: &str) {
    let inputs = vec![app.create_input(&format!("{WARM} {portal}"), &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let created =
        app.leads.clone().batch_create_leads(request_for(portal, request)).await.expect("created");
    let results = created.into_inner().results;
    let Some(pb::lead_write_result::Outcome::Lead(lead)) = results[0].outcome.clone() else {
        panic!("{results:?}");
    };
    let values = properties(&[("hs_lead_label", "WARM")]);
    let update = pb::LeadUpdate { id: lead.id, properties: values, ..Default::default() };
    let request = pb::BatchUpdateLeadsRequest { inputs: vec![update], ..Default::default() };
    app.leads.clone().batch_update_leads(request_for(portal, request)).await.expect("changed");
    let request = pb::UpsertLeadRequest {
        id: format!("warm-{portal}"),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", &format!("{WARM}er {portal}"))]),
        primary_contact_id: app.contact.clone(),
        ..Default::default()
    };
    app.leads.clone().upsert_lead(request_for(portal, request)).await.expect("upserted");
}

/// Makes HubSpot close a portal for long enough that `calls` calls arrive meanwhile.
pub(crate) async fn close(app: &TestApp, portal: &str, calls: usize) -> Closed {
    let turn = if calls < MANY {
        None
    } else {
        Some(CLOSED_FOR_MANY.acquire().await.expect("it is never closed"))
    };
    // HubSpot counts the wait in whole seconds.
    let seconds = (arrival(app, calls).await * MARGIN).as_secs() + 1;
    let time = Duration::from_secs(seconds.clamp(MIN_CLOSED, MAX_CLOSED));
    Closed { _turn: turn, ..close_for(app, portal, time).await }
}

/// Closes a portal for a test that makes this many calls and inspects the queue between its steps.
pub(crate) async fn close_for_long(app: &TestApp, portal: &str) -> Closed {
    close_for(app, portal, Duration::from_secs(MAX_CLOSED)).await
}

/// Makes HubSpot close a portal for this time.
async fn close_for(app: &TestApp, portal: &str, time: Duration) -> Closed {
    let refusal = ApiError::RateLimited { policy: "SECONDLY", retry_after: Some(time) };
    app.hubspot.script_of(token(app, portal), "GET", "/leads", ScriptedResponse::Reject(refusal));
    let request = request_for(portal, pb::ListLeadsRequest::default());
    let status = app.leads.clone().list_leads(request).await.expect_err("it is closed");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    Closed { time, cost: cost(status.metadata()), _turn: None }
}

/// Time that this many calls take if they are rejected before they need a permit.
async fn arrival(app: &TestApp, calls: usize) -> Duration {
    let begin = Instant::now();
    let invalid = (0..calls).map(|_| {
        let mut leads = app.leads.clone();
        async move {
            leads.list_leads(pb::ListLeadsRequest { page_size: -1, ..Default::default() }).await
        }
    });
    assert!(join_all(invalid).await.iter().all(Result::is_err));
    begin.elapsed()
}

/// No action.
pub(super) fn nothing(_: &TestApp, _: &Case) {}
