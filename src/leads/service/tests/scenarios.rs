//! Request ids over lost responses, failing lookups and several replicas, against one HubSpot.

use super::*;
use crate::leads::{
    Portal, PortalName, PortalSettings,
    idempotency::{ClaimResponse, WriteId},
};
use tokio::time::{Instant, sleep};

const PROPERTY: &str = "leadsd_request_id";

/// A HubSpot that keeps leads by their unique value, loses responses, and can reject lookups.
#[derive(Debug, Default)]
struct Hubspot {
    leads: parking_lot::Mutex<BTreeMap<String, String>>,
    /// Number of creates to come whose response is lost.
    lost: parking_lot::Mutex<usize>,
    /// True if a create whose response is lost has an effect.
    lost_have_effects: bool,
    lookups_fail: std::sync::atomic::AtomicBool,
    creates: parking_lot::Mutex<usize>,
    latency: Duration,
}

// === impl Hubspot ===

impl Hubspot {
    fn create_one(&self, create: &CreateLead) -> Outcome {
        *self.creates.lock() += 1;
        let value = create.properties[PROPERTY].clone();
        let mut leads = self.leads.lock();
        if leads.contains_key(&value) {
            return Err(Error::new(Reason::AlreadyExists, "a lead has the value"));
        }
        let is_lost = {
            let mut lost = self.lost.lock();
            let is_lost = *lost > 0;
            *lost = lost.saturating_sub(1);
            is_lost
        };
        let new = (leads.len() + 1).to_string();
        if !is_lost || self.lost_have_effects {
            leads.insert(value, new.clone());
        }
        if is_lost { Err(unknown()) } else { item(&new, Some(true)) }
    }

    fn lookup(&self, value: &str) -> Outcome {
        let Some(found) = self.leads.lock().get(value).cloned() else {
            return Err(Error::lead_not_found());
        };
        let mut lead = named(&found);
        lead.properties.insert(PROPERTY.to_owned(), value.to_owned());
        Ok(Some(BatchItem { lead, trace_id: None, created: None }))
    }

    fn fail_lookups(&self, fail: bool) {
        self.lookups_fail.store(fail, std::sync::atomic::Ordering::Relaxed);
    }
}

#[async_trait::async_trait]
impl crate::leads::Upstream for Hubspot {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        if Instant::now() >= ctx.deadline {
            return Err(Error::new(Reason::DeadlineExceeded, "HubSpot was not asked in time"));
        }
        ctx.cost.count();
        sleep(self.latency).await;
        match request {
            Request::Create(create) => {
                let item = self.create_one(&create)?.expect("a lead");
                Ok(Response::Lead(item.lead.into()))
            }
            Request::BatchCreate(inputs) => {
                outcomes(inputs.iter().map(|input| self.create_one(&input.input)).collect())
            }
            Request::BatchRead(_)
                if self.lookups_fail.load(std::sync::atomic::Ordering::Relaxed) =>
            {
                Err(Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable"))
            }
            Request::BatchRead(read) => {
                outcomes(read.ids.iter().map(|id| self.lookup(id.as_str())).collect())
            }
            other => panic!("neither a create nor a lookup: {other:?}"),
        }
    }
}

/// The context of a call with ten seconds.
fn context(hubspot: &Arc<Hubspot>) -> CallContext {
    let portal = Portal {
        name: PortalName::parse("default").expect("a name"),
        upstream: Arc::<Hubspot>::clone(hubspot),
        settings: PortalSettings {
            request_id_property: Some(PROPERTY.to_owned()),
            ..PortalSettings::default()
        },
    };
    let ctx = RecordingUpstream::new(|_, _| Err(rejected())).context(None);
    CallContext { portal: Arc::new(portal), ..ctx }
}

/// A HubSpot that loses the responses to this many creates.
fn losing(lost: usize, lost_have_effects: bool) -> Arc<Hubspot> {
    let lost = parking_lot::Mutex::new(lost);
    Arc::new(Hubspot { lost, lost_have_effects, ..Hubspot::default() })
}

#[tokio::test(start_paused = true)]
async fn a_create_with_four_lost_responses_is_done_by_a_repeat_if_the_lead_does_not_exist() {
    let hubspot = losing(4, false);
    let service = service();
    let lost = service.create(&context(&hubspot), request_id("a"), create("Ada")).await;
    let lost = lost.expect_err("four responses are lost");
    assert_eq!(lost.reason(), Reason::WriteOutcomeUnknown);
    assert!(lost.retry_after().is_some(), "a repeat is safe");
    for _ in 0..2 {
        let lead = service.create(&context(&hubspot), request_id("a"), create("Ada")).await;
        assert_eq!(lead.expect("created").id, "1");
    }
    assert_eq!((hubspot.leads.lock().len(), *hubspot.creates.lock()), (1, 5));
}

/// A replica that was killed while it created this lead.
async fn killed(store: &InMemoryRequestIds, ctx: &CallContext, name: &str) {
    let id = RequestId::parse("a").expect("a valid id");
    let claim = WriteId::new(ctx, id, "create", &create(name)).claim();
    assert_eq!(store.claim(&claim).await, Ok(ClaimResponse::New));
}

/// The context with a deadline in a minute.
fn patient(ctx: CallContext) -> CallContext {
    CallContext { deadline: Instant::now() + Duration::from_secs(60), ..ctx }
}

