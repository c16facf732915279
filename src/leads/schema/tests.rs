//! The cache in simulated time, over an upstream that takes its time and records every call.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use leadsd_base::time::{SystemClock, Timestamp, WallClock};
use leadsd_quota::{Caller, Priority, Requester};
use parking_lot::Mutex;
use tokio::time::{Instant, advance, sleep, timeout_at};

use super::*;
use crate::leads::{
    AffectedInputs, CallContext, CostMeter, Error, FieldFault, Guard, Portal, PortalName,
    PortalSettings, Reason, RejectionSearch, Request, Response, SideEffect, Unlimited, Upstream,
    UpstreamFacts,
};
use crate::telemetry::trace_context::TraceContext;

/// Time that HubSpot takes to respond.
const LATENCY: Duration = Duration::from_millis(100);

type Script = dyn Fn(usize, &SchemaRead) -> Result<SchemaPage, Error> + Send + Sync;

/// HubSpot that responds by a script after [`LATENCY`].
struct SlowHubspot {
    script: Mutex<Arc<Script>>,
    latency: Mutex<Duration>,
    calls: Mutex<Vec<(Instant, SchemaRead)>>,
}

/// A clock that follows the simulated time.
#[derive(Debug)]
struct SimulatedWallClock {
    start: Instant,
    time: Timestamp,
}

struct World {
    hubspot: Arc<SlowHubspot>,
    schemas: Schemas,
    start: Timestamp,
}

impl fmt::Debug for SlowHubspot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowHubspot")
    }
}

impl WallClock for SimulatedWallClock {
    fn now(&self) -> Timestamp {
        self.time + self.start.elapsed()
    }
}

#[async_trait]
impl Upstream for SlowHubspot {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        let Request::ReadSchema(read) = request else { panic!("no schema: {request:?}") };
        let (number, latency, script) = {
            let mut calls = self.calls.lock();
            calls.push((Instant::now(), read.clone()));
            (calls.len() - 1, *self.latency.lock(), Arc::clone(&self.script.lock()))
        };
        let result = script(number, &read);
        let is_unsent = result.as_ref().is_err_and(|error| error.local_limit().is_some());
        if !is_unsent {
            ctx.cost.count();
        }
        if timeout_at(ctx.deadline, sleep(latency)).await.is_err() {
            return Err(unavailable());
        }
        result.map(Response::Schema)
    }
}

impl World {
    fn new(
        script: impl Fn(usize, &SchemaRead) -> Result<SchemaPage, Error> + Send + Sync + 'static,
    ) -> Self {
        Self::with_max_bytes(64 << 20, script)
    }

    fn with_max_bytes(
        max_bytes: usize,
        script: impl Fn(usize, &SchemaRead) -> Result<SchemaPage, Error> + Send + Sync + 'static,
    ) -> Self {
        let hubspot = Arc::new(SlowHubspot {
            script: Mutex::new(Arc::new(script)),
            latency: Mutex::new(LATENCY),
            calls: Mutex::default(),
        });
        let start = SystemClock.now();
        let clock = SimulatedWallClock { start: Instant::now(), time: start };
        let schemas = Schemas::with_max_bytes(Arc::new(clock), max_bytes);
        Self { hubspot, schemas, start }
    }

    /// Context of a call with a deadline in thirty seconds.
    fn context(&self) -> CallContext {
        self.context_of("default")
    }

    fn context_of(&self, portal: &str) -> CallContext {
        let name = PortalName::parse(portal).unwrap();
        let upstream: Arc<dyn Upstream> = Arc::<SlowHubspot>::clone(&self.hubspot);
        CallContext {
            portal: Arc::new(Portal { name, upstream, settings: PortalSettings::default() }),
            deadline: Instant::now() + Duration::from_secs(30),
            requester: Requester { caller: Caller::new("web"), priority: Priority::Interactive },
            request_id: "call-1".into(),
            trace: TraceContext::root(0.0),
            cost: Arc::new(CostMeter::default()),
            memory: Arc::new(Unlimited),
            guard: Guard::default(),
            search: RejectionSearch::default(),
            is_row: false,
            may_create_contacts: false,
        }
    }

    fn respond(
        &self,
        script: impl Fn(usize, &SchemaRead) -> Result<SchemaPage, Error> + Send + Sync + 'static,
    ) {
        *self.hubspot.script.lock() = Arc::new(script);
    }

