//! Compares listings of the discovery folder with the known portals.
//!
//! A portal that is not listed is removed with care, since a working credential is at stake: only
//! when two listings in a row agree, and never all portals at once. A store that was restored empty
//! or a policy that hides the folder looks like a folder that was emptied on purpose; then the
//! portals stay until the service is restarted.

use std::{collections::BTreeSet, sync::Arc};

use tracing::{info, warn};

use crate::{failure::FailureClass, schedule, secret_path::SecretPath, store::StoreError};
use leadsd_base::portal_name::PortalName;

/// State between listings.
#[derive(Debug)]
pub(super) struct Listings {
    folder: SecretPath,
    /// Discovered portals that the last listing did not show.
    missing: BTreeSet<Arc<str>>,
    /// True if the last listing failed, or showed no portal although some are known.
    in_doubt: bool,
    /// Names that are no portal names, each logged once.
    invalid: BTreeSet<String>,
    failures: u32,
}

/// Changes that a listing makes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The portals that are listed, known or not.
    pub(super) listed: Vec<(String, SecretPath)>,
    /// Known portals to remove.
    pub(super) removed: BTreeSet<Arc<str>>,
}

// === impl Listings ===

impl Listings {
    pub(super) fn new(folder: SecretPath) -> Self {
        let (missing, invalid) = (BTreeSet::new(), BTreeSet::new());
        Self { folder, missing, in_doubt: false, invalid, failures: 0 }
    }

    /// Failed listings in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Compares a listing with the discovered portals that are `known`. `None` if the listing is
    /// implausible.
    pub(super) fn compare(
        &mut self,
        names: Vec<String>,
        known: BTreeSet<Arc<str>>,
    ) -> Option<Difference> {
        self.failures = 0;
        let listed = self.portals(names);
        if listed.is_empty() && !known.is_empty() {
            if !std::mem::replace(&mut self.in_doubt, true) {
                warn!(
                    discovery.path = %self.folder,
                    portals = known.len(),
                    "Folder listed no portals; keeping the known portals"
                );
            }
            self.missing.clear();
            return None;
        }
        if std::mem::take(&mut self.in_doubt) {
            info!(discovery.path = %self.folder, "Listed the folder of portals again");
        }
        let is_listed = |name: &Arc<str>| listed.iter().any(|(listed, _)| **listed == **name);
        let missing: BTreeSet<_> = known.into_iter().filter(|name| !is_listed(name)).collect();
        let removed: BTreeSet<_> = missing.intersection(&self.missing).cloned().collect();
        self.missing = missing.difference(&removed).cloned().collect();
        Some(Difference { listed, removed })
    }

    pub(super) fn failed(&mut self, error: &StoreError) {
        self.failures = self.failures.saturating_add(1);
        if !std::mem::replace(&mut self.in_doubt, true) {
            warn!(
                discovery.path = %self.folder,
                failure.class = FailureClass::from(error).as_str(),
                "Failed to list the folder of portals; keeping the known portals"
            );
        }
    }

    /// The names that are portal names, with the paths of their secrets.
    fn portals(&mut self, names: Vec<String>) -> Vec<(String, SecretPath)> {
        let mut portals = Vec::new();
        for name in names {
            match self.folder.join(&name) {
                Ok(path) if PortalName::parse(&name).is_some() => portals.push((name, path)),
                Ok(_) | Err(_) => self.report_invalid(name),
            }
        }
        portals
    }

    fn report_invalid(&mut self, name: String) {
        if self.invalid.len() < schedule::MAX_INVALID_NAMES && !self.invalid.contains(&name) {
            warn!(
                discovery.path = %self.folder,
                ?name,
                "Skipped a secret: its name has characters other than letters, digits, `_` and `-`"
            );
            self.invalid.insert(name);
        }
    }
}

#[cfg(test)]
mod tests;
