//! Keeps the portal's secret in memory up to date: polls the version metadata, reads the secret after a
//! version change, and raises events for the other machines.
//!
//! A secret once read stays in memory, even if it is deleted in the store. A read of a lower version
//! than the one in memory is ignored the first time, because a replica of the store may lag. The second
//! time it is adopted: the secret was recreated.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    context::{Attempt, Context},
    event::{CallKind, Event, PortCall},
};
use crate::{
    counters::Count,
    failure::FailureClass,
    schedule,
    store::{PortalSecret, StoreError, VersionState, VersionedSecret},
};
use leadsd_base::secret::Secret;

#[derive(Debug)]
pub(super) struct SecretWatch {
    poll_interval: Duration,
    /// Time for which denied access to the metadata is remembered.
    metadata_denied_ttl: Duration,
    /// The secret as last read; outlives its deletion in the store.
    secret: Option<VersionedSecret>,
    /// Time at which the store last confirmed that `secret` is the newest version.
    confirmed_at: Option<Instant>,
    deleted: bool,
    /// A lower version than ours was seen, once.
    saw_lower_version: bool,
    /// The newest version seen, and the one whose content is malformed.
    newest: Option<u64>,
    malformed: Option<u64>,
    /// Time until which the policy is assumed to allow reads of the secret but not of its metadata.
    metadata_denied_until: Option<Instant>,
    /// True if the log has the denial; it is logged again only after the metadata was readable.
    metadata_denied_logged: bool,
    read: Attempt,
    reading: bool,
    poll_at: Option<Instant>,
    failure: Option<FailureClass>,
}

// === impl SecretWatch ===

impl SecretWatch {
    pub(super) fn new(poll_interval: Duration, metadata_denied_ttl: Duration) -> Self {
        Self {
            poll_interval,
            metadata_denied_ttl,
            secret: None,
            confirmed_at: None,
            deleted: false,
            saw_lower_version: false,
            newest: None,
            malformed: None,
            metadata_denied_until: None,
            metadata_denied_logged: false,
            read: Attempt::default(),
            reading: false,
            poll_at: None,
            failure: None,
        }
    }

    pub(super) fn handle(&mut self, event: &Event, cx: &mut Context<'_>) {
        match event {
            Event::Start(CallKind::Read) => self.start_read(cx),
            Event::Start(CallKind::Poll) => self.start_poll(cx),
            Event::SecretRead(result) => self.on_read(result, cx),
            Event::VersionPolled(result) => self.on_polled(result, cx),
            Event::RefreshTokenWritten { refresh_token, result } => {
                self.on_written(refresh_token, result, cx);
            }
            Event::CallsLost => {
                if std::mem::take(&mut self.reading) {
                    self.read.due_by(cx.now);
                }
            }
            Event::SecretWanted { afresh } => {
                self.read.due_by(cx.now);
                if *afresh {
                    self.metadata_denied_until = None;
                    self.malformed = None;
                }
            }
            Event::CheckWanted(at) => {
                self.poll_at = Some(self.poll_at.map_or(*at, |planned| planned.min(*at)));
            }
            Event::Tick { .. }
            | Event::Signalled(_)
            | Event::TokenAnswered { .. }
            | Event::TokenChecked { .. }
            | Event::Start(CallKind::Request | CallKind::Check | CallKind::Write)
            | Event::SecretAdopted { .. }
            | Event::SecretConfirmed
            | Event::SecretChecked
            | Event::PollFailed
            | Event::ReadFailed
            | Event::ReadRejected
            | Event::NoSecret { .. }
            | Event::RefreshTokenRejected
            | Event::FallbackWanted
            | Event::ProofWanted(_) => {}
        }
    }

