//! State machine of the circuit breaker.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Consecutive failures, without any response that shows HubSpot alive, after which the circuit
/// opens. Above the retries of one call, so that one unlucky call does not affect the others.
const THRESHOLD: u32 = 10;

/// First pause before a probe. It doubles while probes fail.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Maximum pause: a recovery is noticed within it.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Timeout of a probe without a verdict. After it another request may probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Verdict of an attempt on the health of HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    /// HubSpot responded, with any status.
    Up,
    /// HubSpot did not respond, or only a gateway did.
    Down,
}

/// The circuit of one portal: no portal is affected by another.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Circuit(Mutex<State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests pass.
    Closed { failures: u32 },
    /// Requests are rejected until then.
    Open { until: Instant, pause: Duration },
    /// One request probes.
    HalfOpen { since: Instant, pause: Duration },
}

// === impl Circuit ===

impl Circuit {
    /// Admits a request. Errors with the time to wait if the circuit is open.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.0.lock();
        match *state {
            State::Closed { .. } => Ok(()),
            State::Open { until, .. } if now < until => Err(until - now),
            State::HalfOpen { since, .. } if now < since + PROBE_TIMEOUT => Err(FIRST_PAUSE),
            State::Open { pause, .. } | State::HalfOpen { pause, .. } => {
                *state = State::HalfOpen { since: now, pause };
                Ok(())
            }
        }
    }

    /// Records the verdict of an attempt. Returns whether it opened the circuit. `random` is jitter
    /// in `[0, 1)`.
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
            (State::HalfOpen { pause, .. }, Health::Down) => {
                (open((pause * 2).min(MAX_PAUSE)), false)
            }
            // An attempt that began before the circuit opened.
            (State::Open { .. }, Health::Down) => return false,
        };
        *state = next;
        opened
    }

    /// True if requests are rejected.
    pub(in crate::pipeline) fn is_open(&self) -> bool {
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

    fn down(circuit: &Circuit, times: u32) {
        for _ in 0..times {
            circuit.record(Health::Down, Instant::now(), 0.5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_circuit_opens_only_after_consecutive_failures() {
        let circuit = Circuit::default();
        for _ in 0..5 {
            down(&circuit, THRESHOLD - 1);
            circuit.record(Health::Up, Instant::now(), 0.5);
        }
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
        down(&circuit, THRESHOLD - 1);
        assert!(
            circuit.record(Health::Down, Instant::now(), 0.5),
            "this failure opens the circuit"
        );
        assert_eq!(circuit.admit(Instant::now()), Err(FIRST_PAUSE));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_probes_and_its_verdict_holds_for_all() {
        let circuit = Circuit::default();
        down(&circuit, THRESHOLD);
        advance(FIRST_PAUSE).await;
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
        assert!(circuit.admit(Instant::now()).is_err(), "only one request probes");
        circuit.record(Health::Down, Instant::now(), 0.5);
        assert_eq!(circuit.admit(Instant::now()), Err(FIRST_PAUSE * 2));
        advance(FIRST_PAUSE * 2).await;
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
        circuit.record(Health::Up, Instant::now(), 0.5);
        assert!(!circuit.is_open());
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_a_verdict_expires() {
        let circuit = Circuit::default();
        down(&circuit, THRESHOLD);
        advance(FIRST_PAUSE).await;
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
        advance(PROBE_TIMEOUT).await;
        assert_eq!(circuit.admit(Instant::now()), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_up_to_its_maximum() {
        let circuit = Circuit::default();
        down(&circuit, THRESHOLD);
        for _ in 0..20 {
            let pause = circuit.admit(Instant::now()).unwrap_err();
            assert!(pause <= MAX_PAUSE.mul_f64(1.25));
            advance(pause).await;
            assert_eq!(circuit.admit(Instant::now()), Ok(()));
            circuit.record(Health::Down, Instant::now(), 0.99);
        }
    }
}
