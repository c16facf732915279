//! Reads a part from HubSpot, in a separate task: a caller that disconnects, or has a short deadline,
//! neither ends the read nor wastes its slot.

use std::{sync::Arc, time::Duration};

use leadsd_base::{task, time::Timestamp};
use leadsd_quota::{Caller, Priority, Requester};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    association_types::AssociationTypeCopy,
    budget::Slot,
    copies::{MAX_PART_BYTES, OwnerCopy, PipelineCopy, PropertyCopy},
    definition::{Owner, SchemaPage, SchemaRead},
    part::{Failure, OwnerPages, PartCopy, PartKey},
    rules::RuleCopy,
    state::{PortalSchema, Shared},
};
use crate::leads::{
    CallContext, CostMeter, Error, Guard, Reason, RejectionSearch, Request, memory::HeapSize,
};

/// Deadline of one read. It includes the wait for a permit.
const DEADLINE: Duration = Duration::from_secs(20);

/// Name of leadsd as the caller of these reads, in spans and in quota snapshots.
const CALLER: &str = "leadsd";

/// HTTP status of a rejected token.
const UNAUTHORIZED: u16 = 401;

/// Maximum number of owners in a copy.
const MAX_OWNERS: usize = 20_000;

/// Age at which the pages of owners that were read are dropped, and the first page is read again.
const MAX_PAGES_AGE: Duration = Duration::from_secs(7_200);

/// Read of a part that has its slot.
pub(super) struct Load {
    /// The part.
    pub(super) key: PartKey,
    /// Slot of its call.
    pub(super) slot: Slot,
    /// Dropped when the read ends, whatever the outcome.
    pub(super) end: watch::Sender<()>,
}

/// A read in progress. Dropping it returns the slot and wakes the callers that wait.
struct Loading {
    shared: Arc<Shared>,
    portal: Arc<PortalSchema>,
    ctx: CallContext,
    key: PartKey,
    /// Slot of the call in progress; `None` between calls.
    slot: Option<Slot>,
    /// Cost before the call in progress.
    spent: u64,
    _end: watch::Sender<()>,
}

/// Starts a read. `cost` counts its HubSpot calls.
pub(super) fn start(
    shared: &Arc<Shared>,
    portal: &Arc<PortalSchema>,
    ctx: &CallContext,
    load: Load,
    cost: &Arc<CostMeter>,
) {
    let Load { key, slot, end } = load;
    let own = CallContext {
        portal: Arc::clone(&ctx.portal),
        deadline: Instant::now() + DEADLINE,
        requester: Requester { caller: Caller::new(CALLER), priority: Priority::Interactive },
        request_id: Arc::clone(&ctx.request_id),
        trace: ctx.trace.clone(),
        cost: Arc::clone(cost),
        memory: Arc::clone(&ctx.memory).shared(),
        guard: Guard::default(),
        search: RejectionSearch::default(),
        is_row: false,
        may_create_contacts: false,
    };
    let mut loading = Loading {
        shared: Arc::clone(shared),
        portal: Arc::clone(portal),
        ctx: own,
        key,
        slot: Some(slot),
        spent: 0,
        _end: end,
    };
    let name = ctx.portal.name.clone();
    task::spawn("schema read", name.as_str(), async move {
        if let Err(error) = loading.run().await {
            let failure = Failure::new(error, Instant::now());
            let mut state = loading.portal.state.lock();
            if let Some(part) = state.parts.get_mut(&loading.key) {
                part.failure = Some(failure);
            }
        }
    })
    .detach();
}

// === impl Loading ===

impl Loading {
    async fn run(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let reads = timeout_at(self.ctx.deadline, shared.reads.acquire()).await;
        let Ok(Ok(_read)) = reads else {
            let text = "too many reads of schemas are in progress (limit 4); retry later";
            return Err(Error::new(Reason::Overloaded, text));
        };
        let (time, at) = (shared.clock.now(), Instant::now());
        let copy = match self.key.clone() {
            PartKey::Properties => {
                let page = self.call(SchemaRead::Properties).await?;
                let SchemaPage::Properties(all) = page else { return Err(unexpected()) };
                let all = not_empty(all)?;
                PartCopy::Properties(Arc::new(PropertyCopy::new(time, all)))
            }
            PartKey::ValidationRules => {
                let page = self.call(SchemaRead::ValidationRules).await?;
                let SchemaPage::ValidationRules(all) = page else { return Err(unexpected()) };
                PartCopy::ValidationRules(Arc::new(RuleCopy::new(time, all)))
            }
            PartKey::Pipelines => {
                let page = self.call(SchemaRead::Pipelines).await?;
                let SchemaPage::Pipelines(all) = page else { return Err(unexpected()) };
                let all = not_empty(all)?;
                PartCopy::Pipelines(Arc::new(PipelineCopy::new(time, all)))
            }
            PartKey::AssociationTypes(to) => {
                let page = self.call(SchemaRead::AssociationTypes { to }).await?;
                let SchemaPage::AssociationTypes(all) = page else { return Err(unexpected()) };
                PartCopy::AssociationTypes(Arc::new(AssociationTypeCopy::new(time, all)))
            }
            PartKey::Owners => return self.load_owners(time, at).await,
        };
        self.publish(Some((copy, at)), None);
        Ok(())
    }

