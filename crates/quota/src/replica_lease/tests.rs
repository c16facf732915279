//! One replica's exchanges, without a ledger.

use async_trait::async_trait;

use super::*;
use crate::ledger::{Ledger, LimitKey, TENTHS, Unavailable};

const PARAMETERS: LimitParameters = LimitParameters {
    size: 190,
    window: Duration::from_secs(10),
    paced: true,
    transit: [Duration::from_millis(250), Duration::from_millis(25)],
    spread: false,
};
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct NoLedger;

#[async_trait]
impl Ledger for NoLedger {
    async fn exchange(&self, _: &LimitKey, _: &ExchangeRequest) -> Result<Grant, Unavailable> {
        Err(Unavailable(String::new()))
    }
}

/// A lease whose ledger's clock began at `start`.
struct Story {
    lease: ReplicaLease,
    start: Instant,
    now: Instant,
}

impl Story {
    fn begin() -> Self {
        let start = Instant::now();
        let config = LedgerConfig::new(Arc::new(NoLedger), "replica", 3);
        Self { lease: ReplicaLease::new(&config, start), start, now: start }
    }

    /// A lease that the ledger grants permits to.
    fn live() -> Self {
        let mut story = Self::begin();
        for _ in 0..5 {
            let request = story.request(1).expect("an exchange");
            story.grant(&request, &[]);
            story.now += SECOND;
        }
        assert!(story.lease.is_live());
        story
    }

    fn request(&mut self, demand: usize) -> Option<ExchangeRequest> {
        self.demand(Demand::Permits(demand))
    }

    fn demand(&mut self, demand: Demand) -> Option<ExchangeRequest> {
        let now = self.now;
        self.lease.exchange_request(demand, PARAMETERS, &|_| Some([now; 2]), now)
    }

    /// The ledger grants permits that become valid after these times.
    fn grant(&mut self, request: &ExchangeRequest, after: &[Duration]) {
        let now = self.ledger_time();
        let permits = after.iter().map(|after| now + micros(*after)).collect();
        self.respond(request, Grant { permits, ..grant(now) });
    }

    fn respond(&mut self, request: &ExchangeRequest, grant: Grant) {
        self.lease.on_grant(request, &grant, self.now, self.now);
    }

