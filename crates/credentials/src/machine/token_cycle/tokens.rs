//! Tokens of a portal: the active one, and the state of the search for a replacement.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    published::{ActiveToken, NoReplacement},
    schedule,
    token::Token,
};
use leadsd_base::secret::Secret;

#[derive(Debug, Default)]
pub(in crate::machine) struct Tokens {
    pub(in crate::machine) active: Option<ActiveToken>,
    /// Generation of the active token; 0 before the first.
    pub(in crate::machine) generation: u64,
    pub(in crate::machine) published_at: Option<Instant>,
    /// True if the credential is newer than the active token.
    pub(in crate::machine) outdated: bool,
    /// The generation that HubSpot rejected, while the store is checked for another token.
    pub(in crate::machine) replacement_wanted: Option<u64>,
    pub(in crate::machine) no_replacement: Option<NoReplacement>,
    /// The last generation that was reported as expired or invalid.
    reported: u64,
}

// === impl Tokens ===

impl Tokens {
    /// Makes a token the one that callers use.
    pub(in crate::machine) fn publish(
        &mut self,
        secret: Secret,
        expires_at: Option<Instant>,
        now: Instant,
    ) {
        self.generation += 1;
        let token = Token { secret, generation: self.generation };
        self.active = Some(ActiveToken { token, expires_at });
        self.published_at = Some(now);
        self.no_replacement = None;
        self.replacement_wanted = None;
        self.outdated = false;
    }

    /// Remaining lifetime of the token that callers use; `None` if they have none.
    pub(in crate::machine) fn left(&self, now: Instant) -> Option<Duration> {
        let active = self.active.as_ref().filter(|active| active.is_usable(now))?;
        let left = |at: Instant| at.saturating_duration_since(now);
        Some(active.expires_at.map_or(Duration::MAX, left))
    }

    pub(in crate::machine) fn is_usable(&self, now: Instant) -> bool {
        self.left(now).is_some()
    }

    /// Expiry of the active token; `None` if it has expired or does not expire.
    pub(in crate::machine) fn expiry(&self, now: Instant) -> Option<Instant> {
        self.active.as_ref().and_then(|active| active.expires_at).filter(|&at| at > now)
    }

    /// Earliest refresh of a token that callers reported as expired.
    pub(in crate::machine) fn earliest_refresh(&self, now: Instant) -> Instant {
        self.published_at.map_or(now, |at| now.max(at + schedule::REPORT_FLOOR))
    }

    /// True if a refresh can replace the active token. A static one is replaced by another secret
    /// only.
    pub(in crate::machine) fn is_refreshable(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.expires_at.is_some())
    }

    /// True if callers use this static token already.
    pub(in crate::machine) fn is_static(&self, access_token: &Secret) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.expires_at.is_none() && active.token.secret == *access_token
        })
    }

    /// True if HubSpot rejected the active token and there was no replacement; remembered for
    /// `ttl` longer than callers receive it.
    pub(in crate::machine) fn is_rejected(&self, ttl: Duration, now: Instant) -> bool {
        self.no_replacement
            .is_some_and(|known| known.generation == self.generation && now < known.until + ttl)
    }

    /// True if further reports about the active token result in "no replacement".
    pub(in crate::machine) fn has_no_replacement(&self, now: Instant) -> bool {
        self.is_rejected(Duration::ZERO, now)
    }

    /// Records a report about the active token. Returns whether it is the first.
    pub(in crate::machine) fn report(&mut self) -> bool {
        let first = self.reported < self.generation;
        self.reported = self.reported.max(self.generation);
        first
    }

    /// Ends the search for a replacement without one. Returns the generation that has none; `None`
    /// if there was no search, or if the active token is another one by now.
    pub(in crate::machine) fn conclude_no_replacement(&mut self, now: Instant) -> Option<u64> {
        let generation = self.replacement_wanted.take()?;
        if generation != self.generation {
            return None;
        }
        let until = now + schedule::NO_REPLACEMENT_TTL;
        self.no_replacement = Some(NoReplacement { generation, until });
        Some(generation)
    }
}
