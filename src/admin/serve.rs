//! HTTP server of the admin port, with bounded connections, sizes and times.

use std::{collections::VecDeque, future::Future, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Request},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    pin, select,
    sync::watch,
    time::{sleep, timeout},
};
use tracing::debug;

use leadsd_base::task::{self, Task};

/// Maximum number of concurrent connections. One more closes the oldest connection, so that held
/// connections cannot block the probes of an orchestrator.
const MAX_CONNECTIONS: usize = 128;

/// Timeout for the headers of a request, including the idle time before it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout for a request and its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum age of a connection, which also bounds slow readers.
const MAX_AGE: Duration = Duration::from_secs(600);

/// Maximum size of a request body in bytes: a log filter.
const MAX_BODY: usize = 16 * 1024;

/// Maximum size of a request head in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Time that requests in flight have to finish after the stop.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// Pause after a failed accept. The usual cause is a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` completes.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let router =
        router.layer(middleware::from_fn(with_timeout)).layer(DefaultBodyLimit::max(MAX_BODY));
    let mut open: VecDeque<Task> = VecDeque::new();
    let (stopping, _) = watch::channel(false);
    pin!(stop);
    loop {
        let accepted = select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                open.retain(|connection| !connection.is_ended());
                if open.len() >= MAX_CONNECTIONS {
                    open.pop_front();
                }
                let work = connection(socket, router.clone(), stopping.subscribe());
                open.push_back(task::spawn("admin connection", "", work));
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

async fn connection(socket: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    pin!(connection);
    select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "Admin connection failed");
            }
            return;
        }
        () = sleep(MAX_AGE) => return,
        // An error means that the server was dropped.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    // The connection may still finish its request.
    let _ = timeout(SHUTDOWN_GRACE, connection).await;
}

async fn with_timeout(request: Request<Body>, next: Next) -> Response {
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
