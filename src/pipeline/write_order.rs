//! Write order: writes to one lead run one after another, in order of arrival.
//!
//! A write is queued for every lead that it is about, and enters all queues at once: two writes with
//! leads in common are in the same order in each queue, so that none waits for the other in a cycle.
//! Arrival order outranks priority, because order is what is promised. The queues are bounded, and a
//! write that cannot start before its deadline is rejected at once.

mod queue;

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::Either;
use leadsd_quota::{Account, BucketName, Priority, WriteQueueStats};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use self::queue::{Entered, WriteQueues, WriteRejection};
use super::{Dispatch, Layer};
use crate::leads::{
    CallContext, CostMeter, Error, LeadId, LocalLimit, Reason, Request, Response, Traced,
    UpdateLead, UpsertLead,
};

/// The write order layer of one portal.
#[derive(Debug)]
pub(super) struct WriteOrder<L> {
    inner: L,
    sequencer: WriteSequencer,
}

/// Orders the writes of one portal.
#[derive(Debug)]
struct WriteSequencer {
    queues: Arc<Mutex<WriteQueues>>,
    account: Arc<Account>,
    /// Statistics of the queue, shown with the quota.
    stats: Arc<WriteQueueStats>,
    /// Maximum number of queued writes.
    max_queue: usize,
}

/// The right to write to some leads, until it is dropped.
#[derive(Debug)]
struct WriteGuard {
    queues: Arc<Mutex<WriteQueues>>,
    stats: Arc<WriteQueueStats>,
    number: u64,
    cost: Arc<CostMeter>,
}

/// Ordering key of a lead. A record id and a unique property value of the same lead yield different
/// keys, because only HubSpot can resolve them. The two never share a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LeadKey {
    property: Option<String>,
    id: String,
}

// === impl WriteOrder ===

impl<L> WriteOrder<L> {
    /// Orders writes to `inner`. At most `max_queue` writes are queued.
    pub(super) fn new(inner: L, account: Arc<Account>, max_queue: usize) -> Self {
        let stats = account.write_queue();
        let sequencer = WriteSequencer { queues: Arc::default(), account, stats, max_queue };
        Self { inner, sequencer }
    }
}

impl<L: Layer> Layer for WriteOrder<L> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let keys = keys(&request);
        if keys.is_empty() {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        }
        // Boxed, because reads would carry its size.
        Either::Right(Box::pin(async move {
            let _guard = self.sequencer.acquire(ctx, keys).await?;
            self.inner.call(ctx, request, dispatch).await
        }))
    }
}

/// The leads that a request writes to. A create writes to a lead that does not exist yet.
fn keys(request: &Request) -> BTreeSet<LeadKey> {
    match request {
        Request::Get(_)
        | Request::List(_)
        | Request::Search(_)
        | Request::Create(_)
        | Request::BatchRead(_)
        | Request::BatchCreate(_)
        | Request::ReadAssociations { .. }
        | Request::ListAssociations(_)
        | Request::ReadSchema(_)
        | Request::FindContacts(_)
        | Request::CreateContacts(_) => BTreeSet::new(),
        Request::Update(update) => BTreeSet::from([LeadKey::of_update(update)]),
        Request::Archive(id) => BTreeSet::from([LeadKey::new(id, None)]),
        Request::BatchUpdate(inputs) => {
            inputs.iter().map(|Traced { input, .. }| LeadKey::of_update(input)).collect()
        }
        Request::Upsert { inputs, .. } => {
            inputs.iter().map(|Traced { input, .. }| LeadKey::of_upsert(input)).collect()
        }
        Request::ChangeAssociations(request) => {
            request.changes.iter().map(|change| LeadKey::new(&change.lead, None)).collect()
        }
        Request::BatchArchive(ids) => ids.iter().map(|id| LeadKey::new(id, None)).collect(),
    }
}

// === impl WriteSequencer ===

impl WriteSequencer {
    /// Waits until earlier writes to these leads have completed. Errors at once if the queue is full
    /// or the write could not start before its deadline, as far as is known.
    async fn acquire(
        &self,
        ctx: &CallContext,
        keys: BTreeSet<LeadKey>,
    ) -> Result<WriteGuard, Error> {
        let Entered { number, ready } = self.enter(ctx, keys)?;
        let guard = WriteGuard {
            queues: Arc::clone(&self.queues),
            stats: Arc::clone(&self.stats),
            number,
            cost: Arc::clone(&ctx.cost),
        };
        let Some(ready) = ready else { return Ok(guard) };
        match timeout_at(ctx.permit_deadline(), ready).await {
            Ok(_) => Ok(guard),
            Err(_) => Err(Error::new(
                Reason::DeadlineExceeded,
                "an earlier write to the same lead did not complete before the deadline",
            )),
        }
    }

    fn enter(&self, ctx: &CallContext, keys: BTreeSet<LeadKey>) -> Result<Entered, Error> {
        let now = Instant::now();
        let until = ctx.permit_deadline();
        let mut queues = self.queues.lock();
        if queues.any_busy(&keys) {
            // The permit of a queued write is not available before the next one.
            self.account.check_deadline(BucketName::Burst, until)?;
            // Bulk writes may use at most half of the queue.
            let max_queue = match ctx.requester.priority {
                Priority::Recovery | Priority::Interactive => self.max_queue,
                Priority::Bulk | Priority::Restricted => self.max_queue / 2,
            };
            let remaining = until.saturating_duration_since(now);
            if let Some(rejection) = queues.rejection(&keys, max_queue.max(1), remaining, now) {
                match rejection {
                    WriteRejection::QueueFull(_) => self.stats.count_queue_full(),
                    WriteRejection::Deadline(_) => self.stats.count_deadline(),
                }
                return Err(rejection.into());
            }
        }
        let entered = queues.enter(keys, now);
        self.stats.set_waiting(queues.waiting());
        Ok(entered)
    }
}

// === impl WriteGuard ===

impl Drop for WriteGuard {
    fn drop(&mut self) {
        let mut queues = self.queues.lock();
        queues.leave(self.number, self.cost.is_in_progress(), Instant::now());
        self.stats.set_waiting(queues.waiting());
    }
}

// === impl LeadKey ===

impl LeadKey {
    /// The key of the lead with this record id, or with this value of the unique `property`.
    pub(super) fn new(id: &LeadId, property: Option<&str>) -> Self {
        Self { property: property.map(str::to_owned), id: normalized(id, property) }
    }

    fn of_update(update: &UpdateLead) -> Self {
        Self::new(&update.id, update.id_property.as_deref())
    }

    fn of_upsert(upsert: &UpsertLead) -> Self {
        Self::new(&upsert.id, upsert.id_property.as_deref())
    }
}

impl From<WriteRejection> for Error {
    fn from(rejection: WriteRejection) -> Self {
        let (text, wait) = match rejection {
            WriteRejection::QueueFull(wait) => {
                ("too many writes to the same lead are queued", wait)
            }
            WriteRejection::Deadline(wait) => {
                ("earlier writes to the same lead would outlast the deadline", wait)
            }
        };
        Self::new(Reason::Overloaded, text)
            .with_retry_after(wait)
            .with_local_limit(LocalLimit::WriteQueue)
    }
}

/// Normal form of an id: HubSpot compares unique values ignoring case, and record ids are numbers.
fn normalized(id: &LeadId, property: Option<&str>) -> String {
    let id = id.as_str();
    let is_number = property.is_none() && id.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { id.trim_start_matches('0').to_owned() } else { id.to_lowercase() }
}

#[cfg(test)]
mod tests;
