//! Checks of static tokens: one request shows whether HubSpot accepts a token, before a caller needs it.
//! OAuth tokens need no check, because HubSpot's token endpoint issues them.
//!
//! - A token is checked when it is read. A token that replaces a usable one is assumed to be usable until its
//!   check has ended.
//! - A rejection makes the portal unusable at once, whether the check or a caller received it. Since a
//!   rejection may be wrong, the token is checked again, at growing intervals.
//! - A check without a result, such as one during an outage of HubSpot, changes nothing.
//!
//! Callers get the token in any case. The check decides readiness, health and metrics.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Context, FailureClass, PortCall, TokenCycle, schedule};
use crate::{machine::context::Attempt, source::TokenCheck};

/// Acceptance of the active token by HubSpot, and the plan of the next check.
#[derive(Debug, Default)]
pub(in crate::machine) struct CheckState {
    acceptance: Acceptance,
    attempt: Attempt,
    /// Time of the last call.
    sent_at: Option<Instant>,
    in_flight: bool,
    /// Rejections of the active token. A check that succeeds resets them only if no rejection follows for a
    /// while, which bounds the calls for a token that only some requests are rejected with.
    rejections: u32,
    accepted_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Acceptance {
    /// No check has ended.
    #[default]
    Unknown,
    /// No check had a result, or the previous token was usable.
    Assumed,
    Accepted,
    Rejected,
}

// === impl CheckState ===

impl CheckState {
    /// True if the first check has not ended.
    pub(in crate::machine) fn is_pending(&self) -> bool {
        self.acceptance == Acceptance::Unknown
    }

    pub(in crate::machine) fn is_rejected(&self) -> bool {
        self.acceptance == Acceptance::Rejected
    }

    /// Records that the token endpoint issued the active token.
    pub(in crate::machine) fn token_issued(&mut self) {
        *self = Self { acceptance: Acceptance::Accepted, sent_at: self.sent_at, ..Self::default() };
    }

    /// Records that the active token was read from the store.
    pub(in crate::machine) fn token_read(&mut self, now: Instant) {
        self.acceptance = match self.acceptance {
            Acceptance::Assumed | Acceptance::Accepted => Acceptance::Assumed,
            Acceptance::Unknown | Acceptance::Rejected => Acceptance::Unknown,
        };
        self.rejections = 0;
        self.attempt = Attempt::default();
        self.check_by(now);
    }

    /// Plans a check at `at` at the latest.
    pub(in crate::machine) fn check_by(&mut self, at: Instant) {
        self.attempt.due_by(at);
    }

    /// Plans a check of a rejected token, because the secret was written again.
    pub(in crate::machine) fn secret_written(&mut self, now: Instant) {
        if self.is_rejected() {
            self.check_by(now);
        }
    }

    /// Records that the response to a check in flight is lost.
    pub(in crate::machine) fn lost(&mut self, now: Instant) {
        if std::mem::take(&mut self.in_flight) {
            self.check_by(now);
        }
    }

    /// Time of the next check; `None` while one is in flight.
    pub(in crate::machine) fn due(&self) -> Option<Instant> {
        let due = self.attempt.due.filter(|_| !self.in_flight)?;
        Some(self.sent_at.map_or(due, |at| due.max(at + schedule::REQUEST_FLOOR)))
    }

    fn accept(&mut self, now: Instant) {
        self.acceptance = Acceptance::Accepted;
        self.accepted_at = Some(now);
        self.attempt.succeeded();
    }

    /// Time until the next check after another rejection.
    fn reject(&mut self, now: Instant, interval: Duration, jitter: f64) -> Duration {
        self.acceptance = Acceptance::Rejected;
        let is_new = |at: Instant| at + schedule::EARLY_RETRIES <= now;
        if self.accepted_at.take().is_some_and(is_new) {
            self.rejections = 0;
        }
        let wait = schedule::recheck_after(self.rejections, interval, jitter);
        self.rejections = self.rejections.saturating_add(1);
        wait
    }
}

// === impl TokenCycle ===

impl TokenCycle {
    pub(super) fn start_check(&mut self, cx: &mut Context<'_>) {
        if self.check.due().is_none_or(|due| due > cx.now) {
            return;
        }
        self.check.attempt.due = None;
        if let Some(token) = self.tokens.static_token() {
            self.check.sent_at = Some(cx.now);
            self.check.in_flight = true;
            cx.call(PortCall::CheckToken(token.clone()));
        }
    }

    pub(super) fn on_checked(
        &mut self,
        generation: u64,
        result: &TokenCheck,
        cx: &mut Context<'_>,
    ) {
        self.check.in_flight = false;
        if generation != self.tokens.generation {
            // The check of the token that replaced it is due.
            return;
        }
        self.settled = true;
        match result {
            TokenCheck::Accepted => {
                if self.check.is_rejected() {
                    info!(portal = %cx.journal.portal, generation, "HubSpot accepted the access token again");
                }
                self.check.accept(cx.now);
            }
            TokenCheck::Rejected => {
                // This was the check that follows a first report at once.
                self.check.rejections = self.check.rejections.max(1);
                let is_known = self.check.is_rejected();
                self.reject_static(cx);
                if !is_known {
                    // The store may have another token. Later ones are found by its polls.
                    self.on_token_rejected(cx);
                }
            }
            TokenCheck::Inconclusive(why) => {
                if self.check.attempt.failures == 0 {
                    info!(portal = %cx.journal.portal, failure.reason = why, "Failed to check the access token at HubSpot; retrying");
                }
                if self.check.is_pending() {
                    self.check.acceptance = Acceptance::Assumed;
                }
                self.check.attempt.failed();
                let wait = schedule::check_retry_after(self.check.attempt.failures, cx.jitter());
                self.check.check_by(cx.now + wait);
            }
        }
    }

    /// Handles a caller's report that HubSpot rejected the active static token.
    pub(super) fn on_static_reported(&mut self, cx: &mut Context<'_>) {
        if !self.check.is_rejected() {
            self.reject_static(cx);
        }
    }

    /// Makes the portal unusable and plans the next check.
    fn reject_static(&mut self, cx: &mut Context<'_>) {
        if !self.check.is_rejected() {
            let generation = self.tokens.generation;
            warn!(portal = %cx.journal.portal, generation, "HubSpot rejected the access token");
        }
        cx.journal.last_failure = Some(FailureClass::TokenRejected);
        let (interval, jitter) = (self.suspended_retry_interval, cx.jitter());
        let wait = self.check.reject(cx.now, interval, jitter);
        self.check.check_by(cx.now + wait);
    }
}
