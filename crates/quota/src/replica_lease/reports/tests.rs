//! Numbers and changes of slots.

use super::*;

/// Reports in order of their numbers, with whether a call was counted.
fn take(reports: &mut Reports) -> Vec<(u64, bool)> {
    let now = Instant::now();
    let offset = ClockOffset::new(now, 0, now);
    let mut all = reports.take_reports(&|slot| (slot != 99).then_some([now; 2]), offset);
    all.sort_by_key(|report| report.number);
    all.into_iter().map(|report| (report.number, report.counted.is_some())).collect()
}

#[test]
fn slot_has_the_number_of_its_permit_or_a_local_number() {
    let mut reports = Reports::default();
    assert_eq!(reports.reserve(3), 0);
    reports.take(5, Some(1));
    reports.take(6, None);
    assert_eq!(reports.reserve(1), 4, "the slot without a permit has number 3");
    for slot in [5, 6] {
        reports.mark_changed(slot);
    }
    assert_eq!(take(&mut reports), [(1, true), (3, true)]);
}

#[test]
fn changes_are_reported_once() {
    let mut reports = Reports::default();
    assert!(reports.is_empty());
    reports.take(5, None);
    assert!(reports.is_empty(), "a slot that was not sent is no news");
    reports.mark_changed(5);
    assert!(!reports.is_empty());
    take(&mut reports);
    assert!(reports.is_empty());
    reports.add_unused([7]);
    assert!(!reports.is_empty());
    assert_eq!(take(&mut reports), [(7, false)]);
    reports.mark_all_changed();
    assert_eq!(take(&mut reports), [(0, true)]);
}

#[test]
fn a_released_slot_is_not_reported_as_a_call() {
    let mut reports = Reports::default();
    reports.take(5, Some(3));
    reports.mark_changed(5);
    assert_eq!(reports.release(5), Some(3));
    assert_eq!(reports.release(5), None);
    assert!(reports.is_empty());
}

#[test]
fn a_slot_that_left_the_window_is_not_reported() {
    let mut reports = Reports::default();
    reports.take(99, None);
    reports.mark_changed(99);
    reports.mark_changed(100);
    assert_eq!(take(&mut reports), []);
}

#[test]
fn discarded_changes_are_not_reported() {
    let mut reports = Reports::default();
    reports.take(5, None);
    reports.mark_changed(5);
    reports.add_unused([7]);
    reports.discard();
    assert!(reports.is_empty());
}

#[test]
fn slots_that_left_the_window_are_forgotten_unless_they_have_to_be_reported() {
    let mut reports = Reports::default();
    for slot in 1..=64 {
        reports.take(slot, None);
    }
    reports.mark_changed(3);
    reports.forget_before(5);
    assert_eq!(reports.numbers.len(), 64, "only now and then");
    reports.take(65, None);
    reports.forget_before(5);
    assert_eq!(reports.numbers.len(), 62, "5 to 65, and the changed one");
    assert!(reports.numbers.contains_key(&5) && reports.numbers.contains_key(&3));
    let mut few = Reports::default();
    few.take(1, None);
    few.forget_before(64);
    assert_eq!(few.numbers.len(), 0, "each 64th slot looks for them too");
}
