//! The faults of one round.

use std::{fmt, time::Duration};

use leadsd_hubspot_fake::{self as hubspot, ApiError, BodyEnd, Operation, ScriptedResponse};
use leadsd_testkit::{LinkState, Redis};
use leadsd_vault_fake as vault;
use rand::{RngExt as _, rngs::SmallRng};
use tokio::time::{Instant, interval, sleep};

use crate::world::{REPLICAS, World};

/// Interval in which the responses of HubSpot are drawn again.
const DRAW: Duration = Duration::from_millis(50);

/// A response of HubSpot that hangs for longer than any call.
const HANG: Duration = Duration::from_secs(60);

/// Offsets of the wall clock in seconds: the next day, after an hour, before a minute, the last year.
const CLOCKS: [i64; 4] = [86_400, 3_600, -60, -365 * 86_400];

/// A fault of one peer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// This part of the requests to HubSpot gets this status, without an effect.
    Status(u16, f64),
    /// Some requests to HubSpot, or all of them, get such a response.
    Response(Scripted, bool),
    /// The network to HubSpot.
    HubspotLink(LinkState),
    /// The token endpoint responds with this status: 400 is `invalid_grant`.
    TokenEndpoint(u16),
    /// All access tokens expire at once.
    ExpiredTokens,
    /// Redis is killed, and started again without its data.
    RedisKilled,
    /// The Redis process is stopped, and continued.
    RedisStopped,
    VaultSealed,
    /// Vault responds with this fault.
    Vault(vault::Fault),
    /// Vault knows no token any more.
    VaultForgets,
    /// The network to Vault. Down is like a Vault that was killed.
    VaultLink(LinkState),
    /// The last replica is killed, and another one is started.
    ReplicaKilled,
    /// The process of this replica is stopped, and continued.
    ReplicaStopped(usize),
    /// The wall clock of this replica jumps, and back at the end.
    Clock(usize, i64),
}

/// A response of HubSpot.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scripted {
    CutBefore,
    CutAfter,
    CutWithin,
    /// The body ends early, and the connection stays open.
    SilentWithin,
    /// 503 after the request was executed.
    ExecutedUnavailable,
    Html,
    Slow(Duration),
    Hang,
    Limited(&'static str, Option<Duration>),
    GatewayLimited,
    Locked,
    Migrating,
}

/// When a fault begins, and how long it lasts.
#[derive(Debug, Clone, Copy)]
struct Planned {
    fault: Fault,
    begins: Duration,
    lasts: Duration,
}

/// The faults of one round.
#[derive(Debug)]
pub(super) struct Round(Vec<Planned>);

// === impl Round ===

impl Round {
    /// Draws a fault of each peer, and of the clock.
    pub(super) fn draw_all(random: &mut SmallRng) -> Self {
        Self::draw_with(random, |_| 1.0)
    }

    /// Draws faults of some peers, at least of one.
    pub(super) fn draw_some(random: &mut SmallRng) -> Self {
        Self::draw_with(random, |part| part)
    }

    /// Draws faults, with the probability of each that `chance` makes of the usual one.
    fn draw_with(random: &mut SmallRng, chance: fn(f64) -> f64) -> Self {
        loop {
            let mut faults = Vec::new();
            let mut maybe = |random: &mut SmallRng, part: f64, draw: fn(&mut SmallRng) -> Fault| {
                if random.random_bool(chance(part)) {
                    let begins = Duration::from_millis(random.random_range(0..5_000));
                    let lasts = Duration::from_millis(random.random_range(1_000..12_000));
                    faults.push(Planned { fault: draw(random), begins, lasts });
                }
            };
            maybe(random, 0.6, Fault::draw_response);
            maybe(random, 0.25, |random| Fault::HubspotLink(draw_link(random)));
            maybe(random, 0.25, Fault::draw_token);
            maybe(random, 0.3, Fault::draw_redis);
            maybe(random, 0.4, Fault::draw_vault);
            maybe(random, 0.4, Fault::draw_replica);
            maybe(random, 0.3, |random| {
                let replica = random.random_range(0..REPLICAS);
                Fault::Clock(replica, CLOCKS[random.random_range(0..CLOCKS.len())])
            });
            if !faults.is_empty() {
                return Self(faults);
            }
        }
    }

