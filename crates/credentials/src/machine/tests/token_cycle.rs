//! The token cycle: the schedule of refreshes, the validity of the credential, and the results for callers.

use super::*;
use crate::{
    failure::FailureClass,
    machine::{event::CallKind, token_cycle::TokenCycle},
    published::NoReplacement,
    signals::PendingSignals,
    source::TokenCheck,
    token::Token,
};

const CHECK: Event = Event::Start(CallKind::Check);
const REQUEST: Event = Event::Start(CallKind::Request);
const READ_WANTED: MachineCommand = MachineCommand::Raise(Event::SecretWanted { afresh: false });
const FRESH_READ_WANTED: MachineCommand =
    MachineCommand::Raise(Event::SecretWanted { afresh: true });

fn bench() -> Bench<TokenCycle> {
    Bench::new(TokenCycle::new(seconds(600)), TokenCycle::handle)
}

fn none() -> MachineFacts {
    MachineFacts::default()
}

/// Facts of a portal with the refresh token `rt`, confirmed by the store.
fn confirmed() -> MachineFacts {
    MachineFacts { secret_confirmed: true, ..with_request(request("rt")) }
}

fn send_request() -> MachineCommand {
    call(PortCall::RequestToken(request("rt")))
}

fn check(token: &str, generation: u64) -> MachineCommand {
    call(PortCall::CheckToken(Token { secret: secret(token), generation, is_unproven: false }))
}

fn checked(generation: u64, result: TokenCheck) -> Event {
    Event::TokenChecked { generation, result }
}

fn tick(second: i64) -> Event {
    Event::Tick { wall: wall(second) }
}

fn signals(signals: PendingSignals) -> Event {
    Event::Signalled(signals)
}

fn token_rejected(generation: u64) -> Event {
    signals(PendingSignals { rejected: Some(generation), ..PendingSignals::default() })
}

fn refresh_now() -> Event {
    signals(PendingSignals { refresh_now: true, ..PendingSignals::default() })
}

fn adopted(secret: VersionedSecret, previous_request: Option<RefreshRequest>) -> Event {
    let previous = previous_request.as_ref().map(|_| oauth(1, "rt"));
    Event::SecretAdopted { secret, previous, previous_request }
}

impl Bench<TokenCycle> {
    /// The response at `ms` to a request that was sent at `sent_ms`; the wall clock agrees.
    fn answer(&self, sent_ms: u64, ms: u64, result: Result<TokenResponse, GrantError>) -> Event {
        let wall = wall(i64::try_from(ms / 1_000).unwrap());
        Event::TokenAnswered { request: request("rt"), sent: self.at(sent_ms), wall, result }
    }

    fn due(&self) -> Option<u64> {
        let due = self.machine.refresh.attempt.due?;
        Some(u64::try_from((due - self.start).as_millis()).unwrap())
    }

    /// Time of the next token check in milliseconds.
    fn check_due(&self) -> Option<u64> {
        let due = self.machine.check.due()?;
        Some(u64::try_from((due - self.start).as_millis()).unwrap())
    }

    fn is_suspended(&self) -> bool {
        self.machine.validity.suspended().is_some()
    }

    /// Validity of the credential: valid, suspect or suspended.
    fn validity(&self) -> &'static str {
        match (self.machine.validity.is_valid(), self.machine.validity.suspect().is_some()) {
            (true, _) => "valid",
            (false, true) => "suspect",
            (false, false) => "suspended",
        }
    }
}

/// A cycle whose first request was sent at 0 ms.
fn requesting() -> Bench<TokenCycle> {
    let mut bench = bench();
    let first = adopted(oauth(1, "rt"), None);
    bench.expect(0, first, confirmed(), &[]);
    bench.expect(0, REQUEST, confirmed(), &[send_request()]);
    assert!(bench.machine.refresh.in_flight);
    bench
}

/// A cycle with a token of half an hour, issued at 0 ms; the refresh is planned at 1,200 s.
fn with_token() -> Bench<TokenCycle> {
    let mut bench = requesting();
    bench.expect(0, bench.answer(0, 0, Ok(response(None))), confirmed(), &[]);
    assert_eq!(bench.machine.tokens.generation, 1);
    bench
}

#[test]
fn nothing_is_wanted_until_a_signal_says_so() {
    let mut bench = bench();
    bench.expect(0, signals(PendingSignals::default()), none(), &[]);
    assert!(!bench.machine.wanted);
    let wanted = PendingSignals { token_wanted: true, ..PendingSignals::default() };
    bench.expect(0, signals(wanted), none(), &[READ_WANTED]);
    assert!(bench.machine.wanted);
    bench.expect(0, signals(wanted), none(), &[]);
}

