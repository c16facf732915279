//! The first calls of an account, before HubSpot has responded to any.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Starts `callers` calls at once, of which the first response comes after `latency`, and returns how many
/// have reached HubSpot within `time`.
async fn calls_within(time: Duration, callers: usize, latency: Duration) -> usize {
    let (account, hub) = (account(settings(190)), Hub::default());
    let requester = web();
    let calls = (0..callers).map(|_| async {
        let permit = account.acquire(BucketName::Burst, &requester, soon()).await.unwrap();
        hub.call(permit, Duration::from_millis(1), latency, Observation::default()).await;
    });
    let calls = futures_util::future::join_all(calls);
    let _ = tokio::time::timeout(time, calls).await;
    assert!(hub.most_within(SECOND) <= 19);
    hub.calls()
}

#[tokio::test(start_paused = true)]
async fn the_configured_pace_holds_once_the_first_call_has_been_out_for_a_second() {
    let calls = calls_within(SECOND * 6, 1_000, SECOND * 8).await;
    assert!(calls >= 5 * 19 * 95 / 100, "{calls} calls in six seconds");
}

#[tokio::test(start_paused = true)]
async fn one_call_is_waited_for_while_its_response_can_come_soon() {
    let latency = SECOND / 2;
    assert_eq!(calls_within(latency, 1_000, latency).await, 1);
    let calls = calls_within(latency + SECOND, 1_000, latency).await;
    assert!((19..=20).contains(&calls), "{calls} calls");
}

/// Number of 40 concurrent calls with 300 ms that are rejected four seconds after a burst of faults, of
/// which one in `lost_in` has no response. HubSpot has announced its limit before if `announced` is set.
/// It responds after 400 ms, later than these calls can wait for one of them.
async fn rejected_after_faults(announced: Option<u64>, lost_in: u32) -> usize {
    let (account, hub) = (account(settings(100_000)), Hub::default());
    let requester = web();
    let millis = Duration::from_millis;
    if announced.is_some() {
        let permit = account.acquire(BucketName::Burst, &requester, soon()).await.unwrap();
        let limit = ObservedLimit { size: announced, remaining: announced, window: None };
        let observation = Observation { limit, ..Observation::default() };
        hub.call(permit, millis(1), millis(100), observation).await;
    }
    let faults = (0..100_u32).map(|number| {
        let (account, hub, requester) = (&account, &hub, &requester);
        async move {
            let deadline = Instant::now() + millis(300);
            let Ok(permit) = account.acquire(BucketName::Burst, requester, deadline).await else {
                return;
            };
            // The permit of a lost call is dropped without an observation.
            let call = hub.call(permit, millis(1), millis(100), Observation::default());
            let limit = if number.is_multiple_of(lost_in) { millis(50) } else { SECOND };
            let _ = tokio::time::timeout(limit, call).await;
        }
    });
    futures_util::future::join_all(faults).await;
    sleep(SECOND * 4).await;
    let calls = (0..40).map(|_| async {
        let deadline = Instant::now() + millis(300);
        let permit = account.acquire(BucketName::Burst, &requester, deadline).await?;
        hub.call(permit, millis(1), millis(400), Observation::default()).await;
        Ok::<_, Rejected>(())
    });
    let results = futures_util::future::join_all(calls).await;
    results.iter().filter(|result| result.is_err()).count()
}

#[tokio::test(start_paused = true)]
async fn no_call_is_rejected_after_faults_while_the_limit_is_far() {
    for announced in [Some(100_000), None] {
        for lost_in in [1, 2, 200] {
            let rejected = rejected_after_faults(announced, lost_in).await;
            assert_eq!(rejected, 0, "announced: {announced:?}, one in {lost_in} lost");
        }
    }
}
