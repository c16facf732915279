//! Changes in the store reach the callers within one poll interval, without a restart.

use tokio::time::sleep;

use super::world::{PATH, RECOVERY, World, at_once, expect_token, seconds, status, text, within};
use crate::testing::{Fault, StoreOperation, oauth_secret, static_secret};
use crate::{FailureClass, Kind, State};

#[tokio::test(start_paused = true)]
async fn a_new_static_token_is_in_use_within_one_interval() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    for (generation, token) in (2..).zip(["two", "three", "four"]) {
        sleep(seconds(7)).await;
        world.store.put(PATH, static_secret(token));
        sleep(RECOVERY).await;
        let got = expect_token(handle.token(at_once()).await);
        assert_eq!((text(&got), got.generation), (token, generation));
    }
    probe.assert_never_without();
    assert_eq!(world.store.count(StoreOperation::Read), 4);
}

#[tokio::test(start_paused = true)]
async fn a_version_with_the_same_static_token_is_no_new_token() {
    let world = World::new();
    world.store.put(PATH, static_secret("same"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let before = expect_token(handle.token(within(seconds(1))).await);
    world.store.put(PATH, static_secret("same"));
    sleep(RECOVERY).await;
    assert_eq!(expect_token(handle.token(at_once()).await), before);
    assert_eq!(status(&credentials).secret_version, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_new_client_secret_is_tried_within_one_interval() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.store_oauth(PATH, "app", "cs-2", "rt-first");
    sleep(RECOVERY).await;
    let status = status(&credentials);
    assert_eq!((status.secret_version, status.generation), (Some(2), 2));
    assert_eq!((status.state, status.counters.grants_rejected), (State::Fresh, 0));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_new_refresh_token_is_taken_over_and_used_by_the_next_refresh() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.revoke("hush-rt-first");
    world.store_oauth(PATH, "app", "cs-1", "rt-second");
    sleep(RECOVERY).await;
    let now = status(&credentials);
    assert_eq!((now.secret_version, now.generation), (Some(2), 1), "the token is good: no hurry");
    sleep(seconds(1_600)).await;
    let now = status(&credentials);
    assert_eq!((now.generation, now.counters.grants_rejected), (2, 0));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_new_app_replaces_the_old_one() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.store_oauth(PATH, "other-app", "cs-9", "rt-9");
    sleep(RECOVERY).await;
    assert_eq!(world.endpoint.calls_by("other-app"), 1);
    assert_eq!(status(&credentials).generation, 2);
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn the_kind_can_change_and_change_back() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);

    world.store.put(PATH, static_secret("pat"));
    sleep(RECOVERY).await;
    let token = expect_token(handle.token(at_once()).await);
    assert_eq!((text(&token), token.generation), ("pat", 2));
    let now = status(&credentials);
    assert_eq!((now.kind, now.expires_in, now.next_refresh), (Some(Kind::Static), None, None));
    let calls = world.endpoint.calls();
    sleep(seconds(3_600)).await;
    assert_eq!(world.endpoint.calls(), calls, "nothing is refreshed any more");

    world.store_oauth(PATH, "app", "cs-3", "rt-3");
    sleep(RECOVERY).await;
    let token = expect_token(handle.token(at_once()).await);
    assert_eq!(token.generation, 3);
    assert!(world.endpoint.accepts(&token.secret));
    assert_eq!(status(&credentials).kind, Some(Kind::OAuth));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_static_token_serves_until_its_oauth_successor_has_a_token() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.endpoint.fail(Fault::Unavailable);
    world.store_oauth(PATH, "app", "cs-1", "rt-1");
    sleep(seconds(600)).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    assert_eq!(status(&credentials).state, State::Stale);
    world.endpoint.heal();
    sleep(RECOVERY).await;
    let token = expect_token(handle.token(at_once()).await);
    assert!(world.endpoint.accepts(&token.secret));
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_overtaken_by_a_change_of_kind_does_not_come_back() {
    let world = World::oauth();
    world.endpoint.hold();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(2)).await;
    world.store.put(PATH, static_secret("pat"));
    credentials.refresh_now("default");
    sleep(seconds(2)).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    world.endpoint.release();
    sleep(seconds(2)).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    assert_eq!(status(&credentials).generation, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_secret_lives_on_in_memory_and_is_warned_about_once() {
    for purged in [false, true] {
        let world = World::oauth();
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);
        if purged {
            world.store.purge(PATH)
        } else {
            world.store.delete(PATH)
        }
        sleep(seconds(3 * 3_600)).await;

        let seen = probe.assert_never_without();
        assert!(seen.generations.len() > 5, "refreshed with what is in memory");
        let now = status(&credentials);
        assert!(now.secret_deleted);
        assert_eq!((now.state, now.failure), (State::Stale, Some(FailureClass::SecretMissing)));
        assert_eq!(now.counters.secrets_deleted, 1);
        assert_eq!(world.logs.count(&["Secret was deleted in the store"]), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_comes_back_clears_the_flag_and_a_new_version_is_used() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.store.delete(PATH);
    sleep(RECOVERY).await;
    assert!(status(&credentials).secret_deleted);
    world.store.undelete(PATH);
    sleep(RECOVERY).await;
    let now = status(&credentials);
    assert_eq!((now.secret_deleted, now.state, now.failure), (false, State::Fresh, None));
    world.store.delete(PATH);
    sleep(RECOVERY).await;
    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "two");
    let now = status(&credentials);
    assert_eq!((now.secret_deleted, now.counters.secrets_deleted), (false, 2));
}

#[tokio::test(start_paused = true)]
async fn recreated_secret_restarts_at_version_one_and_is_used() {
    let world = World::new();
    for token in ["one", "two", "three"] {
        world.store.put(PATH, static_secret(token));
    }
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    world.store.purge(PATH);
    world.store.put(PATH, static_secret("anew"));
    // Two polls distinguish it from a lagging replica of the store.
    sleep(RECOVERY * 2).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "anew");
    assert_eq!(status(&credentials).secret_version, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_lagging_replica_of_the_store_does_not_bring_an_old_secret_back() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    world.store.put(PATH, static_secret("two"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    for _ in 0..20 {
        // One poll sees the lagging replica, the next does not.
        let before = world.store.count(StoreOperation::Poll);
        world.store.show_only(1);
        while world.store.count(StoreOperation::Poll) == before {
            sleep(seconds(1)).await;
        }
        world.store.heal();
        sleep(seconds(60)).await;
        let token = expect_token(handle.token(at_once()).await);
        assert_eq!((text(&token), token.generation), ("two", 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_new_version_leaves_the_old_one_working() {
    let world = World::oauth();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.store.put_malformed(PATH);
    sleep(seconds(2 * 3_600)).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Stale, Some(FailureClass::SecretMalformed)));
    assert_eq!(now.secret_version, Some(1));
    assert!(world.store.count(StoreOperation::Read) <= 3, "it is not read over and over");
    assert_eq!(world.logs.count(&["Failed to read the secret"]), 1);

    world.store.put(PATH, static_secret("pat"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    assert_eq!(status(&credentials).failure, None);
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn an_empty_value_counts_as_malformed() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    for (client, secret) in [("", oauth_secret("", "cs", "rt")), ("pat", static_secret(""))] {
        let mut secret = secret;
        if client == "pat" {
            secret = crate::PortalSecret::Static { access_token: "".to_owned().into() };
        }
        world.store.put(PATH, secret);
        sleep(RECOVERY).await;
        assert_eq!(status(&credentials).failure, Some(FailureClass::SecretMalformed));
        assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    }
    assert_eq!(world.endpoint.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_token_in_two_lines_is_malformed_and_the_old_one_goes_on_serving() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    world.store.put(PATH, static_secret("pat-first\npat-second"));
    sleep(RECOVERY).await;
    let now = status(&credentials);
    assert_eq!(now.failure, Some(FailureClass::SecretMalformed));
    assert_eq!(now.secret_version, Some(1));
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat");
    world.store.put(PATH, static_secret("pat-third"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "pat-third");
    assert_eq!(status(&credentials).failure, None);
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_policy_without_metadata_still_sees_changes_by_reading_the_secret() {
    let world = World::new();
    world.store.put(PATH, static_secret("one"));
    world.store.fail_operation(StoreOperation::Poll, Fault::Reject("denied"));
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(60)).await;
    world.store.put(PATH, static_secret("two"));
    sleep(RECOVERY).await;
    assert_eq!(text(&expect_token(handle.token(at_once()).await)), "two");
    sleep(seconds(3_600)).await;
    let now = status(&credentials);
    assert_eq!((now.state, now.failure), (State::Fresh, None));
    assert!(world.store.calls() <= 3_700 / 21 + 10, "{}", world.store.calls());
    assert!(world.store.count(StoreOperation::Poll) <= 10, "metadata is tried now and then");
    let denied = ["WARN", "denied the metadata"];
    assert_eq!(world.logs.count(&denied), 1, "{}", world.logs.dump());

    // A denial after the metadata was readable is logged again.
    world.store.heal();
    sleep(seconds(1_200)).await;
    world.store.fail_operation(StoreOperation::Poll, Fault::Reject("denied"));
    sleep(seconds(3_600)).await;
    assert_eq!(world.logs.count(&denied), 2, "{}", world.logs.dump());
    probe.assert_never_without();
}
