//! What a caller gets, on its way out: followed to its real end, and handed over in pieces, so that a
//! caller who does not read leaves it here, where it is counted and has a deadline.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use http::HeaderMap;
use hyper::{
    body::{Body as HttpBody, Bytes, Frame, SizeHint},
    rt::Executor,
};
use hyper_util::rt::TokioExecutor;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tonic::{Code, Status, body::Body};

use crate::grpc::{
    middleware::observe::{AccessLog, GRPC_STATUS},
    status,
};

/// Most bytes handed over at a time. What is handed over waits in the connection for the caller to
/// read, as long as the connection lives: one frame of HTTP/2.
const CHUNK: usize = 16 * 1024;

/// How long after its deadline an answer may still be on its way: the caller has given up by then.
const SEND_GRACE: Duration = Duration::from_secs(1);

/// Deadlines further off than this are none: such calls go on for as long as their connection.
const NEVER: Duration = Duration::from_secs(86_400);

tokio::task_local! {
    /// When the answer that the task hands over must be gone.
    static SEND_DEADLINE: Cell<Option<Instant>>;
}

/// The body of an answer.
pub(crate) struct ResponseBody {
    inner: Body,
    /// What of a large message is still to be handed over.
    rest: Bytes,
    /// Gone once the end is known.
    access: Option<AccessLog>,
    /// For an answer that may go on for ever: ready when its connection is about to end.
    closing: Option<Closing>,
}

type Closing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs the streams of a connection, each in a task that ends with its answer's time.
#[derive(Debug, Clone)]
pub(crate) struct StreamExecutor(TokioExecutor);

// === impl ResponseBody ===

impl ResponseBody {
    pub(crate) fn new(inner: Body, access: Option<AccessLog>) -> Self {
        if let Some(access) = &access {
            let until = access.deadline() + SEND_GRACE;
            if until.saturating_duration_since(Instant::now()) < NEVER {
                // Without a connection around it nobody waits for the answer.
                let _ = SEND_DEADLINE.try_with(|gone_by| gone_by.set(Some(until)));
            }
        }
        Self { inner, rest: Bytes::new(), access, closing: None }
    }

    /// The same answer, but it ends when its connection is about to end and there is nothing to say:
    /// whoever watches the health of a service would keep it from its end.
    pub(crate) fn until(mut self, mut closing: watch::Receiver<bool>) -> Self {
        self.closing = Some(Box::pin(async move {
            // An error means that the connection is gone.
            let _ = closing.wait_for(|closing| *closing).await;
        }));
        self
    }

    fn piece(&mut self, mut data: Bytes) -> Frame<Bytes> {
        let was_large = !self.rest.is_empty();
        self.rest = if data.len() > CHUNK { data.split_off(CHUNK) } else { Bytes::new() };
        if let Some(access) = &self.access
            && (was_large || !self.rest.is_empty())
        {
            access.holds(self.rest.len());
        }
        Frame::data(data)
    }

    fn ended(&mut self, code: Code) {
        if let Some(mut access) = self.access.take() {
            access.ended(code);
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.rest.is_empty() {
            let rest = self.rest.clone();
            return Poll::Ready(Some(Ok(self.piece(rest))));
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(closing) = &mut self.closing else { return Poll::Pending };
                ready!(closing.as_mut().poll(cx));
                self.closing = None;
                self.inner = Body::empty();
                self.ended(Code::Unavailable);
                return Poll::Ready(Some(Ok(Frame::trailers(status::closing()))));
            }
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                self.ended(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            None => {
                self.ended(Code::Ok);
                return Poll::Ready(None);
            }
        };
        Poll::Ready(Some(Ok(match frame.into_data() {
            Ok(data) => self.piece(data),
            Err(frame) => {
                let code = frame.trailers_ref().and_then(grpc_code).unwrap_or(Code::Unknown);
                self.ended(code);
                frame
            }
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// The code that headers or trailers carry.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes()))
}

// === impl StreamExecutor ===

impl StreamExecutor {
    pub(crate) fn new() -> Self {
        Self(TokioExecutor::new())
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.execute(SEND_DEADLINE.scope(Cell::new(None), with_send_deadline(stream)));
    }
}

/// Ends `stream` when its answer must be gone; the caller gets a reset.
async fn with_send_deadline(stream: impl Future<Output = ()>) {
    let mut stream = pin!(stream);
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if timer.is_none() {
            // Most answers are gone at once and need no timer.
            let Some(gone_by) = SEND_DEADLINE.with(Cell::get) else { return Poll::Pending };
            timer.set(Some(sleep_until(gone_by)));
        }
        timer.as_mut().as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
    })
    .await;
}
