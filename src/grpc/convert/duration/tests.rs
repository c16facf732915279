//! Conversion of durations of requests.

use super::*;

#[test]
fn a_duration_is_accepted_unless_it_is_negative() {
    for (seconds, nanos, expected) in [
        (0, 0, Some(Duration::ZERO)),
        (10, 500_000_000, Some(Duration::from_millis(10_500))),
        (i64::MAX, i32::MAX, Some(Duration::new(i64::MAX as u64, i32::MAX as u32))),
        (-1, 0, None),
        (0, -1, None),
        (i64::MIN, i32::MIN, None),
    ] {
        let seen = from_proto(prost_types::Duration { seconds, nanos });
        assert_eq!(seen, expected, "{seconds} s, {nanos} ns");
    }
}
