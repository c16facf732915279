//! Slots as the ledger numbers them, and changes that it does not know yet.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
};

use tokio::time::Instant;

use crate::{clock_offset::ClockOffset, ledger::SlotReport};

/// Number of slots between two removals of slots that have left the window.
const FORGET_INTERVAL: u64 = 64;

/// Latest times at which HubSpot counts the call of a slot in each window; `None` if the slot has
/// been removed.
pub(crate) type CountedAt<'a> = &'a dyn Fn(u64) -> Option<[Instant; 2]>;

/// Numbers and unreported changes of slots.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Numbers in the ledger by slot.
    numbers: HashMap<u64, u64>,
    next_number: u64,
    /// Slots with changes that are not reported.
    changed: BTreeSet<u64>,
    /// Numbers of permits that were not used.
    unused: Vec<u64>,
}

// === impl Reports ===

impl Reports {
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.unused.is_empty()
    }

    /// Reserves numbers for requested permits, and returns the first.
    pub(super) fn reserve(&mut self, permits: usize) -> u64 {
        let first = self.next_number;
        self.next_number += permits as u64;
        first
    }

    /// Records a slot with the number of its permit; `None` without a permit of the ledger.
    pub(super) fn take(&mut self, slot: u64, number: Option<u64>) {
        let number = number.unwrap_or_else(|| self.reserve(1));
        self.numbers.insert(slot, number);
    }

    pub(super) fn mark_changed(&mut self, slot: u64) {
        self.changed.insert(slot);
    }

    /// Marks all slots as unreported, for a new ledger.
    pub(super) fn mark_all_changed(&mut self) {
        self.changed.extend(self.numbers.keys());
    }

    /// Records that a slot was not used. Returns its number.
    pub(super) fn release(&mut self, slot: u64) -> Option<u64> {
        self.changed.remove(&slot);
        self.numbers.remove(&slot)
    }

    /// Records that permits of these numbers were not used.
    pub(super) fn add_unused(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.unused.extend(numbers);
    }

    /// Forgets slots before `first` that are reported.
    pub(super) fn forget_before(&mut self, first: u64) {
        if self.numbers.len() as u64 > FORGET_INTERVAL || first.is_multiple_of(FORGET_INTERVAL) {
            let changed = &self.changed;
            self.numbers.retain(|slot, _| *slot >= first || changed.contains(slot));
        }
    }

    /// Discards all changes: the ledger is unavailable, and receives all slots when it is available again.
    pub(super) fn discard(&mut self) {
        self.changed.clear();
        self.unused.clear();
    }

    /// Takes all changes as reports in the ledger's time.
    pub(super) fn take_reports(
        &mut self,
        counted_at: CountedAt<'_>,
        offset: ClockOffset,
    ) -> Vec<SlotReport> {
        let mut reports = Vec::with_capacity(self.changed.len() + self.unused.len());
        for slot in mem::take(&mut self.changed) {
            if let (Some(number), Some(counted)) = (self.numbers.get(&slot), counted_at(slot)) {
                let counted = counted.map(|at| offset.to_ledger(at));
                reports.push(SlotReport { number: *number, counted: Some(counted) });
            }
        }
        let unused = mem::take(&mut self.unused).into_iter();
        reports.extend(unused.map(|number| SlotReport { number, counted: None }));
        reports
    }
}

#[cfg(test)]
mod tests;
