//! What the secret store says, and what that means for the credential.

use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::{Machine, PendingWriteBack, StoreCall, Validity};
use crate::{
    PortalSecret, RefreshRequest, StoreError, VersionState, VersionedSecret, schedule,
    status::{Count, FailureClass},
    token::NoReplacement,
};
use leadsd_base::secret::Secret;

/// What a secret changed for the grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// Another refresh token of the same client: usually a replica's rotation.
    RefreshToken,
    /// Another client, client secret or kind: somebody acted.
    Client,
}

impl Machine {
    /// The call to the store that is due; reads first, since everything else depends on them.
    pub(super) fn next_store(&mut self, now: Instant) -> Option<StoreCall> {
        if self.store_busy.is_some() {
            return None;
        }
        let poll_due = self.poll_at.is_some_and(|at| at <= now)
            || (self.refresh.is_due(now) && !self.knows_newest(now));
        let read_instead = self.metadata_denied_until.is_some_and(|until| now < until);
        let call = if self.read.is_due(now) || (poll_due && read_instead) {
            StoreCall::Read
        } else if let Some(write) = self.due_write(now) {
            write
        } else if poll_due {
            StoreCall::Poll
        } else {
            return None;
        };
        self.meter.count(match call {
            StoreCall::Read => Count::StoreRead,
            StoreCall::Poll => Count::StorePoll,
            StoreCall::Write { .. } => Count::StoreWrite,
        });
        if matches!(call, StoreCall::Read | StoreCall::Poll) {
            // From the start of the call: one that hangs must not stretch the interval.
            self.poll_at = Some(now + schedule::poll_after(self.poll_interval, self.roll()));
        }
        self.store_busy = Some(call.clone());
        Some(call)
    }

    fn due_write(&self, now: Instant) -> Option<StoreCall> {
        let unsaved =
            self.unsaved.as_ref().filter(|unsaved| unsaved.proven && unsaved.due <= now)?;
        let stored = self.stored.as_ref()?;
        let refresh_token = unsaved.refresh_token.clone();
        Some(StoreCall::Write { expected: stored.version, refresh_token })
    }

    /// Whether a grant may be sent without another look at the store: the last one is recent, or
    /// the store is in trouble and asking again would only delay the grant.
    pub(super) fn knows_newest(&self, now: Instant) -> bool {
        if self.read.is_due(now) || matches!(self.store_busy, Some(StoreCall::Read)) {
            return false;
        }
        // A retry follows an attempt that had looked.
        let recent = if self.refresh.failures == 0 { schedule::RECENT } else { self.poll_interval };
        self.store_trouble.is_some() || self.known_at.is_some_and(|at| now < at + recent)
    }

    /// The store told the newest version, or why not.
    pub(crate) fn polled(&mut self, result: Result<VersionState, StoreError>, now: Instant) {
        self.store_busy = None;
        match result {
            Ok(VersionState::Live(version)) => {
                self.store_works(now);
                self.metadata_denied_until = None;
                self.saw_version(version, now);
            }
            Ok(VersionState::Deleted(_)) => {
                self.store_works(now);
                self.metadata_denied_until = None;
                self.secret_is_gone(now);
            }
            Err(StoreError::NotFound) => {
                self.store_works(now);
                self.secret_is_gone(now);
            }
            Err(StoreError::Denied) => {
                self.meter.count(Count::StoreFailure);
                if self.stored.is_some() {
                    warn!(
                        portal = %self.portal,
                        "Secret metadata may not be read; reading the secret itself for a while"
                    );
                }
                self.metadata_denied_until = Some(now + self.heartbeat);
                self.read.by(now);
            }
            Err(error) => {
                self.store_fails(&error);
                self.give_up_doubt(now);
            }
        }
    }

