//! When to do what: pure functions from facts and a roll of the dice to a duration.
//!
//! `roll` is always in `[0, 1)`. It spreads portals and replicas, which would otherwise all refresh
//! in the same second after a common start.

use std::time::Duration;

/// No two grants of a portal are sent closer together than this, whatever asks for them. Guards
/// against a busy loop when tokens live for a second or each new one is reported as expired.
pub(super) const GRANT_FLOOR: Duration = Duration::from_secs(1);

/// A report that a token has expired is believed at once, unless the token is younger than this:
/// then one of the two clocks is wrong, and refreshing faster would not help.
pub(super) const REPORT_FLOOR: Duration = Duration::from_secs(5);

/// How long "the store has no other token" answers further reports about the same token.
pub(super) const VERDICT_HOLDS: Duration = Duration::from_secs(10);

/// A look at the store that is younger than this need not be repeated before a refresh.
pub(super) const RECENT: Duration = Duration::from_secs(5);

/// Longest plan ahead. A token that claims to live longer is refreshed daily all the same.
const LONGEST_PLAN: Duration = Duration::from_secs(24 * 3_600);

/// Longest life that is believed: keeps arithmetic on instants far from overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Life of a token whose `expires_in` is zero. The endpoint gave a token, so it is worth a try; a
/// wrong guess costs one 401, which causes a refresh.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Caps of the backoff. Together with the longest time an attempt may hang (10 s by default) both
/// stay below 30 s, within which the service must be back after an outage.
const RETRY_CAP_IDLE: Duration = Duration::from_secs(15);
const RETRY_CAP_NEEDED: Duration = Duration::from_secs(10);

/// How much of a `Retry-After` is honoured when callers have no token, and when they have one.
const ASKED_CAP_NEEDED: Duration = Duration::from_secs(20);
const ASKED_CAP_IDLE: Duration = Duration::from_secs(300);

/// How long a token lives, from what the endpoint claims.
pub(super) fn life(expires_in: Duration) -> Duration {
    if expires_in.is_zero() { UNKNOWN_LIFE } else { expires_in.min(LONGEST_LIFE) }
}

/// How long after the grant to refresh: between 2/3 and 5/6 of the life. A fraction instead of a
/// fixed margin, so that a life shorter than any margin still has a sensible plan.
pub(super) fn refresh_after(life: Duration, roll: f64) -> Duration {
    let fraction = 2.0 / 3.0 + roll / 6.0;
    life.min(LONGEST_PLAN).mul_f64(fraction).max(GRANT_FLOOR)
}

/// How long to wait after the `failures`th failure in a row. `asked` is what the other side asks
/// for; `left` is the life left in the token that callers use meanwhile, if there is one.
pub(super) fn retry_after(
    failures: u32,
    asked: Option<Duration>,
    left: Option<Duration>,
    roll: f64,
) -> Duration {
    let (cap, asked_cap) = match left {
        Some(_) => (RETRY_CAP_IDLE, ASKED_CAP_IDLE),
        None => (RETRY_CAP_NEEDED, ASKED_CAP_NEEDED),
    };
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(cap);
    let jittered = doubled.mul_f64(0.5 + roll / 2.0);
    let polite = jittered.max(asked.unwrap_or_default().min(asked_cap));
    // The last moment at which a new token still comes in time is worth an attempt.
    polite.min(left.unwrap_or(Duration::MAX)).max(FIRST_RETRY / 2)
}

/// How long after the start of one look at the secret's version to start the next. Always shorter
/// than the interval, so that a change is seen within one.
pub(super) fn poll_after(interval: Duration, roll: f64) -> Duration {
    interval.mul_f64(0.7 + roll * 0.25)
}

/// How long until a parked portal tries again by itself.
pub(super) fn heartbeat_after(heartbeat: Duration, roll: f64) -> Duration {
    heartbeat.mul_f64(0.8 + roll * 0.4)
}

/// When to look at the store again after a grant was refused, before giving the grant up. Another
/// replica may have rotated the refresh token and be about to write the new one.
pub(super) fn settle_after(looks: u32) -> Option<Duration> {
    const LOOKS: [u64; 5] = [500, 1_000, 2_000, 4_000, 8_000];
    LOOKS.get(usize::try_from(looks).ok()?).map(|&millis| Duration::from_millis(millis))
}