    fn calls(&self) -> usize {
        self.hubspot.calls.lock().len()
    }

    /// Age of a copy at the time of its answer.
    fn age(&self, fetch_time: Timestamp) -> Duration {
        (self.schemas.now() - fetch_time).unsigned_abs()
    }

    async fn properties(&self, max_age: u64) -> Result<Arc<PropertyCopy>, Error> {
        self.schemas.properties(&self.context(), Duration::from_secs(max_age)).await
    }
}

fn property(name: &str) -> PropertyDefinition {
    PropertyDefinition { name: name.to_owned(), ..PropertyDefinition::default() }
}

fn owner(id: &str) -> Owner {
    let email = format!("Owner-{id}@example.com");
    Owner { id: id.to_owned(), email, is_active: true, ..Owner::default() }
}

/// A portal with two of everything.
fn usual(_: usize, read: &SchemaRead) -> Result<SchemaPage, Error> {
    Ok(match read {
        SchemaRead::Properties => {
            SchemaPage::Properties(vec![property("hs_lead_name"), property("budget")])
        }
        SchemaRead::ValidationRules => {
            let (kind, arguments) = ("MAX_LENGTH".to_owned(), vec!["9".to_owned()]);
            let rules = vec![ValidationRule { kind, arguments, is_normalized: false }];
            SchemaPage::ValidationRules(vec![PropertyRules {
                property: "budget".to_owned(),
                rules,
            }])
        }
        SchemaRead::Pipelines => {
            let stage = |id: &str, label: &str| PipelineStage {
                id: id.to_owned(),
                label: label.to_owned(),
                ..PipelineStage::default()
            };
            let pipeline = |id: &str, label: &str| Pipeline {
                id: id.to_owned(),
                label: label.to_owned(),
                display_order: 0,
                stages: vec![
                    stage(&format!("{id}-new"), "New"),
                    stage(&format!("{id}-won"), label),
                ],
            };
            SchemaPage::Pipelines(vec![pipeline("p1", "Inbound"), pipeline("p2", "Partners")])
        }
        SchemaRead::Owners { .. } => {
            SchemaPage::Owners { owners: vec![owner("2"), owner("10")], after: None }
        }
        SchemaRead::AssociationTypes { .. } => SchemaPage::AssociationTypes(Vec::new()),
    })
}

