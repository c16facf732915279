//! One portal's credential without I/O: events in, commands out. Time, randomness and responses come
//! from outside, so every schedule of faults can be replayed.
//!
//! Three machines react to each [`Event`] with [`MachineCommand`]s:
//! - [`SecretWatch`] keeps the secret in memory up to date;
//! - [`TokenCycle`] refreshes tokens ahead of their expiry and decides the result for callers;
//! - [`WriteBack`] saves rotated refresh tokens.
//!
//! They talk to each other by events, which [`Machine`] routes; [`MachineFacts`] are what one may read of
//! the others.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::error;

use crate::{
    counters::{Count, Meter},
    published::Published,
    schedule,
    settings::Settings,
    source::RefreshRequest,
    status::PortalStatus,
    store::PortalSecret,
};
use leadsd_base::secret::Secret;

mod context;
mod event;
mod intake;
mod report;
mod secret_watch;
#[cfg(test)]
mod tests;
mod token_cycle;
mod write_back;

pub(crate) use context::Jitter;
pub(crate) use event::{Event, PortCall};

use context::{Context, Journal, MachineFacts};
use event::{CallKind, MachineCommand};
use report::MachineReport;
use secret_watch::SecretWatch;
use token_cycle::TokenCycle;
use write_back::WriteBack;

/// The coordinator: routes events to the machines and collects their commands.
pub(crate) struct Machine {
    watch: SecretWatch,
    write_back: WriteBack,
    cycle: TokenCycle,
    jitter: Jitter,
    journal: Journal,
    /// Maximum time between two readings of the clocks.
    max_sleep: Duration,
    /// At most one call to the store is in flight.
    store_busy: bool,
}

/// Machines in the order in which they see an event: the secret, then credentials newer than the secret,
/// then the token cycle, which depends on both.
#[derive(Debug, Clone, Copy)]
enum Part {
    Watch,
    WriteBack,
    Cycle,
}

// === impl Machine ===

impl Machine {
    pub(crate) fn new(portal: Arc<str>, settings: &Settings, jitter: Jitter, meter: Meter) -> Self {
        let retry_interval = settings.suspended_retry_interval;
        Self {
            watch: SecretWatch::new(settings.poll_interval, retry_interval),
            write_back: WriteBack::default(),
            cycle: TokenCycle::new(retry_interval),
            jitter,
            journal: Journal { portal, meter, last_failure: None },
            max_sleep: settings.poll_interval,
            store_busy: false,
        }
    }

    /// Handles an event and returns the calls to start. Only [`Event::Tick`] starts calls, so that
    /// they see everything that happened before it.
    pub(crate) fn handle(&mut self, event: Event, now: Instant) -> Vec<PortCall> {
        let event = intake::checked(event, &self.secrets());
        if event.ends_store_call() {
            self.store_busy = false;
        }
        if !matches!(event, Event::Tick { .. }) {
            return self.route(event, now);
        }
        if !self.cycle.wanted {
            return Vec::new();
        }
        let mut calls = self.route(event, now);
        for kind in CallKind::START_ORDER {
            if !(self.store_busy && kind.is_to_store()) {
                let started = self.route(Event::Start(kind), now);
                self.store_busy |= kind.is_to_store() && !started.is_empty();
                calls.extend(started);
            }
        }
        calls
    }

    /// Hands an event, and the events it causes, to all machines.
    fn route(&mut self, event: Event, now: Instant) -> Vec<PortCall> {
        let mut events = VecDeque::from([event]);
        let mut calls = Vec::new();
        while let Some(event) = events.pop_front() {
            for part in [Part::Watch, Part::WriteBack, Part::Cycle] {
                for command in self.part_handle(part, &event, now) {
                    match command {
                        MachineCommand::Raise(event) => events.push_back(event),
                        MachineCommand::Call(call) => calls.push(call),
                    }
                }
            }
        }
        calls
    }

