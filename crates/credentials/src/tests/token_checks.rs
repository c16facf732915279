//! Checks of static tokens: the state that operators see, and the number of requests.

use tokio::time::{Instant, sleep};

use super::world::{PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within};
use crate::testing::{Fault, static_secret};
use crate::{FailureClass, State, TokenUnavailable};

const REJECTED: (State, bool, Option<FailureClass>) =
    (State::Failed, false, Some(FailureClass::TokenRejected));

const FRESH: (State, bool, Option<FailureClass>) = (State::Fresh, true, None);

fn seen(credentials: &crate::Credentials) -> (State, bool, Option<FailureClass>) {
    let status = status(credentials);
    (status.state, status.usable, status.failure)
}

fn world() -> World {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    world
}

#[tokio::test(start_paused = true)]
async fn a_static_token_is_checked_once_at_the_start_and_after_each_change() {
    let world = world();
    let credentials = world.start();
    sleep(seconds(1)).await;
    assert_eq!((seen(&credentials), world.endpoint.check_times().len()), (FRESH, 1));
    sleep(seconds(24 * 3_600)).await;
    assert_eq!(world.endpoint.check_times().len(), 1, "an accepted token is not checked again");
    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY).await;
    assert_eq!((seen(&credentials), world.endpoint.check_times().len()), (FRESH, 2));
    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY).await;
    assert_eq!(world.endpoint.check_times().len(), 2, "the same token in another version");
    assert_eq!(world.endpoint.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_hubspot_rejects_is_unusable_from_the_start_without_any_caller() {
    let world = world();
    world.endpoint.reject_static(&static_secret("one"));
    world.endpoint.fail_checks(Some(Fault::Slow(seconds(1))));
    let credentials = world.start();
    sleep(seconds(1) / 2).await;
    let before = status(&credentials);
    assert_eq!((before.state, before.usable), (State::Starting, false), "never fresh before");
    sleep(seconds(1)).await;
    assert_eq!(seen(&credentials), REJECTED);
    assert_eq!(status(&credentials).counters.rejections, 1);
    assert_eq!(world.logs.count(&["WARN", "HubSpot rejected the access token"]), 2);
    sleep(seconds(24 * 3_600)).await;
    assert_eq!(seen(&credentials), REJECTED, "time alone changes nothing");
    assert_eq!(world.logs.count(&["WARN", "HubSpot rejected the access token"]), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_call_makes_the_portal_unusable_at_once_even_without_vault() {
    for fault in [None, Some(Fault::Unavailable), Some(Fault::Hang)] {
        let world = world();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        let token = expect_token(handle.token(within(seconds(1))).await);
        sleep(seconds(60)).await;
        world.endpoint.reject_static(&static_secret("one"));
        if let Some(fault) = fault {
            world.store.fail(fault);
        }
        let answer = handle.replacement_for(token.generation, within(seconds(1))).await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(seen(&credentials), REJECTED);
        // The report may be wrong, so callers still get the token.
        assert_eq!(handle.token(at_once()).await, Ok(token));
    }
}

#[tokio::test(start_paused = true)]
async fn one_wrong_401_costs_one_token_check() {
    let world = world();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let token = expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(60)).await;
    let answer = handle.replacement_for(token.generation, within(seconds(1))).await;
    assert_eq!(answer, Err(TokenUnavailable::Rejected));
    sleep(seconds(1)).await;
    assert_eq!((seen(&credentials), world.endpoint.check_times().len()), (FRESH, 2));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_checked_at_growing_intervals_and_comes_back() {
    let world = world();
    world.endpoint.reject_static(&static_secret("one"));
    let credentials = world.start();
    sleep(seconds(3_600)).await;
    let times = world.endpoint.check_times();
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(pauses[..3], [5, 10, 15]);
    assert!(pauses[3..20].iter().all(|pause| (24..=30).contains(pause)), "{pauses:?}");
    assert!(pauses[24..].iter().all(|pause| (480..=720).contains(pause)), "{pauses:?}");
    assert!(times.len() <= 36, "{}", times.len());
    world.endpoint.accept_static();
    sleep(seconds(721)).await;
    assert_eq!(seen(&credentials), FRESH);
    assert_eq!(world.logs.count(&["INFO", "HubSpot accepted the access token again"]), 1);
}

#[tokio::test(start_paused = true)]
async fn many_reports_cost_a_bounded_number_of_token_checks() {
    // Some calls are rejected with 401 although the check is not.
    let world = world();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let token = expect_token(handle.token(within(seconds(1))).await);
    let started = Instant::now();
    while started.elapsed() < seconds(3_600) {
        let _ = handle.replacement_for(token.generation, within(seconds(5))).await;
        sleep(seconds(1) / 4).await;
    }
    let checks = world.endpoint.check_times().len();
    assert!(checks <= 40, "{checks}");
}

#[tokio::test(start_paused = true)]
async fn during_an_outage_of_hubspot_a_token_is_assumed_to_be_usable() {
    for fault in [Fault::Unavailable, Fault::Hang, Fault::Panic, Fault::QuoteSecrets] {
        let world = world();
        world.endpoint.reject_static(&static_secret("one"));
        world.endpoint.fail_checks(Some(fault.clone()));
        let credentials = world.start();
        sleep(seconds(11)).await;
        assert_eq!(seen(&credentials), FRESH, "{fault:?}");
        assert!(credentials.ready().borrow().is_ready());
        sleep(seconds(3_600)).await;
        let checks = world.endpoint.check_times().len();
        assert!((50..=150).contains(&checks), "{fault:?}: {checks}");
        world.endpoint.fail_checks(None);
        sleep(seconds(61)).await;
        assert_eq!(seen(&credentials), REJECTED, "{fault:?}");
        // A rejection is not taken back by an outage.
        world.endpoint.fail_checks(Some(fault));
        sleep(seconds(600)).await;
        assert_eq!(seen(&credentials), REJECTED);
    }
}

#[tokio::test(start_paused = true)]
async fn a_usable_portal_stays_usable_while_its_new_token_is_checked() {
    let world = world();
    let credentials = world.start();
    sleep(seconds(1)).await;
    let mut ready = credentials.ready();
    ready.borrow_and_update();
    world.endpoint.fail_checks(Some(Fault::Slow(seconds(5))));
    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY * 2).await;
    let handle = credentials.handle("default").unwrap();
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "two");
    assert!(!ready.has_changed().unwrap(), "readiness does not flap");
    // A new token that HubSpot rejects makes it unusable.
    world.endpoint.reject_static(&static_secret("three"));
    world.store.put(PATH, static_secret("three"));
    sleep(RECOVERY * 2).await;
    assert_eq!(seen(&credentials), REJECTED);
    // The successor of a rejected token is not usable before HubSpot accepts it.
    world.store.put(PATH, static_secret("four"));
    sleep(RECOVERY * 2).await;
    assert_eq!(seen(&credentials), FRESH);
}

#[tokio::test(start_paused = true)]
async fn a_request_of_an_operator_checks_a_rejected_token_at_once() {
    let world = world();
    world.endpoint.reject_static(&static_secret("one"));
    let credentials = world.start();
    sleep(seconds(3_600)).await;
    // HubSpot reactivates the token.
    world.endpoint.accept_static();
    credentials.refresh_now("default");
    sleep(seconds(1)).await;
    assert_eq!(seen(&credentials), FRESH);
    // So does the secret, written again with the same token.
    let world = self::world();
    world.endpoint.reject_static(&static_secret("one"));
    let credentials = world.start();
    sleep(seconds(3_600)).await;
    world.endpoint.accept_static();
    world.store.put(PATH, static_secret("one"));
    sleep(RECOVERY).await;
    assert_eq!(seen(&credentials), FRESH);
}

#[tokio::test(start_paused = true)]
async fn oauth_tokens_are_not_checked_and_a_change_of_kind_is() {
    let world = World::oauth();
    let credentials = world.start();
    sleep(seconds(3_600)).await;
    assert_eq!((seen(&credentials), world.endpoint.check_times().len()), (FRESH, 0));
    world.endpoint.reject_static(&static_secret("pat"));
    world.store.put(PATH, static_secret("pat"));
    sleep(RECOVERY).await;
    assert_eq!(seen(&credentials), REJECTED);
    let before = world.endpoint.check_times().len();
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(RECOVERY).await;
    assert_eq!(seen(&credentials), FRESH);
    sleep(seconds(3_600)).await;
    assert!(world.endpoint.check_times().len() <= before + 3, "no token is left to check");
}

#[tokio::test(start_paused = true)]
async fn a_closed_engine_does_not_wait_for_a_token_check() {
    let world = world();
    world.endpoint.fail_checks(Some(Fault::Hang));
    let credentials = world.start();
    sleep(seconds(1)).await;
    let before = Instant::now();
    assert!(credentials.close(within(seconds(30))).await);
    assert_eq!(Instant::now(), before);
}
