//! Caches ids for which an individual read returned 404.
//!
//! A batch read does not find a lead that was merged into another; an individual read of its old id
//! does. So an id that a batch read does not find is read individually. If that read returns 404 as
//! well, the id is cached, because an unknown id never becomes the id of a merged lead.

use leadsd_base::cache::TtlCache;

use super::OBSERVATION_TTL as TTL;
use crate::leads::{Error, LeadId, Reason};

/// Maximum memory of the cached ids of one portal, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Estimated number of entries: a record id takes about 100 bytes.
const ESTIMATED_ENTRIES: usize = 10_000;

/// Memory of an entry besides the text of its id: key, expiry, and their places in the cache.
const ENTRY_OVERHEAD: usize = 96;

/// True if the archived lead was read, and its id.
type NotFoundKey = (bool, LeadId);

/// Ids that individual reads did not find recently.
#[derive(Debug)]
pub(in crate::pipeline) struct NotFoundCache(TtlCache<NotFoundKey, ()>);

// === impl NotFoundCache ===

impl Default for NotFoundCache {
    fn default() -> Self {
        Self(TtlCache::weighted(MAX_BYTES, ESTIMATED_ENTRIES, TTL))
    }
}

impl NotFoundCache {
    /// Observes the result of an individual read.
    pub(in crate::pipeline) fn observe<T>(
        &self,
        archived: bool,
        id: &LeadId,
        result: &Result<T, Error>,
    ) {
        if result.as_ref().is_err_and(|error| error.reason() == Reason::LeadNotFound) {
            let bytes = ENTRY_OVERHEAD + id.as_str().len();
            self.0.insert_weighted((archived, id.clone()), (), bytes as u64);
        }
    }

    /// True if an individual read did not find the id recently.
    pub(in crate::pipeline) fn contains(&self, archived: bool, id: &LeadId) -> bool {
        self.0.get(&(archived, id.clone())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_expire_and_are_bounded() {
        let cache = NotFoundCache::default();
        let id = |number: usize| LeadId::parse(&number.to_string()).unwrap();
        let not_found = || Err::<(), _>(Error::lead_not_found());
        cache.observe(false, &id(1), &not_found());
        cache.observe(false, &id(2), &Ok(()));
        let down = Error::new(Reason::UpstreamUnavailable, "down");
        cache.observe(false, &id(3), &Err::<(), _>(down));
        assert_eq!(
            [1, 2, 3].map(|number| cache.contains(false, &id(number))),
            [true, false, false]
        );
        assert!(!cache.contains(true, &id(1)), "archived leads are cached separately");
        tokio::time::sleep(TTL).await;
        assert!(!cache.contains(false, &id(1)));
        (0..3 * ESTIMATED_ENTRIES)
            .for_each(|number| cache.observe(false, &id(number), &not_found()));
        assert!(cache.0.weight() <= MAX_BYTES);
        assert!(cache.contains(false, &id(3 * ESTIMATED_ENTRIES - 1)), "the latest is there");
    }
}
