//! Deadlines of the callers of a batch, and retries within them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_request_whose_permit_would_come_too_late_is_rejected_at_once() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let start = Instant::now();
    let early = async {
        let result = fixture.call_in(&context(SECOND / 2), get("1")).await;
        (result, start.elapsed())
    };
    let ((rejected, elapsed), first, second) =
        tokio::join!(early, fixture.call(get("2")), fixture.call(get("3")));
    let error = rejected.unwrap_err();
    assert_eq!(error.reason(), Reason::RateLimited);
    assert_eq!(error.local_limit(), Some(LocalLimit::Quota("burst")));
    assert_eq!(elapsed, Duration::ZERO);
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gets_no_permit_is_rejected_just_before_its_deadline() {
    let fixture = Fixture::ordinary();
    let requester = context(MINUTE).requester;
    let held = fixture
        .account
        .try_acquire(BucketName::Burst, &requester, Instant::now() + MINUTE)
        .unwrap();
    let start = Instant::now();
    let error = fixture.call_in(&context(2 * SECOND), get("1")).await.unwrap_err();
    assert_eq!(error.local_limit(), Some(LocalLimit::Quota("burst")));
    assert!(start.elapsed() > SECOND && start.elapsed() < 2 * SECOND);
    assert_eq!(fixture.usage(), (1, 0), "the request leaves the queue");
    drop(held);
    sleep(2 * SECOND).await;
    assert_eq!((fixture.upstream.count(), fixture.usage()), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_lasts_until_the_latest_deadline_and_each_caller_pays_its_part() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let contexts = [10, 40, 20, 30].map(|seconds| {
        context_of(&format!("caller-{seconds}"), Priority::Interactive, seconds * SECOND)
    });
    let calls =
        contexts.iter().zip(gets(1..=4)).map(|(ctx, request)| fixture.call_in(ctx, request));
    assert_leads(join_all(calls).await, ["1", "2", "3", "4"]);
    assert_eq!(fixture.sent(), ["read 4"]);
    let sent = &fixture.upstream.requests()[0];
    assert_eq!(sent.deadline, contexts[1].deadline);
    assert!(contexts.iter().any(|ctx| ctx.requester.caller.as_str() == sent.caller));
    assert!(contexts.iter().all(|ctx| ctx.cost.millionths() == 250_000));
}

#[tokio::test(start_paused = true)]
async fn a_read_in_a_batch_ends_at_the_deadline_of_its_call() {
    let upstream =
        ScriptedUpstream::new(|sent| Scripted::after(10 * SECOND, ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, LARGE);
    fixture.use_permit();
    let start = Instant::now();
    let hasty = context(4 * SECOND);
    let (late, first, second) = tokio::join!(
        async { (fixture.call_in(&hasty, get("1")).await, start.elapsed()) },
        fixture.call(get("2")),
        fixture.call(get("3")),
    );
    let error = late.0.unwrap_err();
    assert_eq!((error.reason(), error.side_effect()), (Reason::DeadlineExceeded, SideEffect::None));
    assert_eq!(late.1, 4 * SECOND);
    assert_leads(vec![first, second], ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_an_earlier_deadline_gets_the_error_while_the_others_retry() {
    let failure = || unavailable().with_retry_after(5 * SECOND);
    let upstream = ScriptedUpstream::new(move |sent| match sent.number {
        0 => Scripted::now(Err(failure())),
        _ => Scripted::now(ordinary(&sent.request)),
    });
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
    let fixture = Fixture::over(retry, upstream, LARGE);
    fixture.use_permit();
    let start = Instant::now();
    let (hasty, patient) = (context(4 * SECOND), context(MINUTE));
    let (early, first, second) = tokio::join!(
        async { (fixture.call_in(&hasty, get("1")).await, start.elapsed()) },
        fixture.call_in(&patient, get("2")),
        fixture.call_in(&patient, get("3")),
    );
    let error = early.0.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert!(error.is_deadline_limited() && early.1 < 2 * SECOND, "the error comes at once");
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 3", "read 2"]);
    let requests = fixture.upstream.requests();
    assert!(requests[1].at - requests[0].at >= 5 * SECOND, "the stated pause is kept");
    let prior: Vec<_> = requests.iter().map(|sent| sent.prior_attempts).collect();
    assert_eq!(prior, [0, 1], "the attempts of the first request count");
    let permits: Vec<_> = requests.iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_sent_again_for_a_caller_that_received_the_error() {
    let upstream = ScriptedUpstream::new(|sent| match sent.number {
        0 => Scripted::now(Err(unavailable().with_retry_after(5 * SECOND))),
        _ => Scripted::now(ordinary(&sent.request)),
    });
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
    let fixture = Fixture::over(retry, upstream, LARGE);
    fixture.use_permit();
    let contexts = [4 * SECOND, MINUTE, MINUTE].map(context);
    let calls = contexts
        .iter()
        .zip(["1", "2", "3"])
        .map(|(ctx, id)| fixture.call_in(ctx, update(id, "Ada")));
    let mut results = join_all(calls).await;
    let error = results.remove(0).unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_leads(results, ["2", "3"]);
    assert_eq!(fixture.sent(), ["update 3 leads", "update 2 leads"]);
    let requests = fixture.upstream.requests();
    let Request::BatchUpdate(inputs) = &*requests[1].request else { unreachable!() };
    let ids: Vec<String> = inputs.iter().map(|traced| traced.input.id.to_string()).collect();
    assert_eq!(ids, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_during_the_backoff_is_not_sent_again() {
    for cancelled in [&[2][..], &[2, 3, 4]] {
        let upstream = ScriptedUpstream::new(|sent| match sent.number {
            0 => Scripted::now(Err(unavailable().with_retry_after(5 * SECOND))),
            _ => Scripted::now(ordinary(&sent.request)),
        });
        let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
        let fixture = Fixture::over(retry, upstream, LARGE);
        fixture.use_permit();
        // The first deadline allows no retry by the layer below, so that the batch is sent again.
        let calls = [1, 2, 3, 4].map(|number| {
            let ctx = context(if number == 1 { 4 * SECOND } else { MINUTE });
            let patience = if cancelled.contains(&number) { 3 * SECOND } else { MINUTE };
            let (fixture, request) = (&fixture, get(&number.to_string()));
            async move { timeout(patience, fixture.call_in(&ctx, request)).await }
        });
        let results = join_all(calls).await;
        let is_cancelled: Vec<bool> = results.iter().map(Result::is_err).collect();
        assert_eq!(is_cancelled, [1, 2, 3, 4].map(|number| cancelled.contains(&number)));
        sleep(MINUTE).await;
        let expected: &[&str] =
            if cancelled.len() == 1 { &["read 4", "read 2"] } else { &["read 4"] };
        assert_eq!(fixture.sent(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_limited_by_a_deadline_costs_no_further_request() {
    let fixture = Fixture::new(|_| Scripted::now(Err(unavailable())));
    let results = fixture.queued(["1", "2", "3"].map(get)).await;
    assert!(results.into_iter().map(lead_in).all(|result| result == Err(unavailable())));
    assert_eq!(fixture.sent(), ["read 3"]);
}
