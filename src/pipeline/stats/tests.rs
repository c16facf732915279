//! Counters by operation and outcome.

use super::*;

fn count(operation: Operation, outcome: HttpOutcome, calls: u64) -> CallCount {
    CallCount { operation: operation.name(), outcome, calls }
}

fn portal() -> PortalName {
    PortalName::parse("default").expect("a valid name")
}

#[test]
fn the_outcome_of_a_request_follows_from_its_status() {
    for (status, outcome) in [
        (200, HttpOutcome::Ok),
        (204, HttpOutcome::Ok),
        (299, HttpOutcome::Ok),
        (302, HttpOutcome::ServerError),
        (400, HttpOutcome::ClientError),
        (428, HttpOutcome::ClientError),
        (429, HttpOutcome::RateLimited),
        (430, HttpOutcome::ClientError),
        (499, HttpOutcome::ClientError),
        (500, HttpOutcome::ServerError),
        (503, HttpOutcome::ServerError),
    ] {
        let status = http::StatusCode::from_u16(status).expect("a valid status");
        assert_eq!(HttpOutcome::from(status), outcome, "{status}");
    }
}

#[test]
fn every_outcome_has_a_unique_label() {
    let labels: std::collections::BTreeSet<_> = OUTCOMES.iter().map(|one| one.as_str()).collect();
    assert_eq!(labels.len(), OUTCOMES.len());
    assert!(!labels.contains(""));
}

#[test]
fn requests_are_counted_by_operation_and_outcome() {
    let stats = PortalStats::default();
    stats.count_call(Operation::Get, HttpOutcome::Ok);
    stats.count_call(Operation::Get, HttpOutcome::Ok);
    stats.count_call(Operation::Get, HttpOutcome::NoResponse);
    stats.count_call(Operation::Create, HttpOutcome::ClientError);
    stats.count_retry();
    let CallStats { portal: name, calls, retries, breakers, unreadable } =
        stats.snapshot(portal(), Vec::new());
    assert_eq!(name, portal());
    let expected = [
        count(Operation::Get, HttpOutcome::Ok, 2),
        count(Operation::Get, HttpOutcome::NoResponse, 1),
        count(Operation::Create, HttpOutcome::ClientError, 1),
    ];
    assert_eq!(calls.len(), expected.len(), "{calls:?}");
    for expected in expected {
        assert!(calls.contains(&expected), "no {expected:?} in {calls:?}");
    }
    assert_eq!((retries, breakers), (1, Vec::new()));
    assert_eq!(unreadable, []);
}

#[test]
fn a_latency_is_observed_for_its_operation_alone() {
    let latencies = Latencies::default();
    assert!(latencies.snapshot().is_empty());
    latencies.observe(Operation::Search, Duration::from_millis(3));
    let operations: Vec<_> = latencies.snapshot().iter().map(|one| one.operation).collect();
    assert_eq!(operations, [Operation::Search.name()]);
}
