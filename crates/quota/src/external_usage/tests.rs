//! Conclusions from responses about other clients.

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn own(used: u64) -> OwnUsage {
    OwnUsage { size: 100, window: WINDOW, used }
}

/// A call that takes this long.
fn call(external: &mut ExternalUsage, slot: u64, sent: Instant, took: Duration) {
    external.take(slot);
    external.mark_sent(slot, sent);
    external.finish(slot, WINDOW, sent + took);
}

/// The response to a call that was sent now announces this many calls.
fn observe(external: &mut ExternalUsage, slot: u64, used: u64, at_most: u64, now: Instant) {
    external.take(slot);
    external.mark_sent(slot, now);
    external.observe(used, at_most, slot, WINDOW, now);
    external.finish(slot, WINDOW, now);
}

#[test]
fn without_a_sign_of_others_one_hundredth_is_left_to_them() {
    let now = Instant::now();
    let external = ExternalUsage::default();
    assert!(!external.is_active(now));
    assert_eq!(external.calls(WINDOW, now), 0);
    assert_eq!(external.allowance(own(0), now), 99);
    assert_eq!(external.allowance_per_second(own(0), 10, now), 10);
    assert!(!external.should_spread(own(99), now));
}

#[test]
fn more_calls_than_own_ones_are_a_sign_of_others_for_a_minute() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 41, 1, now);
    assert!(external.is_active(now + ACTIVE_TIME - millis(1)));
    assert!(!external.is_active(now + ACTIVE_TIME));
    assert_eq!(external.calls(WINDOW, now + WINDOW - millis(1)), 40);
    assert_eq!(external.calls(WINDOW, now + WINDOW), 0, "they have left the window");
    assert_eq!(external.allowance(own(20), now), 60 * 9 / 10);
}

#[test]
fn as_many_calls_as_own_ones_are_no_sign_of_others() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 1, 1, now);
    assert!(!external.is_active(now));
}

#[test]
fn own_calls_near_the_end_of_the_window_do_not_count_as_external() {
    let begin = Instant::now();
    let now = begin + WINDOW + millis(500);
    let mut external = ExternalUsage::default();
    call(&mut external, 0, begin, millis(10));
    call(&mut external, 1, begin + millis(9_000), millis(10));
    external.take(2);
    external.mark_sent(2, begin + millis(9_500));
    // Four of them: one is certain to be of others. One own call has left the window and one is in
    // flight, so that probably two are.
    external.take(3);
    external.mark_sent(3, now);
    external.observe(5, 4, 3, WINDOW, now);
    assert_eq!(external.calls(WINDOW, now), 2);
}

#[test]
fn a_429_is_a_sign_of_others_unless_own_calls_explain_it() {
    let now = Instant::now();
    let until = now + WINDOW;
    let mut external = ExternalUsage::default();
    external.on_429(own(100), until, now);
    assert!(!external.is_active(now), "own calls have used up the limit");
    external.on_429(own(99), until, now);
    assert!(external.is_active(until + ACTIVE_TIME - millis(1)));
    external.on_limit_change(100);
    assert!(external.is_active(now), "a limit of 100 does not explain a 429 after 99 calls");
    let mut external = ExternalUsage::default();
    external.on_429(own(99), until, now);
    external.on_limit_change(99);
    assert!(!external.is_active(now));
}

#[test]
fn a_limit_change_does_not_explain_others_that_were_seen() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 11, 1, now);
    external.on_429(own(50), now + WINDOW, now);
    external.on_limit_change(50);
    assert!(external.is_active(now), "they were active before");
    let mut external = ExternalUsage::default();
    external.on_429(own(50), now + WINDOW, now);
    observe(&mut external, 0, 11, 1, now);
    external.on_limit_change(50);
    assert!(external.is_active(now), "they were seen since");
}

#[test]
fn a_newcomer_may_probe_once_an_observation_is_old() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 100, 1, now);
    let allowance = |used, after| external.allowance(own(used), now + after);
    assert_eq!(allowance(1, millis(0)), 0);
    assert_eq!(allowance(1, STALE - millis(1)), 0);
    assert_eq!(allowance(1, STALE), 2);
    assert_eq!(allowance(20, STALE), 0, "a part of 20 is no newcomer's");
}

#[test]
fn a_part_that_is_too_small_grows_within_three_seconds() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 41, 1, now);
    let per_second = |used, limit| external.allowance_per_second(own(used), limit, now);
    assert_eq!(per_second(54, 10), 6, "its part of a second, rounded up");
    assert_eq!(per_second(24, 10), 10, "a third of the 30 that are missing");
    assert_eq!(per_second(0, 10), 10, "at most what HubSpot allows");
    assert_eq!(per_second(30, 10), 8);
}