#[test]
fn an_operator_wants_a_token_and_a_fresh_read() {
    let mut bench = bench();
    bench.expect(0, refresh_now(), none(), &[FRESH_READ_WANTED]);
    assert!(bench.machine.wanted);
    assert_eq!(bench.due(), None, "there is nothing to send yet");
    bench.expect(0, refresh_now(), confirmed(), &[FRESH_READ_WANTED]);
    assert_eq!(bench.due(), Some(0));
}

#[test]
fn an_operator_does_not_cause_a_second_request_in_flight() {
    let mut bench = requesting();
    bench.expect(0, refresh_now(), confirmed(), &[FRESH_READ_WANTED]);
    assert_eq!(bench.due(), None);
    bench.expect(2_000, REQUEST, confirmed(), &[]);
}

#[test]
fn a_request_waits_until_the_secret_is_confirmed() {
    let mut bench = bench();
    bench.expect(0, adopted(oauth(1, "rt"), None), confirmed(), &[]);
    bench.expect(0, REQUEST, with_request(request("rt")), &[]);
    assert_eq!(bench.due(), Some(0), "still due");
    bench.expect(0, REQUEST, confirmed(), &[send_request()]);
    assert_eq!(bench.due(), None);
    bench.expect(0, REQUEST, confirmed(), &[]);
}

#[test]
fn a_due_request_without_an_oauth_secret_is_dropped() {
    let mut bench = bench();
    bench.expect(0, Event::ProofWanted(bench.at(0)), none(), &[]);
    bench.expect(0, REQUEST, MachineFacts { secret_confirmed: true, ..none() }, &[]);
    assert_eq!((bench.due(), bench.machine.refresh.in_flight), (None, false));
}

#[test]
fn requests_are_a_second_apart() {
    let mut bench = with_token();
    bench.expect(100, Event::ProofWanted(bench.at(100)), confirmed(), &[]);
    bench.expect(999, REQUEST, confirmed(), &[]);
    assert_eq!(bench.machine.due(bench.at(999)), Some(bench.at(1_000)));
    bench.expect(1_000, REQUEST, confirmed(), &[send_request()]);
}

#[test]
fn a_token_is_published_and_refreshed_at_two_thirds_of_its_life() {
    let mut bench = requesting();
    assert!(!bench.machine.settled);
    bench.expect(6_000, bench.answer(0, 6_000, Ok(response(None))), confirmed(), &[]);
    assert!(bench.machine.settled);
    let active = bench.machine.tokens.active.clone().unwrap();
    assert_eq!((active.token.secret, active.token.generation), (secret("at"), 1));
    // The token may be as old as the request: 6 s are gone.
    assert_eq!(active.expires_at, Some(bench.at(1_800_000)));
    assert_eq!(bench.machine.tokens.published_at, Some(bench.at(6_000)));
    assert_eq!(bench.due(), Some(6_000 + 1_794_000 * 2 / 3));
    assert_eq!(bench.counters().grants_ok, 1);
    assert_eq!(bench.machine.tokens.left(bench.at(1_000_000)), Some(seconds(800)));
    assert!(bench.machine.tokens.is_usable(bench.at(1_799_999)));
    assert!(!bench.machine.tokens.is_usable(bench.at(1_800_000)));
}

#[test]
fn a_response_slower_than_half_the_life_leaves_half_of_it() {
    let mut bench = requesting();
    let response = TokenResponse { expires_in: seconds(4), ..response(None) };
    bench.expect(6_000, bench.answer(0, 6_000, Ok(response)), confirmed(), &[]);
    assert_eq!(bench.machine.tokens.left(bench.at(6_000)), Some(seconds(2)));
}

#[test]
fn a_response_for_another_app_or_for_no_secret_is_dropped() {
    let other = RefreshRequest { client_id: "other".to_owned(), ..request("rt") };
    for facts in [with_request(other), none()] {
        let mut bench = requesting();
        bench.expect(0, bench.answer(0, 0, Ok(response(None))), facts, &[]);
        assert_eq!(bench.machine.tokens.generation, 0);
        assert!(!bench.machine.refresh.in_flight);
        assert_eq!(bench.due(), None);
    }
}