    pub(super) fn secret(&self) -> Option<&VersionedSecret> {
        self.secret.as_ref()
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub(super) fn failure(&self) -> Option<FailureClass> {
        self.failure
    }

    /// True if a token request may be sent without asking the store first. A retry follows an
    /// attempt after a check, so an older confirmation suffices. If the store fails, asking it
    /// again would only delay the request.
    pub(super) fn is_confirmed(&self, is_retry: bool, now: Instant) -> bool {
        if self.read.is_due(now) || self.reading {
            return false;
        }
        let recent = if is_retry { self.poll_interval } else { schedule::RECENT };
        self.failure.is_some() || self.confirmed_at.is_some_and(|at| now < at + recent)
    }

    /// Time at which the next call is due.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.read.due, self.poll_at].into_iter().flatten().min()
    }

    fn start_read(&mut self, cx: &mut Context<'_>) {
        let instead_of_poll = self.metadata_denied_until.is_some_and(|until| cx.now < until);
        if self.read.is_due(cx.now) || (instead_of_poll && self.is_poll_due(cx)) {
            self.reading = true;
            cx.journal.count(Count::StoreRead);
            self.plan_poll(cx);
            cx.call(PortCall::ReadSecret);
        }
    }

    fn start_poll(&mut self, cx: &mut Context<'_>) {
        if self.is_poll_due(cx) {
            cx.journal.count(Count::StorePoll);
            self.plan_poll(cx);
            cx.call(PortCall::PollVersion);
        }
    }

    fn is_poll_due(&self, cx: &Context<'_>) -> bool {
        self.poll_at.is_some_and(|at| at <= cx.now) || cx.facts.refresh_waits
    }

    /// Plans the next poll from the start of a call: one that hangs does not stretch the interval.
    fn plan_poll(&mut self, cx: &mut Context<'_>) {
        self.poll_at = Some(cx.now + schedule::poll_after(self.poll_interval, cx.jitter()));
    }

    fn on_polled(&mut self, result: &Result<VersionState, StoreError>, cx: &mut Context<'_>) {
        match result {
            Ok(VersionState::Live(version)) => {
                self.metadata_readable(cx);
                self.on_version(*version, cx);
            }
            Ok(VersionState::Deleted(_)) => {
                self.metadata_readable(cx);
                self.on_deleted(cx);
            }
            Err(StoreError::NotFound) => {
                self.store_answered(cx);
                self.on_deleted(cx);
            }
            Err(StoreError::Denied) => {
                cx.journal.count(Count::StoreFailure);
                if self.secret.is_some() && !self.metadata_denied_logged {
                    self.metadata_denied_logged = true;
                    warn!(
                        portal = %cx.journal.portal,
                        "Vault denied the metadata of the secret; reading the secret instead"
                    );
                }
                self.metadata_denied_until = Some(cx.now + self.metadata_denied_ttl);
                self.read.due_by(cx.now);
            }
            Err(
                error @ (StoreError::LoginRejected(_)
                | StoreError::Conflict
                | StoreError::Malformed(_)
                | StoreError::Unavailable(_)),
            ) => {
                self.store_failed(error, cx);
                cx.raise(Event::PollFailed);
            }
        }
    }

    fn metadata_readable(&mut self, cx: &mut Context<'_>) {
        self.store_answered(cx);
        self.metadata_denied_until = None;
        self.metadata_denied_logged = false;
    }

    fn on_version(&mut self, version: u64, cx: &mut Context<'_>) {
        self.newest = Some(version);
        let Some(secret) = &self.secret else {
            if self.malformed != Some(version) {
                self.read.due_by(cx.now);
            }
            return;
        };
        if version == secret.version {
            self.saw_lower_version = false;
            self.failure = None;
            self.is_back(cx);
            cx.raise(Event::SecretConfirmed);
        } else if version < secret.version && !self.saw_lower_version {
            self.saw_lower_version = true;
            debug!(portal = %cx.journal.portal, version, "Secret store returned a lower version; checking again");
        } else if self.malformed != Some(version) {
            self.read.due_by(cx.now);
        }
    }

