//! Caches ids for which an individual read returned 404.
//!
//! A batch read may not find a lead that was merged into another, where an individual read of its old
//! id does. So an id that a batch read does not find is read individually; but not again each time if
//! that does not find it either, because an unknown id does not become the id of a merged lead.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::OBSERVATION_TTL as TTL;
use crate::leads::{Error, LeadId, Reason};

/// Maximum number of cached ids.
const CAPACITY: usize = 10_000;

/// Ids that individual reads did not find recently, by whether the archived lead was read.
#[derive(Debug, Default)]
pub(super) struct NotFoundCache(Mutex<HashMap<(bool, LeadId), Instant>>);

// === impl NotFoundCache ===

impl NotFoundCache {
    /// Observes the result of an individual read.
    pub(super) fn observe<T>(&self, archived: bool, id: &LeadId, result: &Result<T, Error>) {
        let not_found = result.as_ref().is_err_and(|error| error.reason() == Reason::LeadNotFound);
        if !not_found {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= CAPACITY {
            all.retain(|_, since| since.elapsed() < TTL);
            if all.len() >= CAPACITY {
                all.clear();
            }
        }
        all.insert((archived, id.clone()), Instant::now());
    }

    /// Whether an individual read did not find the id recently.
    pub(super) fn contains(&self, archived: bool, id: &LeadId) -> bool {
        let since = self.0.lock().get(&(archived, id.clone())).copied();
        since.is_some_and(|since| since.elapsed() < TTL)
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
        (0..3 * CAPACITY).for_each(|number| cache.observe(false, &id(number), &not_found()));
        assert!(cache.0.lock().len() <= CAPACITY);
    }
}
