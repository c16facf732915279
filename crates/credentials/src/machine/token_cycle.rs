//! Refreshes access tokens ahead of their expiry and decides the result for callers.
//!
//! - A token is in use until its expiry, even if refreshes fail.
//! - At most one token request is in flight, so callers never cause more than one refresh.
//! - A rejected credential is suspect, then suspended (`rejection`).

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    context::Context,
    event::{CallKind, Event, PortCall},
};
use crate::{
    counters::Count,
    failure::FailureClass,
    schedule,
    signals::PendingSignals,
    source::{GrantError, RefreshRequest, TokenResponse},
    store::{PortalSecret, VersionedSecret},
};
use leadsd_base::{secret::Secret, time::Timestamp};

mod change;
mod refresh;
mod rejection;
mod token_check;
mod tokens;
mod validity;

use change::RequestChange;
use refresh::Refresh;
use token_check::CheckState;
use tokens::Tokens;
use validity::Validity;

#[derive(Debug, Default)]
pub(super) struct TokenCycle {
    suspended_retry_interval: Duration,
    /// True if a token was ever wanted; nothing is done before.
    pub(super) wanted: bool,
    /// True if the first token was published or the first attempt has failed.
    pub(super) settled: bool,
    pub(super) tokens: Tokens,
    pub(super) refresh: Refresh,
    pub(super) validity: Validity,
    pub(super) check: CheckState,
    /// The failure of the token endpoint.
    pub(super) failure: Option<FailureClass>,
    /// The error code of the last rejection that was logged as a warning. Each is logged once.
    rejected_code: Option<String>,
}

// === impl TokenCycle ===

impl TokenCycle {
    pub(super) fn new(suspended_retry_interval: Duration) -> Self {
        Self { suspended_retry_interval, ..Self::default() }
    }

    pub(super) fn handle(&mut self, event: &Event, cx: &mut Context<'_>) {
        match event {
            Event::Tick { wall } => self.on_tick(*wall, cx),
            Event::Signalled(signals) => self.on_signals(*signals, cx),
            Event::Start(CallKind::Request) => self.start_request(cx),
            Event::Start(CallKind::Check) => self.start_check(cx),
            Event::TokenChecked { generation, result } => self.on_checked(*generation, result, cx),
            Event::TokenAnswered { request, sent, wall, result } => {
                self.refresh.in_flight = false;
                match result {
                    Ok(response) => {
                        let took = cx.now.saturating_duration_since(*sent);
                        self.on_granted(request, response, took, *wall, cx);
                    }
                    Err(GrantError::Rejected { code }) => self.on_rejected(request, code, cx),
                    Err(error @ (GrantError::Throttled { .. } | GrantError::Unavailable(_))) => {
                        self.on_failed(request, error, cx);
                    }
                }
                if self.tokens.replacement_wanted.is_some() {
                    cx.raise(Event::SecretWanted { afresh: false });
                }
            }
            Event::CallsLost => {
                self.refresh.lost(cx.now);
                self.check.lost(cx.now);
            }
            Event::SecretAdopted { secret, previous, previous_request } => {
                self.on_adopted(secret, previous.is_none(), previous_request.as_ref(), cx);
                if previous.as_ref().is_some_and(|previous| previous.version != secret.version) {
                    self.check.secret_written(cx.now);
                }
            }
            Event::SecretConfirmed => self.on_confirmed(cx),
            Event::SecretChecked => {
                self.on_confirmed(cx);
                self.conclude_no_replacement(cx);
            }
            Event::ReadFailed => self.settled = true,
            Event::ReadRejected => self.conclude_no_replacement(cx),
            Event::NoSecret { class, why } => self.suspend(*class, why, cx),
            Event::ProofWanted(at) => self.refresh.due_by(*at),
            Event::SecretRead(_)
            | Event::VersionPolled(_)
            | Event::RefreshTokenWritten { .. }
            | Event::Start(CallKind::Read | CallKind::Write | CallKind::Poll)
            | Event::SecretWanted { .. }
            | Event::PollFailed
            | Event::CheckWanted(_)
            | Event::RefreshTokenRejected
            | Event::FallbackWanted => {}
        }
    }

    /// True if HubSpot rejected the active token.
    pub(super) fn is_rejected(&self, now: Instant) -> bool {
        match self.tokens.static_token() {
            Some(_) => self.check.is_rejected(),
            None => self.tokens.is_rejected(self.suspended_retry_interval, now),
        }
    }

