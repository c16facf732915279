//! `leadsd serve`: runs the service until a signal.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use super::{
    environment::environment, error::Error, hardening::deny_debugging,
    open_files::raise_open_files, service_manager::ServiceManager,
};
use crate::{app::BoundService, config::Loaded, telemetry};

/// Starts to listen for SIGHUP. Done before the service is assembled, so that it never ends the process.
pub(super) fn hangups() -> Result<Signal, Error> {
    listen(SignalKind::hangup())
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|source| Error::Io { what: "cannot listen for signals", source })
}

pub(super) async fn run(file: Option<PathBuf>) -> Result<(), Error> {
    let hangups = hangups()?;
    let loaded = Loaded::new(file.as_deref(), environment())?;
    loaded.check_files()?;
    let config = loaded.config;
    if !config.process.allow_debugging {
        deny_debugging()?;
    }
    raise_open_files();
    let _log = telemetry::init(&config.log)?;
    let bound = BoundService::bind(config).await?;
    until_signalled(bound, hangups, || reload_log_filter(file.as_deref())).await
}

/// Runs until the first SIGTERM or SIGINT, then drains; the second signal ends the process at once.
/// SIGHUP reloads the certificates and calls `reload`. The service manager is notified of each.
pub(super) async fn until_signalled(
    bound: BoundService,
    mut hangups: Signal,
    reload: impl Fn(),
) -> Result<(), Error> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let reload_certificates = bound.certificate_reload();
    let manager = ServiceManager::new(environment(), std::process::id());
    let _notifications = manager.start(bound.readiness());
    let run = bound.run(async {
        // An error means that the sender was dropped, which stops the service as well.
        let _ = draining.await;
    });
    let stop = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("Started draining; a second signal stops at once");
        manager.stopping();
        // The receiver is dropped only if the service has ended.
        let _ = drain.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("Stopped before draining was complete");
    };
    let reloads = async {
        while hangups.recv().await.is_some() {
            manager.reload(|| {
                reload_certificates();
                reload();
            });
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = run => Ok(()),
        () = stop => Err(Error::Aborted),
        () = reloads => Ok(()),
    }
}

/// Sets the log filter of the configuration file. An invalid file changes nothing.
fn reload_log_filter(file: Option<&Path>) {
    let loaded = match Loaded::new(file, environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            return warn!(%error, "Failed to reload the configuration; the log filter is unchanged");
        }
    };
    match telemetry::set_log_filter(&loaded.config.log.level) {
        Ok(()) => info!("Reloaded log filter"),
        Err(error) => warn!(%error, "Failed to reload the log filter; it is unchanged"),
    }
}
