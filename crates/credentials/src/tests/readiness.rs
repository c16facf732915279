//! Readiness of the service by the usability of its portals.

use tokio::time::sleep;

use super::world::{PATH, RECOVERY, World, expect_token, path, seconds, status_of, within};
use crate::testing::{Fault, static_secret};
use crate::{Discovery, Readiness, ReadinessRule, Settings, Start, State};

fn all() -> Settings {
    Settings { readiness: ReadinessRule::All, ..Settings::default() }
}

/// Names of the portals that keep the service from being ready.
fn blocking(ready: &tokio::sync::watch::Receiver<Readiness>) -> Vec<String> {
    let ready = ready.borrow();
    let names: Vec<_> = ready.blocking().map(ToString::to_string).collect();
    assert_eq!(ready.is_ready(), names.is_empty() && ready.not_listed_yet.is_none());
    names
}

fn unusable(ready: &tokio::sync::watch::Receiver<Readiness>) -> Vec<String> {
    ready.borrow().unusable().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn one_usable_portal_suffices_and_the_others_are_named() {
    let world = World::new();
    world.store.put("hubspot/one", static_secret("one"));
    let credentials = world.start_with(Settings::default(), &["one", "two"]);
    let ready = credentials.ready();
    assert_eq!(blocking(&ready), ["one", "two"], "nothing is known yet");
    sleep(seconds(1)).await;
    assert_eq!((blocking(&ready), unusable(&ready)), (vec![], vec!["two".to_owned()]));
    world.store_oauth("hubspot/two", "app", "cs", "rt");
    sleep(RECOVERY).await;
    assert!(unusable(&ready).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_broken_credentials_only_is_not_ready_until_one_is_replaced() {
    for rule in [ReadinessRule::Any, ReadinessRule::All] {
        let world = World::new();
        world.store.put("hubspot/one", static_secret("one"));
        world.endpoint.reject_static(&static_secret("one"));
        let settings = Settings { readiness: rule, ..Settings::default() };
        let credentials = world.start_with(settings, &["one", "two"]);
        let ready = credentials.ready();
        for _ in 0..600 {
            sleep(seconds(1)).await;
            assert_eq!(blocking(&ready), ["one", "two"], "{rule:?}");
        }
        world.store.put("hubspot/one", static_secret("another"));
        sleep(RECOVERY).await;
        let blocks: &[&str] = if rule == ReadinessRule::Any { &[] } else { &["two"] };
        assert_eq!(blocking(&ready), blocks);
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_ends_with_the_last_usable_portal_and_comes_back() {
    let world = World::new();
    world.store.put("hubspot/one", static_secret("one"));
    world.endpoint.set_life(seconds(60));
    world.store_oauth("hubspot/two", "app", "cs", "rt");
    let credentials = world.start_with(Settings::default(), &["one", "two"]);
    let ready = credentials.ready();
    sleep(seconds(1)).await;
    assert!(unusable(&ready).is_empty());
    // The token of one expires during an outage of the token endpoint.
    world.endpoint.fail(Fault::Unavailable);
    sleep(seconds(600)).await;
    assert_eq!(status_of(&credentials, "two").state, State::Failed);
    assert_eq!((blocking(&ready), unusable(&ready)), (vec![], vec!["two".to_owned()]));
    // HubSpot rejects that of the other.
    world.endpoint.reject_static(&static_secret("one"));
    let one = credentials.handle("one").unwrap();
    let token = expect_token(one.token(within(seconds(1))).await);
    one.replacement_for(token.generation, within(seconds(1))).await.unwrap_err();
    assert_eq!(blocking(&ready), ["one", "two"]);
    world.endpoint.heal();
    sleep(RECOVERY).await;
    assert_eq!((blocking(&ready), unusable(&ready)), (vec![], vec!["one".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn with_the_rule_all_each_configured_portal_must_be_usable() {
    let world = World::oauth();
    let credentials = world.start_with(all(), &["default", "absent"]);
    let ready = credentials.ready();
    sleep(seconds(1)).await;
    assert_eq!(blocking(&ready), ["absent"]);
    credentials.remove("absent");
    assert!(blocking(&ready).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_broken_secret_in_a_folder_makes_no_replica_unready() {
    let world = World::new();
    world.store.put("folder/broken", static_secret("revoked"));
    world.endpoint.reject_static(&static_secret("revoked"));
    let discovery = Some(Discovery { path: path("folder"), interval: seconds(30) });
    for rule in [ReadinessRule::Any, ReadinessRule::All] {
        let settings = Settings { readiness: rule, discovery: discovery.clone(), ..all() };
        let credentials = world.start_with(settings.clone(), &[]);
        let ready = credentials.ready();
        sleep(seconds(1)).await;
        assert_eq!(blocking(&ready), ["broken"], "there is no other");
        drop(credentials);
        world.store_oauth(PATH, "app", "cs", "rt");
        let credentials = world.start_with(settings, &["default"]);
        let ready = credentials.ready();
        sleep(seconds(1)).await;
        assert_eq!((blocking(&ready), unusable(&ready)), (vec![], vec!["broken".to_owned()]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_folder_is_ready_once_it_was_listed() {
    let world = World::new();
    let discovery = Some(Discovery { path: path("folder"), interval: seconds(30) });
    let credentials = world.start_with(Settings { discovery, ..Settings::default() }, &[]);
    let ready = credentials.ready();
    assert!(!ready.borrow().is_ready());
    sleep(seconds(1)).await;
    assert!(ready.borrow().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_lazy_portal_is_ready_until_its_first_attempt_fails() {
    let world = World::new();
    world.store.put(PATH, static_secret("pat"));
    world.store.fail(Fault::Slow(seconds(2)));
    let settings = Settings { start: Start::Lazy, ..Settings::default() };
    let credentials = world.start_with(settings.clone(), &["default"]);
    let mut ready = credentials.ready();
    ready.borrow_and_update();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(5))).await);
    sleep(seconds(60)).await;
    assert!(!ready.has_changed().unwrap(), "its start is no reason to take the replica out");
    drop(credentials);
    world.endpoint.reject_static(&static_secret("pat"));
    let credentials = world.start_with(settings, &["default"]);
    let ready = credentials.ready();
    assert!(blocking(&ready).is_empty());
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(5))).await);
    sleep(seconds(1)).await;
    assert_eq!(blocking(&ready), ["default"]);
}