    fn ledger_time(&self) -> i64 {
        micros(self.now - self.start)
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

fn grant(now: i64) -> Grant {
    Grant {
        now,
        permits: Vec::new(),
        next: now,
        used: 0,
        used_in_second: 0,
        learned: [None; 2],
        leaving: [0; TENTHS],
        size: 190,
        window: Duration::from_secs(10),
        closed: Duration::ZERO,
        replicas: 2,
        live_others: 0,
        oldest: 0,
        warming: false,
    }
}

#[test]
fn a_replica_joins_with_its_first_request_and_asks_for_permits_once_it_is_live() {
    let mut story = Story::begin();
    assert_eq!(story.request(0), None, "it does not use the limit");
    assert!(story.lease.is_starting() && !story.lease.is_unavailable());
    let request = story.request(2).expect("it joins");
    assert_eq!((request.want, request.spare, request.detached), (0, 0, false));
    story.grant(&request, &[]);
    assert!(!story.lease.is_starting() && !story.lease.is_live());
    let request = story.request(2).expect("it reports");
    assert!(request.detached, "it may make calls without a grant");
    let story = Story::live();
    assert!(!story.lease.is_unavailable());
}

#[test]
fn the_expected_number_of_replicas_counts_until_the_ledger_is_live() {
    let mut story = Story::begin();
    assert_eq!(story.lease.replicas(), 3);
    let request = story.request(1).expect("it joins");
    story.respond(&request, Grant { replicas: 1, ..grant(0) });
    assert_eq!(story.lease.replicas(), 3, "not all may have come back");
    assert_eq!(Story::live().lease.replicas(), 2);
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    let now = story.ledger_time();
    story.respond(&request, Grant { replicas: 0, oldest: 17, ..grant(now) });
    assert_eq!((story.lease.replicas(), story.lease.oldest()), (1, 17));
}

#[test]
fn at_most_four_permits_are_wanted_less_those_in_stock() {
    let mut story = Story::live();
    let request = story.request(9).expect("a request");
    assert_eq!((request.want, request.spare, request.ahead), (4, 0, true));
    assert!(!request.detached && !request.leave);
    story.grant(&request, &[Duration::ZERO; 2]);
    let request = story.request(9).expect("a request");
    assert_eq!((request.want, request.ahead), (4, false));
    let first = request.first;
    let request = story.request(3).expect("a request");
    assert_eq!((request.want, request.first), (1, first + 4));
    assert_eq!(story.request(2), None, "both are in stock");
}

#[test]
fn a_busy_replica_asks_for_one_spare_permit() {
    let mut story = Story::live();
    story.lease.take(0, story.now);
    let request = story.request(0).expect("a request");
    assert_eq!((request.want, request.spare), (0, 1));
    story.grant(&request, &[Duration::ZERO]);
    assert_eq!(story.request(0), None, "it is in stock");
    story.now += SPARE_HOLD;
    let request = story.request(0).expect("the heartbeat");
    let unused: Vec<u64> = request.slots.iter().map(|slot| slot.number).collect();
    assert_eq!(unused.len(), 1, "the spare permit is returned");
    assert_eq!(request.spare, 0, "it is not busy any more");
}

#[test]
fn a_wanted_permit_is_returned_earlier_than_a_spare_one() {
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    story.grant(&request, &[Duration::ZERO]);
    story.now += HOLD - MILLI;
    story.lease.expire(story.now);
    assert!(!story.lease.is_empty());
    story.now += MILLI;
    story.lease.expire(story.now);
    assert!(story.lease.is_empty());
}

#[test]
fn no_permit_is_asked_for_while_one_of_later_is_in_stock() {
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    story.grant(&request, &[SECOND]);
    assert_eq!(story.request(5), None);
    assert_eq!(story.lease.opens(0, MILLI, story.now), story.now + SECOND);
}

#[test]
fn an_empty_grant_is_not_asked_for_again_before_its_time() {
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    let now = story.ledger_time();
    story.respond(&request, Grant { next: now + 2_100_000, ..grant(now) });
    assert_eq!(story.request(1), None);
    story.now += MILLI * 99;
    assert_eq!(story.request(1), None);
    assert_eq!(story.lease.next_exchange(1, story.now), Some(story.now + MILLI));
    story.now += MILLI;
    assert!(story.request(1).is_some(), "two seconds ahead of the next permit");
    let request = story.request(1).expect("a request");
    story.grant(&request, &[]);
    story.now += MIN_PAUSE - MILLI;
    assert_eq!(story.request(1), None, "a pause even if one was expected at once");
    story.now += MILLI;
    assert!(story.request(1).is_some());
}

#[test]
fn an_empty_grant_with_permits_in_stock_waits_for_the_next_one() {
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    story.grant(&request, &[Duration::ZERO]);
    let request = story.request(2).expect("a request");
    let now = story.ledger_time();
    story.respond(&request, Grant { next: now + 60_000, ..grant(now) });
    story.now += MILLI * 59;
    assert_eq!(story.request(2), None);
    story.now += MILLI;
    assert!(story.request(2).is_some());
}

#[test]
fn an_empty_grant_of_a_spare_permit_does_not_keep_a_wanted_one_waiting() {
    let mut story = Story::live();
    story.lease.take(0, story.now);
    let request = story.request(0).expect("a request");
    story.grant(&request, &[]);
    assert_eq!(story.request(0), None);
    assert!(story.request(1).is_some());
}

#[test]
fn slots_are_reported_with_their_changes_and_unused_ones_are_returned() {
    let mut story = Story::live();
    let request = story.request(2).expect("a request");
    story.grant(&request, &[Duration::ZERO; 2]);
    for slot in [0, 1] {
        story.lease.take(slot, story.now);
    }
    story.lease.mark_changed(0);
    story.lease.release(1);
    let reported = story.request(0).expect("news").slots;
    assert_eq!(reported.len(), 2);
    assert_eq!((reported[0].number, reported[1].number), (request.first, request.first + 1));
    assert_eq!((reported[0].counted.is_some(), reported[1].counted), (true, None));
}

#[test]
fn a_limit_is_reported_with_defaults_for_what_a_response_leaves_out() {
    let mut story = Story::live();
    let request = story.request(1).expect("a request");
    story.grant(&request, &[Duration::ZERO]);
    story.lease.observe(ObservedLimit::default(), 7, PARAMETERS);
    assert_eq!(story.request(0), None, "nothing was announced");
    let limit = ObservedLimit { remaining: Some(100), ..ObservedLimit::default() };
    story.lease.observe(limit, 7, PARAMETERS);
    let observed = story.request(0).expect("news").observed.expect("an observation");
    assert_eq!((observed.size, observed.window), (190, PARAMETERS.window));
    assert_eq!((observed.used, observed.oldest), (90, 7));
}

#[test]
fn a_429_is_reported_until_an_exchange_has_carried_it() {
    let mut story = Story::live();
    story.lease.close(story.now + SECOND * 3);
    story.lease.close(story.now + SECOND * 2);
    let request = story.request(0).expect("news");
    assert_eq!(request.close, Some(SECOND * 3), "the later one");
    story.lease.on_unavailable(story.now);
    story.now += SECOND;
    let request = story.request(1).expect("another attempt");
    assert_eq!(request.close, Some(SECOND * 2));
    story.grant(&request, &[]);
    let request = story.request(1).expect("all slots");
    assert_eq!(request.close, None);
    story.lease.close(story.now);
    let request = story.request(0).expect("news");
    assert_eq!(request.close, None, "it is over");
}

#[test]
fn an_unavailable_ledger_is_tried_again_and_then_told_everything() {
    let mut story = Story::live();
    let request = story.request(2).expect("a request");
    story.grant(&request, &[Duration::ZERO; 2]);
    story.lease.take(0, story.now);
    story.lease.on_unavailable(story.now);
    assert!(story.lease.is_unavailable() && story.lease.is_empty());
    assert_eq!(story.request(1), None, "a pause");
    story.lease.mark_changed(0);
    story.lease.take(1, story.now);
    story.lease.release(1);
    let retry_at = story.lease.next_exchange(1, story.now).expect("another attempt");
    assert!(retry_at > story.now);
    story.now = retry_at;
    let request = story.request(1).expect("another attempt");
    assert_eq!((request.slots.len(), request.detached), (0, true), "its clock is not known");
    story.grant(&request, &[]);
    assert_eq!(story.lease.next_exchange(0, story.now), Some(story.now), "at once");
    let request = story.request(0).expect("all slots");
    assert_eq!(request.slots.len(), 1);
}

#[test]
fn slots_that_left_the_window_are_not_reported_to_a_ledger_that_is_back() {
    let mut story = Story::live();
    for slot in 0..=64 {
        story.lease.take(slot, story.now);
    }
    story.lease.forget_before(64);
    story.lease.on_unavailable(story.now);
    story.now += SECOND;
    let request = story.request(1).expect("another attempt");
    story.grant(&request, &[]);
    assert_eq!(story.request(1).expect("all slots").slots.len(), 1);
}

#[test]
fn a_replica_that_stops_using_a_limit_leaves_it() {
    let mut story = Story::live();
    let wake = story.lease.next_exchange(0, story.now).expect("a heartbeat");
    assert!(wake <= story.now + HEARTBEAT);
    story.now += SECOND * 31;
    let request = story.request(0).expect("it leaves");
    assert!(request.leave);
    story.grant(&request, &[]);
    assert_eq!(story.request(0), None);
    assert_eq!(story.lease.next_exchange(0, story.now), None);
    assert_eq!(story.demand(Demand::Leave), None, "it has left");
    story.lease.close(story.now + SECOND);
    assert_eq!(story.request(0), None, "news are not for one who has left");
}

#[test]
fn a_process_that_ends_leaves_and_returns_its_permits() {
    let mut story = Story::live();
    let request = story.request(2).expect("a request");
    story.grant(&request, &[Duration::ZERO; 2]);
    let request = story.demand(Demand::Leave).expect("it leaves");
    assert_eq!((request.leave, request.want, request.slots.len()), (true, 0, 2));
    assert!(story.lease.is_empty());
}
