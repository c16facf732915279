//! Idempotency of writes: the result of a `request_id` is kept. Repeats with the same id and content
//! return it, also while the first call still runs.
//!
//! Every write runs in a separate task, so that a caller that disconnects does not abort a write
//! that HubSpot may have seen.
//!
//! Only results are kept: a repeat sends inputs without a result again, and resolves unknown outcomes.
//! The results of this replica are bounded in bytes and in age. With a shared store ([`RequestIdStore`]),
//! a repeat at another replica returns the result as well; the store has outcomes and ids. Otherwise, and
//! while the store is unavailable, a repeat at another replica counts as a new call.

mod availability;
mod digest;
mod execution;
mod kept;
mod record_allowance;
mod request_id_store;
mod shared;
#[cfg(test)]
pub(crate) mod testing;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use leadsd_base::task;
use leadsd_quota::Caller;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

pub(super) use self::{
    digest::Content,
    write::{SoFar, StartedWrite, StoredResponse},
};
pub use self::{
    digest::{ContentDigest, RecordKey, VERSION},
    request_id_store::{
        Claim, ClaimResponse, Ending, INLINE_BYTES, MAX_PARTS, PART_BYTES, RequestIdStore,
        StoreUnavailable, StoredResult,
    },
};
use self::{
    execution::{SharedCall, WriteInProgress},
    kept::KeptResults,
    shared::{LEASE, SharedRequestIds, TIME_TO_LIVE},
    write::{Ended, Progress, unknown_at_deadline, wait},
};
pub use super::request_id::{RequestId, RequestIdScope};
use super::{
    charge::MemoryCharge,
    context::{CallContext, PortalName},
    error::{Error, FieldFault, Reason},
};

/// Time for which this replica keeps a result: longer than any reasonable retry loop.
const TTL: Duration = Duration::from_secs(15 * 60);

/// Memory of an entry besides its result: key, channel, and their places in the maps.
const ENTRY_OVERHEAD: usize = 704;

/// A write with a request id.
#[derive(Debug)]
pub(super) struct WriteId {
    key: IdempotencyKey,
    content: ContentDigest,
}

/// Responses to writes by caller, portal and request id.
#[derive(Debug)]
pub(super) struct IdempotencyStore<A> {
    results: Arc<Mutex<KeptResults<A>>>,
    shared: Option<Arc<SharedRequestIds>>,
    /// Writes by scope, in the order of [`RequestIdScope::ALL`].
    writes: [AtomicU64; 2],
}

/// Statistics of request ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdStats {
    /// True if the shared store is available. `None` without one.
    pub is_store_up: Option<bool>,
    /// Number of writes with a request id by the scope in which a repeat is recognized, in the order of
    /// [`RequestIdScope::ALL`].
    pub writes: [u64; 2],
}

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
    content: ContentDigest,
    ended: watch::Receiver<Option<Ended<A>>>,
    progress: Progress<A>,
}

// === impl RequestIdStats ===

impl RequestIdStats {
    /// Number of writes with a request id by scope.
    pub fn by_scope(&self) -> [(RequestIdScope, u64); 2] {
        let [replica, shared] = self.writes;
        [(RequestIdScope::Replica, replica), (RequestIdScope::Shared, shared)]
    }
}

// === impl WriteId ===

impl WriteId {
    /// Identifies a write of a caller. `operation` names its kind.
    pub(super) fn new(
        ctx: &CallContext,
        request_id: RequestId,
        operation: &str,
        content: &impl Content,
    ) -> Self {
        let (caller, portal) =
            (ctx.requester.caller.clone().without_address(), ctx.portal.name.clone());
        let key = IdempotencyKey { caller, portal, request_id };
        let content = ContentDigest::new(&key, operation, content);
        Self { key, content }
    }

    /// A new claim on the id.
    pub(super) fn claim(&self) -> Claim {
        Claim {
            key: RecordKey::new(&self.key),
            content: self.content,
            token: Uuid::new_v4(),
            lease: LEASE,
            time_to_live: TIME_TO_LIVE,
        }
    }
}

// === impl IdempotencyStore ===

impl<A> Default for IdempotencyStore<A> {
    fn default() -> Self {
        Self { results: Arc::default(), shared: None, writes: Default::default() }
    }
}

impl<A: StoredResponse> IdempotencyStore<A> {
    /// Creates a store that recognizes the repeats of all replicas through `store`.
    pub(super) fn shared_through(store: Arc<dyn RequestIdStore>) -> Self {
        Self { shared: Some(Arc::new(SharedRequestIds::new(store))), ..Self::default() }
    }

