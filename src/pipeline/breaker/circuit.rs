//! State machine of the circuit breaker.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::silence::Silence;

/// Failure points, without any response that shows HubSpot alive, with which the circuit opens. Above
/// the retries of one call, so that one unlucky call does not affect the others.
const THRESHOLD: u32 = 10;

/// Points of a request that failed: HubSpot did not respond, or only a gateway did.
const FAILED: u32 = 1;

/// Points of a request that waits for longer than HubSpot usually takes. Twice as many, because it has
/// waited for as long as several failures take.
const OVERDUE: u32 = 2;

/// First pause before a probe. It doubles with each probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Maximum pause before its jitter. With it, at most five seconds are between two probes, so a recovery
/// is noticed within that time.
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// Verdict of a request on the health of HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// HubSpot responded, with any status.
    Up,
    /// HubSpot did not respond, or only a gateway did.
    Down,
    /// HubSpot has not responded for longer than it usually takes.
    Overdue,
}

/// The circuit of one portal: no portal is affected by another.
///
/// Only a response closes an open circuit. A probe that fails, hangs or is dropped changes nothing: the
/// time of the next one is set before it is sent.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Circuit {
    /// False while the circuit is closed without failures; read without the lock.
    disturbed: AtomicBool,
    state: Mutex<State>,
    silence: Silence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass.
    Closed { failures: u32 },
    /// Requests are rejected. The next probe is due at that time.
    Open { next_probe: Instant, pause: Duration },
}

// === impl Circuit ===

impl Circuit {
    /// Admits a request. Errors with the time to wait if the circuit is open. `random` in `[0, 1)`
    /// spreads the retries of rejected callers.
    pub(super) fn admit(&self, now: Instant, random: impl FnOnce() -> f64) -> Result<(), Duration> {
        if !self.disturbed.load(Ordering::Acquire) {
            return Ok(());
        }
        match *self.state.lock() {
            State::Closed { .. } => Ok(()),
            State::Open { next_probe, pause } => {
                let spread = pause.div_f64(2.0).mul_f64(random());
                Err(next_probe.saturating_duration_since(now) + FIRST_PAUSE / 4 + spread)
            }
        }
    }

    /// Records the verdict of a request. Returns true if it opened the circuit. `random` in `[0, 1)`
    /// is the jitter of the pause.
    pub(super) fn record(
        &self,
        health: Health,
        now: Instant,
        random: impl FnOnce() -> f64,
    ) -> bool {
        let points = match health {
            Health::Up => {
                self.silence.on_response();
                if self.disturbed.load(Ordering::Acquire) {
                    self.set(&mut self.state.lock(), State::Closed { failures: 0 });
                }
                return false;
            }
            Health::Down => {
                self.silence.on_response();
                FAILED
            }
            Health::Overdue => OVERDUE,
        };
        let mut state = self.state.lock();
        match *state {
            State::Closed { failures } if failures + points < THRESHOLD => {
                self.set(&mut state, State::Closed { failures: failures + points });
                false
            }
            State::Closed { .. } => {
                self.set(&mut state, open(now, FIRST_PAUSE, random()));
                self.silence.on_opened();
                true
            }
            // A request that was sent before the circuit opened, or a probe.
            State::Open { .. } => false,
        }
    }

    /// Requests since the latest response.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Time of the next probe. `None` if the circuit is closed.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        match *self.state.lock() {
            State::Closed { .. } => None,
            State::Open { next_probe, .. } => Some(next_probe),
        }
    }

    /// Plans the probe after the one that is about to be sent. Returns false if the circuit was closed
    /// in the meantime.
    pub(super) fn begin_probe(&self, now: Instant, random: f64) -> bool {
        let mut state = self.state.lock();
        match *state {
            State::Closed { .. } => false,
            State::Open { pause, .. } => {
                self.set(&mut state, open(now, (pause * 2).min(MAX_PAUSE), random));
                true
            }
        }
    }

    /// Lets requests pass on trial after a probe that could not be sent. The portal has no token or no
    /// quota then, which is the error of the requests. The next failure opens the circuit again.
    pub(super) fn close_on_trial(&self) {
        let mut state = self.state.lock();
        if matches!(*state, State::Open { .. }) {
            self.set(&mut state, State::Closed { failures: THRESHOLD - 1 });
        }
    }

    /// True if requests are rejected.
    pub(in crate::pipeline) fn is_open(&self) -> bool {
        self.next_probe().is_some()
    }

    fn set(&self, state: &mut State, next: State) {
        *state = next;
        self.disturbed.store(next != State::default(), Ordering::Release);
    }
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

fn open(now: Instant, pause: Duration, random: f64) -> State {
    State::Open { next_probe: now + pause.mul_f64(0.75 + random / 2.0), pause }
}

#[cfg(test)]
mod tests;
