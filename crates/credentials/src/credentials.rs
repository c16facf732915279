//! Credentials of all portals, as started, read and closed by the composition root.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use crate::{
    counters::Counters,
    discovery,
    engine::Ports,
    handle::Handle,
    machine::Jitter,
    registry::{NewJitter, Registry},
    secret_path::SecretPath,
    settings::Settings,
    source::TokenSource,
    status::{PortalStatus, Readiness},
    store::SecretStore,
};
use leadsd_base::{
    portal_name::{InvalidPortalName, PortalName},
    task::Task,
    time::WallClock,
};

/// Runs one engine per portal. Dropping it stops every task at once; [`Credentials::close`] waits
/// for what would be lost.
#[derive(Debug)]
pub struct Credentials {
    registry: Arc<Registry>,
    /// `None` without discovery, and once closed.
    discovery: Mutex<Option<Task>>,
}

// === impl Credentials ===

impl Credentials {
    /// Starts an engine for each of `portals` (name and path of its secret), and for those found by
    /// the discovery of `settings`. Needs a running tokio runtime; does not wait for tokens.
    pub fn start(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn WallClock>,
        portals: impl IntoIterator<Item = (String, SecretPath)>,
    ) -> Result<Self, InvalidPortalName> {
        let new_jitter = || -> Jitter { Box::new(rand::random::<f64>) };
        Self::start_with_jitter(settings, store, source, clock, portals, Box::new(new_jitter))
    }

    /// Starts with other random numbers, so that a test can repeat itself.
    pub(crate) fn start_with_jitter(
        settings: Settings,
        store: Arc<dyn SecretStore>,
        source: Arc<dyn TokenSource>,
        clock: Arc<dyn WallClock>,
        portals: impl IntoIterator<Item = (String, SecretPath)>,
        new_jitter: NewJitter,
    ) -> Result<Self, InvalidPortalName> {
        let portals: Vec<_> = portals
            .into_iter()
            .map(|(name, path)| PortalName::try_from(name.as_str()).map(|_| (name, path)))
            .collect::<Result<_, _>>()?;
        let start_slots = Arc::new(Semaphore::new(settings.start_concurrency.max(1)));
        let folder = settings.discovery.clone();
        let not_listed_yet = folder.as_ref().map(|folder| folder.path.as_str().into());
        let rule = settings.readiness;
        let readiness =
            watch::Sender::new(Readiness { rule, not_listed_yet, ..Readiness::default() });
        let ports = Ports { store, source, clock, start_slots, readiness };
        let registry = Arc::new(Registry::new(settings, ports, new_jitter));
        registry.add(portals, false);
        let discovery = folder.map(|folder| discovery::spawn(Arc::clone(&registry), folder));
        Ok(Self { registry, discovery: Mutex::new(discovery) })
    }

    /// Returns a portal's tokens; `None` if there is no such portal.
    pub fn handle(&self, name: &str) -> Option<Handle> {
        self.registry.by_name().get(name).map(|portal| portal.engine.handle())
    }

    /// Names of all portals, in order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.registry.by_name().keys().cloned().collect()
    }

    /// Adds a portal. Returns `false` if there is one of that name already, which stays as it is.
    pub fn add(&self, name: &str, secret: SecretPath) -> Result<bool, InvalidPortalName> {
        PortalName::try_from(name)?;
        Ok(self.registry.add(vec![(name.to_owned(), secret)], false) == 1)
    }

    /// Removes a portal. Returns `false` if the portal is unknown. Its engine ends once nothing would be
    /// lost; calls that have a token already are not disturbed.
    pub fn remove(&self, name: &str) -> bool {
        self.registry.remove(|portal, _| portal == name) == 1
    }

    /// Status of each portal, in order of their names.
    pub fn snapshot(&self) -> Vec<PortalStatus> {
        let portals = self.registry.by_name();
        portals.values().map(|portal| portal.engine.status(portal.discovered)).collect()
    }

    /// Status of one portal; `None` if there is no such portal.
    pub fn status(&self, name: &str) -> Option<PortalStatus> {
        let portals = self.registry.by_name();
        portals.get(name).map(|portal| portal.engine.status(portal.discovered))
    }

    /// Counts of all portals, including those that were removed.
    pub fn counters(&self) -> Counters {
        self.registry.counters()
    }

    /// The portals, and whether each is usable.
    pub fn ready(&self) -> watch::Receiver<Readiness> {
        self.registry.ports().readiness.subscribe()
    }

    /// Reads a portal's secret and refreshes its token now, even if it is suspended. Returns
    /// `false` if there is no such portal.
    pub fn refresh_now(&self, name: &str) -> bool {
        let portals = self.registry.by_name();
        let portal = portals.get(name);
        if let Some(portal) = portal {
            portal.engine.signals().refresh_now();
        }
        portal.is_some()
    }

    /// Ends all engines. Waits, at most until `deadline`, for token requests in flight and for
    /// refresh tokens that are not saved yet. Returns `true` if nothing was lost.
    pub async fn close(&self, deadline: Instant) -> bool {
        drop(self.discovery.lock().unwrap_or_else(PoisonError::into_inner).take());
        let tasks = self.registry.end();
        let all = async {
            for task in tasks {
                task.ended().await;
            }
        };
        timeout_at(deadline, all).await.is_ok()
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        drop(self.registry.end());
    }
}
