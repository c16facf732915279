//! Fields of a token lookup that decide how long the token lasts.

use std::time::Duration;

use serde::Deserialize;

use leadsd_base::time::Timestamp;

/// Minimum time to live of a token that expires. Vault reports whole seconds, rounded down.
const MIN_TTL: u64 = 1;

/// Lease fields of the response to a token lookup.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct TokenDetails {
    #[serde(default)]
    ttl: u64,
    renewable: Option<bool>,
    expire_time: Option<String>,
    issue_time: Option<String>,
    creation_ttl: Option<u64>,
    explicit_max_ttl: Option<u64>,
    /// Present only in the lookup of a periodic token.
    period: Option<u64>,
    num_uses: Option<i64>,
}

// === impl TokenDetails ===

impl TokenDetails {
    /// Time to live in seconds; 0 only if the token does not expire.
    pub(super) fn ttl(&self) -> u64 {
        match self.expire_time {
            Some(_) => self.ttl.max(MIN_TTL),
            None => self.ttl,
        }
    }

    /// Time until the token expires; `None` if it does not expire.
    pub(super) fn expires_in(&self) -> Option<Duration> {
        let ttl = self.ttl();
        (ttl > 0).then(|| Duration::from_secs(ttl))
    }

    pub(super) fn is_renewable(&self) -> bool {
        self.renewable.unwrap_or(false)
    }

    /// Reports whether the token has a maximum time to live.
    pub(super) fn has_explicit_max_ttl(&self) -> bool {
        self.explicit_max_ttl.is_some_and(|max| max > 0)
    }

    /// Reports whether the token lasts as long as it is renewed, or does not expire.
    pub(super) fn is_endless(&self) -> bool {
        let is_periodic = self.period.is_some_and(|period| period > 0);
        let is_renewed = is_periodic && self.is_renewable() && !self.has_explicit_max_ttl();
        self.ttl() == 0 || is_renewed
    }

    /// Time to live that a renewal grants until the maximum is near.
    pub(super) fn full_ttl(&self) -> Duration {
        Duration::from_secs(self.creation_ttl.unwrap_or(0).max(self.ttl()))
    }

    /// Time since the token was issued; zero if Vault does not report it.
    pub(super) fn age(&self, now: Timestamp) -> Duration {
        let issued_at = self.issue_time.as_deref().and_then(|time| time.parse().ok());
        let age = issued_at.map(|issued_at: Timestamp| now.duration_since(issued_at));
        age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
    }

    /// Number of further requests that Vault allows; `None` if there is no use limit.
    pub(super) fn uses_left(&self) -> Option<u64> {
        uses_left(self.num_uses.unwrap_or(0))
    }
}

/// Number of further requests for the value of `num_uses`: 0 means no limit, -1 that the last use is made.
pub(super) fn uses_left(num_uses: i64) -> Option<u64> {
    (num_uses != 0).then(|| u64::try_from(num_uses).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use leadsd_base::time::{SystemClock, WallClock as _};

    /// Details of a renewable token of an hour with these fields.
    fn details(fields: &Value) -> TokenDetails {
        let mut lookup = json!({
            "ttl": 3_600, "renewable": true, "expire_time": "2026-11-30T13:00:00Z", "num_uses": 0,
            "issue_time": "2026-11-30T12:00:00Z", "creation_ttl": 3_600, "explicit_max_ttl": 0,
        });
        lookup.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(lookup).unwrap()
    }

    #[test]
    fn only_a_token_without_expiry_does_not_expire() {
        for (fields, left) in [
            (json!({}), Some(3_600)),
            (json!({"ttl": 0}), Some(1)),
            (json!({"ttl": 0, "expire_time": null}), None),
        ] {
            let left = left.map(Duration::from_secs);
            assert_eq!(details(&fields).expires_in(), left, "{fields}");
        }
    }

    #[test]
    fn a_token_is_endless_if_it_is_periodic_and_renewable_or_does_not_expire() {
        for (fields, endless) in [
            (json!({}), false),
            (json!({"period": 86_400}), true),
            (json!({"period": 86_400, "renewable": false}), false),
            (json!({"period": 86_400, "explicit_max_ttl": 864_000}), false),
            (json!({"period": 0}), false),
            (json!({"renewable": false}), false),
            (json!({"ttl": 0, "expire_time": null, "renewable": false}), true),
        ] {
            assert_eq!(details(&fields).is_endless(), endless, "{fields}");
        }
    }

    #[test]
    fn uses_and_age_are_those_of_the_lookup() {
        for (num_uses, left) in [(0, None), (3, Some(3)), (1, Some(1)), (-1, Some(0))] {
            assert_eq!(details(&json!({"num_uses": num_uses})).uses_left(), left, "{num_uses}");
        }
        let age = |now: &str| details(&json!({})).age(now.parse().unwrap()).as_secs();
        assert_eq!(age("2026-11-30T12:01:00Z"), 60);
        assert_eq!(age("2026-11-30T11:59:00Z"), 0, "the clocks differ");
        assert_eq!(details(&json!({"issue_time": null})).age(SystemClock.now()), Duration::ZERO);
    }
}