    fn on_deleted(&mut self, cx: &mut Context<'_>) {
        self.confirmed_at = Some(cx.now);
        if !self.deleted {
            self.deleted = true;
            cx.journal.count(Count::SecretDeleted);
            cx.journal.last_failure = Some(FailureClass::SecretMissing);
            let portal = &cx.journal.portal;
            if self.secret.is_some() {
                warn!(%portal, "Secret was deleted in the store; the credential in memory stays in use");
            } else {
                warn!(%portal, "Secret does not exist in the store");
            }
        }
        cx.raise(match self.secret {
            Some(_) => Event::SecretChecked,
            None => {
                let why = StoreError::NotFound.to_string();
                Event::NoSecret { class: FailureClass::SecretMissing, why }
            }
        });
    }

    fn is_back(&mut self, cx: &Context<'_>) {
        if std::mem::take(&mut self.deleted) {
            info!(portal = %cx.journal.portal, "Secret was restored in the store");
        }
    }

    fn on_read(&mut self, result: &Result<VersionedSecret, StoreError>, cx: &mut Context<'_>) {
        self.reading = false;
        let error = match result {
            Ok(found) => return self.on_found(found, cx),
            Err(error) => error,
        };
        let class = FailureClass::from(error);
        if class.is_transient() {
            self.store_failed(error, cx);
            self.read.failed();
            let jitter = cx.jitter();
            let wait = schedule::backoff(self.read.failures, None, cx.facts.token_left, jitter);
            self.read.due = Some(cx.now + wait);
            return cx.raise(Event::ReadFailed);
        }
        self.read.succeeded();
        match error {
            StoreError::NotFound => return self.on_deleted(cx),
            StoreError::Malformed(_) => self.malformed = self.newest,
            StoreError::Denied
            | StoreError::LoginRejected(_)
            | StoreError::Conflict
            | StoreError::Unavailable(_) => {}
        }
        self.store_failed(error, cx);
        cx.raise(match self.secret {
            Some(_) => Event::ReadRejected,
            None => Event::NoSecret { class, why: error.to_string() },
        });
    }

    fn on_found(&mut self, found: &VersionedSecret, cx: &mut Context<'_>) {
        self.store_answered(cx);
        self.failure = None;
        self.read.succeeded();
        self.is_back(cx);
        self.malformed = None;
        self.newest = Some(found.version);
        let lower = self.secret.as_ref().is_some_and(|secret| found.version < secret.version);
        if lower && !self.saw_lower_version {
            self.saw_lower_version = true;
        } else {
            self.saw_lower_version = false;
            let previous = self.secret.replace(found.clone());
            let previous_request = cx.facts.request.clone();
            cx.raise(Event::SecretAdopted { secret: found.clone(), previous, previous_request });
        }
        cx.raise(Event::SecretChecked);
    }

    fn on_written(
        &mut self,
        written: &Secret,
        result: &Result<u64, StoreError>,
        cx: &mut Context<'_>,
    ) {
        match result {
            Ok(version) => {
                self.store_answered(cx);
                self.newest = Some(*version);
                if let Some(secret) = &mut self.secret
                    && let PortalSecret::OAuth { refresh_token, .. } = &mut secret.secret
                {
                    secret.version = *version;
                    refresh_token.clone_from(written);
                }
            }
            Err(StoreError::Conflict) => self.read.due_by(cx.now),
            Err(
                StoreError::NotFound
                | StoreError::Denied
                | StoreError::LoginRejected(_)
                | StoreError::Malformed(_)
                | StoreError::Unavailable(_),
            ) => {}
        }
    }

    /// Ends a transient failure. A failure of the secret itself ends when a read succeeds.
    fn store_answered(&mut self, cx: &mut Context<'_>) {
        self.confirmed_at = Some(cx.now);
        if let Some(class) = self.failure.take_if(|class| class.is_transient()) {
            info!(portal = %cx.journal.portal, failure.previous_class = class.as_str(), "Secret store recovered");
        }
    }

    fn store_failed(&mut self, error: &StoreError, cx: &mut Context<'_>) {
        cx.journal.count(Count::StoreFailure);
        let class = FailureClass::from(error);
        if cx.journal.record(&mut self.failure, class) {
            warn!(
                portal = %cx.journal.portal,
                failure.class = class.as_str(),
                %error,
                usable = cx.usable(),
                "Failed to read the secret"
            );
        }
    }
}
