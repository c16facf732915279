//! Saves rotated refresh tokens with check-and-set. A refresh token that exists only in memory is
//! kept and offered to the store until the store has it or another one that works.
//!
//! When another replica saves its refresh token first, that one is used, and ours becomes the
//! fallback: a token endpoint that keeps only the newest token alive has ended the other one.

use tokio::time::Instant;
use tracing::{debug, error, info};

use super::{
    context::{Attempt, Context},
    event::{CallKind, Event, PortCall},
};
use crate::{
    counters::Count,
    failure::FailureClass,
    schedule,
    source::{RefreshRequest, TokenResponse},
    store::{PortalSecret, StoreError, VersionedSecret},
};
use leadsd_base::secret::Secret;

#[derive(Debug, Default)]
pub(super) struct WriteBack {
    pending: Option<PendingWriteBack>,
    /// A refresh token that lost the race for the store. It is tried if the winner does not work.
    fallback: Option<Secret>,
}

/// A refresh token that is newer than the one in the store.
#[derive(Debug)]
struct PendingWriteBack {
    refresh_token: Secret,
    /// True if the token endpoint has accepted or issued it; if not, it is tried before it is saved.
    proven: bool,
    /// Always has a due time.
    write: Attempt,
    failure: Option<FailureClass>,
}

// === impl WriteBack ===

impl WriteBack {
    pub(super) fn handle(&mut self, event: &Event, cx: &mut Context<'_>) {
        match event {
            Event::Start(CallKind::Write) => self.start_write(cx),
            Event::RefreshTokenWritten { refresh_token, result } => match result {
                Ok(version) => self.on_saved(refresh_token, *version, cx),
                Err(error) => self.on_not_saved(error, cx),
            },
            Event::TokenAnswered { request, result: Ok(response), .. } => {
                self.on_response(request, response, cx);
            }
            Event::SecretAdopted { secret, previous, .. } => {
                self.on_adopted(secret, previous.as_ref(), cx);
            }
            Event::RefreshTokenRejected => {
                if self.pending.take_if(|pending| !pending.proven).is_some() {
                    debug!(portal = %cx.journal.portal, "Fallback refresh token rejected");
                }
            }
            Event::FallbackWanted => {
                if let Some(refresh_token) = self.fallback.take() {
                    self.pending = Some(PendingWriteBack::new(refresh_token, false, cx.now));
                }
            }
            Event::Tick { .. }
            | Event::Signalled(_)
            | Event::SecretRead(_)
            | Event::VersionPolled(_)
            | Event::TokenAnswered { result: Err(_), .. }
            | Event::TokenChecked { .. }
            | Event::CallsLost
            | Event::Start(CallKind::Request | CallKind::Check | CallKind::Read | CallKind::Poll)
            | Event::SecretConfirmed
            | Event::SecretChecked
            | Event::PollFailed
            | Event::ReadFailed
            | Event::ReadRejected
            | Event::NoSecret { .. }
            | Event::SecretWanted { .. }
            | Event::CheckWanted(_)
            | Event::ProofWanted(_) => {}
        }
    }

    /// The refresh token to use instead of the store's.
    pub(super) fn refresh_token(&self) -> Option<&Secret> {
        self.pending.as_ref().map(|pending| &pending.refresh_token)
    }

    pub(super) fn fallback(&self) -> Option<&Secret> {
        self.fallback.as_ref()
    }

