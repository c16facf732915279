//! Permits in stock.

use super::*;

const MILLI: Duration = Duration::from_millis(1);
const GAP: Duration = Duration::from_millis(50);

/// A stock of permits that become valid after these milliseconds, each for 100 ms.
fn stock(from: &[u64], now: Instant) -> Stock {
    let mut stock = Stock::new(now);
    for (number, from) in (10..).zip(from) {
        let from = now + MILLI * u32::try_from(*from).unwrap();
        stock.push(LeasedPermit { number, from, until: from + MILLI * 100 });
    }
    stock
}

#[test]
fn permits_are_used_in_order() {
    let mut stock = stock(&[0, 5], Instant::now());
    assert_eq!((stock.len(), stock.is_empty()), (2, false));
    assert_eq!([stock.pop(), stock.pop(), stock.pop()], [Some(10), Some(11), None]);
    assert_eq!((stock.len(), stock.is_empty()), (0, true));
}

#[test]
fn a_permit_that_was_kept_for_too_long_expires() {
    let now = Instant::now();
    let mut stock = stock(&[0, 5], now);
    assert_eq!(stock.expires(), Some(now + MILLI * 100));
    assert_eq!(stock.pop_expired(now + MILLI * 99), None);
    assert_eq!(stock.pop_expired(now + MILLI * 100), Some(10));
    assert_eq!(stock.pop_expired(now + MILLI * 100), None);
    assert_eq!(stock.drain().collect::<Vec<_>>(), [11]);
    assert_eq!(stock.expires(), None);
}

#[test]
fn permits_in_stock_open_when_they_become_valid() {
    let now = Instant::now();
    let stock = stock(&[0, 5], now);
    assert_eq!(stock.opens(0, GAP, now + MILLI), now + MILLI);
    assert_eq!(stock.opens(1, GAP, now + MILLI), now + MILLI * 5);
}

#[test]
fn permits_beyond_the_stock_open_one_gap_after_the_other() {
    let now = Instant::now();
    let mut stock = stock(&[0, 30], now);
    assert_eq!(stock.opens(2, GAP, now), now + MILLI * 80, "one gap after the last");
    assert_eq!(stock.opens(4, GAP, now), now + MILLI * 180);
    stock.set_next(now + MILLI * 500);
    assert_eq!(stock.opens(2, GAP, now), now + MILLI * 500, "not before the ledger has one");
    let empty = Stock::new(now);
    assert_eq!(empty.opens(0, GAP, now), now + ALMOST_NOW, "never now");
    assert_eq!(empty.opens(3, GAP, now), now + ALMOST_NOW + GAP * 3);
}

#[test]
fn a_last_permit_of_later_means_that_the_ledger_has_none_now() {
    let now = Instant::now();
    assert!(!Stock::new(now).ends_later(now));
    assert!(stock(&[0, 5], now).ends_later(now));
    assert!(!stock(&[0, 5], now).ends_later(now + MILLI * 5));
}
