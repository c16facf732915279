//! Outages of the store and of the token endpoint, of every kind. Each test asserts that no call
//! failed while a valid token existed, that the service recovered within 30 s, and that the number
//! of calls is bounded.

use tokio::time::sleep;

use super::world::{LIFE, PATH, RECOVERY, World, expect_token, seconds, status, text, within};
use crate::testing::{Fault, StoreOperation, oauth_secret, static_secret};
use crate::{FailureClass, State};

const TWO_HOURS: u64 = 2 * 3_600;

fn store_faults() -> Vec<(Fault, FailureClass)> {
    vec![
        (Fault::Unavailable, FailureClass::StoreUnavailable),
        (Fault::Hang, FailureClass::StoreUnavailable),
        (Fault::RejectLogin, FailureClass::LoginRejected),
        (Fault::Panic, FailureClass::StoreUnavailable),
    ]
}

fn endpoint_faults() -> Vec<(Fault, FailureClass)> {
    vec![
        (Fault::Unavailable, FailureClass::TokenUnavailable),
        (Fault::Hang, FailureClass::TokenUnavailable),
        (Fault::Panic, FailureClass::TokenUnavailable),
        (Fault::Throttle(None), FailureClass::TokenThrottled),
        (Fault::Throttle(Some(seconds(5))), FailureClass::TokenThrottled),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_of_two_hours_does_not_affect_oauth_callers() {
    for (fault, trouble) in store_faults() {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        let before = (world.store.calls(), world.endpoint.calls());
        world.store.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        assert_eq!(status(&credentials).failure, Some(trouble), "{fault:?}");
        world.store.heal();
        sleep(RECOVERY).await;

        let seen = probe.assert_never_without();
        assert!(seen.generations.len() >= 5, "refreshed all the while: {:?}", seen.generations);
        let status = status(&credentials);
        assert_eq!((status.state, status.failure), (State::Fresh, None), "{fault:?}");
        assert_eq!(status.last_failure, Some(trouble));
        let (kv, hub) = (world.store.calls() - before.0, world.endpoint.calls() - before.1);
        assert!(kv <= 360, "{fault:?}: {kv} calls to the store");
        assert!(hub <= 7, "{fault:?}: {hub} calls to the token endpoint");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_at_start_delays_the_first_token() {
    for (fault, trouble) in store_faults() {
        let world = World::oauth();
        world.store.fail(fault.clone());
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        let probe = world.probe(&handle);

        sleep(seconds(TWO_HOURS)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Failed, Some(trouble)), "{fault:?}");
        let calls = world.store.calls();
        assert!(calls <= 1_500, "{fault:?}: {calls} calls to the store");
        world.store.heal();
        expect_token(handle.token(within(RECOVERY)).await);
        probe.assert_served();
        assert_eq!(world.endpoint.calls(), 1);
        assert_eq!(status(&credentials).state, State::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_token_outlives_the_store_and_its_successor_is_found_after() {
    for (fault, _) in store_faults() {
        let world = World::new();
        world.store.put(PATH, static_secret("old"));
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        world.store.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        world.store.put(PATH, static_secret("new"));
        world.store.heal();
        sleep(RECOVERY).await;
        let token = expect_token(handle.token(within(seconds(0))).await);
        assert_eq!(text(&token), "new", "{fault:?}");
        probe.assert_never_without();
        assert!(world.store.calls() <= 365, "{fault:?}: {} calls", world.store.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_token_endpoint_is_covered_by_the_old_token() {
    for (fault, trouble) in endpoint_faults() {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        world.endpoint.fail(fault.clone());
        sleep(LIFE - seconds(60)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Stale, Some(trouble)), "{fault:?}");
        assert!(now.usable);
        world.endpoint.heal();
        sleep(RECOVERY).await;

        let seen = probe.assert_never_without();
        assert_eq!(seen.generations, [1, 2], "{fault:?}");
        assert_eq!(status(&credentials).state, State::Fresh);
        // At most 600 s of trying, 7.5 s apart once the backoff has grown.
        assert!(world.endpoint.calls() <= 85, "{fault:?}: {} calls", world.endpoint.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_is_used_again_within_half_a_minute_of_a_two_hour_outage() {
    for (fault, trouble) in endpoint_faults() {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        world.endpoint.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Failed, Some(trouble)), "{fault:?}");
        assert_eq!((now.usable, now.expires_in), (false, Some(seconds(0))));
        let calls = world.endpoint.calls();
        assert!(calls <= 1_400, "{fault:?}: {calls} calls to the token endpoint");
        let polls = world.store.calls();
        assert!(polls <= 360, "{fault:?}: {polls} calls to the store");
        world.endpoint.heal();
        expect_token(handle.token(within(RECOVERY)).await);

        let seen = probe.assert_served();
        let first = seen.without.first().expect("the token expired");
        assert!(*first >= LIFE - seconds(1), "served until its expiry, not only {first:?}");
        assert_eq!(status(&credentials).state, State::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn simultaneous_outages_of_both_ports_are_survived() {
    for fault in [Fault::Unavailable, Fault::Hang, Fault::Panic] {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);
        world.endpoint.fail(fault.clone());
        world.store.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        world.endpoint.heal();
        world.store.heal();
        expect_token(handle.token(within(RECOVERY)).await);
        probe.assert_served();
        assert!(world.endpoint.calls() <= 1_400, "{fault:?}: {}", world.endpoint.calls());
        assert!(world.store.calls() <= 360, "{fault:?}: {}", world.store.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_while_an_attempt_hangs_is_over_within_half_a_minute() {
    // Whenever the outage ends relative to the attempts.
    for offset in 0..25 {
        let world = World::oauth();
        world.store.fail(Fault::Hang);
        world.endpoint.fail(Fault::Hang);
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        sleep(seconds(300 + offset)).await;
        world.store.heal();
        world.endpoint.heal();
        expect_token(handle.token(within(RECOVERY)).await);
        drop(credentials);
    }
}

#[tokio::test(start_paused = true)]
async fn a_restarted_store_that_forgot_our_session_denies_for_a_while() {
    // As after a restart with an empty token store, until the session has logged in again.
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    for _ in 0..5 {
        world.store.fail(Fault::Reject("permission denied"));
        sleep(seconds(700)).await;
        world.store.heal();
        sleep(RECOVERY).await;
        assert_eq!(status(&credentials).state, State::Fresh);
    }
    probe.assert_never_without();
    assert!(world.store.calls() <= 400, "{}", world.store.calls());
}

#[tokio::test(start_paused = true)]
async fn a_secret_rotated_during_the_outage_of_the_store_is_used_after() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);

    world.store.fail(Fault::Unavailable);
    sleep(seconds(60)).await;
    world.endpoint.revoke("hush-rt-first");
    world.store_oauth(PATH, "app", "cs-2", "rt-second");
    sleep(seconds(1_000)).await;
    world.store.heal();
    sleep(RECOVERY).await;

    probe.assert_never_without();
    let status = status(&credentials);
    assert_eq!((status.state, status.secret_version), (State::Fresh, Some(2)));
    assert!(status.generation >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_is_honoured_while_the_old_token_serves() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.fail(Fault::Throttle(Some(seconds(120))));
    sleep(LIFE - seconds(10)).await;
    let times = world.endpoint.call_times();
    for pair in times[1..].windows(2) {
        assert!(pair[1] - pair[0] >= seconds(120), "asked to wait for 120 s: {times:?}");
    }
    assert!(times.len() >= 3, "it keeps trying: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_in_an_outage_back_off_and_stay_apart() {
    let world = World::new();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-first"));
    world.endpoint.fail(Fault::Unavailable);
    let _credentials = world.start();
    sleep(seconds(300)).await;
    let times = world.endpoint.call_times();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= seconds(1)), "{gaps:?}");
    assert!(gaps[6..].iter().all(|gap| *gap >= seconds(5)), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= seconds(10) + seconds(1)), "{gaps:?}");
    assert_eq!(world.store.count(StoreOperation::Read), 1, "the secret is known");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_when_it_begins_and_when_it_ends_not_at_every_attempt() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.fail(Fault::QuoteSecrets);
    world.store.fail(Fault::QuoteSecrets);
    sleep(seconds(TWO_HOURS)).await;
    world.endpoint.heal();
    world.store.heal();
    sleep(RECOVERY).await;
    let logged = |text: &str| world.logs.count(&[text]);
    assert_eq!(logged("Failed to refresh access token"), 1, "{}", world.logs.dump());
    assert_eq!(logged("Failed to read the secret"), 1);
    assert_eq!(logged("Token endpoint recovered"), 1);
    assert_eq!(logged("Secret store recovered"), 1);
    assert_eq!(logged("[redacted]"), 2, "the doubles quote secrets in their errors");
}
