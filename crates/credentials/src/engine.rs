//! The task behind one portal: hands events to the [`Machine`], makes the calls that it requests,
//! and publishes the token.
//!
//! The loop is restarted when it panics. The machine survives that: it may hold a refresh token that
//! exists nowhere else.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

use crate::{
    handle::Handle,
    machine::{Event, Machine},
    published::Published,
    schedule,
    secret_path::SecretPath,
    settings::Settings,
    signals::Signals,
    source::TokenSource,
    status::{PortalStatus, Readiness},
    store::SecretStore,
};
use leadsd_base::{supervise::Supervisor, task::Task, time::WallClock};

mod calls;

use calls::{EndedCall, PortCalls};

/// Ports and limits shared by all portals.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) store: Arc<dyn SecretStore>,
    pub(crate) source: Arc<dyn TokenSource>,
    pub(crate) clock: Arc<dyn WallClock>,
    /// Bounds how many portals fetch their first token at the same time.
    pub(crate) start_slots: Arc<Semaphore>,
    pub(crate) readiness: watch::Sender<Readiness>,
}

/// One portal.
#[derive(Debug)]
pub(crate) struct Engine {
    name: Arc<str>,
    path: SecretPath,
    ports: Ports,
    store_timeout: Duration,
    grant_timeout: Duration,
    machine: Mutex<Machine>,
    published: watch::Sender<Published>,
    signals: Arc<Signals>,
}

/// A start slot; released when it is dropped, or at `ends`.
struct StartSlot {
    _permit: OwnedSemaphorePermit,
    ends: Instant,
}

// === impl Ports ===

impl fmt::Debug for Ports {
    /// Omits the implementations of the ports: they hold secrets, and their `Debug` is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports")
            .field("readiness", &*self.readiness.borrow())
            .finish_non_exhaustive()
    }
}

// === impl Engine ===

impl Engine {
    pub(crate) fn new(
        path: SecretPath,
        settings: &Settings,
        ports: Ports,
        machine: Machine,
    ) -> Self {
        Self {
            name: machine.portal(),
            path,
            ports,
            store_timeout: settings.store_timeout,
            grant_timeout: settings.grant_timeout,
            published: watch::Sender::new(machine.published()),
            machine: Mutex::new(machine),
            signals: Arc::default(),
        }
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle::new(self.published.subscribe(), Arc::clone(&self.signals))
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    pub(crate) fn status(&self, discovered: bool) -> PortalStatus {
        self.machine().status(Instant::now(), discovered)
    }

    /// Starts the portal's task. It ends when it is dropped, or after [`Signals::close`] once
    /// nothing would be lost.
    pub(crate) fn spawn(self: Arc<Self>, eager: bool) -> Task {
        let (engine, owner) = (Arc::clone(&self), Arc::clone(&self.name));
        Supervisor::new("credential", &owner)
            .with_pauses(schedule::FIRST_RESTART, schedule::RESTART_CAP)
            .on_panic(move || engine.machine().restarted(Instant::now()))
            .spawn(move || Arc::clone(&self).run(eager))
    }

    async fn run(self: Arc<Self>, eager: bool) {
        if self.has_to_end() {
            return;
        }
        let mut slot = if eager { self.take_start_slot().await } else { None };
        let mut calls = self.calls();
        loop {
            let (now, wall) = (Instant::now(), self.ports.clock.now());
            let (due, wake) = {
                let mut machine = self.machine();
                machine.handle(Event::Signalled(self.signals.take()), now);
                let due = machine.handle(Event::Tick { wall }, now);
                self.publish(machine.published());
                self.set_usable(machine.is_usable(now, eager));
                if machine.has_settled() {
                    slot = None;
                }
                (due, machine.wake(now))
            };
            if self.has_to_end() {
                return;
            }
            due.into_iter().for_each(|call| calls.start(call, now));
            let wake = slot.as_ref().map_or(wake, |slot| wake.min(slot.ends));
            tokio::select! {
                // Whatever comes first, the next round sees all of it.
                biased;
                ended = calls.ended() => self.on_ended(ended),
                () = self.signals.notified() => {}
                () = sleep_until(wake) => {}
            }
            slot = slot.filter(|slot| Instant::now() < slot.ends);
        }
    }

    /// Waits for a start slot, unless a caller wants the token now.
    async fn take_start_slot(&self) -> Option<StartSlot> {
        let slots = Arc::clone(&self.ports.start_slots);
        let permit = tokio::select! {
            permit = slots.acquire_owned() => permit.ok(),
            () = self.signals.notified() => None,
        };
        self.signals.want_token();
        let ends = Instant::now() + schedule::START_SLOT;
        permit.map(|permit| StartSlot { _permit: permit, ends })
    }

    fn calls(&self) -> PortCalls {
        PortCalls {
            portal: Arc::clone(&self.name),
            path: self.path.clone(),
            store: Arc::clone(&self.ports.store),
            source: Arc::clone(&self.ports.source),
            store_timeout: self.store_timeout,
            grant_timeout: self.grant_timeout,
            store_call: None,
            source_call: None,
            check_call: None,
        }
    }

    fn on_ended(&self, ended: EndedCall) {
        let EndedCall { answer, panicked } = ended;
        let port = answer.port();
        let now = Instant::now();
        let event = answer.into_event(|| self.ports.clock.now());
        let mut machine = self.machine();
        if panicked {
            machine.caught_panic(port);
        }
        machine.handle(event, now);
    }

    fn publish(&self, published: Published) {
        self.published.send_if_modified(|current| {
            let changed = *current != published;
            if changed {
                *current = published;
            }
            changed
        });
    }

    fn set_usable(&self, usable: bool) {
        self.ports.readiness.send_if_modified(|readiness| readiness.set_usable(&self.name, usable));
    }

    fn has_to_end(&self) -> bool {
        self.signals.is_closing() && self.machine().can_end()
    }

    /// Locks the machine, never across an await. A panic inside leaves a machine that is at worst
    /// one event behind, which is better than one without its tokens.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
