//! Times of the last use.

use super::*;

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_limit_is_in_use_for_thirty_seconds_after_a_call_or_a_waiting_request() {
    let now = Instant::now();
    let used = [
        Activity { taken: Some(now), ..Activity::default() },
        Activity { wanted: Some(now), ..Activity::default() },
        Activity { taken: Some(now), wanted: now.checked_sub(MILLI), ..Activity::default() },
    ];
    for mut activity in used {
        assert!(activity.is_active(0, now + IDLE_TIME - MILLI), "{activity:?}");
        assert!(!activity.is_active(0, now + IDLE_TIME), "{activity:?}");
        assert!(activity.is_active(1, now + IDLE_TIME), "{activity:?}");
        activity.stop();
        assert!(!activity.is_active(0, now), "{activity:?}");
    }
    assert!(!Activity::default().is_active(0, now));
}

#[test]
fn another_call_is_expected_within_a_second() {
    let now = Instant::now();
    let activity = Activity { taken: Some(now), ..Activity::default() };
    assert!(activity.is_busy(now + BUSY_TIME - MILLI));
    assert!(!activity.is_busy(now + BUSY_TIME));
    assert!(!Activity::default().is_busy(now));
}

#[test]
fn a_heartbeat_is_due_an_interval_after_the_last_exchange() {
    let now = Instant::now();
    assert_eq!(Activity::default().heartbeat(now), now);
    let activity = Activity { exchanged: Some(now), ..Activity::default() };
    assert_eq!(activity.heartbeat(now + MILLI), now + HEARTBEAT);
}
