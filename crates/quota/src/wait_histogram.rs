//! Waiting times in buckets. The crate exports no metrics: the exporter reads a snapshot.

use std::time::Duration;

/// Upper bounds of the buckets in milliseconds: from a slot of the pacing to the longest deadline of
/// a batch call by default, 5 min.
const BOUNDS_MS: [u64; 15] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000];

/// A histogram of waiting times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaitHistogram {
    /// Counts for each bound, and of longer waits at the end.
    counts: [u64; BOUNDS_MS.len() + 1],
    sum: Duration,
}

// === impl WaitHistogram ===

impl WaitHistogram {
    /// Counts one waiting time.
    pub(crate) fn observe(&mut self, wait: Duration) {
        let is_within = |bound: &u64| wait <= Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().position(is_within).unwrap_or(BOUNDS_MS.len());
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(wait);
    }

    /// Number of waits.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all waits.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Upper bound of each bucket with the number of waits in it alone. The last bucket has no bound.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> {
        let bounds = BOUNDS_MS.iter().map(|bound| Some(Duration::from_millis(*bound)));
        bounds.chain([None]).zip(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_in_the_bucket_with_the_next_bound() {
        let mut waits = WaitHistogram::default();
        for millis in [0, 5, 6, 300_000, 300_001] {
            waits.observe(Duration::from_millis(millis));
        }
        let filled: Vec<_> = waits.buckets().filter(|(_, count)| *count > 0).collect();
        let millis = |bound| Some(Duration::from_millis(bound));
        assert_eq!(filled, [(millis(5), 2), (millis(10), 1), (millis(300_000), 1), (None, 1)]);
        assert_eq!((waits.count(), waits.sum()), (5, Duration::from_millis(600_012)));
    }
}
