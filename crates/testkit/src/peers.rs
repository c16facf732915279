//! Servers with scripted behaviour.

use std::net::SocketAddr;

use axum::Router;
use leadsd_base::task::{self, Task};
use tokio::net::TcpListener;

/// An HTTP server on a free port; it stops when dropped.
#[derive(Debug)]
pub struct HttpPeer {
    address: SocketAddr,
    _task: Task,
}

// === impl HttpPeer ===

impl HttpPeer {
    /// Serves `router`.
    ///
    /// # Panics
    ///
    /// If the system provides no port.
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let task = task::spawn("http-peer", "", async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, _task: task }
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// A listener that never accepts: connections open, and no byte comes back.
///
/// # Panics
///
/// If the system provides no port.
pub fn silent_peer() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::*;
    use crate::wait::metrics_page;

    #[tokio::test]
    async fn a_peer_answers_by_its_router() {
        let peer = HttpPeer::start(Router::new().route("/metrics", get(async || "up 1"))).await;
        assert_eq!(metrics_page(&peer.url()).await.as_deref(), Some("up 1"));
    }
}