#[test]
fn a_token_of_a_client_secret_that_was_replaced_is_used_and_refreshed_at_once() {
    let mut bench = requesting();
    let replaced = RefreshRequest { client_secret: secret("cs-2"), ..request("rt") };
    bench.expect(0, bench.answer(0, 0, Ok(response(None))), with_request(replaced), &[]);
    assert_eq!((bench.machine.tokens.generation, bench.due()), (1, Some(0)));
}

#[test]
fn the_wall_clock_makes_a_planned_refresh_due() {
    let mut bench = with_token();
    bench.expect(1_000, tick(1_199), confirmed(), &[]);
    assert_eq!(bench.due(), Some(1_200_000));
    bench.expect(1_000, tick(1_200), confirmed(), &[]);
    assert_eq!(bench.due(), Some(1_000));
    // Only once, and not while the request is in flight or due anyway.
    bench.expect(1_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(1_001, tick(99_999), confirmed(), &[]);
    assert_eq!(bench.due(), None);
}

#[test]
fn the_wall_clock_does_nothing_for_a_token_that_does_not_expire() {
    let mut bench = with_token();
    bench.expect(0, adopted(static_secret(2, "pat"), Some(request("rt"))), none(), &[]);
    bench.expect(1_000, tick(99_999), none(), &[]);
    assert_eq!(bench.due(), None);
}

#[test]
fn failures_back_off_and_keep_the_token() {
    let mut bench = requesting();
    let unavailable = || Err(GrantError::Unavailable("http 500".to_owned()));
    for (ms, wait) in [(0, 500), (1_000, 1_000), (3_000, 2_000)] {
        if ms > 0 {
            bench.expect(ms, REQUEST, confirmed(), &[send_request()]);
        }
        bench.expect(ms, bench.answer(ms, ms, unavailable()), confirmed(), &[]);
        assert_eq!(bench.due(), Some(ms + wait));
        assert!(bench.machine.settled);
        assert!(bench.machine.refresh.is_retry());
    }
    assert_eq!(bench.machine.failure, Some(FailureClass::TokenUnavailable));
    assert_eq!(bench.counters().grants_failed, 3);
    bench.expect(5_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(5_000, bench.answer(5_000, 5_000, Ok(response(None))), confirmed(), &[]);
    assert_eq!(bench.machine.failure, None);
    assert!(!bench.machine.refresh.is_retry());
    assert_eq!(bench.journal.last_failure, Some(FailureClass::TokenUnavailable));
}

#[test]
fn a_throttled_request_honours_retry_after() {
    for (token_left, retry_after, wait) in [
        (Some(seconds(900)), Some(seconds(60)), 60_000),
        (None, Some(seconds(60)), 20_000),
        (None, None, 500),
    ] {
        let mut bench = requesting();
        let facts = MachineFacts { token_left, ..confirmed() };
        let throttled = Err(GrantError::Throttled { retry_after });
        bench.expect(0, bench.answer(0, 0, throttled), facts, &[]);
        assert_eq!(bench.due(), Some(wait));
        assert_eq!(bench.machine.failure, Some(FailureClass::TokenThrottled));
    }
}

#[test]
fn a_failure_of_a_credential_that_was_replaced_meanwhile_does_not_delay_the_new_one() {
    let mut bench = requesting();
    let unavailable = Err(GrantError::Unavailable("http 500".to_owned()));
    bench.expect(50, bench.answer(0, 50, unavailable), with_request(request("rt-2")), &[]);
    assert_eq!(bench.due(), Some(50));
}

#[test]
fn a_lost_request_is_sent_again() {
    let mut bench = requesting();
    bench.expect(1_500, Event::CallsLost, confirmed(), &[]);
    bench.expect(1_500, REQUEST, confirmed(), &[send_request()]);
    let mut bench = with_token();
    bench.expect(1_500, Event::CallsLost, confirmed(), &[]);
    bench.expect(1_500, REQUEST, confirmed(), &[]);
}

/// A cycle whose credential was rejected at 0 ms.
fn suspect() -> Bench<TokenCycle> {
    let mut bench = requesting();
    let commands = [raise(Event::RefreshTokenRejected), READ_WANTED];
    bench.expect(0, bench.answer(0, 0, Err(rejected())), confirmed(), &commands);
    assert_eq!(bench.validity(), "suspect");
    assert_eq!(bench.counters().grants_rejected, 1);
    assert_eq!(bench.machine.failure, Some(FailureClass::GrantRejected));
    bench
}

/// Rejects the grant at these times, in milliseconds.
fn reject_at(bench: &mut Bench<TokenCycle>, times: &[u64]) {
    for &ms in times {
        bench.expect(ms, REQUEST, confirmed(), &[send_request()]);
        let commands = [raise(Event::RefreshTokenRejected), READ_WANTED];
        bench.expect(ms, bench.answer(ms, ms, Err(rejected())), confirmed(), &commands);
    }
}

/// A cycle whose credential was suspended at 30 s.
fn suspended() -> Bench<TokenCycle> {
    let mut bench = suspect();
    reject_at(&mut bench, &[5_000, 15_000, 30_000]);
    assert_eq!(bench.validity(), "suspended");
    bench
}

#[test]
fn a_suspect_credential_is_checked_five_times_in_the_store() {
    for event in [Event::SecretConfirmed, Event::SecretChecked] {
        let mut bench = suspect();
        for wait in [500, 1_000, 2_000, 4_000, 8_000] {
            let check = Event::CheckWanted(bench.at(wait));
            bench.expect(0, event.clone(), confirmed(), &[raise(check)]);
        }
        bench.expect(0, event, confirmed(), &[]);
        assert_eq!((bench.validity(), bench.due()), ("suspect", Some(5_000)));
    }
}

#[test]
fn a_suspect_credential_is_tried_again_after_5_15_and_30_seconds_and_then_suspended() {
    let mut bench = suspect();
    for (rejected_at, next) in [(5_000, 15_000), (15_000, 30_000)] {
        assert_eq!(bench.due(), Some(rejected_at));
        reject_at(&mut bench, &[rejected_at]);
        assert_eq!((bench.validity(), bench.due()), ("suspect", Some(next)));
    }
    reject_at(&mut bench, &[30_000]);
    let why = "the token endpoint rejects it, and the secret store has no other";
    let (reason, class) = bench.machine.validity.suspended().unwrap();
    assert_eq!((&**reason, class), (why, FailureClass::GrantRejected));
    assert!(bench.machine.settled);
    assert_eq!(bench.machine.due(bench.at(30_000)), Some(bench.at(54_000)));
}

#[test]
fn a_grant_that_is_accepted_again_is_valid_again() {
    let mut bench = suspect();
    bench.expect(5_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(5_000, bench.answer(5_000, 5_000, Ok(response(None))), confirmed(), &[]);
    assert_eq!((bench.validity(), bench.machine.tokens.generation), ("valid", 1));
}

#[test]
fn a_rejected_grant_is_tried_shortly_before_the_token_expires_and_at_its_expiry() {
    let mut bench = with_token();
    reject_at(&mut bench, &[1_200_000, 1_205_000, 1_215_000, 1_230_000]);
    assert!(bench.is_suspended());
    // Ten minutes of early retries end at the expiry.
    let mut retries = Vec::new();
    let mut at = bench.at(1_230_000);
    while at < bench.at(2_450_000) {
        at = bench.machine.validity.retry_at().unwrap();
        let ms = u64::try_from((at - bench.start).as_millis()).unwrap();
        bench.expect(ms, tick(0), confirmed(), &[FRESH_READ_WANTED]);
        retries.push(ms);
    }
    assert!(retries.contains(&1_795_000) && retries.contains(&1_800_000), "{retries:?}");
    let early = retries.windows(2).filter(|pair| pair[1] - pair[0] <= 30_000);
    assert_eq!(early.count(), 24 + 25, "{retries:?}");
    let last = retries.last_chunk::<2>().unwrap();
    assert_eq!(last[1] - last[0], 480_000, "then at the interval of the configuration");
}

#[test]
fn a_suspect_credential_stays_so_while_the_store_fails() {
    for event in [Event::PollFailed, Event::ReadFailed, Event::ReadRejected] {
        let mut bench = suspect();
        bench.expect(0, event.clone(), confirmed(), &[]);
        assert_eq!((bench.validity(), bench.due()), ("suspect", Some(5_000)), "{event:?}");
        // A valid one stays valid.
        let mut bench = with_token();
        bench.expect(0, event.clone(), confirmed(), &[]);
        assert_eq!(bench.validity(), "valid", "{event:?}");
    }
}

#[test]
fn only_a_failed_read_settles_the_start() {
    for (event, settles) in [(Event::ReadFailed, true), (Event::PollFailed, false)] {
        let mut bench = bench();
        bench.expect(0, event, none(), &[]);
        assert_eq!(bench.machine.settled, settles);
    }
}

#[test]
fn a_valid_credential_needs_no_checks() {
    let mut bench = with_token();
    bench.expect(0, Event::SecretConfirmed, confirmed(), &[]);
    bench.expect(0, Event::SecretChecked, confirmed(), &[]);
    assert_eq!(bench.validity(), "valid");
}

#[test]
fn the_fallback_is_tried_before_a_suspect_credential_is_suspended() {
    let mut bench = suspect();
    let facts = MachineFacts { has_fallback: true, ..confirmed() };
    bench.expect(700, Event::SecretConfirmed, facts, &[raise(Event::FallbackWanted)]);
    assert_eq!((bench.validity(), bench.due()), ("valid", Some(700)));
}

#[test]
fn a_rejection_of_a_credential_that_was_replaced_says_nothing_about_the_new_one() {
    for facts in [with_request(request("rt-2")), none()] {
        let mut bench = requesting();
        bench.expect(40, bench.answer(0, 40, Err(rejected())), facts, &[]);
        assert_eq!((bench.validity(), bench.due()), ("valid", Some(40)));
    }
}

#[test]
fn a_suspended_credential_is_retried_until_it_is_granted() {
    let mut bench = suspended();
    bench.expect(53_999, tick(0), confirmed(), &[]);
    bench.expect(54_000, tick(0), confirmed(), &[FRESH_READ_WANTED]);
    assert_eq!(bench.due(), Some(54_000));
    assert_eq!(bench.machine.validity.retry_at(), Some(bench.at(78_000)));
    assert!(!bench.machine.refresh.is_retry(), "failures before do not count");
    bench.expect(54_000, REQUEST, confirmed(), &[send_request()]);
    // It fails: the next retry is planned already.
    let unavailable = Err(GrantError::Unavailable("http 500".to_owned()));
    bench.expect(54_000, bench.answer(54_000, 54_000, unavailable), confirmed(), &[]);
    assert_eq!((bench.due(), bench.is_suspended()), (None, true));
    // It is rejected: still suspended, not suspect again.
    bench.expect(960_000, tick(0), confirmed(), &[FRESH_READ_WANTED]);
    assert_eq!(bench.machine.validity.retry_at(), Some(bench.at(1_440_000)), "the early ones end");
    reject_at(&mut bench, &[960_000]);
    assert!(bench.is_suspended());
    // It is granted.
    bench.expect(1_440_000, tick(0), confirmed(), &[FRESH_READ_WANTED]);
    bench.expect(1_440_000, REQUEST, confirmed(), &[send_request()]);
    let answer = bench.answer(1_440_000, 1_440_000, Ok(response(None)));
    bench.expect(1_440_000, answer, confirmed(), &[]);
    assert_eq!(bench.validity(), "valid");
}

#[test]
fn no_secret_suspends_and_drops_the_plan() {
    let mut bench = with_token();
    let no_secret = |class, why: &str| Event::NoSecret { class, why: why.to_owned() };
    bench.expect(0, no_secret(FailureClass::SecretMissing, "none"), none(), &[]);
    assert!(bench.is_suspended());
    assert_eq!(bench.due(), None);
    assert_eq!(bench.journal.last_failure, Some(FailureClass::SecretMissing));
    // The same class again changes nothing; another one does.
    bench.expect(100, no_secret(FailureClass::SecretMissing, "again"), none(), &[]);
    assert_eq!(&**bench.machine.validity.suspended().unwrap().0, "none");
    assert_eq!(bench.machine.validity.retry_at(), Some(bench.at(480_000)));
    bench.expect(100, no_secret(FailureClass::StoreDenied, "denied"), none(), &[]);
    assert_eq!(&**bench.machine.validity.suspended().unwrap().0, "denied");
    assert_eq!(bench.machine.validity.retry_at(), Some(bench.at(480_100)));
}

#[test]
fn a_rotation_of_another_replica_is_not_answered_with_a_refresh() {
    let mut bench = with_token();
    let rotated = adopted(oauth(2, "rt-2"), Some(request("rt")));
    bench.expect(0, rotated, with_request(request("rt-2")), &[]);
    assert_eq!(bench.due(), Some(1_200_000));
    assert!(bench.machine.tokens.outdated);
}

#[test]
fn an_unchanged_credential_in_a_new_version_changes_nothing() {
    let mut bench = suspended();
    let same = adopted(oauth(2, "rt"), Some(request("rt")));
    bench.expect(0, same, confirmed(), &[]);
    assert!(bench.is_suspended());
    assert_eq!(bench.due(), None);
    assert!(!bench.machine.tokens.outdated);
}

#[test]
fn a_rotation_is_used_at_once_if_it_is_needed() {
    let rotated = || adopted(oauth(2, "rt-2"), Some(request("rt")));
    let facts = || with_request(request("rt-2"));
    // There is no token, or the credential does not work.
    for (mut bench, ms) in [(suspect(), 100), (suspended(), 30_100)] {
        bench.expect(ms, rotated(), facts(), &[]);
        assert_eq!((bench.validity(), bench.due()), ("valid", Some(ms)));
        assert!(!bench.machine.refresh.is_retry());
        assert!(!bench.machine.tokens.outdated, "there is no token");
    }
    // The token has expired.
    let mut bench = with_token();
    bench.expect(1_800_000, rotated(), facts(), &[]);
    assert_eq!(bench.due(), Some(1_200_000));
    // The token endpoint fails.
    let mut bench = with_token();
    bench.expect(1_200_000, REQUEST, confirmed(), &[send_request()]);
    let unavailable = Err(GrantError::Unavailable("http 500".to_owned()));
    let token_left = Some(seconds(600));
    let failing = MachineFacts { token_left, ..confirmed() };
    bench.expect(1_200_000, bench.answer(1_200_000, 1_200_000, unavailable), failing, &[]);
    bench.expect(1_200_100, rotated(), facts(), &[]);
    assert_eq!(bench.due(), Some(1_200_100));
    assert!(!bench.machine.refresh.is_retry());
    // Callers reported the token, and HubSpot rejects its replacement: that is known for three minutes,
    // and for the retry interval of suspended credentials longer.
    for (at, due) in [(60_100, 60_100), (840_000, 840_000), (840_200, 1_260_000)] {
        let mut bench = with_token();
        bench.expect(60_000, token_rejected(1), confirmed(), &[]);
        bench.expect(60_000, REQUEST, confirmed(), &[send_request()]);
        bench.expect(60_000, bench.answer(60_000, 60_000, Ok(response(None))), confirmed(), &[]);
        bench.expect(60_100, token_rejected(2), confirmed(), &[READ_WANTED]);
        bench.expect(60_100, Event::SecretChecked, confirmed(), &[]);
        bench.expect(at, rotated(), facts(), &[]);
        assert_eq!(bench.due(), Some(due), "{at}");
    }
}

#[test]
fn another_client_secret_or_kind_is_used_at_once() {
    let changed = RefreshRequest { client_secret: secret("cs-2"), ..request("rt") };
    let client = RefreshRequest { client_id: "other".to_owned(), ..request("rt") };
    for new in [changed, client] {
        let mut bench = with_token();
        let event = adopted(oauth(2, "rt"), Some(request("rt")));
        bench.expect(100, event, with_request(new), &[]);
        assert_eq!(bench.due(), Some(100));
    }
    let mut bench = bench();
    bench.expect(0, adopted(static_secret(1, "pat"), None), none(), &[]);
    bench.expect(100, adopted(oauth(2, "rt"), None), confirmed(), &[]);
    assert_eq!(bench.due(), Some(100));
    assert!(bench.machine.tokens.outdated);
}

#[test]
fn a_static_token_is_published_once_and_ends_all_plans() {
    let mut bench = suspended();
    bench.expect(0, adopted(static_secret(2, "pat"), Some(request("rt"))), none(), &[]);
    assert_eq!((bench.validity(), bench.due(), bench.machine.failure), ("valid", None, None));
    let active = bench.machine.tokens.active.clone().unwrap();
    assert_eq!((active.token.secret, active.expires_at), (secret("pat"), None));
    assert_eq!(bench.machine.tokens.left(bench.at(0)), Some(Duration::MAX));
    bench.expect(0, adopted(static_secret(3, "pat"), None), none(), &[]);
    assert_eq!(bench.machine.tokens.generation, 1);
    bench.expect(0, adopted(static_secret(4, "pat-2"), None), none(), &[]);
    assert_eq!(bench.machine.tokens.generation, 2);
}

#[test]
fn a_static_token_replaces_an_oauth_token_of_the_same_text() {
    let mut bench = with_token();
    bench.expect(0, adopted(static_secret(2, "at"), Some(request("rt"))), none(), &[]);
    assert_eq!(bench.machine.tokens.generation, 2);
}

#[test]
fn a_rejected_token_is_refreshed_once_and_not_before_it_is_five_seconds_old() {
    let mut bench = with_token();
    bench.expect(2_000, token_rejected(1), confirmed(), &[]);
    assert_eq!(bench.due(), Some(5_000));
    assert_eq!(bench.counters().rejections, 1);
    bench.expect(60_000, token_rejected(1), confirmed(), &[]);
    assert_eq!((bench.due(), bench.counters().rejections), (Some(5_000), 1));
    let mut bench = with_token();
    bench.expect(60_000, token_rejected(1), confirmed(), &[]);
    assert_eq!(bench.due(), Some(60_000));
}

#[test]
fn reports_about_other_generations_do_nothing() {
    let mut bench = with_token();
    for event in [token_rejected(0), token_rejected(2)] {
        bench.expect(60_000, event, confirmed(), &[]);
    }
    assert_eq!((bench.due(), bench.counters().rejections), (Some(1_200_000), 0));
}

#[test]
fn a_report_does_not_add_to_a_request_in_flight_or_to_its_backoff() {
    let mut bench = with_token();
    bench.expect(1_200_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(1_200_000, token_rejected(1), confirmed(), &[]);
    assert_eq!(bench.due(), None);
    let unavailable = Err(GrantError::Unavailable("http 500".to_owned()));
    bench.expect(1_200_000, bench.answer(1_200_000, 1_200_000, unavailable), confirmed(), &[]);
    bench.expect(1_200_100, token_rejected(1), confirmed(), &[]);
    assert_eq!(bench.due(), Some(1_200_500));
}

#[test]
fn a_rejected_static_token_has_the_secret_read_once() {
    let mut bench = bench();
    bench.expect(0, adopted(static_secret(1, "pat"), None), none(), &[]);
    bench.expect(0, CHECK, none(), &[check("pat", 1)]);
    bench.expect(0, checked(1, TokenCheck::Accepted), none(), &[]);
    assert_eq!(bench.due(), None, "a static token is never refreshed");
    bench.expect(60_000, token_rejected(1), none(), &[READ_WANTED]);
    assert_eq!((bench.due(), bench.check_due()), (None, Some(60_000)), "it is checked at once");
    bench.expect(60_000, token_rejected(1), none(), &[]);
    assert_eq!(bench.counters().rejections, 1);
    bench.expect(60_000, Event::SecretChecked, none(), &[]);
    let until = bench.at(70_000);
    let known = Some(NoReplacement { generation: 1, until });
    assert_eq!(bench.machine.tokens.no_replacement, known);
    assert_eq!(bench.journal.last_failure, Some(FailureClass::TokenRejected));
    // Reports have this result for ten seconds, then the secret is read again.
    bench.expect(69_999, token_rejected(1), none(), &[]);
    assert!(bench.machine.is_rejected(bench.at(69_999)));
    bench.expect(70_000, token_rejected(1), none(), &[READ_WANTED]);
    bench.expect(70_000, Event::ReadRejected, none(), &[]);
    assert_eq!(bench.machine.tokens.no_replacement.unwrap().until, bench.at(80_000));
    assert!(bench.machine.is_rejected(bench.at(86_400_000)), "until it is accepted or replaced");
}

#[test]
fn one_token_check_is_in_flight_and_its_result_concerns_its_token_only() {
    let mut bench = bench();
    bench.expect(0, adopted(static_secret(1, "one"), None), none(), &[]);
    bench.expect(0, CHECK, none(), &[check("one", 1)]);
    bench.expect(0, CHECK, none(), &[]);
    bench.expect(100, adopted(static_secret(2, "two"), None), none(), &[]);
    bench.expect(100, CHECK, none(), &[]);
    bench.expect(200, checked(1, TokenCheck::Rejected), none(), &[]);
    assert!(!bench.machine.is_rejected(bench.at(200)), "another token was rejected");
    assert!(!bench.machine.settled);
    assert_eq!(bench.check_due(), Some(1_000), "token checks are a second apart");
    bench.expect(999, CHECK, none(), &[]);
    bench.expect(1_000, CHECK, none(), &[check("two", 2)]);
    bench.expect(1_100, checked(2, TokenCheck::Rejected), none(), &[READ_WANTED]);
    assert!(bench.machine.settled && bench.machine.is_rejected(bench.at(1_100)));
    assert!(!bench.machine.is_usable(bench.at(1_100)));
    // Its response is lost when the loop panics.
    bench.expect(6_100, CHECK, none(), &[check("two", 2)]);
    bench.expect(6_200, Event::CallsLost, none(), &[]);
    assert_eq!(bench.check_due(), Some(7_100));
}

#[test]
fn the_rejection_of_a_replacement_is_final_for_three_minutes() {
    let mut bench = with_token();
    bench.expect(60_000, token_rejected(1), confirmed(), &[]);
    bench.expect(60_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(60_000, bench.answer(60_000, 60_000, Ok(response(None))), confirmed(), &[]);
    assert_eq!(bench.machine.tokens.generation, 2);
    bench.expect(60_100, token_rejected(2), confirmed(), &[READ_WANTED]);
    bench.expect(60_100, Event::SecretChecked, confirmed(), &[]);
    let until = bench.at(240_100);
    let known = Some(NoReplacement { generation: 2, until });
    assert_eq!(bench.machine.tokens.no_replacement, known);
    bench.expect(240_099, token_rejected(2), confirmed(), &[]);
    bench.expect(240_100, token_rejected(2), confirmed(), &[]);
    assert_eq!(bench.due(), Some(240_100), "one more refresh");
}

#[test]
fn the_rejection_of_an_accepted_replacement_is_a_new_one() {
    let mut bench = with_token();
    bench.expect(60_000, token_rejected(1), confirmed(), &[]);
    bench.expect(60_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(60_000, bench.answer(60_000, 60_000, Ok(response(None))), confirmed(), &[]);
    let accepted = PendingSignals { accepted: Some(2), ..PendingSignals::default() };
    bench.expect(60_100, signals(accepted), confirmed(), &[]);
    bench.expect(90_000, token_rejected(2), confirmed(), &[]);
    assert_eq!(bench.due(), Some(90_000));
}

#[test]
fn two_rejections_of_one_request_are_final_even_if_others_were_accepted() {
    let mut bench = with_token();
    bench.expect(60_000, token_rejected(1), confirmed(), &[]);
    bench.expect(60_000, REQUEST, confirmed(), &[send_request()]);
    bench.expect(60_000, bench.answer(60_000, 60_000, Ok(response(None))), confirmed(), &[]);
    let both =
        PendingSignals { accepted: Some(2), rejected_again: Some(2), ..PendingSignals::default() };
    bench.expect(60_100, signals(both), confirmed(), &[READ_WANTED]);
    bench.expect(60_100, Event::SecretChecked, confirmed(), &[]);
    bench.expect(240_099, token_rejected(2), confirmed(), &[]);
    assert!(bench.due().is_some_and(|due| due > 240_100), "{:?}", bench.due());
    bench.expect(240_100, token_rejected(2), confirmed(), &[]);
    assert_eq!(bench.due(), Some(240_100));
}

#[test]
fn a_report_during_a_suspension_does_nothing() {
    let mut bench = with_token();
    bench.expect(0, adopted(static_secret(2, "pat"), Some(request("rt"))), none(), &[]);
    let no_secret = Event::NoSecret { class: FailureClass::SecretMissing, why: String::new() };
    bench.expect(0, no_secret, none(), &[]);
    bench.expect(0, token_rejected(2), none(), &[]);
}

#[test]
fn a_rejected_token_of_an_older_credential_is_refreshed_at_once() {
    let mut bench = with_token();
    let rotated = adopted(oauth(2, "rt-2"), Some(request("rt")));
    bench.expect(0, rotated, with_request(request("rt-2")), &[]);
    bench.expect(60_000, token_rejected(1), with_request(request("rt-2")), &[]);
    assert_eq!(bench.due(), Some(60_000));
    // The refresh decides; the store has nothing to add.
    bench.expect(60_000, Event::SecretChecked, with_request(request("rt-2")), &[]);
    assert_eq!(bench.machine.tokens.no_replacement, None);
    let facts = MachineFacts { secret_confirmed: true, ..with_request(request("rt-2")) };
    let sent = call(PortCall::RequestToken(request("rt-2")));
    bench.expect(60_000, REQUEST, facts, &[sent]);
    let result = Ok(response(None));
    let (request, sent, wall) = (request("rt-2"), bench.at(60_000), wall(60));
    let answer = Event::TokenAnswered { request: request.clone(), sent, wall, result };
    bench.expect(60_000, answer, with_request(request), &[]);
    assert_eq!(bench.machine.tokens.generation, 2);
    assert!(!bench.machine.tokens.outdated);
    assert_eq!(bench.machine.tokens.replacement_wanted, None);
}

#[test]
fn the_next_wake_is_the_first_of_refresh_retry_and_expiry() {
    let bench = with_token();
    assert_eq!(bench.machine.due(bench.at(0)), Some(bench.at(1_200_000)));
    // What is due already waits for the store; the expiry comes next, and after it nothing.
    assert_eq!(bench.machine.due(bench.at(1_200_000)), Some(bench.at(1_800_000)));
    assert_eq!(bench.machine.due(bench.at(1_800_000)), None);
    let bench = requesting();
    assert_eq!(bench.machine.due(bench.at(0)), None);
}
