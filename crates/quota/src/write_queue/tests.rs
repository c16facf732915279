//! Counters of the write queue.

use super::*;

#[test]
fn a_snapshot_shows_what_was_counted() {
    let stats = WriteQueueStats::default();
    assert_eq!(stats.snapshot(), WriteQueueSnapshot::default());
    stats.set_waiting(5);
    stats.count_deadline();
    stats.count_queue_full();
    stats.count_queue_full();
    let expected = WriteQueueSnapshot { waiting: 5, deadline: 1, queue_full: 2 };
    assert_eq!(stats.snapshot(), expected);
}
