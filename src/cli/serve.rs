//! `leadsd serve`: runs the service until a signal.

use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::{
    environment::environment, error::Error, hardening::deny_debugging, open_files::raise_open_files,
};
use crate::{app::BoundService, config::Loaded, telemetry};

pub(super) async fn run(file: Option<PathBuf>) -> Result<(), Error> {
    let loaded = Loaded::new(file.as_deref(), environment())?;
    loaded.check_files()?;
    let config = loaded.config;
    if !config.process.allow_debugging {
        deny_debugging()?;
    }
    raise_open_files();
    let _log = telemetry::init(&config.log)?;
    let bound = BoundService::bind(config).await?;
    until_signalled(bound).await
}

/// Runs until the first SIGTERM or SIGINT, then drains; the second signal ends the process at once.
pub(super) async fn until_signalled(bound: BoundService) -> Result<(), Error> {
    let watch = |kind| {
        signal(kind).map_err(|source| Error::Io { what: "cannot listen for signals", source })
    };
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let (drain, draining) = tokio::sync::oneshot::channel::<()>();
    let run = bound.run(async {
        // An error means that the sender was dropped, which stops the service as well.
        let _ = draining.await;
    });
    let signals = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("Started draining; a second signal stops at once");
        // The receiver is dropped only if the service has ended.
        let _ = drain.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("Stopped before draining was complete");
    };
    tokio::select! { () = run => Ok(()), () = signals => Err(Error::Aborted) }
}