    /// True if a call may fail for lack of a credential: not while only Vault, Redis or the clock fail.
    pub(super) fn costs_credentials(&self) -> bool {
        self.0.iter().any(|planned| match planned.fault {
            Fault::Status(..)
            | Fault::Response(..)
            | Fault::HubspotLink(_)
            | Fault::TokenEndpoint(_)
            | Fault::ExpiredTokens
            | Fault::ReplicaKilled
            | Fault::ReplicaStopped(_) => true,
            Fault::RedisKilled
            | Fault::RedisStopped
            | Fault::VaultSealed
            | Fault::Vault(_)
            | Fault::VaultForgets
            | Fault::VaultLink(_)
            | Fault::Clock(..) => false,
        })
    }

    /// Runs the faults until the last one has ended.
    pub(super) async fn run(&self, world: &World) {
        futures_util::future::join_all(self.0.iter().map(|planned| planned.run(world))).await;
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&faults.join(", "))
    }
}

// === impl Planned ===

impl Planned {
    async fn run(&self, world: &World) {
        sleep(self.begins).await;
        self.fault.run(world, self.lasts).await;
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, begins, lasts } = self;
        write!(f, "{fault:?} at {begins:?} for {lasts:?}")
    }
}

// === impl Fault ===

impl Fault {
    fn draw_response(random: &mut SmallRng) -> Self {
        let second = Duration::from_secs(1);
        let statuses = [423, 429, 477, 500, 502, 503, 504];
        let scripted = [
            Scripted::CutBefore,
            Scripted::CutAfter,
            Scripted::CutWithin,
            Scripted::SilentWithin,
            Scripted::ExecutedUnavailable,
            Scripted::Html,
            Scripted::Slow(2 * second),
            Scripted::Slow(6 * second),
            Scripted::Hang,
            Scripted::Limited("SECONDLY", None),
            Scripted::Limited("TEN_SECONDLY_ROLLING", Some(4 * second)),
            Scripted::GatewayLimited,
            Scripted::Locked,
            Scripted::Migrating,
        ];
        let index = random.random_range(0..statuses.len() + scripted.len());
        match statuses.get(index) {
            Some(status) => Self::Status(*status, [0.2, 0.6, 1.0][random.random_range(0..3)]),
            None => Self::Response(scripted[index - statuses.len()], random.random()),
        }
    }

    fn draw_token(random: &mut SmallRng) -> Self {
        [Self::TokenEndpoint(400), Self::TokenEndpoint(503), Self::ExpiredTokens]
            [random.random_range(0..3)]
    }

    fn draw_redis(random: &mut SmallRng) -> Self {
        if random.random() { Self::RedisKilled } else { Self::RedisStopped }
    }

    fn draw_vault(random: &mut SmallRng) -> Self {
        [
            Self::VaultSealed,
            Self::Vault(vault::Fault::Silence),
            Self::Vault(vault::Fault::Status(500)),
            Self::Vault(vault::Fault::Status(403)),
            Self::Vault(vault::Fault::Garbage),
            Self::VaultForgets,
            Self::VaultLink(LinkState::Down),
            Self::VaultLink(LinkState::Stalled),
        ][random.random_range(0..8)]
    }

    fn draw_replica(random: &mut SmallRng) -> Self {
        match random.random_range(0..=REPLICAS) {
            REPLICAS => Self::ReplicaKilled,
            index => Self::ReplicaStopped(index),
        }
    }

