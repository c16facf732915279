//! The write-back of rotated refresh tokens.

use super::*;
use crate::{
    failure::FailureClass,
    machine::{event::CallKind, write_back::WriteBack},
    store::StoreError,
};

const WRITE: Event = Event::Start(CallKind::Write);

fn bench() -> Bench<WriteBack> {
    Bench::new(WriteBack::default(), WriteBack::handle)
}

fn none() -> MachineFacts {
    MachineFacts::default()
}

fn answered(sent: &str, issued: Option<&str>) -> Event {
    let result = Ok(response(issued));
    let sent_at = Instant::now();
    Event::TokenAnswered { request: request(sent), sent: sent_at, wall: wall(0), result }
}

fn adopted(secret: VersionedSecret, previous: VersionedSecret) -> Event {
    Event::SecretAdopted { secret, previous: Some(previous), previous_request: None }
}

fn written(refresh_token: &str, result: Result<u64, StoreError>) -> Event {
    Event::RefreshTokenWritten { refresh_token: secret(refresh_token), result }
}

fn write(expected: u64, refresh_token: &str) -> MachineCommand {
    call(PortCall::WriteRefreshToken { expected, refresh_token: secret(refresh_token) })
}

/// A write-back that has received `rt-2` for `rt-1` at 0 ms.
fn rotated() -> Bench<WriteBack> {
    let mut bench = bench();
    bench.expect(0, answered("rt-1", Some("rt-2")), with_request(request("rt-1")), &[]);
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-2")));
    assert!(bench.machine.is_pending());
    bench
}

#[test]
fn a_rotated_refresh_token_is_written_at_once_with_the_version_in_memory() {
    let mut bench = rotated();
    assert_eq!(bench.machine.due(), Some(bench.at(0)));
    bench.expect(0, WRITE, with_request(request("rt-2")), &[write(1, "rt-2")]);
    assert_eq!(bench.counters().store_writes, 1);
    bench.expect(9, written("rt-2", Ok(2)), none(), &[]);
    assert_eq!(bench.machine.refresh_token(), None);
    assert!(!bench.machine.is_pending());
    bench.expect(9, WRITE, with_request(request("rt-2")), &[]);
}

#[test]
fn without_a_secret_there_is_nothing_to_write_over() {
    rotated().expect(0, WRITE, none(), &[]);
}

#[test]
fn responses_that_rotate_nothing_leave_nothing_to_write() {
    let mut bench = bench();
    for issued in [None, Some("rt-1")] {
        bench.expect(0, answered("rt-1", issued), with_request(request("rt-1")), &[]);
        assert_eq!(bench.machine.refresh_token(), None);
    }
    bench.expect(0, WRITE, with_request(request("rt-1")), &[]);
    let failed = Event::TokenAnswered {
        request: request("rt-1"),
        sent: Instant::now(),
        wall: wall(0),
        result: Err(rejected()),
    };
    bench.expect(0, failed, with_request(request("rt-1")), &[]);
    assert_eq!(bench.machine.refresh_token(), None);
}

#[test]
fn a_response_for_another_app_is_dropped() {
    let mut bench = bench();
    let other = RefreshRequest { client_id: "other".to_owned(), ..request("rt-1") };
    bench.expect(0, answered("rt-1", Some("rt-2")), with_request(other), &[]);
    bench.expect(0, answered("rt-1", Some("rt-2")), none(), &[]);
    assert_eq!((bench.machine.refresh_token(), bench.machine.fallback()), (None, None));
}

#[test]
fn a_response_to_a_request_that_was_overtaken_becomes_the_fallback() {
    let mut bench = bench();
    bench.expect(0, answered("rt-1", Some("rt-2")), with_request(request("rt-9")), &[]);
    assert_eq!(bench.machine.refresh_token(), None);
    assert_eq!(bench.machine.fallback(), Some(&secret("rt-2")));
    // A response without a refresh token does not replace it, one for the present request does.
    bench.expect(0, answered("rt-1", None), with_request(request("rt-9")), &[]);
    assert_eq!(bench.machine.fallback(), Some(&secret("rt-2")));
    bench.expect(0, answered("rt-9", None), with_request(request("rt-9")), &[]);
    assert_eq!(bench.machine.fallback(), None);
}

#[test]
fn failed_writes_back_off_and_are_kept() {
    let mut bench = rotated();
    let facts = || with_request(request("rt-2"));
    for (ms, wait) in [(0, 500), (1_000, 1_000), (4_000, 2_000)] {
        bench.expect(ms, WRITE, facts(), &[write(1, "rt-2")]);
        bench.expect(ms, written("rt-2", Err(StoreError::Denied)), facts(), &[]);
        assert_eq!(bench.machine.due(), Some(bench.at(ms + wait)));
        bench.expect(ms + wait - 1, WRITE, facts(), &[]);
        assert_eq!(bench.machine.failure(), Some(FailureClass::StoreDenied));
    }
    assert_eq!(bench.counters().store_failures, 3);
    assert_eq!(bench.journal.last_failure, Some(FailureClass::StoreDenied));
    assert!(bench.machine.is_pending());
}

#[test]
fn a_write_of_an_older_token_that_arrives_late_does_not_clear_the_newer_one() {
    let mut bench = rotated();
    bench.expect(0, answered("rt-2", Some("rt-3")), with_request(request("rt-2")), &[]);
    bench.expect(0, written("rt-2", Ok(2)), none(), &[]);
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-3")));
    bench.expect(0, written("rt-3", Ok(3)), none(), &[]);
    assert_eq!(bench.machine.refresh_token(), None);
}

