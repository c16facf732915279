//! Schedules renewals and logins: pure functions.
//!
//! The rules are those of the lifetime watcher in Vault's Go client:
//! - Renew after two thirds of the time to live.
//! - Log in again in the last 10 % to 20 % of the time to live, the grace period.
//! - Log in again if a renewal does not extend the time to live.

use std::time::Duration;

/// Minimum pause between two renewals, for any time to live.
pub(super) const MIN_PAUSE: Duration = Duration::from_millis(500);

/// First pause after a failed login.
const FIRST_LOGIN_PAUSE: Duration = Duration::from_secs(1);

/// Maximum pause between failed logins: recovery within 30 s of the end of an outage.
const MAX_LOGIN_PAUSE: Duration = Duration::from_secs(15);

/// First pause after a failed renewal of a token that is still valid.
const FIRST_RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Maximum pause between renewals of a token that is still valid.
const MAX_RENEWAL_PAUSE: Duration = Duration::from_secs(300);

/// Maximum time to live accepted from a response: beyond any real one, and safe to add to an
/// [`Instant`](tokio::time::Instant).
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Time to live of a token from now, and whether it is renewable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// Zero if the token never expires.
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

/// Next action for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseAction {
    /// Renew after this pause.
    Renew(Duration),
    /// Log in again after this pause.
    Login(Duration),
    /// No action: the token does not expire.
    Keep,
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(seconds: u64, renewable: bool) -> Self {
        Self { ttl: Duration::from_secs(seconds).min(MAX_TTL), renewable }
    }
}

/// Determines the next action for a token with this time to live. `previous` is the time to live before
/// the last renewal; `random` is in `[0, 1]`.
pub(super) fn next_action(
    ttl: Duration,
    renewable: bool,
    previous: Option<Duration>,
    random: f64,
) -> LeaseAction {
    if ttl.is_zero() {
        return LeaseAction::Keep;
    }
    let grace = ttl.mul_f64(0.1 + 0.1 * random);
    let shrank = previous.is_some_and(|previous| !is_full(ttl, previous));
    if !renewable || shrank {
        return LeaseAction::Login(ttl.saturating_sub(grace).max(MIN_PAUSE));
    }
    LeaseAction::Renew(ttl.mul_f64(2.0 / 3.0).max(MIN_PAUSE))
}

/// Reports whether a renewal granted `full`, up to 10 %: a shorter grant means that the maximum is near.
pub(super) fn is_full(granted: Duration, full: Duration) -> bool {
    granted >= full.mul_f64(0.9)
}

/// Determines the next action after `failures` consecutive failed renewals, for a token with `left` of its
/// `ttl`: renew with exponential backoff until `left` is within the grace period.
pub(super) fn action_after_failure(
    left: Duration,
    ttl: Duration,
    failures: u32,
    random: f64,
) -> LeaseAction {
    let grace = ttl.mul_f64(0.1 + 0.1 * random);
    let usable = left.saturating_sub(grace);
    if usable <= MIN_PAUSE {
        return LeaseAction::Login(Duration::ZERO);
    }
    let pause = backoff(FIRST_RENEWAL_PAUSE, MAX_RENEWAL_PAUSE, failures, random);
    // The pause must fit into a short time to live.
    LeaseAction::Renew(pause.min(usable.mul_f64(0.5)).max(MIN_PAUSE))
}

/// Pause after `failures` consecutive failed logins.
pub(super) fn login_pause(failures: u32, random: f64) -> Duration {
    backoff(FIRST_LOGIN_PAUSE, MAX_LOGIN_PAUSE, failures, random)
}

/// Exponential backoff up to `max` with 50 % jitter.
fn backoff(first: Duration, max: Duration, failures: u32, random: f64) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(max).mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_renewed_until_a_renewal_does_not_extend_it() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            next_action(hour, true, None, 0.5),
            LeaseAction::Renew(Duration::from_secs(2_400))
        );
        assert_eq!(
            next_action(hour, true, Some(hour), 0.5),
            LeaseAction::Renew(Duration::from_secs(2_400))
        );
        assert_eq!(
            next_action(hour, false, None, 0.0),
            LeaseAction::Login(Duration::from_secs(3_240))
        );
        assert_eq!(
            next_action(hour / 2, true, Some(hour), 1.0),
            LeaseAction::Login(Duration::from_secs(1_440))
        );
        assert_eq!(next_action(Duration::ZERO, false, None, 0.5), LeaseAction::Keep);
    }

    proptest! {
        #[test]
        fn neither_renewals_nor_failures_spin(
            ttl_ms in 1_u64..10_000_000, renewable: bool, random in 0.0..1.0_f64, failures in 1_u32..99,
        ) {
            let pause = match next_action(Duration::from_millis(ttl_ms), renewable, None, random) {
                LeaseAction::Renew(pause) | LeaseAction::Login(pause) => pause,
                LeaseAction::Keep => MIN_PAUSE,
            };
            prop_assert!(pause >= MIN_PAUSE);
            let pause = login_pause(failures, random);
            prop_assert!(pause >= FIRST_LOGIN_PAUSE / 2 && pause <= MAX_LOGIN_PAUSE);
        }

        #[test]
        fn a_failed_renewal_is_retried_before_the_token_expires(
            ttl_ms in 1_000_u64..10_000_000, part in 0.0..1.0_f64, failures in 1_u32..99,
            random in 0.0..1.0_f64,
        ) {
            let ttl = Duration::from_millis(ttl_ms);
            let left = ttl.mul_f64(part);
            match action_after_failure(left, ttl, failures, random) {
                LeaseAction::Renew(pause) => {
                    prop_assert!(pause >= MIN_PAUSE && pause <= MAX_RENEWAL_PAUSE);
                    prop_assert!(pause <= left);
                }
                LeaseAction::Login(pause) => prop_assert!(pause.is_zero() && left <= ttl.mul_f64(0.2) + MIN_PAUSE),
                LeaseAction::Keep => prop_assert!(false, "the token expires"),
            }
        }
    }
}
