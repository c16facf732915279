//! A rolling window, counted by the client.
//!
//! HubSpot counts a call on arrival, some time between request and response. A slot is therefore
//! held until the response, but at most for the assumed transit time. Then it is held for one
//! length of the window, after which the call has left HubSpot's window too. A call with a longer
//! transit can be rejected with 429.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::ledger::TENTHS;

/// A rolling window over the calls of one bucket. Slots are numbered from 0, in the order taken.
#[derive(Debug)]
pub(crate) struct Window {
    length: Duration,
    /// Maximum transit time of a call to HubSpot. A slot is held no longer than this for a response.
    transit: Duration,
    slots: VecDeque<WindowSlot>,
    /// Number of the slot at the front.
    first: u64,
    /// Slots that count: those in `slots` that were not released.
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WindowSlot {
    /// The call of the slot is not sent yet.
    Held,
    /// The call of the slot counts until this time.
    Until(Instant),
    /// Released without a call.
    Free,
}

// === impl Window ===

impl Window {
    pub(crate) fn new(length: Duration, transit: Duration) -> Self {
        Self { length, transit, slots: VecDeque::new(), first: 0, live: 0 }
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Sets the length for calls that are sent or end from now on.
    pub(crate) fn set_length(&mut self, length: Duration) {
        self.length = length;
    }

    /// Number of slots that count.
    pub(crate) fn used(&self) -> usize {
        self.live
    }

    /// Number of the oldest slot that may still count.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Number of the next slot.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Maximum transit time of a call to HubSpot.
    pub(crate) fn transit(&self) -> Duration {
        self.transit
    }

    /// Sets the maximum transit time of calls that are sent from now on.
    pub(crate) fn set_transit(&mut self, transit: Duration) {
        self.transit = transit;
    }

    /// Latest time at which HubSpot counts the call of a slot. `None` if the slot does not count.
    pub(crate) fn counted_at(&self, number: u64, now: Instant) -> Option<Instant> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        match self.slots.get(index)? {
            WindowSlot::Held => Some(now + self.transit),
            WindowSlot::Until(until) => until.checked_sub(self.length),
            WindowSlot::Free => None,
        }
    }

    /// Number of slots that leave the window in each tenth of it from now on.
    pub(crate) fn leaving(&self, now: Instant) -> [u64; TENTHS] {
        let mut leaving = [0; TENTHS];
        let length = self.length.as_micros().max(1);
        for slot in &self.slots {
            let left = match slot {
                WindowSlot::Held => length,
                WindowSlot::Until(until) => until.saturating_duration_since(now).as_micros(),
                WindowSlot::Free => continue,
            };
            let part = usize::try_from(left * TENTHS as u128 / length).unwrap_or(TENTHS);
            leaving[part.min(TENTHS - 1)] += 1;
        }
        leaving
    }

    /// Acquires a slot.
    pub(crate) fn take(&mut self) -> u64 {
        let number = self.next();
        self.slots.push_back(WindowSlot::Held);
        self.live += 1;
        number
    }

    /// Records that the call of a slot is sent now.
    pub(crate) fn mark_sent(&mut self, number: u64, now: Instant) {
        let until = now + self.transit + self.length;
        if let Some(slot) = self.slot(number) {
            *slot = WindowSlot::Until(until);
        }
    }

    /// Records that the call of a slot ended: it has arrived before now.
    pub(crate) fn finish(&mut self, number: u64, now: Instant) {
        let until = now + self.length;
        if let Some(slot) = self.slot(number) {
            *slot = match *slot {
                WindowSlot::Until(known) => WindowSlot::Until(known.min(until)),
                WindowSlot::Held => WindowSlot::Until(until),
                WindowSlot::Free => WindowSlot::Free,
            };
        }
    }

    /// Records that a slot was not used.
    pub(crate) fn release(&mut self, number: u64) {
        if let Some(slot) = self.slot(number)
            && *slot != WindowSlot::Free
        {
            *slot = WindowSlot::Free;
            self.live -= 1;
        }
    }

    /// Removes slots that have left the window.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(slot) = self.slots.front() {
            match slot {
                WindowSlot::Held => break,
                WindowSlot::Until(until) if *until > now => break,
                WindowSlot::Until(_) => self.live -= 1,
                WindowSlot::Free => {}
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// Estimated time at which the window has room for the permit after `ahead` others. Those are assumed
    /// to be sent as soon as they can.
    pub(crate) fn opens(&self, limit: usize, ahead: usize, now: Instant) -> Instant {
        let limit = limit.max(1);
        // A full window ahead delays by one round each.
        let (rounds, ahead) = (ahead / limit, ahead % limit);
        let round =
            (self.length + self.transit).saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let must_leave = (self.live + ahead + 1).saturating_sub(limit);
        if must_leave == 0 {
            return now + round;
        }
        let live = self.slots.iter().filter(|slot| **slot != WindowSlot::Free);
        let leaving = live.clone().nth(must_leave - 1).or_else(|| live.clone().next_back());
        let left = match leaving {
            Some(WindowSlot::Until(until)) => (*until).max(now),
            Some(WindowSlot::Held) => now + self.transit + self.length,
            Some(WindowSlot::Free) | None => now,
        };
        left + round
    }

    fn slot(&mut self, number: u64) -> Option<&mut WindowSlot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}

#[cfg(test)]
mod tests;
