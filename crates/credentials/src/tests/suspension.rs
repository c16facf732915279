//! Permanent failures: the portal is suspended, costs next to nothing, and recovers within one poll
//! interval of a correction.

use tokio::time::sleep;

use super::world::{
    LIFE, PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within,
};
use crate::testing::{Fault, StoreOperation, oauth_secret, static_secret};
use crate::{FailureClass, Settings, State, TokenUnavailable};

/// A rejected credential is suspended by then.
const SETTLED: u64 = 60;

/// The early retries of a suspended credential are over by then.
const EARLY_RETRIES: u64 = 700;

#[tokio::test(start_paused = true)]
async fn invalid_grant_suspends_and_a_new_secret_resumes() {
    let world = World::new();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-bad"));
    world.endpoint.accept(&oauth_secret("app", "cs-1", "rt-good"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(SETTLED)).await;

    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Suspended, Some(FailureClass::GrantRejected)));
    let broken = handle.token(within(seconds(60))).await;
    let why = "the token endpoint rejects it, and the secret store has no other".to_owned();
    assert_eq!(
        broken,
        Err(TokenUnavailable::Suspended(why)),
        "at once, since waiting would not help"
    );
    assert_eq!(world.endpoint.calls(), 5, "after 5, 15 and 30 s, and once since");

    sleep(seconds(EARLY_RETRIES)).await;
    let calls = world.endpoint.calls();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-good"));
    sleep(RECOVERY).await;
    expect_token(handle.token(at_once()).await);
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Fresh, None));
    assert_eq!(world.endpoint.calls(), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_token_serves_to_its_end_after_invalid_grant() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.revoke("hush-rt-first");
    sleep(LIFE - seconds(10)).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.usable), (State::Suspended, true));
    probe.assert_never_without();
    sleep(seconds(20)).await;
    assert!(matches!(handle.token(at_once()).await, Err(TokenUnavailable::Suspended(_))));
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(RECOVERY).await;
    expect_token(handle.token(at_once()).await);
    probe.assert_served();
}

#[tokio::test(start_paused = true)]
async fn a_suspended_portal_costs_a_poll_per_interval_and_a_request_per_retry() {
    let world = World::new();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-bad"));
    let credentials = world.start();
    sleep(seconds(24 * 3_600)).await;
    // Retries come every 8 to 12 minutes, after some 25 early ones.
    let (least, most) = (24 * 5 + 1, 24 * 60 / 8 + 1 + 3 + 25);
    assert!((least..=most).contains(&world.endpoint.calls()), "{} grants", world.endpoint.calls());
    assert!(
        world.store.calls() <= 24 * 3_600 / 21 + 2 * most + 10,
        "{} calls",
        world.store.calls()
    );
    assert_eq!(world.logs.count(&["ERROR"]), 1, "said once");
    assert_eq!(status(&credentials).state, State::Suspended);
}

