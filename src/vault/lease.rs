//! When to renew a token and when to log in again: pure arithmetic.
//!
//! As Vault's own lifetime watcher does it: renew at two thirds of the life; once the rest is within
//! the grace of a tenth to a fifth, or a renewal brings no more time, log in again.

use std::time::Duration;

/// Minimum pause between two renewals, whatever the lease says.
const FLOOR: Duration = Duration::from_millis(500);

/// First pause after a failed login.
const FIRST_LOGIN_PAUSE: Duration = Duration::from_secs(1);

/// Maximum pause between failed logins: recovery within 30 s of the end of an outage.
const MAX_LOGIN_PAUSE: Duration = Duration::from_secs(15);

/// First pause after a failed renewal of a token that is still valid.
const FIRST_RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Maximum pause between renewals of a token that is still valid.
const MAX_RENEWAL_PAUSE: Duration = Duration::from_secs(300);

/// Longest time to live that is taken over from a response: far beyond any real one, and safe to add to
/// a point in time.
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// How long a token lives from now, and whether that can be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Zero if the token never expires.
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

/// What to do with a token after a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Renew after this pause.
    Renew(Duration),
    /// Log in again after this pause.
    Login(Duration),
    /// It never expires.
    Never,
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(seconds: u64, renewable: bool) -> Self {
        Self { ttl: Duration::from_secs(seconds).min(MAX_TTL), renewable }
    }
}

/// What to do with a token that lives `ttl` from now. `last` is what the lease had been before its
/// renewal; `random` is between 0 and 1.
pub(super) fn next(ttl: Duration, renewable: bool, last: Option<Duration>, random: f64) -> Next {
    if ttl.is_zero() {
        return Next::Never;
    }
    let grace = ttl.mul_f64(0.1 + 0.1 * random);
    let shrank = last.is_some_and(|last| ttl < last.mul_f64(0.9));
    if !renewable || shrank {
        return Next::Login(ttl.saturating_sub(grace).max(FLOOR));
    }
    Next::Renew(ttl.mul_f64(2.0 / 3.0).max(FLOOR))
}

/// What to do after the `failures`-th failed renewal in a row of a token with `left` of its `ttl`: try
/// again, with growing pauses, until the rest is within the grace.
pub(super) fn after_failure(left: Duration, ttl: Duration, failures: u32, random: f64) -> Next {
    let grace = ttl.mul_f64(0.1 + 0.1 * random);
    let usable = left.saturating_sub(grace);
    if usable <= FLOOR {
        return Next::Login(Duration::ZERO);
    }
    let pause = growing(FIRST_RENEWAL_PAUSE, MAX_RENEWAL_PAUSE, failures, random);
    // A short lease leaves no room for ten seconds.
    Next::Renew(pause.min(usable.mul_f64(0.5)).max(FLOOR))
}

/// Pause after the `failures`-th failed login in a row.
pub(super) fn login_pause(failures: u32, random: f64) -> Duration {
    growing(FIRST_LOGIN_PAUSE, MAX_LOGIN_PAUSE, failures, random)
}

/// Doubles with each failure up to a bound; half of it is random.
fn growing(first: Duration, most: Duration, failures: u32, random: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(most).mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_renewed_until_renewing_brings_nothing() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(next(hour, true, None, 0.5), Next::Renew(Duration::from_secs(2_400)));
        assert_eq!(next(hour, true, Some(hour), 0.5), Next::Renew(Duration::from_secs(2_400)));
        assert_eq!(next(hour, false, None, 0.0), Next::Login(Duration::from_secs(3_240)));
        assert_eq!(next(hour / 2, true, Some(hour), 1.0), Next::Login(Duration::from_secs(1_440)));
        assert_eq!(next(Duration::ZERO, false, None, 0.5), Next::Never);
    }

    proptest! {
        #[test]
        fn neither_renewals_nor_failures_spin(
            ttl_ms in 1_u64..10_000_000, renewable: bool, random in 0.0..1.0_f64, failures in 1_u32..99,
        ) {
            let pause = match next(Duration::from_millis(ttl_ms), renewable, None, random) {
                Next::Renew(pause) | Next::Login(pause) => pause,
                Next::Never => FLOOR,
            };
            prop_assert!(pause >= FLOOR);
            let pause = login_pause(failures, random);
            prop_assert!(pause >= FIRST_LOGIN_PAUSE / 2 && pause <= MAX_LOGIN_PAUSE);
        }

        #[test]
        fn a_failed_renewal_is_tried_again_before_the_token_ends(
            ttl_ms in 1_000_u64..10_000_000, part in 0.0..1.0_f64, failures in 1_u32..99,
            random in 0.0..1.0_f64,
        ) {
            let ttl = Duration::from_millis(ttl_ms);
            let left = ttl.mul_f64(part);
            match after_failure(left, ttl, failures, random) {
                Next::Renew(pause) => {
                    prop_assert!(pause >= FLOOR && pause <= MAX_RENEWAL_PAUSE);
                    prop_assert!(pause <= left);
                }
                Next::Login(pause) => prop_assert!(pause.is_zero() && left <= ttl.mul_f64(0.2) + FLOOR),
                Next::Never => prop_assert!(false, "it ends"),
            }
        }
    }
}
