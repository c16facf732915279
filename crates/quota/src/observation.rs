//! Limits reported by a HubSpot response.

use std::time::Duration;

/// Rate limits announced by one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// The limit of the permit's bucket.
    pub limit: ObservedLimit,
    /// Calls allowed in a day.
    pub daily: Option<u64>,
    /// Calls of the day that are left.
    pub daily_remaining: Option<u64>,
    /// The limit that HubSpot rejected the call for, if the response is a 429.
    pub rate_limited: Option<RateLimited>,
}

/// One limit as announced by response headers. An absent header is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObservedLimit {
    /// Calls allowed in the window.
    pub size: Option<u64>,
    /// Calls left in the window.
    pub remaining: Option<u64>,
    /// Length of the window.
    pub window: Option<Duration>,
}

/// The limit that HubSpot rejected a call for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimited {
    /// The limit of the permit's bucket.
    Bucket(RetryTime),
    /// The daily limit.
    Daily,
}

/// Time after which a call that was rejected with a 429 may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryTime {
    /// HubSpot states the time.
    Stated(Duration),
    /// HubSpot states no time; its limit holds for a window of this length.
    Window(Duration),
}

/// The oldest of this replica's slots that HubSpot could still count when a request was sent. With it
/// the count in the response is split into own calls and calls of other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Baseline {
    /// True if `oldest` is a number of the ledger, false if it is one of this replica.
    pub(crate) in_ledger: bool,
    /// Number of the oldest slot.
    pub(crate) oldest: u64,
}
