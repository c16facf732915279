//! How long things took, counted in steps: a few atomics per observation, read at each scrape.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the steps, in seconds: from answers out of memory to the longest batches. HubSpot's
/// fastest answers take about 50 ms.
pub const BOUNDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The same in nanoseconds.
const BOUNDS_NS: [u64; BOUNDS.len()] = [
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Durations by step, and all together.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last has none.
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Steps {
    /// Upper bound of each step, in seconds, and what fell into it; the last bound is infinite.
    pub steps: Vec<(f64, u64)>,
    /// All durations together, in seconds.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
}

// === impl Histogram ===

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let step = BOUNDS_NS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.counts[step].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[expect(clippy::cast_precision_loss, reason = "a metric is a float; exact below 2^53")]
    pub fn steps(&self) -> Steps {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let steps: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = steps.iter().map(|(_, count)| count).sum();
        Steps { steps, sum: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9, count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_step_that_holds_them() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 60_000, 60_001] {
            histogram.observe(Duration::from_millis(millis));
        }
        let Steps { steps, sum, count } = histogram.steps();
        assert_eq!(steps[0], (0.001, 2), "a bound belongs to its step");
        assert_eq!(steps[1], (0.0025, 1));
        assert_eq!(steps[14], (60.0, 1));
        assert_eq!(steps[15], (f64::INFINITY, 1));
        assert_eq!(count, 5);
        assert!((sum - 120.004).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn both_lists_of_bounds_say_the_same() {
        for (seconds, nanos) in BOUNDS.into_iter().zip(BOUNDS_NS) {
            assert_eq!(Duration::from_secs_f64(seconds).as_nanos(), u128::from(nanos));
        }
    }
}
