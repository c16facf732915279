//! Bounds of single events and summaries.

use std::net::Ipv4Addr;

use super::*;

fn address(number: u32) -> Origin {
    Origin::new(None, RemotePeer::Address(Ipv4Addr::from_bits(number).into()))
}

/// Refuses `calls` of an origin; returns how many are logged by themselves.
fn refuse(log: &CallLogLimit, origin: &Origin, reason: &'static str, calls: u32) -> u32 {
    let logged = (0..calls).filter(|_| log.admit(origin.clone(), reason)).count();
    u32::try_from(logged).unwrap()
}

fn summaries(log: &CallLogLimit) -> Vec<(Option<Origin>, String)> {
    let all = log.take_summaries();
    all.into_iter().map(|summary| (summary.origin, summary.counts.format())).collect()
}

#[test]
fn the_first_refusals_are_logged_and_further_ones_are_summarised() {
    let log = CallLogLimit::new(LimitedEvents::RefusedCalls);
    let (greedy, modest) = (address(1), address(2));
    assert_eq!(refuse(&log, &greedy, "UNAUTHENTICATED", 1_000), SINGLE_REFUSALS[0]);
    assert_eq!(refuse(&log, &greedy, "OVERLOADED", 2), 0);
    assert_eq!(refuse(&log, &modest, "UNAUTHENTICATED", 2), 2);
    let counts = "OVERLOADED=2 UNAUTHENTICATED=995".to_owned();
    assert_eq!(summaries(&log), [(Some(greedy.clone()), counts)]);
    // A flood that continues is only summarised.
    assert_eq!(refuse(&log, &greedy, "UNAUTHENTICATED", 100), 0);
    let counts = "UNAUTHENTICATED=100".to_owned();
    assert_eq!(summaries(&log), [(Some(greedy.clone()), counts)]);
    // After a silent interval, the origin is new.
    assert_eq!(summaries(&log), []);
    assert_eq!(refuse(&log, &greedy, "UNAUTHENTICATED", 100), SINGLE_REFUSALS[0]);
}

#[test]
fn many_origins_cause_a_bounded_number_of_lines_and_every_call_is_counted() {
    let log = CallLogLimit::new(LimitedEvents::RefusedCalls);
    let origins = u32::try_from(MAX_ORIGINS).unwrap() + 500;
    let logged: u32 =
        (0..origins).map(|number| refuse(&log, &address(number), "UNAUTHENTICATED", 7)).sum();
    assert_eq!(logged, SINGLE_REFUSALS[1]);
    assert_eq!(log.calls.lock().origins.len(), MAX_ORIGINS);
    let summaries = log.take_summaries();
    assert_eq!(summaries.len(), MAX_SUMMARIES + 1);
    let summarised: u64 = summaries.iter().map(|summary| summary.counts.total()).sum();
    assert_eq!(summarised + u64::from(logged), u64::from(origins) * 7);
    assert_eq!(summaries.last().unwrap().origin, None);
}

#[test]
fn an_origin_is_an_authenticated_caller_or_a_network() {
    let origin = |caller: Option<&Caller>, peer: &str| {
        Origin::new(caller, RemotePeer::Address(peer.parse().unwrap()))
    };
    assert_eq!(origin(None, "2001:db8::1"), origin(None, "2001:db8::2:3:4:5"));
    assert_ne!(origin(None, "2001:db8::1"), origin(None, "2001:db8:0:1::1"));
    assert_eq!(origin(None, "::ffff:192.0.2.1"), origin(None, "192.0.2.1"));
    assert_ne!(origin(None, "192.0.2.1"), origin(None, "192.0.2.2"));
    let known = Caller::authenticated("shop", 1);
    assert_eq!(origin(Some(&known), "192.0.2.1"), origin(Some(&known), "192.0.2.2"));
    // A client can send another name with each call.
    let (a, b) = (Caller::new("a"), Caller::new("b"));
    assert_eq!(origin(Some(&a), "192.0.2.1"), origin(Some(&b), "192.0.2.1"));
}

#[test]
fn an_origin_has_its_part_of_a_log_that_is_behind_in_each_interval() {
    let log = CallLogLimit::new(LimitedEvents::Calls);
    let (greedy, modest) = (address(1), address(2));
    let [single, all] = SINGLE_CALLS;
    for _ in 0..3 {
        assert_eq!(refuse(&log, &greedy, "OK", 5_000), single);
        assert_eq!(refuse(&log, &modest, "OK", single), single);
        let counts = format!("OK={}", 5_000 - single);
        assert_eq!(summaries(&log), [(Some(greedy.clone()), counts)]);
    }
    let many: u32 = (3..100).map(|number| refuse(&log, &address(number), "OK", single)).sum();
    assert_eq!(many, all);
}
