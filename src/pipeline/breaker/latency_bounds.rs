//! Learns after which time without a response a request is overdue, for each kind of operation.

use std::{
    array,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::circuits::CircuitScope;
use crate::{
    hubspot::{COUNT, Operation},
    leads::Request,
};

/// Buckets of latencies: two per power of two, from 1 ms to 65 s.
const BUCKETS: usize = 33;

/// Exponent of the first bucket: 2^10 microseconds, about 1 ms.
const FIRST_EXPONENT: u32 = 10;

/// Number of responses between two estimates.
const ESTIMATE_EVERY: u32 = 16;

/// Number of responses after which all counts are halved, so that old ones lose weight.
const HALVE_AT: u32 = 512;

/// A request is overdue after this many times the 99th percentile of the latency.
const FACTOR: u64 = 4;

/// Batches with more inputs are a separate kind, because they take longer.
const SMALL_BATCH: usize = 10;

/// Bounds of the time after which a request is overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Minimum: no request is overdue before.
    pub min_wait: Duration,
    /// Maximum, and the value before the latency of an operation is known.
    pub max_wait: Duration,
}

/// The kind of a request: its operation, and whether it is a large batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestKind {
    operation: Operation,
    is_large: bool,
}

/// Latencies of one portal by kind of request.
#[derive(Debug)]
pub(super) struct LatencyBounds {
    settings: BreakerSettings,
    kinds: [[LatencyEstimate; 2]; COUNT],
}

/// Counts the latencies of one kind.
#[derive(Debug)]
struct LatencyEstimate {
    buckets: [AtomicU32; BUCKETS],
    count: AtomicU32,
    /// 99th percentile in microseconds; 0 until it is known.
    p99: AtomicU64,
}

// === impl BreakerSettings ===

impl Default for BreakerSettings {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self { min_wait: Duration::from_secs(1), max_wait: Duration::from_secs(10) }
    }
}

// === impl RequestKind ===

impl From<&Request> for RequestKind {
    fn from(request: &Request) -> Self {
        Self { operation: Operation::from(request), is_large: request.leads() > SMALL_BATCH }
    }
}

impl RequestKind {
    /// Scopes of the circuits of the request.
    pub(super) fn scopes(self) -> &'static [CircuitScope] {
        CircuitScope::of(self.operation)
    }
}

// === impl LatencyBounds ===

impl LatencyBounds {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, kinds: array::from_fn(|_| array::from_fn(|_| LatencyEstimate::default())) }
    }

    /// Records the latency of a response.
    pub(super) fn observe(&self, kind: RequestKind, latency: Duration) {
        self.estimate(kind).observe(latency);
    }

    /// Time after which a request of this kind is overdue.
    pub(super) fn max_wait(&self, kind: RequestKind) -> Duration {
        let BreakerSettings { min_wait, max_wait } = self.settings;
        match self.estimate(kind).p99.load(Ordering::Relaxed) {
            0 => max_wait,
            p99 => Duration::from_micros(p99 * FACTOR).max(min_wait).min(max_wait),
        }
    }

    /// 99th percentile of the latency of this kind. `None` until it is known.
    pub(super) fn usual(&self, kind: RequestKind) -> Option<Duration> {
        let p99 = self.estimate(kind).p99.load(Ordering::Relaxed);
        (p99 > 0).then(|| Duration::from_micros(p99))
    }

    fn estimate(&self, kind: RequestKind) -> &LatencyEstimate {
        &self.kinds[kind.operation as usize][usize::from(kind.is_large)]
    }
}

// === impl LatencyEstimate ===

impl LatencyEstimate {
    fn observe(&self, latency: Duration) {
        self.buckets[bucket(latency)].fetch_add(1, Ordering::Relaxed);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_multiple_of(ESTIMATE_EVERY) {
            self.estimate(count >= HALVE_AT);
        }
    }

    /// Counts of concurrent responses may be lost, which an estimate tolerates.
    fn estimate(&self, halve: bool) {
        let counts: [u32; BUCKETS] = array::from_fn(|index| {
            let bucket = &self.buckets[index];
            let count = bucket.load(Ordering::Relaxed);
            if halve {
                bucket.store(count / 2, Ordering::Relaxed);
            }
            count
        });
        let all: u32 = counts.iter().sum();
        if halve {
            self.count.store(all / 2, Ordering::Relaxed);
        }
        let mut above = all / 100;
        for (index, count) in counts.into_iter().enumerate().rev() {
            match above.checked_sub(count) {
                Some(rest) => above = rest,
                None => return self.p99.store(upper_edge(index), Ordering::Relaxed),
            }
        }
    }
}

impl Default for LatencyEstimate {
    fn default() -> Self {
        Self {
            buckets: array::from_fn(|_| AtomicU32::new(0)),
            count: AtomicU32::new(0),
            p99: AtomicU64::new(0),
        }
    }
}

/// Index of the bucket of a latency.
fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1 << FIRST_EXPONENT);
    let exponent = micros.ilog2();
    let upper_half = (micros >> (exponent - 1)) & 1;
    let index = u64::from(exponent - FIRST_EXPONENT) * 2 + upper_half;
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Upper edge of a bucket in microseconds.
fn upper_edge(index: usize) -> u64 {
    let base = 1_u64 << (FIRST_EXPONENT as usize + index / 2);
    if index.is_multiple_of(2) { base + base / 2 } else { base * 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tests::get;

    fn kind() -> RequestKind {
        RequestKind::from(&*get("1"))
    }

    fn observe(bounds: &LatencyBounds, millis: u64, times: usize) {
        for _ in 0..times {
            bounds.observe(kind(), Duration::from_millis(millis));
        }
    }

    #[test]
    fn each_latency_is_below_the_upper_edge_of_its_bucket() {
        for micros in [1, 1_023, 1_024, 1_535, 1_536, 90_000, 400_000, 7_000_000, 60_000_000] {
            let index = bucket(Duration::from_micros(micros));
            let edge = upper_edge(index);
            assert!(micros < edge, "{micros}");
            assert!(index == 0 || edge <= micros * 3 / 2 + 1, "{micros}: {edge}");
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn the_maximum_holds_until_the_latency_is_known() {
        let bounds = LatencyBounds::new(BreakerSettings::default());
        observe(&bounds, 50, 15);
        assert_eq!(bounds.max_wait(kind()), Duration::from_secs(10));
        observe(&bounds, 50, 1);
        assert_eq!(bounds.max_wait(kind()), Duration::from_secs(1), "at least the minimum");
    }

    #[test]
    fn one_slow_response_in_a_hundred_does_not_count_and_two_do() {
        let bounds = LatencyBounds::new(BreakerSettings::default());
        observe(&bounds, 4_000, 1);
        observe(&bounds, 400, 127);
        let usual = bounds.max_wait(kind());
        assert!(usual > Duration::from_millis(1_600) && usual < Duration::from_millis(2_400));
        observe(&bounds, 4_000, 4);
        observe(&bounds, 400, 12);
        assert_eq!(bounds.max_wait(kind()), Duration::from_secs(10), "at most the maximum");
    }

    #[test]
    fn old_latencies_lose_their_weight() {
        let bounds = LatencyBounds::new(BreakerSettings::default());
        observe(&bounds, 4_000, 1_000);
        observe(&bounds, 100, 6_000);
        assert_eq!(bounds.max_wait(kind()), Duration::from_secs(1));
    }
}
