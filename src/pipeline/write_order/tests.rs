//! Write order in simulated time.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture, poll};
use leadsd_base::task;
use proptest::prelude::*;
use tokio::time::sleep;

use super::*;
use crate::pipeline::{
    scripted::{Scripted, ScriptedUpstream},
    tests::{account, context, context_of, create, get, lead_id, ordinary, unavailable, update},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// Time that HubSpot takes for a write.
const LATENCY: Duration = Duration::from_millis(100);

type Ordered = WriteOrder<Arc<ScriptedUpstream>>;

/// A layer over HubSpot that takes [`LATENCY`] for every request.
fn ordered() -> (Arc<ScriptedUpstream>, Ordered) {
    let upstream = ScriptedUpstream::new(|call| Scripted::after(LATENCY, ordinary(&call.request)));
    let layer = WriteOrder::new(Arc::clone(&upstream), account(190, 100), 100);
    (upstream, layer)
}

fn call<'a>(
    layer: &'a Ordered,
    ctx: &'a CallContext,
    request: &Arc<Request>,
) -> BoxFuture<'a, Result<Response, Error>> {
    layer.call(ctx, Arc::clone(request), Dispatch::new(ctx)).boxed()
}

/// Times after `start` at which HubSpot received the requests.
fn sent(upstream: &ScriptedUpstream, start: Instant) -> Vec<Duration> {
    upstream.requests().iter().map(|call| call.at - start).collect()
}

fn update_by(property: &str, value: &str) -> Arc<Request> {
    Arc::new(Request::Update(UpdateLead {
        id: lead_id(value),
        id_property: Some(property.to_owned()),
        properties: BTreeMap::new(),
        trace_id: None,
    }))
}

fn batch_update(ids: &[&str]) -> Arc<Request> {
    let input = |id: &&str| Traced {
        trace_id: (*id).to_owned(),
        input: UpdateLead {
            id: lead_id(id),
            id_property: None,
            properties: BTreeMap::new(),
            trace_id: None,
        },
    };
    Arc::new(Request::BatchUpdate(ids.iter().map(input).collect()))
}

fn upsert(property: Option<&str>, value: &str) -> Arc<Request> {
    let input = UpsertLead {
        id: lead_id(value),
        id_property: property.map(str::to_owned),
        properties: BTreeMap::new(),
        associations: Vec::new(),
        contact: None,
    };
    let inputs = vec![Traced { trace_id: "trace".to_owned(), input }];
    Arc::new(Request::Upsert { inputs, concurrency: 1 })
}

fn sequencer(max_queue: usize) -> Arc<WriteSequencer> {
    let layer =
        WriteOrder::new(ScriptedUpstream::sequence(Vec::new()), account(190, 100), max_queue);
    Arc::new(layer.sequencer)
}

/// A context of a write that is sent once it is active.
fn sending(priority: Priority, time: Duration) -> CallContext {
    let ctx = context_of("test", priority, time);
    ctx.cost.begin();
    ctx
}

fn patient() -> CallContext {
    sending(Priority::Interactive, HOUR)
}

fn key(lead: usize) -> BTreeSet<LeadKey> {
    keys_of([lead])
}

fn keys_of(leads: impl IntoIterator<Item = usize>) -> BTreeSet<LeadKey> {
    leads.into_iter().map(|lead| LeadKey::new(&lead_id(&(lead + 1).to_string()), None)).collect()
}

fn is_empty(sequencer: &WriteSequencer) -> bool {
    let queues = sequencer.queues.lock();
    queues.is_empty() && sequencer.stats.snapshot().waiting == 0
}

/// Makes one write that takes this long.
async fn measure(sequencer: &WriteSequencer, duration: Duration) {
    let guard = sequencer.acquire(&patient(), key(0)).await.unwrap();
    sleep(duration).await;
    drop(guard);
}

