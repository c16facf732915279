//! Calls of other clients leave the window.

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn counted_calls_leave_the_window_evenly() {
    let now = Instant::now();
    let usage = RemoteUsage::counted(50, now);
    for (after, left) in [(0, 50), (1, 45), (5, 25), (10, 0), (20, 0)] {
        assert_eq!(usage.in_window(WINDOW, now + second(after)), left, "after {after} s");
    }
}

#[test]
fn reported_calls_leave_the_window_by_tenths() {
    let now = Instant::now();
    let usage = RemoteUsage::reported([1, 2, 4, 8, 16, 32, 64, 128, 256, 512], now);
    for (after, left) in [(0, 1_023), (1, 1_022), (2, 1_020), (9, 512), (10, 0), (60, 0)] {
        assert_eq!(usage.in_window(WINDOW, now + second(after)), left, "after {after} s");
    }
    let almost = now + Duration::from_millis(999);
    assert_eq!(usage.in_window(WINDOW, almost), 1_023, "the first tenth is not over");
}

#[test]
fn unreported_calls_are_the_whole_limit_since_the_report_and_one_for_each_replica() {
    let now = Instant::now();
    let mut usage = RemoteUsage::reported([0; TENTHS], now);
    usage.add_unreported(200, WINDOW, 3, second(1), now + second(2));
    assert_eq!(usage.in_window(WINDOW, now), 200 * 3 / 10 + 3);
    assert_eq!(usage.in_window(WINDOW, now + second(9)), 63, "they are in the last tenth");
}

#[test]
fn counted_calls_include_what_a_report_would_not() {
    let now = Instant::now();
    let mut usage = RemoteUsage::counted(10, now);
    usage.add_unreported(200, WINDOW, 3, second(1), now);
    assert_eq!(usage.in_window(WINDOW, now), 10);
}
