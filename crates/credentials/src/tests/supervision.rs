//! Panics: in a port, in the loop itself, once or again and again. A portal never ends by one, and
//! what it had in memory outlives it.

use tokio::time::sleep;

use super::{
    doubles::{Fault, Op, Rotation, static_secret},
    world::{LIFE, PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within},
};
use crate::State;

#[tokio::test(start_paused = true)]
async fn a_port_that_panics_costs_one_attempt_and_is_counted() {
    let world = World::oauth();
    world.kv.fail(Fault::Panic);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(5)).await;
    let panics = status(&credentials).counters.panics;
    assert!((1..=5).contains(&panics), "{panics}");
    world.kv.heal();
    world.hub.fail(Fault::Panic);
    sleep(RECOVERY).await;
    let more = status(&credentials).counters.panics;
    assert!(more > panics);
    world.hub.heal();
    expect_token(handle.token(within(RECOVERY)).await);
    assert_eq!(status(&credentials).state, State::Fresh);
    assert_eq!(credentials.counters().panics, status(&credentials).counters.panics);
    assert!(world.logs.count(&["ERROR", "Call panicked", "secret store"]) >= 1);
    assert!(world.logs.count(&["ERROR", "Call panicked", "token endpoint"]) >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_is_restarted_and_its_token_serves_meanwhile() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let token = expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.clock.panic(3);
    sleep(seconds(60)).await;
    assert_eq!(handle.token(at_once()).await, Ok(token), "the same one, without a new grant");
    assert_eq!(world.hub.calls(), 1);
    assert_eq!(status(&credentials).counters.panics, 3);
    assert_eq!(world.logs.count(&["Credential task ended; starting it again"]), 3);

    sleep(LIFE * 4).await;
    probe.assert_never_without();
    assert!(world.hub.calls() >= 4, "it works on");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_panics_for_ever_neither_spins_nor_ends() {
    let world = World::new();
    world.kv.put(PATH, static_secret("pat"));
    world.clock.panic(u32::MAX);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(3_600)).await;
    let panics = status(&credentials).counters.panics;
    assert!((3_600 / 20..=3_600 / 20 + 10).contains(&panics), "{panics} in an hour");
    world.clock.panic(0);
    expect_token(handle.token(within(RECOVERY)).await);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_outlives_a_panic() {
    let world = World::oauth();
    world.hub.rotate(Rotation::Strict);
    world.kv.fail_op(Op::Write, Fault::Down);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    assert!(status(&credentials).write_back_pending);
    world.clock.panic(2);
    sleep(seconds(300)).await;
    assert!(status(&credentials).write_back_pending);
    world.kv.heal();
    sleep(RECOVERY).await;
    assert!(!status(&credentials).write_back_pending);
    assert!(world.hub.trades(&world.kv.refresh_token(PATH)));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_under_way_when_the_loop_panicked_is_made_again() {
    let world = World::new();
    world.kv.put(PATH, static_secret("pat"));
    world.kv.fail_op(Op::Read, Fault::Hang);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(1)).await;
    assert_eq!(world.kv.count(Op::Read), 1);
    world.clock.panic(1);
    // Something has to make the loop look at the clock.
    credentials.refresh_now("default");
    world.kv.heal();
    let token = expect_token(handle.token(within(seconds(5))).await);
    assert_eq!(text(&token), "pat");
    assert_eq!(status(&credentials).counters.panics, 1);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_credentials_stops_every_task() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let token = expect_token(handle.token(within(seconds(1))).await);
    drop(credentials);
    let calls = (world.kv.calls(), world.hub.calls());
    sleep(seconds(1)).await;
    // A call in flight keeps what it has; nobody renews it any more.
    assert_eq!(handle.token(at_once()).await, Ok(token));
    sleep(LIFE * 2).await;
    assert_eq!((world.kv.calls(), world.hub.calls()), calls);
    let gone = handle.token(within(seconds(60))).await.unwrap_err();
    assert_eq!(gone.to_string(), "the credential does not work: the portal was removed");
}
