//! Two clocks that disagree: the wall clock jumps, or the machine sleeps and the monotonic clock
//! stands still meanwhile.

use tokio::time::sleep;

use super::world::{LIFE, RECOVERY, World, at_once, expect_token, seconds, status, within};
use crate::testing::Fault;
use crate::{Settings, State};

const HOUR: i64 = 3_600;

#[tokio::test(start_paused = true)]
async fn a_jump_of_an_hour_ahead_costs_one_early_refresh_and_no_call() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(100)).await;
    world.clock.jump(HOUR);
    sleep(RECOVERY).await;
    assert_eq!(world.endpoint.calls(), 2, "the token may have expired while the machine slept");
    sleep(seconds(1_000)).await;
    assert_eq!(world.endpoint.calls(), 2, "once");
    sleep(seconds(3_600)).await;
    assert!(world.endpoint.calls() <= 6, "{}", world.endpoint.calls());
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_an_hour_back_changes_nothing() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(100)).await;
    world.clock.jump(-HOUR);
    sleep(seconds(1_000)).await;
    assert_eq!(world.endpoint.calls(), 1);
    sleep(seconds(600)).await;
    assert_eq!(world.endpoint.calls(), 2, "refreshed by the monotonic clock, as planned");
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_token_stays_in_use_after_a_jump_ahead_while_the_endpoint_is_unavailable() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.fail(Fault::Unavailable);
    world.clock.jump(HOUR);
    sleep(LIFE - seconds(5)).await;
    assert_eq!(status(&credentials).state, State::Stale);
    probe.assert_never_without();
    assert!(world.endpoint.calls() <= 1_800 / 7 + 10, "{}", world.endpoint.calls());
}

#[tokio::test(start_paused = true)]
async fn after_a_sleep_the_token_is_refreshed_by_wall_clock_time() {
    // Twenty-five minutes of sleep: past the plan, not past the expiry.
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(60)).await;
    world.clock.jump(25 * 60);
    sleep(RECOVERY).await;
    assert_eq!(expect_token(handle.token(at_once()).await).generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_swings_does_not_storm_the_endpoint() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    for swing in 0..600 {
        world.clock.jump(if swing % 2 == 0 { HOUR } else { -HOUR });
        sleep(seconds(1)).await;
    }
    // At worst once per reading of the clock, which is once per poll.
    assert!(world.endpoint.calls() <= 600 / 21 + 2, "{}", world.endpoint.calls());
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_portals_do_not_refresh_in_the_same_second_after_a_jump() {
    let world = World::new();
    let names: Vec<_> = (0..200).map(|n| format!("portal-{n}")).collect();
    for name in &names {
        world.store_oauth(&format!("hubspot/{name}"), name, "cs", &format!("rt-{name}"));
    }
    let portals: Vec<_> = names.iter().map(String::as_str).collect();
    let credentials = world.start_with(Settings::default(), &portals);
    sleep(seconds(600)).await;
    assert_eq!(world.endpoint.calls(), 200);
    world.clock.jump(HOUR);
    sleep(RECOVERY).await;
    assert_eq!(world.endpoint.calls(), 400);
    let times = world.endpoint.call_times();
    let first = times[200];
    let mut per_second = [0; 31];
    for time in &times[200..] {
        per_second[usize::try_from((*time - first).as_secs()).unwrap()] += 1;
    }
    let busiest = per_second.iter().max().unwrap();
    assert!(*busiest <= 40, "{per_second:?}");
    drop(credentials);
}

#[tokio::test(start_paused = true)]
async fn a_static_token_does_not_care_what_time_it_is() {
    let world = World::new();
    world.store.put(super::world::PATH, crate::testing::static_secret("pat"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let token = expect_token(handle.token(within(seconds(1))).await);
    for jump in [HOUR, -10 * HOUR, 10_000 * HOUR] {
        world.clock.jump(jump);
        sleep(RECOVERY).await;
        assert_eq!(expect_token(handle.token(at_once()).await), token);
        assert_eq!(status(&credentials).state, State::Fresh);
    }
    assert_eq!(world.endpoint.calls(), 0);
}
