//! The portals by name, each with a separate engine, so that a broken one affects no other.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::{ArcSwap, Guard};
use tracing::info;

use crate::{
    counters::{Count, Counters, Meter, SharedCounters},
    engine::{Engine, Ports},
    machine::{Jitter, Machine},
    secret_path::SecretPath,
    settings::{Settings, Start},
    status::{PortalReadiness, Readiness},
};
use leadsd_base::task::Task;

/// Makes one source of random numbers for each portal.
pub(crate) type NewJitter = Box<dyn Fn() -> Jitter + Send + Sync>;

pub(crate) type ByName = BTreeMap<Arc<str>, Arc<RegisteredPortal>>;

pub(crate) struct Registry {
    settings: Settings,
    ports: Ports,
    new_jitter: NewJitter,
    total: Arc<SharedCounters>,
    /// Readers take it without a lock; only holders of `changes` replace it.
    by_name: ArcSwap<ByName>,
    changes: Mutex<Changes>,
}

#[derive(Debug)]
pub(crate) struct RegisteredPortal {
    pub(crate) engine: Arc<Engine>,
    pub(crate) discovered: bool,
    task: Mutex<Option<Task>>,
}

/// State of additions and removals.
#[derive(Debug, Default)]
struct Changes {
    /// All portals were ended; no portal may be added any more.
    closed: bool,
    /// Engines of removed portals that save a refresh token before they end.
    ending: Vec<Task>,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn new(settings: Settings, ports: Ports, new_jitter: NewJitter) -> Self {
        Self {
            settings,
            ports,
            new_jitter,
            total: Arc::default(),
            by_name: ArcSwap::default(),
            changes: Mutex::default(),
        }
    }

    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn by_name(&self) -> Guard<Arc<ByName>> {
        self.by_name.load()
    }

    /// Counts of all portals, including those that were removed.
    pub(crate) fn counters(&self) -> Counters {
        self.total.read()
    }

    /// Counts a panic that was caught outside of the engines.
    pub(crate) fn caught_panic(&self) {
        self.total.add(Count::Panic);
    }

    /// A random number in `[0, 1)`.
    pub(crate) fn jitter(&self) -> f64 {
        (self.new_jitter)()()
    }

    /// Adds the portals that do not exist yet and returns how many. Names must be valid.
    pub(crate) fn add(&self, portals: Vec<(String, SecretPath)>, discovered: bool) -> usize {
        let changes = self.changes();
        if changes.closed {
            return 0;
        }
        let mut by_name = ByName::clone(&self.by_name.load());
        let before = by_name.len();
        for (name, path) in portals {
            let name: Arc<str> = name.into();
            by_name.entry(name).or_insert_with_key(|name| {
                Arc::new(self.start(Arc::clone(name), path, discovered))
            });
        }
        let added = by_name.len() - before;
        self.by_name.store(Arc::new(by_name));
        added
    }

    fn start(&self, name: Arc<str>, path: SecretPath, discovered: bool) -> RegisteredPortal {
        let eager = self.settings.start == Start::Eager;
        let readiness = PortalReadiness { discovered, usable: !eager };
        self.ports.readiness.send_if_modified(|ready| {
            ready.portals.insert(Arc::clone(&name), readiness) != Some(readiness)
        });
        info!(portal = %name, secret = %path, discovered, "Added portal");
        let meter = Meter::new(&self.total);
        let machine = Machine::new(name, &self.settings, (self.new_jitter)(), meter);
        let engine = Arc::new(Engine::new(path, &self.settings, self.ports.clone(), machine));
        let task = Mutex::new(Some(Arc::clone(&engine).spawn(eager)));
        RegisteredPortal { engine, discovered, task }
    }

    /// Removes the portals that `unwanted` picks by name and by whether they were discovered, and
    /// returns how many.
    pub(crate) fn remove(&self, unwanted: impl Fn(&str, bool) -> bool) -> usize {
        let mut changes = self.changes();
        let mut by_name = ByName::clone(&self.by_name.load());
        let removed: Vec<_> =
            by_name.extract_if(.., |name, portal| unwanted(name, portal.discovered)).collect();
        self.by_name.store(Arc::new(by_name));
        for (name, portal) in &removed {
            info!(portal = %name, "Removed portal");
            let remove = |readiness: &mut Readiness| readiness.portals.remove(name).is_some();
            self.ports.readiness.send_if_modified(remove);
            portal.engine.signals().close();
            changes.ending.extend(portal.take_task());
        }
        changes.ending.retain(|task| !task.is_ended());
        removed.len()
    }

    /// Removes all portals and rejects new ones. Returns their tasks, which end once nothing would be lost.
    pub(crate) fn end(&self) -> Vec<Task> {
        let mut changes = self.changes();
        changes.closed = true;
        let portals = self.by_name.swap(Arc::default());
        portals.values().for_each(|portal| portal.engine.signals().close());
        let mut tasks = std::mem::take(&mut changes.ending);
        tasks.extend(portals.values().filter_map(|portal| portal.take_task()));
        tasks
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("settings", &self.settings)
            .field("by_name", &self.by_name.load())
            .finish_non_exhaustive()
    }
}

// === impl RegisteredPortal ===

impl RegisteredPortal {
    fn take_task(&self) -> Option<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
