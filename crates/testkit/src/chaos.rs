//! A TCP proxy that cuts and stalls connections.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use leadsd_base::task::{self, Task};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    select,
    sync::watch,
};

/// Bytes read at once.
const BUFFER: usize = 16 * 1024;

/// Direction of bytes through a [`ChaosProxy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Response,
}

/// State of the network behind a [`ChaosProxy`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Bytes pass.
    #[default]
    Up,
    /// Connections are cut, and new ones are closed at once.
    Down,
    /// Connections stay open, and nothing passes.
    Stalled,
}

/// A TCP proxy that cuts one connection after a given number of bytes, and counts passing bytes.
///
/// It starts without a target, so that its address can be part of the configuration of a client
/// that starts before the server.
#[derive(Debug)]
pub struct ChaosProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug, Default)]
struct Shared {
    target: OnceLock<SocketAddr>,
    /// Direction of the next cut, and bytes that pass before it.
    cut: Mutex<Option<(Direction, usize)>>,
    passed: Mutex<[usize; 2]>,
    link: watch::Sender<LinkState>,
}

// === impl ChaosProxy ===

impl ChaosProxy {
    /// Starts on a free port.
    ///
    /// # Panics
    ///
    /// If the system provides no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let task = task::spawn("chaos-proxy", "", accept(listener, Arc::clone(&shared)));
        Self { address, shared, _task: task }
    }

    /// Address of the listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes connections on to `target` from now on.
    ///
    /// # Panics
    ///
    /// If it has a target.
    pub fn connect_to(&self, target: SocketAddr) {
        self.shared.target.set(target).expect("the proxy has no target yet");
    }

    /// Cuts the connection after `bytes` more bytes in this direction; at least one passes.
    pub fn cut_after(&self, direction: Direction, bytes: usize) {
        *self.shared.cut.lock() = Some((direction, bytes.max(1)));
    }

    /// Cancels the cut; whether it had happened.
    pub fn cancel_cut(&self) -> bool {
        self.shared.cut.lock().take().is_none()
    }

    /// Sets the state of all connections, present and future.
    pub fn set_link(&self, state: LinkState) {
        self.shared.link.send_replace(state);
    }

    /// Bytes that have passed so far: requests, responses.
    pub fn passed(&self) -> [usize; 2] {
        *self.shared.passed.lock()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Connections end with the proxy.
    let mut connections = Vec::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.retain(|connection: &Task| !connection.is_ended());
        let Some(&target) = shared.target.get() else { continue };
        if *shared.link.borrow() == LinkState::Down {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.push(task::spawn("chaos-connection", "", async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            for stream in [&client, &server] {
                // Nagle's algorithm would merge separate writes.
                let _ = stream.set_nodelay(true);
            }
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            // The end of one direction drops both.
            select! {
                () = shared.pump(from_client, to_server, Direction::Request) => {}
                () = shared.pump(from_server, to_client, Direction::Response) => {}
                () = shared.until(|state| state == LinkState::Down) => {}
            }
        }));
    }
}

// === impl Shared ===

impl Shared {
    /// Passes bytes on until the connection ends or is to be cut.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, direction: Direction) {
        let mut buffer = vec![0; BUFFER];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
            self.until(|state| state != LinkState::Stalled).await;
            let (pass, cut) = self.allowance(direction, read);
            self.passed.lock()[direction as usize] += pass;
            if to.write_all(&buffer[..pass]).await.is_err() || cut {
                return;
            }
        }
    }

    /// Waits until the network is in such a state.
    async fn until(&self, is_reached: impl Fn(LinkState) -> bool) {
        // The sender lives as long as `self`.
        let _ = self.link.subscribe().wait_for(|state| is_reached(*state)).await;
    }

    /// Number of the `read` bytes that pass; true if the connection is cut after them.
    fn allowance(&self, direction: Direction, read: usize) -> (usize, bool) {
        let mut cut = self.cut.lock();
        match &mut *cut {
            Some((planned, left)) if *planned == direction => {
                let pass = read.min(*left);
                *left -= pass;
                let is_due = *left == 0;
                if is_due {
                    *cut = None;
                }
                (pass, is_due)
            }
            _ => (read, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connection_is_cut_after_exactly_the_given_bytes() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = ChaosProxy::start().await;
        proxy.connect_to(server.local_addr().unwrap());
        proxy.cut_after(Direction::Request, 3);
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        client.write_all(b"request").await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut received = Vec::new();
        accepted.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"req");
        assert!(proxy.cancel_cut(), "the cut has happened");
        assert_eq!(proxy.passed(), [3, 0]);
    }

    #[tokio::test]
    async fn a_stalled_link_passes_bytes_on_when_it_is_up_and_a_link_that_is_down_cuts() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = ChaosProxy::start().await;
        proxy.connect_to(server.local_addr().unwrap());
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        proxy.set_link(LinkState::Stalled);
        client.write_all(b"request").await.unwrap();
        tokio::task::yield_now().await;
        assert_eq!(proxy.passed(), [0, 0]);
        proxy.set_link(LinkState::Up);
        let mut received = [0; 7];
        accepted.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"request");
        proxy.set_link(LinkState::Down);
        assert_eq!(client.read(&mut received).await.unwrap(), 0, "cut");
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(next.read(&mut received).await.unwrap_or_default(), 0, "closed");
    }
}
