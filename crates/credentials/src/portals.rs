//! All portals of the process: each with its own engine, so that a broken one affects no other.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tracing::info;

use super::{
    SecretPath, SecretStore, TokenSource, discovery,
    engine::{Engine, Ports},
    machine::{Jitter, Machine},
    settings::{Settings, Start},
    status::{Cells, Count, Counters, Meter, PortalStatus, Readiness},
    token::Handle,
};
use leadsd_base::{
    portal_name::{InvalidPortalName, PortalName},
    task::{self, Task},
    time::WallClock,
};

/// The credentials of all portals. Dropping it stops every task at once; [`Credentials::close`]
/// waits for what would be lost.
#[derive(Debug)]
pub struct Credentials {
    portals: Arc<Portals>,
    /// Looks for portals in the folder, if there is one.
    folder: Mutex<Option<Task>>,
}

/// Makes dice, one for each portal.
pub(super) type NewJitter = Box<dyn Fn() -> Jitter + Send + Sync>;

/// The portals by name.
pub(super) struct Portals {
    settings: Settings,
    ports: Ports,
    dice: NewJitter,
    total: Arc<Cells>,
    /// Readers take it without a lock; only holders of `changes` replace it.
    by_name: ArcSwap<BTreeMap<Arc<str>, Arc<Portal>>>,
    changes: Mutex<Changes>,
}

/// What only those may touch who add and remove portals.
#[derive(Debug, Default)]
struct Changes {
    /// All portals were ended, after which none may begin.
    closed: bool,
    /// Engines of removed portals that have a refresh token to save before they end.
    leaving: Vec<Task>,
}

#[derive(Debug)]
struct Portal {
    engine: Arc<Engine>,
    discovered: bool,
    task: Mutex<Option<Task>>,
}

// === impl Credentials ===

impl Credentials {
    /// Starts an engine for each of `portals` (name and path of its secret), and for those found in
    /// the folder of `settings`. Needs a running tokio runtime; waits for nothing.
    pub fn start(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn WallClock>,
        portals: impl IntoIterator<Item = (String, SecretPath)>,
    ) -> Result<Self, InvalidPortalName> {
        let dice = || -> Jitter { Box::new(rand::random::<f64>) };
        Self::start_with_jitter(settings, store, source, clock, portals, Box::new(dice))
    }

    /// Starts with other dice, so that a test can repeat itself.
    pub(super) fn start_with_jitter(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn WallClock>,
        portals: impl IntoIterator<Item = (String, SecretPath)>,
        dice: NewJitter,
    ) -> Result<Self, InvalidPortalName> {
        let portals: Vec<_> = portals
            .into_iter()
            .map(|(name, path)| PortalName::try_from(name.as_str()).map(|_| (name, path)))
            .collect::<Result<_, _>>()?;
        let turns = Arc::new(Semaphore::new(settings.start_concurrency.max(1)));
        let not_listed_yet = settings.discovery.as_ref().map(|folder| folder.path.as_str().into());
        let readiness = watch::Sender::new(Readiness { not_listed_yet, ..Readiness::default() });
        let ports = Ports { store, source, clock, turns, readiness };
        let folder = settings.discovery.clone();
        let all = Arc::new(Portals {
            settings,
            ports,
            dice,
            total: Arc::default(),
            by_name: ArcSwap::default(),
            changes: Mutex::default(),
        });
        all.add(portals, false);
        let folder = folder.map(|folder| {
            let owner = folder.path.to_string();
            task::spawn("portal folder", &owner, discovery::supervise(Arc::clone(&all), folder))
        });
        Ok(Self { portals: all, folder: Mutex::new(folder) })
    }

    /// A portal's tokens; none if there is no such portal.
    pub fn handle(&self, name: &str) -> Option<Handle> {
        self.portals.by_name.load().get(name).map(|portal| portal.engine.handle())
    }

