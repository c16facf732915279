//! Random schedules of faults, against rules that hold for all of them:
//!
//! 1. A caller gets a good token at once whenever its engine holds an unexpired one.
//! 2. Within 30 s of the end of all faults every portal is fresh, unless its credential is bad; and
//!    it is as soon as the credential is put right.
//! 3. The refresh token that the store has in the end is one that works.
//! 4. The calls to the store and to the token endpoint are bounded by the time that passed.
//! 5. No secret is logged (the world checks that).

use std::{sync::atomic::Ordering, time::Duration};

use proptest::{collection::vec, prelude::*};
use tokio::time::{Instant, sleep};

use super::world::{PATH, Probe, RECOVERY, World, at_once, few_or_all, seconds, status, within};
use crate::testing::{Fault, Rotation, StoreOperation, oauth_secret, static_secret};
use crate::{Credentials, FailureClass, Handle, PortalSecret, State};

/// A schedule of faults takes about a hundred times as long as a usual case: 4 of them by default, for a
/// quick run after a change, and 32 in CI.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: few_or_all(4, 32),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Next event of the simulation.
#[derive(Debug, Clone)]
enum Step {
    Store(Fault),
    StoreOp(StoreOperation, Fault),
    StoreHeals,
    Endpoint(Fault),
    EndpointHeals,
    Clock(i64),
    LoopPanics,
    RefreshNow,
    /// Callers report the current token.
    Report,
    /// HubSpot ends all access tokens, and callers report it.
    TokensRevoked,
    /// An operator writes a new client secret, keeping the refresh token.
    ClientSecret,
    /// An operator writes a new grant.
    NewGrant,
    Delete,
    Undelete,
    StaticToken,
    Malformed,
    Lag,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::Unavailable),
        Just(Fault::Hang),
        Just(Fault::Panic),
        Just(Fault::RejectLogin),
        Just(Fault::Throttle(None)),
        (1_u64..15).prop_map(|s| Fault::Throttle(Some(seconds(s)))),
        (1_u64..9_000).prop_map(|ms| Fault::Slow(Duration::from_millis(ms))),
        Just(Fault::Reject("invalid_grant")),
    ]
}

fn op() -> impl Strategy<Value = StoreOperation> {
    prop_oneof![Just(StoreOperation::Read), Just(StoreOperation::Poll), Just(StoreOperation::Write)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => fault().prop_map(Step::Store),
        2 => (op(), fault()).prop_map(|(op, fault)| Step::StoreOp(op, fault)),
        4 => Just(Step::StoreHeals),
        4 => fault().prop_map(Step::Endpoint),
        4 => Just(Step::EndpointHeals),
        1 => prop_oneof![Just(3_600_i64), Just(-3_600_i64), -100_i64..2_000].prop_map(Step::Clock),
        1 => Just(Step::LoopPanics),
        1 => Just(Step::RefreshNow),
        2 => Just(Step::Report),
        1 => Just(Step::TokensRevoked),
        1 => Just(Step::ClientSecret),
        1 => Just(Step::NewGrant),
        1 => Just(Step::Delete),
        2 => Just(Step::Undelete),
        1 => Just(Step::StaticToken),
        1 => Just(Step::Malformed),
        1 => Just(Step::Lag),
    ]
}

fn rotation() -> impl Strategy<Value = Rotation> {
    prop_oneof![
        Just(Rotation::Never),
        Just(Rotation::Lenient),
        Just(Rotation::Newest),
        Just(Rotation::Strict),
    ]
}

/// Pauses between steps, from the blink of an eye to beyond a token's life.
fn pause() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..1_000).prop_map(Duration::from_millis),
        (1_u64..40).prop_map(seconds),
        (40_u64..2_500).prop_map(seconds),
    ]
}

struct Run {
    world: World,
    serial: u32,
}

