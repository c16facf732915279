//! Schedule of the engine: every constant with its reason, and pure functions from facts and a
//! random number to a duration.
//!
//! `jitter` is a random number in `[0, 1)`. It spreads portals and replicas, which would otherwise
//! all refresh in the same second after a common start.

use std::time::Duration;

/// Minimum time between two token requests of a portal, for any reason. Prevents a busy
/// loop if tokens live for a second or each new one is reported as expired.
pub(crate) const REQUEST_FLOOR: Duration = Duration::from_secs(1);

/// Minimum age at which a token that HubSpot rejects is refreshed. Refreshing a younger one faster would
/// not help.
pub(crate) const REPORT_FLOOR: Duration = Duration::from_secs(5);

/// Time for which "the store has no other token" is the result of further reports about the same token. It
/// bounds the reads under many reports, and is short enough that a new secret is found soon.
pub(crate) const NO_REPLACEMENT_TTL: Duration = Duration::from_secs(10);

/// Time for which the rejection of a token that was issued because of an earlier rejection is final. It
/// bounds the token requests for a credential whose tokens HubSpot never accepts; a token that HubSpot
/// accepts again is in use at once.
pub(crate) const REJECTED_REFRESH_INTERVAL: Duration = Duration::from_secs(180);

/// Maximum age of a poll that need not be repeated before a refresh.
pub(crate) const RECENT: Duration = Duration::from_secs(5);

/// Maximum time that a portal occupies a start slot. A store that hangs for some portals must not
/// delay the others.
pub(crate) const START_SLOT: Duration = Duration::from_secs(2);

/// Pause before a panicked loop is restarted for the first time; doubles with each further panic.
/// One second is unnoticed by callers, who use the token in memory.
pub(crate) const FIRST_RESTART: Duration = Duration::from_secs(1);

/// Maximum of that pause, below the 30 s within which the service must recover. A loop that ran for
/// longer than this starts again from [`FIRST_RESTART`].
pub(crate) const RESTART_CAP: Duration = Duration::from_secs(20);

/// Pause before a panicked discovery is restarted. It is no caller's concern, so one pause
/// suffices; it leaves 20 s of the 30 s for the listing and the first token.
pub(crate) const DISCOVERY_RESTART: Duration = Duration::from_secs(10);

/// Maximum number of invalid names in the discovery folder that are remembered, so that each is
/// logged once. Bounds memory if a folder is full of other secrets.
pub(crate) const MAX_INVALID_NAMES: usize = 1_000;

/// Minimum time to sleep between two rounds of the engine: prevents a busy loop if a time in the
/// past is ever planned.
pub(crate) const WAKE_FLOOR: Duration = Duration::from_millis(1);

/// Maximum time planned ahead. A token with a longer lifetime is still refreshed daily.
const LONGEST_PLAN: Duration = Duration::from_secs(24 * 3_600);

/// Maximum lifetime that is believed: keeps arithmetic on instants far from overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Lifetime of a token whose `expires_in` is zero. The endpoint issued a token, so it is worth a
/// try; a wrong guess costs one 401, which causes a refresh.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);

/// First step of the backoff. One second is the floor of token requests anyway.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// Minimum wait between attempts, also if `Retry-After` or the remaining lifetime are shorter.
const RETRY_FLOOR: Duration = Duration::from_millis(500);

/// Maximum backoff while callers have a token. Together with the timeout of an attempt (10 s by
/// default) both caps stay below the 30 s within which the service must recover.
const RETRY_CAP_IDLE: Duration = Duration::from_secs(15);

/// Maximum backoff while callers have no token.
const RETRY_CAP_NEEDED: Duration = Duration::from_secs(10);

/// Maximum `Retry-After` that is honoured while callers have no token.
const RETRY_AFTER_CAP_NEEDED: Duration = Duration::from_secs(20);

/// Maximum `Retry-After` that is honoured while callers have a token.
const RETRY_AFTER_CAP_IDLE: Duration = Duration::from_secs(300);

/// Times of the retries of a rejected grant, from the first rejection. A rejection may be wrong: a token
/// endpoint in trouble rejects for some seconds what it accepts afterwards.
const SUSPECT_RETRIES: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// Maximum pause between two early retries of a suspended grant: the service recovers within 30 s.
const EARLY_RETRY: Duration = Duration::from_secs(30);

/// Time for which a suspended grant is retried early, after its suspension and after the expiry of its
/// last token. It covers most troubles of a token endpoint, and bounds the requests that a grant that was
/// revoked causes.
pub(crate) const EARLY_RETRIES: Duration = Duration::from_secs(600);

/// Time before the expiry of the token in use at which a rejected grant is tried once more. Enough for
/// a response.
pub(crate) const EXPIRY_LEAD: Duration = Duration::from_secs(5);

/// Pauses before each of the first checks of a rejected static token. The first check follows the report of
/// a caller at once, so that a single wrong 401 makes a portal unusable for the duration of one call.
const RECHECKS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(15)];

