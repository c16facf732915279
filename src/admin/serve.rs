//! HTTP server of the admin port, with bounded connections, sizes and times. A connection carries one
//! request, so that the end of a request is never a matter of interpretation.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::Future,
    io::{self, Cursor},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, join, sink},
    net::{TcpListener, TcpStream},
    pin, select,
    sync::watch,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tracing::debug;

use super::{
    guard::{Guard, Rejection},
    request_head::{self, HeadError},
};
use leadsd_base::task::{self, Task};
use leadsd_quota::AccountKey;

/// Maximum number of concurrent connections. A further one closes the oldest connection of the address with
/// the most connections, so that neither idle connections nor a flood blocks the probes of Kubernetes.
const MAX_CONNECTIONS: usize = 128;

/// Timeout for a request and its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum age of a connection, which also bounds slow readers.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Maximum size of a request body in bytes: a log filter.
const MAX_BODY: usize = 16 * 1024;

/// Size of hyper's buffer in bytes. It holds an accepted head with the beginning of the body.
const BUFFER: usize = 32 * 1024;

/// Time that requests in flight have to finish after the stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Bound on what is read after a rejection, so that the client receives the response. A connection that
/// is closed with unread bytes is reset.
const REJECTED_BYTES: u64 = 256 * 1024;

/// Pause after a failed accept. The usual cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open connections with their addresses, oldest first. Dropping a task closes its connection.
#[derive(Debug, Default)]
struct OpenConnections(VecDeque<(AccountKey, Task)>);

// === impl OpenConnections ===

impl OpenConnections {
    /// Adds a connection from this address. If there are too many, another one is closed first.
    fn add(&mut self, address: IpAddr, connection: impl FnOnce() -> Task) {
        let Self(open) = self;
        open.retain(|(_, connection)| !connection.is_ended());
        if open.len() >= MAX_CONNECTIONS {
            let mut counts: HashMap<&AccountKey, usize> = HashMap::new();
            open.iter().for_each(|(address, _)| *counts.entry(address).or_default() += 1);
            let oldest = open.iter().enumerate().rev().max_by_key(|(_, (at, _))| counts[at]);
            if let Some(oldest) = oldest.map(|(index, _)| index) {
                open.remove(oldest);
            }
        }
        open.push_back((AccountKey::from_address(address), connection()));
    }
}

/// Serves until `stop` completes.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    guard: Guard,
    stop: impl Future<Output = ()>,
) {
    let router =
        router.layer(middleware::from_fn(with_timeout)).layer(DefaultBodyLimit::max(MAX_BODY));
    let guard = Arc::new(guard);
    let mut open = OpenConnections::default();
    let (stopping, _) = watch::channel(false);
    pin!(stop);
    loop {
        let accepted = select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let stopping = stopping.subscribe();
                let work = connection(socket, router.clone(), Arc::clone(&guard), stopping);
                open.add(peer.ip(), || task::spawn("admin connection", "", work));
            }
            Err(error) => {
                debug!(%error, "Accepting an admin connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    // Remaining connections end with the process.
    let _ = timeout(SHUTDOWN_GRACE, stopping.closed()).await;
}

/// Serves one connection until its response is sent, it is too old, or the server stops.
async fn connection(
    socket: TcpStream,
    router: Router,
    guard: Arc<Guard>,
    mut stopping: watch::Receiver<bool>,
) {
    let exchange = exchange(socket, router, guard);
    pin!(exchange);
    select! {
        done = exchange.as_mut() => {
            if let Err(error) = done {
                debug!(%error, "Admin connection failed");
            }
            return;
        }
        () = sleep(MAX_AGE) => return,
        // An error means that the server was dropped.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    // The connection may still finish its request.
    let _ = timeout(SHUTDOWN_GRACE, exchange).await;
}

async fn exchange(mut socket: TcpStream, router: Router, guard: Arc<Guard>) -> io::Result<()> {
    let local = socket.local_addr()?.ip();
    let head = match request_head::read(&mut socket).await {
        Ok(head) => head,
        Err(error) => return reject(socket, error).await,
    };
    let (reader, writer) = socket.into_split();
    let stream = join(Cursor::new(head).chain(reader), writer);
    let service = service_fn(|request| respond(request, router.clone(), &guard, local));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

async fn respond(
    request: Request<Incoming>,
    router: Router,
    guard: &Guard,
    local: IpAddr,
) -> Result<Response, Infallible> {
    match guard.check(request.method(), request.headers(), local) {
        Ok(()) => router.oneshot(request).await,
        Err(Rejection(status, text)) => {
            debug!(error = text, "Rejected an admin request");
            Ok((status, format!("{text}\n")).into_response())
        }
    }
}

/// Responds to a request whose head was not accepted, and waits briefly for the client to close.
async fn reject(mut socket: TcpStream, error: HeadError) -> io::Result<()> {
    let Some((status, text)) = error.response() else { return Ok(()) };
    debug!(error = text, "Rejected an admin request");
    let length = text.len() + 1;
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{text}\n"
    );
    socket.write_all(response.as_bytes()).await?;
    socket.shutdown().await?;
    let rest =
        async { tokio::io::copy(&mut (&mut socket).take(REJECTED_BYTES), &mut sink()).await };
    // Whether the client closes in time changes nothing.
    let _ = timeout(SHUTDOWN_GRACE, rest).await;
    Ok(())
}

async fn with_timeout(request: Request<Body>, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn the_oldest_connection_of_the_address_with_the_most_makes_room() {
        let mut open = OpenConnections::default();
        let mut add = |host: u8| {
            open.add([10, 0, 0, host].into(), || task::spawn("test", "", pending()));
            let of = |host: u8| {
                let key = AccountKey::from_address([10, 0, 0, host].into());
                open.0.iter().filter(|(address, _)| *address == key).count()
            };
            [of(1), of(2), of(3)]
        };
        add(1);
        for _ in 0..MAX_CONNECTIONS {
            add(2);
        }
        assert_eq!(add(2), [1, MAX_CONNECTIONS - 1, 0], "a flood closes its own connections");
        assert_eq!(add(3), [1, MAX_CONNECTIONS - 2, 1]);
    }
}
