//! What callers and operators ask for, and the heartbeat that asks in their place.

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Machine, Validity};
use crate::{schedule, status::Count, token::PendingSignals};

impl Machine {
    /// Takes in what was asked for since the last look.
    pub(crate) fn apply_signals(&mut self, signals: PendingSignals, now: Instant) {
        let PendingSignals { wanted, refresh_now, expired, refused } = signals;
        if wanted && !self.wanted {
            self.wanted = true;
            self.read.by(now);
        }
        if refresh_now {
            info!(portal = %self.portal, "Operator asks to try the credential again");
            self.wanted = true;
            self.try_again(now);
        }
        if expired == Some(self.generation) {
            self.token_is_expired(now);
        }
        if refused == Some(self.generation) {
            self.token_is_refused(now);
        }
    }

    /// HubSpot says that the current token has expired.
    fn token_is_expired(&mut self, now: Instant) {
        if self.live.as_ref().is_none_or(|live| live.expires_at.is_none()) {
            // Nothing to refresh: another token can only come from the store.
            return self.token_is_refused(now);
        }
        if self.is_first_report() {
            let generation = self.generation;
            warn!(portal = %self.portal, generation, "HubSpot says that the token has expired");
        }
        if self.grant_busy || self.grant_trouble.is_some() {
            // Being refreshed already, at the pace the token endpoint allows.
            return;
        }
        let earliest = self.published_at.map_or(now, |at| at + schedule::REPORT_FLOOR);
        self.refresh.by(now.max(earliest));
    }

    /// HubSpot refuses the current token: only another secret helps.
    fn token_is_refused(&mut self, now: Instant) {
        self.is_first_report();
        let judged = self
            .verdict
            .is_some_and(|verdict| verdict.generation == self.generation && now < verdict.until);
        if judged
            || self.asking_about.is_some()
            || matches!(self.standing, Validity::Suspended { .. })
        {
            return;
        }
        self.asking_about = Some(self.generation);
        if self.token_outdated && !self.grant_busy {
            // A newer secret is here already; the token was bought with the one before.
            self.refresh.by(now);
        } else {
            self.read.by(now);
        }
    }

    fn is_first_report(&mut self) -> bool {
        let first = self.rejected < self.generation;
        if first {
            self.rejected = self.generation;
            self.meter.count(Count::Rejection);
        }
        first
    }

    /// A parked credential is tried now and then without a reason: the refusal may have been wrong.
    pub(super) fn heartbeat(&mut self, now: Instant) {
        let Validity::Suspended { heartbeat, .. } = &mut self.standing else { return };
        if *heartbeat <= now {
            let roll = (self.dice)();
            *heartbeat = now + schedule::heartbeat_after(self.heartbeat, roll);
            self.try_again(now);
        }
    }

    fn try_again(&mut self, now: Instant) {
        self.read.by(now);
        self.metadata_denied_until = None;
        self.malformed = None;
        if self.grant().is_some() && !self.grant_busy {
            self.refresh.failures = 0;
            self.refresh.by(now);
        }
    }
}