#[test]
fn slots_are_spaced_if_less_than_a_quarter_is_left() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 41, 1, now);
    assert!(!external.should_spread(own(35), now));
    assert!(external.should_spread(own(36), now));
    assert!(!external.should_spread(own(36), now + ACTIVE_TIME), "no others are active");
}

#[test]
fn the_first_call_is_waited_for_but_not_for_long() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    assert!(!external.must_wait(own(0), now));
    external.take(0);
    assert!(external.must_wait(own(1), now), "it is not sent yet");
    external.mark_sent(0, now);
    assert!(external.must_wait(own(1), now + STALE - millis(1)));
    assert!(!external.must_wait(own(1), now + STALE));
    external.take(1);
    external.mark_sent(1, now + STALE);
    assert!(!external.must_wait(own(2), now + STALE), "one wait is enough");
    external.finish(1, WINDOW, now + STALE);
    external.finish(0, WINDOW, now + STALE);
    external.take(2);
    assert!(!external.must_wait(own(3), now + STALE), "no others are active");
    external.release(2);
}

#[test]
fn calls_wait_for_a_response_when_too_many_may_have_been_made_since_the_last() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    // Others have 40 of 100 calls, this replica 30: of the 30 left it may use 12 at once.
    observe(&mut external, 0, 41, 1, now);
    for slot in 1..13 {
        assert!(!external.must_wait(own(30), now), "{slot}");
        external.take(slot);
    }
    assert!(external.must_wait(own(30), now));
    external.release(12);
    assert!(!external.must_wait(own(30), now));
    // An old observation justifies one call only.
    assert!(external.must_wait(own(30), now + FRESH));
    assert!(!external.must_wait(own(30), now + FRESH - millis(1)));
}

#[test]
fn no_call_waits_while_the_limit_is_far() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    let own = OwnUsage { size: 100_000, window: WINDOW, used: 1 };
    observe(&mut external, 0, 41, 1, now);
    assert!(external.is_active(now));
    let later = now + millis(4_000);
    for slot in 1..190 {
        assert!(!external.must_wait(own, later), "{slot}");
        external.take(slot);
    }
    // In ten seconds other clients can have used all of it.
    assert!(external.must_wait(own, now + WINDOW - millis(1)));
}

#[test]
fn a_slow_response_holds_for_twice_its_latency_up_to_a_second() {
    for (latency, holds) in [(10, 250), (200, 400), (900, 1_000)] {
        let now = Instant::now() + Duration::from_secs(5);
        let mut external = ExternalUsage::default();
        external.take(0);
        external.mark_sent(0, now - millis(latency));
        external.observe(41, 1, 0, WINDOW, now);
        external.finish(0, WINDOW, now);
        external.take(1);
        assert!(!external.must_wait(own(30), now + millis(holds) - millis(1)), "{latency}");
        assert!(external.must_wait(own(30), now + millis(holds)), "{latency}");
    }
}

#[test]
fn with_nothing_left_a_call_waits_for_a_second() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 100, 1, now);
    assert!(external.must_wait(own(1), now + STALE - millis(1)));
    assert!(!external.must_wait(own(1), now + STALE));
}

#[test]
fn with_two_calls_left_an_observation_gets_old_as_usual() {
    let now = Instant::now();
    let mut external = ExternalUsage::default();
    observe(&mut external, 0, 79, 1, now);
    assert!(external.must_wait(own(20), now + FRESH - millis(1)));
    assert!(!external.must_wait(own(20), now + FRESH));
}

#[test]
fn arrivals_are_kept_for_two_windows() {
    let begin = Instant::now();
    let mut external = ExternalUsage::default();
    call(&mut external, 0, begin, millis(0));
    call(&mut external, 1, begin + WINDOW * 2 - millis(1), millis(0));
    assert_eq!(external.arrivals.len(), 2);
    call(&mut external, 2, begin + WINDOW * 2, millis(0));
    assert_eq!(external.arrivals.len(), 2, "the first one has left both");
    external.take(3);
    external.finish(3, WINDOW, begin + WINDOW * 2);
    assert_eq!(external.arrivals.len(), 2, "one that was not sent never arrives");
}

#[test]
fn arrivals_are_sorted_although_responses_are_not() {
    let begin = Instant::now();
    let mut external = ExternalUsage::default();
    external.take(0);
    external.mark_sent(0, begin);
    call(&mut external, 1, begin + millis(300), millis(20));
    external.finish(0, WINDOW, begin + millis(400));
    let arrivals: Vec<Duration> = external.arrivals.iter().map(|at| *at - begin).collect();
    assert_eq!(arrivals, [millis(200), millis(310)], "halfway between request and response");
}
