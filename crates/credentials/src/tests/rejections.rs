//! Reports of a 401: results of the reporting callers, and number of calls.

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::world::{
    LIFE, PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within,
};
use crate::testing::{Fault, StoreOperation, static_secret};
use crate::{FailureClass, State, TokenUnavailable};

#[tokio::test(start_paused = true)]
async fn a_hundred_reports_about_one_token_cause_one_refresh() {
    let world = World::oauth();
    world.endpoint.fail(Fault::Slow(seconds(1)));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(5))).await);
    sleep(seconds(60)).await;
    world.endpoint.revoke_access();

    let reports = (0..100).map(|_| handle.replacement_for(old.generation, within(seconds(5))));
    for answer in join_all(reports).await {
        let token = expect_token(answer);
        assert_eq!(token.generation, 2);
        assert!(world.endpoint.accepts(&token.secret));
    }
    assert_eq!(world.endpoint.calls(), 2);
    assert_eq!(status(&credentials).counters.rejections, 1);

    // Latecomers with the old token get the new one without any call.
    let before = Instant::now();
    let late = handle.replacement_for(old.generation, Instant::now()).await;
    assert_eq!(expect_token(late).generation, 2);
    assert_eq!(Instant::now(), before);
    assert_eq!(world.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn others_keep_getting_the_old_token_while_a_reported_one_is_refreshed() {
    // The report may be wrong; a token that is unexpired by our own count is not withheld.
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.fail(Fault::Unavailable);
    sleep(seconds(60)).await;
    let report = handle.replacement_for(old.generation, within(seconds(60))).await;
    assert_eq!(
        report,
        Err(TokenUnavailable::DeadlineExceeded("the token endpoint is unavailable".to_owned()))
    );
    assert_eq!(handle.token(at_once()).await, Ok(old));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn reports_during_an_outage_do_not_add_attempts() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.fail(Fault::Unavailable);
    sleep(seconds(60)).await;
    let before = world.endpoint.calls();
    for _ in 0..300 {
        let reports = (0..10).map(|_| handle.replacement_for(old.generation, within(seconds(1))));
        join_all(reports).await.into_iter().for_each(|answer| assert!(answer.is_err()));
    }
    let made = world.endpoint.calls() - before;
    assert!(made <= 300 / 7 + 6, "{made} attempts in 300 s");
    world.endpoint.heal();
    let token = handle.replacement_for(old.generation, within(RECOVERY)).await;
    assert_eq!(expect_token(token).generation, 2);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_hubspot_never_accepts_cause_one_refresh_in_three_minutes() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let started = Instant::now();
    let (mut replaced, mut rejected) = (0, 0);
    while started.elapsed() < seconds(900) {
        // As the pipeline does: a call, and its replay.
        let token = expect_token(handle.token(at_once()).await);
        match handle.replacement_for(token.generation, within(seconds(10))).await {
            Ok(token) => {
                replaced += 1;
                handle.reject_replacement(token.generation);
            }
            Err(error) => {
                assert_eq!(error, TokenUnavailable::Rejected);
                rejected += 1;
            }
        }
        sleep(seconds(1)).await;
    }
    assert!((5..=6).contains(&replaced), "{replaced} refreshes in a quarter of an hour");
    assert!(rejected > 800, "{rejected} calls failed at once");
    assert_eq!(world.endpoint.calls(), replaced + 1);
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Failed, Some(FailureClass::TokenRejected)));

    // A new secret ends it, without a report.
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(RECOVERY).await;
    assert!(world.endpoint.calls() > replaced + 1);
    assert_eq!(status(&credentials).state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_was_accepted_is_replaced_again() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let mut token = expect_token(handle.token(within(seconds(1))).await);
    for generation in 2..=5 {
        sleep(seconds(20)).await;
        world.endpoint.revoke_access();
        token = expect_token(handle.replacement_for(token.generation, within(seconds(5))).await);
        assert_eq!(token.generation, generation);
        handle.accept(token.generation);
    }
    assert_eq!(world.endpoint.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn one_request_that_hubspot_always_rejects_causes_few_refreshes_beside_accepted_ones() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let started = Instant::now();
    while started.elapsed() < seconds(600) {
        let token = expect_token(handle.token(at_once()).await);
        // Other requests succeed with the same token.
        handle.accept(token.generation);
        if let Ok(token) = handle.replacement_for(token.generation, within(seconds(10))).await {
            handle.accept(token.generation);
            handle.reject_replacement(token.generation);
        }
        sleep(seconds(1)).await;
    }
    let calls = world.endpoint.calls();
    assert!((3..=6).contains(&calls), "{calls} token requests in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_at_most_once_in_five_seconds_after_its_issue() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let mut token = expect_token(handle.token(within(seconds(1))).await);
    let started = Instant::now();
    while started.elapsed() < seconds(600) {
        token = expect_token(handle.replacement_for(token.generation, within(seconds(10))).await);
        handle.accept(token.generation);
    }
    assert!(world.endpoint.calls() <= 600 / 5 + 2, "{} calls", world.endpoint.calls());
}

#[tokio::test(start_paused = true)]
async fn an_invalid_static_token_is_replaced_by_the_newest_in_the_store() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.store.put(PATH, static_secret("two"));

    let before = Instant::now();
    let reports = (0..100).map(|_| handle.replacement_for(old.generation, within(seconds(5))));
    for answer in join_all(reports).await {
        assert_eq!(text(&expect_token(answer)), "two");
    }
    assert_eq!(Instant::now(), before, "not at the next poll, but now");
    assert_eq!(world.store.count(StoreOperation::Read), 2);
    sleep(seconds(2)).await;
    assert_eq!(status(&credentials).state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_static_token_without_a_replacement_is_rejected_after_one_read() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);

    let reports = (0..100).map(|_| handle.replacement_for(old.generation, within(seconds(5))));
    for answer in join_all(reports).await {
        assert_eq!(answer, Err(TokenUnavailable::Rejected));
    }
    assert_eq!(world.store.count(StoreOperation::Read), 2);
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Failed, Some(FailureClass::TokenRejected)));
    // The report may be wrong, so other callers still get the token.
    assert_eq!(handle.token(at_once()).await, Ok(old));
    assert_eq!(world.endpoint.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn reports_about_a_hopeless_token_cost_a_bounded_number_of_reads() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    let started = Instant::now();
    let mut reports = 0;
    while started.elapsed() < seconds(600) {
        let answer = handle.replacement_for(old.generation, within(seconds(5))).await;
        assert_eq!(answer, Err(TokenUnavailable::Rejected));
        reports += 1;
        sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(reports > 10_000);
    assert!(
        world.store.count(StoreOperation::Read) <= 62,
        "{} reads",
        world.store.count(StoreOperation::Read)
    );
    assert_eq!(status(&credentials).counters.rejections, 1);

    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY).await;
    let token = handle.replacement_for(old.generation, Instant::now()).await;
    assert_eq!(text(&expect_token(token)), "two");
    assert_eq!(status(&credentials).state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_static_token_waits_for_the_store_during_its_outage() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.store.fail(Fault::Unavailable);
    world.store.put(PATH, static_secret("two"));
    let answer = handle.replacement_for(old.generation, within(seconds(20))).await;
    assert_eq!(answer, Err(TokenUnavailable::DeadlineExceeded("vault is unavailable".to_owned())));
    let before = world.store.calls();
    sleep(seconds(600)).await;
    assert!(world.store.calls() - before <= 130, "{}", world.store.calls() - before);
    world.store.heal();
    let token = handle.replacement_for(old.generation, within(RECOVERY)).await;
    assert_eq!(text(&expect_token(token)), "two");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_of_an_older_secret_is_refreshed_with_the_newer() {
    // The poll had taken the new refresh token over already, so a re-read would find no change.
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(RECOVERY).await;
    assert_eq!(status(&credentials).secret_version, Some(2));
    assert_eq!(status(&credentials).generation, 1);
    world.endpoint.revoke_access();
    let token = handle.replacement_for(old.generation, within(seconds(5))).await;
    assert_eq!(expect_token(token).generation, 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_while_a_scheduled_refresh_is_under_way_joins_it() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.hold();
    credentials.refresh_now("default");
    sleep(seconds(2)).await;
    assert_eq!(world.endpoint.calls(), 2, "a refresh is under way");
    let report = handle.replacement_for(old.generation, within(seconds(20)));
    let release = async {
        sleep(seconds(2)).await;
        world.endpoint.release();
    };
    let (answer, ()) = tokio::join!(report, release);
    assert_eq!(expect_token(answer).generation, 2);
    assert_eq!(world.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_caller_does_not_stop_the_refresh() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(60)).await;
    world.endpoint.fail(Fault::Slow(seconds(5)));
    let gone = tokio::time::timeout(
        seconds(1),
        handle.replacement_for(old.generation, within(seconds(30))),
    );
    assert!(gone.await.is_err());
    sleep(seconds(5)).await;
    assert_eq!(expect_token(handle.token(at_once()).await).generation, 2);
}

#[tokio::test(start_paused = true)]
async fn an_old_token_reported_by_a_slow_caller_is_not_held_against_the_new_one() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let first = expect_token(handle.token(within(seconds(1))).await);
    sleep(LIFE).await;
    let calls = (world.endpoint.calls(), world.store.count(StoreOperation::Read));
    let answer = handle.replacement_for(first.generation, Instant::now()).await;
    assert_eq!(expect_token(answer).generation, 2);
    sleep(seconds(1)).await;
    assert_eq!((world.endpoint.calls(), world.store.count(StoreOperation::Read)), calls);
}