    fn saw_version(&mut self, version: u64, now: Instant) {
        self.seen = Some(version);
        let Some(stored) = &self.stored else {
            if self.malformed != Some(version) {
                self.read.by(now);
            }
            return;
        };
        if version == stored.version {
            self.regressions = 0;
            self.store_trouble = None;
            self.is_back();
            self.look_again(now);
        } else if version < stored.version && self.regressions == 0 {
            self.regressions = 1;
            debug!(portal = %self.portal, version, "Secret store shows an older version; looking again");
        } else if self.malformed != Some(version) {
            self.read.by(now);
        }
    }

    fn secret_is_gone(&mut self, now: Instant) {
        self.known_at = Some(now);
        if !self.secret_deleted {
            self.secret_deleted = true;
            self.meter.count(Count::SecretGone);
            self.last_failure = Some(FailureClass::SecretMissing);
            warn!(
                portal = %self.portal,
                in_use = self.stored.is_some(),
                "Secret is deleted in the store; a credential in memory stays in use"
            );
        }
        if self.stored.is_none() {
            self.park(FailureClass::SecretMissing, StoreError::NotFound.to_string(), now);
        } else {
            self.look_again(now);
            self.settle_verdict(now);
        }
    }

    fn is_back(&mut self) {
        if std::mem::take(&mut self.secret_deleted) {
            info!(portal = %self.portal, "Secret is back in the store");
        }
    }

    /// The store gave the secret, or said why not.
    pub(crate) fn has_read(&mut self, result: Result<VersionedSecret, StoreError>, now: Instant) {
        self.store_busy = None;
        let error = match result.and_then(checked) {
            Ok(found) => return self.found(found, now),
            Err(error) => error,
        };
        let trouble = FailureClass::from(&error);
        if trouble.is_passing() {
            self.store_fails(&error);
            self.settled = true;
            self.read.failures += 1;
            let wait = schedule::retry_after(self.read.failures, None, self.left(now), self.roll());
            self.read.due = Some(now + wait);
            self.give_up_doubt(now);
            return;
        }
        self.read.done();
        match (&error, &self.stored) {
            (StoreError::NotFound, _) => return self.secret_is_gone(now),
            (StoreError::Malformed(_), _) => self.malformed = self.seen,
            (_, _) => {}
        }
        self.store_fails(&error);
        if self.stored.is_none() {
            self.park(trouble, error.to_string(), now);
        } else {
            self.give_up_doubt(now);
            self.settle_verdict(now);
        }
    }

    fn found(&mut self, found: VersionedSecret, now: Instant) {
        self.store_works(now);
        self.store_trouble = None;
        self.read.done();
        self.is_back();
        self.malformed = None;
        self.seen = Some(found.version);
        let older = self.stored.as_ref().is_some_and(|stored| found.version < stored.version);
        if older && self.regressions == 0 {
            self.regressions = 1;
        } else {
            self.regressions = 0;
            self.adopt(found, now);
        }
        self.look_again(now);
        self.settle_verdict(now);
    }

    /// Takes over the newest version of the secret.
    fn adopt(&mut self, found: VersionedSecret, now: Instant) {
        let before = self.grant();
        let version = found.version;
        if let PortalSecret::Static { access_token } = &found.secret {
            let access_token = access_token.clone();
            self.stored = Some(found);
            return self.adopt_static(access_token, now);
        }
        self.reconcile_unsaved(&found, now);
        let first = self.stored.is_none();
        self.stored = Some(found);
        let change = change(before.as_ref(), self.grant().as_ref());
        if change == Change::Nothing {
            // A new version with the credential that was refused leaves it parked.
            return;
        }
        if !first {
            info!(portal = %self.portal, version, "Secret has changed");
        }
        let needed = !self.usable(now)
            || !matches!(self.standing, Validity::Valid)
            || self.grant_trouble.is_some()
            || self.asking_about.is_some()
            || self.is_rejected(now);
        self.token_outdated = self.live.is_some();
        // Otherwise another replica has rotated the refresh token. Answering with a refresh of our
        // own would rotate it again, and the replicas would chase each other.
        if change == Change::Client || needed {
            self.standing = Validity::Valid;
            self.refresh.failures = 0;
            self.refresh.by(now);
        }
    }

