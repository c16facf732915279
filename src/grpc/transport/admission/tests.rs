//! Admission control without sockets and time.

use std::net::{IpAddr, Ipv4Addr};

use tokio::sync::watch;

use super::*;

fn admission(in_flight: usize, memory: usize) -> Arc<Admission> {
    let limits = AdmissionLimits { connections: 1, in_flight, memory, metadata: 100 };
    Arc::new(Admission::new(limits))
}

fn connection(over_limit: bool) -> ConnInfo {
    ConnInfo {
        peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
        certificate: None,
        over_limit,
        probe_slots: Admission::probe_slots(),
        closing: watch::channel(false).1,
    }
}

fn rejections(admission: &Admission, limit: &str) -> u64 {
    let rejected = admission.snapshot().rejected;
    rejected.iter().find(|(name, _)| *name == limit).expect("a known limit").1
}

#[test]
fn calls_beyond_the_limit_are_rejected_until_one_ends_and_probes_are_not() {
    let (admission, connection) = (admission(2, 1), connection(false));
    let calls = [(), ()].map(|()| admission.admit(&connection, false, 0).unwrap());
    let rejected = admission.admit(&connection, false, 0).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("in_flight")));
    assert!(rejected.retry_after().is_some());
    let probe = admission.admit(&connection, true, 0).unwrap();
    assert!(probe.is_probe() && !calls[0].is_probe());
    drop((calls, probe));
    assert_eq!(admission.in_flight.used(), 0);
    assert_eq!(rejections(&admission, "in_flight"), 1);
    assert!(admission.admit(&connection, false, 0).is_ok());
}

#[test]
fn a_rejected_call_uses_no_slot() {
    let (admission, connection) = (admission(1, 1), connection(false));
    let rejected = admission.rejected();
    assert!(!rejected.is_probe());
    assert!(admission.admit(&connection, false, 0).is_ok());
}

#[test]
fn each_call_is_checked_against_the_metadata_limit() {
    let (admission, connection) = (admission(1, 1), connection(false));
    for is_probe in [false, true] {
        assert!(admission.admit(&connection, is_probe, 100).is_ok());
        let rejected = admission.admit(&connection, is_probe, 101).unwrap_err();
        assert_eq!(rejected.reason(), Reason::RequestTooLarge);
        assert!(rejected.message().contains("101 bytes, limit 100"), "{rejected}");
    }
    assert_eq!(rejections(&admission, "header_size"), 2);
}

#[test]
fn a_connection_over_the_limit_serves_probes_only() {
    let (admission, connection) = (admission(1, 1), connection(true));
    let rejected = admission.admit(&connection, false, 0).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("connections")));
    assert!(admission.admit(&connection, true, 0).is_ok());
}

#[test]
fn probes_are_limited_per_connection_and_in_total_and_the_first_of_a_connection_always_passes() {
    let (admission, first) = (admission(1, 1), connection(false));
    let probes = |connection: &ConnInfo| {
        std::iter::from_fn(|| admission.admit(connection, true, 0).ok()).collect::<Vec<_>>()
    };
    let mut held = probes(&first);
    assert_eq!(held.len(), PROBES_PER_CONNECTION);
    let rejected = admission.admit(&first, true, 0).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("probes")));
    while admission.probes.used() < PROBES {
        held.extend(probes(&connection(false)));
    }
    let late = connection(false);
    let only = admission.admit(&late, true, 0).unwrap();
    assert_eq!(admission.admit(&late, true, 0).unwrap_err().bucket(), Some("probes"));
    // The rejection released the slot of the connection.
    assert_eq!(late.probe_slots.available_permits(), PROBES_PER_CONNECTION - 1);
    drop((held, only));
    assert_eq!(admission.probes.used(), 0);
    assert_eq!(probes(&first).len(), PROBES_PER_CONNECTION);
}

#[test]
fn connections_over_the_limit_overflow_and_over_that_are_rejected() {
    let admission = admission(1, 1);
    let first = admission.admit_connection().unwrap();
    assert!(!first.over_limit);
    assert_eq!(admission.open_connections(), 1);
    let overflow: Vec<_> = std::iter::from_fn(|| admission.admit_connection()).collect();
    assert_eq!(overflow.len(), OVERFLOW);
    assert!(overflow.iter().all(|guard| guard.over_limit));
    let snapshot = admission.snapshot();
    assert_eq!(snapshot.connections_opened, 2 + OVERFLOW as u64);
    assert!(snapshot.connections_closed.contains(&("over_limit", 1)), "{snapshot:?}");
    drop(first);
    assert!(!admission.admit_connection().unwrap().over_limit);
}

#[test]
fn bytes_are_charged_to_a_call_until_it_ends() {
    let (admission, connection) = (admission(10, 100), connection(false));
    let [one, two] = [(), ()].map(|()| admission.admit(&connection, false, 0).unwrap());
    one.reserve(60).unwrap();
    assert_eq!(two.reserve(41).unwrap_err().bucket(), Some("memory"));
    two.reserve(40).unwrap();
    // A smaller message releases no bytes: the largest one may still be in use.
    one.reserve(10).unwrap();
    assert_eq!(admission.memory.used(), 100);
    // A response is already in memory, so it is charged over the limit.
    one.set_response_bytes(500);
    assert_eq!(admission.memory.used(), 600);
    assert!(two.reserve(41).is_err());
    one.set_response_bytes(20);
    assert_eq!(admission.memory.used(), 120);
    drop(one);
    two.reserve(100).unwrap();
    drop(two);
    assert_eq!(admission.memory.used(), 0);
    assert_eq!(rejections(&admission, "memory"), 2);
}
