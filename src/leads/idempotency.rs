//! Idempotency of writes: the result of a `request_id` is kept. Repeats with the same id and content
//! return it, also while the first call still runs.
//!
//! Every write runs in a separate task, so that a caller that disconnects does not abort a write
//! that HubSpot may have seen.
//!
//! Only results are kept: a repeat sends inputs without a result again, and resolves unknown outcomes.
//! The store belongs to this process and is bounded in bytes and in age. A repeat after [`TTL`] or at
//! another replica counts as a new call.

mod kept;

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use leadsd_base::task;
use leadsd_quota::{AccountKey, Caller};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use self::kept::KeptResults;
use super::{
    charge::MemoryCharge,
    context::{CallContext, PortalName},
    error::{Error, FieldFault, Reason, SideEffect},
    memory::{HeapSize, memory_of},
};

/// Time for which a result is kept: longer than any reasonable retry loop.
const TTL: Duration = Duration::from_secs(15 * 60);

/// Memory of an entry besides its result: key, channel, and their places in the maps.
const ENTRY_OVERHEAD: usize = 640;

/// Idempotency key of a write: printable ASCII, 1 to 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

/// Response to a write that can be stored.
pub(super) trait StoredResponse: HeapSize + Clone + Send + Sync + 'static {
    /// True if HubSpot may have acted on any part of the write. Only such a response is stored;
    /// otherwise a repeat is safe.
    fn may_have_effects(&self) -> bool;

    /// True if every part of the write has its result. Otherwise a repeat runs the write again, with
    /// this response as the state so far.
    fn is_final(&self) -> bool;

    /// The part of the response that is kept: outcomes and ids, and small leads.
    #[must_use]
    fn compact(self) -> Self;
}

/// A write that is about to run.
pub(super) struct StartedWrite<A> {
    /// Runs the write to its end.
    pub(super) run: BoxFuture<'static, A>,
    /// Response so far, for calls whose deadline passes first.
    pub(super) so_far: SoFar<A>,
}

/// Response so far of a write that runs.
pub(super) struct SoFar<A>(Option<Arc<dyn Fn() -> A + Send + Sync>>);

/// Responses to writes by caller, portal and request id.
#[derive(Debug)]
pub(super) struct IdempotencyStore<A>(Arc<Mutex<KeptResults<A>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct IdempotencyKey {
    /// Without its address: a repeat may come from another replica of the caller.
    caller: Caller,
    portal: PortalName,
    request_id: RequestId,
}

/// Write that runs or has ended.
#[derive(Debug, Clone)]
struct IdempotencyEntry<A> {
    fingerprint: u64,
    response: watch::Receiver<Option<A>>,
    so_far: SoFar<A>,
}

/// A write in progress. Dropping it frees the request id, so that a write that panics is not
/// remembered.
struct WriteInProgress<A: StoredResponse> {
    results: Arc<Mutex<KeptResults<A>>>,
    /// `None` once the response is stored.
    key: Option<IdempotencyKey>,
    /// Account of the caller, whose share of the store the response takes.
    account: AccountKey,
    fingerprint: u64,
    charge: Option<MemoryCharge>,
    sender: watch::Sender<Option<A>>,
}

// === impl RequestId ===

impl RequestId {
    /// Parses an id. The error completes the sentence "the id ...".
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > 128 {
            return Err("must not be longer than 128 characters");
        }
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be printable ASCII without spaces");
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

// === impl IdempotencyStore ===

impl<A> Default for IdempotencyStore<A> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<A: StoredResponse> IdempotencyStore<A> {
    /// Memory of the kept results, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.0.lock().bytes()
    }

    /// Runs a write to completion in a separate task and returns its response. If the `request_id` is
    /// known, returns the response of the first call instead, or runs what it left open: `write` gets
    /// the response so far. At `deadline`, returns what is known so far, while the write continues.
    ///
    /// Cancel-safe: the write continues without its caller.
    pub(super) async fn run(
        &self,
        ctx: &CallContext,
        request_id: Option<RequestId>,
        fingerprint: u64,
        deadline: Instant,
        write: impl FnOnce(Option<A>) -> StartedWrite<A>,
    ) -> Result<A, Error> {
        let Some(request_id) = request_id else {
            let (sender, receiver) = watch::channel(None);
            let StartedWrite { run, so_far } = write(None);
            task::spawn("write", ctx.portal.name.as_str(), async move {
                sender.send_replace(Some(run.await));
            })
            .detach();
            return response(receiver, so_far, deadline).await;
        };
        let (caller, portal) =
            (ctx.requester.caller.clone().without_address(), ctx.portal.name.clone());
        let key = IdempotencyKey { caller, portal, request_id };
        let (receiver, so_far) = loop {
            let running = {
                let mut results = self.0.lock();
                match find(&mut results, &key, fingerprint)? {
                    Found::Running(entry) => entry,
                    Found::Open(previous) => {
                        break self.start(&mut results, ctx, key, fingerprint, write(previous));
                    }
                }
            };
            let response = response(running.response, running.so_far, deadline).await?;
            // A call that joined an earlier one, and has more time, completes what that left open.
            if response.is_final() || Instant::now() >= deadline {
                return Ok(response);
            }
        };
        response(receiver, so_far, deadline).await
    }

    fn start(
        &self,
        results: &mut KeptResults<A>,
        ctx: &CallContext,
        key: IdempotencyKey,
        fingerprint: u64,
        write: StartedWrite<A>,
    ) -> (watch::Receiver<Option<A>>, SoFar<A>) {
        let (sender, receiver) = watch::channel(None);
        let StartedWrite { run, so_far } = write;
        let response = receiver.clone();
        let entry = IdempotencyEntry { fingerprint, response, so_far: so_far.clone() };
        results.start(key.clone(), entry);
        let in_progress = WriteInProgress {
            results: Arc::clone(&self.0),
            key: Some(key),
            account: ctx.requester.caller.account(),
            fingerprint,
            charge: Some(MemoryCharge::new(&ctx.memory)),
            sender,
        };
        task::spawn("write", ctx.portal.name.as_str(), async move {
            let in_progress = in_progress;
            let response = run.await;
            in_progress.finish(response);
        })
        .detach();
        (receiver, so_far)
    }
}

/// State of a request id.
enum Found<A> {
    /// The write runs, or has its result.
    Running(IdempotencyEntry<A>),
    /// The id is unknown, or its write left something open.
    Open(Option<A>),
}

fn find<A: StoredResponse>(
    results: &mut KeptResults<A>,
    key: &IdempotencyKey,
    fingerprint: u64,
) -> Result<Found<A>, Error> {
    results.expire(Instant::now());
    let Some(entry) = results.get(key) else { return Ok(Found::Open(None)) };
    if entry.fingerprint != fingerprint {
        return Err(reused());
    }
    let so_far = entry.response.borrow().clone();
    Ok(match so_far {
        Some(response) if !response.is_final() => Found::Open(Some(response)),
        Some(_) | None => Found::Running(entry.clone()),
    })
}

// === impl SoFar ===

impl<A> SoFar<A> {
    /// Creates a value for a write of which nothing is known before it ends.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// Creates a value from a function that builds the response so far.
    pub(super) fn new(response: impl Fn() -> A + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(response)))
    }

    fn get(&self) -> Option<A> {
        self.0.as_ref().map(|response| response())
    }
}

