//! State of the machines for callers and operators.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    context::Journal, secret_watch::SecretWatch, token_cycle::TokenCycle, write_back::WriteBack,
};
use crate::{
    failure::FailureClass,
    published::Published,
    status::{Kind, PortalStatus, State},
    store::PortalSecret,
};

/// A view of all three machines.
pub(super) struct MachineReport<'a> {
    pub(super) watch: &'a SecretWatch,
    pub(super) cycle: &'a TokenCycle,
    pub(super) write_back: &'a WriteBack,
    pub(super) journal: &'a Journal,
}

// === impl MachineReport ===

impl MachineReport<'_> {
    /// State for callers.
    pub(super) fn published(&self) -> Published {
        Published {
            active: self.cycle.tokens.active.clone(),
            no_replacement: self.cycle.tokens.no_replacement,
            suspended: self.cycle.validity.suspended().map(|(why, _)| Arc::clone(why)),
            awaits: self.awaits(),
        }
    }

    /// State for operators.
    pub(super) fn status(&self, now: Instant, discovered: bool) -> PortalStatus {
        let tokens = &self.cycle.tokens;
        let expires_at = tokens.active.as_ref().and_then(|active| active.expires_at);
        let secret = self.watch.secret();
        PortalStatus {
            portal: Arc::clone(&self.journal.portal),
            discovered,
            state: self.state(now),
            kind: secret.map(|secret| match secret.secret {
                PortalSecret::Static { .. } => Kind::Static,
                PortalSecret::OAuth { .. } => Kind::OAuth,
            }),
            usable: self.cycle.is_usable(now),
            unused: !self.cycle.wanted,
            generation: tokens.generation,
            token_age: tokens.published_at.map(|at| now.saturating_duration_since(at)),
            expires_in: expires_at.map(|at| at.saturating_duration_since(now)),
            next_refresh: self
                .cycle
                .refresh
                .attempt
                .due
                .map(|at| at.saturating_duration_since(now)),
            failure: self.failure(now),
            last_failure: self.journal.last_failure,
            secret_version: secret.map(|secret| secret.version),
            secret_deleted: self.watch.is_deleted(),
            write_back_pending: self.write_back.is_pending(),
            counters: self.journal.meter.read(),
        }
    }

    fn state(&self, now: Instant) -> State {
        if self.cycle.validity.suspended().is_some() {
            return State::Suspended;
        }
        let failure = self.failure(now);
        let renewal_works = self.cycle.failure.is_none()
            && self.write_back.failure().is_none()
            && failure.is_none_or(FailureClass::is_transient);
        match (self.cycle.tokens.is_usable(now), renewal_works) {
            (true, _) if self.cycle.is_rejected(now) => State::Failed,
            (true, _) if self.cycle.check.is_pending() => State::Starting,
            (true, true) => State::Fresh,
            (true, false) => State::Stale,
            (false, _) if self.cycle.tokens.generation == 0 && failure.is_none() => State::Starting,
            (false, _) => State::Failed,
        }
    }

    fn failure(&self, now: Instant) -> Option<FailureClass> {
        if let Some((_, class)) = self.cycle.validity.suspended() {
            return Some(class);
        }
        if self.cycle.is_rejected(now) {
            return Some(FailureClass::TokenRejected);
        }
        let missing = || self.watch.is_deleted().then_some(FailureClass::SecretMissing);
        let endpoint_or_store = self.cycle.failure.or_else(|| self.watch.failure());
        endpoint_or_store.or_else(missing).or_else(|| self.write_back.failure())
    }

    fn awaits(&self) -> &'static str {
        match self.cycle.failure.or_else(|| self.watch.failure()) {
            Some(FailureClass::StoreUnavailable) => "vault is unavailable",
            Some(FailureClass::LoginRejected) => "vault rejects the login",
            Some(FailureClass::StoreDenied) => "vault denies access to the secret",
            Some(FailureClass::SecretMissing) => "there is no secret",
            Some(FailureClass::SecretMalformed) => "the secret is malformed",
            Some(FailureClass::TokenThrottled) => "the token endpoint throttles requests",
            Some(FailureClass::TokenUnavailable) => "the token endpoint is unavailable",
            Some(FailureClass::GrantRejected) => "the token endpoint rejects the credential",
            Some(FailureClass::StoreConflict | FailureClass::TokenRejected) | None => {
                match self.watch.secret() {
                    None => "the secret is being read",
                    Some(_) => "a token is on its way",
                }
            }
        }
    }
}
