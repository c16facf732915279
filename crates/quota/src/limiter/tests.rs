//! A bucket with its queue.

use tokio::sync::oneshot;

use super::*;

const MAX_QUEUE: QueueLimits = QueueLimits { max: 100, max_per_caller: 100 };
const SECOND: Duration = Duration::from_secs(1);

/// A limiter of one call in a second.
fn limiter() -> Limiter {
    let weights = BTreeMap::from([("heavy".to_owned(), 4)]);
    Limiter::new(BucketName::Search, Bucket::secondly(1), Arc::new(weights), 1_000)
}

fn requester(name: &str) -> Requester {
    Requester { caller: Caller::new(name), priority: Priority::Interactive }
}

fn single() -> Waiting {
    Waiting::Single(oneshot::channel().0)
}

/// A call that ends at once.
fn call(limiter: &mut Limiter, now: Instant) {
    let slot = limiter.try_take(&requester("a"), far(now), now).unwrap().expect("a free slot");
    limiter.bucket.mark_sent(slot, now);
    limiter.finish(slot, true, now);
}

fn far(now: Instant) -> Instant {
    now + SECOND * 60
}

fn enqueue(limiter: &mut Limiter, name: &str, now: Instant) -> Result<QueueKey, Rejected> {
    let deadline = far(now);
    let queued = limiter.enqueue(&requester(name), single(), deadline, MAX_QUEUE, now);
    queued.map(|(key, _)| key)
}

#[test]
fn a_slot_is_taken_only_if_it_is_free_and_nothing_is_queued() {
    let now = Instant::now();
    let mut limiter = limiter();
    let slot = limiter.try_take(&requester("a"), far(now), now).unwrap().expect("a free slot");
    assert_eq!(limiter.try_take(&requester("b"), far(now), now), Ok(None));
    limiter.bucket.release(slot, now);
    enqueue(&mut limiter, "a", now).expect("room");
    assert_eq!(limiter.try_take(&requester("b"), far(now), now), Ok(None), "another one was first");
    assert_eq!(limiter.counts.calls, 1);
}

#[test]
fn the_queue_is_served_when_the_bucket_opens() {
    let now = Instant::now();
    let mut limiter = limiter();
    assert!(matches!(limiter.next(now), Next::OnEvent));
    call(&mut limiter, now);
    enqueue(&mut limiter, "a", now).expect("room");
    enqueue(&mut limiter, "b", now).expect("room");
    assert!(matches!(limiter.next(now), Next::At(at) if at == now + SECOND));
    let later = now + SECOND * 2;
    let Next::Batch(slot, batch) = limiter.next(later) else { panic!("it is open") };
    assert_eq!((slot, batch.len(), limiter.queue.len()), (1, 1, 1));
    assert!(matches!(limiter.next(later), Next::At(_)), "one call in a second");
    let BucketCounters { calls, waits, .. } = limiter.counts;
    assert_eq!((calls, waits.count(), waits.sum()), (2, 1, SECOND * 2));
}

#[test]
fn a_request_that_would_be_late_is_rejected_with_its_wait() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    let deadline = now + SECOND;
    assert_eq!(limiter.check_deadline(deadline, now), Ok(()));
    let early = deadline - Duration::from_millis(1);
    let rejected = limiter.check_deadline(early, now).unwrap_err();
    let expected =
        Rejected { bucket: BucketName::Search, reason: Reason::Deadline, retry_after: SECOND };
    assert_eq!((rejected, limiter.counts.deadline), (expected, 1));
    let queued = limiter.enqueue(&requester("a"), single(), deadline, MAX_QUEUE, now);
    assert!(queued.is_ok(), "it is in time as the first one");
    let queued = limiter.enqueue(&requester("a"), single(), deadline, MAX_QUEUE, now);
    assert!(queued.unwrap_err().retry_after > SECOND);
    assert_eq!((limiter.counts.deadline, limiter.queue.len()), (2, 1));
}

#[test]
fn a_full_queue_rejects_the_caller_with_the_most_requests() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    let mut enqueue = |name| {
        let deadline = far(now);
        let limits = QueueLimits { max: 3, max_per_caller: 3 };
        limiter
            .enqueue(&requester(name), single(), deadline, limits, now)
            .map(|(_, removed)| removed)
    };
    for _ in 0..3 {
        assert!(enqueue("greedy").expect("room").is_none());
    }
    let rejected = enqueue("greedy").unwrap_err();
    assert_eq!((rejected.reason, rejected.bucket), (Reason::QueueFull, BucketName::Search));
    assert!(rejected.retry_after >= SECOND * 3, "{rejected:?}");
    let (_, removed) = enqueue("modest").expect("room is made").expect("a removed request");
    assert_eq!(removed.reason, Reason::QueueFull);
    assert_eq!(enqueue("modest").unwrap_err().reason, Reason::QueueFull, "two and one are fair");
    assert_eq!((limiter.counts.queue_full, limiter.queue.len()), (3, 3));
}

