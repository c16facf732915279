//! Single flight: identical reads in progress share one request.
//!
//! A read joins an identical read of the same priority that has been sent to HubSpot, or that the
//! same caller started. It does not join one of another caller that still waits for a permit: it
//! would wait at another caller's position in the queue.
//!
//! A write ends sharing of the reads that it may affect, so that a read never returns the state
//! before a write that completed earlier.

use std::{
    collections::HashMap,
    hash::BuildHasher as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use foldhash::fast::RandomState;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Either, Shared, WeakShared},
};
use leadsd_quota::{Caller, Priority};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::{Dispatch, Layer, RetryDeadline, late, retry::may_retry, write_order::LeadKey};
use crate::leads::{
    CallContext, CostMeter, Error, GetLead, LeadId, MemoryCharge, Reason, Request, Response,
};

type SharedResponse = BoxFuture<'static, Result<Response, Error>>;

/// Reads in progress, by the hash of what makes reads identical: computed once, because it is slow.
type ReadsInProgress = HashMap<u64, Vec<InFlight>, RandomState>;

/// The single flight layer of one portal.
///
/// Reads that can be shared need neither write order nor isolation: they go to `reads`, past the
/// layers of the other requests.
#[derive(Debug)]
pub(super) struct SingleFlight<R, W = Arc<R>> {
    reads: Arc<R>,
    others: W,
    enabled: bool,
    in_progress: Arc<Mutex<ReadsInProgress>>,
    hasher: RandomState,
    next_number: AtomicU64,
}

/// One read in progress.
#[derive(Debug)]
struct InFlight {
    number: u64,
    /// Part of what makes reads identical: sharers must not wait longer than their own read would.
    priority: Priority,
    request: Arc<Request>,
    caller: Caller,
    /// Dropped when no sharer is left.
    response: WeakShared<SharedResponse>,
    shared: Arc<SharedCall>,
}

/// State that the sharers of a read have in common.
#[derive(Debug)]
struct SharedCall {
    cost: Arc<CostMeter>,
    retry_deadline: RetryDeadline,
    sharers: Mutex<Sharers>,
}

/// The sharers of a read that have not paid for it yet, and what others have paid, in millionths of
/// a request.
#[derive(Debug, Default)]
struct Sharers {
    remaining: u64,
    paid: u64,
}

/// One sharer. It pays its part when it leaves, with the response or before.
struct CostShare {
    shared: Arc<SharedCall>,
    cost: Arc<CostMeter>,
}

/// Removes a read from those in progress when it ends, or when no sharer is left.
struct RemoveOnDrop {
    in_progress: Arc<Mutex<ReadsInProgress>>,
    hash: u64,
    number: u64,
}

// === impl SingleFlight ===

impl<R: Layer, W: Layer> SingleFlight<R, W> {
    /// Sends single reads, lists, searches and pages of associations to `reads`, identical ones once if `enabled`, and all
    /// other requests to `others`.
    pub(super) fn new(reads: Arc<R>, others: W, enabled: bool) -> Self {
        Self {
            reads,
            others,
            enabled,
            in_progress: Arc::default(),
            hasher: RandomState::default(),
            next_number: AtomicU64::default(),
        }
    }

    /// Joins the same read if it is in progress, or starts it. Cancel-safe: the read continues as
    /// long as a sharer is left.
    async fn share(&self, ctx: &CallContext, request: Arc<Request>) -> Result<Response, Error> {
        let mut prior_attempts = 0;
        loop {
            let (response, shared, is_own) = self.join(ctx, &request, prior_attempts);
            let share = CostShare { shared, cost: Arc::clone(&ctx.cost) };
            let response = match is_own {
                // The layers below end it at the deadline of its context.
                true => response.await,
                // Boxed, because few reads are shared, and all would carry the size.
                false => Box::pin(timeout_at(ctx.deadline, response))
                    .await
                    .unwrap_or_else(|_| Err(late())),
            };
            let error = match response {
                Ok(response) => return share.take_memory(ctx).map(|()| response),
                Err(error) => error,
            };
            drop(share);
            match error {
                // There was time for another attempt, but not for all sharers.
                error if may_retry(ctx, &error) => {
                    prior_attempts = error.upstream().attempts;
                    Box::pin(sleep(error.retry_after().unwrap_or_default())).await;
                }
                // The error is about the sharer that started the read.
                error if !is_own && is_personal(&error) && ctx.deadline > Instant::now() => {}
                error => return Err(error),
            }
        }
    }

    fn join(
        &self,
        ctx: &CallContext,
        request: &Arc<Request>,
        prior_attempts: u32,
    ) -> (Shared<SharedResponse>, Arc<SharedCall>, bool) {
        let priority = ctx.requester.priority;
        let hash = self.hasher.hash_one((priority, request));
        let mut in_progress = self.in_progress.lock();
        let reads = in_progress.entry(hash).or_insert_with(|| Vec::with_capacity(1));
        if let Some((response, shared)) = joinable(reads, ctx, request) {
            shared.join(ctx);
            return (response, shared, false);
        }
        let shared = Arc::new(SharedCall::new(ctx));
        shared.join(ctx);
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let guard = RemoveOnDrop { in_progress: Arc::clone(&self.in_progress), hash, number };
        let own = CallContext { cost: Arc::clone(&shared.cost), ..ctx.clone() };
        let retry_deadline = shared.retry_deadline.clone();
        let (layer, own_request) = (Arc::clone(&self.reads), Arc::clone(request));
        let work = async move {
            let dispatch = Dispatch { permit: None, token: None, retry_deadline, prior_attempts };
            let response = layer.call(&own, own_request, dispatch).await;
            drop(guard);
            response
        };
        let response = work.boxed().shared();
        if let Some(weak) = response.downgrade() {
            reads.push(InFlight {
                number,
                priority,
                request: Arc::clone(request),
                caller: ctx.requester.caller.clone(),
                response: weak,
                shared: Arc::clone(&shared),
            });
        }
        (response, shared, true)
    }

