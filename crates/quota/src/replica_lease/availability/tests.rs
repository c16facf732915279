//! Transitions of the ledger's state.

use super::Availability::{Live, Recovering, Starting, Unavailable};
use super::*;

#[test]
fn a_ledger_that_responds_again_settles_before_it_grants() {
    let now = Instant::now();
    for state in [Starting, Unavailable(now)] {
        assert_eq!(state.after_response(false, 0, now), Recovering(now));
    }
    let almost = now + SETTLE_TIME - Duration::from_millis(1);
    assert_eq!(Recovering(now).after_response(false, 0, almost), Recovering(now));
    assert_eq!(Recovering(now).after_response(false, 0, now + SETTLE_TIME), Live);
    assert_eq!(Live.after_response(false, 0, almost), Live);
}

#[test]
fn a_replica_that_starts_beside_others_is_granted_permits_at_once() {
    let now = Instant::now();
    assert_eq!(Starting.after_response(false, 1, now), Live);
    // The ledger may not know all calls, or this replica has made calls without it.
    assert_eq!(Starting.after_response(true, 1, now), Recovering(now));
    assert_eq!(Unavailable(now).after_response(false, 1, now), Recovering(now));
}

#[test]
fn a_new_ledger_has_to_settle_as_well() {
    let now = Instant::now();
    let later = now + SETTLE_TIME * 2;
    assert_eq!(Live.after_response(true, 0, later), Recovering(later));
    assert_eq!(Recovering(now).after_response(true, 0, later), Recovering(now));
}

#[test]
fn a_ledger_that_fails_is_tried_again_after_a_pause() {
    let now = Instant::now();
    let state = Availability::after_failure(now);
    assert!(state.is_backing_off(now + RETRY_INTERVAL - Duration::from_millis(1)));
    assert!(!state.is_backing_off(now + RETRY_INTERVAL));
    for other in [Starting, Recovering(now), Live] {
        assert!(!other.is_backing_off(now));
    }
}

#[test]
fn only_a_live_ledger_grants_and_only_a_connected_one_is_reported_to() {
    let now = Instant::now();
    let all = [Starting, Unavailable(now), Recovering(now), Live];
    assert_eq!(all.map(Availability::is_live), [false, false, false, true]);
    assert_eq!(all.map(Availability::is_disconnected), [true, true, false, false]);
}
