//! Messages that HTTP/2 holds because their client has not read them.
//!
//! After the end of a stream, HTTP/2 holds its last chunk until the client reads it, or the connection ends.
//! With the chunk, the call keeps its slot and its memory. If the client has not read it by the send deadline
//! of the call, its connection is closed.
//!
//! A timer for each call would slow down every call. So the messages are counted by the periods in which
//! their send deadlines lie, and the connection checks the counter of each period after its end.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Number of counters, which are used cyclically.
const PERIODS: usize = 16;

/// Time after the send deadline in which the stream is reset if it has not ended.
const MARGIN: Duration = Duration::from_secs(1);

/// Messages of one connection that HTTP/2 holds.
#[derive(Debug)]
pub(crate) struct HeldMessages {
    start: Instant,
    /// Maximum time from the start of a call to its send deadline.
    longest: Duration,
    /// Length of a period in milliseconds.
    period: u64,
    by_period: [AtomicU32; PERIODS],
}

/// Counter of the period of a held message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldPeriod(usize);

// === impl HeldMessages ===

impl HeldMessages {
    /// Counters for send deadlines that are at most `longest` after the start of their calls.
    pub(crate) fn new(longest: Duration) -> Self {
        // Two counters are in use: that of the current period, and that of the last one, which is checked.
        let period = millis(longest + MARGIN) / (PERIODS as u64 - 2) + 1;
        Self { start: Instant::now(), longest, period, by_period: Default::default() }
    }

    /// Counts a message of a call until [`remove`](Self::remove). `None` for a stream that may last longer
    /// than other calls.
    pub(super) fn add(&self, started: Instant, send_deadline: Instant) -> Option<HeldPeriod> {
        if send_deadline.saturating_duration_since(started) > self.longest {
            return None;
        }
        let period = counter(self.number(send_deadline + MARGIN));
        self.by_period[period.0].fetch_add(1, Ordering::Relaxed);
        Some(period)
    }

    /// Removes a message that HTTP/2 no longer holds.
    pub(super) fn remove(&self, period: HeldPeriod) {
        self.by_period[period.0].fetch_sub(1, Ordering::Relaxed);
    }

    /// Time of the next check.
    pub(super) fn next_check(&self) -> Instant {
        let next = self.number(Instant::now()) + 1;
        self.start + Duration::from_millis(next.saturating_mul(self.period))
    }

    /// True if HTTP/2 holds a message whose send deadline and margin lie in the last period.
    pub(super) fn is_overdue(&self) -> bool {
        let last = self.number(Instant::now()).checked_sub(1);
        last.is_some_and(|last| self.by_period[counter(last).0].load(Ordering::Relaxed) > 0)
    }

    /// Number of the period of this time.
    fn number(&self, at: Instant) -> u64 {
        millis(at.saturating_duration_since(self.start)) / self.period
    }
}

/// Counter of the period with this number.
fn counter(number: u64) -> HeldPeriod {
    // The remainder is small.
    HeldPeriod(usize::try_from(number % PERIODS as u64).unwrap_or_default())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    const LONGEST: Duration = Duration::from_secs(300);

    /// Waits for checks until one finds a message; returns the time since `start`.
    async fn overdue(held: &HeldMessages, start: Instant) -> Duration {
        loop {
            sleep_until(held.next_check()).await;
            if held.is_overdue() {
                return start.elapsed();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_message_is_found_within_a_period_after_its_send_deadline() {
        for age in [0, 7, 1_000, 100_000] {
            for deadline in [1, 21, 60, 299, 300] {
                let held = HeldMessages::new(LONGEST);
                advance(Duration::from_secs(age)).await;
                let (start, deadline) = (Instant::now(), Duration::from_secs(deadline));
                held.add(start, start + deadline).unwrap();
                let found = overdue(&held, start).await;
                let late = found.checked_sub(deadline).expect("not before its deadline");
                assert!(
                    (MARGIN..LONGEST / 13 + MARGIN).contains(&late),
                    "{late:?} after {deadline:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_are_read_are_not_found() {
        let held = HeldMessages::new(LONGEST);
        let start = Instant::now();
        while start.elapsed() < 4 * LONGEST {
            // Many are held at any time, and each until just before its deadline.
            let now = Instant::now();
            let periods = [1, 60, 300].map(|deadline| {
                held.add(now, now + Duration::from_secs(deadline)).expect("counted")
            });
            advance(Duration::from_millis(900)).await;
            assert!(!held.is_overdue(), "after {:?}", start.elapsed());
            periods.into_iter().for_each(|period| held.remove(period));
        }
        assert!(held.by_period.iter().all(|count| count.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_may_last_longer_than_other_calls_is_not_counted() {
        let held = HeldMessages::new(LONGEST);
        let start = Instant::now();
        assert!(held.add(start, start + LONGEST + Duration::from_millis(1)).is_none());
        // A short grace period of connections has short periods.
        let held = HeldMessages::new(Duration::ZERO);
        assert!(held.add(start, start).is_some());
        assert!(held.next_check() <= start + MARGIN);
    }
}