#[test]
fn a_failed_write_after_the_token_was_dropped_is_only_counted() {
    let mut bench = bench();
    bench.expect(0, written("rt-2", Err(StoreError::Conflict)), none(), &[]);
    assert_eq!((bench.machine.due(), bench.machine.failure()), (None, None));
    assert_eq!(bench.counters().store_failures, 1);
}

#[test]
fn a_write_that_seemed_to_fail_but_arrived_is_recognised() {
    let mut bench = rotated();
    bench.expect(0, adopted(oauth(2, "rt-2"), oauth(1, "rt-1")), none(), &[]);
    assert_eq!((bench.machine.refresh_token(), bench.machine.fallback()), (None, None));
    assert_eq!(bench.counters().conflicts, 0);
}

#[test]
fn a_change_of_something_else_is_written_over_at_once() {
    let mut bench = rotated();
    bench.expect(0, written("rt-2", Err(StoreError::Conflict)), none(), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(500)));
    bench.expect(100, adopted(oauth(2, "rt-1"), oauth(1, "rt-1")), none(), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(100)));
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-2")));
}

#[test]
fn a_store_that_lags_behind_its_conflict_does_not_shorten_the_pause() {
    let mut bench = rotated();
    bench.expect(0, written("rt-2", Err(StoreError::Conflict)), none(), &[]);
    bench.expect(100, adopted(oauth(1, "rt-1"), oauth(1, "rt-1")), none(), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(500)));
}

#[test]
fn another_replica_wins_and_ours_becomes_the_fallback() {
    let mut bench = rotated();
    let proof = Event::ProofWanted(bench.at(1_100));
    bench.expect(100, adopted(oauth(2, "rt-theirs"), oauth(1, "rt-1")), none(), &[raise(proof)]);
    assert_eq!(bench.machine.refresh_token(), None);
    assert_eq!(bench.machine.fallback(), Some(&secret("rt-2")));
    assert_eq!(bench.counters().conflicts, 1);
}

#[test]
fn another_client_or_a_static_token_ends_the_write_back() {
    let mut bench = rotated();
    bench.expect(0, adopted(oauth_of("other", 2, "rt-9"), oauth(1, "rt-1")), none(), &[]);
    assert_eq!((bench.machine.refresh_token(), bench.machine.fallback()), (None, None));

    let mut bench = rotated();
    bench.expect(0, answered("rt-0", Some("rt-8")), with_request(request("rt-2")), &[]);
    bench.expect(0, adopted(static_secret(2, "pat"), oauth(1, "rt-1")), none(), &[]);
    assert_eq!((bench.machine.refresh_token(), bench.machine.fallback()), (None, None));

    // Nor can it be compared with a static token that was there before.
    let mut bench = rotated();
    bench.expect(0, adopted(oauth(2, "rt-9"), static_secret(1, "pat")), none(), &[]);
    assert_eq!((bench.machine.refresh_token(), bench.machine.fallback()), (None, None));
}

#[test]
fn an_adoption_without_a_pending_token_keeps_the_fallback() {
    let mut bench = bench();
    bench.expect(0, answered("rt-1", Some("rt-2")), with_request(request("rt-9")), &[]);
    bench.expect(0, adopted(oauth(3, "rt-10"), oauth(2, "rt-9")), none(), &[]);
    assert_eq!(bench.machine.fallback(), Some(&secret("rt-2")));
}

/// A write-back that tries its fallback `rt-2` since 0 ms.
fn with_fallback_in_use() -> Bench<WriteBack> {
    let mut bench = bench();
    bench.expect(0, answered("rt-1", Some("rt-2")), with_request(request("rt-9")), &[]);
    bench.expect(0, Event::FallbackWanted, none(), &[]);
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-2")));
    assert_eq!(bench.machine.fallback(), None);
    bench
}

#[test]
fn a_fallback_is_written_only_once_it_has_worked() {
    let mut bench = with_fallback_in_use();
    assert!(!bench.machine.is_pending());
    assert_eq!(bench.machine.due(), None);
    bench.expect(0, WRITE, with_request(request("rt-2")), &[]);
    bench.expect(700, answered("rt-2", None), with_request(request("rt-2")), &[]);
    assert!(bench.machine.is_pending());
    assert_eq!(bench.machine.due(), Some(bench.at(700)));
    bench.expect(700, WRITE, with_request(request("rt-2")), &[write(1, "rt-2")]);
    // Once proven, it stays: a later response without a refresh token does not hurry the write.
    bench.expect(700, written("rt-2", Err(StoreError::Denied)), none(), &[]);
    bench.expect(800, answered("rt-2", None), with_request(request("rt-2")), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(1_200)));
}

#[test]
fn a_fallback_that_is_rejected_is_dropped_and_a_proven_token_is_not() {
    let mut bench = with_fallback_in_use();
    bench.expect(0, Event::RefreshTokenRejected, none(), &[]);
    assert_eq!(bench.machine.refresh_token(), None);

    let mut bench = rotated();
    bench.expect(0, Event::RefreshTokenRejected, none(), &[]);
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-2")));
}

#[test]
fn without_a_fallback_there_is_none_to_try() {
    let mut bench = rotated();
    bench.expect(0, Event::FallbackWanted, none(), &[]);
    assert_eq!(bench.machine.refresh_token(), Some(&secret("rt-2")));
    assert!(bench.machine.is_pending());
}