#[tokio::test(start_paused = true)]
async fn a_retry_ends_a_suspension_that_was_wrong() {
    let world = World::oauth();
    world.endpoint.fail(Fault::Reject("invalid_client"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(1_800)).await;
    assert_eq!(status(&credentials).state, State::Suspended);
    world.endpoint.heal();
    sleep(seconds(12 * 60)).await;
    expect_token(handle.token(at_once()).await);
    assert_eq!(status(&credentials).state, State::Fresh);
}

/// Rejects the grant for `outage` from the first refresh on, with tokens that live for `life`. Returns the
/// times without a token after the end of the outage.
async fn without_a_token(life: u64, outage: u64) -> Vec<std::time::Duration> {
    let world = World::oauth();
    world.endpoint.set_life(seconds(life));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    let started = tokio::time::Instant::now();
    world.endpoint.fail(Fault::Reject("invalid_grant"));
    while world.endpoint.calls() < 2 {
        sleep(seconds(1)).await;
    }
    sleep(seconds(outage)).await;
    world.endpoint.heal();
    let healed = started.elapsed();
    sleep(seconds(3_600)).await;
    probe.seen().without.into_iter().filter_map(|at| at.checked_sub(healed)).collect()
}

#[tokio::test(start_paused = true)]
async fn one_wrong_rejection_of_a_grant_is_over_after_seconds() {
    for life in [60, 300, 1_800] {
        let without = without_a_token(life, 4).await;
        assert_eq!(without, Vec::<std::time::Duration>::new(), "tokens of {life} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_accepted_within_thirty_seconds_of_the_end_of_wrong_rejections() {
    for life in [60, 300, 1_800] {
        for outage in [10, 20, 50, 120, 300, 590] {
            let without = without_a_token(life, outage).await;
            let last = without.last().copied().unwrap_or_default();
            assert!(last <= RECOVERY, "tokens of {life} s, rejected for {outage} s: {last:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_rejected_until_the_token_expires_costs_no_call() {
    // Rejected for most of the second half of the token's life, and well three seconds before its end.
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.fail(Fault::Reject("invalid_grant"));
    sleep(LIFE - seconds(7)).await;
    assert_eq!(status(&credentials).state, State::Suspended);
    world.endpoint.heal();
    sleep(seconds(600)).await;
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn an_operator_does_not_wait_for_the_retry() {
    let world = World::oauth();
    world.endpoint.fail(Fault::Reject("access_denied"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(SETTLED)).await;
    world.endpoint.heal();
    assert!(matches!(handle.token(at_once()).await, Err(TokenUnavailable::Suspended(_))));
    assert!(credentials.refresh_now("default"));
    sleep(seconds(2)).await;
    expect_token(handle.token(at_once()).await);
    assert!(!credentials.refresh_now("unknown"));
}

#[tokio::test(start_paused = true)]
async fn requests_of_operators_do_not_storm_the_endpoint() {
    let world = World::oauth();
    let credentials = world.start();
    for _ in 0..6_000 {
        credentials.refresh_now("default");
        sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(world.endpoint.calls() <= 62, "{} grants in 60 s", world.endpoint.calls());
}

#[tokio::test(start_paused = true)]
async fn the_same_credential_in_a_new_version_stays_suspended_without_a_request() {
    let world = World::new();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-bad"));
    let credentials = world.start();
    sleep(seconds(SETTLED)).await;
    sleep(seconds(EARLY_RETRIES)).await;
    let before = world.endpoint.calls();
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-bad"));
    sleep(RECOVERY).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.secret_version), (State::Suspended, Some(2)));
    assert_eq!(world.endpoint.calls(), before);
    // Another one is tried, even if it is as bad.
    world.store.put(PATH, oauth_secret("app", "cs-1", "rt-worse"));
    sleep(RECOVERY).await;
    assert!(world.endpoint.calls() > before);
    sleep(seconds(SETTLED)).await;
    assert_eq!(status(&credentials).state, State::Suspended);
}

#[tokio::test(start_paused = true)]
async fn a_report_about_a_token_of_a_suspended_portal_is_answered_at_once() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let old = expect_token(handle.token(within(seconds(1))).await);
    world.endpoint.revoke("hush-rt-first");
    sleep(LIFE - seconds(100)).await;
    let calls = world.endpoint.calls();
    let answer = handle.replacement_for(old.generation, at_once()).await;
    assert!(matches!(answer, Err(TokenUnavailable::Suspended(_))), "{answer:?}");
    assert_eq!(world.endpoint.calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_found_within_one_interval_of_being_written() {
    let world = World::new();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(3_600)).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Suspended, Some(FailureClass::SecretMissing)));
    let broken = handle.token(within(seconds(1))).await;
    assert_eq!(broken, Err(TokenUnavailable::Suspended("no secret at this path".to_owned())));
    assert!(world.store.calls() <= 3_600 / 21 + 15, "{}", world.store.calls());
    world.store.put(PATH, static_secret("pat"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    assert_eq!(status(&credentials).state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_deleted_at_start_is_found_when_it_is_undeleted() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    world.store.delete(PATH);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(600)).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.secret_deleted), (State::Suspended, true));
    world.store.undelete(PATH);
    sleep(RECOVERY).await;
    expect_token(handle.token(at_once()).await);
    assert!(!status(&credentials).secret_deleted);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_secret_is_read_once_per_version() {
    let world = World::new();
    world.store.put_malformed(PATH);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(400)).await;
    let why = "the secret is malformed: it has no `access_token`".to_owned();
    assert_eq!(handle.token(at_once()).await, Err(TokenUnavailable::Suspended(why)));
    assert_eq!(status(&credentials).failure, Some(FailureClass::SecretMalformed));
    assert!(
        world.store.count(StoreOperation::Read) <= 2,
        "{} reads",
        world.store.count(StoreOperation::Read)
    );
    world.store.put(PATH, static_secret("pat"));
    sleep(RECOVERY).await;
    expect_token(handle.token(at_once()).await);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_denies_is_noticed_within_one_interval_of_being_put_right() {
    for denied in [
        vec![StoreOperation::Read, StoreOperation::Poll],
        vec![StoreOperation::Read],
        vec![StoreOperation::Poll, StoreOperation::Read],
    ] {
        let world = World::new();
        world.store.put(PATH, static_secret("pat"));
        denied.iter().for_each(|op| world.store.fail_operation(*op, Fault::Reject("denied")));
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        sleep(seconds(3_600)).await;
        let now = status(&credentials);
        assert_eq!((now.state, now.failure), (State::Suspended, Some(FailureClass::StoreDenied)));
        let broken = handle.token(at_once()).await;
        assert_eq!(
            broken,
            Err(TokenUnavailable::Suspended("vault denies access to this path".to_owned()))
        );
        assert!(world.store.calls() <= 2 * 3_600 / 21 + 20, "{}", world.store.calls());
        assert_eq!(world.logs.count(&["ERROR"]), 1);
        world.store.heal();
        sleep(RECOVERY).await;
        assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_becomes_readable_while_metadata_stays_denied_is_noticed() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    world.store.fail(Fault::Reject("denied"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(300)).await;
    world.store.heal();
    world.store.fail_operation(StoreOperation::Poll, Fault::Reject("denied"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_during_a_store_outage_suspends_and_the_store_decides_later() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.store.fail(Fault::Unavailable);
    world.endpoint.revoke("hush-rt-first");
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(LIFE + seconds(600)).await;
    assert_eq!(status(&credentials).state, State::Suspended);
    world.store.heal();
    sleep(RECOVERY).await;
    expect_token(handle.token(at_once()).await);
    probe.assert_served();
}

#[tokio::test(start_paused = true)]
async fn an_error_code_from_outside_is_not_passed_on_as_text() {
    let world = World::oauth();
    // The double responds with both secrets as the "code"; the log capture would find them.
    world.endpoint.fail(Fault::RejectQuotingSecrets);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(SETTLED)).await;
    let Err(TokenUnavailable::Suspended(why)) = handle.token(at_once()).await else {
        panic!("suspended")
    };
    assert!(!why.contains("hush"));
    let logged = |code: &str| {
        let code = format!("oauth.error=\"{code}\"");
        world.logs.count(&["WARN", "Token endpoint rejected", &code])
    };
    assert_eq!(logged("unknown"), 1, "once, though it was rejected several times");
    world.endpoint.fail(Fault::Reject("invalid_grant"));
    credentials.refresh_now("default");
    sleep(seconds(SETTLED)).await;
    assert_eq!(logged("invalid_grant"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_retry_interval_can_be_set() {
    let world = World::oauth();
    world.endpoint.fail(Fault::Reject("invalid_grant"));
    let settings = Settings { suspended_retry_interval: seconds(100), ..Settings::default() };
    let credentials = world.start_with(settings, &["default"]);
    sleep(seconds(10_000)).await;
    // With the three tries before the suspension and the early ones after it.
    assert!(
        (80..=127 + 3 + 25).contains(&world.endpoint.calls()),
        "{} grants",
        world.endpoint.calls()
    );
    drop(credentials);
}
