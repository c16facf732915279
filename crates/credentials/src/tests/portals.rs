//! Many portals in one process: independent of each other, started eagerly or lazily, added and
//! removed live, by hand or by what a folder shows.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::world::{
    LIFE, RECOVERY, World, at_once, expect_token, path, seconds, status, status_of, text, within,
};
use crate::testing::{Fault, StoreOperation, oauth_secret, static_secret};
use leadsd_base::portal_name::InvalidPortalName;

use crate::{Credentials, Discovery, ReadinessRule, Settings, Start, State, TokenUnavailable};

const HUNDREDS: usize = 300;

fn names() -> Vec<String> {
    (0..HUNDREDS).map(|n| format!("portal-{n:03}")).collect()
}

/// A world in which every third portal has a static token and the others use OAuth.
fn big_world() -> (World, Vec<String>) {
    let world = World::new();
    let names = names();
    for (n, name) in names.iter().enumerate() {
        let path = format!("hubspot/{name}");
        if n % 3 == 0 {
            world.store.put(&path, static_secret(name));
        } else {
            world.store_oauth(&path, name, "cs", &format!("rt-{name}"));
        }
    }
    (world, names)
}

fn strs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn folder() -> Settings {
    let folder = Discovery { path: path("hubspot"), interval: seconds(30) };
    Settings { discovery: Some(folder), ..Settings::default() }
}

