//! Leads that are not there, as single reads have told.
//!
//! A batch read may not find a lead that was merged into another, where a single read of its old id
//! does. So an id that a batch read does not find is read alone; but not again each time, if that has not
//! found it either: an id that nobody has does not become one that was merged away.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::learned::FORGET;
use crate::leads::{Error, LeadId, Reason};

/// Most ids that are remembered.
const MOST: usize = 10_000;

/// Ids that single reads have not found lately: whether in the recycle bin, and which.
#[derive(Debug, Default)]
pub(super) struct Missing(Mutex<HashMap<(bool, LeadId), Instant>>);

// === impl Missing ===

impl Missing {
    /// A single read of the id has answered.
    pub(super) fn learn<T>(&self, archived: bool, id: &LeadId, answer: &Result<T, Error>) {
        let is_missing = answer.as_ref().is_err_and(|error| error.reason() == Reason::LeadNotFound);
        if !is_missing {
            return;
        }
        let mut all = self.0.lock();
        if all.len() >= MOST {
            all.retain(|_, since| since.elapsed() < FORGET);
            if all.len() >= MOST {
                all.clear();
            }
        }
        all.insert((archived, id.clone()), Instant::now());
    }

    /// Whether a single read has not found it lately.
    pub(super) fn is(&self, archived: bool, id: &LeadId) -> bool {
        let since = self.0.lock().get(&(archived, id.clone())).copied();
        since.is_some_and(|since| since.elapsed() < FORGET)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_has_an_end_and_a_bound() {
        let missing = Missing::default();
        let id = |number: usize| LeadId::parse(&number.to_string()).unwrap();
        let gone = || Err::<(), _>(Error::lead_not_found());
        missing.learn(false, &id(1), &gone());
        missing.learn(false, &id(2), &Ok(()));
        let down = Error::new(Reason::UpstreamUnavailable, "down");
        missing.learn(false, &id(3), &Err::<(), _>(down));
        let known = [1, 2, 3].map(|number| missing.is(false, &id(number)));
        assert_eq!(known, [true, false, false]);
        assert!(!missing.is(true, &id(1)), "the recycle bin is another place");
        tokio::time::sleep(FORGET).await;
        assert!(!missing.is(false, &id(1)));
        (0..3 * MOST).for_each(|number| missing.learn(false, &id(number), &gone()));
        assert!(missing.0.lock().len() <= MOST);
    }
}
