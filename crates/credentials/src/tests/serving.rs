//! The usual case: tokens come at once, are refreshed ahead of time, and many callers cause one refresh.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Barrier,
    time::{Instant, sleep},
};

use super::world::{
    LIFE, PATH, World, at_once, expect_token, few_or_all, seconds, status, text, within,
};
use crate::testing::{Fault, StoreOperation, static_secret};
use crate::{Handle, Kind, State, TokenUnavailable};
use leadsd_base::{secret::Secret, task};

#[tokio::test(start_paused = true)]
async fn a_static_token_is_read_and_served() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();

    let token = expect_token(handle.token(within(seconds(1))).await);
    assert_eq!((text(&token), token.generation), ("pat", 1));

    sleep(seconds(24 * 3_600)).await;
    assert_eq!(expect_token(handle.token(at_once()).await), token, "it does not expire");
    let status = status(&credentials);
    assert_eq!((status.state, status.kind), (State::Fresh, Some(Kind::Static)));
    assert_eq!((status.expires_in, status.next_refresh), (None, None));
    assert_eq!((status.generation, status.secret_version), (1, Some(1)));
    assert_eq!(status.token_age.unwrap().as_secs() / 3_600, 24);
    assert_eq!(world.endpoint.calls(), 0);
    assert_eq!(world.store.count(StoreOperation::Read), 1);
}