#[tokio::test(start_paused = true)]
async fn a_create_of_a_killed_replica_is_looked_up_and_done_only_if_the_lead_does_not_exist() {
    for exists in [true, false] {
        let hubspot = losing(0, false);
        let (store, [second]) = replicas();
        killed(&store, &context(&hubspot), "Ada").await;
        if exists {
            hubspot.leads.lock().insert("a".to_owned(), "77".to_owned());
        }
        let ctx = patient(context(&hubspot));
        let lead = second.create(&ctx, request_id("a"), create("Ada")).await.expect("a lead");
        assert_eq!(lead.id, if exists { "77" } else { "1" });
        assert_eq!(*hubspot.creates.lock(), usize::from(!exists));
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_of_a_killed_replica_without_a_property_stays_unknown() {
    let upstream = RecordingUpstream::new(|_, _| Ok(Response::Lead(named("1").into())));
    let (store, [second, third]) = replicas();
    killed(&store, &upstream.context(None), "Ada").await;
    for service in [&second, &third, &second] {
        let ctx = patient(upstream.context(None));
        let lead = service.create(&ctx, request_id("a"), create("Ada")).await;
        assert_eq!(lead.expect_err("unknown").reason(), Reason::WriteOutcomeUnknown);
    }
    assert!(upstream.requests().is_empty(), "it is not created a second time");
    // An update is safe to repeat, and is done.
    let id = RequestId::parse("u").expect("a valid id");
    let claim = WriteId::new(&upstream.context(None), id, "update", &update("7")).claim();
    assert_eq!(store.claim(&claim).await, Ok(ClaimResponse::New));
    let ctx = patient(upstream.context(None));
    assert_eq!(second.update(&ctx, request_id("u"), update("7")).await.expect("done").id, "1");
}

#[tokio::test(start_paused = true)]
async fn a_create_at_a_second_replica_never_clashes_with_its_own_tag() {
    let hubspot = losing(1, true);
    let [first, second] = [service(), service()];
    hubspot.fail_lookups(true);
    let lost = first.create(&context(&hubspot), request_id("a"), create("Ada")).await;
    assert_eq!(lost.expect_err("lost").reason(), Reason::WriteOutcomeUnknown);
    // The lead exists, and lookups fail: HubSpot reports a conflict with the own tag.
    for _ in 0..3 {
        let repeat = second.create(&context(&hubspot), request_id("a"), create("Ada")).await;
        let error = repeat.expect_err("the lookups fail");
        assert_eq!(error.reason(), Reason::WriteOutcomeUnknown);
        assert_eq!(error.side_effect(), SideEffect::Possible);
        assert!(error.retry_after().is_some(), "UNAVAILABLE with RetryInfo");
    }
    hubspot.fail_lookups(false);
    for service in [&second, &first] {
        let lead = service.create(&context(&hubspot), request_id("a"), create("Ada")).await;
        assert_eq!(lead.expect("found").id, "1");
    }
    assert_eq!(hubspot.leads.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_cut_while_it_looks_leads_up_reports_them_as_unknown() {
    // All responses are lost, or the leads exist already: the lookups fail until after the deadline.
    for exists in [false, true] {
        let hubspot = losing(if exists { 0 } else { 3 }, true);
        let inputs = || ["a", "b", "c"].map(|name| traced(name, create(name))).to_vec();
        let [first, second] = [service(), service()];
        if exists {
            let created = first.batch_create(&context(&hubspot), request_id("r"), inputs()).await;
            assert!(created.expect("results").iter().all(Result::is_ok));
        }
        hubspot.fail_lookups(true);
        let ctx = context(&hubspot);
        let cut = second.batch_create(&ctx, request_id("r"), inputs()).await.expect("results");
        assert!(Instant::now() < ctx.deadline);
        for result in cut {
            let error = result.expect_err("unknown");
            assert_eq!(error.reason(), Reason::WriteOutcomeUnknown, "never ALREADY_EXISTS");
            assert!(error.retry_after().is_some());
        }
        hubspot.fail_lookups(false);
        let repeat = second.batch_create(&context(&hubspot), request_id("r"), inputs()).await;
        assert!(repeat.expect("results").iter().all(Result::is_ok));
        assert_eq!(hubspot.leads.lock().len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_batch_reports_lost_creates_as_unknown_before_they_are_looked_up() {
    let hubspot = Arc::new(Hubspot {
        latency: Duration::from_millis(100),
        lost: parking_lot::Mutex::new(3),
        lost_have_effects: true,
        ..Hubspot::default()
    });
    let inputs = || ["a", "b", "c"].map(|name| traced(name, create(name))).to_vec();
    let service = service();
    let mut ctx = context(&hubspot);
    // The lookup would begin at 200 ms.
    ctx.deadline = Instant::now() + Duration::from_millis(200);
    let cut = service.batch_create(&ctx, request_id("r"), inputs()).await.expect("results");
    let reasons: Vec<_> =
        cut.iter().map(|result| result.as_ref().expect_err("lost").reason()).collect();
    assert_eq!(reasons, [Reason::WriteOutcomeUnknown; 3]);
    let repeat = service.batch_create(&context(&hubspot), request_id("r"), inputs()).await;
    assert!(repeat.expect("results").iter().all(Result::is_ok));
    assert_eq!(*hubspot.creates.lock(), 3, "the leads are found, not created again");
}
