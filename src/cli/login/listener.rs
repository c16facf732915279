//! HTTP listener on loopback for the redirect of the consent page.

use std::{io, net::Ipv4Addr, time::Duration};

use axum::{
    Router,
    extract::{Query, Request, State},
    http::Method,
    response::Response,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    page::{PageKind, ResultPage},
    redirect::{PATH, Redirect},
};
use leadsd_base::task::{self, Task};

/// Maximum wait of the browser for its final page: longer than the HubSpot and Vault requests before
/// it.
const PAGE_TIMEOUT: Duration = Duration::from_secs(90);

/// Timeout for sending the final page.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Running listener; it stops on drop.
pub(super) struct Listener {
    pub(super) port: u16,
    arrivals: mpsc::Receiver<Arrival>,
    stop: watch::Sender<bool>,
    server: Task,
}

/// Browser request that arrived by the redirect and waits for its final page.
pub(super) struct Arrival {
    pub(super) redirect: Redirect,
    reply: oneshot::Sender<ResultPage>,
}

// === impl Listener ===

impl Listener {
    /// Binds the port on 127.0.0.1; 0 picks a free one.
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let (sender, arrivals) = mpsc::channel(1);
        let router = Router::new().fallback(handle_redirect).with_state(sender);
        let (stop, stopped) = watch::channel(false);
        let server = task::spawn("login-listener", "", async move {
            let mut stopped = stopped;
            let stop = async move {
                // An error means that the sender was dropped, which stops the listener as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            // If the listener fails, the login ends at its deadline.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stop).await;
        });
        Ok(Self { port, arrivals, stop, server })
    }

    /// Waits for the next redirect; `None` if none arrives before the deadline.
    pub(super) async fn next(&mut self, until: Instant) -> Option<Arrival> {
        timeout_at(until, self.arrivals.recv()).await.ok().flatten()
    }

    /// Stops accepting redirects, and sends the pages in progress.
    pub(super) async fn close(self) {
        let Self { port: _, arrivals, stop, server } = self;
        drop(arrivals);
        stop.send_replace(true);
        // A browser that does not read its page is disconnected.
        let _ = timeout(CLOSE_TIMEOUT, server.ended()).await;
    }
}

// === impl Arrival ===

impl Arrival {
    /// Sends the final page.
    pub(super) fn reply(self, page: ResultPage) {
        // The browser may have disconnected.
        let _ = self.reply.send(page);
    }
}

async fn handle_redirect(
    State(sender): State<mpsc::Sender<Arrival>>,
    request: Request,
) -> Response {
    let not_found = || {
        let text = "This port accepts only the OAuth redirect of leadsd login.";
        ResultPage::new(PageKind::Error, "Not found", text).respond()
    };
    if request.method() != Method::GET || request.uri().path() != PATH {
        return not_found();
    }
    let Ok(Query(redirect)) = Query::<Redirect>::try_from_uri(request.uri()) else {
        return not_found();
    };
    let (reply, page) = oneshot::channel();
    let taken = timeout(PAGE_TIMEOUT, sender.send(Arrival { redirect, reply })).await;
    let page = match taken {
        Ok(Ok(())) => timeout(PAGE_TIMEOUT, page).await.ok().and_then(Result::ok),
        Ok(Err(_)) | Err(_) => None,
    };
    let ended = || {
        let text = "The terminal shows the result. To try again, run leadsd login.";
        ResultPage::new(PageKind::Error, "This login has ended", text)
    };
    page.unwrap_or_else(ended).respond()
}
