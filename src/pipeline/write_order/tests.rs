//! Turns with paused time.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use tokio::time::sleep;

use super::*;
use crate::{
    leads::{Claim, Guard, Patience, Prepaid},
    telemetry::trace_context::TraceContext,
};
use leadsd_base::{
    task,
    time::{SystemClock, Zone},
};
use leadsd_quota::{Caller, Requester, Settings};

fn order(most: usize) -> Arc<Order> {
    let settings = Settings {
        burst: 190,
        burst_window: Duration::from_secs(10),
        search_per_second: 5,
        daily: None,
        max_queue: most,
        weights: BTreeMap::new(),
        zones: BTreeMap::new(),
        zone: Zone::default(),
        ledger: None,
    };
    let quota = Arc::new(Quota::new(settings, Arc::new(SystemClock)));
    Arc::new(Order::new(quota, most))
}

fn call(priority: Priority, time: Duration) -> CallContext {
    let deadline = Instant::now() + time;
    let call = CallContext {
        portal: PortalName::parse("default").unwrap(),
        deadline,
        who: Requester { caller: Caller::new("test"), priority },
        request_id: "test".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        prepaid: Prepaid::default(),
        guard: Guard::default(),
        patience: Patience::new(deadline),
        made: 0,
        claim: Claim::default(),
    };
    // As if HubSpot were asked.
    call.cost.begin();
    call
}

const HOUR: Duration = Duration::from_secs(3_600);

fn patient() -> CallContext {
    call(Priority::Interactive, HOUR)
}

fn key(id: usize) -> Key {
    Key::new(&LeadId::parse(&(id + 1).to_string()).unwrap(), None)
}

fn is_empty(order: &Order) -> bool {
    order.portals.lock().values().all(|portal| {
        let leads = portal.leads.lock();
        let waiting = portal.turns.snapshot().waiting;
        leads.queues.is_empty() && leads.writes.is_empty() && leads.waiting + waiting == 0
    })
}

/// A write of these leads that takes so long, given up after so long; comes so long after the one
/// before it.
#[derive(Debug, Clone)]
struct Plan {
    leads: Vec<usize>,
    takes: u64,
    gives_up: Option<u64>,
    after: u64,
}