    fn adopt_static(&mut self, access_token: Secret, now: Instant) {
        self.unsaved = None;
        self.spare = None;
        self.refresh.done();
        self.refresh_wall = None;
        self.grant_trouble = None;
        self.token_outdated = false;
        self.standing = Validity::Valid;
        let known = self
            .live
            .as_ref()
            .is_some_and(|live| live.expires_at.is_none() && live.token.secret == access_token);
        if !known {
            self.publish(access_token, None, now);
            info!(portal = %self.portal, generation = self.generation, "Access token read");
        }
    }

    /// Decides what becomes of a refresh token of ours when somebody else changed the secret.
    fn reconcile_unsaved(&mut self, found: &VersionedSecret, now: Instant) {
        let Some(mut unsaved) = self.unsaved.take() else { return };
        let newer = self.stored.as_ref().is_none_or(|stored| found.version > stored.version);
        let Some((theirs, base)) =
            oauth(&found.secret).zip(self.stored.as_ref().and_then(|stored| oauth(&stored.secret)))
        else {
            return;
        };
        if theirs.1 == &unsaved.refresh_token {
            // A write of ours that seemed to fail had arrived.
            return;
        }
        if theirs.0 != base.0 {
            // Another client cannot use it.
            return;
        }
        if theirs.1 == base.1 {
            // They changed something else and left the token that ours replaces: save ours over it.
            // Unless it is the version we had: a store that lags behind itself answers every write
            // with a conflict and every read with this, and the pause between them stays.
            if newer {
                unsaved.due = unsaved.due.min(now);
            }
            self.unsaved = Some(unsaved);
            return;
        }
        self.meter.count(Count::Conflict);
        info!(portal = %self.portal, "Another replica has saved its refresh token; using that one");
        self.spare = Some(unsaved.refresh_token);
        let proof = now + schedule::prove_after(self.roll());
        self.refresh.by(proof);
    }

    /// The rotated refresh token was saved, or not.
    pub(crate) fn wrote(
        &mut self,
        refresh_token: &Secret,
        result: Result<u64, StoreError>,
        now: Instant,
    ) {
        self.store_busy = None;
        match result {
            Ok(version) => self.saved(refresh_token, version, now),
            Err(error) => self.not_saved(&error, now),
        }
    }

    fn saved(&mut self, written: &Secret, version: u64, now: Instant) {
        self.store_works(now);
        self.seen = Some(version);
        if let Some(stored) = &mut self.stored
            && let PortalSecret::OAuth { refresh_token, .. } = &mut stored.secret
        {
            stored.version = version;
            refresh_token.clone_from(written);
        }
        let is_newest = |unsaved: &mut PendingWriteBack| unsaved.refresh_token == *written;
        if let Some(unsaved) = self.unsaved.take_if(is_newest) {
            let attempts = unsaved.failures + 1;
            info!(portal = %self.portal, version, attempts, "Rotated refresh token saved");
        }
    }

    fn not_saved(&mut self, error: &StoreError, now: Instant) {
        self.meter.count(Count::StoreFailure);
        let trouble = FailureClass::from(error);
        self.last_failure = Some(trouble);
        let (roll, left) = (self.roll(), self.left(now));
        if trouble == FailureClass::StoreConflict {
            self.read.by(now);
        }
        let detail = self.without_secrets(error.to_string(), None);
        let Some(unsaved) = &mut self.unsaved else { return };
        unsaved.failures = unsaved.failures.saturating_add(1);
        unsaved.trouble = Some(trouble);
        unsaved.due = now + schedule::retry_after(unsaved.failures, None, left, roll);
        let failures = unsaved.failures;
        if trouble != FailureClass::StoreConflict && failures.is_power_of_two() {
            error!(
                portal = %self.portal,
                failures,
                error = detail,
                "Rotated refresh token is not saved and is lost if this process ends; trying on"
            );
        }
    }