    async fn run(self, world: &World, lasts: Duration) {
        let World { hubspot, vault, .. } = world;
        match self {
            Self::Status(status, ratio) => {
                let of_leads = [Operation::Create, Operation::Get, Operation::Update];
                let fault =
                    |operation| hubspot::Fault { operation: Some(operation), status, ratio };
                world.inject(&of_leads.map(fault), lasts).await;
            }
            Self::Response(scripted, for_all) => {
                let ends = Instant::now() + lasts;
                let mut draws = interval(DRAW);
                while Instant::now() < ends {
                    hubspot.clear_scripts();
                    let times = if for_all { usize::MAX } else { 1 };
                    hubspot.script_times(times, "", "", scripted.response());
                    draws.tick().await;
                }
                hubspot.clear_scripts();
            }
            Self::HubspotLink(state) => {
                during(lasts, state, LinkState::Up, |to| world.hubspot_link.set_link(to)).await;
            }
            Self::TokenEndpoint(status) => {
                let operation = Some(Operation::Token);
                world.inject(&[hubspot::Fault { operation, status, ratio: 1.0 }], lasts).await;
            }
            Self::ExpiredTokens => hubspot.expire_tokens(),
            Self::RedisKilled => {
                let mut redis = world.redis.lock().await;
                redis.kill();
                sleep(lasts).await;
                *redis = Redis::start_at(redis.port()).await;
            }
            Self::RedisStopped => {
                let redis = world.redis.lock().await;
                during(lasts, "STOP", "CONT", |to| redis.signal(to)).await;
            }
            Self::VaultSealed => {
                during(lasts, true, false, |to| vault.set_sealed(to)).await;
            }
            Self::Vault(fault) => {
                during(lasts, Some(fault), None, |to| vault.fail(to)).await;
            }
            Self::VaultForgets => vault.forget_tokens(),
            Self::VaultLink(state) => {
                during(lasts, state, LinkState::Up, |to| world.vault_link.set_link(to)).await;
            }
            Self::ReplicaKilled => world.replace(REPLICAS - 1, lasts).await,
            Self::ReplicaStopped(index) => {
                let replica = world.replica(index);
                during(lasts, "STOP", "CONT", |to| replica.signal(to)).await;
            }
            Self::Clock(index, seconds) => {
                during(lasts, seconds, 0, |to| world.replica(index).set_clock(to)).await;
            }
        }
    }
}

// === impl Scripted ===

impl Scripted {
    fn response(self) -> ScriptedResponse {
        match self {
            Self::CutBefore => ScriptedResponse::DropBefore,
            Self::CutAfter => ScriptedResponse::DropAfter,
            Self::CutWithin => ScriptedResponse::Truncated,
            Self::SilentWithin => {
                let page = Box::new(ScriptedResponse::html(200));
                ScriptedResponse::Partial(page, BodyEnd::Silent)
            }
            Self::ExecutedUnavailable => ScriptedResponse::ExecutedWithStatus(503),
            Self::Html => ScriptedResponse::html(200),
            Self::Slow(time) => ScriptedResponse::Delayed(time),
            Self::Hang => ScriptedResponse::Delayed(HANG),
            Self::Limited(policy, retry_after) => {
                ScriptedResponse::Reject(ApiError::RateLimited { policy, retry_after })
            }
            Self::GatewayLimited => ScriptedResponse::Reject(ApiError::GatewayLimited),
            Self::Locked => ScriptedResponse::Reject(ApiError::Locked { body: true }),
            Self::Migrating => {
                ScriptedResponse::Reject(ApiError::Migrating(Duration::from_secs(1)))
            }
        }
    }
}

/// Sets something to `value` for this time, and then to `usual`.
async fn during<T>(lasts: Duration, value: T, usual: T, set: impl Fn(T)) {
    set(value);
    sleep(lasts).await;
    set(usual);
}

/// Down or stalled.
fn draw_link(random: &mut SmallRng) -> LinkState {
    if random.random() { LinkState::Down } else { LinkState::Stalled }
}
