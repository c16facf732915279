//! Outages of the store and of the token endpoint, in every way they can be out. Each story asserts
//! that no call failed while a good token existed, that all is well 30 s after the outage, and that
//! the calls made meanwhile are bounded.

use tokio::time::sleep;

use super::{
    doubles::{Fault, Op, oauth_secret, static_secret},
    world::{LIFE, PATH, RECOVERY, World, expect_token, seconds, status, text, within},
};
use crate::{FailureClass, State};

const TWO_HOURS: u64 = 2 * 3_600;

fn store_faults() -> Vec<(Fault, FailureClass)> {
    vec![
        (Fault::Down, FailureClass::StoreUnavailable),
        (Fault::Hang, FailureClass::StoreUnavailable),
        (Fault::Login, FailureClass::LoginRejected),
        (Fault::Panic, FailureClass::StoreUnavailable),
    ]
}

fn endpoint_faults() -> Vec<(Fault, FailureClass)> {
    vec![
        (Fault::Down, FailureClass::TokenUnavailable),
        (Fault::Hang, FailureClass::TokenUnavailable),
        (Fault::Panic, FailureClass::TokenUnavailable),
        (Fault::Throttle(None), FailureClass::TokenThrottled),
        (Fault::Throttle(Some(seconds(5))), FailureClass::TokenThrottled),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_two_hours_is_not_noticed_by_oauth_callers() {
    for (fault, trouble) in store_faults() {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        let before = (world.kv.calls(), world.hub.calls());
        world.kv.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        assert_eq!(status(&credentials).failure, Some(trouble), "{fault:?}");
        world.kv.heal();
        sleep(RECOVERY).await;

        let seen = probe.assert_never_without();
        assert!(seen.generations.len() >= 5, "refreshed all the while: {:?}", seen.generations);
        let status = status(&credentials);
        assert_eq!((status.state, status.failure), (State::Fresh, None), "{fault:?}");
        assert_eq!(status.last_failure, Some(trouble));
        let (kv, hub) = (world.kv.calls() - before.0, world.hub.calls() - before.1);
        assert!(kv <= 360, "{fault:?}: {kv} calls to the store");
        assert!(hub <= 7, "{fault:?}: {hub} calls to the token endpoint");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_at_start_is_waited_for() {
    for (fault, trouble) in store_faults() {
        let world = World::oauth();
        world.kv.fail(fault.clone());
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        let probe = world.probe(&handle);

        sleep(seconds(TWO_HOURS)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Failed, Some(trouble)), "{fault:?}");
        let calls = world.kv.calls();
        assert!(calls <= 1_500, "{fault:?}: {calls} calls to the store");
        world.kv.heal();
        expect_token(handle.token(within(RECOVERY)).await);
        probe.assert_served();
        assert_eq!(world.hub.calls(), 1);
        assert_eq!(status(&credentials).state, State::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn a_static_token_outlives_the_store_and_its_successor_is_found_after() {
    for (fault, _) in store_faults() {
        let world = World::new();
        world.kv.put(PATH, static_secret("old"));
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        world.kv.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        world.kv.put(PATH, static_secret("new"));
        world.kv.heal();
        sleep(RECOVERY).await;
        let token = expect_token(handle.token(within(seconds(0))).await);
        assert_eq!(text(&token), "new", "{fault:?}");
        probe.assert_never_without();
        assert!(world.kv.calls() <= 365, "{fault:?}: {} calls", world.kv.calls());
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

        world.hub.fail(fault.clone());
        sleep(LIFE - seconds(60)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Stale, Some(trouble)), "{fault:?}");
        assert!(now.usable);
        world.hub.heal();
        sleep(RECOVERY).await;

        let seen = probe.assert_never_without();
        assert_eq!(seen.generations, [1, 2], "{fault:?}");
        assert_eq!(status(&credentials).state, State::Fresh);
        // At most 600 s of trying, 7.5 s apart once the backoff has grown.
        assert!(world.hub.calls() <= 85, "{fault:?}: {} calls", world.hub.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_is_away_for_two_hours_is_back_in_use_within_half_a_minute() {
    for (fault, trouble) in endpoint_faults() {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);

        world.hub.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Failed, Some(trouble)), "{fault:?}");
        assert_eq!((now.usable, now.expires_in), (false, Some(seconds(0))));
        let calls = world.hub.calls();
        assert!(calls <= 1_400, "{fault:?}: {calls} calls to the token endpoint");
        let polls = world.kv.calls();
        assert!(polls <= 360, "{fault:?}: {polls} calls to the store");
        world.hub.heal();
        expect_token(handle.token(within(RECOVERY)).await);

        let seen = probe.assert_served();
        let first = seen.without.first().expect("the token expired");
        assert!(*first >= LIFE - seconds(1), "served until its expiry, not only {first:?}");
        assert_eq!(status(&credentials).state, State::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn both_away_at_once_and_back_at_once() {
    for fault in [Fault::Down, Fault::Hang, Fault::Panic] {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);
        world.hub.fail(fault.clone());
        world.kv.fail(fault.clone());
        sleep(seconds(TWO_HOURS)).await;
        world.hub.heal();
        world.kv.heal();
        expect_token(handle.token(within(RECOVERY)).await);
        probe.assert_served();
        assert!(world.hub.calls() <= 1_400, "{fault:?}: {}", world.hub.calls());
        assert!(world.kv.calls() <= 360, "{fault:?}: {}", world.kv.calls());
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_that_ends_while_an_attempt_hangs_is_over_within_half_a_minute() {
    // Whenever the outage ends relative to the attempts.
    for offset in 0..25 {
        let world = World::oauth();
        world.kv.fail(Fault::Hang);
        world.hub.fail(Fault::Hang);
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        sleep(seconds(300 + offset)).await;
        world.kv.heal();
        world.hub.heal();
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
        world.kv.fail(Fault::Refuse("permission denied"));
        sleep(seconds(700)).await;
        world.kv.heal();
        sleep(RECOVERY).await;
        assert_eq!(status(&credentials).state, State::Fresh);
    }
    probe.assert_never_without();
    assert!(world.kv.calls() <= 400, "{}", world.kv.calls());
}

#[tokio::test(start_paused = true)]
async fn a_secret_rotated_during_the_outage_of_the_store_is_used_after() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);

    world.kv.fail(Fault::Down);
    sleep(seconds(60)).await;
    world.hub.revoke("hush-rt-first");
    world.store_oauth(PATH, "app", "cs-2", "rt-second");
    sleep(seconds(1_000)).await;
    world.kv.heal();
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
    world.hub.fail(Fault::Throttle(Some(seconds(120))));
    sleep(LIFE - seconds(10)).await;
    let times = world.hub.call_times();
    for pair in times[1..].windows(2) {
        assert!(pair[1] - pair[0] >= seconds(120), "asked to wait for 120 s: {times:?}");
    }
    assert!(times.len() >= 3, "it keeps trying: {times:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_in_an_outage_back_off_and_stay_apart() {
    let world = World::new();
    world.kv.put(PATH, oauth_secret("app", "cs-1", "rt-first"));
    world.hub.fail(Fault::Down);
    let _credentials = world.start();
    sleep(seconds(300)).await;
    let times = world.hub.call_times();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| *gap >= seconds(1)), "{gaps:?}");
    assert!(gaps[6..].iter().all(|gap| *gap >= seconds(5)), "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= seconds(10) + seconds(1)), "{gaps:?}");
    assert_eq!(world.kv.count(Op::Read), 1, "the secret is known");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_logged_when_it_begins_and_when_it_ends_not_at_every_attempt() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.hub.fail(Fault::Quote);
    world.kv.fail(Fault::Quote);
    sleep(seconds(TWO_HOURS)).await;
    world.hub.heal();
    world.kv.heal();
    sleep(RECOVERY).await;
    let logged = |text: &str| world.logs.count(&[text]);
    assert_eq!(logged("Access token not refreshed"), 1, "{}", world.logs.dump());
    assert_eq!(logged("Secret store gives no secret"), 1);
    assert_eq!(logged("Token endpoint answers again"), 1);
    assert_eq!(logged("Secret store answers again"), 1);
    assert_eq!(logged("[redacted]"), 2, "the doubles quote secrets in their errors");
}
