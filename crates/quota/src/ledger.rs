//! What replicas tell each other about one limit, through a store that they share.
//!
//! The ledger holds every slot that any replica has taken, and gives permits out of what is left, in
//! small blocks and, where nothing is left, ahead of time: a permit that is good from some moment on.
//! So each hungry replica has its turn, in the order in which they asked, and nobody polls.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use super::BucketName;

/// The store that replicas share. One exchange reports and asks at the same time.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// Tells what has become of permits, and asks for more. Must not take longer than its own
    /// deadline, which is to be short: callers wait.
    async fn exchange(&self, limit: &LimitKey, ask: &ExchangeRequest)
    -> Result<Grant, Unavailable>;
}

/// Which limit is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitKey {
    /// The portal.
    pub portal: Arc<str>,
    /// Its bucket.
    pub bucket: BucketName,
}

/// The ledger cannot be reached, or does not make sense; says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// How replicas share their quotas.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    /// The store.
    pub(super) ledger: Arc<dyn Ledger>,
    /// Name of this replica, unlike any other's.
    pub(super) replica: Arc<str>,
    /// How many replicas there are, as long as the ledger has not told.
    pub(super) replicas: u32,
    /// Whether the store could not be reached last time: said once, whichever limit finds out.
    away: Arc<AtomicBool>,
}

/// A point in time by the ledger's own clock, the only one that counts: microseconds since some
/// moment that it has chosen.
pub type LedgerInstant = i64;

/// One exchange, as the replica begins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// Who asks.
    pub replica: Arc<str>,
    /// Calls in the window, if the ledger knows no better.
    pub size: u64,
    /// Length of the window, likewise.
    pub window: Duration,
    /// Whether a tenth of the limit holds for each second as well.
    pub paced: bool,
    /// Permits for calls that wait.
    pub want: usize,
    /// Permits for calls that may come, given only while less than half of the limit is used.
    pub spare: usize,
    /// Number of the first permit that is granted; the others follow.
    pub first: u64,
    /// Whether a permit of later will do, if none is free now.
    pub ahead: bool,
    /// Whether permits are to be spread evenly, because calls leave together.
    pub spread: bool,
    /// How long after it became good a wanted permit is used at the latest.
    pub hold: Duration,
    /// The same for a spare one.
    pub spare_hold: Duration,
    /// Longest way of a call to HubSpot, as far as the window and the second are concerned.
    pub reach: [Duration; 2],
    /// What has become of permits since the last exchange.
    pub slots: Vec<SlotReport>,
    /// What HubSpot said last.
    pub observed: Option<LedgerObservation>,
    /// How long HubSpot wants no more calls.
    pub close: Option<Duration>,
    /// Whether the replica keeps to its part for now and takes no permits: the ledger keeps that part.
    pub detached: bool,
    /// Whether the replica stops using this limit for now.
    pub leave: bool,
}

/// What has become of one permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReport {
    /// Its number.
    pub number: u64,
    /// When HubSpot has counted its call at the latest, as far as the window and the second are
    /// concerned. `None` if there was no call.
    pub counted: Option<[LedgerInstant; 2]>,
}

/// Parts of a window in which slots are counted by when they leave it.
pub const TENTHS: usize = 10;

/// What HubSpot said of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerObservation {
    /// Calls in the window.
    pub size: u64,
    /// Its length.
    pub window: Duration,
    /// Calls that it has counted in the window.
    pub used: u64,
    /// [`Grant::oldest`] as it was when the call was sent.
    pub oldest: u64,
}

/// The ledger's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// When it was given.
    pub now: LedgerInstant,
    /// For each permit granted: from when on it is good.
    pub permits: Vec<LedgerInstant>,
    /// When one more could be good.
    pub next: LedgerInstant,
    /// Calls in the window, of all replicas and of others.
    pub used: u64,
    /// How many of them, of all replicas, leave the window in each tenth of it from now on.
    pub leaving: [u32; TENTHS],
    /// Calls that the window may hold.
    pub size: u64,
    /// Length of the window.
    pub window: Duration,
    /// How long HubSpot wants no more calls, counted from when the answer was given.
    pub closed: Duration,
    /// Replicas that use this limit.
    pub replicas: u32,
    /// How many permits were granted before the oldest that still counts.
    pub oldest: u64,
    /// The ledger is new, and not all replicas may have told it what they use: none is granted yet.
    pub warming: bool,
}

// === impl LedgerConfig ===

impl LedgerConfig {
    /// Shares through `ledger`, as `replica`, with `replicas` in all as long as it has not told.
    pub fn new(ledger: Arc<dyn Ledger>, replica: &str, replicas: u32) -> Self {
        Self { ledger, replica: replica.into(), replicas, away: Arc::default() }
    }

    /// Notes whether the store can be reached, and tells whether that is news.
    pub(super) fn note(&self, is_away: bool) -> bool {
        self.away.swap(is_away, Ordering::Relaxed) != is_away
    }
}
