//! Rate limits in the headers of HubSpot's responses.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::retry_after::retry_after;
use crate::leads::{Error, Reason};
use leadsd_quota::{Observation, ObservedLimit, RateLimited, RetryTime};

/// Window of a 429 that names none: the documented one.
const DEFAULT_WINDOW: Duration = Duration::from_secs(10);

const MAX: HeaderName = HeaderName::from_static("x-hubspot-ratelimit-max");
const REMAINING: HeaderName = HeaderName::from_static("x-hubspot-ratelimit-remaining");
const INTERVAL: HeaderName = HeaderName::from_static("x-hubspot-ratelimit-interval-milliseconds");
const DAILY: HeaderName = HeaderName::from_static("x-hubspot-ratelimit-daily");
const DAILY_REMAINING: HeaderName = HeaderName::from_static("x-hubspot-ratelimit-daily-remaining");

/// Rate limits of one response. A field is `None` if its header is absent or not a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateLimits {
    /// Maximum number of calls in the rolling window.
    pub max: Option<u64>,
    /// Calls left in the window.
    pub remaining: Option<u64>,
    /// Length of the window in milliseconds.
    pub interval_ms: Option<u64>,
    /// Maximum number of calls per day; absent for OAuth apps.
    pub daily: Option<u64>,
    /// Calls left in the day.
    pub daily_remaining: Option<u64>,
    /// True if the response says when to retry.
    pub has_retry_after: bool,
}

// === impl RateLimits ===

impl RateLimits {
    /// Parses the headers of a response. Responses to searches have none.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let number = |name: HeaderName| headers.get(name)?.to_str().ok()?.trim().parse().ok();
        Self {
            max: number(MAX),
            remaining: number(REMAINING),
            interval_ms: number(INTERVAL),
            daily: number(DAILY),
            daily_remaining: number(DAILY_REMAINING),
            has_retry_after: retry_after(headers).is_some(),
        }
    }

    /// Converts the limits, and the error of the same response, to an observation for the quota.
    pub fn observation(&self, error: Option<&Error>) -> Observation {
        Observation {
            limit: ObservedLimit {
                size: self.max,
                remaining: self.remaining,
                window: self.interval_ms.map(Duration::from_millis),
            },
            daily: self.daily,
            daily_remaining: self.daily_remaining,
            rate_limited: error.and_then(|error| self.rate_limited(error)),
        }
    }

    /// The limit of HubSpot that rejected the request; `None` if the error has another cause.
    fn rate_limited(&self, error: &Error) -> Option<RateLimited> {
        match error.reason() {
            Reason::RateLimited => {
                let wait = error.retry_after().unwrap_or(DEFAULT_WINDOW);
                let is_stated = self.has_retry_after;
                let retry =
                    if is_stated { RetryTime::Stated(wait) } else { RetryTime::Window(wait) };
                Some(RateLimited::Bucket(retry))
            }
            Reason::DailyLimitReached => Some(RateLimited::Daily),
            Reason::InvalidRequest
            | Reason::UnknownPortal
            | Reason::InvalidPageToken
            | Reason::SearchWindowExceeded
            | Reason::RequestIdReused
            | Reason::LeadNotFound
            | Reason::ValidationFailed
            | Reason::AlreadyExists
            | Reason::Conflict
            | Reason::MissingScopes
            | Reason::UpstreamForbidden
            | Reason::CredentialUnavailable
            | Reason::CredentialRejected
            | Reason::Overloaded
            | Reason::AccountLocked
            | Reason::AccountMigrating
            | Reason::UpstreamUnavailable
            | Reason::UpstreamInvalidResponse
            | Reason::ResponseTooLarge
            | Reason::DeadlineExceeded
            | Reason::WriteOutcomeUnknown
            | Reason::BatchRejected
            | Reason::Internal
            | Reason::RequestTooLarge
            | Reason::Unauthenticated
            | Reason::CallerForbidden
            | Reason::AuthenticationUnavailable
            | Reason::Unimplemented
            | Reason::WrongDataCenter => None,
        }
    }
}
