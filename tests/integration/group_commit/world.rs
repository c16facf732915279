//! Two services in front of accounts in the same state: one makes every call alone, the other as many
//! as possible together. Each case has a portal of its own, and with it a quota.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::join_all, stream};
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Behaviour, Refusal, Script};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Code;

use super::ask::{Answered, Ask, cost, of, token};
use crate::harness::{TestApp, properties};

/// Cases that run concurrently.
pub(super) const CONCURRENT_CASES: usize = 24;

/// Calls that may go in any second where permits are short.
const A_SECOND: usize = 10;

/// How many times longer a portal stays closed than its calls took to arrive in a trial.
const MARGIN: u32 = 4;

/// Minimum time that a portal is closed, in seconds: a machine with other work stops for a second or two.
const MIN_CLOSED: u64 = 4;

/// Time for which a portal is closed where the test holds without a shared batch.
const CLOSED: Duration = Duration::from_secs(2);

/// Maximum time that a portal is closed, in seconds: calls wait for it with the patience of a test.
const MAX_CLOSED: u64 = 12;

/// Portals of all tests that are closed at the same time for many calls: more would slow down each
/// other's arrival.
static CLOSED_FOR_MANY: Semaphore = Semaphore::const_new(6);

/// Number of calls from which on a portal is closed for many.
const MANY: usize = 50;

/// A portal that HubSpot has closed.
pub(crate) struct Closed {
    /// How long it stays closed at most.
    pub(crate) time: Duration,
    /// HubSpot calls that it took to close it.
    pub(crate) cost: f64,
    _turn: Option<SemaphorePermit<'static>>,
}

/// How the names of leads begin that only show what HubSpot does.
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

/// Calls that are made one after the other in one world, and at once in the other.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) portal: String,
    pub(super) asks: Vec<Ask>,
    /// What to know about it, should it fail.
    pub(super) note: String,
}

/// What came of the calls of a case in one world.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answers: Vec<Answered>,
    /// HubSpot calls that were made before, to be ready.
    pub(super) before: f64,
}

/// What is done in one world between getting ready and asking.
pub(super) type Prepare<'a> = dyn Fn(&TestApp, &Case) + Sync + 'a;

// === impl Case ===

impl Case {
    pub(super) fn new(portal: &str, asks: Vec<Ask>) -> Self {
        Self { portal: portal.to_owned(), asks, note: String::new() }
    }
}

// === impl World ===

impl World {
    /// Two services with so many portals; the one whose calls go alone has `spare` more for each.
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

    /// The same in both accounts.
    pub(super) fn both<T: PartialEq + std::fmt::Debug>(&self, make: impl Fn(&TestApp) -> T) -> T {
        let (made, other) = (make(&self.alone), make(&self.together));
        assert_eq!(made, other, "the accounts are in the same state");
        made
    }

    /// A lead in both accounts.
    pub(super) fn lead(&mut self, values: Value) -> String {
        let id = self.both(|app| app.hubspot.add_lead(&app.contact, &values).expect("a good lead"));
        self.newest = id.parse().unwrap();
        id
    }

    /// A lead with this name and key in both accounts.
    pub(super) fn keyed(&mut self, key: &str) -> String {
        self.lead(json!({"hs_lead_name": format!("Lead {key}"), "crm_key": key}))
    }

    /// Finds out in these portals that trace ids come back, if they do: where calls go alone that is
    /// not needed.
    pub(super) async fn warm_up(&self, portals: &[String]) {
        let all = portals.iter().map(|portal| warm_up(&self.together, portal));
        stream::iter(all).buffer_unordered(CONCURRENT_CASES).collect::<Vec<()>>().await;
    }

    /// Makes the calls one after the other, without anybody waiting.
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

    /// Asks both worlds the same, and compares what the callers see, what it says to have cost, and the
    /// state of the accounts.
    pub(super) async fn compare(&self, cases: &[Case], prepare: &Prepare<'_>) {
        self.together.hubspot.clear_log();
        let alone = stream::iter(cases).map(|case| self.ask_alone(case, prepare));
        let together = stream::iter(cases).map(|case| self.ask_at_once(case, prepare));
        let (alone, together): (Vec<Outcome>, Vec<Outcome>) = tokio::join!(
            alone.buffered(CONCURRENT_CASES).collect(),
            together.buffered(CONCURRENT_CASES).collect(),
        );
        for ((case, alone), together) in cases.iter().zip(&alone).zip(&together) {
            let all = case.asks.iter().zip(&together.answers).zip(&alone.answers);
            for ((ask, got), expected) in all {
                assert_eq!(got.seen, expected.seen, "{ask:?} of {} {case:#?}", case.note);
            }
        }
        self.compare_costs(&together);
        self.compare_accounts();
    }

