//! Readiness of the replica and of each portal, derived from credentials, auth sources and draining.

use std::collections::BTreeSet;

use tokio::sync::watch;
use tracing::info;

use crate::{admin, auth::Authenticator, grpc};
use leadsd_base::task::{self, Task};
use leadsd_credentials::Readiness;

/// Starts the task that derives readiness from credentials, auth sources and draining.
pub(super) fn watch(
    mut credentials: watch::Receiver<Readiness>,
    auth: Option<&Authenticator>,
    mut draining: watch::Receiver<bool>,
) -> (watch::Receiver<admin::ReadinessReport>, watch::Receiver<grpc::Serving>, Task) {
    // Without authentication, no auth source is missing.
    let (no_sources_sender, no_sources) = watch::channel(BTreeSet::new());
    let mut auth_sources = auth.map_or(no_sources, Authenticator::missing);
    let first = report(&credentials.borrow_and_update(), &auth_sources.borrow_and_update(), false);
    let serving = serving(&credentials.borrow(), &first, false);
    let (serving_sender, serving_receiver) = watch::channel(serving);
    let (report_sender, reports) = watch::channel(first);
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
            let is_draining = *draining.borrow_and_update();
            let now = report(
                &credentials.borrow_and_update(),
                &auth_sources.borrow_and_update(),
                is_draining,
            );
            serving_sender.send_replace(self::serving(&credentials.borrow(), &now, is_draining));
            let is_change = *report_sender.borrow() != now;
            if is_change {
                info!(unmet = ?now.unmet, unusable = ?now.unusable, "Readiness changed");
                report_sender.send_replace(now);
            }
        }
    });
    (reports, serving_receiver, task)
}

fn report(
    credentials: &Readiness,
    auth_sources: &BTreeSet<&'static str>,
    draining: bool,
) -> admin::ReadinessReport {
    let unmet = credentials
        .blocking()
        .map(|name| format!("credential:{name}"))
        .chain(credentials.not_listed_yet.iter().map(|folder| format!("folder:{folder}")))
        .chain(auth_sources.iter().map(|name| (*name).to_owned()))
        .chain(draining.then(|| "draining".to_owned()))
        .collect();
    let unusable = credentials.unusable().map(ToString::to_string).collect();
    admin::ReadinessReport { unmet, unusable }
}

fn serving(
    credentials: &Readiness,
    report: &admin::ReadinessReport,
    draining: bool,
) -> grpc::Serving {
    let portal = |(name, portal): (&std::sync::Arc<str>, &leadsd_credentials::PortalReadiness)| {
        (std::sync::Arc::clone(name), portal.usable && !draining)
    };
    let portals = credentials.portals.iter().map(portal).collect();
    grpc::Serving { ready: report.unmet.is_empty(), portals }
}
