//! Caches writes that HubSpot rejected for their content and would reject again. Optional: it keeps
//! a caller in a loop from spending requests, and from the error rate that HubSpot allows an app.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    context::PortalName,
    error::{Error, Reason, SideEffect},
};

/// Most cache kept; the oldest go first.
const MAX_KEPT: usize = 1_000;

type Key = (PortalName, u64);

/// RejectionCache of the last while.
#[derive(Debug)]
pub(super) struct RejectionCache {
    /// Time to live of an entry. Zero disables the cache.
    keep: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    errors: HashMap<Key, Error>,
    /// Oldest first.
    order: VecDeque<(Instant, Key)>,
}

// === impl RejectionCache ===

impl RejectionCache {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, kept: Mutex::default() }
    }

    /// The rejection of the same write, if it is cached.
    pub(super) fn get(&self, portal: &PortalName, fingerprint: u64) -> Option<Error> {
        if self.keep.is_zero() {
            return None;
        }
        let mut kept = self.kept.lock();
        kept.expire(Instant::now(), self.keep);
        kept.errors.get(&(portal.clone(), fingerprint)).cloned()
    }

    /// Caches an error if it is about the content of the write.
    pub(super) fn insert(&self, portal: &PortalName, fingerprint: u64, error: &Error) {
        let is_final = error.reason() == Reason::ValidationFailed;
        if self.keep.is_zero() || !is_final || error.side_effect() != SideEffect::None {
            return;
        }
        let (now, key) = (Instant::now(), (portal.clone(), fingerprint));
        let mut kept = self.kept.lock();
        kept.expire(now, self.keep);
        if kept.errors.insert(key.clone(), error.clone()).is_none() {
            kept.order.push_back((now, key));
        }
    }
}

// === impl Kept ===

impl Kept {
    fn expire(&mut self, now: Instant, keep: Duration) {
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
    async fn a_rejection_expires_and_other_errors_are_not_cached() {
        let cache = RejectionCache::new(Duration::from_secs(60));
        cache.insert(&portal(), 1, &error(Reason::ValidationFailed));
        cache.insert(&portal(), 2, &error(Reason::RateLimited));
        assert_eq!(cache.get(&portal(), 1), Some(error(Reason::ValidationFailed)));
        assert_eq!(cache.get(&portal(), 2), None);
        assert_eq!(cache.get(&PortalName::parse("eu").unwrap(), 1), None);
        advance(Duration::from_secs(60)).await;
        assert_eq!(cache.get(&portal(), 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_zero_disables_the_cache() {
        let cache = RejectionCache::new(Duration::from_secs(60));
        for fingerprint in 0..5_000 {
            cache.insert(&portal(), fingerprint, &error(Reason::ValidationFailed));
        }
        let kept = cache.kept.lock();
        assert!(kept.order.len() <= MAX_KEPT && kept.errors.len() == kept.order.len());
        drop(kept);
        let off = RejectionCache::new(Duration::ZERO);
        off.insert(&portal(), 1, &error(Reason::ValidationFailed));
        assert_eq!(off.get(&portal(), 1), None);
    }
}
