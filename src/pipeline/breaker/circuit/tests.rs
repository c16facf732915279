//! Transitions of the circuit.

use tokio::time::advance;

use super::*;

fn record(circuit: &Circuit, health: Health) -> bool {
    circuit.record(health, Instant::now(), || 0.5)
}

fn down(circuit: &Circuit, times: u32) {
    for _ in 0..times {
        record(circuit, Health::Down);
    }
}

fn admit(circuit: &Circuit) -> Result<(), Duration> {
    circuit.admit(Instant::now(), || 0.0)
}

#[tokio::test(start_paused = true)]
async fn the_circuit_opens_only_after_consecutive_failures() {
    let circuit = Circuit::default();
    for _ in 0..5 {
        down(&circuit, THRESHOLD - 1);
        record(&circuit, Health::Up);
    }
    assert_eq!(admit(&circuit), Ok(()));
    down(&circuit, THRESHOLD - 1);
    assert!(record(&circuit, Health::Down), "this failure opens the circuit");
    assert!(admit(&circuit).unwrap_err() >= FIRST_PAUSE);
}

#[tokio::test(start_paused = true)]
async fn five_overdue_requests_open_the_circuit() {
    let circuit = Circuit::default();
    for _ in 0..4 {
        assert!(!record(&circuit, Health::Overdue));
    }
    assert!(record(&circuit, Health::Overdue), "the fifth opens the circuit");
}

#[tokio::test(start_paused = true)]
async fn a_response_closes_the_circuit_and_a_late_failure_changes_nothing() {
    let circuit = Circuit::default();
    down(&circuit, THRESHOLD);
    let next = circuit.next_probe();
    assert!(!record(&circuit, Health::Down));
    assert!(!record(&circuit, Health::Overdue));
    assert_eq!(circuit.next_probe(), next);
    record(&circuit, Health::Up);
    assert!(!circuit.is_open());
    assert_eq!(admit(&circuit), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn probes_are_at_most_five_seconds_apart() {
    let circuit = Circuit::default();
    down(&circuit, THRESHOLD);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let pause = circuit.next_probe().unwrap() - Instant::now();
        pauses.push(pause);
        advance(pause).await;
        assert!(circuit.begin_probe(Instant::now(), 0.999));
        assert!(admit(&circuit).is_err(), "no request passes with the probe");
    }
    assert_eq!(pauses[0], FIRST_PAUSE);
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(5)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_trial_one_failure_opens_the_circuit_again() {
    let circuit = Circuit::default();
    down(&circuit, THRESHOLD);
    circuit.close_on_trial();
    assert_eq!(admit(&circuit), Ok(()));
    assert!(record(&circuit, Health::Down));
    circuit.close_on_trial();
    record(&circuit, Health::Up);
    assert!(!record(&circuit, Health::Down), "a response ends the trial");
}

#[tokio::test(start_paused = true)]
async fn the_retries_of_rejected_callers_are_spread() {
    let circuit = Circuit::default();
    down(&circuit, THRESHOLD);
    let wait = |random: f64| circuit.admit(Instant::now(), || random).unwrap_err();
    assert!(wait(0.0) >= FIRST_PAUSE);
    assert_eq!(wait(0.5) - wait(0.0), FIRST_PAUSE / 4);
}
