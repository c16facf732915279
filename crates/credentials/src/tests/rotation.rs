//! Refresh tokens that change: saved with check-and-set, never lost, and shared by replicas that
//! know of each other only through the store.

use tokio::time::sleep;

use super::world::{
    LIFE, PATH, RECOVERY, World, at_once, expect_token, few_or_all, parts, seconds, status, within,
};
use crate::testing::{Fault, Rotation, StoreOperation, oauth_secret, static_secret};
use crate::{FailureClass, Settings, State};

const TWO_HOURS: u64 = 2 * 3_600;

fn rotating(rotation: Rotation) -> World {
    let world = World::oauth();
    world.endpoint.rotate(rotation);
    world
}

#[tokio::test(start_paused = true)]
async fn a_rotated_refresh_token_is_written_back() {
    let world = rotating(Rotation::Strict);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(1)).await;
    assert_eq!(world.store.refresh_token(PATH), "hush-rt-1");
    assert_eq!(
        parts(&world.store.newest(PATH).unwrap()),
        ("cs-1", "rt-1"),
        "all other keys are kept"
    );
    let now = status(&credentials);
    assert_eq!((now.secret_version, now.write_back_pending), (Some(2), false));

    sleep(seconds(24 * 3_600)).await;
    probe.assert_never_without();
    let refreshes = world.endpoint.calls();
    assert_eq!(world.store.count(StoreOperation::Write), refreshes, "one write for each");
    assert_eq!(world.store.count(StoreOperation::Read), 1, "our own writes are no news");
    assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    assert_eq!(status(&credentials).counters.conflicts, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_repeats_the_refresh_token_or_has_none_writes_nothing() {
    let world = World::oauth();
    let credentials = world.start();
    sleep(seconds(24 * 3_600)).await;
    assert_eq!(world.store.count(StoreOperation::Write), 0);
    assert_eq!(world.store.version_of(PATH), 1);
    drop(credentials);
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_that_cannot_be_saved_is_kept_used_and_saved_in_the_end() {
    for fault in [
        Fault::Unavailable,
        Fault::Hang,
        Fault::RejectLogin,
        Fault::Panic,
        Fault::Reject("the policy does not allow writing"),
    ] {
        let world = rotating(Rotation::Strict);
        world.store.fail_operation(StoreOperation::Write, fault.clone());
        let credentials = world.start();
        let handle = credentials.handle("default").unwrap();
        expect_token(handle.token(within(seconds(1))).await);
        let probe = world.probe(&handle);
        sleep(seconds(TWO_HOURS)).await;

        let now = status(&credentials);
        assert!(now.write_back_pending, "{fault:?}");
        assert_eq!(now.state, State::Stale, "{fault:?}");
        assert!(now.failure.is_some());
        assert!(now.generation >= 5, "refreshed with the token in memory");
        assert_eq!(world.store.version_of(PATH), 1);
        let writes = world.store.count(StoreOperation::Write);
        assert!(writes <= 1_100, "{fault:?}: {writes} writes");
        let loud = world.logs.count(&["ERROR", "Failed to save the rotated refresh token"]);
        assert!((1..=60).contains(&loud), "{fault:?}: {loud} lines");

        world.store.heal();
        sleep(RECOVERY).await;
        let now = status(&credentials);
        assert_eq!((now.write_back_pending, now.state), (false, State::Fresh), "{fault:?}");
        assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
        probe.assert_never_without();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_outage_loses_no_rotated_token() {
    let world = rotating(Rotation::Strict);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(60)).await;
    world.store.fail(Fault::Hang);
    sleep(seconds(TWO_HOURS)).await;
    assert!(status(&credentials).write_back_pending);
    assert!(
        !world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)),
        "what the store has is dead"
    );
    world.store.heal();
    sleep(RECOVERY).await;
    assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    assert_eq!(status(&credentials).counters.grants_rejected, 0);
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_is_lost_is_recognised_as_done() {
    // The write arrives, but its response comes after the timeout.
    let world = rotating(Rotation::Strict);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let secret = world.store.newest(PATH).unwrap();
    sleep(seconds(1)).await;
    assert_eq!(world.store.version_of(PATH), 2);
    world.store.fail_operation(StoreOperation::Write, Fault::Hang);
    credentials.refresh_now("default");
    sleep(seconds(3)).await;
    assert!(status(&credentials).write_back_pending);
    world.store.put(PATH, oauth_secret("app", parts(&secret).0, "rt-2"));
    sleep(RECOVERY).await;
    let now = status(&credentials);
    assert_eq!((now.write_back_pending, now.secret_version), (false, Some(3)));
    assert_eq!((now.counters.conflicts, now.state), (0, State::Fresh));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_loses_the_write_adopts_the_other_token() {
    // Between our read and our write another replica trades the same token and saves first.
    let world = rotating(Rotation::Lenient);
    world.endpoint.hold();
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    sleep(seconds(1)).await;
    world.store_oauth(PATH, "app", "cs-1", "rt-winner");
    world.endpoint.release();
    world.endpoint.rotate(Rotation::Never);
    expect_token(handle.token(within(seconds(1))).await);
    let now = status(&credentials);
    assert_eq!((now.state, now.generation), (State::Fresh, 1));

    // The winner's token is proven soon; the fallback is then no longer needed.
    sleep(seconds(10)).await;
    assert_eq!(world.store.refresh_token(PATH), "hush-rt-winner", "not overwritten");
    let now = status(&credentials);
    assert_eq!((now.secret_version, now.write_back_pending), (Some(2), false));
    assert_eq!((now.counters.conflicts, now.counters.store_writes), (1, 1));
    assert_eq!((now.state, now.generation), (State::Fresh, 2));
    assert_eq!((now.counters.grants_ok, now.counters.grants_rejected), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_concurrent_change_of_another_key_does_not_undo_the_rotation() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(5)).await;
    // A new client secret, with the refresh token that was traded in meanwhile.
    let secret = oauth_secret("app", "cs-2", "rt-first");
    world.endpoint.accept(&secret);
    world.endpoint.revoke("hush-rt-first");
    world.store.put(PATH, secret);
    world.store.heal();
    sleep(RECOVERY * 2).await;

    let (client_secret, refresh_token) = {
        let newest = world.store.newest(PATH).unwrap();
        let (client_secret, refresh_token) = parts(&newest);
        (client_secret.to_owned(), refresh_token.to_owned())
    };
    assert_eq!(client_secret, "cs-2", "theirs is kept");
    assert!(
        world.endpoint.accepts_refresh_token(&format!("hush-{refresh_token}")),
        "and so is ours: {refresh_token}"
    );
    let now = status(&credentials);
    assert_eq!((now.state, now.counters.grants_rejected), (State::Fresh, 0));
    assert!(!now.write_back_pending);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_refresh_token_is_saved_if_the_winner_was_rejected() {
    // An endpoint that lets only the newest token live: the loser's grant ended the winner's token.
    let world = rotating(Rotation::Newest);
    let first = world.start();
    let one = first.handle("default").unwrap();
    world.endpoint.hold();
    let second = world.start();
    sleep(seconds(2)).await;
    assert_eq!(world.endpoint.calls(), 2, "both have traded the first token");
    world.store.fail_operation(StoreOperation::Write, Fault::Slow(seconds(1)));
    world.endpoint.release();
    let two = second.handle("default").unwrap();
    let probes = [world.probe(&one), world.probe(&two)];
    sleep(RECOVERY).await;
    assert!(
        world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)),
        "the grant is in the store again"
    );
    sleep(seconds(24 * 3_600)).await;
    for credentials in [&first, &second] {
        assert_eq!(status(credentials).state, State::Fresh);
    }
    probes.iter().for_each(|probe| {
        probe.assert_served();
    });
}

#[tokio::test(start_paused = true)]
async fn a_replaced_client_ends_the_write_back() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(5)).await;
    assert!(status(&credentials).write_back_pending);
    world.endpoint.rotate(Rotation::Never);
    world.store_oauth(PATH, "other", "cs-2", "rt-other");
    world.store.heal();
    sleep(RECOVERY * 2).await;
    assert_eq!(world.store.refresh_token(PATH), "hush-rt-other");
    let now = status(&credentials);
    assert_eq!((now.write_back_pending, now.state, now.generation), (false, State::Fresh, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pending_write_back_outlives_the_deletion_of_the_secret() {
    let world = rotating(Rotation::Strict);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    sleep(seconds(10)).await;
    world.store.delete(PATH);
    sleep(LIFE * 3).await;
    let now = status(&credentials);
    assert!(now.secret_deleted && now.write_back_pending);
    assert_eq!(now.failure, Some(FailureClass::SecretMissing));
    world.store.undelete(PATH);
    sleep(RECOVERY).await;
    assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    assert_eq!(status(&credentials).state, State::Fresh);
    probe.assert_never_without();
}

#[tokio::test(start_paused = true)]
async fn two_replicas_that_start_together_never_lose_the_grant() {
    for rotation in [Rotation::Never, Rotation::Lenient, Rotation::Newest, Rotation::Strict] {
        for delay_ms in [0, 50, 400, 3_000] {
            let world = rotating(rotation);
            let delay = std::time::Duration::from_millis(delay_ms);
            // Both read before either writes.
            world.store.fail(Fault::Slow(delay));
            world.endpoint.fail(Fault::Slow(delay));
            let replicas = [world.start(), world.start()];
            for replica in &replicas {
                let handle = replica.handle("default").unwrap();
                expect_token(handle.token(within(RECOVERY)).await);
            }
            sleep(RECOVERY).await;
            world.store.heal();
            world.endpoint.heal();
            sleep(RECOVERY).await;
            assert!(
                world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)),
                "{rotation:?} {delay:?}: the store has a dead token"
            );
            for replica in &replicas {
                assert_eq!(status(replica).state, State::Fresh, "{rotation:?} {delay:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn three_replicas_live_off_one_rotating_grant_for_hours_without_chasing_each_other() {
    let hours = few_or_all(6, 24);
    for rotation in [Rotation::Lenient, Rotation::Newest, Rotation::Strict] {
        let world = rotating(rotation);
        let replicas = [world.start(), world.start(), world.start()];
        let probes: Vec<_> =
            replicas.iter().map(|one| world.probe(&one.handle("default").unwrap())).collect();
        sleep(seconds(hours * 3_600)).await;
        for (replica, probe) in replicas.iter().zip(&probes) {
            // A token that another replica has is of no use to the callers of this one.
            let seen = probe.seen();
            let missed: Vec<_> = seen.without.iter().chain(&seen.failed).collect();
            assert!(missed.iter().all(|at| **at < RECOVERY), "{rotation:?} {missed:?}");
            let now = status(replica);
            assert!(now.usable && now.state != State::Suspended, "{rotation:?} {now:?}");
        }
        let refreshes: u64 = 3 * hours * 3 + 3;
        let most = usize::try_from(refreshes + refreshes / 10).unwrap();
        assert!(
            world.endpoint.calls() <= most,
            "{rotation:?}: {} of {most}",
            world.endpoint.calls()
        );
        assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_overtaken_by_another_s_rotation_refreshes_with_the_new_token() {
    // Another replica has rotated since the last poll; the store is polled before the request.
    let world = rotating(Rotation::Strict);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    let probe = world.probe(&handle);
    for round in 0..20 {
        sleep(seconds(600)).await;
        let current = world.store.refresh_token(PATH);
        world.endpoint.revoke(&current);
        world.store_oauth(PATH, "app", "cs-1", &format!("rt-other-{round}"));
    }
    assert_eq!(status(&credentials).counters.grants_rejected, 0);
    probe.assert_never_without();
    assert!(handle.token(at_once()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_a_rotated_token_to_be_saved() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Slow(seconds(3)));
    world.endpoint.hold();
    let credentials = world.start();
    sleep(seconds(1)).await;
    assert_eq!(world.endpoint.calls(), 1, "the grant is under way");
    let close = credentials.close(within(seconds(20)));
    let release = async {
        sleep(seconds(2)).await;
        world.endpoint.release();
    };
    let (nothing_lost, ()) = tokio::join!(close, release);
    assert!(nothing_lost);
    assert_eq!(world.store.refresh_token(PATH), "hush-rt-1");
}

#[tokio::test(start_paused = true)]
async fn closing_gives_up_at_its_deadline_and_says_so() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    sleep(seconds(5)).await;
    let before = tokio::time::Instant::now();
    assert!(!credentials.close(within(seconds(15))).await);
    assert_eq!(before.elapsed().as_secs(), 15);
    let calls = (world.store.calls(), world.endpoint.calls());
    sleep(seconds(3_600)).await;
    assert_eq!((world.store.calls(), world.endpoint.calls()), calls, "nothing runs on");
}

#[tokio::test(start_paused = true)]
async fn a_removed_portal_saves_its_rotated_token_before_it_ends() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    assert!(credentials.remove("default"));
    assert!(credentials.handle("default").is_none());
    sleep(seconds(60)).await;
    world.store.heal();
    sleep(RECOVERY).await;
    assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    let calls = (world.store.calls(), world.endpoint.calls());
    sleep(seconds(3_600)).await;
    assert_eq!((world.store.calls(), world.endpoint.calls()), calls, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lags_behind_its_own_conflicts_is_not_asked_in_circles() {
    let world = rotating(Rotation::Lenient);
    world.store.fail_operation(StoreOperation::Write, Fault::Unavailable);
    let credentials = world.start();
    expect_token(credentials.handle("default").unwrap().token(within(seconds(1))).await);
    // The secret has changed, but reads still show the version before.
    let version = world.store.version_of(PATH);
    world.store.put(PATH, static_secret("pat-1"));
    world.store.heal();
    world.store.show_only(version);
    let before = world.store.calls();
    sleep(seconds(120)).await;
    assert!(world.store.calls() - before < 60, "{} calls", world.store.calls() - before);
    assert!(status(&credentials).write_back_pending);
}

#[tokio::test(start_paused = true)]
async fn the_log_says_why_a_rotated_token_is_not_saved_and_after_how_many_attempts_it_is() {
    let world = rotating(Rotation::Strict);
    world.store.fail_operation(StoreOperation::Write, Fault::Hang);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    expect_token(handle.token(within(seconds(1))).await);
    sleep(seconds(60)).await;
    let timeout = format!("{} s", Settings::default().store_timeout.as_secs_f32());
    assert!(world.logs.count(&["ERROR", "portal=default", &timeout]) > 0, "{}", world.logs.dump());
    world.store.heal();
    sleep(RECOVERY).await;
    let attempts = format!("attempts={}", world.store.count(StoreOperation::Write));
    let saved = ["INFO", "portal=default", "version=2", &attempts];
    assert_eq!(world.logs.count(&saved), 1, "{}", world.logs.dump());
}