    /// Memory of the kept results, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.results.lock().bytes()
    }

    /// Statistics of request ids.
    pub(super) fn stats(&self) -> RequestIdStats {
        RequestIdStats {
            is_store_up: self.shared.as_ref().map(|shared| shared.is_up()),
            writes: self.writes.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }

    /// Runs a write to completion in a separate task and returns its response. If the `request_id` is
    /// known, returns the response of the first call instead, or runs what it left open: `write` gets
    /// the response so far. At `deadline`, returns what is known so far, while the write continues.
    ///
    /// Cancel-safe: the write continues without its caller.
    pub(super) async fn run(
        &self,
        ctx: &CallContext,
        id: Option<WriteId>,
        shape: A::Shape,
        deadline: Instant,
        write: impl FnOnce(Option<A>) -> StartedWrite<A> + Send + 'static,
    ) -> Result<A, Error> {
        let Some(id) = id else {
            let (sender, receiver) = watch::channel(None);
            let StartedWrite { run, so_far } = write(None);
            task::spawn("write", ctx.portal.name.as_str(), async move {
                sender.send_replace(Some(run.await));
            })
            .detach();
            return match wait(receiver, deadline).await {
                Some(response) => response,
                None => so_far.get().ok_or_else(unknown_at_deadline),
            };
        };
        let entry = loop {
            let running = {
                let mut results = self.results.lock();
                match find(&mut results, &id)? {
                    Found::Running(entry) => entry,
                    Found::Open(previous) => {
                        let call = SharedCall { id, shape, deadline };
                        break self.start(&mut results, ctx, call, previous, write);
                    }
                }
            };
            let ended = end_of(running, deadline).await?;
            // A call that joined an earlier one, and has more time, completes what that left open.
            if ended.is_final() || Instant::now() >= deadline {
                return self.note(ctx, ended);
            }
        };
        let ended = end_of(entry, deadline).await?;
        self.note(ctx, ended)
    }

    fn start(
        &self,
        results: &mut KeptResults<A>,
        ctx: &CallContext,
        call: SharedCall<A>,
        previous: Option<A>,
        write: impl FnOnce(Option<A>) -> StartedWrite<A> + Send + 'static,
    ) -> IdempotencyEntry<A> {
        let (sender, ended) = watch::channel(None);
        let WriteId { key, content } = &call.id;
        let entry = IdempotencyEntry { content: *content, ended, progress: Progress::started() };
        results.start(key.clone(), entry.clone());
        let in_progress = WriteInProgress {
            results: Arc::clone(&self.results),
            key: Some(key.clone()),
            account: ctx.requester.caller.account(),
            content: *content,
            charge: Some(MemoryCharge::new(&ctx.memory)),
            previous: previous.clone().filter(|_| self.shared.is_some()),
            sender,
        };
        // The call counts as in flight until its response is stored.
        let (guard, progress) = (ctx.guard.clone(), entry.progress.clone());
        let run = match self.shared.clone() {
            None => {
                let StartedWrite { run, so_far } = write(previous);
                progress.set(so_far, RequestIdScope::Replica);
                let scope = RequestIdScope::Replica;
                run.map(move |response| Ended { result: Ok(response), scope }).boxed()
            }
            Some(shared) => {
                let account = in_progress.account.clone();
                call.run(shared, account, previous, write, progress).boxed()
            }
        };
        task::spawn("write", ctx.portal.name.as_str(), async move {
            let in_progress = in_progress;
            in_progress.finish(run.await);
            drop(guard);
        })
        .detach();
        entry
    }

    /// Counts a write with a request id, and tells the call its scope.
    fn note(&self, ctx: &CallContext, ended: Ended<A>) -> Result<A, Error> {
        let Ended { result, scope } = ended;
        let [replica, shared] = &self.writes;
        let count = match scope {
            RequestIdScope::Replica => replica,
            RequestIdScope::Shared => shared,
        };
        count.fetch_add(1, Ordering::Relaxed);
        ctx.cost.set_request_id_scope(scope);
        result
    }
}

/// State of a request id.
enum Found<A> {
    /// The write runs, or has its result.
    Running(IdempotencyEntry<A>),
    /// The id is unknown, or its write left something open.
    Open(Option<A>),
}

fn find<A: StoredResponse>(results: &mut KeptResults<A>, id: &WriteId) -> Result<Found<A>, Error> {
    results.expire(Instant::now());
    let Some(entry) = results.get(&id.key) else { return Ok(Found::Open(None)) };
    if entry.content != id.content {
        return Err(reused());
    }
    let ended = entry.ended.borrow().clone();
    Ok(match ended {
        Some(ended) if !ended.is_final() => Found::Open(ended.result.ok()),
        Some(_) | None => Found::Running(entry.clone()),
    })
}

/// Waits for the end of a write. At `deadline`, returns the response so far.
async fn end_of<A: StoredResponse>(
    entry: IdempotencyEntry<A>,
    deadline: Instant,
) -> Result<Ended<A>, Error> {
    let IdempotencyEntry { content: _, ended, progress } = entry;
    match wait(ended, deadline).await {
        Some(ended) => ended,
        None => {
            let (so_far, scope) = progress.get();
            Ok(Ended { result: so_far.ok_or_else(unknown_at_deadline), scope })
        }
    }
}

fn reused() -> Error {
    let description = "was used before with other content; use a new id for a new request";
    Error::new(Reason::RequestIdReused, format!("request_id: {description}"))
        .with_fields(vec![FieldFault::new("request_id", description)])
}

#[cfg(test)]
mod tests;