fn unavailable() -> Error {
    Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_share_one_read_and_one_of_them_pays() {
    let world = World::new(usual);
    let contexts: Vec<CallContext> = (0..1_000).map(|_| world.context()).collect();
    let asked = contexts.iter().map(|ctx| world.schemas.properties(ctx, DEFAULT_MAX_AGE));
    let copies = join_all(asked).await;
    assert!(copies.iter().all(|copy| copy.as_ref().unwrap().get("budget").is_some()));
    assert_eq!(world.calls(), 1);
    let cost: f64 = contexts.iter().map(|ctx| ctx.cost.requests()).sum();
    assert!((cost - 1.0).abs() < 1e-9, "{cost}");
}

#[tokio::test(start_paused = true)]
async fn hostile_callers_cost_four_calls_in_ten_minutes_and_keep_no_part_from_others() {
    let world = World::new(usual);
    let types: Vec<String> = (0..20).map(|id| format!("2-{id}")).collect();
    for _ in 0..600 {
        let ctx = world.context();
        let zero = Duration::ZERO;
        let _ = world.schemas.properties(&ctx, zero).await;
        let _ = world.schemas.association_types(&ctx, &types, zero).await;
        advance(Duration::from_secs(7)).await;
    }
    let ctx = world.context();
    assert!(world.schemas.pipelines(&ctx, DEFAULT_MAX_AGE).await.is_ok());
    assert!(world.schemas.owners(&ctx, DEFAULT_MAX_AGE).await.is_ok());
    let calls: Vec<Instant> = world.hubspot.calls.lock().iter().map(|(at, _)| *at).collect();
    assert!(calls.len() >= 12, "{}", calls.len());
    for window in calls.windows(5) {
        assert!(window[4] - window[0] >= Duration::from_secs(600), "{window:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_returned_up_to_its_maximum_age_and_then_read_again() {
    let world = World::new(usual);
    let first = world.properties(600).await.unwrap();
    assert_eq!(first.fetch_time, world.start);
    advance(Duration::from_secs(599)).await;
    assert_eq!(world.properties(600).await.unwrap().fetch_time, first.fetch_time);
    assert_eq!(world.calls(), 1);
    advance(Duration::from_secs(2)).await;
    let second = world.properties(600).await.unwrap();
    assert!(second.fetch_time > first.fetch_time);
    advance(Duration::from_secs(1_000)).await;
    assert_eq!(world.properties(3_600).await.unwrap().fetch_time, second.fetch_time);
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_outage_leaves_the_old_copy_and_a_silent_hubspot_delays_for_three_seconds() {
    let world = World::new(usual);
    let first = world.properties(600).await.unwrap();
    world.respond(|_, _| Err(unavailable()));
    advance(Duration::from_secs(86_400)).await;
    let old = world.properties(600).await.unwrap();
    assert_eq!(old.fetch_time, first.fetch_time);
    assert!(world.age(old.fetch_time) >= Duration::from_secs(86_400));
    // It hangs.
    *world.hubspot.latency.lock() = Duration::from_secs(3_600);
    advance(Duration::from_secs(1_200)).await;
    let before = Instant::now();
    assert_eq!(world.properties(600).await.unwrap().fetch_time, first.fetch_time);
    assert_eq!(before.elapsed(), Duration::from_secs(3));
    // An impatient caller gets it within its deadline.
    let mut ctx = world.context();
    ctx.deadline = Instant::now() + Duration::from_millis(200);
    let copy = world.schemas.properties(&ctx, DEFAULT_MAX_AGE).await.unwrap();
    assert_eq!(copy.fetch_time, first.fetch_time);
    assert!(Instant::now() < ctx.deadline);
    // HubSpot is back.
    sleep(Duration::from_secs(60)).await;
    *world.hubspot.latency.lock() = LATENCY;
    world.respond(usual);
    advance(Duration::from_secs(1_200)).await;
    assert!(world.properties(600).await.unwrap().fetch_time > first.fetch_time);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_wastes_no_call() {
    let world = World::new(usual);
    let mut ctx = world.context();
    ctx.deadline = Instant::now() + Duration::from_millis(1);
    let error = world.schemas.properties(&ctx, DEFAULT_MAX_AGE).await.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    {
        let ctx = world.context();
        let dropped = world.schemas.pipelines(&ctx, DEFAULT_MAX_AGE);
        assert!(tokio::time::timeout(Duration::from_millis(1), dropped).await.is_err());
    }
    sleep(LATENCY).await;
    assert!(world.properties(600).await.is_ok());
    assert!(world.schemas.pipelines(&world.context(), DEFAULT_MAX_AGE).await.is_ok());
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_is_over_after_ten_seconds_and_a_long_one_spends_two_calls() {
    let world = World::new(|number, read| match number {
        0 => Err(unavailable()),
        _ => usual(number, read),
    });
    let error = world.properties(600).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(10)));
    // Callers that retry at once cost nothing.
    assert!(world.properties(600).await.is_err());
    assert_eq!(world.calls(), 1);
    advance(Duration::from_secs(10)).await;
    assert!(world.properties(600).await.is_ok());

    let world = World::new(|_, _| Err(unavailable()));
    for _ in 0..50 {
        let error = world.properties(600).await.unwrap_err();
        assert!(error.retry_after().unwrap() > Duration::ZERO);
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(world.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_scope_is_named_the_other_parts_work_and_no_spare_call_is_spent() {
    let world = World::new(|number, read| match read {
        SchemaRead::Owners { .. } => {
            let required_scopes = vec!["crm.objects.owners.read".to_owned()];
            let facts = UpstreamFacts { required_scopes, ..UpstreamFacts::default() };
            Err(Error::new(Reason::MissingScopes, "a scope is missing").with_upstream(facts))
        }
        SchemaRead::Properties
        | SchemaRead::ValidationRules
        | SchemaRead::Pipelines
        | SchemaRead::AssociationTypes { .. } => usual(number, read),
    });
    for _ in 0..9 {
        let owners = world.schemas.owners(&world.context(), DEFAULT_MAX_AGE).await;
        let error = owners.unwrap_err();
        assert_eq!(error.upstream().required_scopes, ["crm.objects.owners.read"]);
        assert_eq!(error.retry_after(), None);
        advance(Duration::from_secs(61)).await;
    }
    assert_eq!(world.calls(), 1);
    assert!(world.properties(0).await.is_ok());
    assert!(world.properties(0).await.is_ok());
    assert!(world.schemas.pipelines(&world.context(), DEFAULT_MAX_AGE).await.is_ok());
    assert_eq!(world.calls(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sent_returns_its_slot() {
    let open = || unavailable().with_local_limit(crate::leads::LocalLimit::CircuitBreaker);
    let world = World::new(move |_, _| Err(open()));
    for _ in 0..20 {
        assert!(world.properties(600).await.is_err());
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(world.calls(), 20);
    world.respond(usual);
    assert!(world.properties(600).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_replaced_and_the_call_repeated_once() {
    let rejected = || {
        let facts = UpstreamFacts { http_status: Some(401), ..UpstreamFacts::default() };
        Error::new(Reason::CredentialRejected, "HubSpot rejects the token").with_upstream(facts)
    };
    let world = World::new(move |number, read| match number {
        0 => Err(rejected()),
        _ => usual(number, read),
    });
    assert!(world.properties(600).await.is_ok());
    assert_eq!(world.calls(), 2);
    let world = World::new(move |_, _| Err(rejected()));
    for _ in 0..20 {
        assert_eq!(world.properties(600).await.unwrap_err().reason(), Reason::CredentialRejected);
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(world.calls(), 2);
}

/// Three pages of owners.
fn paged(number: usize, read: &SchemaRead) -> Result<SchemaPage, Error> {
    let SchemaRead::Owners { after } = read else { return usual(number, read) };
    let (owners, after) = match after.as_deref() {
        None => (vec![owner("1")], Some("1")),
        Some("1") => (vec![owner("2")], Some("2")),
        Some("2") => (vec![owner("3")], None),
        Some(other) => panic!("no such cursor: {other}"),
    };
    Ok(SchemaPage::Owners { owners, after: after.map(str::to_owned) })
}

#[tokio::test(start_paused = true)]
async fn pages_of_owners_are_read_as_calls_permit_and_an_old_complete_copy_stays() {
    let world = World::new(paged);
    let owners = async |max_age| {
        let ctx = world.context();
        world.schemas.owners(&ctx, Duration::from_secs(max_age)).await.unwrap()
    };
    let partial = owners(600).await;
    assert_eq!((partial.all().len(), partial.is_complete, world.calls()), (2, false, 2));
    // Nothing more is permitted now.
    assert_eq!(owners(600).await.all().len(), 2);
    advance(Duration::from_secs(601)).await;
    let whole = owners(600).await;
    assert_eq!((whole.all().len(), whole.is_complete, world.calls()), (3, true, 3));
    assert_eq!(whole.fetch_time, partial.fetch_time, "that of the first page");
    // The next round needs three calls again; until it ends, all three owners are known.
    for _ in 0..3 {
        advance(Duration::from_secs(601)).await;
        assert_eq!(owners(600).await.all().len(), 3);
    }
    assert!(owners(3_600).await.fetch_time > whole.fetch_time);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_repeats_or_never_ends_ends_the_list() {
    let world = World::new(|_, _| {
        Ok(SchemaPage::Owners { owners: vec![owner("1")], after: Some("1".to_owned()) })
    });
    let copy = world.schemas.owners(&world.context(), DEFAULT_MAX_AGE).await.unwrap();
    assert_eq!((copy.all().len(), copy.is_complete), (1, false));
    let world = World::new(|number, _| {
        let owners = (0..10_000).map(|id| owner(&format!("{number}{id:05}"))).collect();
        Ok(SchemaPage::Owners { owners, after: Some(number.to_string()) })
    });
    for _ in 0..30 {
        let owners = world.schemas.owners(&world.context(), DEFAULT_MAX_AGE).await.unwrap();
        assert!(owners.all().len() <= 20_000, "{}", owners.all().len());
        assert!(world.schemas.bytes() <= 16 << 20, "{}", world.schemas.bytes());
        advance(Duration::from_secs(601)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_replaces_no_copy() {
    let world = World::new(usual);
    world.properties(600).await.unwrap();
    world.respond(|_, _| Ok(SchemaPage::Properties(Vec::new())));
    advance(Duration::from_secs(601)).await;
    assert_eq!(world.properties(600).await.unwrap().all().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_panics_wakes_its_callers() {
    let world = World::new(|_, _| panic!("a defect"));
    let error = world.properties(600).await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    world.respond(usual);
    assert!(world.properties(600).await.is_ok());
}

/// HubSpot's error for a write of these properties.
fn rejection(names: &[&str], unknown: &[&str]) -> Error {
    let unknown_properties = unknown.iter().map(|name| (*name).to_owned()).collect();
    Error::new(Reason::ValidationFailed, "invalid")
        .with_fields(names.iter().map(|name| FieldFault::for_property(name, "invalid")).collect())
        .with_affected_inputs(AffectedInputs { unknown_properties, ..AffectedInputs::default() })
        .with_side_effect(SideEffect::None)
}

#[tokio::test(start_paused = true)]
async fn an_error_that_contradicts_the_copy_refreshes_it_and_one_that_agrees_does_not() {
    let world = World::new(usual);
    let portal = PortalName::parse("default").unwrap();
    world.properties(600).await.unwrap();
    // Callers may send invalid names as often as they like.
    world.schemas.observe(&portal, &rejection(&["junk"], &["junk"]));
    world.schemas.observe(&portal, &rejection(&["hs_lead_name"], &[]));
    assert!(world.properties(600).await.is_ok());
    assert_eq!(world.calls(), 1);
    // A property was removed.
    world.respond(|_, _| Ok(SchemaPage::Properties(vec![property("hs_lead_name")])));
    world.schemas.observe(&portal, &rejection(&["budget"], &["budget"]));
    assert!(world.properties(600).await.unwrap().get("budget").is_none());
    assert_eq!(world.calls(), 2);
    // HubSpot knows a property that the copy does not have; there is no call left now.
    world.schemas.observe(&portal, &rejection(&["added"], &[]));
    assert!(world.properties(600).await.unwrap().get("added").is_none());
    world.respond(|_, _| Ok(SchemaPage::Properties(vec![property("added")])));
    advance(Duration::from_secs(600)).await;
    assert!(world.properties(3_600).await.unwrap().get("added").is_some());
}

#[tokio::test(start_paused = true)]
async fn association_types_are_known_before_their_call_and_all_object_types_get_one_in_time() {
    let world = World::new(|number, read| match read {
        SchemaRead::AssociationTypes { to } => {
            let association_type = crate::leads::AssociationType {
                category: crate::leads::AssociationCategory::UserDefined,
                type_id: 42,
            };
            let label = format!("Label of {to}");
            let own = AssociationTypeDefinition { association_type, label, inverse_type_id: None };
            Ok(SchemaPage::AssociationTypes(vec![own]))
        }
        SchemaRead::Properties
        | SchemaRead::ValidationRules
        | SchemaRead::Pipelines
        | SchemaRead::Owners { .. } => usual(number, read),
    });
    let to = ["contact", "companies", "0-3"].map(str::to_owned);
    let ids = |lists: &[AssociationTypesResult]| -> Vec<Vec<i32>> {
        let ids = |copy: &AssociationTypeCopy| {
            copy.all().iter().map(|own| own.association_type.type_id).collect()
        };
        lists.iter().map(|(_, copy)| ids(copy.as_ref().unwrap())).collect()
    };
    let lists = world.schemas.association_types(&world.context(), &to, DEFAULT_MAX_AGE).await;
    assert_eq!(ids(&lists), [vec![42], vec![580, 610], vec![582, 1_037]]);
    assert!(lists[0].1.as_ref().unwrap().by_label("label of CONTACTS").next().is_some());
    assert_eq!(lists[1].1.as_ref().unwrap().fetch_time, None);
    for _ in 0..2 {
        advance(Duration::from_secs(601)).await;
        world.schemas.association_types(&world.context(), &to, DEFAULT_MAX_AGE).await;
    }
    let lists = world.schemas.association_types(&world.context(), &to, DEFAULT_MAX_AGE).await;
    assert_eq!(ids(&lists), [vec![42], vec![42], vec![42]]);
    assert_eq!(world.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn copies_of_portals_that_no_caller_asks_for_make_room() {
    let large = |number: usize, read: &SchemaRead| match read {
        SchemaRead::Properties => {
            let property = PropertyDefinition { description: "x".repeat(1_000), ..property("a") };
            let named =
                |index| PropertyDefinition { name: format!("p{index}"), ..property.clone() };
            Ok(SchemaPage::Properties((0..500).map(named).collect()))
        }
        SchemaRead::ValidationRules
        | SchemaRead::Pipelines
        | SchemaRead::Owners { .. }
        | SchemaRead::AssociationTypes { .. } => usual(number, read),
    };
    let world = World::with_max_bytes(2 << 20, large);
    for number in 0..20 {
        let ctx = world.context_of(&format!("portal-{number}"));
        assert!(world.schemas.properties(&ctx, DEFAULT_MAX_AGE).await.is_ok());
        assert!(world.schemas.bytes() <= 2 << 20, "{}", world.schemas.bytes());
        advance(Duration::from_secs(1)).await;
    }
    let calls = world.calls();
    let ctx = world.context_of("portal-19");
    assert!(world.schemas.properties(&ctx, DEFAULT_MAX_AGE).await.is_ok());
    assert_eq!(world.calls(), calls, "the latest copy is kept");
}

#[test]
fn a_copy_is_bounded_in_bytes_and_options() {
    let option = PropertyOption { value: "x".to_owned(), ..PropertyOption::default() };
    let many = PropertyDefinition { options: vec![option; 6_000], ..property("many") };
    let copy = PropertyCopy::new(SystemClock.now(), vec![many]);
    let many = copy.get("many").unwrap();
    assert_eq!((many.options.len(), many.has_more_options), (5_000, true));
    assert!(copy.is_complete);
    let huge =
        |index| PropertyDefinition { label: "x".repeat(1 << 20), ..property(&format!("{index}")) };
    let copy = PropertyCopy::new(SystemClock.now(), (0..10).map(huge).collect());
    assert_eq!((copy.all().len(), copy.is_complete), (3, false));
}

#[tokio::test(start_paused = true)]
async fn names_are_found_by_label_and_address() {
    let world = World::new(usual);
    let ctx = world.context();
    let pipelines = world.schemas.pipelines(&ctx, DEFAULT_MAX_AGE).await.unwrap();
    assert_eq!(pipelines.get("p2").unwrap().label, "Partners");
    assert_eq!(pipelines.by_label(" inbound ").next().unwrap().id, "p1");
    let stages: Vec<&str> =
        pipelines.stages_by_label("new").map(|(_, stage)| stage.id.as_str()).collect();
    assert_eq!(stages, ["p1-new", "p2-new"], "a label may be ambiguous");
    let owners = world.schemas.owners(&ctx, DEFAULT_MAX_AGE).await.unwrap();
    let ids: Vec<&str> = owners.all().iter().map(|owner| owner.id.as_str()).collect();
    assert_eq!(ids, ["2", "10"], "sorted by number");
    assert_eq!(owners.get("10").unwrap().email, "Owner-10@example.com");
    assert_eq!(owners.by_email("owner-2@EXAMPLE.com").next().unwrap().id, "2");
    assert_eq!(owners.by_email("unknown@example.com").next(), None);
}

#[tokio::test(start_paused = true)]
async fn validation_rules_take_the_shared_call_and_leave_the_others() {
    let world = World::new(usual);
    let ctx = world.context();
    for _ in 0..3 {
        let rules = world.schemas.validation_rules(&ctx, DEFAULT_MAX_AGE).await.unwrap();
        assert_eq!(rules.of_property("budget")[0].arguments, ["9"]);
        assert!(rules.of_property("hs_lead_name").is_empty() && rules.is_complete);
    }
    // A newer copy needs another call, which there is not.
    assert!(world.schemas.validation_rules(&ctx, Duration::ZERO).await.is_ok());
    world.properties(600).await.unwrap();
    world.schemas.pipelines(&ctx, DEFAULT_MAX_AGE).await.unwrap();
    world.schemas.owners(&ctx, DEFAULT_MAX_AGE).await.unwrap();
    world.schemas.properties(&ctx, Duration::ZERO).await.unwrap();
    assert_eq!(world.calls(), 4);
    let types = ["contacts".to_owned()];
    let lists = world.schemas.association_types(&ctx, &types, DEFAULT_MAX_AGE).await;
    assert_eq!(lists[0].1.as_ref().unwrap().fetch_time, None);
    advance(Duration::from_secs(601)).await;
    let ctx = world.context();
    assert!(world.schemas.association_types(&ctx, &types, DEFAULT_MAX_AGE).await[0].1.is_ok());
    assert_eq!(world.calls(), 5);
}
