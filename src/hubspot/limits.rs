//! What HubSpot says about its rate limits in the headers of every answer.

use http::HeaderMap;

/// Limits as one answer told them; a header that is absent or no number is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Calls in the rolling window.
    pub max: Option<u64>,
    /// Calls left in it.
    pub remaining: Option<u64>,
    /// Length of the window, in milliseconds.
    pub interval_ms: Option<u64>,
    /// Calls a day; absent for OAuth apps.
    pub daily: Option<u64>,
    /// Calls left of them.
    pub daily_remaining: Option<u64>,
}

// === impl RateLimits ===

impl RateLimits {
    /// Reads the headers of an answer. Search answers have none.
    pub fn of(headers: &HeaderMap) -> Self {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            max: number("x-hubspot-ratelimit-max"),
            remaining: number("x-hubspot-ratelimit-remaining"),
            interval_ms: number("x-hubspot-ratelimit-interval-milliseconds"),
            daily: number("x-hubspot-ratelimit-daily"),
            daily_remaining: number("x-hubspot-ratelimit-daily-remaining"),
        }
    }
}
