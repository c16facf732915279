//! `[credentials]`: settings of the credential engine.

use std::time::Duration;

use super::{check::Checker, raw};
use leadsd_credentials::{ReadinessRule, Start};

/// `[credentials]`: settings of the credential engine.
#[derive(Debug, Clone, Copy)]
pub struct Credentials {
    /// Time of a portal's first token request. Default `eager`: at startup, and `/ready` waits for it.
    /// `lazy`: at the first call.
    pub start: Start,
    /// Portals that must be usable for the service to be ready. Default `any`.
    pub readiness: ReadinessRule,
    /// Maximum number of concurrent first token requests. Default 16.
    pub start_concurrency: usize,
    /// Interval between retries of a suspended credential. Default 10 min.
    pub suspended_retry_interval: Duration,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn credentials(&mut self, raw: &raw::Credentials) -> Option<Credentials> {
        let raw::Credentials { start, readiness, start_concurrency, suspended_retry_interval } =
            raw;
        let start = match start.as_str() {
            "eager" => Some(Start::Eager),
            "lazy" => Some(Start::Lazy),
            _ => {
                self.add_error("credentials.start", "must be eager or lazy");
                None
            }
        };
        let readiness = match readiness.as_str() {
            "any" => Some(ReadinessRule::Any),
            "all" => Some(ReadinessRule::All),
            _ => {
                self.add_error("credentials.readiness", "must be any or all");
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
            readiness: readiness?,
            start_concurrency: concurrency?,
            suspended_retry_interval: interval?,
        })
    }
}