    /// True if the active token is unexpired and HubSpot accepts it, as far as is known.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        self.tokens.is_usable(now) && !self.check.is_pending() && !self.is_rejected(now)
    }

    /// Time of the next due action. Callers notice an expiry by themselves; the status and the
    /// backoff follow it.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let retries = [self.validity.retry_at(), self.check.due()];
        let times = [self.refresh.wake(now), self.tokens.expiry(now)];
        retries.into_iter().chain(times).flatten().min()
    }

    fn on_tick(&mut self, wall: Timestamp, cx: &mut Context<'_>) {
        self.retry_if_suspended(cx);
        if self.refresh.wall_clock_passed(cx.now, wall) {
            info!(portal = %cx.journal.portal, "Wall clock passed the planned refresh; refreshing");
            self.refresh.due_by(cx.now);
        }
    }

    fn on_signals(&mut self, signals: PendingSignals, cx: &mut Context<'_>) {
        let PendingSignals { token_wanted, refresh_now, rejected, rejected_again, accepted } =
            signals;
        if token_wanted && !self.wanted {
            self.wanted = true;
            cx.raise(Event::SecretWanted { afresh: false });
        }
        if refresh_now {
            info!(portal = %cx.journal.portal, "Operator requested a refresh");
            self.wanted = true;
            self.retry_now(cx);
        }
        if accepted == Some(self.tokens.generation) {
            self.tokens.accept();
        }
        if rejected_again == Some(self.tokens.generation) && !self.tokens.is_final(cx.now) {
            self.tokens.reject_refreshes(cx.now);
        }
        if [rejected, rejected_again].contains(&Some(self.tokens.generation)) {
            self.on_token_rejected(cx);
        }
    }

    /// Retries everything, regardless of earlier failures.
    fn retry_now(&mut self, cx: &mut Context<'_>) {
        cx.raise(Event::SecretWanted { afresh: true });
        if cx.facts.request.is_some() && !self.refresh.in_flight {
            self.refresh.attempt.failures = 0;
            self.refresh.due_by(cx.now);
        }
        self.check.check_by(cx.now);
    }

    /// Handles a report that HubSpot rejects the active token. A refresh replaces it, once; only another
    /// secret replaces a static token, or one that was such a replacement.
    fn on_token_rejected(&mut self, cx: &mut Context<'_>) {
        let is_first = self.first_report(cx);
        if self.tokens.static_token().is_some() {
            self.on_static_reported(cx);
        }
        if self.tokens.has_no_replacement(cx.now)
            || self.tokens.replacement_wanted.is_some()
            || self.validity.suspended().is_some()
        {
            return;
        }
        let generation = self.tokens.generation;
        if self.tokens.is_refreshable() && !self.tokens.is_final(cx.now) {
            if is_first {
                warn!(portal = %cx.journal.portal, generation, "HubSpot rejected the access token; refreshing");
            }
            // Otherwise it is being refreshed, at the pace that the token endpoint allows.
            if !self.refresh.in_flight && self.failure.is_none() {
                let at = self.tokens.earliest_refresh(cx.now);
                self.refresh.due_by(if self.tokens.outdated { cx.now } else { at });
            }
            return;
        }
        self.tokens.replacement_wanted = Some(generation);
        if self.tokens.outdated && !self.refresh.in_flight {
            // A newer credential is in memory; the token was issued for the one before.
            self.refresh.due_by(cx.now);
        } else {
            cx.raise(Event::SecretWanted { afresh: false });
        }
    }

    fn first_report(&mut self, cx: &Context<'_>) -> bool {
        let first = self.tokens.report();
        if first {
            cx.journal.count(Count::Rejection);
        }
        first
    }

    fn start_request(&mut self, cx: &mut Context<'_>) {
        if self.refresh.in_flight || !self.refresh.is_due(cx.now) || !cx.facts.secret_confirmed {
            return;
        }
        self.refresh.begin();
        if let Some(request) = cx.facts.request.clone() {
            self.refresh.sent(cx.now);
            cx.call(PortCall::RequestToken(request));
        }
    }

    fn on_granted(
        &mut self,
        request: &RefreshRequest,
        response: &TokenResponse,
        took: Duration,
        wall: Timestamp,
        cx: &mut Context<'_>,
    ) {
        cx.journal.count(Count::GrantOk);
        let same_app = |current: &RefreshRequest| current.client_id == request.client_id;
        let Some(current) = cx.facts.request.clone().filter(same_app) else {
            debug!(portal = %cx.journal.portal, "Discarded access token: the secret changed meanwhile");
            return;
        };
        if let Some(class) = self.failure.take() {
            info!(portal = %cx.journal.portal, failure.previous_class = class.as_str(), "Token endpoint recovered");
        }
        self.validity = Validity::Valid;
        self.rejected_code = None;
        self.refresh.attempt.succeeded();
        let life = schedule::remaining_life(schedule::life(response.expires_in), took);
        self.tokens.publish(response.access_token.clone(), Some(cx.now + life), cx.now);
        self.check.token_issued();
        self.settled = true;
        let plan = schedule::refresh_after(life, cx.jitter());
        if current.client_secret == request.client_secret {
            self.refresh.plan(plan, cx.now, wall);
        } else {
            self.refresh.due_by(cx.now);
        }
        debug!(
            portal = %cx.journal.portal,
            generation = self.tokens.generation,
            expires_in_s = life.as_secs(),
            refresh_in_s = plan.as_secs(),
            "Refreshed access token"
        );
    }

    fn on_failed(&mut self, request: &RefreshRequest, error: &GrantError, cx: &mut Context<'_>) {
        cx.journal.count(Count::GrantFailed);
        self.settled = true;
        let class = FailureClass::from(error);
        if cx.journal.record(&mut self.failure, class) {
            warn!(
                portal = %cx.journal.portal,
                failure.class = class.as_str(),
                %error,
                usable = cx.usable(),
                "Failed to refresh access token; retrying"
            );
        }
        self.refresh.attempt.failed();
        if self.validity.suspended().is_some() {
            // The next retry of a suspended credential is planned already.
            return;
        }
        let (failures, jitter) = (self.refresh.attempt.failures, cx.jitter());
        let wait = schedule::backoff(failures, error.retry_after(), cx.facts.token_left, jitter);
        let changed = cx.facts.request.as_ref().is_some_and(|current| current != request);
        self.refresh.due_by(if changed { cx.now } else { cx.now + wait });
    }

    fn on_adopted(
        &mut self,
        secret: &VersionedSecret,
        is_first: bool,
        previous_request: Option<&RefreshRequest>,
        cx: &mut Context<'_>,
    ) {
        if let PortalSecret::Static { access_token } = &secret.secret {
            return self.on_static(access_token, cx);
        }
        let change = RequestChange::between(previous_request, cx.facts.request.as_ref());
        if change == RequestChange::Nothing {
            // A new version with the credential that was rejected leaves it suspended.
            return;
        }
        self.tokens.permit_refreshes();
        if !is_first {
            info!(portal = %cx.journal.portal, version = secret.version, "Secret changed");
        }
        let needed = !self.tokens.is_usable(cx.now)
            || !self.validity.is_valid()
            || self.failure.is_some()
            || self.tokens.replacement_wanted.is_some()
            || self.is_rejected(cx.now);
        self.tokens.outdated = self.tokens.active.is_some();
        // Otherwise another replica has rotated the refresh token. A refresh of ours would rotate
        // it again, and the replicas would chase each other.
        if change == RequestChange::Client || needed {
            self.validity = Validity::Valid;
            self.refresh.attempt.failures = 0;
            self.refresh.due_by(cx.now);
        }
    }

    fn on_static(&mut self, access_token: &Secret, cx: &mut Context<'_>) {
        self.refresh.cancel();
        self.failure = None;
        self.tokens.outdated = false;
        self.validity = Validity::Valid;
        if !self.tokens.is_static(access_token) {
            self.tokens.publish(access_token.clone(), None, cx.now);
            self.check.token_read(cx.now);
            let generation = self.tokens.generation;
            info!(portal = %cx.journal.portal, generation, "Read access token");
        }
    }

    /// Resolves the callers that reported a token once the store has no other.
    fn conclude_no_replacement(&mut self, cx: &mut Context<'_>) {
        if self.tokens.outdated || self.refresh.in_flight {
            // Another token may come.
            return;
        }
        if let Some(generation) = self.tokens.conclude_no_replacement(cx.now) {
            cx.journal.last_failure = Some(FailureClass::TokenRejected);
            warn!(
                portal = %cx.journal.portal,
                generation,
                "HubSpot rejected the access token; no other token is available"
            );
        }
    }
}
