//! Batches whose deadline passes: what is known of each input is returned before the deadline.

use super::*;
use crate::leads::{CostMeter, Guard, Portal, PortalName, PortalSettings, Unlimited};
use tokio::time::{Instant, sleep, sleep_until};

/// A HubSpot with a latency. Like the real one, it completes a write that its caller does not wait for.
#[derive(Debug)]
pub(super) struct Slow {
    latency: Duration,
    /// Requests from this one on get no response.
    silent_from: usize,
    requests: parking_lot::Mutex<usize>,
    /// Trace ids of the created leads.
    created: parking_lot::Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl crate::leads::Upstream for Slow {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        if Instant::now() >= ctx.deadline {
            return Err(Error::new(Reason::DeadlineExceeded, "HubSpot was not asked in time"));
        }
        ctx.cost.count();
        let number = {
            let mut requests = self.requests.lock();
            *requests += 1;
            *requests - 1
        };
        if number >= self.silent_from {
            std::future::pending::<()>().await;
        }
        sleep(self.latency).await;
        let leads: Vec<Outcome> = match request {
            Request::BatchCreate(inputs) => {
                let ids = inputs.into_iter().map(|input| input.trace_id);
                let ids: Vec<String> = ids.collect();
                self.created.lock().extend(ids.iter().cloned());
                ids.iter().map(|id| item(id, Some(true))).collect()
            }
            Request::BatchRead(read) => read.ids.iter().map(|id| item(id.as_str(), None)).collect(),
            Request::BatchUpdate(inputs) => {
                inputs.iter().map(|input| item(input.input.id.as_str(), None)).collect()
            }
            Request::Upsert { inputs, .. } => {
                inputs.iter().map(|input| item(input.input.id.as_str(), Some(false))).collect()
            }
            Request::BatchArchive(ids) => ids.iter().map(|_| Ok(None)).collect(),
            other => panic!("not a batch: {other:?}"),
        };
        outcomes(leads)
    }
}

/// A HubSpot with this latency, and a context whose deadline is in `time`.
fn slow(latency: Duration, time: Duration) -> (Arc<Slow>, CallContext) {
    silent_from(usize::MAX, latency, time)
}

fn silent_from(number: usize, latency: Duration, time: Duration) -> (Arc<Slow>, CallContext) {
    let upstream = Arc::new(Slow {
        latency,
        silent_from: number,
        requests: parking_lot::Mutex::default(),
        created: parking_lot::Mutex::default(),
    });
    let portal = Portal {
        name: PortalName::parse("default").expect("a name"),
        upstream: Arc::<Slow>::clone(&upstream),
        settings: PortalSettings::default(),
    };
    let ctx = CallContext {
        portal: Arc::new(portal),
        deadline: Instant::now() + time,
        cost: Arc::new(CostMeter::default()),
        memory: Arc::new(Unlimited),
        guard: Guard::default(),
        ..RecordingUpstream::new(|_, _| Err(rejected())).context(None)
    };
    (upstream, ctx)
}

fn creates(count: usize) -> Vec<Traced<CreateLead>> {
    (0..count).map(|number| traced(&number.to_string(), create("Ada"))).collect()
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// Numbers of results: successes, unfinished inputs that were sent, and those that were not.
fn counts<T>(results: &[Result<T, Error>]) -> (usize, usize, usize) {
    let failed: Vec<&Error> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.iter().all(|error| error.reason() == Reason::DeadlineExceeded));
    let sent = failed.iter().filter(|error| error.message().contains("HubSpot responded")).count();
    (results.len() - failed.len(), sent, failed.len() - sent)
}

const HALF: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn a_batch_create_cut_by_its_deadline_says_what_is_known_and_repeats_complete_it() {
    let start = Instant::now();
    let (upstream, mut ctx) = slow(HALF, Duration::from_secs(2));
    let service = service();
    let first = service.batch_create(&ctx, request_id("b"), creates(3_000)).await.expect("results");
    assert_eq!(start.elapsed(), Duration::from_millis(1_800), "the caller receives the results");
    // Two requests at a time: three rounds have responded, and the fourth is at HubSpot.
    assert_eq!(counts(&first), (600, 200, 2_200));
    let effects = |error: &Error| error.side_effect();
    let possible = first.iter().flat_map(|lead| lead.as_ref().err()).map(effects);
    assert_eq!(possible.filter(|effect| *effect == SideEffect::Possible).count(), 200);
    ctx.deadline = Instant::now() + Duration::from_secs(60);
    for _ in 0..2 {
        let repeat = service.batch_create(&ctx, request_id("b"), creates(3_000)).await;
        let repeat: Vec<_> = repeat
            .expect("results")
            .into_iter()
            .map(|lead| lead.expect("created").id.clone())
            .collect();
        assert_eq!(repeat, ids(3_000));
    }
    let mut created = upstream.created.lock().clone();
    assert_eq!(created.len(), 3_000);
    created.sort_unstable();
    created.dedup();
    assert_eq!(created.len(), 3_000, "each lead is created once");
}

