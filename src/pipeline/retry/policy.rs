//! Retry decisions from plain values, and a retry budget that keeps retries from making an outage
//! worse.

use std::time::Duration;

use parking_lot::Mutex;

/// Class of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retryable {
    /// Another attempt would fail as well, or could do harm.
    Permanent,
    /// Another attempt is safe and may succeed.
    After {
        /// Minimum pause: stated by the peer, or usual for this kind of failure.
        min_backoff: Duration,
        /// Maximum number of attempts for this kind of failure, the first one included.
        max_attempts: u32,
    },
}

/// Bounds of retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetryPolicy {
    /// Maximum number of attempts, the first one included. 1 never retries.
    pub(super) max_attempts: u32,
    /// Upper bound of the first backoff, which is random. It doubles with each failure.
    pub(super) first_backoff: Duration,
    /// Upper bound of the random part of a backoff.
    pub(super) max_backoff: Duration,
    /// Minimum time for an attempt. With less time left none is started.
    pub(super) attempt_time: Duration,
}

/// State of a call after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RetryState {
    /// Number of the failed attempt, from 1.
    pub(super) attempt: u32,
    /// Time to the deadline.
    pub(super) remaining: Duration,
    /// Jitter in `[0, 1)`.
    pub(super) random: f64,
}

/// Decision after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Retries after this pause.
    RetryAfter(Duration),
    /// Returns the error.
    Stop(Stop),
}

/// Reason for returning an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The error is permanent.
    Permanent,
    /// The maximum number of attempts was made.
    Attempts,
    /// The next attempt could not complete before the deadline.
    Deadline,
    /// The retry budget is exhausted.
    Budget,
}

/// Retry budget of a portal: each retry takes one from it, each success adds a part. In an outage
/// retries stop quickly; with few failures there is always one left.
#[derive(Debug)]
pub(super) struct RetryBudget {
    /// Budget in tenths of a retry.
    tenths: Mutex<u32>,
}

/// Tenths that a success adds: retries add at most a tenth to the ordinary requests.
const DEPOSIT: u32 = 1;

/// Tenths that a retry takes.
const PRICE: u32 = 10;

/// Maximum budget in tenths: a burst of twenty retries.
const CAPACITY: u32 = 200;

// === impl RetryPolicy ===

impl RetryPolicy {
    /// Decides after a failed attempt. Takes from the budget if the decision is to retry.
    pub(super) fn decide(
        &self,
        retryable: Retryable,
        state: RetryState,
        budget: &RetryBudget,
    ) -> Decision {
        let Retryable::After { min_backoff, max_attempts } = retryable else {
            return Decision::Stop(Stop::Permanent);
        };
        let RetryState { attempt, remaining, random } = state;
        if attempt >= self.max_attempts.min(max_attempts) {
            return Decision::Stop(Stop::Attempts);
        }
        let doubled = self.first_backoff.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let pause = min_backoff.saturating_add(doubled.min(self.max_backoff).mul_f64(random));
        if pause.saturating_add(self.attempt_time) > remaining {
            return Decision::Stop(Stop::Deadline);
        }
        if !budget.withdraw() {
            return Decision::Stop(Stop::Budget);
        }
        Decision::RetryAfter(pause)
    }
}

// === impl RetryBudget ===

impl RetryBudget {
    /// Adds to the budget after a success.
    pub(super) fn deposit(&self) {
        let mut tenths = self.tenths.lock();
        *tenths = tenths.saturating_add(DEPOSIT).min(CAPACITY);
    }

    fn withdraw(&self) -> bool {
        let mut tenths = self.tenths.lock();
        let left = tenths.checked_sub(PRICE);
        *tenths = left.unwrap_or(*tenths);
        left.is_some()
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { tenths: Mutex::new(CAPACITY) }
    }
}

#[cfg(test)]
mod tests;
