//! Stops asking a HubSpot that is down: calls fail at once instead of waiting, and one call at a time
//! looks whether it is back. One breaker per portal, so that no portal is stopped for another.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row, without any answer that shows HubSpot alive, after which it counts as down.
/// Above what the retries of one call make, so that one unlucky call does not stop all others.
const THRESHOLD: u32 = 10;

/// First pause before a probe; doubles while probes fail.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Longest pause: recovery is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// A probe that says nothing for this long is given up, and another call may probe.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// What an attempt says about HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// It answered, whatever it said.
    Up,
    /// It did not answer, or only a gateway did.
    Down,
}

/// The breaker of one portal.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Calls go through.
    Closed { failures: u32 },
    /// Calls fail at once until then.
    Open { until: Instant, pause: Duration },
    /// One call is looking.
    Probing { since: Instant, pause: Duration },
}

// === impl Breaker ===

impl Breaker {
    /// Lets a call through, or says how long to wait.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.0.lock();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until, .. } if now < until => Err(until - now),
            State::Probing { since, .. } if now < since + PROBE_PATIENCE => Err(FIRST_PAUSE),
            State::Open { pause, .. } | State::Probing { pause, .. } => {
                *state = State::Probing { since: now, pause };
                Ok(())
            }
        }
    }

    /// Takes in how an attempt went; true if that has just stopped the calls. `random` is in
    /// `[0, 1)`.
    pub(super) fn record(&self, health: Health, now: Instant, random: f64) -> bool {
        let mut state = self.0.lock();
        let open = |pause: Duration| State::Open {
            until: now + pause.mul_f64(0.75 + random / 2.0),
            pause,
        };
        let (next, opened) = match (*state, health) {
            (_, Health::Up) => (State::Closed { failures: 0 }, false),
            (State::Closed { failures }, Health::Down) if failures + 1 < THRESHOLD => {
                (State::Closed { failures: failures + 1 }, false)
            }
            (State::Closed { .. }, Health::Down) => (open(FIRST_PAUSE), true),
            (State::Probing { pause, .. }, Health::Down) => {
                (open((pause * 2).min(MAX_PAUSE)), false)
            }
            // A call that began before the calls were stopped.
            (State::Open { .. }, Health::Down) => return false,
        };
        *state = next;
        opened
    }

    /// Whether calls are stopped.
    pub(super) fn is_open(&self) -> bool {
        !matches!(*self.0.lock(), State::Closed { .. })
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn down(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.record(Health::Down, Instant::now(), 0.5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_stopped_after_failures_in_a_row_only() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            down(&breaker, THRESHOLD - 1);
            breaker.record(Health::Up, Instant::now(), 0.5);
        }
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
        down(&breaker, THRESHOLD - 1);
        assert!(breaker.record(Health::Down, Instant::now(), 0.5), "this one stops the calls");
        assert_eq!(breaker.admit(Instant::now()), Err(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_probes_and_its_answer_decides_for_all() {
        let breaker = Breaker::default();
        down(&breaker, THRESHOLD);
        advance(FIRST_PAUSE).await;
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
        assert!(breaker.admit(Instant::now()).is_err(), "the second call waits for the first");
        breaker.record(Health::Down, Instant::now(), 0.5);
        assert_eq!(breaker.admit(Instant::now()), Err(FIRST_PAUSE * 2));
        advance(FIRST_PAUSE * 2).await;
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
        breaker.record(Health::Up, Instant::now(), 0.5);
        assert!(!breaker.is_open());
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_vanishes_does_not_stop_the_calls_for_ever() {
        let breaker = Breaker::default();
        down(&breaker, THRESHOLD);
        advance(FIRST_PAUSE).await;
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
        advance(PROBE_PATIENCE).await;
        assert_eq!(breaker.admit(Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_to_a_bound() {
        let breaker = Breaker::default();
        down(&breaker, THRESHOLD);
        for _ in 0..20 {
            let pause = breaker.admit(Instant::now()).unwrap_err();
            assert!(pause <= MAX_PAUSE.mul_f64(1.25));
            advance(pause).await;
            assert_eq!(breaker.admit(Instant::now()), Ok(()));
            breaker.record(Health::Down, Instant::now(), 0.99);
        }
    }
}
