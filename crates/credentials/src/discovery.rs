//! Portals that are discovered by listing a folder of the secret store.
//!
//! What a listing does not show is removed with care, since a working credential is at stake: only
//! when two listings in a row agree, and never all at once. A store that was restored empty or a
//! policy that hides the folder looks just like a folder that was emptied on purpose; then the
//! portals stay, and a restart of the service is what removes them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::{StoreError, portals::Portals, schedule, settings::Discovery, status::FailureClass};
use leadsd_base::{portal_name::PortalName, task};

/// What is known of the folder.
#[derive(Debug, Default)]
struct Seen {
    /// Portals that the last listing did not show.
    missing: BTreeSet<Arc<str>>,
    /// Whether the last listing failed or showed nothing at all.
    in_doubt: bool,
    /// Names that cannot be portals, each reported once.
    bad: BTreeSet<String>,
    failures: u32,
}

/// Pause before the listing is started again after a panic.
const RESTART: Duration = Duration::from_secs(10);

/// Lists the folder for ever; a panic is counted and costs a pause.
pub(super) async fn supervise(portals: Arc<Portals>, folder: Discovery) {
    loop {
        let work = watch(Arc::clone(&portals), folder.clone());
        task::spawn("portal folder loop", folder.path.as_str(), work).ended().await;
        portals.caught_panic();
        sleep(RESTART).await;
    }
}

async fn watch(portals: Arc<Portals>, folder: Discovery) {
    let mut seen = Seen::default();
    loop {
        let started = Instant::now();
        let limit = portals.settings().store_timeout;
        let listed = timeout(limit, portals.ports().store.list(&folder.path)).await;
        let failed =
            match listed.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer".into()))) {
                Ok(names) => seen.listed(&portals, &folder, names),
                // An empty folder does not exist.
                Err(StoreError::NotFound) => seen.listed(&portals, &folder, Vec::new()),
                Err(error) => seen.failed(&folder, &error),
            };
        let roll = portals.roll();
        let planned = schedule::poll_after(folder.interval, roll);
        let next = match failed {
            Outcome::Listed => planned,
            Outcome::Failed => schedule::retry_after(seen.failures, None, None, roll).min(planned),
        };
        sleep_until((started + next).max(Instant::now() + schedule::GRANT_FLOOR)).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Listed,
    Failed,
}

// === impl Seen ===

impl Seen {
    fn listed(&mut self, portals: &Portals, folder: &Discovery, names: Vec<String>) -> Outcome {
        self.failures = 0;
        let (names, bad): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| PortalName::parse(name).is_some());
        for name in bad {
            if self.bad.len() < 1_000 && self.bad.insert(name.clone()) {
                warn!(folder = %folder.path, name = ?name, "Secret is no portal: its name has other characters than letters, digits, `_` and `-`");
            }
        }
        let known = portals.discovered();
        if names.is_empty() && !known.is_empty() {
            if !std::mem::replace(&mut self.in_doubt, true) {
                warn!(folder = %folder.path, portals = known.len(), "Folder shows no portal any more; keeping those that are known");
            }
            self.missing.clear();
            return Outcome::Listed;
        }
        if std::mem::take(&mut self.in_doubt) {
            info!(folder = %folder.path, "Folder is listed again");
        }
        let missing: BTreeSet<_> =
            known.into_iter().filter(|known| !names.iter().any(|name| **name == **known)).collect();
        let gone: BTreeSet<_> = missing.intersection(&self.missing).cloned().collect();
        if !gone.is_empty() {
            portals.remove(|name, discovered| discovered && gone.contains(name));
        }
        self.missing = missing.difference(&gone).cloned().collect();
        let found = names.into_iter().filter_map(|name| {
            let path = folder.path.join(&name).ok()?;
            Some((name, path))
        });
        portals.add(found.collect(), true);
        portals.listed();
        Outcome::Listed
    }

    fn failed(&mut self, folder: &Discovery, error: &StoreError) -> Outcome {
        self.failures = self.failures.saturating_add(1);
        if !std::mem::replace(&mut self.in_doubt, true) {
            let trouble = FailureClass::from(error).as_str();
            warn!(folder = %folder.path, trouble, "Folder of portals cannot be listed; keeping those that are known");
        }
        Outcome::Failed
    }
}
