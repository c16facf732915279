//! Rate limit of the calls that a client cancels before their deadlines.
//!
//! Each cancelled call takes the work of a call, and HTTP/2 lets the client begin another one at once: the
//! number of concurrent streams does not bound such calls. A client may cancel all calls of a connection
//! several times. Deadlines that pass together do not count as cancellations.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Size of a permitted burst of cancellations, in seconds of the rate.
const BURST: f64 = 4.0;

/// Minimum of the cancellations per second: clients that send hedged calls cancel many of them.
const MIN_PER_SECOND: u32 = 256;

/// Rate limit of the cancellations of one connection.
#[derive(Debug)]
pub(crate) struct CancellationLimit {
    per_second: f64,
    tokens: Mutex<Tokens>,
}

/// Token bucket of the permitted cancellations.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    left: f64,
    at: Instant,
}

// === impl CancellationLimit ===

impl CancellationLimit {
    /// Creates the limit of a connection with this maximum number of concurrent calls.
    pub(crate) fn new(max_streams: u32) -> Self {
        let per_second = f64::from(max_streams.max(MIN_PER_SECOND));
        let tokens = Tokens { left: per_second * BURST, at: Instant::now() };
        Self { per_second, tokens: Mutex::new(tokens) }
    }

    /// Counts a call that the client cancelled. Returns false if it exceeds the limit.
    pub(crate) fn admit(&self) -> bool {
        let now = Instant::now();
        let mut tokens = self.tokens.lock();
        let elapsed = now.saturating_duration_since(tokens.at).as_secs_f64();
        let refilled = tokens.left + elapsed * self.per_second;
        let left = refilled.min(self.per_second * BURST) - 1.0;
        *tokens = Tokens { left: left.max(0.0), at: now };
        left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admitted(limit: &CancellationLimit) -> usize {
        (0..10_000).filter(|_| limit.admit()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn four_times_all_calls_may_be_cancelled_at_once_and_then_all_calls_per_second() {
        for (max_streams, per_second) in [(1_024, 1_024), (16, 256)] {
            let limit = CancellationLimit::new(max_streams);
            assert_eq!(admitted(&limit), 4 * per_second);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(admitted(&limit), per_second);
            tokio::time::advance(Duration::from_secs(1_000)).await;
            assert_eq!(admitted(&limit), 4 * per_second, "no more after a pause");
        }
    }
}
