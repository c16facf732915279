//! Slots of one window.

use super::*;

const LENGTH: Duration = Duration::from_secs(10);
const TRANSIT: Duration = Duration::from_millis(100);
const MILLI: Duration = Duration::from_millis(1);

fn window() -> Window {
    Window::new(LENGTH, TRANSIT)
}

#[test]
fn a_slot_counts_from_its_response_for_one_window() {
    let now = Instant::now();
    let mut window = window();
    let slot = window.take();
    window.mark_sent(slot, now);
    window.finish(slot, now + TRANSIT / 2);
    window.expire(now + TRANSIT / 2 + LENGTH - MILLI);
    assert_eq!(window.used(), 1);
    window.expire(now + TRANSIT / 2 + LENGTH);
    assert_eq!((window.used(), window.first(), window.next()), (0, 1, 1));
}

#[test]
fn a_slow_response_holds_a_slot_no_longer_than_the_transit_time() {
    let now = Instant::now();
    let mut window = window();
    let slot = window.take();
    window.mark_sent(slot, now);
    window.finish(slot, now + TRANSIT * 5);
    assert_eq!(window.counted_at(slot, now), Some(now + TRANSIT));
    window.expire(now + TRANSIT + LENGTH);
    assert_eq!(window.used(), 0);
}

#[test]
fn a_slot_that_ends_unsent_counts_from_its_end() {
    let now = Instant::now();
    let mut window = window();
    let slot = window.take();
    window.finish(slot, now);
    assert_eq!(window.counted_at(slot, now), Some(now));
}

#[test]
fn a_released_slot_does_not_count_and_stays_released() {
    let now = Instant::now();
    let mut window = window();
    let (first, second) = (window.take(), window.take());
    window.release(first);
    window.release(first);
    window.finish(first, now);
    assert_eq!((window.used(), window.counted_at(first, now)), (1, None));
    assert_eq!(window.counted_at(second, now), Some(now + TRANSIT));
    window.expire(now);
    assert_eq!((window.first(), window.next()), (1, 2));
    window.release(first);
    assert_eq!(window.counted_at(first, now), None, "it is gone");
}

#[test]
fn slots_leave_the_window_by_tenths() {
    let now = Instant::now();
    let mut window = window();
    let slots: Vec<u64> = (0..4).map(|_| window.take()).collect();
    window.finish(slots[0], now - LENGTH + MILLI);
    window.finish(slots[1], now - Duration::from_millis(4_500));
    window.release(slots[3]);
    let mut expected = [0; TENTHS];
    (expected[0], expected[5], expected[9]) = (1, 1, 1);
    assert_eq!(window.leaving(now), expected, "the third one is held");
}

#[test]
fn a_window_opens_when_enough_slots_have_left_it() {
    let now = Instant::now();
    let mut window = window();
    assert_eq!(window.opens(2, 1, now), now);
    assert_eq!(window.opens(2, 2, now), now + LENGTH + TRANSIT, "a whole window is ahead");
    let slots: Vec<u64> = (0..3).map(|_| window.take()).collect();
    window.release(slots[1]);
    window.finish(slots[0], now - Duration::from_secs(3));
    assert_eq!(window.opens(3, 0, now), now);
    let first = now + Duration::from_secs(7);
    assert_eq!(window.opens(2, 0, now), first);
    assert_eq!(window.opens(3, 1, now), first);
    let held = now + TRANSIT + LENGTH;
    assert_eq!(window.opens(2, 1, now), held, "the other slot is held");
    assert_eq!(window.opens(2, 2, now), first + LENGTH + TRANSIT, "a whole window is ahead");
    assert_eq!(window.opens(0, 0, now), held, "a limit of nothing is one");
}

#[test]
fn a_slot_that_should_have_left_opens_the_window_now() {
    let now = Instant::now();
    let mut window = window();
    let slot = window.take();
    window.finish(slot, now - LENGTH * 2);
    assert_eq!(window.opens(1, 0, now), now);
}

#[test]
fn a_new_length_counts_for_calls_that_end_from_now_on() {
    let now = Instant::now();
    let mut window = window();
    let (first, second) = (window.take(), window.take());
    window.finish(first, now);
    window.set_length(LENGTH * 2);
    window.finish(second, now);
    assert_eq!(window.length(), LENGTH * 2);
    window.expire(now + LENGTH);
    assert_eq!(window.used(), 1);
    window.expire(now + LENGTH * 2 - MILLI);
    assert_eq!(window.used(), 1);
    window.expire(now + LENGTH * 2);
    assert_eq!(window.used(), 0);
}