#[test]
fn one_address_has_one_share_of_the_queue_whatever_names_it_sends() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    let limits = QueueLimits { max: 10, max_per_caller: 5 };
    let mut enqueue = |name: &str, host: u8| {
        let caller = Caller::new(name).with_address([10, 0, 0, host].into());
        let requester = Requester { caller, priority: Priority::Interactive };
        let queued = limiter.enqueue(&requester, single(), far(now), limits, now);
        queued.map(|(_, removed)| removed.is_some()).map_err(|rejected| rejected.reason)
    };
    for number in 0..5 {
        assert_eq!(enqueue(&format!("name-{number}"), 1), Ok(false));
    }
    assert_eq!(enqueue("one more", 1), Err(Reason::QueueFull), "there is room for others");
    for _ in 0..5 {
        assert_eq!(enqueue("second", 2), Ok(false));
    }
    assert_eq!(enqueue("second", 2), Err(Reason::QueueFull));
    assert_eq!(enqueue("third", 2), Ok(true), "the names of an address give way to each other");
    // The queue is full: one of the longest is removed for each new account.
    for host in 3..6 {
        assert_eq!(enqueue("modest", host), Ok(true));
    }
    assert_eq!(limiter.queue.len(), 10);
}

#[test]
fn a_name_that_comes_from_several_addresses_is_one_caller_in_the_snapshot() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    for host in [1, 2, 2] {
        let caller = Caller::new("web").with_address([10, 0, 0, host].into());
        let requester = Requester { caller, priority: Priority::Interactive };
        limiter.enqueue(&requester, single(), far(now), MAX_QUEUE, now).expect("room");
    }
    let callers = limiter.snapshot(now).callers;
    let shown: Vec<_> =
        callers.iter().map(|caller| (caller.caller.as_str(), caller.waiting)).collect();
    assert_eq!(shown, [("a", 0), ("web", 3)]);
}

#[test]
fn an_expired_request_is_removed_and_counted() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    let first = enqueue(&mut limiter, "a", now).expect("room");
    enqueue(&mut limiter, "b", now).expect("room");
    let wait = limiter.expire_request(first, now).retry_after;
    assert!(wait > SECOND && wait < SECOND * 3, "{wait:?}: one is ahead");
    assert_eq!((limiter.queue.len(), limiter.counts.deadline), (1, 1));
}

#[test]
fn a_request_without_time_for_a_response_gets_no_slot() {
    let now = Instant::now();
    let mut limiter =
        Limiter::new(BucketName::Burst, Bucket::burst(100, SECOND * 10), Arc::default(), 1_000);
    let latency = Duration::from_millis(300);
    for _ in 0..10 {
        let slot = limiter.try_take(&requester("a"), far(now), now).unwrap().expect("a free slot");
        limiter.bucket.mark_sent(slot, now);
        limiter.finish(slot, true, now + latency);
    }
    let now = now + SECOND * 11 / 10;
    let early = now + latency - Duration::from_millis(1);
    let rejected = limiter.try_take(&requester("a"), early, now).unwrap_err();
    assert_eq!((rejected.reason, rejected.retry_after), (Reason::ShortDeadline, Duration::ZERO));
    assert_eq!(limiter.check_deadline(early, now).unwrap_err().reason, Reason::ShortDeadline);
    assert_eq!(limiter.check_deadline(now + latency, now), Ok(()));
    // One that waited until now is rejected as well.
    let queued = limiter.enqueue(&requester("a"), single(), now + latency, MAX_QUEUE, now);
    queued.expect("in time");
    let later = now + Duration::from_millis(1);
    assert!(
        matches!(limiter.next(later), Next::Late(_, late) if late.reason == Reason::ShortDeadline)
    );
    enqueue(&mut limiter, "b", later).expect("room");
    assert!(matches!(limiter.next(later), Next::Batch(..)));
    assert_eq!(limiter.counts.deadline, 3);
}

#[test]
fn a_snapshot_shows_callers_with_calls_and_with_queued_requests() {
    let now = Instant::now();
    let mut limiter = limiter();
    call(&mut limiter, now);
    for name in ["a", "heavy", "heavy"] {
        enqueue(&mut limiter, name, now).expect("room");
    }
    let snapshot = limiter.snapshot(now);
    let callers: Vec<_> = snapshot
        .callers
        .iter()
        .map(|caller| (caller.caller.as_str(), caller.weight, caller.used, caller.waiting))
        .collect();
    assert_eq!(callers, [("a", 1, 1.0, 1), ("heavy", 4, 0.0, 2)]);
    assert_eq!((snapshot.name, snapshot.size, snapshot.used), (BucketName::Search, Some(1), 1));
    assert_eq!((snapshot.waiting, snapshot.reset, snapshot.closed), (3, SECOND, Duration::ZERO));
    assert_eq!((snapshot.remaining(), snapshot.ledger), (Some(0), None));
    limiter.bucket.close(now + SECOND * 3, now);
    assert_eq!(limiter.snapshot(now).closed, SECOND * 3);
    let later = limiter.snapshot(now + SECOND * 3);
    assert_eq!((later.used, later.closed, later.reset), (0, Duration::ZERO, Duration::ZERO));
}
