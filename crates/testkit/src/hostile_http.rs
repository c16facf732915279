//! HTTP server whose responses are larger, or last longer, than any client should accept.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadsd_base::task::{self, Task};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::interval,
};

/// Bytes that are sent at most for one request. The buffers of a socket hold a small part of them.
pub const ENDLESS: usize = 1 << 30;

/// Size of one write of an endless body.
const PIECE: usize = 64 * 1024;

/// Interval between two bytes of a body that trickles.
const TRICKLE: Duration = Duration::from_millis(10);

/// Body after the head of a response.
#[derive(Debug, Clone)]
pub enum HostileBody {
    /// These bytes, once.
    Once(Vec<u8>),
    /// These bytes again and again, up to [`ENDLESS`].
    Repeated(Vec<u8>),
    /// One byte after the other, without an end.
    Trickled,
}

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct HostileHttp {
    address: SocketAddr,
    most: Arc<AtomicUsize>,
    _task: Task,
}

// === impl HostileHttp ===

impl HostileHttp {
    /// Starts a server that answers each request with this head and body.
    ///
    /// # Panics
    ///
    /// If no port is free.
    pub async fn start(head: &str, body: HostileBody) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let most = Arc::new(AtomicUsize::new(0));
        let (head, counter) = (head.to_owned(), Arc::clone(&most));
        let task = task::spawn("hostile HTTP", "", async move {
            while let Ok((socket, _)) = listener.accept().await {
                respond(socket, &head, &body, &counter).await;
            }
        });
        Self { address, most, _task: task }
    }

    /// Base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Most bytes that a client let it send in one response.
    pub fn most_sent(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

async fn respond(mut socket: TcpStream, head: &str, body: &HostileBody, most: &AtomicUsize) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let mut sent = 0;
    let mut send = async |bytes: &[u8]| {
        let written = socket.write_all(bytes).await.is_ok();
        sent += bytes.len();
        most.fetch_max(sent, Ordering::Relaxed);
        written && sent < ENDLESS
    };
    if !send(head.as_bytes()).await {
        return;
    }
    match body {
        HostileBody::Once(bytes) => {
            send(bytes).await;
        }
        HostileBody::Repeated(bytes) => {
            let piece = bytes.repeat(PIECE.div_ceil(bytes.len().max(1)));
            while send(&piece).await {}
        }
        HostileBody::Trickled => {
            let mut pace = interval(TRICKLE);
            while send(b" ").await {
                pace.tick().await;
            }
        }
    }
}
