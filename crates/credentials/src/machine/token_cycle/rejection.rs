//! States of a credential that the token endpoint rejects: suspect, then suspended.
//!
//! A rejection may be wrong: a failing authorization server rejects grants that it accepts a minute
//! later. So the grant is tried again, beside the checks of the store for another one:
//!
//! 1. Suspect: three times in the first half minute, and shortly before the token in use expires.
//! 2. Suspended: every half minute for ten minutes, and for ten minutes after the expiry.
//! 3. After that, at the interval of the configuration.

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{Context, Count, Event, FailureClass, RefreshRequest, TokenCycle, Validity, schedule};

// === impl TokenCycle ===

impl TokenCycle {
    pub(super) fn on_rejected(
        &mut self,
        request: &RefreshRequest,
        code: &str,
        cx: &mut Context<'_>,
    ) {
        cx.journal.count(Count::GrantRejected);
        self.refresh.attempt.failed();
        cx.journal.record(&mut self.failure, FailureClass::GrantRejected);
        if self.rejected_code.as_deref() == Some(code) {
            debug!(portal = %cx.journal.portal, oauth.error = code, "Token endpoint rejected the credential again");
        } else {
            warn!(portal = %cx.journal.portal, oauth.error = code, "Token endpoint rejected the credential");
            self.rejected_code = Some(code.to_owned());
        }
        if cx.facts.request.as_ref() != Some(request) {
            // Another secret was adopted meanwhile; the rejection does not concern it.
            self.refresh.due_by(cx.now);
            return;
        }
        cx.raise(Event::RefreshTokenRejected);
        cx.raise(Event::SecretWanted { afresh: false });
        if self.validity.suspended().is_some() {
            // The next retry is planned already.
            return;
        }
        let (since, checks, retries) = self.validity.suspect().unwrap_or((cx.now, 0, 0));
        match schedule::suspect_retry_at(retries) {
            Some(after) => {
                self.validity = Validity::Suspect { since, checks, retries: retries + 1 };
                let at = (since + after).max(cx.now + schedule::REQUEST_FLOOR);
                self.refresh.due_by(self.not_after_expiry(at, cx.now));
            }
            None => {
                let why = "the token endpoint rejects it, and the secret store has no other";
                self.suspend(FailureClass::GrantRejected, why, cx);
            }
        }
    }

    /// Handles the confirmation that the store has the credential in memory. A suspect credential
    /// leads to the fallback or to another check.
    pub(super) fn on_confirmed(&mut self, cx: &mut Context<'_>) {
        let Some((since, checks, retries)) = self.validity.suspect() else { return };
        if cx.facts.has_fallback {
            self.validity = Validity::Valid;
            self.refresh.due_by(cx.now);
            cx.raise(Event::FallbackWanted);
        } else if let Some(wait) = schedule::suspect_check_after(checks) {
            self.validity = Validity::Suspect { since, checks: checks + 1, retries };
            cx.raise(Event::CheckWanted(cx.now + wait));
        }
    }

    pub(super) fn suspend(&mut self, class: FailureClass, why: &str, cx: &mut Context<'_>) {
        cx.journal.last_failure = Some(class);
        self.settled = true;
        self.refresh.attempt.due = None;
        if self.validity.suspended().is_some_and(|(_, was)| was == class) {
            return;
        }
        error!(
            portal = %cx.journal.portal,
            failure.class = class.as_str(),
            failure.reason = why,
            usable = cx.usable(),
            "Suspended credential; waiting for another secret"
        );
        let (since, retry_at) = (cx.now, self.next_retry(class, cx.now, cx));
        self.validity = Validity::Suspended { why: why.into(), class, since, retry_at };
    }

    /// Retries a suspended credential if that is due, and plans the next retry.
    pub(super) fn retry_if_suspended(&mut self, cx: &mut Context<'_>) {
        let Validity::Suspended { class, since, retry_at, .. } = self.validity else { return };
        if retry_at <= cx.now {
            let next = self.next_retry(class, since, cx);
            self.validity.retry_again_at(next);
            self.retry_now(cx);
        }
    }

    /// Time of the next retry of a credential that is suspended since then.
    fn next_retry(&self, class: FailureClass, since: Instant, cx: &mut Context<'_>) -> Instant {
        let is_recent =
            |event: Instant| event <= cx.now && cx.now < event + schedule::EARLY_RETRIES;
        let expired = self.tokens.active.as_ref().and_then(|active| active.expires_at);
        let is_early = class == FailureClass::GrantRejected
            && (is_recent(since) || expired.is_some_and(is_recent));
        let (interval, jitter) = (self.suspended_retry_interval, cx.jitter());
        let late = schedule::suspended_retry_after(interval, jitter);
        let wait = if is_early { schedule::early_retry_after(jitter).min(late) } else { late };
        self.not_after_expiry(cx.now + wait, cx.now)
    }

    /// `at`, but no later than the last moments in which a new token comes in time.
    fn not_after_expiry(&self, at: Instant, now: Instant) -> Instant {
        let Some(expiry) = self.tokens.expiry(now) else { return at };
        let before = expiry.checked_sub(schedule::EXPIRY_LEAD).filter(|before| *before > now);
        at.min(before.unwrap_or(expiry))
    }
}