fn plan() -> impl Strategy<Value = Plan> {
    let leads = prop_oneof![
        3 => proptest::collection::vec(0_usize..6, 1),
        1 => proptest::collection::vec(0_usize..6, 1..8),
    ];
    (leads, 1_u64..50, proptest::option::weighted(0.2, 0_u64..80), 0_u64..20)
        .prop_map(|(leads, takes, gives_up, after)| Plan { leads, takes, gives_up, after })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn writes_with_a_lead_in_common_go_one_by_one_in_the_order_they_came(
        plans in proptest::collection::vec(plan(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(obey(&plans));
    }
}

/// Makes the writes, and checks for each lead who writes when.
async fn obey(plans: &[Plan]) {
    let order = order(10_000);
    let busy: Arc<[AtomicUsize; 6]> = Arc::default();
    let went: Arc<Mutex<Vec<usize>>> = Arc::default();
    let overlaps: Arc<AtomicUsize> = Arc::default();
    let mut tasks = Vec::new();
    for (number, plan) in plans.iter().cloned().enumerate() {
        sleep(Duration::from_millis(plan.after)).await;
        let (order, busy, went) = (Arc::clone(&order), Arc::clone(&busy), Arc::clone(&went));
        let overlaps = Arc::clone(&overlaps);
        let patience = plan.gives_up.map_or(HOUR, Duration::from_millis);
        let write = async move {
            let mut own: Vec<usize> = plan.leads.clone();
            own.sort_unstable();
            own.dedup();
            let _turn = order.turn(&patient(), plan.leads.iter().copied().map(key)).await.unwrap();
            went.lock().push(number);
            let taken = |lead: &usize| busy[*lead].fetch_add(1, Ordering::Relaxed);
            // Told below: a task that panics is only logged.
            if own.iter().map(taken).any(|others| others > 0) {
                overlaps.fetch_add(1, Ordering::Relaxed);
            }
            // Whoever gives up while it writes is through as well.
            let through = Through(busy, own);
            sleep(Duration::from_millis(plan.takes)).await;
            drop(through);
        };
        tasks.push(task::spawn("write", "", async move {
            let _ = tokio::time::timeout(patience, write).await;
        }));
        // It stands in its queues before the next one comes.
        tokio::task::yield_now().await;
    }
    sleep(HOUR / 2).await;
    assert_eq!(overlaps.load(Ordering::Relaxed), 0, "two at once");
    let went = went.lock().clone();
    for lead in 0..6 {
        let of_lead = |number: &&usize| plans[**number].leads.contains(&lead);
        let numbers: Vec<usize> = went.iter().filter(of_lead).copied().collect();
        assert!(numbers.is_sorted(), "lead {lead}: {numbers:?}");
    }
    let patient = |number: &usize| plans[*number].gives_up.is_none();
    assert!((0..plans.len()).filter(patient).all(|number| went.contains(&number)), "all have gone");
    assert!(is_empty(&order));
}

struct Through(Arc<[AtomicUsize; 6]>, Vec<usize>);

impl Drop for Through {
    fn drop(&mut self) {
        for lead in &self.1 {
            self.0[*lead].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Writes to the lead that wait in tasks of their own, until they are dropped.
async fn wait(
    order: &Arc<Order>,
    call: impl Fn() -> CallContext,
    lead: usize,
    writes: usize,
) -> Vec<task::Task> {
    let mut waiting = Vec::new();
    for _ in 0..writes {
        let (order, call) = (Arc::clone(order), call());
        waiting.push(task::spawn("write", "", async move {
            let turn = order.turn(&call, [key(lead)]).await.unwrap();
            sleep(HOUR).await;
            drop(turn);
        }));
        tokio::task::yield_now().await;
    }
    waiting
}

fn refused(answer: Result<Turn, Error>) -> Duration {
    let error = answer.unwrap_err();
    assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some("lead")));
    error.retry_after().expect("it says when")
}

#[tokio::test(start_paused = true)]
async fn one_lead_takes_a_tenth_of_the_room_and_bulk_half_of_that() {
    let order = order(100);
    let since = Instant::now();
    let bulk = || call(Priority::Bulk, HOUR);
    let going = order.turn(&patient(), [key(0)]).await.unwrap();
    let of_bulk = wait(&order, bulk, 0, 5).await;
    refused(order.turn(&bulk(), [key(0)]).await);
    let others = wait(&order, patient, 0, 5).await;
    refused(order.turn(&patient(), [key(0)]).await);
    // A batch that has this lead among others, too.
    refused(order.turn(&patient(), (0..50).map(key)).await);
    drop(order.turn(&patient(), [key(1)]).await.expect("another lead"));
    let view = order.of(&patient().portal).turns.snapshot();
    assert_eq!((view.waiting, view.queue_full, view.deadline), (10, 3, 0));
    assert_eq!(since.elapsed(), Duration::ZERO, "nobody has waited");
    drop((going, of_bulk, others));
    sleep(HOUR).await;
    assert!(is_empty(&order));
}

#[tokio::test(start_paused = true)]
async fn all_leads_together_take_no_more_than_all_of_it() {
    let order = order(20);
    let mut going = Vec::new();
    let mut waiting = Vec::new();
    for lead in 0..10 {
        going.push(order.turn(&patient(), [key(lead)]).await.unwrap());
        waiting.extend(wait(&order, patient, lead, 2).await);
    }
    going.push(order.turn(&patient(), [key(10)]).await.expect("it need not wait"));
    refused(order.turn(&patient(), [key(10)]).await);
}

#[tokio::test(start_paused = true)]
async fn who_would_be_late_is_told_at_once_and_who_would_not_waits() {
    let order = order(10_000);
    let takes = Duration::from_millis(200);
    for _ in 0..4 {
        let turn = order.turn(&patient(), [key(0)]).await.unwrap();
        sleep(takes).await;
        drop(turn);
    }
    let _going = order.turn(&patient(), [key(0)]).await.unwrap();
    let _waiting = wait(&order, patient, 0, 4).await;
    sleep(takes / 2).await;
    // Four and a half are before it.
    let since = Instant::now();
    let wait = refused(order.turn(&call(Priority::Interactive, takes * 4), [key(0)]).await);
    assert_eq!((wait, since.elapsed()), (takes * 9 / 2, Duration::ZERO));
    let late = order.turn(&call(Priority::Interactive, takes * 5), [key(0)]).await.unwrap_err();
    assert_eq!(
        late.reason(),
        Reason::DeadlineExceeded,
        "the one before it takes longer than known"
    );
    assert!(since.elapsed() <= takes * 5);
}

#[tokio::test(start_paused = true)]
async fn one_write_that_hung_is_no_reason_to_refuse_others() {
    let order = order(10_000);
    for takes in [60_000, 20] {
        let turn = order.turn(&patient(), [key(0)]).await.unwrap();
        sleep(Duration::from_millis(takes)).await;
        drop(turn);
    }
    let going = order.turn(&patient(), [key(0)]).await.unwrap();
    let next = call(Priority::Interactive, Duration::from_millis(100));
    let next = order.turn(&next, [key(0)]);
    let (next, ()) = tokio::join!(next, async {
        sleep(Duration::from_millis(20)).await;
        drop(going);
    });
    next.expect("its turn");
}
