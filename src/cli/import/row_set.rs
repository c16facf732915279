//! Numbers of rows as ranges. Its memory grows with the gaps, not with the rows.

use std::collections::BTreeMap;

/// Set of row numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowSet {
    /// Last number of each range by its first one. No two ranges touch.
    ranges: BTreeMap<u64, u64>,
}

// === impl RowSet ===

impl RowSet {
    /// Adds a number. False if the set has it.
    pub(super) fn insert(&mut self, row: u64) -> bool {
        let before = self.ranges.range(..=row).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| row <= last) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + 1 == row => first,
            Some(_) | None => row,
        };
        let last = self.ranges.remove(&(row + 1)).unwrap_or(row);
        self.ranges.insert(first, last);
        true
    }

    /// Number of rows.
    pub(super) fn len(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(super) fn contains(&self, row: u64) -> bool {
        self.ranges.range(..=row).next_back().is_some_and(|(_, last)| row <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_are_ranges() {
        for (rows, expected) in [
            (&[1, 2, 3][..], &[(1, 3)][..]),
            (&[3, 1, 2], &[(1, 3)]),
            (&[2, 1, 5, 4, 9], &[(1, 2), (4, 5), (9, 9)]),
            (&[5, 3, 4, 4, 3, 5], &[(3, 5)]),
            (&[], &[]),
        ] {
            let mut set = RowSet::default();
            let mut known = std::collections::BTreeSet::new();
            for row in rows {
                assert_eq!(set.insert(*row), known.insert(*row), "{rows:?} {row}");
            }
            assert_eq!(set.len(), known.len() as u64);
            assert_eq!(set.ranges, expected.iter().copied().collect(), "{rows:?}");
            for row in 0..12 {
                assert_eq!(set.contains(row), known.contains(&row), "{rows:?} {row}");
            }
        }
    }
}