impl Run {
    fn apply(&mut self, step: &Step, replicas: &[Credentials]) {
        let world = &self.world;
        match step {
            Step::Store(fault) => world.store.fail(fault.clone()),
            Step::StoreOp(op, fault) => world.store.fail_operation(*op, fault.clone()),
            Step::StoreHeals => world.store.heal(),
            Step::Endpoint(fault) => world.endpoint.fail(fault.clone()),
            Step::EndpointHeals => world.endpoint.heal(),
            Step::Clock(by) => world.clock.jump(*by),
            Step::LoopPanics => world.clock.panic_next(1),
            Step::RefreshNow => replicas.iter().for_each(|replica| {
                replica.refresh_now("default");
            }),
            Step::TokensRevoked => world.endpoint.revoke_access(),
            Step::Report => {}
            Step::ClientSecret => {
                let Some(PortalSecret::OAuth { refresh_token, .. }) = world.store.newest(PATH)
                else {
                    return;
                };
                self.serial += 1;
                let client_secret = format!("cs-{}", self.serial);
                let refresh_token = refresh_token.expose().strip_prefix("hush-").unwrap();
                let secret = oauth_secret("app", &client_secret, refresh_token);
                // The endpoint knows the new client secret; the grant is as good as it was.
                world.endpoint.set_client("app", &format!("hush-{client_secret}"));
                world.store.put(PATH, secret);
            }
            Step::NewGrant => self.new_grant(),
            Step::Delete => world.store.delete(PATH),
            Step::Undelete => world.store.undelete(PATH),
            Step::StaticToken => {
                self.serial += 1;
                let token = format!("pat-{}", self.serial);
                self.world.store.put(PATH, static_secret(&token));
            }
            Step::Malformed => {
                world.store.put_malformed(PATH);
            }
            Step::Lag => {
                let version = world.store.version_of(PATH);
                world.store.show_only(version.saturating_sub(1).max(1));
            }
        }
    }

    fn new_grant(&mut self) {
        self.serial += 1;
        let (client_secret, refresh_token) =
            (format!("cs-{}", self.serial), format!("rt-new-{}", self.serial));
        self.world.store_oauth(PATH, "app", &client_secret, &refresh_token);
    }
}

/// Asserts for every engine: an unexpired token is served at once, and it is valid unless it was
/// revoked.
async fn check_served(replicas: &[Credentials], handles: &[Handle]) -> Result<(), TestCaseError> {
    for (replica, handle) in replicas.iter().zip(handles) {
        let status = status(replica);
        let before = Instant::now();
        let answer = handle.token(Instant::now()).await;
        prop_assert_eq!(Instant::now(), before, "reading the token waited");
        // Callers get a token also if HubSpot has rejected it, or has not been asked yet. The status names
        // the last failure, which can be a later one.
        let is_rejected =
            status.failure == Some(FailureClass::TokenRejected) || status.counters.rejections > 0;
        let is_in_doubt = is_rejected || status.state == State::Starting;
        let expected = status.usable || (answer.is_ok() && is_in_doubt);
        prop_assert_eq!(answer.is_ok(), expected, "{:?} {:?}", answer, status);
    }
    Ok(())
}

async fn run(
    rotation: Rotation,
    replicas: usize,
    seed: u64,
    steps: Vec<(Step, Duration)>,
) -> Result<(), TestCaseError> {
    let world = World::oauth();
    world.seed.store(seed, Ordering::Relaxed);
    world.endpoint.rotate(rotation);
    let replicas: Vec<_> = (0..replicas).map(|_| world.start()).collect();
    let handles: Vec<_> = replicas.iter().map(|one| one.handle("default").unwrap()).collect();
    let started = Instant::now();
    let mut run = Run { world, serial: 1 };
    let mut events = 0_usize;
    for (step, pause) in &steps {
        run.apply(step, &replicas);
        events += 1;
        if matches!(step, Step::Report | Step::TokensRevoked) {
            report(&handles).await;
        }
        let step_ends = Instant::now() + *pause;
        while Instant::now() < step_ends {
            check_served(&replicas, &handles).await?;
            prop_assert!(!run.world.clock.saw_busy_loop(), "{:?}", replicas[0].snapshot());
            sleep((*pause / 5).max(Duration::from_millis(100))).await;
        }
    }

    // All faults end, and the operator makes sure that there is a good credential.
    run.world.store.heal();
    run.world.endpoint.heal();
    run.world.store.undelete(PATH);
    run.new_grant();
    sleep(RECOVERY).await;
    for (replica, handle) in replicas.iter().zip(&handles) {
        let answer = handle.token(within(RECOVERY)).await;
        prop_assert!(answer.is_ok(), "not back: {:?} {:?}", answer, status(replica));
    }
    sleep(RECOVERY).await;
    for replica in &replicas {
        let status = status(replica);
        prop_assert_eq!(status.state, State::Fresh, "{:?}", status);
    }
    prop_assert!(
        run.world.endpoint.accepts_refresh_token(&run.world.store.refresh_token(PATH)),
        "a dead token is stored"
    );
    check_bounds(&run.world, started.elapsed(), replicas.len(), events)
}

