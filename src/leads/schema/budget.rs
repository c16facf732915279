//! Bound of the HubSpot calls that one portal spends on its schema: four in any ten minutes, whatever
//! callers ask for.
//!
//! - Properties, pipelines and owners have one slot each, so that no caller can keep another one from its
//!   first read of them.
//! - The spare slot serves what else needs a call: association types, validation rules, further pages of
//!   owners, a read repeated after a failure, and a copy that is refreshed early. Parts take turns.
//!
//! A slot is free again ten minutes after its call has ended. So HubSpot counts no fifth call, however
//! long one is queued.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{association_types::is_standard, part::PartKey};

/// Period in which each slot serves one call.
pub(super) const WINDOW: Duration = Duration::from_secs(600);

/// Time for which a part keeps its turn for the spare slot after a caller asked for it.
const TURN: Duration = Duration::from_secs(60);

/// Number of slots of single parts.
const OWN_SLOTS: usize = 3;

/// Slot of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Slot of one part.
    Own(usize),
    /// Slot of all parts.
    Spare,
}

/// Reason why a call is made, which decides the slots that it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Any slot.
    Read,
    /// Only the slot of the part: the call probably fails again.
    LastingFailure,
    /// Only the spare slot: the slot of the part has served the call before.
    Further,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    InUse,
    UsedUntil(Instant),
}

/// Part that waits for the spare slot.
#[derive(Debug)]
struct Waiting {
    part: PartKey,
    asked: Instant,
}

/// Budget of one portal.
#[derive(Debug)]
pub(super) struct CallBudget {
    own: [SlotState; OWN_SLOTS],
    spare: SlotState,
    /// Parts that wait for the spare slot, in order. Each part is listed once.
    waiting: VecDeque<Waiting>,
}

// === impl SlotState ===

impl SlotState {
    /// Time until the slot is free; `None` if it is free now.
    fn wait(self, now: Instant) -> Option<Duration> {
        match self {
            Self::Free => None,
            Self::InUse => Some(WINDOW),
            Self::UsedUntil(end) => {
                Some(end.saturating_duration_since(now)).filter(|t| !t.is_zero())
            }
        }
    }
}

// === impl CallBudget ===

impl Default for CallBudget {
    fn default() -> Self {
        let own = [SlotState::Free; OWN_SLOTS];
        Self { own, spare: SlotState::Free, waiting: VecDeque::new() }
    }
}

impl CallBudget {
    /// Acquires a slot for a call that reads `part`. Errors with the time until a slot may be free.
    pub(super) fn acquire(
        &mut self,
        part: &PartKey,
        purpose: Purpose,
        now: Instant,
    ) -> Result<Slot, Duration> {
        let mut waits = Vec::new();
        if purpose != Purpose::Further
            && let Some(index) = own_slot(part)
        {
            match self.own[index].wait(now) {
                None => {
                    self.own[index] = SlotState::InUse;
                    return Ok(Slot::Own(index));
                }
                Some(wait) => waits.push(wait),
            }
        }
        if purpose != Purpose::LastingFailure || own_slot(part).is_none() {
            match self.acquire_spare(part, now) {
                Ok(()) => return Ok(Slot::Spare),
                Err(wait) => waits.push(wait),
            }
        }
        Err(waits.into_iter().min().unwrap_or(WINDOW))
    }

    /// Returns a slot. It counts as used if the call was sent.
    pub(super) fn release(&mut self, slot: Slot, was_sent: bool, now: Instant) {
        let state = if was_sent { SlotState::UsedUntil(now + WINDOW) } else { SlotState::Free };
        match slot {
            Slot::Own(index) => self.own[index] = state,
            Slot::Spare => self.spare = state,
        }
    }

    fn acquire_spare(&mut self, part: &PartKey, now: Instant) -> Result<(), Duration> {
        self.waiting.retain(|other| now.saturating_duration_since(other.asked) <= TURN);
        let wait = self.spare.wait(now);
        let is_next = self.waiting.front().is_none_or(|next| next.part == *part);
        if wait.is_none() && is_next {
            self.waiting.pop_front();
            self.spare = SlotState::InUse;
            return Ok(());
        }
        self.enqueue(part, now);
        Err(wait.unwrap_or(TURN))
    }

    /// Notes that a part waits. Of the object types that callers may invent, one waits at a time.
    fn enqueue(&mut self, part: &PartKey, now: Instant) {
        if let Some(own) = self.waiting.iter_mut().find(|other| other.part == *part) {
            own.asked = now;
            return;
        }
        let is_invented = |part: &PartKey| match part {
            PartKey::AssociationTypes(to) => !is_standard(to),
            PartKey::Properties
            | PartKey::ValidationRules
            | PartKey::Pipelines
            | PartKey::Owners => false,
        };
        if is_invented(part) && self.waiting.iter().any(|other| is_invented(&other.part)) {
            return;
        }
        self.waiting.push_back(Waiting { part: part.clone(), asked: now });
    }
}

/// Index of the slot of a part.
fn own_slot(part: &PartKey) -> Option<usize> {
    match part {
        PartKey::Properties => Some(0),
        PartKey::Pipelines => Some(1),
        PartKey::Owners => Some(2),
        PartKey::ValidationRules | PartKey::AssociationTypes(_) => None,
    }
}

#[cfg(test)]
mod tests;
