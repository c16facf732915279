//! A forward proxy that records what it is asked, and misbehaves on request.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use leadsd_base::task::{self, Task};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// Maximum size of the head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// Reaction of a [`ForwardProxy`] to requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyBehaviour {
    /// Forwards all requests.
    Forward,
    /// Forwards requests with this value of `Proxy-Authorization`; rejects others with status 407.
    Require(String),
    /// Sends these bytes and closes the connection.
    Respond(Vec<u8>),
    /// Sends nothing and keeps the connection open.
    Hang,
}

/// Request to a [`ForwardProxy`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRequest {
    /// Request line, such as `CONNECT api.example:443 HTTP/1.1`.
    pub line: String,
    /// Value of the header `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// A forward proxy on loopback, for tunnels and for plain requests; it stops when dropped.
#[derive(Debug)]
pub struct ForwardProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: Task,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<ProxyBehaviour>,
    requests: Mutex<Vec<ProxyRequest>>,
    /// Servers by host and port; other hosts are connected to as they are named.
    hosts: Mutex<BTreeMap<String, SocketAddr>>,
    connections: Mutex<Vec<Task>>,
}

// === impl ForwardProxy ===

impl ForwardProxy {
    /// Starts a proxy that forwards all requests.
    ///
    /// # Panics
    ///
    /// If the system provides no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(ProxyBehaviour::Forward),
            requests: Mutex::default(),
            hosts: Mutex::default(),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let task = task::spawn("forward-proxy", "", async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                let connection = task::spawn("forwarded", "", async move {
                    shared.serve(client).await;
                });
                let mut connections = accepting.connections.lock();
                connections.retain(|connection| !connection.is_ended());
                connections.push(connection);
            }
        });
        Self { address, shared, _task: task }
    }

    /// URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Connects requests for a host, such as `api.example:443`, to this server.
    pub fn map(&self, host: &str, server: SocketAddr) {
        self.shared.hosts.lock().insert(host.to_owned(), server);
    }

    /// Changes the reaction to requests.
    pub fn set(&self, behaviour: ProxyBehaviour) {
        *self.shared.behaviour.lock() = behaviour;
    }

    /// Requests so far.
    pub fn requests(&self) -> Vec<ProxyRequest> {
        self.shared.requests.lock().clone()
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.shared.connections.lock().clear();
    }
}

// === impl Shared ===

impl Shared {
    async fn serve(&self, mut client: TcpStream) {
        let Some(head) = read_head(&mut client).await else { return };
        let text = String::from_utf8_lossy(&head).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        let authorization = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("proxy-authorization");
            is_it.then(|| value.trim().to_owned())
        });
        let request = ProxyRequest { line, authorization };
        self.requests.lock().push(request.clone());
        let behaviour = self.behaviour.lock().clone();
        match behaviour {
            ProxyBehaviour::Forward => self.forward(client, &request.line, &head).await,
            ProxyBehaviour::Require(wanted) if request.authorization == Some(wanted.clone()) => {
                self.forward(client, &request.line, &head).await;
            }
            ProxyBehaviour::Require(_) => {
                let head = "HTTP/1.1 407 Proxy Authentication Required\r\n\
                            Proxy-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\n\r\n";
                // The client may be gone.
                let _ = client.write_all(head.as_bytes()).await;
            }
            ProxyBehaviour::Respond(bytes) => {
                // The client may be gone.
                let _ = client.write_all(&bytes).await;
            }
            ProxyBehaviour::Hang => std::future::pending().await,
        }
    }

    async fn forward(&self, mut client: TcpStream, line: &str, head: &[u8]) {
        let target = line.split(' ').nth(1).unwrap_or_default();
        let tunnel = line.starts_with("CONNECT ");
        let host = target.strip_prefix("http://").unwrap_or(target);
        let host = host.split('/').next().unwrap_or_default();
        let mapped = self.hosts.lock().get(host).copied();
        let connected = match mapped {
            Some(server) => TcpStream::connect(server).await,
            None => TcpStream::connect(host).await,
        };
        let first: &[u8] = if connected.is_ok() {
            b"HTTP/1.1 200 Connected\r\n\r\n"
        } else {
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n"
        };
        if (tunnel || connected.is_err()) && client.write_all(first).await.is_err() {
            return;
        }
        let Ok(mut server) = connected else { return };
        // Servers understand the form of request that is for a proxy.
        if !tunnel && server.write_all(head).await.is_err() {
            return;
        }
        // Either side may close at any time.
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Reads the head of a request byte by byte: what follows belongs to the tunnel.
async fn read_head(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < MAX_HEAD {
        head.push(client.read_u8().await.ok()?);
    }
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(proxy: &ForwardProxy, request: &str) -> String {
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    #[tokio::test]
    async fn requests_are_recorded_and_credentials_required() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = ForwardProxy::start().await;
        proxy.map("api.test:443", server.local_addr().unwrap());
        proxy.set(ProxyBehaviour::Require("Basic YTpi".to_owned()));
        let plain = "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n";
        assert!(asked(&proxy, &format!("{plain}\r\n")).await.starts_with("HTTP/1.1 407 "));
        let proven = format!("{plain}proxy-authorization: Basic YTpi\r\n\r\n");
        assert!(asked(&proxy, &proven).await.starts_with("HTTP/1.1 200 "));
        let seen = proxy.requests();
        assert_eq!(seen[0].line, "CONNECT api.test:443 HTTP/1.1");
        assert_eq!(seen[0].authorization, None);
        assert_eq!(seen[1].authorization.as_deref(), Some("Basic YTpi"));
    }
}
