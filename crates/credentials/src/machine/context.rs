//! Input and output of a machine for one event: time, randomness, facts about the other machines,
//! commands and records.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::event::{Event, MachineCommand, PortCall};
use crate::{
    counters::{Count, Meter},
    failure::FailureClass,
    source::RefreshRequest,
};

/// Source of random numbers in `[0, 1)`.
pub(crate) type Jitter = Box<dyn FnMut() -> f64 + Send>;

/// Facts about the other machines. Computed for each event and machine, so that each fact has one
/// source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MachineFacts {
    /// The token request that the credential in memory makes; `None` if there is no secret, or a
    /// static one.
    pub(super) request: Option<RefreshRequest>,
    /// Version of the secret in memory.
    pub(super) secret_version: Option<u64>,
    /// True if the secret in memory is known to be the newest version, or asking would only delay
    /// the token request.
    pub(super) secret_confirmed: bool,
    /// True if a token request is due and waits for [`Self::secret_confirmed`].
    pub(super) refresh_waits: bool,
    /// Remaining lifetime of the token that callers use; `None` if they have none.
    pub(super) token_left: Option<Duration>,
    /// True if there is a fallback refresh token.
    pub(super) has_fallback: bool,
}

/// Surroundings of one event.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) facts: MachineFacts,
    pub(super) jitter: &'a mut Jitter,
    pub(super) journal: &'a mut Journal,
    pub(super) commands: Vec<MachineCommand>,
}

/// Records of one portal for operators.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) portal: Arc<str>,
    pub(super) meter: Meter,
    pub(super) last_failure: Option<FailureClass>,
}

/// Something that is due at a time, with the failures in a row before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) due: Option<Instant>,
    pub(super) failures: u32,
}

// === impl Context ===

impl Context<'_> {
    pub(super) fn jitter(&mut self) -> f64 {
        (self.jitter)()
    }

    pub(super) fn call(&mut self, call: PortCall) {
        self.commands.push(MachineCommand::Call(call));
    }

    pub(super) fn raise(&mut self, event: Event) {
        self.commands.push(MachineCommand::Raise(event));
    }

    /// True if callers have a token.
    pub(super) fn usable(&self) -> bool {
        self.facts.token_left.is_some()
    }
}

// === impl Journal ===

impl Journal {
    pub(super) fn count(&self, what: Count) {
        self.meter.count(what);
    }

    /// Records a failure in `slot`. Returns whether it is another one than before.
    pub(super) fn record(&mut self, slot: &mut Option<FailureClass>, class: FailureClass) -> bool {
        self.last_failure = Some(class);
        slot.replace(class) != Some(class)
    }
}

// === impl Attempt ===

impl Attempt {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Makes the attempt due at `at` at the latest.
    pub(super) fn due_by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }
}
