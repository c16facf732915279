//! Resets streams whose client does not read the response in time.
//!
//! While a stream waits for its client, neither the service nor the body is polled; only the task of the
//! stream can be dropped. hyper calls the service and then spawns the task of the stream, within one poll
//! of the connection. So the service puts the state of the call into the [`StreamHandover`] of the
//! connection, and the executor takes it from there.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use super::call_state::CallState;

/// Handover of the state of a call from the service of a connection to its executor.
#[derive(Debug, Clone, Default)]
pub(crate) struct StreamHandover(Arc<Mutex<Option<Arc<CallState>>>>);

/// Executor of the streams of one connection, with send deadlines.
#[derive(Debug, Clone)]
pub(crate) struct StreamExecutor {
    tasks: TokioExecutor,
    handover: StreamHandover,
}

pin_project! {
    /// Stream that is run until the send deadline of its call. Not an async function, which would store
    /// the stream twice.
    struct StreamUntilDeadline<F> {
        #[pin]
        stream: F,
        call: Arc<CallState>,
        // Most responses are sent in the first poll and need no timer.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

// === impl StreamHandover ===

impl StreamHandover {
    /// Stores the call of the stream that is spawned next.
    pub(crate) fn put(&self, call: Arc<CallState>) {
        *self.0.lock() = Some(call);
    }

    fn take(&self) -> Option<Arc<CallState>> {
        self.0.lock().take()
    }
}

// === impl StreamExecutor ===

impl StreamExecutor {
    pub(crate) fn new(handover: StreamHandover) -> Self {
        Self { tasks: TokioExecutor::new(), handover }
    }
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        match self.handover.take() {
            Some(call) => self.tasks.execute(until_deadline(stream, call)),
            None => self.tasks.execute(stream),
        }
    }
}

// === impl StreamUntilDeadline ===

impl<F: Future<Output = ()>> Future for StreamUntilDeadline<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(deadline) = this.call.send_deadline.get() else {
            // No message of the export is being sent.
            *this.timer = None;
            return Poll::Pending;
        };
        let timer = match this.timer {
            Some(timer) => {
                if timer.deadline() != deadline {
                    timer.as_mut().reset(deadline);
                }
                timer
            }
            None => this.timer.insert(Box::pin(sleep_until(deadline))),
        };
        timer.as_mut().poll(cx)
    }
}

/// Runs `stream` until the send deadline of `call`.
fn until_deadline<F: Future<Output = ()>>(
    stream: F,
    call: Arc<CallState>,
) -> StreamUntilDeadline<F> {
    StreamUntilDeadline { stream, call, timer: None }
}

#[cfg(test)]
mod tests;