#[tokio::test(start_paused = true)]
async fn other_replicas_complete_a_batch_create_that_was_cut_and_return_its_results() {
    let (upstream, mut ctx) = slow(HALF, Duration::from_secs(2));
    let (store, [first, second, third]) = replicas();
    let cut = first.batch_create(&ctx, request_id("b"), creates(3_000)).await.expect("results");
    assert_eq!(counts(&cut), (600, 200, 2_200));
    ctx.deadline = Instant::now() + Duration::from_secs(60);
    for service in [&second, &third, &first] {
        let repeat = service.batch_create(&ctx, request_id("b"), creates(3_000)).await;
        let repeat = repeat.expect("results").into_iter();
        let repeat: Vec<_> = repeat.map(|lead| lead.expect("created").id.clone()).collect();
        assert_eq!(repeat, ids(3_000));
    }
    let created = upstream.created.lock();
    let distinct: std::collections::HashSet<_> = created.iter().collect();
    assert_eq!((created.len(), distinct.len()), (3_000, 3_000), "each lead is created once");
    assert!(!store.dump().contains("Ada"), "the store has no values");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_results_so_far_were_returned() {
    let (upstream, ctx) = slow(HALF, Duration::from_secs(2));
    let results = service().batch_create(&ctx, None, creates(3_000)).await.expect("results");
    let (created, unknown, _) = counts(&results);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(upstream.created.lock().len(), created + unknown);
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_batch_returns_what_is_known_while_hubspot_is_silent() {
    let time = Duration::from_secs(10);
    for kind in ["get", "create", "update", "upsert", "archive"] {
        let start = Instant::now();
        // The third request and the fourth get no response, so the fifth is not sent.
        let (_upstream, ctx) = silent_from(2, HALF, time);
        let (service, all) = (service(), ids(500));
        let known = match kind {
            "get" => {
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                counts(&service.batch_get(&ctx, batch_get(&all)).await.expect("results"))
            }
            "create" => {
                counts(&service.batch_create(&ctx, None, creates(500)).await.expect("results"))
            }
            "update" => {
                let inputs = all.iter().map(|text| traced(text, update(text))).collect();
                counts(&service.batch_update(&ctx, None, inputs).await.expect("results"))
            }
            "upsert" => {
                let inputs = all.iter().map(|text| traced(text, upsert(text))).collect();
                counts(&service.batch_upsert(&ctx, None, inputs).await.expect("results"))
            }
            _ => {
                let inputs = all.iter().map(|text| id(text)).collect();
                counts(&service.batch_archive(&ctx, None, inputs).await.expect("results"))
            }
        };
        // Two hundred upserts are one request, which is sent after the one before.
        let expected = if kind == "upsert" { (400, 100, 0) } else { (200, 200, 100) };
        assert_eq!(known, expected, "{kind}");
        assert_eq!(start.elapsed(), time - Duration::from_millis(250), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_which_nothing_is_known_fails_as_a_whole_before_its_deadline() {
    let (_upstream, ctx) = silent_from(0, HALF, Duration::from_secs(10));
    let read = service().batch_get(&ctx, batch_get(&["1", "2"])).await.expect_err("late");
    assert!(Instant::now() < ctx.deadline);
    assert_eq!((read.reason(), read.side_effect()), (Reason::DeadlineExceeded, SideEffect::None));
    let (_upstream, ctx) = silent_from(0, HALF, Duration::from_secs(10));
    let write = service().batch_create(&ctx, None, creates(2)).await.expect_err("late");
    assert!(Instant::now() < ctx.deadline);
    let unknown = (Reason::DeadlineExceeded, SideEffect::Possible);
    assert_eq!((write.reason(), write.side_effect()), unknown);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_less_time_gets_the_results_so_far_of_the_first_call() {
    let start = Instant::now();
    let (upstream, ctx) = slow(HALF, Duration::from_secs(60));
    let hasty = CallContext { deadline: start + Duration::from_millis(1_300), ..ctx.clone() };
    let service = service();
    let first = service.batch_create(&ctx, request_id("b"), creates(500));
    let repeat = async {
        sleep_until(start + Duration::from_millis(300)).await;
        let results = service.batch_create(&hasty, request_id("b"), creates(500)).await;
        (results.expect("results"), start.elapsed())
    };
    let (first, (repeat, at)) = tokio::join!(first, repeat);
    assert_eq!(counts(&first.expect("results")), (500, 0, 0), "the first call has more time");
    assert_eq!(at, Duration::from_millis(1_200));
    assert_eq!(counts(&repeat), (400, 100, 0));
    assert_eq!(upstream.created.lock().len(), 500);
}