/// Queues `writes` writes to a lead in separate tasks, until they are dropped.
async fn enqueue(
    sequencer: &Arc<WriteSequencer>,
    ctx: impl Fn() -> CallContext,
    lead: usize,
    writes: usize,
) -> Vec<task::Task> {
    let mut waiting = Vec::new();
    for _ in 0..writes {
        let (sequencer, ctx) = (Arc::clone(sequencer), ctx());
        waiting.push(task::spawn("write", "", async move {
            let guard = sequencer.acquire(&ctx, key(lead)).await.unwrap();
            sleep(HOUR).await;
            drop(guard);
        }));
        tokio::task::yield_now().await;
    }
    waiting
}

/// Time after which a write that was rejected by the queue may be accepted.
fn retry_after(result: Result<WriteGuard, Error>) -> Duration {
    let error = result.unwrap_err();
    assert_eq!(
        (error.reason(), error.local_limit()),
        (Reason::Overloaded, Some(LocalLimit::WriteQueue))
    );
    error.retry_after().expect("the error has a pause")
}

#[tokio::test(start_paused = true)]
async fn writes_to_one_lead_are_sent_one_after_another_in_order_of_arrival() {
    let (upstream, layer) = ordered();
    let start = Instant::now();
    let bulk = context_of("first", Priority::Bulk, HOUR);
    let interactive = context_of("second", Priority::Interactive, HOUR);
    let last = context_of("third", Priority::Interactive, HOUR);
    let (first, second, third) = tokio::join!(
        call(&layer, &bulk, &update("7", "a")),
        call(&layer, &interactive, &batch_update(&["7"])),
        call(&layer, &last, &Arc::new(Request::Archive(lead_id("7")))),
    );
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(sent(&upstream, start), [Duration::ZERO, LATENCY, LATENCY * 2]);
    let callers: Vec<String> = upstream.requests().into_iter().map(|call| call.caller).collect();
    assert_eq!(callers, ["first", "second", "third"]);
    assert!(is_empty(&layer.sequencer));
}

