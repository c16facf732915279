//! Discovers portals by listing a folder of the secret store: every secret in the folder is a portal of
//! its name. A portal is removed only after several listings without it, because a listing may be
//! incomplete.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout};

use crate::{registry::Registry, schedule, settings::Discovery, store::StoreError};
use leadsd_base::{supervise::Supervisor, task::Task};

mod listings;

use listings::Listings;

/// Starts the discovery; it lists the folder until the task is dropped.
pub(crate) fn spawn(registry: Arc<Registry>, folder: Discovery) -> Task {
    let (pause, counter) = (schedule::DISCOVERY_RESTART, Arc::clone(&registry));
    Supervisor::new("portal folder", folder.path.as_str())
        .with_pauses(pause, pause)
        .on_panic(move || counter.caught_panic())
        .spawn(move || run(Arc::clone(&registry), folder.clone()))
}

async fn run(registry: Arc<Registry>, folder: Discovery) {
    let mut listings = Listings::new(folder.path.clone());
    loop {
        let started = Instant::now();
        let limit = registry.settings().store_timeout;
        let listed = timeout(limit, registry.ports().store.list(&folder.path)).await;
        let listed = listed.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer".into())));
        update(&registry, &mut listings, listed);
        let jitter = registry.jitter();
        let planned = schedule::poll_after(folder.interval, jitter);
        let next = match listings.failures() {
            0 => planned,
            failures => schedule::backoff(failures, None, None, jitter).min(planned),
        };
        sleep_until((started + next).max(Instant::now() + schedule::REQUEST_FLOOR)).await;
    }
}

/// Brings the registry up to date with a listing.
fn update(registry: &Registry, listings: &mut Listings, listed: Result<Vec<String>, StoreError>) {
    let known = {
        let portals = registry.by_name();
        let discovered = portals.iter().filter(|(_, portal)| portal.discovered);
        discovered.map(|(name, _)| Arc::clone(name)).collect()
    };
    let names = match listed {
        Ok(names) => names,
        // An empty folder does not exist.
        Err(StoreError::NotFound) => Vec::new(),
        Err(
            error @ (StoreError::Denied
            | StoreError::LoginRejected(_)
            | StoreError::Conflict
            | StoreError::Malformed(_)
            | StoreError::Unavailable(_)),
        ) => return listings.failed(&error),
    };
    let Some(difference) = listings.compare(names, known) else { return };
    if !difference.removed.is_empty() {
        registry.remove(|name, discovered| discovered && difference.removed.contains(name));
    }
    registry.add(difference.listed, true);
    registry
        .ports()
        .readiness
        .send_if_modified(|readiness| readiness.not_listed_yet.take().is_some());
}
