//! The queue without a bucket: its permit count, its memory and its cost.

use proptest::prelude::*;

use super::*;
use crate::{
    fair_shares::QueueKey,
    queue::{Popped, Queue},
    usage::Users,
    waiting::Waiting,
};

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
    let web = Caller::new("web");
    let before: Vec<_> = members.iter().map(|key| queue.permits_before(*key, &web, id)).collect();
    // Three batches of at most three; the single request is before the second and the third.
    assert_eq!(before, [0, 0, 0, 2, 2, 2, 3, 3]);
    // A full batch is before the single request.
    assert_eq!(queue.permits_before(single, &web, None), 1);
}

#[test]
fn every_tenth_permit_goes_to_bulk_before_a_later_interactive_request() {
    let mut queue = Queue::new(Arc::default());
    let web = Caller::new("web");
    let keys: Vec<QueueKey> = (0..20).map(|_| push(&mut queue, alone())).collect();
    assert_eq!(queue.permits_before(keys[18], &web, None), 18);
    let caller = Caller::new("bulk");
    let bulk = queue.shares().next_key(&caller, Priority::Bulk);
    queue.push(bulk, caller.clone(), alone(), [Instant::now(), soon()]);
    assert_eq!(queue.permits_before(keys[0], &web, None), 1);
    assert_eq!(queue.permits_before(keys[8], &web, None), 9);
    assert_eq!(queue.permits_before(keys[18], &web, None), 18 + 2 + 1);
    assert_eq!(queue.permits_before(bulk, &caller, None), 20);
}

/// Callers of the requests that the next permits serve.
fn serve(queue: &mut Queue, permits: usize) -> Vec<Caller> {
    let mut served = Vec::new();
    for _ in 0..permits {
        let Some(Popped::Batch(batch)) = queue.pop(Instant::now()) else { break };
        match batch.users {
            Users::Single(caller) => served.push(caller),
            Users::Batch(users) => {
                let each = users.into_iter();
                served.extend(each.flat_map(|(caller, n)| vec![caller; n as usize]));
            }
        }
    }
    served
}

fn at(name: &str, host: u8) -> Caller {
    Caller::new(name).with_address([10, 0, 0, host].into())
}

fn push_of(queue: &mut Queue, caller: &Caller, waiting: Waiting) -> QueueKey {
    let key = queue.shares().next_key(caller, Priority::Interactive);
    queue.push(key, caller.clone(), waiting, [Instant::now(), soon()]);
    key
}

fn queue_one(queue: &mut Queue, caller: &Caller, waiting: Waiting) {
    push_of(queue, caller, waiting);
}

#[test]
fn a_client_with_a_new_name_for_each_request_gets_the_share_of_one_address() {
    let victim = at("billing", 1);
    let of_victim = |served: &[Caller]| served.iter().filter(|caller| **caller == victim).count();
    // Alone, and as members of batches.
    for max_batch in [1, 10] {
        let group = TestGroup::new(&Arc::default(), max_batch);
        let waiting = || if max_batch == 1 { alone() } else { member(&group) };
        let mut queue = Queue::new(Arc::default());
        for number in 0..1_000 {
            push_of(&mut queue, &at(&format!("name-{number}"), 2), waiting());
        }
        let first = push_of(&mut queue, &victim, waiting());
        (0..99).for_each(|_| queue_one(&mut queue, &victim, waiting()));
        assert!(queue.permits_before(first, &victim, waiting().group_id()) <= 1);
        let permits = 160 / max_batch;
        let served = of_victim(&serve(&mut queue, permits));
        assert!((75..=85).contains(&served), "{served} of 160 with batches of {max_batch}");
        // New names do not begin ahead.
        for number in 0..1_000 {
            push_of(&mut queue, &at(&format!("new-{number}"), 2), waiting());
        }
        let more = of_victim(&serve(&mut queue, 20 / max_batch));
        assert!((8..=12).contains(&more), "{more} of 20 with batches of {max_batch}");
    }
}

#[test]
fn the_names_of_one_address_share_its_share() {
    let mut queue = Queue::new(Arc::default());
    let (long, short, other) = (at("long", 1), at("short", 1), at("other", 2));
    (0..100).for_each(|_| queue_one(&mut queue, &long, alone()));
    (0..100).for_each(|_| queue_one(&mut queue, &other, alone()));
    serve(&mut queue, 20);
    (0..20).for_each(|_| queue_one(&mut queue, &short, alone()));
    let served = serve(&mut queue, 40);
    let of = |caller: &Caller| served.iter().filter(|served| *served == caller).count();
    assert!((18..=22).contains(&of(&other)), "{}", of(&other));
    assert!((9..=11).contains(&of(&short)), "{}", of(&short));
}

#[test]
fn an_address_owes_what_forgotten_names_have_used() {
    let mut queue = Queue::new(Arc::default());
    let (greedy, modest) = (at("greedy", 1), at("modest", 2));
    (0..100).for_each(|_| queue_one(&mut queue, &greedy, alone()));
    serve(&mut queue, 100);
    for number in 0..20_000 {
        queue.serve_now(&at(&number.to_string(), 1), Priority::Interactive);
    }
    push_of(&mut queue, &at("one more", 1), alone());
    push_of(&mut queue, &modest, alone());
    assert_eq!(serve(&mut queue, 1), [modest]);
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
