//! Writes that HubSpot has just refused for their content, and would refuse again: an option that
//! keeps a caller in a loop from spending calls, and from the share of errors that HubSpot allows an
//! app.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    call::PortalName,
    error::{Error, Reason, SideEffect},
};

/// Most refusals kept; the oldest go first.
const MAX_KEPT: usize = 1_000;

type Key = (PortalName, u64);

/// Refusals of the last while.
#[derive(Debug)]
pub(super) struct Refusals {
    /// How long one is kept; zero keeps none.
    keep: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    errors: HashMap<Key, Error>,
    /// Oldest first.
    order: VecDeque<(Instant, Key)>,
}

// === impl Refusals ===

impl Refusals {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, kept: Mutex::default() }
    }

    /// Why the same write was refused a moment ago.
    pub(super) fn of(&self, portal: &PortalName, fingerprint: u64) -> Option<Error> {
        if self.keep.is_zero() {
            return None;
        }
        let mut kept = self.kept.lock();
        kept.forget(Instant::now(), self.keep);
        kept.errors.get(&(portal.clone(), fingerprint)).cloned()
    }

    /// Remembers an error if it is about the content of the write.
    pub(super) fn remember(&self, portal: &PortalName, fingerprint: u64, error: &Error) {
        let is_final = error.reason() == Reason::ValidationFailed;
        if self.keep.is_zero() || !is_final || error.side_effect() != SideEffect::None {
            return;
        }
        let (now, key) = (Instant::now(), (portal.clone(), fingerprint));
        let mut kept = self.kept.lock();
        kept.forget(now, self.keep);
        if kept.errors.insert(key.clone(), error.clone()).is_none() {
            kept.order.push_back((now, key));
        }
    }
}

// === impl Kept ===

impl Kept {
    fn forget(&mut self, now: Instant, keep: Duration) {
        while let Some((since, _)) = self.order.front()
            && (now.duration_since(*since) >= keep || self.order.len() >= MAX_KEPT)
        {
            if let Some((_, key)) = self.order.pop_front() {
                self.errors.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn portal() -> PortalName {
        PortalName::parse("default").unwrap()
    }

    fn error(reason: Reason) -> Error {
        Error::new(reason, "no")
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_kept_for_its_time_and_other_errors_are_not() {
        let refusals = Refusals::new(Duration::from_secs(60));
        refusals.remember(&portal(), 1, &error(Reason::ValidationFailed));
        refusals.remember(&portal(), 2, &error(Reason::RateLimited));
        assert_eq!(refusals.of(&portal(), 1), Some(error(Reason::ValidationFailed)));
        assert_eq!(refusals.of(&portal(), 2), None);
        assert_eq!(refusals.of(&PortalName::parse("eu").unwrap(), 1), None);
        advance(Duration::from_secs(60)).await;
        assert_eq!(refusals.of(&portal(), 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_zero_keeps_nothing() {
        let refusals = Refusals::new(Duration::from_secs(60));
        for fingerprint in 0..5_000 {
            refusals.remember(&portal(), fingerprint, &error(Reason::ValidationFailed));
        }
        let kept = refusals.kept.lock();
        assert!(kept.order.len() <= MAX_KEPT && kept.errors.len() == kept.order.len());
        drop(kept);
        let off = Refusals::new(Duration::ZERO);
        off.remember(&portal(), 1, &error(Reason::ValidationFailed));
        assert_eq!(off.of(&portal(), 1), None);
    }
}