    /// Names of all portals, in order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.portals.by_name.load().keys().cloned().collect()
    }

    /// Adds a portal; false if there is one of that name already, which is left alone.
    pub fn add(&self, name: &str, secret: SecretPath) -> Result<bool, InvalidPortalName> {
        PortalName::try_from(name)?;
        Ok(self.portals.add(vec![(name.to_owned(), secret)], false) == 1)
    }

    /// Removes a portal; false if there is none. Its engine ends once nothing would be lost; calls
    /// that have a token already are not disturbed.
    pub fn remove(&self, name: &str) -> bool {
        self.portals.remove(|portal, _| portal == name) == 1
    }

    /// How each portal is doing, in order of their names.
    pub fn snapshot(&self) -> Vec<PortalStatus> {
        let portals = self.portals.by_name.load();
        portals.values().map(|portal| portal.engine.status(portal.discovered)).collect()
    }

    /// What was done for all portals, including those that were removed.
    pub fn counters(&self) -> Counters {
        self.portals.total.read()
    }

    /// Which configured portals still have no usable credential.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.portals.ports.readiness.subscribe()
    }

    /// Has a portal's secret read and its token refreshed now, even if it is parked; false if there
    /// is no such portal.
    pub fn refresh_now(&self, name: &str) -> bool {
        let portals = self.portals.by_name.load();
        let portal = portals.get(name);
        if let Some(portal) = portal {
            portal.engine.signals().refresh_now();
        }
        portal.is_some()
    }

    /// Ends all engines; waits, at most until `deadline`, for grants under way and for refresh
    /// tokens that are not saved yet. True if nothing was lost.
    pub async fn close(&self, deadline: Instant) -> bool {
        drop(self.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.portals.end();
        let all = async {
            for task in ended {
                task.ended().await;
            }
        };
        tokio::time::timeout_at(deadline, all).await.is_ok()
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        drop(self.portals.end());
    }
}

// === impl Portals ===

impl Portals {
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The folder was listed.
    pub(super) fn listed(&self) {
        self.ports
            .readiness
            .send_if_modified(|readiness| readiness.not_listed_yet.take().is_some());
    }

    /// The listing of the folder panicked.
    pub(super) fn caught_panic(&self) {
        self.total.add(Count::Panic);
    }

    /// Adds those that are not there yet; answers how many. Names must have been checked.
    pub(super) fn add(&self, portals: Vec<(String, SecretPath)>, discovered: bool) -> usize {
        let changes = self.changes();
        if changes.closed {
            return 0;
        }
        let mut by_name = BTreeMap::clone(&self.by_name.load());
        let before = by_name.len();
        let eager = self.settings.start == Start::Eager;
        for (name, path) in portals {
            let name: Arc<str> = name.into();
            if by_name.contains_key(&name) {
                continue;
            }
            if eager && !discovered {
                self.ports
                    .readiness
                    .send_if_modified(|ready| ready.missing.insert(Arc::clone(&name)));
            }
            info!(portal = %name, secret = %path, discovered, "Portal added");
            let meter = Meter::new(&self.total);
            let machine = Machine::new(Arc::clone(&name), &self.settings, (self.dice)(), meter);
            let engine = Arc::new(Engine::new(path, &self.settings, self.ports.clone(), machine));
            let task = Mutex::new(Some(Arc::clone(&engine).spawn(eager)));
            by_name.insert(name, Arc::new(Portal { engine, discovered, task }));
        }
        let added = by_name.len() - before;
        self.by_name.store(Arc::new(by_name));
        added
    }

    /// Removes those that `unwanted` picks by name and whether they were discovered; answers how
    /// many.
    pub(super) fn remove(&self, unwanted: impl Fn(&str, bool) -> bool) -> usize {
        let mut changes = self.changes();
        let mut by_name = BTreeMap::clone(&self.by_name.load());
        let removed: Vec<_> =
            by_name.extract_if(.., |name, portal| unwanted(name, portal.discovered)).collect();
        self.by_name.store(Arc::new(by_name));
        for (name, portal) in &removed {
            info!(portal = %name, "Portal removed");
            self.ports.readiness.send_if_modified(|readiness| readiness.missing.remove(name));
            portal.engine.signals().close();
            changes.leaving.extend(portal.take_task());
        }
        changes.leaving.retain(|task| !task.is_ended());
        removed.len()
    }

    /// Names of the portals that were discovered.
    pub(super) fn discovered(&self) -> Vec<Arc<str>> {
        let portals = self.by_name.load();
        portals.iter().filter(|(_, p)| p.discovered).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Removes all portals for good and tells them to end.
    fn end(&self) -> Vec<Task> {
        let mut changes = self.changes();
        changes.closed = true;
        let portals = self.by_name.swap(Arc::default());
        portals.values().for_each(|portal| portal.engine.signals().close());
        let mut tasks = std::mem::take(&mut changes.leaving);
        tasks.extend(portals.values().filter_map(|portal| portal.take_task()));
        tasks
    }

    /// A number in `[0, 1)`.
    pub(super) fn roll(&self) -> f64 {
        (self.dice)()()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Portals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Portals")
            .field("settings", &self.settings)
            .field("by_name", &self.by_name.load())
            .finish_non_exhaustive()
    }
}

// === impl Portal ===

impl Portal {
    fn take_task(&self) -> Option<Task> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
