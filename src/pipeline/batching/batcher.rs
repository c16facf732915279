//! Collects requests of one kind while they wait for a permit, and sends them when it arrives.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use leadsd_base::task;
use leadsd_quota::{Account, AccountKey, BucketName, Group, Permit, QueueEntry, Rejected};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    capabilities::PortalCapabilities,
    op::{BatchableOp, Member},
    rejection_scores::RejectionScores,
    run::BatchRun,
};
use crate::{
    leads::{CallContext, Error, Reason, SideEffect},
    pipeline::{Dispatch, Layer},
};

/// Number of kinds in memory above which those without pending requests are removed.
const PRUNE_AT: usize = 64;

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// State shared by all batchers of a portal.
#[derive(Debug)]
pub(super) struct BatcherShared<L> {
    pub(super) inner: Arc<L>,
    pub(super) portal: Arc<str>,
    pub(super) account: Arc<Account>,
    pub(super) capabilities: Arc<PortalCapabilities>,
    /// Maximum size of a response that is read, in bytes.
    pub(super) max_response_bytes: usize,
    pub(super) scores: Arc<RejectionScores>,
}

/// Requests of a kind share batches. Those of a caller that no longer shares them are apart.
type ByKind<L, O> = HashMap<(O, Option<AccountKey>), Arc<Pending<L, O>>>;

/// Pending requests by number.
type Members<L, O> =
    HashMap<u64, Member<<O as BatchableOp<L>>::Input, <O as BatchableOp<L>>::Output>>;

/// The pending requests of one operation, by kind.
#[derive(Debug)]
pub(super) struct Batcher<L: Layer, O: BatchableOp<L>> {
    shared: BatcherShared<L>,
    pending: Mutex<ByKind<L, O>>,
}

/// The pending requests of one kind.
#[derive(Debug)]
struct Pending<L: Layer, O: BatchableOp<L>> {
    id: u64,
    kind: O,
    shared: BatcherShared<L>,
    members: Mutex<Members<L, O>>,
}

/// Removes a cancelled request from those pending.
struct PendingGuard<L: Layer, O: BatchableOp<L>> {
    pending: Arc<Pending<L, O>>,
    number: u64,
}

// === impl BatcherShared ===

impl<L> Clone for BatcherShared<L> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            portal: Arc::clone(&self.portal),
            account: Arc::clone(&self.account),
            capabilities: Arc::clone(&self.capabilities),
            max_response_bytes: self.max_response_bytes,
            scores: Arc::clone(&self.scores),
        }
    }
}

// === impl Batcher ===

impl<L: Layer, O: BatchableOp<L>> Batcher<L, O> {
    pub(super) fn new(shared: BatcherShared<L>) -> Self {
        Self { shared, pending: Mutex::default() }
    }

    /// Queues a request for a permit, and sends it with others of its kind. Holds little while it
    /// waits, because thousands may wait.
    pub(super) fn enqueue(
        &self,
        ctx: &CallContext,
        kind: O,
        input: O::Input,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<O::Output, Error>> + Send + use<L, O> {
        let (reply, response) = oneshot::channel();
        let until = ctx.permit_deadline();
        let isolated = self.shared.scores.isolated(&ctx.requester);
        let apart = isolated.as_ref().map(|requester| requester.caller.account());
        let mut own = ctx.clone();
        if let Some(requester) = isolated {
            own.requester = requester;
        }
        let requester = own.requester.clone();
        let guard = self.insert((kind, apart), Member { ctx: own, input, dispatch, reply });
        let (group, number) = (Arc::clone(&guard.pending), guard.number);
        let account = &self.shared.account;
        let place = account.enqueue(BucketName::Burst, &requester, until, group, number);
        async move {
            let _guard = guard;
            receive(until, response, &place?).await
        }
    }

    fn insert(
        &self,
        key: (O, Option<AccountKey>),
        member: Member<O::Input, O::Output>,
    ) -> PendingGuard<L, O> {
        let number = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut pending = self.pending.lock();
        if pending.len() >= PRUNE_AT {
            pending.retain(|_, pending| !pending.members.lock().is_empty());
        }
        let kind = key.0.clone();
        let pending = pending.entry(key).or_insert_with(|| {
            Arc::new(Pending {
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                kind,
                shared: self.shared.clone(),
                members: Mutex::default(),
            })
        });
        pending.members.lock().insert(number, member);
        PendingGuard { pending: Arc::clone(pending), number }
    }
}

/// Waits for the response; errors if no permit arrives in time. A sent request continues to its
/// end: the caller bounds the wait.
async fn receive<T>(
    until: Instant,
    mut response: oneshot::Receiver<Result<T, Error>>,
    place: &QueueEntry,
) -> Result<T, Error> {
    let response = match timeout_at(until, &mut response).await {
        Ok(response) => response,
        Err(_) if place.cancel() => return Err(place.deadline_error().into()),
        Err(_) => response.await,
    };
    response.unwrap_or_else(|_| {
        Err(Error::new(Reason::Internal, "internal error: a batched call has no result")
            .with_side_effect(SideEffect::Possible))
    })
}

// === impl PendingGuard ===

impl<L: Layer, O: BatchableOp<L>> Drop for PendingGuard<L, O> {
    fn drop(&mut self) {
        let member = self.pending.members.lock().remove(&self.number);
        drop(member);
    }
}

// === impl Pending ===

impl<L: Layer, O: BatchableOp<L>> Group for Pending<L, O> {
    fn id(&self) -> u64 {
        self.id
    }

    fn max_size(&self) -> usize {
        self.kind.max_size()
    }

    fn min_size(&self) -> usize {
        self.kind.min_size()
    }

    fn dispatch(&self, permit: Permit, members: Vec<u64>) {
        let mut pending = self.members.lock();
        let members: Vec<_> =
            members.into_iter().filter_map(|number| pending.remove(&number)).collect();
        drop(pending);
        // All may have been cancelled: the permit is released.
        if members.is_empty() {
            return;
        }
        let run = BatchRun {
            kind: self.kind.clone(),
            inner: Arc::clone(&self.shared.inner),
            capabilities: Arc::clone(&self.shared.capabilities),
            max_response_bytes: self.shared.max_response_bytes,
            account: Arc::clone(&self.shared.account),
            scores: Arc::clone(&self.shared.scores),
        };
        task::spawn("batch", &self.shared.portal, async move {
            run.dispatch(permit, members).await;
        })
        .detach();
    }

    fn reject(&self, member: u64, rejected: Rejected) {
        let member = self.members.lock().remove(&member);
        if let Some(member) = member {
            member.respond(Err(rejected.into()));
        }
    }
}