async fn report(handles: &[Handle]) {
    for handle in handles {
        if let Ok(token) = handle.token(at_once()).await {
            let reports =
                (0..5).map(|_| handle.replacement_for(token.generation, within(seconds(1))));
            futures_util::future::join_all(reports).await;
        }
    }
}

/// Call rate per engine: at most one call every 3 s on average, and a few for each event.
fn check_bounds(
    world: &World,
    passed: Duration,
    replicas: usize,
    events: usize,
) -> Result<(), TestCaseError> {
    let slots = usize::try_from(passed.as_secs()).unwrap();
    let most_grants = replicas * (slots / 6 + 10 * (events + 5));
    let most_store = replicas * (slots / 4 + 15 * (events + 5));
    prop_assert!(
        world.endpoint.calls() <= most_grants,
        "{} > {most_grants}",
        world.endpoint.calls()
    );
    prop_assert!(world.store.calls() <= most_store, "{} > {most_store}", world.store.calls());
    Ok(())
}

fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_engine_recovers_from_any_schedule_of_faults(
        rotation in rotation(), seed in any::<u64>(), steps in vec((step(), pause()), 1..25),
    ) {
        in_paused_time(run(rotation, 1, seed, steps))?;
    }

    #[test]
    fn replicas_on_one_store_recover_from_any_schedule_of_faults(
        rotation in rotation(), replicas in 2_usize..4, seed in any::<u64>(),
        steps in vec((step(), pause()), 1..15),
    ) {
        in_paused_time(run(rotation, replicas, seed, steps))?;
    }

    /// Outages only: the credential itself is good all the time, so no operator has to act, and callers
    /// are without a token only when none was left.
    #[test]
    fn outages_alone_never_need_an_operator(
        rotation in rotation(), seed in any::<u64>(),
        outages in vec((fault_that_passes(), fault_that_passes(), pause(), pause()), 1..12),
    ) {
        in_paused_time(outages_only(rotation, seed, outages))?;
    }
}

fn fault_that_passes() -> impl Strategy<Value = Option<Fault>> {
    proptest::option::of(prop_oneof![
        Just(Fault::Unavailable),
        Just(Fault::Hang),
        Just(Fault::RejectLogin),
        Just(Fault::Throttle(None)),
        (1_u64..9_000).prop_map(|ms| Fault::Slow(Duration::from_millis(ms))),
    ])
}

async fn outages_only(
    rotation: Rotation,
    seed: u64,
    outages: Vec<(Option<Fault>, Option<Fault>, Duration, Duration)>,
) -> Result<(), TestCaseError> {
    let world = World::oauth();
    world.seed.store(seed, Ordering::Relaxed);
    world.endpoint.rotate(rotation);
    let credentials = world.start();
    let handle = credentials.handle("default").unwrap();
    let probe: Probe = world.probe(&handle);
    for (store, endpoint, lasts, between) in outages {
        if let Some(fault) = store {
            world.store.fail(fault);
        }
        if let Some(fault) = endpoint {
            world.endpoint.fail(fault);
        }
        sleep(lasts).await;
        world.store.heal();
        world.endpoint.heal();
        let back = handle.token(within(RECOVERY)).await;
        prop_assert!(back.is_ok(), "{:?} {:?}", back, status(&credentials));
        sleep(between).await;
    }
    sleep(RECOVERY).await;
    let now = status(&credentials);
    prop_assert_eq!(now.state, State::Fresh, "{:?}", now);
    prop_assert!(!now.write_back_pending);
    prop_assert_eq!(now.counters.grants_rejected, 0, "a grant was lost");
    prop_assert!(world.endpoint.accepts_refresh_token(&world.store.refresh_token(PATH)));
    probe.assert_served();
    Ok(())
}
