//! Accept loop and drain.
//!
//! tonic's server is not used for two reasons:
//! - The maximum age of its connections has no jitter.
//! - It ends an expired call with CANCELLED before a layer can return DEADLINE_EXCEEDED with details.

use std::{future::Future, io, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::{
    pin, select,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use super::{
    connection::{ConnectionServer, NewService, Phase},
    listener::{Listener, PeerAddress, Socket},
};
use leadsd_base::{net::listen_address::ListenAddress, task};

/// Pause after a failed accept. The usual cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Time that aborted connections have to close.
const ABORT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bound listener and the server of its connections.
#[derive(Debug)]
pub(crate) struct Acceptor<N> {
    listener: Listener,
    address: ListenAddress,
    server: Arc<ConnectionServer<N>>,
    phase: watch::Sender<Phase>,
}

// === impl Acceptor ===

impl<N: NewService> Acceptor<N> {
    /// Binds the address.
    pub(crate) async fn bind(
        listen: &ListenAddress,
        server: ConnectionServer<N>,
    ) -> io::Result<Self> {
        let (listener, address) = Listener::bind(listen).await?;
        let (phase, _) = watch::channel(Phase::Open);
        Ok(Self { listener, address, server: Arc::new(server), phase })
    }

    /// Bound address.
    pub(crate) fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Reports whether connections use TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.server.tls.is_some()
    }

    /// Accepts connections until `stop` completes.
    pub(crate) async fn accept_until(&self, stop: impl Future<Output = ()>) {
        pin!(stop);
        loop {
            let accepted = select! {
                () = &mut stop => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.spawn(socket, peer),
                Err(error) => {
                    if let Some(failures) = self.server.admission.on_accept_error() {
                        warn!(%error, failures, "Accepting connections failed");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Closes the listener and waits at most `grace` for the calls in flight.
    pub(crate) async fn drain(self, grace: Duration) {
        // Closing the listener would reset the connections in its backlog.
        while let Some(Ok((socket, peer))) = self.listener.accept().now_or_never() {
            self.spawn(socket, peer);
        }
        let Self { listener, address: _, server, phase } = self;
        drop(listener);
        phase.send_replace(Phase::Draining);
        let open = server.admission.open_connections();
        info!(grpc.connections = open, "Started draining: waiting for the calls in flight");
        if timeout(grace, phase.closed()).await.is_err() {
            warn!("Aborted calls that did not finish within the grace period");
            phase.send_replace(Phase::Abort);
            // The process ends even if connections are left.
            let _ = timeout(ABORT_TIMEOUT, phase.closed()).await;
        }
    }

    fn spawn(&self, socket: Socket, peer: PeerAddress) {
        let guard = self.server.admission.admit_connection(peer.peer());
        let serve = Arc::clone(&self.server).run(socket, peer, guard, self.phase.subscribe());
        task::spawn("connection", "", serve).detach();
    }
}