    /// Reads pages of owners as long as there are slots. Further pages are read with later slots; until
    /// then an earlier complete copy stays in use.
    async fn load_owners(&mut self, time: Timestamp, at: Instant) -> Result<(), Error> {
        let mut pages = self.pages_so_far();
        loop {
            let after = pages.as_ref().map(|pages| pages.after.clone());
            let page = self.call(SchemaRead::Owners { after: after.clone() }).await;
            let page = match page {
                Ok(page) => page,
                // The cursor has expired: the next read begins with the first page.
                Err(error) if error.reason() == Reason::ValidationFailed => return Err(error),
                Err(error) => {
                    self.keep_pages(pages);
                    return Err(error);
                }
            };
            let SchemaPage::Owners { owners, after: next } = page else {
                return Err(unexpected());
            };
            let mut read = pages.take().unwrap_or_else(|| OwnerPages::first(time, at));
            read.owners.extend(owners);
            let is_full = read.owners.len() >= MAX_OWNERS
                || read.owners.heap_size() + read.owners.len() * size_of::<Owner>()
                    > MAX_PART_BYTES;
            match next {
                Some(next) if !is_full && after.as_ref() != Some(&next) => read.after = next,
                next => {
                    let (fetch_time, at) = (read.fetch_time, read.at);
                    let copy = OwnerCopy::new(fetch_time, read.owners, next.is_none());
                    self.publish(Some((PartCopy::Owners(Arc::new(copy)), at)), None);
                    return Ok(());
                }
            }
            match self.portal.acquire_further(&self.key) {
                Some(slot) => {
                    self.slot = Some(slot);
                    pages = Some(read);
                }
                None => {
                    let copy = OwnerCopy::new(read.fetch_time, read.owners.clone(), false);
                    let copy = (PartCopy::Owners(Arc::new(copy)), read.at);
                    let copy = Some(copy).filter(|_| !self.has_complete_owners());
                    self.publish(copy, Some(read));
                    return Ok(());
                }
            }
        }
    }

    /// Takes the pages of owners that earlier reads have left.
    fn pages_so_far(&self) -> Option<OwnerPages> {
        let mut state = self.portal.state.lock();
        let pages = state.parts.get_mut(&self.key)?.owner_pages.take()?;
        (pages.at.elapsed() < MAX_PAGES_AGE).then_some(pages)
    }

    /// Keeps pages for the next read.
    fn keep_pages(&self, pages: Option<OwnerPages>) {
        if let Some(part) = self.portal.state.lock().parts.get_mut(&self.key) {
            part.owner_pages = pages;
        }
    }

    fn has_complete_owners(&self) -> bool {
        let state = self.portal.state.lock();
        let copy = state.parts.get(&self.key).and_then(|part| part.copy.as_ref());
        matches!(copy, Some((PartCopy::Owners(copy), _)) if copy.is_complete)
    }

    /// Sends one call with the slot of this read. After a 401 the pipeline has another token: the call is
    /// repeated if there is a slot for it.
    async fn call(&mut self, read: SchemaRead) -> Result<SchemaPage, Error> {
        loop {
            let request = Request::ReadSchema(read.clone());
            let response = self.ctx.portal.upstream.call(&self.ctx, request).await;
            self.ctx.cost.release_memory();
            self.release();
            match response {
                Ok(response) => return response.into_schema(),
                Err(error) if error.upstream().http_status == Some(UNAUTHORIZED) => {
                    let Some(slot) = self.portal.acquire_further(&self.key) else {
                        return Err(error);
                    };
                    self.slot = Some(slot);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the slot of the call in progress.
    fn release(&mut self) {
        let cost = self.ctx.cost.millionths();
        let was_sent = cost > self.spent;
        self.spent = cost;
        if let Some(slot) = self.slot.take() {
            self.portal.state.lock().budget.release(slot, was_sent, Instant::now());
        }
    }

    /// Stores the outcome of the read. `None` keeps the copy.
    fn publish(&self, copy: Option<(PartCopy, Instant)>, owner_pages: Option<OwnerPages>) {
        {
            let mut state = self.portal.state.lock();
            let Some(part) = state.parts.get_mut(&self.key) else { return };
            if let Some(copy) = copy {
                part.copy = Some(copy);
                part.is_suspect = false;
            }
            part.owner_pages = owner_pages;
            part.failure = None;
        }
        self.shared.count(&self.portal);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.release();
        if let Some(part) = self.portal.state.lock().parts.get_mut(&self.key) {
            part.in_progress = None;
        }
    }
}

// === impl OwnerPages ===

impl OwnerPages {
    fn first(fetch_time: Timestamp, at: Instant) -> Self {
        Self { owners: Vec::new(), after: String::new(), fetch_time, at }
    }
}

/// The items of a list. Errors if there are none, where every portal has some.
fn not_empty<T>(all: Vec<T>) -> Result<Vec<T>, Error> {
    if all.is_empty() {
        let text = "HubSpot's response lists nothing, although every portal has properties and \
                    pipelines";
        return Err(Error::new(Reason::UpstreamInvalidResponse, text));
    }
    Ok(all)
}

/// Error of a response to another read. No layer returns one.
fn unexpected() -> Error {
    Error::new(Reason::Internal, "internal error: response does not belong to its request")
}
