//! The secret watch: polls, reads, and its reactions to their results.

use super::*;
use crate::{
    failure::FailureClass,
    machine::{event::CallKind, secret_watch::SecretWatch},
    store::{StoreError, VersionState},
};

const READ: Event = Event::Start(CallKind::Read);
const POLL: Event = Event::Start(CallKind::Poll);
const WANTED: Event = Event::SecretWanted { afresh: false };

fn watch() -> Bench<SecretWatch> {
    Bench::new(SecretWatch::new(seconds(30), seconds(600)), SecretWatch::handle)
}

fn none() -> MachineFacts {
    MachineFacts::default()
}

fn read() -> MachineCommand {
    call(PortCall::ReadSecret)
}

fn poll() -> MachineCommand {
    call(PortCall::PollVersion)
}

fn adopted(secret: VersionedSecret, previous: Option<VersionedSecret>) -> MachineCommand {
    raise(Event::SecretAdopted { secret, previous, previous_request: None })
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("sealed".to_owned())
}

/// A watch that has version 3 in memory, read at 0 ms.
fn with_secret() -> Bench<SecretWatch> {
    let mut bench = watch();
    bench.expect(0, WANTED, none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    let found = oauth(3, "rt");
    let commands = [adopted(found.clone(), None), raise(Event::SecretChecked)];
    bench.expect(0, Event::SecretRead(Ok(found)), none(), &commands);
    bench
}

fn live(version: u64) -> Event {
    Event::VersionPolled(Ok(VersionState::Live(version)))
}

#[test]
fn nothing_is_read_before_the_secret_is_wanted() {
    let mut bench = watch();
    bench.expect(0, READ, none(), &[]);
    bench.expect(0, POLL, none(), &[]);
    assert_eq!(bench.machine.due(), None);
    bench.expect(5, WANTED, none(), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(5)));
    bench.expect(5, POLL, none(), &[]);
    bench.expect(5, READ, none(), &[read()]);
    assert_eq!(bench.counters().store_reads, 1);
}

#[test]
fn polls_start_within_the_interval_from_the_start_of_the_last_call() {
    let mut bench = with_secret();
    bench.expect(20_999, POLL, none(), &[]);
    bench.expect(21_000, POLL, none(), &[poll()]);
    assert_eq!(bench.counters().store_polls, 1);
    assert_eq!(bench.machine.due(), Some(bench.at(42_000)));
    bench.expect(25_000, live(3), none(), &[raise(Event::SecretConfirmed)]);
    bench.expect(41_999, POLL, none(), &[]);
    bench.expect(42_000, POLL, none(), &[poll()]);
}

#[test]
fn a_refresh_that_waits_makes_a_poll_due() {
    let mut bench = with_secret();
    let waits = MachineFacts { refresh_waits: true, ..none() };
    bench.expect(6_000, POLL, waits, &[poll()]);
}

#[test]
fn an_earlier_check_is_planned_and_a_later_one_is_not() {
    let mut bench = with_secret();
    bench.expect(0, Event::CheckWanted(bench.at(500)), none(), &[]);
    bench.expect(0, Event::CheckWanted(bench.at(90_000)), none(), &[]);
    assert_eq!(bench.machine.due(), Some(bench.at(500)));
    bench.expect(500, POLL, none(), &[poll()]);
}

#[test]
fn a_new_version_is_read_and_adopted() {
    let mut bench = with_secret();
    bench.expect(21_000, live(4), none(), &[]);
    bench.expect(21_000, READ, none(), &[read()]);
    let (old, new) = (oauth(3, "rt"), oauth(4, "rt-2"));
    let facts = with_request(request("rt"));
    let commands = [
        raise(Event::SecretAdopted {
            secret: new.clone(),
            previous: Some(old),
            previous_request: Some(request("rt")),
        }),
        raise(Event::SecretChecked),
    ];
    bench.expect(21_000, Event::SecretRead(Ok(new)), facts, &commands);
    assert_eq!(bench.machine.secret().unwrap().version, 4);
}