    /// What the answers say to have cost is what HubSpot saw.
    fn compare_costs(&self, outcomes: &[Outcome]) {
        let answers = outcomes.iter().flat_map(|outcome| &outcome.answers);
        let costs: f64 = answers.map(|answer| answer.cost).sum();
        let before: f64 = outcomes.iter().map(|outcome| outcome.before).sum();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let calls = self.together.hubspot_calls().len() as f64;
        assert!((costs + before - calls).abs() < 0.01, "{costs} and {before} of {calls}");
    }

    /// Both accounts hold the same; leads that are new have ids of their own.
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

    /// How often single calls left together by this kind of batch.
    pub(super) fn batches(&self, path: &str) -> usize {
        let log = self.together.hubspot.log();
        let of_many = |inputs: &Value| inputs.as_array().is_some_and(|inputs| inputs.len() > 1);
        log.iter().filter(|call| call.path.ends_with(path) && of_many(&call.body["inputs"])).count()
    }
}

/// A portal beside another, whose quota and credential nothing has been done to; the first is that
/// itself.
pub(super) fn spare_of(portal: &str, number: usize) -> String {
    if number == 0 { portal.to_owned() } else { format!("{portal}-{number}") }
}

/// A service whose calls go together, or alone, in front of an account in a known state.
async fn service(
    together: bool,
    portals: &[String],
    behave: &dyn Fn(&mut Behaviour),
    settings: &[(&str, &str)],
) -> TestApp {
    // Nobody waits where calls go alone.
    let burst = if together { A_SECOND * 10 } else { 1_000_000 };
    let names: Vec<&str> = portals.iter().map(String::as_str).collect();
    let mut builder = TestApp::builder()
        .portals(&names)
        .set("VAULT__POLL_INTERVAL", "1h")
        .set("QUOTA__GROUP_COMMIT", &together.to_string())
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
    let created = app.leads.clone().batch_create_leads(of(portal, request)).await.expect("created");
    let results = created.into_inner().results;
    let Some(pb::lead_write_result::Outcome::Lead(lead)) = results[0].outcome.clone() else {
        panic!("{results:?}");
    };
    let values = properties(&[("hs_lead_label", "WARM")]);
    let update = pb::LeadUpdate { id: lead.id, properties: values, ..Default::default() };
    let request = pb::BatchUpdateLeadsRequest { inputs: vec![update], ..Default::default() };
    app.leads.clone().batch_update_leads(of(portal, request)).await.expect("changed");
    let request = pb::UpsertLeadRequest {
        id: format!("warm-{portal}"),
        id_property: "crm_key".to_owned(),
        properties: properties(&[("hs_lead_name", &format!("{WARM}er {portal}"))]),
        ..Default::default()
    };
    app.leads.clone().upsert_lead(of(portal, request)).await.expect("upserted");
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

/// The same for a test that does not wait for the end.
pub(crate) async fn close_for_long(app: &TestApp, portal: &str) -> Closed {
    close_for(app, portal, Duration::from_secs(MAX_CLOSED)).await
}

/// Makes HubSpot close a portal for this time.
async fn close_for(app: &TestApp, portal: &str, time: Duration) -> Closed {
    let refusal = Refusal::RateLimited { policy: "SECONDLY", retry_after: Some(time) };
    app.hubspot.script_of(token(app, portal), "GET", "/leads", Script::Refuse(refusal));
    let request = of(portal, pb::ListLeadsRequest::default());
    let status = app.leads.clone().list_leads(request).await.expect_err("it is closed");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    Closed { time, cost: cost(status.metadata()), _turn: None }
}

/// How long so many calls take that are rejected before they need a permit.
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

/// Nothing but asking.
pub(super) fn nothing(_: &TestApp, _: &Case) {}
