//! The queue without a bucket: its permit count, its memory and its cost.

use proptest::prelude::*;

use super::*;
use crate::{fair_shares::QueueKey, queue::Queue, waiting::Waiting};

/// One operation on a queue.
#[derive(Debug, Clone)]
enum Step {
    Alone,
    /// A member of the group with this index.
    Member(usize),
    /// A queued request is cancelled.
    Leaves(prop::sample::Index),
    Pop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Alone),
        6 => (0..MOST.len()).prop_map(Step::Member),
        2 => any::<prop::sample::Index>().prop_map(Step::Leaves),
        1 => Just(Step::Pop),
    ]
}

/// Maximum batch size of each group.
const MOST: [usize; 4] = [1, 2, 3, 100];

fn push(queue: &mut Queue, waiting: Waiting) -> QueueKey {
    let caller = Caller::new("web");
    let key = queue.shares().next_key(&caller, Priority::Interactive);
    queue.push(key, caller, waiting, [Instant::now(), soon()]);
    key
}

fn alone() -> Waiting {
    Waiting::Single(oneshot::channel().0)
}

fn member(group: &Arc<TestGroup>) -> Waiting {
    Waiting::Member(Arc::clone(group) as _, 0)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn the_permit_count_matches_the_queue(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let groups = MOST.map(|most| TestGroup::new(&Arc::default(), most));
        let mut queue = Queue::new(Arc::default());
        // Queued requests, each with its group.
        let mut waiting: Vec<(QueueKey, Option<usize>)> = Vec::new();
        for step in steps {
            match step {
                Step::Alone => waiting.push((push(&mut queue, alone()), None)),
                Step::Member(group) => {
                    waiting.push((push(&mut queue, member(&groups[group])), Some(group)));
                }
                Step::Leaves(index) if !waiting.is_empty() => {
                    let (key, _) = waiting.remove(index.index(waiting.len()));
                    prop_assert!(queue.cancel(key).is_some());
                }
                Step::Leaves(_) => {}
                Step::Pop => drop(queue.pop(Instant::now())),
            }
            // Dispatched requests are not queued.
            waiting.retain(|(key, _)| queue.contains(*key));
            let of = |group| waiting.iter().filter(|(_, own)| *own == group).count();
            let batches = (0..MOST.len()).map(|group| of(Some(group)).div_ceil(MOST[group]));
            prop_assert_eq!(queue.permits(), of(None) + batches.sum::<usize>());
        }
        queue.drain();
        prop_assert_eq!(queue.permits(), 0);
    }
}

#[test]
fn a_new_caller_name_for_each_request_takes_bounded_memory() {
    for waits in [false, true] {
        let mut queue = Queue::new(Arc::default());
        let steady = Caller::new("steady");
        let key = queue.shares().next_key(&steady, Priority::Interactive);
        queue.push(key, steady.clone(), alone(), [Instant::now(), soon()]);
        for number in 0..100_000 {
            let caller = Caller::new(&format!("caller-{number}"));
            if waits {
                // It is cancelled.
                let key = queue.shares().next_key(&caller, Priority::Interactive);
                queue.push(key, caller, alone(), [Instant::now(), soon()]);
                queue.cancel(key);
            } else {
                queue.serve_now(&caller, Priority::Interactive);
            }
            assert!(
                queue.shares().remembered() <= 12_000,
                "{} callers",
                queue.shares().remembered()
            );
        }
        assert_eq!(queue.shares().queued(&steady), 1);
    }
}

#[test]
fn a_caller_that_is_ahead_is_remembered_beside_many_others() {
    let mut queue = Queue::new(Arc::default());
    let (greedy, modest) = (Caller::new("greedy"), Caller::new("modest"));
    for _ in 0..100 {
        queue.serve_now(&greedy, Priority::Interactive);
    }
    let before = queue.shares().next_key(&greedy, Priority::Interactive);
    for number in 0..5_000 {
        queue.serve_now(&Caller::new(&format!("caller-{number}")), Priority::Interactive);
    }
    assert!(queue.shares().next_key(&greedy, Priority::Interactive) >= before);
    assert!(
        queue.shares().next_key(&modest, Priority::Interactive)
            < queue.shares().next_key(&greedy, Priority::Interactive)
    );
}

#[test]
fn a_member_waits_for_the_batches_before_its_own_and_for_what_is_queued_before_their_first() {
    let group = TestGroup::new(&Arc::default(), 3);
    let mut queue = Queue::new(Arc::default());
    let id = member(&group).group_id();
    let mut members: Vec<QueueKey> = (0..3).map(|_| push(&mut queue, member(&group))).collect();
    let single = push(&mut queue, alone());
    members.extend((0..5).map(|_| push(&mut queue, member(&group))));
    let before: Vec<_> = members.iter().map(|key| queue.permits_before(*key, id)).collect();
    // Three batches of at most three; the single request is before the second and the third.
    assert_eq!(before, [0, 0, 0, 2, 2, 2, 3, 3]);
    // A full batch is before the single request.
    assert_eq!(queue.permits_before(single, None), 1);
}

#[test]
fn every_tenth_permit_goes_to_bulk_before_a_later_interactive_request() {
    let mut queue = Queue::new(Arc::default());
    let keys: Vec<QueueKey> = (0..20).map(|_| push(&mut queue, alone())).collect();
    assert_eq!(queue.permits_before(keys[18], None), 18);
    let caller = Caller::new("bulk");
    let bulk = queue.shares().next_key(&caller, Priority::Bulk);
    queue.push(bulk, caller, alone(), [Instant::now(), soon()]);
    assert_eq!(queue.permits_before(keys[0], None), 1);
    assert_eq!(queue.permits_before(keys[8], None), 9);
    assert_eq!(queue.permits_before(keys[18], None), 18 + 2 + 1);
    assert_eq!(queue.permits_before(bulk, None), 20);
}

/// Processor time of this thread: the load of the machine does not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it only grows")
}

/// CPU time of enqueuing this many calls, each in a separate group, and of a snapshot.
async fn enqueue_groups(calls: usize) -> Duration {
    let account = account(Settings { max_queue: calls, ..settings(10) });
    while let Some(mut permit) =
        account.try_acquire(BucketName::Burst, &web(), soon()).expect("open")
    {
        permit.mark_sent(1);
    }
    let groups: Vec<_> = (0..calls).map(|_| TestGroup::new(&Arc::default(), 100)).collect();
    let until = Instant::now() + Duration::from_secs(86_400);
    let since = processor_time();
    let places: Vec<_> = groups
        .iter()
        .map(|group| {
            let own: Arc<dyn Group> = Arc::clone(group) as _;
            account.enqueue(BucketName::Burst, &web(), until, own, 0).expect("there is room")
        })
        .collect();
    assert_eq!(account.snapshot(Instant::now()).buckets[0].waiting, calls);
    let took = processor_time().saturating_sub(since);
    drop(places);
    took
}

#[tokio::test]
async fn the_time_to_queue_grows_linearly_with_the_number_of_groups() {
    // Interrupts and cold caches only make it longer.
    let mut few = Duration::MAX;
    let mut many = Duration::MAX;
    for _ in 0..5 {
        few = few.min(enqueue_groups(500).await);
        many = many.min(enqueue_groups(10_000).await);
    }
    // Four hundred times, if each looked at all others.
    assert!(many < few * 150, "{few:?} and {many:?}");
}
