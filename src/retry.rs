//! Whether to try again, and when: a decision made from plain values, a budget that keeps retries
//! from making an outage worse, and the one loop that acts on both.
//!
//! What failed and whether it is safe to repeat is for the caller to say ([`Failure`]); waiting and
//! chance are handed in, so that tests need neither.

use std::{future::Future, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a failed attempt means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another attempt would end the same way, or could do harm.
    Final,
    /// Another attempt is safe and may succeed.
    Passing {
        /// The least to wait: what the other side asked for, or what its kind of trouble usually
        /// takes.
        at_least: Duration,
        /// Most attempts that make sense for this kind of trouble, the first one included.
        most: u32,
    },
}

/// How often and how fast to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Most attempts, the first one included. 1 never retries.
    pub max_attempts: u32,
    /// The first pause is random between zero and this; it doubles with each failure.
    pub first_pause: Duration,
    /// The random part of a pause is never longer than this.
    pub max_pause: Duration,
    /// What an attempt needs at the least: with less time left, none is begun.
    pub attempt_time: Duration,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this pause.
    Again(Duration),
    /// Let the failure stand.
    Stop(Stop),
}

/// Why a failure stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is final.
    Final,
    /// Enough attempts were made.
    Attempts,
    /// The next attempt could not end before the deadline.
    Deadline,
    /// Too many of the recent calls were retries.
    Budget,
}

/// Where a call stands when its attempts begin, and until when they may go on.
#[derive(Debug, Clone, Copy)]
pub struct Course<D> {
    /// Attempts made before.
    pub made: u32,
    /// When the call must be over, which may come to be earlier while it is under way.
    pub deadline: D,
}

/// A failure that stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped<E> {
    /// The failure of the last attempt.
    pub failure: E,
    /// Why there is no other.
    pub why: Stop,
}

/// Retries that are allowed beside the ordinary calls: each takes one from the store, each success
/// puts a part back. In an outage retries stop quickly; with few failures there is always one left.
#[derive(Debug)]
pub struct Budget {
    /// In tenths of a retry.
    tenths: Mutex<u32>,
}

/// Tenths that a success puts back: retries may add a tenth to the ordinary calls.
const EARNED: u32 = 1;

/// Tenths that a retry takes.
const PRICE: u32 = 10;

/// Most tenths in store: a burst of twenty retries.
const FULL: u32 = 200;

// === impl Policy ===

impl Policy {
    /// Decides after attempt number `attempt` (from 1) has failed. `left` is the time to the
    /// deadline, `random` is in `[0, 1)`. Takes from the budget if the answer is to try again.
    pub fn decide(
        &self,
        failure: Failure,
        attempt: u32,
        left: Duration,
        random: f64,
        budget: &Budget,
    ) -> Decision {
        let Failure::Passing { at_least, most } = failure else {
            return Decision::Stop(Stop::Final);
        };
        if attempt >= self.max_attempts.min(most) {
            return Decision::Stop(Stop::Attempts);
        }
        let doubled = self.first_pause.saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let pause = at_least.saturating_add(doubled.min(self.max_pause).mul_f64(random));
        if pause.saturating_add(self.attempt_time) > left {
            return Decision::Stop(Stop::Deadline);
        }
        if !budget.take() {
            return Decision::Stop(Stop::Budget);
        }
        Decision::Again(pause)
    }
}

// === impl Budget ===

impl Budget {
    /// A call has succeeded.
    pub fn earn(&self) {
        let mut tenths = self.tenths.lock();
        *tenths = tenths.saturating_add(EARNED).min(FULL);
    }

    fn take(&self) -> bool {
        let mut tenths = self.tenths.lock();
        let left = tenths.checked_sub(PRICE);
        *tenths = left.unwrap_or(*tenths);
        left.is_some()
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { tenths: Mutex::new(FULL) }
    }
}

/// Makes attempts until one succeeds or a failure stands, and gives its result. `attempt` is told
/// its number; `judge` says what a failure means; `wait` sleeps; `random` gives numbers in `[0, 1)`.
pub async fn run<T, E, A, W>(
    policy: &Policy,
    budget: &Budget,
    course: Course<impl Fn() -> Instant>,
    mut attempt: impl FnMut(u32) -> A,
    judge: impl Fn(&E) -> Failure,
    mut wait: impl FnMut(Duration) -> W,
    mut random: impl FnMut() -> f64,
) -> Result<T, Stopped<E>>
where
    A: Future<Output = Result<T, E>>,
    W: Future<Output = ()>,
{
    let mut number = course.made + 1;
    loop {
        let failure = match attempt(number).await {
            Ok(done) => {
                budget.earn();
                return Ok(done);
            }
            Err(failure) => failure,
        };
        let left = (course.deadline)().saturating_duration_since(Instant::now());
        match policy.decide(judge(&failure), number, left, random(), budget) {
            Decision::Again(pause) => wait(pause).await,
            Decision::Stop(why) => return Err(Stopped { failure, why }),
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests;
