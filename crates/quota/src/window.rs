//! A true rolling window, seen from the side that sends.
//!
//! HubSpot counts a call when it arrives, which is some time between when it was sent and when its
//! answer is here. A slot is therefore held until the answer is here, but no longer than a call may
//! reasonably be on its way, and for one length of the window after that: then it has left HubSpot's
//! window too. A call that is on its way for longer than that may meet a refusal.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::ledger::TENTHS;

/// A rolling window over the calls of one bucket. Slots are numbered from 0, in the order taken.
#[derive(Debug)]
pub(super) struct Window {
    length: Duration,
    /// Longest way of a call to HubSpot: a slot is held no longer than this for an answer.
    reach: Duration,
    slots: VecDeque<Slot>,
    /// Number of the slot at the front.
    first: u64,
    /// Slots that count: those in `slots` that were not given back.
    live: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Taken; its call was not sent yet.
    Held,
    /// Its call was sent, and counts until then.
    Until(Instant),
    /// Given back.
    Free,
}

// === impl Window ===

impl Window {
    pub(super) fn new(length: Duration, reach: Duration) -> Self {
        Self { length, reach, slots: VecDeque::new(), first: 0, live: 0 }
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    /// Another length, for the slots taken from here on.
    pub(super) fn set_length(&mut self, length: Duration) {
        self.length = length;
    }

    /// Slots that count.
    pub(super) fn used(&self) -> usize {
        self.live
    }

    /// Number of the oldest slot that may still count.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Number of the slot that is taken next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Longest way of a call to HubSpot.
    pub(super) fn reach(&self) -> Duration {
        self.reach
    }

    /// When HubSpot has counted the call of this slot at the latest; `None` if it does not count.
    pub(super) fn counted(&self, number: u64, now: Instant) -> Option<Instant> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        match self.slots.get(index)? {
            Slot::Held => Some(now + self.reach),
            Slot::Until(until) => until.checked_sub(self.length),
            Slot::Free => None,
        }
    }

    /// How many slots leave the window in each tenth of it from now on.
    pub(super) fn leaving(&self, now: Instant) -> [u64; TENTHS] {
        let mut leaving = [0; TENTHS];
        let length = self.length.as_micros().max(1);
        for slot in &self.slots {
            let left = match slot {
                Slot::Held => length,
                Slot::Until(until) => until.saturating_duration_since(now).as_micros(),
                Slot::Free => continue,
            };
            let part = usize::try_from(left * TENTHS as u128 / length).unwrap_or(TENTHS);
            leaving[part.min(TENTHS - 1)] += 1;
        }
        leaving
    }

    /// Takes a slot.
    pub(super) fn take(&mut self) -> u64 {
        let number = self.next();
        self.slots.push_back(Slot::Held);
        self.live += 1;
        number
    }

    /// The call of this slot is sent now.
    pub(super) fn sent(&mut self, number: u64, now: Instant) {
        let until = now + self.reach + self.length;
        if let Some(slot) = self.slot(number) {
            *slot = Slot::Until(until);
        }
    }

    /// The call of this slot is over: it has arrived before now.
    pub(super) fn done(&mut self, number: u64, now: Instant) {
        let until = now + self.length;
        if let Some(slot) = self.slot(number) {
            *slot = match *slot {
                Slot::Until(known) => Slot::Until(known.min(until)),
                Slot::Held => Slot::Until(until),
                Slot::Free => Slot::Free,
            };
        }
    }

    /// The slot was not used.
    pub(super) fn give_back(&mut self, number: u64) {
        if let Some(slot) = self.slot(number)
            && *slot != Slot::Free
        {
            *slot = Slot::Free;
            self.live -= 1;
        }
    }

    /// Forgets what has left the window.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(slot) = self.slots.front() {
            match slot {
                Slot::Held => break,
                Slot::Until(until) if *until > now => break,
                Slot::Until(_) => self.live -= 1,
                Slot::Free => {}
            }
            self.slots.pop_front();
            self.first += 1;
        }
    }

    /// When the permit after `ahead` others can be given, as far as is known now: those ahead are
    /// taken to be sent as soon as they can.
    pub(super) fn opens(&self, limit: usize, ahead: usize, now: Instant) -> Instant {
        let limit = limit.max(1);
        // Those ahead that go a whole round later each wait for one before them.
        let (rounds, ahead) = (ahead / limit, ahead % limit);
        let round =
            (self.length + self.reach).saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let must_leave = (self.live + ahead + 1).saturating_sub(limit);
        if must_leave == 0 {
            return now + round;
        }
        let live = self.slots.iter().filter(|slot| **slot != Slot::Free);
        let leaving = live.clone().nth(must_leave - 1).or_else(|| live.clone().next_back());
        let left = match leaving {
            Some(Slot::Until(until)) => (*until).max(now),
            Some(Slot::Held) => now + self.reach + self.length,
            Some(Slot::Free) | None => now,
        };
        left + round
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.slots.get_mut(index)
    }
}
