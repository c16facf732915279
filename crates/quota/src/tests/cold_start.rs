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