/// Number of checks of a rejected static token that are at most half a minute apart: ten minutes, as for a
/// rejected grant.
const EARLY_RECHECKS: u32 = 24;

/// Maximum pause before a token check without a result is repeated. A conclusive one is not urgent: callers
/// use the token, and report a rejection themselves.
const CHECK_RETRY_CAP: Duration = Duration::from_secs(60);

/// Waits between the checks of the store after a grant was rejected. They add up to 15.5 s: time
/// for another replica to save the refresh token that it has just received, within one default
/// poll interval.
const SUSPECT_CHECKS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(4_000),
    Duration::from_millis(8_000),
];

/// Lifetime of a token, from the `expires_in` of the response.
pub(crate) fn life(expires_in: Duration) -> Duration {
    if expires_in.is_zero() { UNKNOWN_LIFE } else { expires_in.min(LONGEST_LIFE) }
}

/// Lifetime that is left of `life` when the response came `took` after the request. The token may
/// be as old as the request. A response slower than half the lifetime does not make the token
/// unusable.
pub(crate) fn remaining_life(life: Duration, took: Duration) -> Duration {
    life.saturating_sub(took).max(life / 2)
}

/// Time from a token response to the next refresh: between 2/3 and 5/6 of the lifetime. A fraction
/// instead of a fixed margin, so that a lifetime shorter than any margin still has a sensible plan.
pub(crate) fn refresh_after(life: Duration, jitter: f64) -> Duration {
    let fraction = 2.0 / 3.0 + jitter / 6.0;
    life.min(LONGEST_PLAN).mul_f64(fraction).max(REQUEST_FLOOR)
}

/// Pause after the `failures`th failure in a row. `retry_after` is the pause that the peer states;
/// `token_left` is the remaining lifetime of the token that callers use, `None` if they have none.
pub(crate) fn backoff(
    failures: u32,
    retry_after: Option<Duration>,
    token_left: Option<Duration>,
    jitter: f64,
) -> Duration {
    let (cap, retry_after_cap) = match token_left {
        Some(_) => (RETRY_CAP_IDLE, RETRY_AFTER_CAP_IDLE),
        None => (RETRY_CAP_NEEDED, RETRY_AFTER_CAP_NEEDED),
    };
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(cap);
    let jittered = doubled.mul_f64(0.5 + jitter / 2.0);
    let polite = jittered.max(retry_after.unwrap_or_default().min(retry_after_cap));
    // The last moment at which a new token still comes in time is worth an attempt.
    polite.min(token_left.unwrap_or(Duration::MAX)).max(RETRY_FLOOR)
}

/// Time from the start of one poll of the secret's version to the next. Always shorter than the
/// interval, so that a change is seen within one.
pub(crate) fn poll_after(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.7 + jitter * 0.25)
}

/// Time until a suspended portal is tried again.
pub(crate) fn suspended_retry_after(interval: Duration, jitter: f64) -> Duration {
    interval.mul_f64(0.8 + jitter * 0.4)
}

/// Pause between two early retries of a suspended grant.
pub(crate) fn early_retry_after(jitter: f64) -> Duration {
    EARLY_RETRY.mul_f64(0.8 + jitter * 0.2)
}

/// Pause before the next check of a static token that was rejected this many times before.
pub(crate) fn recheck_after(rejections: u32, interval: Duration, jitter: f64) -> Duration {
    let late = suspended_retry_after(interval, jitter);
    let early = usize::try_from(rejections).ok().and_then(|index| RECHECKS.get(index).copied());
    match early {
        Some(pause) => pause.min(late),
        None if rejections < EARLY_RECHECKS => early_retry_after(jitter).min(late),
        None => late,
    }
}

/// Pause before the next check of a static token after the `failures`th check in a row without a result.
pub(crate) fn check_retry_after(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(CHECK_RETRY_CAP).mul_f64(0.5 + jitter / 2.0).max(RETRY_FLOOR)
}

/// Time of the next retry of a rejected grant, from the first rejection; `None` once the credential is
/// to be suspended.
pub(crate) fn suspect_retry_at(retries: u32) -> Option<Duration> {
    SUSPECT_RETRIES.get(usize::try_from(retries).ok()?).copied()
}

/// Pause before the store is checked again after a grant was rejected; `None` after the last check.
/// Another replica may have rotated the refresh token and be about to save it.
pub(crate) fn suspect_check_after(checks: u32) -> Option<Duration> {
    SUSPECT_CHECKS.get(usize::try_from(checks).ok()?).copied()
}

/// Pause before a refresh token that another replica saved is used for the first time. Soon, because
/// the token endpoint may have ended either token and the fallback exists in memory only; not at
/// once, so that several losers of one race do not race again.
pub(crate) fn prove_after(jitter: f64) -> Duration {
    Duration::from_secs(1) + Duration::from_secs(6).mul_f64(jitter)
}

#[cfg(test)]
mod tests;
