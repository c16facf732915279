//! `[credentials]`: how the portals' credentials are kept fresh.

use std::time::Duration;

use super::{check::Checker, raw};
use leadsd_credentials::Start;

/// `[credentials]`: how the portals' credentials are looked after.
#[derive(Debug, Clone, Copy)]
pub struct Credentials {
    /// When a portal's first token is fetched. Default `eager`: at start, so that the first call
    /// finds one, and `/ready` waits for it. `lazy`: when the first call asks for it.
    pub start: Start,
    /// How many portals may fetch their first token at the same time. Default 16.
    pub start_concurrency: usize,
    /// How often a portal whose credential is refused for good is tried again without a reason to.
    /// Default 10 min.
    pub suspended_retry_interval: Duration,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn credentials(&mut self, raw: &raw::Credentials) -> Option<Credentials> {
        let raw::Credentials { start, start_concurrency, suspended_retry_interval } = raw;
        let start = match start.as_str() {
            "eager" => Some(Start::Eager),
            "lazy" => Some(Start::Lazy),
            _ => {
                self.fault("credentials.start", "must be eager or lazy");
                None
            }
        };
        let concurrency =
            self.number("credentials.start_concurrency", *start_concurrency, 1, 1_000);
        let interval = self.duration(
            "credentials.suspended_retry_interval",
            suspended_retry_interval,
            1_000,
            86_400_000,
        );
        Some(Credentials {
            start: start?,
            start_concurrency: concurrency?,
            suspended_retry_interval: interval?,
        })
    }
}