    /// Sends a request that is not shared. A write ends sharing of the reads that it may affect.
    async fn send(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let written = match &*request {
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::ListAssociations(_)
            | Request::FindContacts(_) => {
                return self.reads.call(ctx, request, dispatch).await;
            }
            Request::BatchRead(_) | Request::ReadAssociations { .. } | Request::ReadSchema(_) => {
                return self.others.call(ctx, request, dispatch).await;
            }
            Request::Update(update) if update.id_property.is_none() => {
                WrittenLeads::One(&update.id)
            }
            Request::Archive(id) => WrittenLeads::One(id),
            Request::Create(_)
            | Request::Update(_)
            | Request::BatchCreate(_)
            | Request::BatchUpdate(_)
            | Request::Upsert { .. }
            | Request::BatchArchive(_)
            | Request::ChangeAssociations(_)
            | Request::CreateContacts(_) => WrittenLeads::Any,
        };
        let result = self.others.call(ctx, Arc::clone(&request), dispatch).await;
        self.invalidate(&written);
        result
    }

    /// Ends sharing of the reads that a write may affect.
    fn invalidate(&self, written: &WrittenLeads<'_>) {
        self.in_progress.lock().retain(|_, reads| {
            reads.retain(|read| !written.affects(&read.request));
            !reads.is_empty()
        });
    }
}

impl<R: Layer, W: Layer> Layer for SingleFlight<R, W> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        if self.enabled
            && matches!(
                &*request,
                Request::Get(_)
                    | Request::List(_)
                    | Request::Search(_)
                    | Request::ListAssociations(_)
                    | Request::FindContacts(_)
            )
        {
            return Either::Left(self.share(ctx, request));
        }
        // Boxed: it is large, and a shared read would carry its size.
        Either::Right(Box::pin(self.send(ctx, request, dispatch)))
    }
}

/// The leads that a write may have changed.
enum WrittenLeads<'a> {
    /// The lead with this record id.
    One(&'a LeadId),
    /// Any lead.
    Any,
}

// === impl WrittenLeads ===

impl WrittenLeads<'_> {
    fn affects(&self, read: &Request) -> bool {
        match (self, read) {
            // The lead of a unique value is not known.
            (Self::One(id), Request::Get(GetLead { id: read_id, id_property: None, .. })) => {
                // One record id has several spellings.
                LeadKey::new(id, None) == LeadKey::new(read_id, None)
            }
            (Self::One(_) | Self::Any, _) => true,
        }
    }
}

// === impl SharedCall ===

impl SharedCall {
    fn new(ctx: &CallContext) -> Self {
        Self {
            cost: Arc::default(),
            retry_deadline: RetryDeadline::shared(ctx.deadline),
            sharers: Mutex::default(),
        }
    }

    fn join(&self, ctx: &CallContext) {
        self.sharers.lock().remaining += 1;
        self.retry_deadline.join(ctx.deadline);
    }
}

// === impl CostShare ===

impl CostShare {
    /// Charges the copy of the response to the sharer until it charges its own response. Errors if its
    /// account has no room for it.
    fn take_memory(&self, ctx: &CallContext) -> Result<(), Error> {
        let bytes = self.shared.cost.held_bytes();
        if bytes == 0 {
            return Ok(());
        }
        if self.shared.sharers.lock().remaining <= 1 {
            // The last sharer gets the response itself.
            self.shared.cost.release_memory();
        }
        let mut charge = MemoryCharge::new(&ctx.memory);
        charge.try_set(bytes)?;
        self.cost.hold(charge);
        Ok(())
    }
}

impl Drop for CostShare {
    fn drop(&mut self) {
        let SharedCall { cost, sharers, .. } = &*self.shared;
        let mut sharers = sharers.lock();
        let due = cost.millionths().saturating_sub(sharers.paid) / sharers.remaining.max(1);
        sharers.remaining = sharers.remaining.saturating_sub(1);
        sharers.paid += due;
        drop(sharers);
        self.cost.add(due);
        if let Some(id) = cost.correlation_id() {
            self.cost.set_correlation_id(&id);
        }
    }
}

// === impl RemoveOnDrop ===

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let mut in_progress = self.in_progress.lock();
        if let Some(reads) = in_progress.get_mut(&self.hash) {
            reads.retain(|read| read.number != self.number);
            if reads.is_empty() {
                in_progress.remove(&self.hash);
            }
        }
    }
}

/// Finds the same read that the caller may join: its own, or one that has been sent to HubSpot.
fn joinable(
    reads: &[InFlight],
    ctx: &CallContext,
    request: &Request,
) -> Option<(Shared<SharedResponse>, Arc<SharedCall>)> {
    let is_same =
        |read: &&InFlight| read.priority == ctx.requester.priority && *read.request == *request;
    let own_or_sent = reads
        .iter()
        .filter(is_same)
        .filter(|read| read.caller == ctx.requester.caller || read.shared.cost.is_in_progress());
    own_or_sent.filter_map(|read| Some((read.response.upgrade()?, Arc::clone(&read.shared)))).next()
}

/// True if an error is about the call that made the request, and not about its content.
fn is_personal(error: &Error) -> bool {
    error.reason() == Reason::DeadlineExceeded || error.bucket().is_some()
}

#[cfg(test)]
mod tests;
