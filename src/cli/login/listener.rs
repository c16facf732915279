//! Where the browser comes back to: one address on loopback, for one answer.

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
    page::{Kind, Page},
    redirect::{PATH, Redirect},
};
use leadsd_base::task::{self, Task};

/// How long the browser is kept waiting for what came of it: longer than the calls that follow.
const PAGE_TIMEOUT: Duration = Duration::from_secs(90);

/// How long the last page may take to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The listener; it stops when dropped.
pub(super) struct Listener {
    pub(super) port: u16,
    arrivals: mpsc::Receiver<Arrival>,
    stop: watch::Sender<bool>,
    server: Task,
}

/// A browser that came back and waits for its page.
pub(super) struct Arrival {
    pub(super) redirect: Redirect,
    reply: oneshot::Sender<Page>,
}

// === impl Listener ===

impl Listener {
    /// Takes the port on 127.0.0.1 and nowhere else; 0 takes a free one.
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        let (sender, arrivals) = mpsc::channel(1);
        let router = Router::new().fallback(answer).with_state(sender);
        let (stop, stopped) = watch::channel(false);
        let server = task::spawn("login-listener", "", async move {
            let mut stopped = stopped;
            let stop = async move {
                // An error means that the sender is gone, which is a stop as well.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            // Nobody is left to be told of a fault: the login ends by its own deadline.
            let _ = axum::serve(listener, router).with_graceful_shutdown(stop).await;
        });
        Ok(Self { port, arrivals, stop, server })
    }

    /// The next browser that comes back; none if nobody does until then.
    pub(super) async fn next(&mut self, until: Instant) -> Option<Arrival> {
        timeout_at(until, self.arrivals.recv()).await.ok().flatten()
    }

    /// Takes no more answers, and sends the pages that are under way.
    pub(super) async fn close(self) {
        let Self { port: _, arrivals, stop, server } = self;
        drop(arrivals);
        stop.send_replace(true);
        // A browser that does not take its page has to do without.
        let _ = timeout(CLOSE_TIMEOUT, server.ended()).await;
    }
}

// === impl Arrival ===

impl Arrival {
    /// Shows the browser how it went.
    pub(super) fn reply(self, page: Page) {
        // The browser may be gone.
        let _ = self.reply.send(page);
    }
}

async fn answer(State(sender): State<mpsc::Sender<Arrival>>, request: Request) -> Response {
    let elsewhere = || {
        let text = "Nothing is served here but the answer to a login.";
        Page::new(Kind::Error, "Not found", text).respond()
    };
    if request.method() != Method::GET || request.uri().path() != PATH {
        return elsewhere();
    }
    let Ok(Query(redirect)) = Query::<Redirect>::try_from_uri(request.uri()) else {
        return elsewhere();
    };
    let (reply, page) = oneshot::channel();
    let taken = timeout(PAGE_TIMEOUT, sender.send(Arrival { redirect, reply })).await;
    let page = match taken {
        Ok(Ok(())) => timeout(PAGE_TIMEOUT, page).await.ok().and_then(Result::ok),
        Ok(Err(_)) | Err(_) => None,
    };
    let ended = || {
        let text = "Look at the terminal for how it ended, or run leadsd login once more.";
        Page::new(Kind::Error, "This login has ended", text)
    };
    page.unwrap_or_else(ended).respond()
}