fn listed(credentials: &Credentials) -> Vec<String> {
    credentials.names().iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_portals_start_side_by_side_and_each_has_its_own_token() {
    let (world, names) = big_world();
    world.store.fail(Fault::Slow(Duration::from_millis(20)));
    world.endpoint.fail(Fault::Slow(Duration::from_millis(100)));
    let credentials = world.start_with(Settings::default(), &strs(&names));
    let started = Instant::now();
    let mut ready = credentials.ready();
    assert_eq!(ready.borrow().blocking().count(), HUNDREDS);
    ready.wait_for(|readiness| readiness.unusable().next().is_none()).await.unwrap();
    // 300 portals in turns of 16, 20 ms or 120 ms each.
    assert!(started.elapsed() < seconds(4), "{:?}", started.elapsed());

    let mut tokens = std::collections::BTreeSet::new();
    for name in &names {
        let token = expect_token(credentials.handle(name).unwrap().token(at_once()).await);
        assert!(tokens.insert(token.secret.expose().to_owned()), "{name} has another's token");
    }
    let snapshot = credentials.snapshot();
    assert!(snapshot.iter().map(|status| &*status.portal).eq(names.iter().map(String::as_str)));
    assert!(snapshot.iter().all(|status| status.state == State::Fresh));
    assert_eq!(credentials.counters().grants_ok, 200);
    assert_eq!(credentials.counters().store_reads, 300);
}

#[tokio::test(start_paused = true)]
async fn a_start_is_bounded_but_a_store_that_hangs_for_some_does_not_stop_the_others() {
    let (world, names) = big_world();
    for name in &names[..100] {
        world.store.fail_path(&format!("hubspot/{name}"), Fault::Hang);
    }
    let credentials = world.start_with(Settings::default(), &strs(&names));
    sleep(Duration::from_millis(100)).await;
    assert_eq!(world.store.calls(), 16, "concurrent calls are bounded");
    sleep(seconds(15)).await;
    for name in &names[100..] {
        expect_token(credentials.handle(name).unwrap().token(at_once()).await);
    }
    {
        let ready = credentials.ready();
        let ready = ready.borrow();
        assert!(ready.is_ready(), "one usable portal suffices");
        assert!(ready.unusable().map(|name| &**name).eq(names[..100].iter().map(String::as_str)));
    }
    world.store.heal();
    let waits = names[..100].iter().map(|name| async {
        expect_token(credentials.handle(name).unwrap().token(within(RECOVERY)).await);
    });
    join_all(waits).await;
    sleep(seconds(1)).await;
    assert_eq!(credentials.ready().borrow().unusable().next(), None);
}

#[tokio::test(start_paused = true)]
async fn a_caller_does_not_wait_for_a_start_slot() {
    let (world, names) = big_world();
    for name in &names[..299] {
        world.store.fail_path(&format!("hubspot/{name}"), Fault::Hang);
    }
    let credentials = world.start_with(Settings::default(), &strs(&names));
    let last = credentials.handle(&names[299]).unwrap();
    expect_token(last.token(within(Duration::from_millis(10))).await);
}

#[tokio::test(start_paused = true)]
async fn portals_broken_in_every_way_affect_no_other() {
    let world = World::new();
    world.store_oauth("hubspot/good", "good", "cs", "rt-good");
    for name in ["hang", "panic", "down", "denied", "login"] {
        world.store_oauth(&format!("hubspot/{name}"), name, "cs", &format!("rt-{name}"));
    }
    world.store.fail_path("hubspot/hang", Fault::Hang);
    world.store.fail_path("hubspot/panic", Fault::Panic);
    world.store.fail_path("hubspot/down", Fault::Unavailable);
    world.store.fail_path("hubspot/denied", Fault::Reject("denied"));
    world.store.fail_path("hubspot/login", Fault::RejectLogin);
    for (name, fault) in [
        ("grant-hang", Fault::Hang),
        ("grant-panic", Fault::Panic),
        ("grant-refused", Fault::Reject("invalid_grant")),
        ("grant-throttled", Fault::Throttle(None)),
    ] {
        world.store_oauth(&format!("hubspot/{name}"), name, "cs", &format!("rt-{name}"));
        world.endpoint.fail_client(name, fault);
    }
    world.store.put_malformed("hubspot/malformed");
    let all = [
        "good",
        "hang",
        "panic",
        "down",
        "denied",
        "login",
        "grant-hang",
        "grant-panic",
        "grant-refused",
        "grant-throttled",
        "malformed",
        "absent",
    ];
    let credentials = world.start_with(Settings::default(), &all);
    let good = credentials.handle("good").unwrap();
    expect_token(good.token(within(Duration::from_millis(10))).await);
    let probe = world.probe(&good);
    sleep(LIFE * 8).await;
    probe.assert_never_without();
    assert!(world.endpoint.calls_by("good") <= 13, "{}", world.endpoint.calls_by("good"));
    for name in &all[1..] {
        let status = status_of(&credentials, name);
        assert!(!status.usable, "{name}");
        assert!(matches!(status.state, State::Failed | State::Suspended), "{name}: {status:?}");
        let per_hour = world.store.count_path(&format!("hubspot/{name}")) / 4;
        assert!(per_hour <= 700, "{name}: {per_hour} calls an hour");
    }
    let ready = credentials.ready();
    assert_eq!(ready.borrow().unusable().count(), all.len() - 1);
    assert!(ready.borrow().is_ready());
}

#[tokio::test(start_paused = true)]
async fn lazy_portals_cost_nothing_until_the_first_call() {
    let (world, names) = big_world();
    let settings = Settings { start: Start::Lazy, ..Settings::default() };
    let credentials = world.start_with(settings, &strs(&names));
    assert!(credentials.ready().borrow().is_ready(), "nothing to wait for");
    sleep(seconds(3_600)).await;
    assert_eq!((world.store.calls(), world.endpoint.calls()), (0, 0));
    assert!(credentials.snapshot().iter().all(|status| status.state == State::Starting));

    let handle = credentials.handle("portal-001").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(LIFE * 4).await;
    probe.assert_never_without();
    assert_eq!(world.store.calls(), world.store.count_path("hubspot/portal-001"), "only that one");
    // An operator's request starts the portal, too.
    credentials.refresh_now("portal-000");
    sleep(seconds(1)).await;
    assert_eq!(status_of(&credentials, "portal-000").state, State::Fresh);
}

#[tokio::test(start_paused = true)]
async fn portals_are_added_and_removed_live() {
    let world = World::oauth();
    let credentials = world.start();
    world.store.put("hubspot/late", static_secret("late"));
    assert!(credentials.handle("late").is_none());
    assert_eq!(credentials.add("late", path("hubspot/late")), Ok(true));
    assert_eq!(credentials.add("late", path("hubspot/other")), Ok(false), "left alone");
    let late = credentials.handle("late").unwrap();
    let token = expect_token(late.token(within(seconds(1))).await);
    assert_eq!(text(&token), "late");
    assert_eq!(listed(&credentials), ["default", "late"]);

    assert!(credentials.remove("late"));
    assert!(!credentials.remove("late"));
    assert_eq!(listed(&credentials), ["default"]);
    assert!(credentials.handle("late").is_none());
    assert_eq!(late.token(at_once()).await, Ok(token.clone()), "calls in flight finish");
    sleep(seconds(1)).await;
    let calls = world.store.count_path("hubspot/late");
    sleep(seconds(600)).await;
    assert_eq!(world.store.count_path("hubspot/late"), calls);
    let instead = late.replacement_for(token.generation, within(seconds(9))).await;
    assert_eq!(instead, Err(TokenUnavailable::Suspended("the portal was removed".to_owned())));
    let removed = credentials.counters().store_reads;
    assert_eq!(removed, 2, "totals keep what removed portals did");
}

#[tokio::test(start_paused = true)]
async fn a_removed_portal_no_longer_keeps_the_service_from_being_ready() {
    let world = World::oauth();
    let settings = Settings { readiness: ReadinessRule::All, ..Settings::default() };
    let credentials = world.start_with(settings, &["default", "absent"]);
    let mut ready = credentials.ready();
    let handle = credentials.handle("absent").unwrap();
    sleep(seconds(1)).await;
    assert!(!ready.borrow_and_update().is_ready());
    credentials.remove("absent");
    assert!(ready.borrow_and_update().is_ready());
    assert!(handle.token(within(seconds(1))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn invalid_portal_names_are_rejected() {
    let world = World::oauth();
    let long = "x".repeat(65);
    for bad in ["", "a b", "a/b", "..", "ä", "a.b", "a\n", long.as_str()] {
        let (kv, hub, clock) = world.ports();
        let portals = [("good".to_owned(), path("x")), (bad.to_owned(), path("x"))];
        let refused = Credentials::start(Settings::default(), kv, hub, clock, portals);
        assert_eq!(refused.map(|_| ()), Err(InvalidPortalName(bad.to_owned())));
    }
    let credentials = world.start();
    assert_eq!(credentials.add("a b", path("x")), Err(InvalidPortalName("a b".to_owned())));
    let longest = "Az09_-".repeat(10) + "abcd";
    assert_eq!(credentials.add(&longest, path("x")), Ok(true));
    sleep(seconds(1)).await;
    assert_eq!(world.store.count(StoreOperation::List), 0);
}

#[tokio::test(start_paused = true)]
async fn portals_in_a_folder_are_discovered_and_used() {
    let world = World::new();
    world.store.put("hubspot/one", static_secret("one"));
    world.store_oauth("hubspot/two", "app", "cs", "rt");
    let credentials = world.start_with(folder(), &[]);
    assert!(!credentials.ready().borrow().is_ready(), "the folder was not listed yet");
    sleep(seconds(1)).await;
    assert!(credentials.ready().borrow().is_ready());
    assert_eq!(listed(&credentials), ["one", "two"]);
    for name in ["one", "two"] {
        expect_token(credentials.handle(name).unwrap().token(within(seconds(1))).await);
        assert!(status_of(&credentials, name).discovered);
    }
    world.store.put("hubspot/three", static_secret("three"));
    sleep(RECOVERY).await;
    let three = credentials.handle("three").unwrap();
    assert_eq!(text(&expect_token(three.token(at_once()).await)), "three");
}

#[tokio::test(start_paused = true)]
async fn a_portal_that_leaves_the_folder_is_removed_after_a_second_listing() {
    let world = World::new();
    for name in ["one", "two", "three"] {
        world.store.put(&format!("hubspot/{name}"), static_secret(name));
    }
    let credentials = world.start_with(folder(), &[]);
    sleep(seconds(1)).await;
    world.store.purge("hubspot/two");
    sleep(seconds(15)).await;
    assert!(credentials.handle("two").is_some());
    sleep(RECOVERY * 2).await;
    assert_eq!(listed(&credentials), ["one", "three"]);
    world.store.put("hubspot/two", static_secret("two-again"));
    sleep(RECOVERY).await;
    let two = credentials.handle("two").unwrap();
    assert_eq!(text(&expect_token(two.token(at_once()).await)), "two-again");
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_shows_nothing_or_cannot_be_listed_removes_no_portal() {
    let world = World::new();
    world.store_oauth("hubspot/one", "app", "cs", "rt");
    let credentials = world.start_with(folder(), &[]);
    let one = async |credentials: &Credentials| credentials.handle("one").unwrap();
    sleep(seconds(1)).await;
    let handle = one(&credentials).await;
    let probe = world.probe(&handle);
    for fault in [Fault::Unavailable, Fault::Hang, Fault::Reject("denied"), Fault::RejectLogin] {
        world.store.fail_operation(StoreOperation::List, fault);
        sleep(seconds(1_200)).await;
        assert_eq!(listed(&credentials), ["one"]);
    }
    assert!(
        world.store.count(StoreOperation::List) <= 4 * 1_200 / 5,
        "{}",
        world.store.count(StoreOperation::List)
    );
    // The store was restored without its secrets.
    world.store.heal();
    world.store.purge("hubspot/one");
    sleep(seconds(1_200)).await;
    assert_eq!(listed(&credentials), ["one"]);
    probe.assert_never_without();
    assert_eq!(
        world.logs.count(&["WARN", "Folder shows no portal any more"]),
        0,
        "in doubt already"
    );
    world.store_oauth("hubspot/two", "app-2", "cs", "rt-2");
    sleep(RECOVERY * 3).await;
    assert_eq!(listed(&credentials), ["two"], "a folder that shows something is believed");
}

#[tokio::test(start_paused = true)]
async fn a_folder_out_of_reach_at_start_is_listed_within_half_a_minute_of_its_return() {
    for fault in [Fault::Unavailable, Fault::Hang, Fault::Panic] {
        let world = World::new();
        world.store.put("hubspot/one", static_secret("one"));
        world.store.fail(fault.clone());
        let credentials = world.start_with(folder(), &[]);
        sleep(seconds(600)).await;
        assert!(credentials.handle("one").is_none());
        world.store.heal();
        sleep(RECOVERY).await;
        let handle = credentials.handle("one").unwrap_or_else(|| panic!("{fault:?}"));
        expect_token(handle.token(at_once()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_is_not_ready_before_the_folder_was_listed() {
    let world = World::new();
    world.store.put("hubspot/one", static_secret("one"));
    world.store.fail_operation(StoreOperation::List, Fault::Unavailable);
    let credentials = world.start_with(folder(), &[]);
    sleep(seconds(60)).await;
    assert!(!credentials.ready().borrow().is_ready());
    world.store.heal();
    sleep(RECOVERY).await;
    assert!(credentials.ready().borrow().is_ready());
    assert_eq!(listed(&credentials), ["one"]);
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_no_portals_are_logged_once() {
    let world = World::new();
    world.store.put("hubspot/good", static_secret("good"));
    world.store.also_list(&["not a name", "sub.folder", &"x".repeat(65)]);
    let credentials = world.start_with(folder(), &[]);
    sleep(seconds(3_600)).await;
    assert_eq!(listed(&credentials), ["good"]);
    assert_eq!(world.logs.count(&["WARN", "Skipped a secret"]), 3);
}

#[tokio::test(start_paused = true)]
async fn a_configured_portal_wins_over_one_of_the_same_name_in_the_folder() {
    let world = World::new();
    world.store.put("elsewhere/default", static_secret("configured"));
    world.store.put("hubspot/default", static_secret("discovered"));
    world.store.put("hubspot/other", static_secret("other"));
    let (kv, hub, clock) = world.ports();
    let portals = [("default".to_owned(), path("elsewhere/default"))];
    let credentials = Credentials::start(folder(), kv, hub, clock, portals).unwrap();
    sleep(seconds(60)).await;
    let token = expect_token(credentials.handle("default").unwrap().token(at_once()).await);
    assert_eq!(text(&token), "configured");
    assert!(!status(&credentials).discovered);
    // Nor does its absence from the folder remove it.
    world.store.purge("hubspot/default");
    sleep(seconds(300)).await;
    assert_eq!(listed(&credentials), ["default", "other"]);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everything_at_once_when_nothing_would_be_lost() {
    let (world, names) = big_world();
    let settings = Settings { start_concurrency: 1_000, ..folder() };
    let credentials = world.start_with(settings, &strs(&names[..10]));
    sleep(seconds(60)).await;
    let before = Instant::now();
    assert!(credentials.close(within(seconds(30))).await);
    assert_eq!(Instant::now(), before);
    let calls = (world.store.calls(), world.endpoint.calls());
    sleep(LIFE * 2).await;
    assert_eq!((world.store.calls(), world.endpoint.calls()), calls);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_client_is_not_mixed_up_with_a_known_one() {
    let world = World::new();
    world.store_oauth("hubspot/one", "app-1", "cs-1", "rt-1");
    world.store.put("hubspot/two", oauth_secret("app-2", "cs-1", "rt-1"));
    let credentials = world.start_with(Settings::default(), &["one", "two"]);
    sleep(seconds(60)).await;
    assert_eq!(status_of(&credentials, "one").state, State::Fresh);
    assert_eq!(status_of(&credentials, "two").state, State::Suspended);
}
