//! A runtime on a separate thread, with separate log lines.

use std::{sync::mpsc, thread, time::Duration};

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    task::JoinHandle,
};
use tracing::{Dispatch, dispatcher};

/// Interval between two checks of the number of tasks.
const INTERVAL: Duration = Duration::from_millis(2);

/// A single-threaded runtime on a separate thread.
///
/// Everything that is spawned on it runs on that thread. Hence its log lines go only to the dispatcher
/// of this host, and its tasks can be counted. A test may block while it waits for the end of this work.
#[derive(Debug)]
pub struct Host {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

// === impl Host ===

impl Host {
    /// Starts the thread. Log lines go to `dispatch`.
    ///
    /// # Panics
    ///
    /// If the system provides no thread.
    pub fn start(name: &str, dispatch: Dispatch) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            let blocking = dispatch.clone();
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_start(move || {
                    // A thread for blocking calls belongs to this runtime until its end.
                    std::mem::forget(dispatcher::set_default(&blocking));
                })
                .build()
                .expect("a runtime");
            dispatcher::with_default(&dispatch, || {
                sender.send(runtime.handle().clone()).expect("the starter waits");
                // An error means that the host was dropped, which is a stop as well.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            });
        });
        let thread = thread.expect("a thread");
        let handle = receiver.recv().expect("the runtime starts");
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    /// Runs `work` on the thread of this host.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle.spawn(work)
    }

    /// Number of tasks that have not ended.
    pub fn live_tasks(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }

    /// Blocks until no task is left, for about `limit` at most; gives the number of tasks that are.
    pub fn wait_idle(&self, limit: Duration) -> usize {
        let mut waited = Duration::ZERO;
        loop {
            let live = self.live_tasks();
            if live == 0 || waited >= limit {
                return live;
            }
            thread::park_timeout(INTERVAL);
            waited += INTERVAL;
        }
    }

    /// Blocks until `work` has run on the thread of this host, for at most `limit`; `None` if it
    /// takes longer or panics.
    pub fn block_on<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = mpsc::channel();
        let task = self.spawn(async move {
            // An error means that the waiter has given up.
            let _ = sender.send(work.await);
        });
        let done = receiver.recv_timeout(limit).ok();
        if done.is_none() {
            task.abort();
        }
        done
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A thread that panics unwinds; joining it here could block a test that already fails.
        if !thread::panicking()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_task_that_does_not_end_is_counted() {
        let host = Host::start("test", Dispatch::none());
        let leaked = host.spawn(pending::<()>());
        assert_eq!(host.wait_idle(Duration::ZERO), 1);
        leaked.abort();
        assert_eq!(host.wait_idle(Duration::from_secs(10)), 0);
        assert_eq!(host.block_on(Duration::from_secs(10), async { 7 }), Some(7));
        assert_eq!(host.block_on(Duration::from_millis(1), pending::<()>()), None);
    }
}