    fn store_works(&mut self, now: Instant) {
        self.known_at = Some(now);
        // FailureClass with the secret itself ends when a read succeeds.
        if let Some(trouble) = self.store_trouble.take_if(|trouble| trouble.is_passing()) {
            info!(portal = %self.portal, was = trouble.as_str(), "Secret store answers again");
        }
    }

    fn store_fails(&mut self, error: &StoreError) {
        self.meter.count(Count::StoreFailure);
        let trouble = FailureClass::from(error);
        if Self::noted(&mut self.last_failure, &mut self.store_trouble, trouble) {
            let detail = self.without_secrets(error.to_string(), None);
            warn!(
                portal = %self.portal,
                trouble = trouble.as_str(),
                error = detail,
                usable = self.live.is_some(),
                "Secret store gives no secret"
            );
        }
    }

    /// Answers those who reported a token, once the store has said that it has no other.
    fn settle_verdict(&mut self, now: Instant) {
        let Some(generation) = self.asking_about else { return };
        if self.token_outdated || self.grant_busy {
            // Another token may be on its way.
            return;
        }
        self.asking_about = None;
        if generation == self.generation {
            self.verdict = Some(NoReplacement { generation, until: now + schedule::VERDICT_HOLDS });
            self.last_failure = Some(FailureClass::TokenRejected);
            warn!(portal = %self.portal, generation, "HubSpot refuses the access token, and the store has no other");
        }
    }

    /// Error texts come from outside; one that quotes a secret is dropped.
    pub(super) fn without_secrets(&self, text: String, sent: Option<&RefreshRequest>) -> String {
        let mut secrets = Vec::new();
        secrets.extend(sent.iter().flat_map(|sent| [&sent.client_secret, &sent.refresh_token]));
        secrets.extend(self.live.as_ref().map(|live| &live.token.secret));
        secrets.extend(self.unsaved.as_ref().map(|unsaved| &unsaved.refresh_token));
        secrets.extend(&self.spare);
        match self.stored.as_ref().map(|stored| &stored.secret) {
            Some(PortalSecret::Static { access_token }) => secrets.push(access_token),
            Some(PortalSecret::OAuth { client_secret, refresh_token, .. }) => {
                secrets.extend([client_secret, refresh_token]);
            }
            None => {}
        }
        let quotes =
            secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.expose()));
        if quotes { "[redacted]".to_owned() } else { text }
    }
}

/// An empty value cannot work and would be sent as an empty header or parameter.
fn checked(found: VersionedSecret) -> Result<VersionedSecret, StoreError> {
    let empty = match &found.secret {
        PortalSecret::Static { access_token } => access_token.is_empty().then_some("access_token"),
        PortalSecret::OAuth { client_id, client_secret, refresh_token } => [
            ("client_id", client_id.is_empty()),
            ("client_secret", client_secret.is_empty()),
            ("refresh_token", refresh_token.is_empty()),
        ]
        .into_iter()
        .find_map(|(key, empty)| empty.then_some(key)),
    };
    match empty {
        Some(key) => Err(StoreError::Malformed(format!("`{key}` is empty"))),
        None => Ok(found),
    }
}

/// Client and refresh token of an OAuth secret.
fn oauth(secret: &PortalSecret) -> Option<(&str, &Secret)> {
    match secret {
        PortalSecret::Static { .. } => None,
        PortalSecret::OAuth { client_id, refresh_token, .. } => Some((client_id, refresh_token)),
    }
}

fn change(before: Option<&RefreshRequest>, after: Option<&RefreshRequest>) -> Change {
    match (before, after) {
        (Some(before), Some(after)) if before == after => Change::Nothing,
        (Some(before), Some(after))
            if before.client_id == after.client_id
                && before.client_secret == after.client_secret =>
        {
            Change::RefreshToken
        }
        (_, _) => Change::Client,
    }
}
