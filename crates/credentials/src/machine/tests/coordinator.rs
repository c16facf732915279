//! The coordinator: which calls start together, in which order, and what the machines learn of each
//! other.

use super::*;
use crate::{
    machine::Machine,
    settings::Settings,
    signals::PendingSignals,
    status::State,
    store::{StoreError, VersionState},
};

struct Portal {
    machine: Machine,
    start: Instant,
}

// === impl Portal ===

impl Portal {
    /// A portal that a caller wants a token of.
    fn new() -> Self {
        let meter = Meter::new(&Arc::default());
        let machine = Machine::new("default".into(), &Settings::default(), Box::new(|| 0.0), meter);
        let mut portal = Self { machine, start: Instant::now() };
        portal.signal(0, PendingSignals { token_wanted: true, ..PendingSignals::default() });
        portal
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn signal(&mut self, ms: u64, signals: PendingSignals) {
        self.answer(ms, Event::Signalled(signals));
    }

    /// Hands over an event that starts no call.
    #[track_caller]
    fn answer(&mut self, ms: u64, event: Event) {
        let now = self.at(ms);
        assert_eq!(self.machine.handle(event, now), []);
    }

    /// The calls that start at `ms`.
    fn tick(&mut self, ms: u64) -> Vec<PortCall> {
        let wall = wall(i64::try_from(ms / 1_000).unwrap());
        let now = self.at(ms);
        self.machine.handle(Event::Tick { wall }, now)
    }

    fn wake(&self, ms: u64) -> u64 {
        let wake = self.machine.wake(self.at(ms));
        u64::try_from((wake - self.start).as_millis()).unwrap()
    }

    fn grant(&mut self, ms: u64, sent: &str, issued: Option<&str>) {
        let (request, sent, wall) = (request(sent), self.at(ms), wall(0));
        let result = Ok(response(issued));
        self.answer(ms, Event::TokenAnswered { request, sent, wall, result });
    }

    /// A portal with a token and `rt-2`, which is not saved yet, at 0 ms.
    fn rotated() -> Self {
        let mut portal = Self::new();
        assert_eq!(portal.tick(0), [PortCall::ReadSecret]);
        portal.answer(0, Event::SecretRead(Ok(oauth(1, "rt"))));
        assert_eq!(portal.tick(0), [PortCall::RequestToken(request("rt"))]);
        assert!(!portal.machine.can_end(), "a request is in flight");
        portal.grant(0, "rt", Some("rt-2"));
        portal
    }
}

fn write(expected: u64, refresh_token: &str) -> PortCall {
    PortCall::WriteRefreshToken { expected, refresh_token: secret(refresh_token) }
}

fn written(refresh_token: &str, result: Result<u64, StoreError>) -> Event {
    Event::RefreshTokenWritten { refresh_token: secret(refresh_token), result }
}

#[test]
fn a_portal_that_is_not_wanted_does_nothing() {
    let meter = Meter::new(&Arc::default());
    let machine = Machine::new("default".into(), &Settings::default(), Box::new(|| 0.0), meter);
    let mut portal = Portal { machine, start: Instant::now() };
    assert_eq!(portal.tick(99_000), []);
    assert_eq!(portal.wake(99_000), 129_000);
}

#[test]
fn one_call_to_the_store_is_in_flight_beside_one_token_request() {
    let mut portal = Portal::rotated();
    assert_eq!(portal.tick(0), [write(1, "rt-2")]);
    // A read is due as well, and a refresh; both wait for the write.
    portal.signal(1_500, PendingSignals { refresh_now: true, ..PendingSignals::default() });
    assert_eq!(portal.tick(1_500), []);
    assert_eq!(portal.wake(1_500), 31_500, "the answer of the store is an event");
    portal.answer(1_500, written("rt-2", Err(StoreError::Unavailable("sealed".to_owned()))));
    assert_eq!(portal.tick(2_000), [PortCall::ReadSecret], "reads come before writes");
    portal.answer(2_000, Event::SecretRead(Ok(oauth(1, "rt"))));
    let calls = [PortCall::RequestToken(request("rt-2")), write(1, "rt-2")];
    assert_eq!(portal.tick(2_000), calls);
    assert_eq!(portal.tick(2_000), []);
}

#[test]
fn a_write_comes_before_a_poll() {
    let mut portal = Portal::rotated();
    assert_eq!(portal.tick(21_000), [write(1, "rt-2")]);
    portal.answer(21_000, written("rt-2", Ok(2)));
    assert_eq!(portal.tick(21_000), [PortCall::PollVersion]);
}

#[test]
fn a_saved_refresh_token_is_the_one_in_use() {
    let mut portal = Portal::rotated();
    assert!(!portal.machine.can_end());
    assert_eq!(portal.tick(0), [write(1, "rt-2")]);
    portal.answer(0, written("rt-2", Ok(2)));
    assert!(portal.machine.can_end());
    // Five seconds after the last check of the store, it is checked again before the refresh.
    assert_eq!(portal.tick(1_200_000), [PortCall::PollVersion]);
    portal.answer(1_200_000, Event::VersionPolled(Ok(VersionState::Live(2))));
    assert_eq!(portal.tick(1_200_000), [PortCall::RequestToken(request("rt-2"))]);
}

#[test]
fn a_replica_that_lost_the_race_uses_the_fallback_when_the_winner_is_rejected() {
    let mut portal = Portal::rotated();
    assert_eq!(portal.tick(0), [write(1, "rt-2")]);
    portal.answer(0, written("rt-2", Err(StoreError::Conflict)));
    assert_eq!(portal.tick(0), [PortCall::ReadSecret]);
    portal.answer(0, Event::SecretRead(Ok(oauth(2, "rt-theirs"))));
    assert_eq!(portal.wake(0), 1_000, "the winner has to prove itself");
    assert_eq!(portal.tick(1_000), [PortCall::RequestToken(request("rt-theirs"))]);
    let (sent, wall, result) = (portal.at(1_000), wall(1), Err(rejected()));
    let request_sent = request("rt-theirs");
    portal.answer(1_000, Event::TokenAnswered { request: request_sent, sent, wall, result });
    assert_eq!(portal.tick(1_000), [PortCall::ReadSecret]);
    portal.answer(1_000, Event::SecretRead(Ok(oauth(2, "rt-theirs"))));
    assert_eq!(portal.tick(2_000), [PortCall::RequestToken(request("rt-2"))]);
    assert!(!portal.machine.can_end(), "a request is in flight");
    portal.grant(2_000, "rt-2", None);
    assert_eq!(portal.tick(2_000), [write(2, "rt-2")]);
}

#[test]
fn error_texts_never_quote_what_is_in_memory() {
    let mut portal = Portal::rotated();
    for text in ["at", "rt-2", "cs", "rt"] {
        portal.answer(0, Event::SecretRead(Err(StoreError::Malformed(format!("bad {text}")))));
        let status = format!("{:?} {:?}", portal.machine, portal.machine.published());
        assert!(!status.contains("bad"), "{status}");
    }
    let mut portal = Portal::new();
    assert_eq!(portal.tick(0), [PortCall::ReadSecret]);
    portal.answer(0, Event::SecretRead(Err(StoreError::Malformed("bad key".to_owned()))));
    let why = portal.machine.published().suspended.unwrap();
    assert_eq!(&*why, "the secret is malformed: bad key");
}

#[test]
fn all_secrets_in_memory_are_known_to_the_redaction() {
    let texts = |portal: &Portal| {
        let secrets = portal.machine.secrets().into_iter();
        secrets.map(|secret| secret.expose().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&Portal::rotated()), ["cs", "rt", "at", "rt-2"]);
    let mut portal = Portal::new();
    portal.answer(0, Event::SecretRead(Ok(static_secret(1, "pat"))));
    assert_eq!(texts(&portal), ["pat", "pat"]);
}

#[test]
fn a_portal_without_a_token_starts_until_its_first_failure() {
    let mut portal = Portal::new();
    let state = |portal: &Portal| portal.machine.status(portal.at(0), false).state;
    assert_eq!(state(&portal), State::Starting);
    portal.answer(0, Event::SecretRead(Err(StoreError::Unavailable("sealed".to_owned()))));
    assert_eq!(state(&portal), State::Failed);
}

#[test]
fn calls_that_were_lost_are_made_again_and_counted_as_a_panic() {
    let mut portal = Portal::new();
    assert_eq!(portal.tick(0), [PortCall::ReadSecret]);
    portal.machine.restarted(portal.at(500));
    assert_eq!(portal.tick(500), [PortCall::ReadSecret]);
    portal.machine.caught_panic("secret store");
    assert_eq!(portal.machine.status(portal.at(500), false).counters.panics, 2);
}

#[test]
fn the_wake_is_at_least_a_millisecond_ahead_and_at_most_a_poll_interval() {
    let mut portal = Portal::new();
    assert!(!portal.machine.has_settled());
    assert_eq!(portal.wake(0), 1, "a read is due");
    portal.tick(0);
    assert_eq!(portal.wake(0), 30_000, "the store is busy");
    portal.answer(0, Event::SecretRead(Ok(static_secret(1, "pat"))));
    assert_eq!(portal.wake(0), 1, "the token is to be checked");
    assert!(matches!(portal.tick(0)[..], [PortCall::CheckToken(_)]));
    assert_eq!(portal.wake(0), 21_000, "the next poll");
    assert!(!portal.machine.has_settled());
    let result = crate::source::TokenCheck::Accepted;
    portal.answer(0, Event::TokenChecked { generation: 1, result });
    assert!(portal.machine.has_settled());
}