impl<A> Clone for SoFar<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A> fmt::Debug for SoFar<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoFar").field(&self.0.is_some()).finish()
    }
}

// === impl WriteInProgress ===

impl<A: StoredResponse> WriteInProgress<A> {
    /// Keeps the response if a repeat needs it, and returns it to those that wait for it.
    fn finish(mut self, response: A) {
        if response.may_have_effects()
            && let Some(key) = self.key.take()
            && let Some(charge) = self.charge.take()
        {
            let kept = response.clone().compact();
            let bytes = ENTRY_OVERHEAD + memory_of(&kept);
            let (_, receiver) = watch::channel(Some(kept));
            let (fingerprint, so_far) = (self.fingerprint, SoFar::nothing());
            let entry = IdempotencyEntry { fingerprint, response: receiver, so_far };
            self.results.lock().keep((key, self.account.clone()), entry, bytes, charge);
        }
        // Before the response is known, so that a repeat after it runs the write again.
        self.free_id();
        self.sender.send_replace(Some(response));
    }

    fn free_id(&mut self) {
        if let Some(key) = self.key.take() {
            self.results.lock().remove(&key);
        }
    }
}

impl<A: StoredResponse> Drop for WriteInProgress<A> {
    fn drop(&mut self) {
        self.free_id();
    }
}

/// Waits for the response. At `deadline`, returns the response so far.
async fn response<A: StoredResponse>(
    mut receiver: watch::Receiver<Option<A>>,
    so_far: SoFar<A>,
    deadline: Instant,
) -> Result<A, Error> {
    let response = receiver.wait_for(Option::is_some);
    let Ok(response) = timeout_at(deadline, response).await else {
        return so_far.get().ok_or_else(|| {
            Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before the outcome of the write was known",
            )
            .with_side_effect(SideEffect::Possible)
        });
    };
    let response = response.ok().and_then(|found| found.clone());
    response.ok_or_else(|| {
        Error::new(
            Reason::Internal,
            "internal error: the write ended without a response; its outcome is unknown",
        )
        .with_side_effect(SideEffect::Possible)
    })
}

fn reused() -> Error {
    let description = "was used before with other content; use a new id for a new request";
    Error::new(Reason::RequestIdReused, format!("request_id: {description}"))
        .with_fields(vec![FieldFault::new("request_id", description)])
}

#[cfg(test)]
mod tests;
