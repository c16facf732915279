//! Caches writes that HubSpot rejected for their content and would reject again. Optional: it keeps
//! a caller in a loop from spending requests, and from the error rate that HubSpot allows an app.

use std::time::Duration;

use leadsd_base::cache::TtlCache;

use super::{
    context::PortalName,
    error::{Error, Reason, SideEffect},
    memory::memory_of,
};

/// Maximum memory of the cached errors, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Estimated number of entries: an error with its key takes about 1 KiB.
const ESTIMATED_ENTRIES: usize = 1_000;

/// A write: its portal and the hash of its content.
type RejectedWriteKey = (PortalName, u64);

/// Rejected writes. Empty if the time to live is zero.
#[derive(Debug)]
pub(super) struct RejectionCache(TtlCache<RejectedWriteKey, Error>);

// === impl RejectionCache ===

impl RejectionCache {
    /// Creates a cache with this time to live. Zero disables it.
    pub(super) fn new(ttl: Duration) -> Self {
        Self(TtlCache::weighted(MAX_BYTES, ESTIMATED_ENTRIES, ttl))
    }

    /// The rejection of the same write, if it is cached.
    pub(super) fn get(&self, portal: &PortalName, fingerprint: u64) -> Option<Error> {
        self.0.get(&(portal.clone(), fingerprint))
    }

    /// Caches an error if it is about the content of the write.
    pub(super) fn insert(&self, portal: &PortalName, fingerprint: u64, error: &Error) {
        let is_final = error.reason() == Reason::ValidationFailed;
        if is_final && error.side_effect() == SideEffect::None {
            let bytes = size_of::<RejectedWriteKey>() + memory_of(error);
            self.0.insert_weighted((portal.clone(), fingerprint), error.clone(), bytes as u64);
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
        let possible = error(Reason::ValidationFailed).with_side_effect(SideEffect::Possible);
        cache.insert(&portal(), 1, &error(Reason::ValidationFailed));
        cache.insert(&portal(), 2, &error(Reason::RateLimited));
        cache.insert(&portal(), 3, &possible);
        assert_eq!(cache.get(&portal(), 1), Some(error(Reason::ValidationFailed)));
        assert_eq!([2, 3].map(|write| cache.get(&portal(), write)), [None, None]);
        assert_eq!(cache.get(&PortalName::parse("eu").unwrap(), 1), None);
        advance(Duration::from_secs(60)).await;
        assert_eq!(cache.get(&portal(), 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_in_bytes() {
        let cache = RejectionCache::new(Duration::from_secs(60));
        let large = Error::new(Reason::ValidationFailed, "x".repeat(10_000));
        for fingerprint in 0..1_000 {
            cache.insert(&portal(), fingerprint, &large);
        }
        assert!(cache.0.weight() <= MAX_BYTES);
        assert!((50..105).contains(&cache.0.len()), "{}", cache.0.len());
        assert!(cache.get(&portal(), 999).is_some(), "the latest is there");
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_to_live_of_zero_disables_the_cache() {
        let off = RejectionCache::new(Duration::ZERO);
        off.insert(&portal(), 1, &error(Reason::ValidationFailed));
        assert_eq!(off.get(&portal(), 1), None);
    }
}
