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
    /// The last generation that was reported as rejected.
    reported: u64,
    /// Time until which rejections cause no refresh, because HubSpot rejected the token of one.
    no_refresh_until: Option<Instant>,
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
        let is_unproven = self.generation > 0 && self.reported == self.generation;
        self.generation += 1;
        let token = Token { secret, generation: self.generation, is_unproven };
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

    /// Earliest refresh of a token that callers reported as rejected.
    pub(in crate::machine) fn earliest_refresh(&self, now: Instant) -> Instant {
        self.published_at.map_or(now, |at| now.max(at + schedule::REPORT_FLOOR))
    }

    /// True if a refresh can replace the active token. A static one is replaced by another secret
    /// only.
    pub(in crate::machine) fn is_refreshable(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.expires_at.is_some())
    }

    /// The active token, if it is static.
    pub(in crate::machine) fn static_token(&self) -> Option<&Token> {
        let is_static = |active: &&ActiveToken| active.expires_at.is_none();
        self.active.as_ref().filter(is_static).map(|active| &active.token)
    }

    /// True if callers use this static token already.
    pub(in crate::machine) fn is_static(&self, access_token: &Secret) -> bool {
        self.static_token().is_some_and(|token| token.secret == *access_token)
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

    /// Records that HubSpot accepted the active token.
    pub(in crate::machine) fn accept(&mut self) {
        if let Some(active) = &mut self.active {
            active.token.is_unproven = false;
        }
    }

    /// True if a rejection of the active token is final: HubSpot has not accepted it since it replaced a
    /// rejected one, or has rejected one request with both. Final for
    /// [`schedule::REJECTED_REFRESH_INTERVAL`].
    pub(in crate::machine) fn is_final(&self, now: Instant) -> bool {
        let interval = schedule::REJECTED_REFRESH_INTERVAL;
        let is_recent = self.published_at.is_some_and(|at| now < at + interval);
        let is_unproven = self.active.as_ref().is_some_and(|active| active.token.is_unproven);
        is_unproven && is_recent || self.no_refresh_until.is_some_and(|until| now < until)
    }

    /// Records that HubSpot rejected one request with the active token and with the previous one.
    pub(in crate::machine) fn reject_refreshes(&mut self, now: Instant) {
        if self.is_refreshable() {
            self.no_refresh_until = Some(now + schedule::REJECTED_REFRESH_INTERVAL);
        }
    }

    /// Permits refreshes again: there is another credential.
    pub(in crate::machine) fn permit_refreshes(&mut self) {
        self.no_refresh_until = None;
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
        let ttl = if self.is_refreshable() {
            schedule::REJECTED_REFRESH_INTERVAL
        } else {
            schedule::NO_REPLACEMENT_TTL
        };
        let until = now + ttl;
        self.no_replacement = Some(NoReplacement { generation, until });
        Some(generation)
    }
}