/// When to prove a refresh token that won a race for the store against one of ours. Soon, because
/// one of the two may be dead and the living one exists in memory only; not at once, so that several
/// losers do not race again.
pub(super) fn prove_after(roll: f64) -> Duration {
    Duration::from_secs(1) + Duration::from_secs(6).mul_f64(roll)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_plan_for_the_lives_that_occur() {
        // (life, earliest, latest), in milliseconds
        let table: [(u64, u64, u64); 6] = [
            (1_800_000, 1_200_000, 1_500_000), // HubSpot's half an hour
            (60_000, 40_000, 50_000),
            (6_000, 4_000, 5_000),
            (1_000, 1_000, 1_000), // the floor wins over the fraction
            (1, 1_000, 1_000),
            (31_536_000_000, 57_600_000, 72_000_000), // a year: refreshed daily
        ];
        for (life, earliest, latest) in table {
            let life = Duration::from_millis(life);
            let (low, high) = (refresh_after(life, 0.0), refresh_after(life, 0.999_999));
            let slack = Duration::from_millis(100);
            assert!(low.abs_diff(Duration::from_millis(earliest)) < slack, "{life:?}: {low:?}");
            assert!(high.abs_diff(Duration::from_millis(latest)) < slack, "{life:?}: {high:?}");
        }
    }

    #[test]
    fn a_life_of_zero_is_unknown_and_an_absurd_one_is_cut() {
        assert_eq!(life(Duration::ZERO), seconds(60));
        assert_eq!(life(seconds(1)), seconds(1));
        assert_eq!(life(seconds(1_800)), seconds(1_800));
        assert_eq!(life(Duration::MAX), seconds(365 * 24 * 3_600));
    }

    #[test]
    fn backoff_doubles_up_to_the_cap_of_the_situation() {
        let full = 1.0 - f64::EPSILON;
        let needed: Vec<_> =
            (1..=6).map(|n| retry_after(n, None, None, full).as_secs_f64()).collect();
        let idle: Vec<_> =
            (1..=6).map(|n| retry_after(n, None, Some(seconds(600)), full).as_secs_f64()).collect();
        for (got, want) in needed.iter().zip([1.0, 2.0, 4.0, 8.0, 10.0, 10.0]) {
            assert!((got - want).abs() < 0.001, "{needed:?}");
        }
        for (got, want) in idle.iter().zip([1.0, 2.0, 4.0, 8.0, 15.0, 15.0]) {
            assert!((got - want).abs() < 0.001, "{idle:?}");
        }
    }

    #[test]
    fn a_wish_to_wait_is_honoured_within_reason() {
        let minute = Some(seconds(60));
        assert_eq!(retry_after(1, minute, Some(seconds(900)), 0.0), seconds(60));
        assert_eq!(retry_after(1, minute, None, 0.0), seconds(20), "callers are waiting");
        assert_eq!(retry_after(1, Some(Duration::MAX), Some(seconds(900)), 0.0), seconds(300));
        assert_eq!(retry_after(1, minute, Some(seconds(7)), 0.0), seconds(7), "before it expires");
    }

    #[test]
    fn the_looks_after_a_refusal_come_to_an_end_within_a_poll_interval() {
        let looks: Vec<_> = (0..10).map_while(settle_after).collect();
        assert_eq!(looks.len(), 5);
        assert!(looks.iter().sum::<Duration>() < seconds(20));
        assert_eq!(settle_after(u32::MAX), None);
    }

    proptest! {
        #[test]
        fn a_refresh_is_planned_within_the_life_and_never_below_the_floor(
            expires_in in 0_u64..=u64::MAX, roll in 0.0_f64..1.0,
        ) {
            let life = life(Duration::from_secs(expires_in));
            let after = refresh_after(life, roll);
            prop_assert!(after >= GRANT_FLOOR);
            prop_assert!(after <= life, "{after:?} of {life:?}");
            prop_assert!(after <= seconds(24 * 3_600));
        }

        #[test]
        fn a_retry_is_never_immediate_and_always_comes_in_time(
            failures in 0_u32..=u32::MAX,
            asked in proptest::option::of(0_u64..=u64::MAX),
            left in proptest::option::of(0_u64..=u64::MAX),
            roll in 0.0_f64..1.0,
        ) {
            let asked = asked.map(Duration::from_millis);
            let left = left.map(Duration::from_millis);
            let after = retry_after(failures, asked, left, roll);
            prop_assert!(after >= Duration::from_millis(500));
            match left {
                None => prop_assert!(after <= seconds(20)),
                Some(left) => prop_assert!(
                    after <= seconds(300).min(left.max(Duration::from_millis(500)))
                ),
            }
            if asked.is_none() {
                prop_assert!(after <= seconds(15), "30 s less an attempt that hangs");
            }
        }

        #[test]
        fn a_poll_always_comes_within_its_interval(interval in 1_u64..100_000, roll in 0.0_f64..1.0) {
            let interval = Duration::from_millis(interval);
            let after = poll_after(interval, roll);
            prop_assert!(after <= interval);
            prop_assert!(after >= interval / 2);
        }

        #[test]
        fn a_heartbeat_stays_near_its_period(roll in 0.0_f64..1.0) {
            let after = heartbeat_after(seconds(600), roll);
            prop_assert!((seconds(480)..=seconds(720)).contains(&after));
        }
    }
}
