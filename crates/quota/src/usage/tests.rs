//! Parts of permits by caller.

use super::*;

fn parts(usage: &Usage) -> Vec<(&str, f64)> {
    usage.parts().map(|(caller, part)| (caller.as_str(), part)).collect()
}

#[test]
fn a_single_request_is_a_whole_permit_and_members_of_a_batch_are_parts() {
    let mut usage = Usage::default();
    usage.record(0, Users::Single(Caller::new("a")));
    usage.record(1, Users::Batch(vec![(Caller::new("b"), 3), (Caller::new("a"), 1)]));
    assert_eq!(parts(&usage), [("a", 1.0), ("b", 0.75), ("a", 0.25)]);
}

#[test]
fn slots_are_removed_by_number_and_by_age() {
    let mut usage = Usage::default();
    for (slot, name) in [(4, "a"), (5, "b"), (6, "c"), (7, "d")] {
        usage.record(slot, Users::Single(Caller::new(name)));
    }
    usage.remove(6);
    usage.expire(5);
    assert_eq!(parts(&usage), [("b", 1.0), ("d", 1.0)]);
}
