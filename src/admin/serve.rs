//! How the admin endpoints are served: the port is for operators and machines of the platform, and as
//! bounded as the other one all the same.

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

/// Connections at the same time: probes, scrapers and a few people. With one more the oldest is closed:
/// whoever holds connections must not keep the orchestrator from asking whether the service lives.
const MAX_CONNECTIONS: usize = 128;

/// Longest time for the headers of a request, also of the next one on a connection.
const HEADERS: Duration = Duration::from_secs(10);

/// Longest time for one request and its answer.
const REQUEST: Duration = Duration::from_secs(10);

/// Longest life of a connection: whoever reads too slowly ends with it.
const AGE: Duration = Duration::from_secs(600);

/// Largest body: that of a log filter.
const MAX_BODY: usize = 16 * 1024;

/// Largest head of a request.
const MAX_HEAD: usize = 16 * 1024;

/// How long requests under way may go on after a stop.
const GRACE: Duration = Duration::from_secs(1);

/// Pause after a failed accept: the usual cause is a lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is ready.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let router = router.layer(middleware::from_fn(in_time)).layer(DefaultBodyLimit::max(MAX_BODY));
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
                debug!(%error, "Cannot accept an admin connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    // Whatever is left ends with the process.
    let _ = timeout(GRACE, stopping.closed()).await;
}

async fn connection(socket: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service);
    pin!(connection);
    select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "Admin connection broke");
            }
            return;
        }
        () = sleep(AGE) => return,
        // An error means that the server is gone.
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Ends by itself, or with the server's grace.
    let _ = timeout(GRACE, connection).await;
}

async fn in_time(request: Request<Body>, next: Next) -> Response {
    match timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}
