//! Readiness of the replica, derived from credentials, auth sources and draining.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tracing::info;

use crate::{admin, auth::Authenticator};
use leadsd_base::task::{self, Task};

/// Starts the task that derives readiness from credentials, auth sources and draining.
pub(super) fn watch(
    mut credentials: watch::Receiver<leadsd_credentials::Readiness>,
    auth: Option<&Authenticator>,
    mut draining: watch::Receiver<bool>,
) -> (watch::Receiver<admin::ReadinessReport>, watch::Receiver<bool>, Task) {
    // Without authentication, no auth source is missing.
    let (no_sources_sender, no_sources) = watch::channel(BTreeSet::new());
    let mut auth_sources = auth.map_or(no_sources, Authenticator::missing);
    let unmet_now = |readiness: &leadsd_credentials::Readiness,
                     auth_sources: &BTreeSet<&'static str>,
                     draining: bool| admin::ReadinessReport {
        unmet: readiness
            .missing
            .iter()
            .map(|name| format!("credential:{name}"))
            .chain(readiness.not_listed_yet.iter().map(|folder| format!("folder:{folder}")))
            .chain(auth_sources.iter().map(|name| (*name).to_owned()))
            .chain(draining.then(|| "draining".to_owned()))
            .collect(),
    };
    let first =
        unmet_now(&credentials.borrow_and_update(), &auth_sources.borrow_and_update(), false);
    let (serving_sender, serving) = watch::channel(first.unmet.is_empty());
    let (unmet_sender, unmet) = watch::channel(first);
    let task = task::spawn("readiness", "", async move {
        // A dropped sender would end the loop.
        let _no_sources_sender = no_sources_sender;
        loop {
            let changed = tokio::select! {
                changed = credentials.changed() => changed,
                changed = auth_sources.changed() => changed,
                changed = draining.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            let now = unmet_now(
                &credentials.borrow_and_update(),
                &auth_sources.borrow_and_update(),
                *draining.borrow_and_update(),
            );
            info!(unmet = ?now.unmet, "Readiness changed");
            serving_sender.send_replace(now.unmet.is_empty());
            unmet_sender.send_replace(now);
        }
    });
    (unmet, serving, task)
}