#[tokio::test(start_paused = true)]
async fn reads_creates_and_writes_to_other_leads_do_not_wait() {
    let (upstream, layer) = ordered();
    let start = Instant::now();
    let ctx = context(HOUR);
    let results = tokio::join!(
        call(&layer, &ctx, &update("7", "a")),
        call(&layer, &ctx, &update("8", "a")),
        call(&layer, &ctx, &get("7")),
        call(&layer, &ctx, &create("7")),
        call(&layer, &ctx, &create("7")),
    );
    assert!(results.0.is_ok() && results.4.is_ok());
    assert_eq!(sent(&upstream, start), [Duration::ZERO; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_the_writes_to_each_of_its_leads_and_later_writes_wait_for_it() {
    let (upstream, layer) = ordered();
    let start = Instant::now();
    let ctx = context(HOUR);
    let results = tokio::join!(
        call(&layer, &ctx, &update("1", "a")),
        async {
            sleep(LATENCY / 2).await;
            call(&layer, &ctx, &update("2", "a")).await
        },
        async {
            sleep(LATENCY / 2).await;
            call(&layer, &ctx, &batch_update(&["1", "2", "3"])).await
        },
        async {
            sleep(LATENCY).await;
            call(&layer, &ctx, &update("3", "a")).await
        },
    );
    assert!(results.2.is_ok() && results.3.is_ok());
    let half = LATENCY / 2;
    assert_eq!(sent(&upstream, start), [Duration::ZERO, half, half * 3, half * 5]);
    assert!(is_empty(&layer.sequencer));
}

#[test]
fn all_spellings_of_one_record_id_are_one_lead() {
    let seven = keys(&update("7", "a"));
    let archive = Request::Archive(lead_id("07"));
    for request in [update("007", "b"), batch_update(&["7"]), Arc::new(archive)] {
        assert_eq!(keys(&request), seven);
    }
    assert_eq!(keys(&Request::BatchArchive(vec![lead_id("7"), lead_id("07")])), seven);
    assert_eq!(keys(&upsert(None, "7")), seven);
    for other in ["70", "17", "8"] {
        assert_ne!(keys(&update(other, "a")), seven);
    }
    // A text that is not a number is not a record id, and HubSpot rejects it; its zeros stay.
    assert_ne!(keys(&update("007x", "a")), keys(&update("7x", "a")));
}

#[test]
fn unique_values_are_compared_without_regard_to_case_and_within_their_property() {
    let ann = keys(&update_by("email", "Ann"));
    assert_eq!(keys(&update_by("email", "aNN")), ann);
    assert_eq!(keys(&upsert(Some("email"), "ANN")), ann);
    assert_ne!(keys(&update_by("name", "Ann")), ann);
    assert_ne!(keys(&update_by("email", "Bob")), ann);
    // Zeros belong to a text.
    assert_ne!(keys(&update_by("phone", "007")), keys(&update_by("phone", "7")));
    assert_ne!(keys(&update_by("phone", "7")), keys(&update("7", "a")));
    assert_eq!(keys(&upsert(None, "7")), keys(&update("7", "a")));
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_makes_way_for_the_next() {
    let upstream = ScriptedUpstream::new(|call| {
        let result = if call.number == 0 { Err(unavailable()) } else { ordinary(&call.request) };
        Scripted::now(result)
    });
    let layer = WriteOrder::new(Arc::clone(&upstream), account(190, 100), 100);
    let ctx = context(HOUR);
    let request = update("7", "a");
    let (first, second) = tokio::join!(call(&layer, &ctx, &request), call(&layer, &ctx, &request));
    assert_eq!(first.unwrap_err(), unavailable());
    second.unwrap();
    assert!(is_empty(&layer.sequencer));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_write_leaves_its_queues_whether_it_waits_or_is_active() {
    let (upstream, layer) = ordered();
    let start = Instant::now();
    let ctx = context(HOUR);
    let mut active = call(&layer, &ctx, &update("1", "active"));
    assert!(poll!(active.as_mut()).is_pending());
    let mut waiting = call(&layer, &ctx, &batch_update(&["1", "2"]));
    assert!(poll!(waiting.as_mut()).is_pending());
    let mut next = call(&layer, &ctx, &update("2", "next"));
    assert!(poll!(next.as_mut()).is_pending());
    assert_eq!(upstream.count(), 1, "the batch waits for lead 1, and lead 2 for the batch");
    assert_eq!(layer.sequencer.stats.snapshot().waiting, 2);

    drop(waiting);
    assert_eq!(layer.sequencer.stats.snapshot().waiting, 0);
    assert!(poll!(next.as_mut()).is_pending());
    let mut last = call(&layer, &ctx, &update("1", "last"));
    assert!(poll!(last.as_mut()).is_pending());
    assert_eq!(upstream.count(), 2);

    drop(active);
    let (next, last) = tokio::join!(next, last);
    assert!(next.is_ok() && last.is_ok());
    assert_eq!(sent(&upstream, start), [Duration::ZERO; 3]);
    assert!(is_empty(&layer.sequencer));
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_predecessor_outlasts_its_deadline_is_never_sent() {
    let (upstream, layer) = ordered();
    let start = Instant::now();
    let (ctx, short) = (context(HOUR), context(LATENCY));
    let (first, late, third) = tokio::join!(
        call(&layer, &ctx, &update("7", "a")),
        async {
            let result = call(&layer, &short, &update("7", "b")).await;
            (result, start.elapsed())
        },
        call(&layer, &ctx, &update("7", "c")),
    );
    assert!(first.is_ok() && third.is_ok());
    let (result, elapsed) = late;
    let error = result.unwrap_err();
    assert_eq!((error.reason(), error.local_limit()), (Reason::DeadlineExceeded, None));
    // The margin of the permit's deadline leaves time for the response.
    assert_eq!(elapsed, LATENCY - Duration::from_millis(5));
    assert_eq!(sent(&upstream, start), [Duration::ZERO, LATENCY]);
    assert!(is_empty(&layer.sequencer));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_would_wait_is_rejected_if_the_quota_has_no_permit_before_its_deadline() {
    let upstream = ScriptedUpstream::new(|call| Scripted::after(LATENCY, ordinary(&call.request)));
    let account = account(10, 100);
    let layer = WriteOrder::new(Arc::clone(&upstream), Arc::clone(&account), 100);
    let ctx = context(HOUR);
    let short = context(LATENCY);
    // One in a second.
    let permit = account.acquire(BucketName::Burst, &ctx.requester, ctx.deadline).await.unwrap();
    let mut active = call(&layer, &ctx, &update("7", "a"));
    assert!(poll!(active.as_mut()).is_pending());
    let error = call(&layer, &short, &update("7", "b")).now_or_never().unwrap().unwrap_err();
    assert_eq!(
        (error.reason(), error.local_limit()),
        (Reason::RateLimited, Some(LocalLimit::Quota("burst")))
    );
    // A write that need not wait asks for its permit below.
    assert!(poll!(call(&layer, &short, &update("8", "b")).as_mut()).is_pending());
    let stats = layer.sequencer.stats.snapshot();
    assert_eq!((stats.waiting, stats.deadline, stats.queue_full), (0, 0, 0));
    drop((active, permit));
    assert!(is_empty(&layer.sequencer));
}

/// A planned write to some leads.
#[derive(Debug, Clone)]
struct Plan {
    leads: Vec<usize>,
    duration: u64,
    /// Time after which the caller cancels it.
    cancelled_after: Option<u64>,
    /// Time since the write before it.
    pause: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    let leads = prop_oneof![
        3 => proptest::collection::vec(0_usize..6, 1),
        1 => proptest::collection::vec(0_usize..6, 1..8),
    ];
    (leads, 1_u64..50, proptest::option::weighted(0.2, 0_u64..80), 0_u64..20).prop_map(
        |(leads, duration, cancelled_after, pause)| Plan {
            leads,
            duration,
            cancelled_after,
            pause,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn writes_with_a_lead_in_common_run_one_by_one_in_order_of_arrival(
        plans in proptest::collection::vec(plan(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(&plans));
    }
}

/// Makes the writes, and checks for each lead which write runs when.
async fn run(plans: &[Plan]) {
    let sequencer = sequencer(10_000);
    let active: Arc<[AtomicUsize; 6]> = Arc::default();
    let started: Arc<Mutex<Vec<usize>>> = Arc::default();
    let overlaps: Arc<AtomicUsize> = Arc::default();
    let mut tasks = Vec::new();
    for (number, plan) in plans.iter().cloned().enumerate() {
        sleep(Duration::from_millis(plan.pause)).await;
        let sequencer = Arc::clone(&sequencer);
        let (active, started) = (Arc::clone(&active), Arc::clone(&started));
        let overlaps = Arc::clone(&overlaps);
        let cancelled_after = plan.cancelled_after.map_or(HOUR, Duration::from_millis);
        let write = async move {
            let mut leads = plan.leads.clone();
            leads.sort_unstable();
            leads.dedup();
            let keys = keys_of(leads.iter().copied());
            let _guard = sequencer.acquire(&patient(), keys).await.unwrap();
            started.lock().push(number);
            let others = |lead: &usize| active[*lead].fetch_add(1, Ordering::Relaxed);
            // Asserted below: a panic of a task is only logged.
            if leads.iter().map(others).any(|others| others > 0) {
                overlaps.fetch_add(1, Ordering::Relaxed);
            }
            // A write that is cancelled while it is active ends as well.
            let end = EndOnDrop(active, leads);
            sleep(Duration::from_millis(plan.duration)).await;
            drop(end);
        };
        tasks.push(task::spawn("write", "", async move {
            let _ = tokio::time::timeout(cancelled_after, write).await;
        }));
        // It enters its queues before the next one arrives.
        tokio::task::yield_now().await;
    }
    sleep(HOUR / 2).await;
    assert_eq!(overlaps.load(Ordering::Relaxed), 0, "two writes to one lead at a time");
    let started = started.lock().clone();
    for lead in 0..6 {
        let is_about_lead = |number: &&usize| plans[**number].leads.contains(&lead);
        let numbers: Vec<usize> = started.iter().filter(is_about_lead).copied().collect();
        assert!(numbers.is_sorted(), "lead {lead}: {numbers:?}");
    }
    let is_patient = |number: &usize| plans[*number].cancelled_after.is_none();
    let mut patient = (0..plans.len()).filter(is_patient);
    assert!(patient.all(|number| started.contains(&number)), "all writes have run");
    assert!(is_empty(&sequencer));
}

struct EndOnDrop(Arc<[AtomicUsize; 6]>, Vec<usize>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        for lead in &self.1 {
            self.0[*lead].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_lead_may_use_a_tenth_of_the_queue_and_bulk_half_of_that() {
    let sequencer = sequencer(100);
    let start = Instant::now();
    let bulk = || sending(Priority::Bulk, HOUR);
    let active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let of_bulk = enqueue(&sequencer, bulk, 0, 5).await;
    retry_after(sequencer.acquire(&bulk(), key(0)).await);
    let others = enqueue(&sequencer, patient, 0, 5).await;
    retry_after(sequencer.acquire(&patient(), key(0)).await);
    // So is a batch that has this lead among others: its longest queue counts.
    let other = sequencer.acquire(&patient(), key(2)).await.unwrap();
    retry_after(sequencer.acquire(&patient(), keys_of(0..50)).await);
    drop(sequencer.acquire(&patient(), key(1)).await.expect("another lead is free"));
    let stats = sequencer.stats.snapshot();
    assert_eq!((stats.waiting, stats.queue_full, stats.deadline), (10, 3, 0));
    assert_eq!(start.elapsed(), Duration::ZERO, "rejections are immediate");
    drop((active, of_bulk, others, other));
    sleep(HOUR).await;
    assert!(is_empty(&sequencer));
}

#[tokio::test(start_paused = true)]
async fn the_writes_to_all_leads_are_bounded_together() {
    let sequencer = sequencer(20);
    let mut active = Vec::new();
    let mut waiting = Vec::new();
    for lead in 0..10 {
        active.push(sequencer.acquire(&patient(), key(lead)).await.unwrap());
        waiting.extend(enqueue(&sequencer, patient, lead, 2).await);
    }
    active.push(sequencer.acquire(&patient(), key(10)).await.expect("it need not wait"));
    retry_after(sequencer.acquire(&patient(), key(10)).await);
}

#[tokio::test(start_paused = true)]
async fn the_smallest_queue_still_holds_one_write_of_each_priority() {
    let sequencer = sequencer(1);
    let bulk = || sending(Priority::Bulk, HOUR);
    let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let _waiting = enqueue(&sequencer, bulk, 0, 1).await;
    assert_eq!(sequencer.stats.snapshot().waiting, 1);
    retry_after(sequencer.acquire(&patient(), key(0)).await);
}

#[tokio::test(start_paused = true)]
async fn the_pause_of_a_full_queue_is_the_time_that_the_writes_in_it_take() {
    // 200 ms are assumed for a write as long as none was measured.
    for (measured, pause) in [(None, 400), (Some(300), 600)] {
        let sequencer = sequencer(1);
        if let Some(measured) = measured {
            measure(&sequencer, Duration::from_millis(measured)).await;
        }
        let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
        let _waiting = enqueue(&sequencer, patient, 0, 1).await;
        let rejected = sequencer.acquire(&patient(), key(0)).await;
        assert_eq!(retry_after(rejected), Duration::from_millis(pause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_would_start_late_is_rejected_at_once() {
    let sequencer = sequencer(10_000);
    let latency = Duration::from_millis(200);
    for _ in 0..4 {
        measure(&sequencer, latency).await;
    }
    let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let _waiting = enqueue(&sequencer, patient, 0, 4).await;
    sleep(latency / 2).await;
    // Four and a half are before it.
    let start = Instant::now();
    let short = sending(Priority::Interactive, latency * 4);
    let pause = retry_after(sequencer.acquire(&short, key(0)).await);
    assert_eq!((pause, start.elapsed()), (latency * 9 / 2, Duration::ZERO));
    assert_eq!(sequencer.stats.snapshot().deadline, 1);
    // This one has time enough, but the active write hangs.
    let patient = sending(Priority::Interactive, latency * 5);
    let late = sequencer.acquire(&patient, key(0)).await.unwrap_err();
    assert_eq!(late.reason(), Reason::DeadlineExceeded);
    assert_eq!(start.elapsed(), latency * 5 - Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_would_start_just_in_time_is_queued() {
    let sequencer = sequencer(10_000);
    let latency = Duration::from_millis(200);
    let margin = Duration::from_millis(5);
    measure(&sequencer, latency).await;
    let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let late = sending(Priority::Interactive, latency + margin - Duration::from_millis(1));
    assert_eq!(retry_after(sequencer.acquire(&late, key(0)).await), latency);
    let punctual = sending(Priority::Interactive, latency + margin);
    assert!(poll!(sequencer.acquire(&punctual, key(0)).boxed()).is_pending());
}

#[tokio::test(start_paused = true)]
async fn an_active_write_that_takes_long_counts_as_about_to_complete() {
    let sequencer = sequencer(10_000);
    let latency = Duration::from_millis(200);
    measure(&sequencer, latency).await;
    let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let _waiting = enqueue(&sequencer, patient, 0, 4).await;
    sleep(latency * 50).await;
    let short = sending(Priority::Interactive, latency * 3);
    assert_eq!(retry_after(sequencer.acquire(&short, key(0)).await), latency * 4);
}

#[tokio::test(start_paused = true)]
async fn the_estimate_is_a_moving_average_but_never_more_than_the_latest_write() {
    let sequencer = sequencer(10_000);
    let estimate = async || {
        let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
        let short = sending(Priority::Interactive, Duration::from_millis(6));
        retry_after(sequencer.acquire(&short, key(0)).await)
    };
    measure(&sequencer, Duration::from_millis(800)).await;
    measure(&sequencer, Duration::from_millis(1_600)).await;
    // The writes of `estimate` take no time, and are observed after it.
    assert_eq!(estimate().await, Duration::from_millis(900));
    measure(&sequencer, Duration::from_millis(100)).await;
    assert_eq!(estimate().await, Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn one_write_that_hung_does_not_reject_later_ones() {
    let sequencer = sequencer(10_000);
    measure(&sequencer, Duration::from_mins(1)).await;
    measure(&sequencer, Duration::from_millis(20)).await;
    let active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let ctx = sending(Priority::Interactive, Duration::from_millis(100));
    let (next, ()) = tokio::join!(sequencer.acquire(&ctx, key(0)), async {
        sleep(Duration::from_millis(20)).await;
        drop(active);
    });
    next.expect("the write becomes active");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_sent_says_nothing_about_the_duration_of_writes() {
    let sequencer = sequencer(10_000);
    let unsent = context(HOUR);
    let guard = sequencer.acquire(&unsent, key(0)).await.unwrap();
    sleep(HOUR / 2).await;
    drop(guard);
    let _active = sequencer.acquire(&patient(), key(0)).await.unwrap();
    let short = sending(Priority::Interactive, Duration::from_millis(10));
    assert!(poll!(sequencer.acquire(&short, key(0)).boxed()).is_pending());
}
