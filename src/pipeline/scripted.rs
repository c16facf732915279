//! Test double of everything below a layer: records requests and responds by a script, in simulated
//! time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{Dispatch, Layer};
use crate::leads::{CallContext, Error, MemoryAccount, MemoryCharge, Request, Response};

/// Responds to requests by a function, after an optional delay.
pub(super) struct ScriptedUpstream {
    script: Box<dyn Fn(&Recorded) -> Scripted + Send + Sync>,
    recorded: Mutex<Vec<Recorded>>,
    in_progress: Arc<Mutex<usize>>,
}

/// A request as the double received it.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    /// Number of the request, from 0.
    pub(super) number: usize,
    /// The request.
    pub(super) request: Arc<Request>,
    /// Time of arrival.
    pub(super) at: Instant,
    /// Deadline of the request.
    pub(super) deadline: Instant,
    /// Name of the caller.
    pub(super) caller: String,
    /// True if it had a permit.
    pub(super) has_permit: bool,
    /// Token of the request.
    pub(super) token: Option<String>,
    /// Attempts that were made before.
    pub(super) prior_attempts: u32,
    /// Account to which the memory of the response is charged.
    pub(super) memory: Arc<dyn MemoryAccount>,
}

/// Action of the double for a request.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    /// Time until the response.
    pub(super) delay: Duration,
    /// The response.
    pub(super) result: Result<Response, Error>,
    /// Number of bytes of memory that the response takes.
    pub(super) bytes: usize,
}

// === impl ScriptedUpstream ===

impl ScriptedUpstream {
    /// Responds by `script`.
    pub(super) fn new(script: impl Fn(&Recorded) -> Scripted + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            recorded: Mutex::default(),
            in_progress: Arc::default(),
        })
    }

    /// Responds with `results` in their order, without delay. Panics after the last one.
    pub(super) fn sequence(results: Vec<Result<Response, Error>>) -> Arc<Self> {
        let results = Mutex::new(VecDeque::from(results));
        Self::new(move |_| {
            Scripted::now(results.lock().pop_front().expect("a scripted response is left"))
        })
    }

    /// The response of the script to a request, which is not recorded.
    pub(super) fn respond(&self, call: &Recorded) -> Scripted {
        (self.script)(call)
    }

    /// The requests so far.
    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.recorded.lock().clone()
    }

    /// Number of requests so far.
    pub(super) fn count(&self) -> usize {
        self.recorded.lock().len()
    }

    /// Number of requests without a response.
    pub(super) fn in_progress(&self) -> usize {
        *self.in_progress.lock()
    }
}

impl std::fmt::Debug for ScriptedUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedUpstream").finish_non_exhaustive()
    }
}

impl Layer for ScriptedUpstream {
    async fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let call = Recorded {
            number: self.count(),
            request,
            at: Instant::now(),
            deadline: ctx.deadline,
            caller: ctx.requester.caller.as_str().to_owned(),
            has_permit: dispatch.permit.is_some(),
            token: dispatch.token.as_ref().map(|token| token.secret.expose().to_owned()),
            prior_attempts: dispatch.prior_attempts,
            memory: Arc::clone(&ctx.memory),
        };
        self.recorded.lock().push(call.clone());
        ctx.cost.count();
        let _in_progress = RequestInProgress::new(&self.in_progress);
        let Scripted { delay, result, bytes } = (self.script)(&call);
        // A permit is spent for as long as the request takes.
        let permit = dispatch.permit.map(|mut permit| {
            permit.mark_sent(1);
            permit
        });
        if !delay.is_zero() {
            sleep(delay).await;
        }
        drop(permit);
        let mut charge = MemoryCharge::new(&ctx.memory);
        charge.try_set(bytes)?;
        ctx.cost.hold(charge);
        result
    }
}

// === impl Scripted ===

impl Scripted {
    /// A response without delay.
    pub(super) fn now(result: Result<Response, Error>) -> Self {
        Self::after(Duration::ZERO, result)
    }

    /// A response after `delay`.
    pub(super) fn after(delay: Duration, result: Result<Response, Error>) -> Self {
        Self { delay, result, bytes: 0 }
    }

    /// A response that takes this many bytes of memory.
    pub(super) fn of_bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }
}

/// Counts a request until it is dropped.
struct RequestInProgress(Arc<Mutex<usize>>);

// === impl RequestInProgress ===

impl RequestInProgress {
    fn new(count: &Arc<Mutex<usize>>) -> Self {
        *count.lock() += 1;
        Self(Arc::clone(count))
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}
