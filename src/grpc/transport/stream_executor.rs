//! Resets streams whose client does not read the response in time.
//!
//! While a stream waits for its client, neither the service nor the body is polled; only the task of the
//! stream can be dropped. hyper calls the service and then spawns the task of the stream, within one poll
//! of the connection. So the service puts the state of the call into the [`StreamHandover`] of the
//! connection, and the executor takes it from there.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::sleep_until;

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
            Some(call) => self.tasks.execute(with_send_deadline(stream, call)),
            None => self.tasks.execute(stream),
        }
    }
}

/// Runs `stream` until the send deadline of `call`.
async fn with_send_deadline(stream: impl Future<Output = ()>, call: Arc<CallState>) {
    let mut stream = pin!(stream);
    let mut timer = pin!(None);
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if timer.is_none() {
            // Most responses are sent in the first poll and need no timer.
            let Some(deadline) = call.send_deadline.get() else { return Poll::Pending };
            timer.set(Some(sleep_until(deadline)));
        }
        timer.as_mut().as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
    })
    .await;
}

#[cfg(test)]
mod tests;