    /// True if a refresh token that works exists only in memory.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.proven)
    }

    /// Failure of the last attempt to save the refresh token; `None` before the first attempt.
    pub(super) fn failure(&self) -> Option<FailureClass> {
        self.pending.as_ref().and_then(|pending| pending.failure)
    }

    /// Time of the next write.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().filter(|pending| pending.proven).and_then(|pending| pending.write.due)
    }

    fn start_write(&self, cx: &mut Context<'_>) {
        let due = |pending: &&PendingWriteBack| pending.proven && pending.write.is_due(cx.now);
        let pending = self.pending.as_ref().filter(due);
        if let Some((pending, expected)) = pending.zip(cx.facts.secret_version) {
            cx.journal.count(Count::StoreWrite);
            let refresh_token = pending.refresh_token.clone();
            cx.call(PortCall::WriteRefreshToken { expected, refresh_token });
        }
    }

    fn on_saved(&mut self, written: &Secret, version: u64, cx: &Context<'_>) {
        if let Some(saved) = self.pending.take_if(|pending| pending.refresh_token == *written) {
            let attempts = saved.write.failures + 1;
            info!(portal = %cx.journal.portal, version, attempts, "Saved rotated refresh token");
        }
    }

    fn on_not_saved(&mut self, error: &StoreError, cx: &mut Context<'_>) {
        cx.journal.count(Count::StoreFailure);
        let class = FailureClass::from(error);
        cx.journal.last_failure = Some(class);
        let jitter = cx.jitter();
        let Some(pending) = &mut self.pending else { return };
        pending.write.failed();
        pending.failure = Some(class);
        let failures = pending.write.failures;
        let wait = schedule::backoff(failures, None, cx.facts.token_left, jitter);
        pending.write.due = Some(cx.now + wait);
        if class != FailureClass::StoreConflict && failures.is_power_of_two() {
            error!(
                portal = %cx.journal.portal,
                failures,
                %error,
                "Failed to save the rotated refresh token, which is lost if this process ends; retrying"
            );
        }
    }

    /// Keeps a refresh token that came with a token response.
    fn on_response(
        &mut self,
        request: &RefreshRequest,
        response: &TokenResponse,
        cx: &mut Context<'_>,
    ) {
        let rotated = response.refresh_token.clone().filter(|new| *new != request.refresh_token);
        let same_app = |current: &&RefreshRequest| current.client_id == request.client_id;
        let Some(current) = cx.facts.request.as_ref().filter(same_app) else { return };
        if current.refresh_token != request.refresh_token {
            // The secret has changed since the request was sent.
            self.fallback = rotated.or_else(|| self.fallback.take());
            return;
        }
        self.fallback = None;
        if let Some(refresh_token) = rotated {
            self.pending = Some(PendingWriteBack::new(refresh_token, true, cx.now));
        } else if let Some(pending) = self.pending.as_mut().filter(|pending| !pending.proven) {
            pending.proven = true;
            pending.write.due = Some(cx.now);
        }
    }

    /// Decides about our refresh token when the secret was changed by another writer.
    fn on_adopted(
        &mut self,
        secret: &VersionedSecret,
        previous: Option<&VersionedSecret>,
        cx: &mut Context<'_>,
    ) {
        let Some(theirs) = oauth(&secret.secret) else {
            *self = Self::default();
            return;
        };
        let Some(mut pending) = self.pending.take() else { return };
        let Some(base) = previous.and_then(|previous| oauth(&previous.secret)) else { return };
        let write_had_arrived = theirs.refresh_token == &pending.refresh_token;
        let other_client = theirs.client_id != base.client_id;
        if write_had_arrived || other_client {
            return;
        }
        if theirs.refresh_token == base.refresh_token {
            // Something else was changed: save ours over it, at once. A version that is not newer
            // comes from a store that lags behind its own conflicts; then the pause between the
            // writes stays.
            if previous.is_none_or(|previous| secret.version > previous.version) {
                pending.write.due_by(cx.now);
            }
            self.pending = Some(pending);
            return;
        }
        cx.journal.count(Count::Conflict);
        info!(portal = %cx.journal.portal, "Adopted the refresh token that another replica saved");
        self.fallback = Some(pending.refresh_token);
        let proof = cx.now + schedule::prove_after(cx.jitter());
        cx.raise(Event::ProofWanted(proof));
    }
}

// === impl PendingWriteBack ===

impl PendingWriteBack {
    fn new(refresh_token: Secret, proven: bool, due: Instant) -> Self {
        let write = Attempt { due: Some(due), failures: 0 };
        Self { refresh_token, proven, write, failure: None }
    }
}

/// Client and refresh token of an OAuth secret.
struct OAuthParts<'a> {
    client_id: &'a str,
    refresh_token: &'a Secret,
}

fn oauth(secret: &PortalSecret) -> Option<OAuthParts<'_>> {
    match secret {
        PortalSecret::Static { .. } => None,
        PortalSecret::OAuth { client_id, refresh_token, .. } => {
            Some(OAuthParts { client_id, refresh_token })
        }
    }
}