    fn part_handle(&mut self, part: Part, event: &Event, now: Instant) -> Vec<MachineCommand> {
        let facts = self.facts(now);
        let (jitter, journal) = (&mut self.jitter, &mut self.journal);
        let mut cx = Context { now, facts, jitter, journal, commands: Vec::new() };
        match part {
            Part::Watch => self.watch.handle(event, &mut cx),
            Part::WriteBack => self.write_back.handle(event, &mut cx),
            Part::Cycle => self.cycle.handle(event, &mut cx),
        }
        cx.commands
    }

    fn facts(&self, now: Instant) -> MachineFacts {
        let confirmed = self.watch.is_confirmed(self.cycle.refresh.is_retry(), now);
        MachineFacts {
            request: self.request(),
            secret_version: self.watch.secret().map(|secret| secret.version),
            secret_confirmed: confirmed,
            refresh_waits: self.cycle.refresh.attempt.is_due(now) && !confirmed,
            token_left: self.cycle.tokens.left(now),
            has_fallback: self.write_back.fallback().is_some(),
        }
    }

    /// The token request of the credential in memory: the store's secret with our refresh token if
    /// that is newer.
    fn request(&self) -> Option<RefreshRequest> {
        match &self.watch.secret()?.secret {
            PortalSecret::Static { .. } => None,
            PortalSecret::OAuth { client_id, client_secret, refresh_token } => {
                Some(RefreshRequest {
                    client_id: client_id.clone(),
                    client_secret: client_secret.clone(),
                    refresh_token: self.write_back.refresh_token().unwrap_or(refresh_token).clone(),
                })
            }
        }
    }

    /// Time of the next [`Event::Tick`] if no other event comes first.
    pub(crate) fn wake(&self, now: Instant) -> Instant {
        let latest = now + self.max_sleep;
        if !self.cycle.wanted {
            return latest;
        }
        let store =
            [self.watch.due(), self.write_back.due()].map(|due| due.filter(|_| !self.store_busy));
        let due = store.into_iter().chain([self.cycle.due(now)]).flatten().min();
        due.map_or(latest, |due| due.min(latest)).max(now + schedule::WAKE_FLOOR)
    }

    /// The engine's loop panicked.
    pub(crate) fn restarted(&mut self, now: Instant) {
        self.journal.count(Count::Panic);
        self.handle(Event::CallsLost, now);
    }

    /// A call to a port panicked.
    pub(crate) fn caught_panic(&self, port: &'static str) {
        self.journal.count(Count::Panic);
        error!(portal = %self.journal.portal, port, "Call panicked");
    }

    pub(crate) fn portal(&self) -> Arc<str> {
        Arc::clone(&self.journal.portal)
    }

    /// True if the first token was published or the first attempt has failed.
    pub(crate) fn has_settled(&self) -> bool {
        self.cycle.settled
    }

    /// True if HubSpot accepts the credential as far as is known. Unless the portal starts eagerly, it is
    /// assumed to be usable until the first attempt has failed.
    pub(crate) fn is_usable(&self, now: Instant, eager: bool) -> bool {
        self.cycle.is_usable(now) || !eager && !self.cycle.settled
    }

    /// True if ending now loses nothing that exists only in memory.
    pub(crate) fn can_end(&self) -> bool {
        !self.write_back.is_pending() && !self.cycle.refresh.in_flight
    }

    /// State for callers.
    pub(crate) fn published(&self) -> Published {
        self.report().published()
    }

    /// State for operators.
    pub(crate) fn status(&self, now: Instant, discovered: bool) -> PortalStatus {
        self.report().status(now, discovered)
    }

    fn report(&self) -> MachineReport<'_> {
        let Self { watch, cycle, write_back, journal, .. } = self;
        MachineReport { watch, cycle, write_back, journal }
    }

    /// All secrets in memory.
    fn secrets(&self) -> Vec<&Secret> {
        let stored = self.watch.secret().map(|secret| intake::secrets_in(&secret.secret));
        let mut secrets = stored.unwrap_or_default();
        secrets.extend(self.cycle.tokens.active.as_ref().map(|active| &active.token.secret));
        secrets.extend(self.write_back.refresh_token());
        secrets.extend(self.write_back.fallback());
        secrets
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("portal", &self.journal.portal)
            .field("generation", &self.cycle.tokens.generation)
            .field("validity", &self.cycle.validity)
            .finish_non_exhaustive()
    }
}
