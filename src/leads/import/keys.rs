//! Keys of recent rows, as the request ids that are made of them.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

/// Number of rows before a row from which its key must differ.
pub(in crate::leads) const RECENT: usize = 10_000;

/// Keys of the last rows of a stream.
#[derive(Debug, Default)]
pub(in crate::leads) struct RecentKeys {
    known: HashSet<Uuid>,
    /// The same, the oldest first.
    order: VecDeque<Uuid>,
}

// === impl RecentKeys ===

impl RecentKeys {
    /// Maximum memory of the keys in bytes: the set is at most doubled.
    pub(in crate::leads) const BYTES: usize = RECENT * 4 * size_of::<Uuid>();

    /// Adds the key of a row. False if one of the rows before has it.
    pub(in crate::leads) fn add(&mut self, key: Uuid) -> bool {
        if !self.known.insert(key) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_differ_from_the_last_ten_thousand() {
        let mut keys = RecentKeys::default();
        let key = |number: usize| Uuid::from_u128(number as u128);
        assert!((0..RECENT).all(|number| keys.add(key(number))));
        assert!(!keys.add(key(0)) && !keys.add(key(RECENT - 1)));
        assert!(keys.add(key(RECENT)));
        assert!(keys.add(key(0)), "the oldest is forgotten");
        assert_eq!((keys.known.len(), keys.order.len()), (RECENT, RECENT));
    }
}
