//! The port to the store through which replicas share one limit.
//!
//! The ledger holds every slot that any replica has acquired, and grants permits from the remainder: in
//! small blocks and, where nothing is left, ahead of time, as a permit that is valid from some time on.
//! Waiting replicas are served in the order in which they ask, and none of them polls.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::bucket_name::BucketName;

/// Parts of a window in which slots are counted by when they leave it: exact enough for a replica that
/// loses the ledger, and small enough for every response.
pub const TENTHS: usize = 10;

/// A point in time by the ledger's clock: microseconds since an epoch that the ledger chooses.
pub type LedgerInstant = i64;

/// The store that replicas share. One exchange reports calls and requests permits.
#[async_trait]
pub trait Ledger: fmt::Debug + Send + Sync + 'static {
    /// Reports outcomes of permits, and requests more. The quota waits a quarter of a second for the
    /// response at most.
    async fn exchange(
        &self,
        limit: &LimitKey,
        request: &ExchangeRequest,
    ) -> Result<Grant, Unavailable>;
}

/// The limit that an exchange is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitKey {
    /// The portal.
    pub portal: Arc<str>,
    /// Bucket of the limit.
    pub bucket: BucketName,
}

/// The ledger cannot be reached or its response is invalid, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Configuration of the ledger that replicas share.
#[derive(Debug, Clone)]
pub struct LedgerConfig {
    pub(crate) ledger: Arc<dyn Ledger>,
    /// Unique name of this replica.
    pub(crate) replica: Arc<str>,
    /// Number of replicas until the ledger reports it.
    pub(crate) expected_replicas: u32,
    /// True if the last exchange of any limit failed, so that it is logged once.
    is_down: Arc<AtomicBool>,
}

/// One exchange as the replica begins it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRequest {
    /// Name of the replica.
    pub replica: Arc<str>,
    /// Calls allowed in the window, unless the ledger has another limit.
    pub size: u64,
    /// Length of the window, unless the ledger has another.
    pub window: Duration,
    /// True if a tenth of the limit holds for each second as well.
    pub paced: bool,
    /// Permits for requests that wait.
    pub want: usize,
    /// Permits for requests that may come. Granted only while less than half of the limit is used.
    pub spare: usize,
    /// Number of the first permit. The others follow.
    pub first: u64,
    /// True if a permit that becomes valid later is wanted if none is valid now.
    pub ahead: bool,
    /// True if permits are to be spaced evenly, because requests are batched.
    pub spread: bool,
    /// Maximum time from the validity of a wanted permit to its use.
    pub hold: Duration,
    /// Maximum time from the validity of a spare permit to its use.
    pub spare_hold: Duration,
    /// Maximum transit time of a call to HubSpot, for the window and for the second.
    pub transit: [Duration; 2],
    /// Changes of permits since the last exchange.
    pub slots: Vec<SlotReport>,
    /// The last announcement of HubSpot that the ledger does not know.
    pub observed: Option<LedgerObservation>,
    /// Limits of the window and of the second as learned from 429s, if that is news.
    pub learned: Option<[Option<u64>; 2]>,
    /// Duration for which a 429 closes the limit.
    pub close: Option<Duration>,
    /// True if the replica keeps to its own part and takes no permits. The ledger reserves that part.
    pub detached: bool,
    /// True if the replica stops using this limit.
    pub leave: bool,
}

/// Outcome of one permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotReport {
    /// Number of the permit.
    pub number: u64,
    /// Latest times at which HubSpot counts its call, for the window and for the second. `None` if there
    /// was no call.
    pub counted: Option<[LedgerInstant; 2]>,
}

/// A limit as announced by HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerObservation {
    /// Calls allowed in the window.
    pub size: u64,
    /// Length of the window.
    pub window: Duration,
    /// Calls that HubSpot has counted in the window.
    pub used: u64,
    /// [`Grant::oldest`] when the call was sent.
    pub oldest: u64,
}

/// The ledger's response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Time of the response.
    pub now: LedgerInstant,
    /// Time at which each granted permit becomes valid.
    pub permits: Vec<LedgerInstant>,
    /// Time at which one more permit could become valid.
    pub next: LedgerInstant,
    /// Calls in the window, of all replicas and of other clients.
    pub used: u64,
    /// Calls of all replicas in the second.
    pub used_in_second: u64,
    /// Calls of all replicas that leave the window in each tenth of it from now on.
    pub leaving: [u32; TENTHS],
    /// Calls allowed in the window.
    pub size: u64,
    /// Length of the window.
    pub window: Duration,
    /// Limits of the window and of the second as learned from 429s.
    pub learned: [Option<u64>; 2],
    /// Duration for which a 429 closes the limit, from the time of the response.
    pub closed: Duration,
    /// Replicas that use this limit.
    pub replicas: u32,
    /// Other replicas that take permits from the ledger now.
    pub live_others: u32,
    /// Permits that were granted before the oldest that still counts.
    pub oldest: u64,
    /// True if the ledger is new, so that not all replicas may have reported to it. It grants nothing.
    pub warming: bool,
}

// === impl LedgerConfig ===

impl LedgerConfig {
    /// Shares through `ledger` as `replica`, with `expected_replicas` in all until the ledger reports
    /// their number.
    pub fn new(ledger: Arc<dyn Ledger>, replica: &str, expected_replicas: u32) -> Self {
        Self { ledger, replica: replica.into(), expected_replicas, is_down: Arc::default() }
    }

    /// Records whether an exchange failed, and returns whether that is a change.
    pub(crate) fn record(&self, is_down: bool) -> bool {
        self.is_down.swap(is_down, Ordering::Relaxed) != is_down
    }
}
