//! Limits without calls.

use super::*;

const HALF: CallerShare = CallerShare(0.5);
const ALL: CallerShare = CallerShare(1.0);

/// Acquires single items until one is rejected; returns their number and the rejection.
fn exhaust(limit: &SharedLimit, caller: &CallerUse) -> (usize, Exceeded) {
    for acquired in 0.. {
        if let Err(exceeded) = limit.try_acquire(caller, 1) {
            return (acquired, exceeded);
        }
    }
    unreachable!("a limit is finite")
}

#[test]
fn slots_are_released_with_their_guards() {
    let limit = SlotLimit::new("calls", 2);
    let held = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
    assert!(limit.try_acquire().is_none());
    assert_eq!((limit.snapshot().used, limit.snapshot().rejected), (2, 1));
    drop(held);
    assert_eq!(limit.used(), 0);
    assert!(limit.try_acquire().is_some());
}

#[test]
fn the_error_names_the_limit_and_the_retry_delay() {
    let shared = SharedLimit::new("in_flight", 8, HALF);
    for (error, text) in [
        (SlotLimit::new("in_flight", 7).overloaded("calls"), "too many concurrent calls (limit 7)"),
        (shared.overloaded(Exceeded::Total, "calls"), "too many calls (limit 8)"),
        (
            shared.overloaded(Exceeded::Share(4), "calls"),
            "too many calls of this caller (share 4 of the limit 8)",
        ),
    ] {
        assert_eq!((error.reason(), error.bucket()), (Reason::Overloaded, Some("in_flight")));
        assert_eq!(error.retry_after(), Some(RETRY_AFTER));
        assert!(error.message().contains(text), "{error}");
    }
}

#[test]
fn a_caller_alone_gets_its_maximum_and_no_more() {
    for (share, max, expected) in [
        (HALF, 100, (50, Exceeded::Share(50))),
        (HALF, 1, (1, Exceeded::Total)),
        (HALF, 3, (2, Exceeded::Share(2))),
        (CallerShare(0.25), 100, (25, Exceeded::Share(25))),
        (CallerShare(0.01), 10, (1, Exceeded::Share(1))),
        (ALL, 100, (100, Exceeded::Total)),
    ] {
        let (limit, caller) = (SharedLimit::new("calls", max, share), CallerUse::default());
        assert_eq!(exhaust(&limit, &caller), expected, "{share:?} of {max}");
        limit.release(&caller, caller.used());
        assert_eq!((limit.used(), limit.snapshot().rejected), (0, 1));
    }
}

#[test]
fn callers_that_hold_much_give_way_to_others() {
    let limit = SharedLimit::new("calls", 120, HALF);
    let greedy = [(); 2].map(|()| CallerUse::default());
    // Three quarters are used freely, and each of the two gets no more than a third beyond that.
    assert_eq!(exhaust(&limit, &greedy[0]), (60, Exceeded::Share(60)));
    assert_eq!(exhaust(&limit, &greedy[1]), (40, Exceeded::Share(40)));
    // There is room for a newcomer.
    let modest = CallerUse::default();
    for _ in 0..20 {
        limit.try_acquire(&modest, 1).expect("room for a newcomer");
    }
    assert_eq!(limit.used(), 120);
    // What the greedy callers release is not theirs any more.
    limit.release(&greedy[0], 5);
    assert_eq!(limit.try_acquire(&greedy[0], 1), Err(Exceeded::Share(30)));
    assert_eq!(exhaust(&limit, &modest), (5, Exceeded::Total));
    // A caller that has left has no part.
    limit.release(&modest, modest.used());
    limit.release(&greedy[1], greedy[1].used());
    assert_eq!(exhaust(&limit, &greedy[0]), (5, Exceeded::Share(60)));
}

#[test]
fn each_newcomer_gets_a_slot_while_others_are_greedy() {
    let limit = SharedLimit::new("calls", 1_000, HALF);
    let callers: Vec<_> = std::iter::repeat_with(CallerUse::default).take(200).collect();
    for (number, caller) in callers.iter().enumerate() {
        let (acquired, _) = exhaust(&limit, caller);
        assert!(acquired >= 1, "caller {number} of {}", callers.len());
        for greedy in &callers[..number] {
            // All others continue to ask.
            exhaust(&limit, greedy);
        }
        // Calls end sooner or later: each caller above its part loses one.
        for greedy in &callers[..=number] {
            if greedy.used() > limit.share(limit.max) {
                limit.release(greedy, 1);
            }
        }
    }
}

#[test]
fn a_charge_over_the_limit_blocks_others_until_it_is_released() {
    let limit = SharedLimit::new("memory", 100, ALL);
    let [one, two] = [(); 2].map(|()| CallerUse::default());
    limit.try_acquire(&one, 60).unwrap();
    limit.charge(&one, 500);
    assert_eq!(limit.try_acquire(&two, 1), Err(Exceeded::Total));
    limit.release(&one, 500);
    limit.try_acquire(&two, 30).unwrap();
    assert_eq!((one.used(), two.used(), limit.used()), (60, 30, 90));
    limit.release(&one, 60);
    limit.release(&two, 30);
    assert_eq!((limit.used(), limit.callers.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn the_largest_configurable_limit_is_accepted() {
    assert!(SlotLimit::new("connections", usize::MAX).try_acquire().is_some());
    let limit = SharedLimit::new("memory", usize::MAX, ALL);
    assert!(limit.try_acquire(&CallerUse::default(), usize::MAX / 2).is_ok());
}

#[test]
fn concurrent_use_leaves_no_trace() {
    let limit = SharedLimit::new("calls", 64, HALF);
    let callers = [(); 4].map(|()| CallerUse::default());
    std::thread::scope(|scope| {
        for caller in callers.iter().chain(&callers) {
            let limit = &limit;
            scope.spawn(move || {
                for amount in (1..8).cycle().take(20_000) {
                    if limit.try_acquire(caller, amount).is_ok() {
                        limit.release(caller, amount);
                    }
                }
            });
        }
    });
    assert_eq!((limit.used(), limit.callers.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_request_that_never_fits_is_too_large_and_has_no_time_to_retry() {
    let limit = SharedLimit::new("memory", 1_000, CallerShare(0.5));
    limit.check_request(500).unwrap();
    limit.check_response(500).unwrap();
    for (error, reason) in [
        (limit.check_request(501).unwrap_err(), Reason::RequestTooLarge),
        (limit.check_response(501).unwrap_err(), Reason::ResponseTooLarge),
    ] {
        assert_eq!((error.reason(), error.retry_after()), (reason, None));
        assert!(error.message().contains("501 bytes of memory"), "{error}");
        assert!(error.message().contains("share 500 of the limit 1000"), "{error}");
    }
    assert_eq!(limit.snapshot().rejected, 2);
}
