//! How the ledger's clock stands to ours.
//!
//! An answer was given between when it was asked for and when it was here. Each exchange narrows down
//! how far apart the clocks are, and the quickest of them by the most: scheduling delays of others do
//! not count.

use std::time::Duration;

use tokio::time::Instant;

use super::ledger::LedgerInstant;

/// Most by which two clocks drift apart: a thousandth of a second in ten. What was learned gets so
/// much less exact with time.
const DRIFT: u32 = 10_000;

/// Bounds of the ledger's time when ours was `origin`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skew {
    origin: Instant,
    earliest: LedgerInstant,
    latest: LedgerInstant,
    learned: Instant,
}

// === impl Skew ===

impl Skew {
    /// From one exchange: asked at `since`, answered with `stamp`, here at `now`.
    pub(super) fn new(since: Instant, stamp: LedgerInstant, now: Instant) -> Self {
        let took = micros(now.saturating_duration_since(since));
        Self { origin: since, earliest: stamp - took, latest: stamp, learned: now }
    }

    /// Takes another exchange into account. A clock that was set counts from here on.
    pub(super) fn learn(&mut self, since: Instant, stamp: LedgerInstant, now: Instant) {
        let blur = micros(now.saturating_duration_since(self.learned) / DRIFT);
        let earliest = stamp - micros(now.saturating_duration_since(self.origin));
        let latest = stamp - micros(since.saturating_duration_since(self.origin));
        let earliest = earliest.max(self.earliest - blur);
        let latest = latest.min(self.latest + blur);
        *self = if earliest <= latest {
            Self { origin: self.origin, earliest, latest, learned: now }
        } else {
            Self::new(since, stamp, now)
        };
    }

    /// The ledger's time at ours, rather too late.
    pub(super) fn theirs(&self, ours: Instant) -> LedgerInstant {
        let after = micros(ours.saturating_duration_since(self.origin));
        let before = micros(self.origin.saturating_duration_since(ours));
        self.latest + after - before
    }

    /// Our time at the ledger's, rather too late.
    pub(super) fn ours(&self, theirs: LedgerInstant) -> Instant {
        let after = theirs.saturating_sub(self.earliest);
        match u64::try_from(after) {
            Ok(after) => self.origin + Duration::from_micros(after),
            Err(_) => {
                let before = Duration::from_micros(after.unsigned_abs());
                self.origin.checked_sub(before).unwrap_or(self.origin)
            }
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_true_time_is_never_later_than_what_is_made_of_it_and_soon_close(
            offset in -1_000_000_i64..1_000_000,
            ways in prop::collection::vec((0..50_000_u64, 0..50_000_u64), 1..50),
        ) {
            let origin = Instant::now() + Duration::from_secs(100);
            let theirs = |ours: Instant| micros(ours - origin) + offset;
            let mut skew: Option<Skew> = None;
            let mut at = origin;
            let mut quickest = u64::MAX;
            for (there, back) in ways {
                let since = at;
                let stamp = theirs(since + Duration::from_micros(there));
                let now = since + Duration::from_micros(there + back);
                match skew.as_mut() {
                    Some(skew) => skew.learn(since, stamp, now),
                    None => skew = Some(Skew::new(since, stamp, now)),
                }
                quickest = quickest.min(there + back);
                at = now + Duration::from_millis(10);
            }
            let skew = skew.unwrap();
            let blur = micros(at - origin) / i64::from(DRIFT) + 60;
            let late = skew.theirs(at) - theirs(at);
            prop_assert!((0..=i64::try_from(quickest).unwrap() + blur).contains(&late), "{late}");
            let ours = skew.ours(theirs(at));
            prop_assert!(ours >= at && ours - at <= Duration::from_micros(quickest + 1_000));
        }
    }
}
