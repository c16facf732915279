//! Panics: in a port, in the loop itself, once or again and again. A portal never ends by one, and
//! what it had in memory outlives it.

use tokio::time::sleep;

use super::world::{
    LIFE, PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within,
};
use crate::State;
use crate::testing::{Fault, Rotation, StoreOperation, static_secret};

#[tokio::test(start_paused = true)]
async fn a_port_that_panics_costs_one_attempt_and_is_counted() {
    let world = World::oauth();
    world.store.fail(Fault::Panic);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(5)).await;
    let panics = status(&credentials).counters.panics;
    assert!((1..=5).contains(&panics), "{panics}");
    world.store.heal();
    world.endpoint.fail(Fault::Panic);
    sleep(RECOVERY).await;
    let more = status(&credentials).counters.panics;
    assert!(more > panics);
    world.endpoint.heal();
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
    world.clock.panic_next(3);
    sleep(seconds(60)).await;
    assert_eq!(handle.token(at_once()).await, Ok(token), "the same one, without a new grant");
    assert_eq!(world.endpoint.calls(), 1);
    assert_eq!(status(&credentials).counters.panics, 3);
    assert_eq!(world.logs.count(&["Restarting background task after a panic"]), 3);

    sleep(LIFE * 4).await;
    probe.assert_never_without();
    assert!(world.endpoint.calls() >= 4, "it works on");
}

#[tokio::test(start_paused = true)]
async fn loop_that_always_panics_neither_spins_nor_ends() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    world.clock.panic_next(u32::MAX);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(3_600)).await;
    let panics = status(&credentials).counters.panics;
    assert!((3_600 / 20..=3_600 / 20 + 10).contains(&panics), "{panics} in an hour");
    world.clock.panic_next(0);
    expect_token(handle.token(within(RECOVERY)).await);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_outlives_a_panic() {
    let world = World::oauth();
    world.endpoint.rotate(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    assert!(status(&credentials).write_back_pending);
    world.clock.panic_next(2);
    sleep(seconds(300)).await;
    assert!(status(&credentials).write_back_pending);
    world.store.heal();
    sleep(RECOVERY).await;
    assert!(!status(&credentials).write_back_pending);
    assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_under_way_when_the_loop_panicked_is_made_again() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    world.store.fail_operation(StoreOperation::Read, Fault::Hang);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(1)).await;
    assert_eq!(world.store.count(StoreOperation::Read), 1);
    world.clock.panic_next(1);
    // Makes the loop read the clock.
    credentials.refresh_now("default");
    world.store.heal();
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
    let calls = (world.store.calls(), world.endpoint.calls());
    sleep(seconds(1)).await;
    // A call in flight keeps its token; it is not renewed any more.
    assert_eq!(handle.token(at_once()).await, Ok(token));
    sleep(LIFE * 2).await;
    assert_eq!((world.store.calls(), world.endpoint.calls()), calls);
    let gone = handle.token(within(seconds(60))).await.unwrap_err();
    assert_eq!(gone.to_string(), "the credential is suspended: the portal was removed");
}