#[test]
fn a_lower_version_is_believed_only_when_seen_twice() {
    let mut bench = with_secret();
    bench.expect(1_000, live(2), none(), &[]);
    bench.expect(1_000, READ, none(), &[]);
    bench.expect(2_000, live(3), none(), &[raise(Event::SecretConfirmed)]);
    bench.expect(3_000, live(2), none(), &[]);
    bench.expect(3_000, READ, none(), &[]);
    bench.expect(4_000, live(1), none(), &[]);
    bench.expect(4_000, READ, none(), &[read()]);
    let anew = oauth(1, "anew");
    let commands = [adopted(anew.clone(), Some(oauth(3, "rt"))), raise(Event::SecretChecked)];
    bench.expect(4_000, Event::SecretRead(Ok(anew)), none(), &commands);
}

#[test]
fn a_lower_version_that_is_read_at_once_is_not_adopted_the_first_time() {
    let mut bench = with_secret();
    bench.expect(0, WANTED, none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    let lower = oauth(2, "rt-old");
    bench.expect(0, Event::SecretRead(Ok(lower.clone())), none(), &[raise(Event::SecretChecked)]);
    assert_eq!(bench.machine.secret().unwrap().version, 3);
    let commands = [adopted(lower.clone(), Some(oauth(3, "rt"))), raise(Event::SecretChecked)];
    bench.expect(0, Event::SecretRead(Ok(lower)), none(), &commands);
    // Read again, the version in memory is no lower one.
    let same = oauth(2, "rt-old");
    let commands = [adopted(same.clone(), Some(same.clone())), raise(Event::SecretChecked)];
    bench.expect(0, Event::SecretRead(Ok(same)), none(), &commands);
}

#[test]
fn a_secret_is_confirmed_for_five_seconds_or_for_an_interval_in_a_retry() {
    let mut bench = with_secret();
    let confirmed = |bench: &Bench<SecretWatch>, ms, is_retry| {
        bench.machine.is_confirmed(is_retry, bench.at(ms))
    };
    assert!(confirmed(&bench, 4_999, false));
    assert!(!confirmed(&bench, 5_000, false));
    assert!(confirmed(&bench, 29_999, true));
    assert!(!confirmed(&bench, 30_000, true));
    // A poll confirms, and so does a deletion: there is nothing newer.
    bench.send(10_000, &live(3), none());
    assert!(confirmed(&bench, 14_999, false));
    bench.send(20_000, &Event::VersionPolled(Ok(VersionState::Deleted(3))), none());
    assert!(confirmed(&bench, 24_999, false));
    // A read that is due or in flight may bring another secret.
    bench.expect(20_000, WANTED, none(), &[]);
    assert!(!confirmed(&bench, 20_000, false));
    bench.expect(20_000, READ, none(), &[read()]);
    assert!(!confirmed(&bench, 20_000, false));
    // If the store fails, asking again would only delay the token request.
    bench.send(30_000, &Event::SecretRead(Err(unavailable())), none());
    assert!(confirmed(&bench, 30_100, false));
    assert!(!confirmed(&bench, 30_500, false), "the read is due again");
}

#[test]
fn a_transient_failure_is_retried_with_backoff_and_ends_with_any_answer() {
    let mut bench = watch();
    bench.expect(0, WANTED, none(), &[]);
    for (ms, wait) in [(0, 500), (1_000, 1_000), (4_000, 2_000), (9_000, 4_000), (14_000, 5_000)] {
        bench.expect(ms, READ, none(), &[read()]);
        let failed = Event::SecretRead(Err(unavailable()));
        bench.expect(ms, failed, none(), &[raise(Event::ReadFailed)]);
        bench.expect(ms + wait - 1, READ, none(), &[]);
        assert_eq!(bench.machine.due(), Some(bench.at(ms + wait)), "after {ms} ms");
        assert_eq!(bench.machine.failure(), Some(FailureClass::StoreUnavailable));
    }
    assert_eq!(bench.counters().store_failures, 5);
    bench.expect(15_000, live(1), none(), &[]);
    assert_eq!(bench.machine.failure(), None);
    assert_eq!(bench.journal.last_failure, Some(FailureClass::StoreUnavailable));
    // Nothing is in memory, so the version is read.
    bench.expect(15_000, READ, none(), &[read()]);
}

#[test]
fn callers_with_a_token_get_the_longer_backoff() {
    let mut bench = watch();
    bench.expect(0, WANTED, none(), &[]);
    let facts = || MachineFacts { token_left: Some(seconds(900)), ..none() };
    for _ in 0..9 {
        bench.send(0, &Event::SecretRead(Err(unavailable())), facts());
    }
    assert_eq!(bench.machine.due(), Some(bench.at(7_500)));
}

#[test]
fn failures_of_a_read_that_do_not_pass() {
    let malformed = || StoreError::Malformed("`refresh_token` is empty".to_owned());
    let table = [
        (StoreError::Denied, FailureClass::StoreDenied),
        (malformed(), FailureClass::SecretMalformed),
    ];
    for (error, class) in table {
        let mut bench = watch();
        bench.expect(0, WANTED, none(), &[]);
        bench.expect(0, READ, none(), &[read()]);
        let no_secret = Event::NoSecret { class, why: error.to_string() };
        bench.expect(0, Event::SecretRead(Err(error.clone())), none(), &[raise(no_secret)]);
        bench.expect(9_000, READ, none(), &[]);

        let mut bench = with_secret();
        bench.expect(0, WANTED, none(), &[]);
        bench.expect(0, READ, none(), &[read()]);
        let event = Event::SecretRead(Err(error));
        bench.expect(0, event, none(), &[raise(Event::ReadRejected)]);
        assert_eq!(bench.machine.failure(), Some(class));
        // A response does not end a failure of the secret itself; a new version does.
        bench.expect(
            1_000,
            Event::VersionPolled(Err(StoreError::NotFound)),
            none(),
            &[raise(Event::SecretChecked)],
        );
        assert_eq!(bench.machine.failure(), Some(class));
        bench.expect(1_000, live(3), none(), &[raise(Event::SecretConfirmed)]);
        assert_eq!(bench.machine.failure(), None);
    }
}

#[test]
fn a_malformed_version_is_read_once_until_it_is_wanted_afresh() {
    let mut bench = with_secret();
    bench.expect(0, live(4), none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    let malformed = StoreError::Malformed("it has no `access_token`".to_owned());
    bench.send(0, &Event::SecretRead(Err(malformed.clone())), none());
    bench.expect(1_000, live(4), none(), &[]);
    bench.expect(1_000, READ, none(), &[]);
    bench.expect(2_000, live(5), none(), &[]);
    bench.expect(2_000, READ, none(), &[read()]);
    bench.send(2_000, &Event::SecretRead(Err(malformed)), none());
    bench.expect(3_000, Event::SecretWanted { afresh: true }, none(), &[]);
    bench.expect(3_000, READ, none(), &[read()]);
    bench.expect(3_000, live(5), none(), &[]);
    bench.expect(3_000, READ, none(), &[read()]);
}

#[test]
fn without_a_secret_a_malformed_version_is_not_read_again() {
    let mut bench = watch();
    bench.expect(0, WANTED, none(), &[]);
    bench.expect(0, live(1), none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    let malformed = StoreError::Malformed("it has no `access_token`".to_owned());
    bench.send(0, &Event::SecretRead(Err(malformed)), none());
    bench.expect(1_000, live(1), none(), &[]);
    bench.expect(1_000, READ, none(), &[]);
    bench.expect(1_000, live(2), none(), &[]);
    bench.expect(1_000, READ, none(), &[read()]);
}

#[test]
fn a_deleted_secret_stays_in_memory_and_is_counted_once() {
    let mut bench = with_secret();
    for event in [
        Event::VersionPolled(Ok(VersionState::Deleted(3))),
        Event::VersionPolled(Err(StoreError::NotFound)),
        Event::SecretRead(Err(StoreError::NotFound)),
    ] {
        bench.expect(0, event, none(), &[raise(Event::SecretChecked)]);
        assert!(bench.machine.is_deleted());
        assert_eq!(bench.machine.secret().unwrap().version, 3);
    }
    assert_eq!(bench.counters().secrets_deleted, 1);
    assert_eq!(bench.counters().store_failures, 0);
    assert_eq!(bench.journal.last_failure, Some(FailureClass::SecretMissing));
    bench.expect(0, live(3), none(), &[raise(Event::SecretConfirmed)]);
    assert!(!bench.machine.is_deleted());
}

#[test]
fn a_secret_that_never_was_is_no_secret() {
    let mut bench = watch();
    bench.expect(0, WANTED, none(), &[]);
    let why = "no secret at this path".to_owned();
    let no_secret = Event::NoSecret { class: FailureClass::SecretMissing, why };
    let event = Event::SecretRead(Err(StoreError::NotFound));
    bench.expect(0, event, none(), &[raise(no_secret.clone())]);
    let event = Event::VersionPolled(Ok(VersionState::Deleted(2)));
    bench.expect(0, event, none(), &[raise(no_secret)]);
}

#[test]
fn denied_metadata_is_replaced_by_reads_for_a_while() {
    let mut bench = with_secret();
    let denied = || Event::VersionPolled(Err(StoreError::Denied));
    bench.expect(21_000, POLL, none(), &[poll()]);
    bench.expect(21_000, denied(), none(), &[]);
    assert_eq!(bench.counters().store_failures, 1);
    bench.expect(21_000, READ, none(), &[read()]);
    bench.send(21_000, &Event::SecretRead(Ok(oauth(3, "rt"))), none());
    // The next poll is a read.
    bench.expect(41_999, READ, none(), &[]);
    bench.expect(42_000, READ, none(), &[read()]);
    bench.send(42_000, &Event::SecretRead(Ok(oauth(3, "rt"))), none());
    // Ten minutes later the metadata is tried again.
    bench.expect(620_999, READ, none(), &[read()]);
    bench.send(620_999, &Event::SecretRead(Ok(oauth(3, "rt"))), none());
    bench.expect(660_000, READ, none(), &[]);
    bench.expect(660_000, POLL, none(), &[poll()]);
    // An operator's request retries at once, and its response is adopted.
    bench.expect(660_000, denied(), none(), &[]);
    bench.expect(660_000, Event::SecretWanted { afresh: true }, none(), &[]);
    bench.expect(660_000, READ, none(), &[read()]);
    bench.send(660_000, &Event::SecretRead(Ok(oauth(3, "rt"))), none());
    bench.expect(700_000, READ, none(), &[]);
    bench.expect(700_000, POLL, none(), &[poll()]);
    for answer in [VersionState::Live(3), VersionState::Deleted(3)] {
        bench.expect(700_000, denied(), none(), &[]);
        bench.send(700_000, &Event::SecretRead(Ok(oauth(3, "rt"))), none());
        bench.send(700_000, &Event::VersionPolled(Ok(answer)), none());
        bench.expect(750_000, READ, none(), &[]);
    }
}

#[test]
fn polls_that_fail_say_so_and_are_repeated_by_the_interval() {
    let mut bench = with_secret();
    bench.expect(21_000, POLL, none(), &[poll()]);
    let failed = Event::VersionPolled(Err(StoreError::LoginRejected("403".to_owned())));
    bench.expect(21_000, failed, none(), &[raise(Event::PollFailed)]);
    assert_eq!(bench.machine.failure(), Some(FailureClass::LoginRejected));
    assert_eq!(bench.counters().store_failures, 1);
    bench.expect(22_000, READ, none(), &[]);
    bench.expect(42_000, POLL, none(), &[poll()]);
}

#[test]
fn a_write_of_ours_moves_the_version_in_memory() {
    let mut bench = with_secret();
    let written = |result| Event::RefreshTokenWritten { refresh_token: secret("rt-2"), result };
    bench.expect(9_000, written(Ok(4)), none(), &[]);
    assert_eq!(bench.machine.secret(), Some(&oauth(4, "rt-2")));
    assert!(bench.machine.is_confirmed(false, bench.at(13_999)));
    bench.expect(10_000, live(4), none(), &[raise(Event::SecretConfirmed)]);
    bench.expect(10_000, READ, none(), &[]);
    // Only a conflict means that there is something to read.
    bench.expect(10_000, written(Err(unavailable())), none(), &[]);
    bench.expect(10_000, READ, none(), &[]);
    bench.expect(10_000, written(Err(StoreError::Conflict)), none(), &[]);
    bench.expect(10_000, READ, none(), &[read()]);
}

#[test]
fn a_read_that_was_lost_is_made_again_and_other_calls_are_not() {
    let mut bench = with_secret();
    bench.expect(0, Event::CallsLost, none(), &[]);
    bench.expect(0, READ, none(), &[]);
    bench.expect(0, WANTED, none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    bench.expect(
        0,
        Event::SecretRead(Err(StoreError::NotFound)),
        none(),
        &[raise(Event::SecretChecked)],
    );
    bench.expect(0, Event::CallsLost, none(), &[]);
    bench.expect(0, READ, none(), &[]);
    bench.expect(0, WANTED, none(), &[]);
    bench.expect(0, READ, none(), &[read()]);
    bench.expect(500, Event::CallsLost, none(), &[]);
    bench.expect(500, READ, none(), &[read()]);
}
