//! Admission control without sockets and time.

use super::*;
use crate::grpc::transport::call_state::testing;
use leadsd_quota::{Caller, RemotePeer};

fn admission_with(in_flight: usize, memory: usize, caller_share: CallerShare) -> Arc<Admission> {
    Arc::new(Admission::new(AdmissionLimits {
        connections: 1,
        connections_per_address: 1,
        in_flight,
        memory,
        metadata: 100,
        caller_share,
    }))
}

fn admission(in_flight: usize, memory: usize) -> Arc<Admission> {
    admission_with(in_flight, memory, CallerShare(1.0))
}

/// Admits a call of a caller and attaches it.
fn call(admission: &Arc<Admission>, connection: &ConnInfo, caller: Option<&Caller>) -> CallGuard {
    let call = admission.admit(connection, false, 0).expect("admitted");
    call.attach(connection, caller).expect("a connection within the limits");
    call
}

fn rejections(admission: &Admission, limit: &str) -> u64 {
    let rejected = admission.snapshot().rejected;
    rejected.iter().find(|(name, _)| *name == limit).expect("a known limit").1
}

#[test]
fn calls_beyond_the_limit_are_rejected_until_one_ends_and_probes_are_not() {
    let (admission, connection) = (admission(2, 1), testing::connection());
    let new_call = || call(&admission, &connection, None);
    let calls = [(), ()].map(|()| new_call());
    for call in &calls {
        call.start().unwrap();
        // A slot is acquired once.
        call.start().unwrap();
    }
    let rejected = new_call().start().unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("in_flight")));
    assert!(rejected.retry_after().is_some());
    let probe = admission.admit(&connection, true, 0).unwrap();
    probe.start().unwrap();
    assert!(probe.is_probe() && !calls[0].is_probe());
    drop((calls, probe));
    assert_eq!(admission.calls.in_flight.used(), 0);
    assert_eq!(rejections(&admission, "in_flight"), 1);
    assert!(new_call().start().is_ok());
}

#[test]
fn a_rejected_call_uses_no_slot() {
    let (admission, connection) = (admission(1, 1), testing::connection());
    let rejected = admission.rejected();
    rejected.start().unwrap();
    assert!(!rejected.is_probe());
    assert!(call(&admission, &connection, None).start().is_ok());
}

#[test]
fn each_call_is_checked_against_the_metadata_limit() {
    let (admission, connection) = (admission(1, 1), testing::connection());
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
    let admission = admission(1, 1);
    let [within, over] = [1, 2].map(|host| {
        let guard = admission.admit_connection(RemotePeer::Address([10, 0, 0, host].into()));
        let stage = Arc::clone(&guard.stage);
        (guard, ConnInfo { stage, ..testing::connection_from([10, 0, 0, host]) })
    });
    call(&admission, &within.1, None).start().unwrap();
    let new_call = admission.admit(&over.1, false, 0).unwrap();
    let rejected = new_call.attach(&over.1, None).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("connections")));
    admission.admit(&over.1, true, 0).unwrap().attach(&over.1, None).unwrap();
    drop(within.0);
    new_call.attach(&over.1, None).expect("there is room now");
}

#[test]
fn probes_are_limited_per_connection_and_in_total_and_the_first_of_a_connection_always_passes() {
    let (admission, first) = (admission(1, 1), testing::connection());
    let probes = |connection: &ConnInfo| {
        std::iter::from_fn(|| admission.admit(connection, true, 0).ok()).collect::<Vec<_>>()
    };
    let mut held = probes(&first);
    assert_eq!(held.len(), PROBES_PER_CONNECTION);
    let rejected = admission.admit(&first, true, 0).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("probes")));
    while admission.probes.used() < PROBES {
        held.extend(probes(&testing::connection()));
    }
    let late = testing::connection();
    let only = admission.admit(&late, true, 0).unwrap();
    assert_eq!(admission.admit(&late, true, 0).unwrap_err().bucket(), Some("probes"));
    // The rejection released the slot of the connection.
    assert_eq!(late.probe_slots.available_permits(), PROBES_PER_CONNECTION - 1);
    drop((held, only));
    assert_eq!(admission.probes.used(), 0);
    assert_eq!(probes(&first).len(), PROBES_PER_CONNECTION);
}

#[test]
fn bytes_are_charged_to_a_call_until_it_ends() {
    let (admission, connection) = (admission(10, 100), testing::connection());
    let [one, two] = [(), ()].map(|()| admission.admit(&connection, false, 0).unwrap());
    one.reserve(60).unwrap();
    assert_eq!(two.reserve(41).unwrap_err().bucket(), Some("memory"));
    two.reserve(40).unwrap();
    // A smaller message releases no bytes: the largest one may still be in use.
    one.reserve(10).unwrap();
    assert_eq!(admission.calls.memory.used(), 100);
    // A response is already in memory, so it is charged over the limit.
    one.start_sending(500);
    assert_eq!(admission.calls.memory.used(), 600);
    assert!(two.reserve(41).is_err());
    one.release_sent(500);
    assert_eq!(admission.calls.memory.used(), 100);
    drop(one);
    two.reserve(100).unwrap();
    drop(two);
    assert_eq!(admission.calls.memory.used(), 0);
    assert_eq!(rejections(&admission, "memory"), 2);
}

#[test]
fn identities_of_one_connection_have_separate_shares() {
    let (admission, connection) = (admission_with(8, 100, CallerShare(0.5)), testing::connection());
    let [crm, erp] = ["crm", "erp"].map(|name| Caller::authenticated(name, 1));
    let named = Caller::new("crm");
    let start = |caller| {
        let call = call(&admission, &connection, caller);
        call.start().map(|()| call)
    };
    let mut held: Vec<_> = (0..4).map(|_| start(Some(&crm)).unwrap()).collect();
    let rejected = start(Some(&crm)).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("in_flight")));
    assert!(rejected.message().contains("of this caller (share 4 of the limit 8)"), "{rejected}");
    held.push(start(Some(&erp)).unwrap());
    // A name without authentication does not separate callers.
    held.push(start(Some(&named)).unwrap());
    held.push(start(None).unwrap());
    assert_eq!(connection.peer_account.in_flight.used(), 2);
    held.clear();
    assert_eq!(admission.calls.in_flight.used(), 0);
    assert!(start(Some(&crm)).is_ok());
}

#[test]
fn bytes_of_one_caller_leave_memory_to_others() {
    let admission = admission_with(10, 100, CallerShare(0.5));
    let [greedy, modest] = [1, 2].map(|host| testing::connection_from([10, 0, 0, host]));
    let calls = [(), ()].map(|()| call(&admission, &greedy, None));
    calls[0].reserve(30).unwrap();
    calls[1].reserve(20).unwrap();
    let rejected = calls[1].reserve(21).unwrap_err();
    assert_eq!((rejected.reason(), rejected.bucket()), (Reason::Overloaded, Some("memory")));
    // A response is charged over the share: it is in memory already.
    calls[1].start_sending(200);
    assert_eq!(greedy.peer_account.memory.used(), 250);
    calls[1].release_sent(200);
    call(&admission, &modest, None).reserve(30).expect("memory for another caller");
    drop(calls);
    assert_eq!((admission.calls.memory.used(), greedy.peer_account.memory.used()), (0, 0));
}
