//! Counts the HTTP requests of each portal, by operation and outcome, and their latency.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::breaker::BreakerStats;
use crate::{
    hubspot::{
        COUNT, FIELD_COUNT, OPERATIONS, Operation, OperationSpec, RESPONSE_FIELDS, UnreadableFields,
    },
    leads::PortalName,
    telemetry::histogram::Histogram,
};

/// Outcome of an HTTP request, as HubSpot's rule for apps counts it: errors must stay below 5 % of
/// a day's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpOutcome {
    /// 2xx.
    Ok,
    /// 4xx except 429: HubSpot rejected the request.
    ClientError,
    /// 429.
    RateLimited,
    /// 5xx, or a redirect.
    ServerError,
    /// No response.
    NoResponse,
}

/// Requests of one operation with one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallCount {
    /// Name of the operation.
    pub operation: &'static str,
    /// Outcome of the requests.
    pub outcome: HttpOutcome,
    /// Number of requests.
    pub calls: u64,
}

/// Requests of one portal since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallStats {
    /// The portal.
    pub portal: PortalName,
    /// Requests by operation and outcome. Zero counts are left out.
    pub calls: Vec<CallCount>,
    /// Number of retries among them.
    pub retries: u64,
    /// The circuit breakers: of all requests, and of each kind that can hang alone.
    pub breakers: Vec<BreakerStats>,
    /// Values of responses that could not be read, by field. Zero counts are left out.
    pub unreadable: Vec<(&'static str, u64)>,
}

/// Latency of one operation, to the headers of the response.
#[derive(Debug, Clone)]
pub struct Latency {
    /// Name of the operation.
    pub operation: &'static str,
    /// Histogram of the latency.
    pub histogram: Histogram,
}

/// Counters of one portal.
#[derive(Debug, Default)]
pub(super) struct PortalStats {
    calls: [[AtomicU64; OUTCOMES.len()]; COUNT],
    retries: AtomicU64,
    unreadable: [AtomicU64; FIELD_COUNT],
}

/// Latencies of all portals.
#[derive(Debug, Default)]
pub(super) struct Latencies([OnceLock<Histogram>; COUNT]);

const OUTCOMES: [HttpOutcome; 5] = [
    HttpOutcome::Ok,
    HttpOutcome::ClientError,
    HttpOutcome::RateLimited,
    HttpOutcome::ServerError,
    HttpOutcome::NoResponse,
];

// === impl HttpOutcome ===

impl HttpOutcome {
    /// Label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::NoResponse => "no_response",
        }
    }
}

impl From<http::StatusCode> for HttpOutcome {
    fn from(status: http::StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Ok,
            429 => Self::RateLimited,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

// === impl PortalStats ===

impl PortalStats {
    /// Counts an HTTP request.
    pub(super) fn count_call(&self, operation: Operation, outcome: HttpOutcome) {
        self.calls[operation as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the values of a response that could not be read.
    pub(super) fn count_unreadable(&self, fields: &UnreadableFields) {
        for (field, count) in fields.iter() {
            self.unreadable[field as usize].fetch_add(count.into(), Ordering::Relaxed);
        }
    }

    /// Counts a retry.
    pub(super) fn count_retry(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    pub(super) fn snapshot(&self, portal: PortalName, breakers: Vec<BreakerStats>) -> CallStats {
        let counts = OPERATIONS.iter().flat_map(|spec| {
            OUTCOMES.map(|outcome| {
                let count = &self.calls[spec.operation as usize][outcome as usize];
                let calls = count.load(Ordering::Relaxed);
                CallCount { operation: spec.name, outcome, calls }
            })
        });
        let unreadable = RESPONSE_FIELDS.iter().zip(&self.unreadable);
        let unreadable = unreadable.map(|(field, count)| {
            let count = count.load(Ordering::Relaxed);
            (field.as_str(), count)
        });
        CallStats {
            portal,
            calls: counts.filter(|count| count.calls > 0).collect(),
            retries: self.retries.load(Ordering::Relaxed),
            breakers,
            unreadable: unreadable.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

// === impl Latencies ===

impl Latencies {
    /// Records the latency of one request.
    pub(super) fn observe(&self, operation: Operation, latency: Duration) {
        self.0[operation as usize].get_or_init(Histogram::default).observe(latency);
    }

    /// Latencies of the operations that were requested.
    pub(super) fn snapshot(&self) -> Vec<Latency> {
        let latency = |spec: &OperationSpec| {
            let histogram = self.0[spec.operation as usize].get()?.clone();
            Some(Latency { operation: spec.name, histogram })
        };
        OPERATIONS.iter().filter_map(latency).collect()
    }
}

#[cfg(test)]
mod tests;
