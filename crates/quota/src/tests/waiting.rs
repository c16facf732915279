//! Queued requests: order, waiting times and rejections.

use super::*;
use crate::Reason;

/// Uses all calls of this second.
async fn use_up(account: &Arc<Account>) {
    while let Some(permit) =
        account.try_acquire(BucketName::Burst, &web(), soon()).expect("a free bucket")
    {
        Hub::default().call(permit, Duration::ZERO, Duration::ZERO, Observation::default()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_miss_its_deadline_is_rejected_at_once() {
    let account = account(settings(10));
    use_up(&account).await;
    let begin = Instant::now();
    let until = begin + Duration::from_millis(50);
    let rejected = account.acquire(BucketName::Burst, &web(), until).await.unwrap_err();
    assert_eq!((rejected.bucket, rejected.reason), (BucketName::Burst, Reason::Deadline));
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(
        (900..=1_100).contains(&rejected.retry_after.as_millis()),
        "{:?}",
        rejected.retry_after
    );
}

#[tokio::test(start_paused = true)]
async fn retry_after_counts_the_requests_ahead() {
    let account = account(settings(10));
    use_up(&account).await;
    let who_waits = web();
    let waiting = (0..5).map(|_| account.acquire(BucketName::Burst, &who_waits, soon()));
    let mut waiting = futures_util::future::join_all(waiting.map(Box::pin));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let late = Instant::now() + Duration::from_secs(5);
    let rejected = account.acquire(BucketName::Burst, &web(), late).await.unwrap_err();
    assert_eq!(rejected.retry_after.as_secs(), 6, "five are ahead");
    // A bulk request waits behind them.
    let bulk = requester("job", Priority::Bulk);
    let rejected = account.acquire(BucketName::Burst, &bulk, late).await.unwrap_err();
    // The rejection before it adds up to one second of jitter.
    assert!((6..=7).contains(&rejected.retry_after.as_secs()), "{:?}", rejected.retry_after);
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_rejected_together_come_back_spread_over_the_window() {
    let account = account(settings(190));
    use_up(&account).await;
    let until = Instant::now() + Duration::from_millis(200);
    let mut retries = Vec::new();
    for _ in 0..7_433 {
        let rejected = account.acquire(BucketName::Burst, &web(), until).await.unwrap_err();
        retries.push(rejected.retry_after.as_millis());
    }
    let first = retries.iter().min().copied().expect("rejections");
    assert!((900..1_100).contains(&first), "{first} ms");
    for half_second in 0..20 {
        let from = first + half_second * 500;
        let within = retries.iter().filter(|retry| (from..from + 500).contains(*retry)).count();
        assert!((250..=520).contains(&within), "{within} after {from} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn permits_are_not_spent_on_requests_without_time_for_a_response() {
    let account = account(settings(1_000));
    let (hub, way) = (Hub::default(), Duration::from_millis(100));
    for _ in 0..10 {
        let permit = account.acquire(BucketName::Burst, &web(), soon()).await.unwrap();
        hub.call(permit, way, way, Observation::default()).await;
    }
    let until = Instant::now() + way;
    let rejected = account.acquire(BucketName::Burst, &web(), until).await.unwrap_err();
    assert_eq!(rejected.reason, Reason::ShortDeadline);
    account.acquire(BucketName::Burst, &web(), until + way).await.expect("there is time");
    // HubSpot may have become faster: without a recent response it is asked.
    sleep(Duration::from_secs(1)).await;
    let until = Instant::now() + way;
    let permit = account.acquire(BucketName::Burst, &web(), until).await.expect("a permit");
    hub.call(permit, way / 4, way / 4, Observation::default()).await;
    let until = Instant::now() + way;
    account.acquire(BucketName::Burst, &web(), until).await.expect("HubSpot is faster");
}

#[tokio::test(start_paused = true)]
async fn a_batch_ahead_counts_as_one_permit() {
    let account = account(settings(10));
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    use_up(&account).await;
    let mut places = Vec::new();
    for _ in 0..150 {
        let (member, reply) = group.enter();
        let own: Arc<dyn Group> = Arc::clone(&group) as _;
        places.push((
            account.enqueue(BucketName::Burst, &web(), soon(), own, member).unwrap(),
            reply,
        ));
    }
    let late = Instant::now() + Duration::from_millis(500);
    let rejected = account.acquire(BucketName::Burst, &web(), late).await.unwrap_err();
    assert!((2..=3).contains(&rejected.retry_after.as_secs()), "{:?}", rejected.retry_after);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_rejects_the_caller_that_fills_it() {
    let account = account(Settings { max_queue: 10, ..settings(10) });
    use_up(&account).await;
    let greedy = requester("greedy", Priority::Interactive);
    let one = || async { account.acquire(BucketName::Burst, &greedy, soon()).await.map(drop) };
    let all = (0..10).map(|_| one());
    let mut all = futures_util::future::join_all(all.map(Box::pin));
    assert!(futures_util::poll!(&mut all).is_pending());
    let rejected = account.acquire(BucketName::Burst, &greedy, soon()).await.unwrap_err();
    assert_eq!(rejected.reason, Reason::QueueFull);
    let modest = requester("modest", Priority::Interactive);
    let modest = account.acquire(BucketName::Burst, &modest, soon());
    let modest = async { modest.await.map(drop) };
    let (modest, all) = tokio::join!(modest, all);
    modest.expect("room was made");
    let refused: Vec<_> = all.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].reason, Reason::QueueFull);
}

#[tokio::test(start_paused = true)]
async fn queued_members_are_dispatched_in_evenly_spaced_full_batches() {
    let account = account(settings(190));
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    use_up(&account).await;
    let begin = Instant::now();
    // Each of 500 callers makes one call after the other.
    let callers = (0..500).map(|_| async {
        let mut sizes = Vec::new();
        while begin.elapsed() < Duration::from_secs(10) {
            let (member, reply) = group.enter();
            let own: Arc<dyn Group> = Arc::clone(&group) as _;
            let _place = account.enqueue(BucketName::Burst, &web(), soon(), own, member).unwrap();
            sizes.push(reply.await.unwrap().unwrap().1);
        }
        sizes.len()
    });
    let leads: usize = futures_util::future::join_all(callers).await.into_iter().sum();
    // The first second was used before.
    assert!(leads >= 1_900 * 9 * 98 / 100, "{leads}");
    assert!(hub.most_within(Duration::from_secs(1)) <= 19);
}

#[tokio::test(start_paused = true)]
async fn a_bulk_caller_does_not_delay_an_interactive_one() {
    for bulk in [Priority::Bulk, Priority::Interactive] {
        let account = account(settings(50));
        use_up(&account).await;
        let job = requester("job", bulk);
        let crowd = (0..50).map(|_| async {
            loop {
                let permit = account.acquire(BucketName::Burst, &job, soon()).await.unwrap();
                Hub::default()
                    .call(permit, Duration::ZERO, Duration::ZERO, Observation::default())
                    .await;
            }
        });
        let mut longest = Duration::ZERO;
        let one = async {
            for _ in 0..100 {
                let since = Instant::now();
                let permit = account.acquire(BucketName::Burst, &web(), soon()).await.unwrap();
                longest = longest.max(since.elapsed());
                Hub::default()
                    .call(permit, Duration::ZERO, Duration::ZERO, Observation::default())
                    .await;
            }
        };
        tokio::select! {
            _ = futures_util::future::join_all(crowd) => {}
            () = one => {}
        }
        assert!(longest <= Duration::from_secs(2), "{bulk:?}: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_get_permits_in_proportion_to_weight_and_bulk_a_tenth() {
    let shares = BTreeMap::from([("triple".to_owned(), 3)]);
    let account = account(Settings { weights: shares, ..settings(100) });
    let crowd = |caller: &'static str, priority| {
        let account = Arc::clone(&account);
        async move {
            let who = requester(caller, priority);
            let done = std::cell::Cell::new(0_u32);
            let all = (0..30).map(|_| async {
                loop {
                    let until = soon();
                    let permit = account.acquire(BucketName::Burst, &who, until).await.unwrap();
                    let no_time = Duration::ZERO;
                    Hub::default().call(permit, no_time, no_time, Observation::default()).await;
                    done.set(done.get() + 1);
                }
            });
            let all = futures_util::future::join_all(all);
            let _ = tokio::time::timeout(Duration::from_secs(100), all).await;
            f64::from(done.get())
        }
    };
    let (single, triple, bulk) = tokio::join!(
        crowd("single", Priority::Interactive),
        crowd("triple", Priority::Interactive),
        crowd("job", Priority::Bulk),
    );
    let ratio = triple / single;
    assert!((2.7..=3.3).contains(&ratio), "{triple} by {single}");
    let part = bulk / (single + triple + bulk);
    assert!((0.08..=0.13).contains(&part), "{part}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_queue() {
    let account = account(settings(10));
    use_up(&account).await;
    let web = web();
    let first = account.acquire(BucketName::Burst, &web, soon());
    assert!(tokio::time::timeout(Duration::from_millis(100), first).await.is_err());
    assert_eq!(account.snapshot(Instant::now()).buckets[0].waiting, 0);
    let since = Instant::now();
    account.acquire(BucketName::Burst, &web, soon()).await.expect("a permit");
    assert!(since.elapsed() < Duration::from_secs(1));
}

/// Keeps single requests of one caller queued.
async fn alone(account: &Arc<Account>, caller: &str, calls: usize, until: Instant) {
    let who = requester(caller, Priority::Interactive);
    let all = (0..calls).map(|_| async {
        while Instant::now() < until {
            let permit = account.acquire(BucketName::Burst, &who, soon()).await.unwrap();
            Hub::default()
                .call(permit, Duration::ZERO, Duration::ZERO, Observation::default())
                .await;
        }
    });
    futures_util::future::join_all(all).await;
}

/// Queues a member for the caller.
fn member(
    account: &Arc<Account>,
    group: &Arc<TestGroup>,
    caller: &str,
) -> (crate::QueueEntry, oneshot::Receiver<Reply>) {
    let (member, reply) = group.enter();
    let own: Arc<dyn Group> = Arc::clone(group) as _;
    let who = requester(caller, Priority::Interactive);
    (account.enqueue(BucketName::Burst, &who, soon(), own, member).unwrap(), reply)
}

#[tokio::test(start_paused = true)]
async fn permits_are_divided_and_not_requests() {
    let account = account(settings(190));
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    use_up(&account).await;
    let begin = Instant::now();
    let many = async {
        let places: Vec<_> = (0..400).map(|_| member(&account, &group, "many")).collect();
        let replies = places.into_iter().map(|(place, reply)| async move {
            let _place = place;
            reply.await.unwrap().unwrap();
        });
        futures_util::future::join_all(replies).await;
        begin.elapsed()
    };
    let crowd = alone(&account, "crowd", 30, begin + Duration::from_secs(10));
    let (took, ()) = tokio::join!(many, crowd);
    // Four permits for the caller, and as many for the other callers in between.
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_batch_is_charged_a_whole_permit() {
    let account = account(settings(190));
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    let until = Instant::now() + Duration::from_secs(60);
    let few = async {
        let mut batches = 0;
        while Instant::now() < until {
            let places: Vec<_> = (0..5).map(|_| member(&account, &group, "few")).collect();
            for (_place, reply) in places {
                reply.await.unwrap().unwrap();
            }
            batches += 1;
        }
        batches
    };
    let (batches, ()) = tokio::join!(few, alone(&account, "crowd", 30, until));
    // It waits for each response, so that it gets every other permit at most.
    assert!((60 * 19 / 4..=60 * 19 / 2 + 19).contains(&batches), "{batches}");
}

#[tokio::test(start_paused = true)]
async fn cancelled_requests_are_not_charged() {
    let account = account(settings(190));
    use_up(&account).await;
    let until = Instant::now() + Duration::from_secs(30);
    let fickle = async {
        let who = requester("fickle", Priority::Interactive);
        for _ in 0..300 {
            let call = account.acquire(BucketName::Burst, &who, soon());
            let _ = futures_util::poll!(Box::pin(call));
        }
        let since = Instant::now();
        account.acquire(BucketName::Burst, &who, soon()).await.unwrap();
        since.elapsed()
    };
    let (waited, ()) = tokio::join!(fickle, alone(&account, "crowd", 30, until));
    assert!(waited <= Duration::from_secs(2), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_is_expected_to_be_dispatched_with_its_batch() {
    let account = account(settings(10));
    let hub = Arc::new(Hub::default());
    let group = TestGroup::new(&hub, 100);
    use_up(&account).await;
    let who_waits = requester("crowd", Priority::Interactive);
    let first = member(&account, &group, "many");
    let waiting = (0..50).map(|_| account.acquire(BucketName::Burst, &who_waits, soon()));
    let mut waiting = futures_util::future::join_all(waiting.map(Box::pin));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    // Its own position would be behind many of the crowd.
    let mut places = vec![first];
    let until = Instant::now() + Duration::from_secs(4);
    for _ in 0..99 {
        let (member, reply) = group.enter();
        let own: Arc<dyn Group> = Arc::clone(&group) as _;
        let who = requester("many", Priority::Interactive);
        let place = account.enqueue(BucketName::Burst, &who, until, own, member);
        places.push((place.expect("in time"), reply));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_progress_are_bounded_and_a_permit_that_ends_serves_the_next() {
    let account = account(Settings { max_concurrency: 3, ..settings(1_000) });
    let take = |bucket| account.try_acquire(bucket, &web(), soon()).expect("a free bucket");
    let (web, hub) = (web(), Hub::default());
    let first = take(BucketName::Burst).expect("a permit");
    Hub::default().call(first, Duration::ZERO, Duration::ZERO, Observation::default()).await;
    // In use from the permit on, sent or not; the limits of a portal are separate.
    let mut permits: Vec<Permit> = (0..3).map_while(|_| take(BucketName::Burst)).collect();
    permits[0].mark_sent(1);
    permits[1].mark_sent(1);
    assert!(take(BucketName::Burst).is_none());
    assert!(take(BucketName::Search).is_some());
    // A permit counts until it is released: unused, without a response, or with one.
    let observed = permits.remove(0);
    let ends: [Box<dyn FnOnce()>; 3] = [
        Box::new(|| observed.observe(Observation::default())),
        Box::new({
            let failed = permits.remove(0);
            || drop(failed)
        }),
        Box::new({
            let unused = permits.remove(0);
            || drop(unused)
        }),
    ];
    for end in ends {
        let mut next = Box::pin(account.acquire(BucketName::Burst, &web, soon()));
        assert!(futures_util::poll!(&mut next).is_pending());
        sleep(Duration::from_secs(60)).await;
        assert!(futures_util::poll!(&mut next).is_pending(), "no time opens it");
        end();
        permits.push(next.await.expect("a permit"));
    }
    assert!(take(BucketName::Burst).is_none());
    drop(permits);
    // Queued requests are batched, and a request is rejected at its deadline.
    let hold: Vec<Permit> = (0..3).map_while(|_| take(BucketName::Burst)).collect();
    let hub = Arc::new(hub);
    let group = TestGroup::new(&hub, 100);
    let mut replies = Vec::new();
    for _ in 0..100 {
        let (member, reply) = group.enter();
        let own: Arc<dyn Group> = Arc::clone(&group) as _;
        let place = account.enqueue(BucketName::Burst, &web, soon(), own, member);
        replies.push((place.expect("room in the queue"), reply));
    }
    let until = Instant::now() + Duration::from_millis(50);
    let late = account.acquire(BucketName::Burst, &web, until).await.unwrap_err();
    assert_eq!(late.reason, Reason::Deadline);
    drop(hold);
    for (_, reply) in replies {
        reply.await.expect("a result").expect("a permit");
    }
    assert_eq!(hub.most_within(Duration::from_secs(1)), 1, "one call for all");
}
