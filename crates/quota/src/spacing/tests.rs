//! Due times of slots.

use super::*;

const GAP: Duration = Duration::from_millis(100);

#[test]
fn a_batch_keeps_the_spacing_on_for_a_second_and_a_single_request_does_not() {
    let now = Instant::now();
    let mut spacing = Spacing::default();
    spacing.take(1, GAP, now);
    assert!(!spacing.is_on(now));
    spacing.take(2, GAP, now);
    assert!(spacing.is_on(now + AFTER_BATCH - Duration::from_millis(1)));
    assert!(!spacing.is_on(now + AFTER_BATCH));
}

#[test]
fn each_slot_is_due_one_gap_after_the_one_before() {
    let now = Instant::now();
    let mut spacing = Spacing::default();
    assert_eq!(spacing.due(0, GAP), None);
    spacing.take(1, GAP, now);
    assert_eq!(spacing.due(0, GAP), Some(now + GAP));
    assert_eq!(spacing.due(3, GAP), Some(now + GAP * 4));
}

#[test]
fn lateness_of_less_than_half_a_gap_is_made_up_for() {
    let begin = Instant::now();
    for (late, due) in [(0, 200), (30, 200), (49, 200), (50, 250), (80, 280)] {
        let late = Duration::from_millis(late);
        let mut spacing = Spacing::default();
        spacing.take(1, GAP, begin);
        spacing.take(1, GAP, begin + GAP + late);
        let due = begin + Duration::from_millis(due);
        assert_eq!(spacing.due(0, GAP), Some(due), "{late:?} late");
    }
}

#[test]
fn an_early_slot_moves_the_next_one_forward() {
    let begin = Instant::now();
    let mut spacing = Spacing::default();
    spacing.take(1, GAP, begin);
    spacing.take(1, GAP, begin + GAP / 4);
    assert_eq!(spacing.due(0, GAP), Some(begin + GAP / 4 + GAP));
}

#[test]
fn a_slot_that_is_not_used_leaves_its_place_to_the_next_one() {
    let now = Instant::now();
    let mut spacing = Spacing::default();
    spacing.take(1, GAP, now);
    spacing.release(GAP);
    assert_eq!(spacing.due(0, GAP), Some(now));
}