#[tokio::test(start_paused = true)]
async fn an_oauth_token_is_refreshed_ahead_of_its_expiry_for_days() {
    let time = few_or_all(1, 3) * 24 * 3_600;
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);

    sleep(seconds(time)).await;

    let seen = probe.assert_never_without();
    let shortest_plan = LIFE.as_secs() * 2 / 3;
    let most = usize::try_from(time / shortest_plan).unwrap() + 1;
    assert!(world.endpoint.calls() <= most, "{} calls", world.endpoint.calls());
    assert_eq!(seen.generations.len(), world.endpoint.calls());
    assert_eq!(world.store.count(StoreOperation::Read), 1, "the secret did not change");
    // At most one poll per 0.7 intervals, and one before each refresh.
    let most_polls = usize::try_from(time / 21).unwrap() + most;
    assert!(world.store.calls() <= most_polls, "{} calls", world.store.calls());
    assert_eq!(status(&credentials).state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn the_status_says_when_a_token_ends_and_when_it_is_renewed() {
    let world = World::oauth();
    let credentials = world.start();
    assert_eq!(status(&credentials).state, State::Starting);
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);

    sleep(seconds(100)).await;
    let status = status(&credentials);
    assert_eq!((status.state, status.usable), (State::Fresh, true));
    assert_eq!((status.failure, status.last_failure), (None, None));
    assert_eq!(status.token_age.unwrap().as_secs(), 100);
    assert_eq!(status.expires_in.unwrap().as_secs(), LIFE.as_secs() - 100);
    let next = status.next_refresh.unwrap() + seconds(100);
    assert!((LIFE * 2 / 3..=LIFE * 5 / 6).contains(&next), "{next:?}");
    assert_eq!((status.counters.grants_ok, status.counters.store_reads), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_never_waits_while_a_token_is_unexpired() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.fail(Fault::Hang);
    world.store.fail(Fault::Hang);
    while status(&credentials).expires_in.unwrap() > seconds(5) {
        sleep(seconds(4)).await;
        let before = Instant::now();
        expect_token(handle.token(Instant::now()).await);
        assert_eq!(Instant::now(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_at_expiry_cause_one_refresh_and_all_get_a_token() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    // No refresh succeeds until the token has expired; then the endpoint is back.
    world.endpoint.fail(Fault::Unavailable);
    sleep(LIFE + seconds(60)).await;
    assert_eq!(status(&credentials).state, State::Failed);
    let before = world.endpoint.calls();

    let start = Arc::new(Barrier::new(10_001));
    let callers: Vec<_> = (0..10_000)
        .map(|_| {
            let (handle, start) = (handle.clone(), Arc::clone(&start));
            let (sender, answer) = tokio::sync::oneshot::channel();
            let task = task::spawn("caller", "test", async move {
                start.wait().await;
                let _ = sender.send(handle.token(within(seconds(30))).await);
            });
            (task, answer)
        })
        .collect();
    start.wait().await;
    world.endpoint.heal();
    for (_task, answer) in callers {
        let token = expect_token(answer.await.unwrap());
        assert_eq!(token.generation, 2);
        assert!(world.endpoint.accepts(&token.secret));
    }
    assert_eq!(world.endpoint.calls() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn callers_at_a_cold_start_share_one_read_and_one_grant() {
    let world = World::oauth();
    world.store.fail(Fault::Slow(seconds(1)));
    world.endpoint.fail(Fault::Slow(seconds(1)));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let waiting = (0..500).map(|_| handle.token(within(seconds(5))));
    for answer in futures_util::future::join_all(waiting).await {
        assert_eq!(expect_token(answer).generation, 1);
    }
    assert_eq!((world.store.count(StoreOperation::Read), world.endpoint.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_deadline_passes_learns_what_was_missing() {
    let world = World::oauth();
    world.store.fail(Fault::Hang);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let missing = async |deadline: Duration| match handle.token(within(deadline)).await {
        Err(TokenUnavailable::DeadlineExceeded(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(seconds(5)).await, "the secret is being read");
    assert_eq!(missing(seconds(10)).await, "vault is unavailable");
    world.store.fail(Fault::RejectLogin);
    assert_eq!(missing(seconds(25)).await, "vault rejects the login");
    world.store.heal();
    world.endpoint.fail(Fault::Hang);
    credentials.refresh_now("default");
    assert_eq!(missing(seconds(5)).await, "a token is on its way");
    assert_eq!(missing(seconds(10)).await, "the token endpoint is unavailable");
    world.endpoint.fail(Fault::Throttle(None));
    assert_eq!(missing(seconds(25)).await, "the token endpoint throttles requests");
}

#[tokio::test(start_paused = true)]
async fn a_life_shorter_than_any_margin_is_renewed_in_time_without_a_busy_loop() {
    for (life, most_per_minute) in [(30, 4), (10, 10), (3, 31)] {
        let world = World::oauth();
        world.endpoint.set_life(seconds(life));
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);
        sleep(seconds(600)).await;
        probe.assert_never_without();
        let most = 10 * most_per_minute + 1;
        assert!(world.endpoint.calls() <= most, "life {life}: {} calls", world.endpoint.calls());
        assert_eq!(status(&credentials).state, State::Fresh);
    }
}

#[tokio::test(start_paused = true)]
async fn zero_and_unbounded_lifetimes_neither_spin_nor_overflow() {
    for (life, most) in [(Duration::ZERO, 16), (Duration::from_millis(1), 601), (Duration::MAX, 1)]
    {
        let world = World::oauth();
        world.endpoint.set_life(life);
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        sleep(seconds(600)).await;
        assert!(world.endpoint.calls() <= most, "{life:?}: {} calls", world.endpoint.calls());
        if life != Duration::from_millis(1) {
            expect_token(handle.token(at_once()).await);
        }
        drop(credentials);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_shortens_the_life_by_what_it_took() {
    let world = World::oauth();
    world.endpoint.fail(Fault::Slow(seconds(6)));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(10))).await);
    let left = status(&credentials).expires_in.unwrap();
    assert_eq!(left, LIFE - seconds(6), "it may have been issued when the grant was sent");

    // A token is published even if its response took longer than its lifetime.
    let world = World::oauth();
    world.endpoint.set_life(seconds(4));
    world.endpoint.fail(Fault::Slow(seconds(6)));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(10))).await);
    assert_eq!(status(&credentials).expires_in.unwrap(), seconds(2));
}

#[tokio::test(start_paused = true)]
async fn a_fixed_handle_always_has_the_same_token() {
    let handle = Handle::fixed(Secret::new("fixed"));
    let token = expect_token(handle.token(Instant::now()).await);
    assert_eq!((token.secret.expose(), token.generation), ("fixed", 1));
    let instead = handle.replacement_for(token.generation, within(seconds(60))).await;
    assert_eq!(instead, Err(TokenUnavailable::Rejected));
    assert_eq!(handle.token(Instant::now()).await, Ok(token));
    assert_eq!(format!("{handle:?}"), "Handle { generation: Some(1), .. }");
}
