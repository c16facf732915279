//! Quota-driven batching: requests that queue for a permit are sent as one batch request when the
//! next permit arrives.
//!
//! A request that finds a permit free is sent at once, individually. Requests are never delayed to
//! form a batch; they are batched only if they are already queued for quota. Results are identical
//! to unbatched requests; only latency differs.

mod association_labels;
mod batch_context;
mod batcher;
mod capabilities;
mod contacts;
mod correlate;
mod get;
mod merged;
mod not_found_cache;
mod op;
mod partition;
mod rejection_scores;
mod reread;
mod run;
mod writes;

use std::{sync::Arc, time::Duration};

use leadsd_quota::{Account, BucketName, Permit};
use tokio::time::timeout_at;

pub(super) use self::not_found_cache::NotFoundCache;
use self::{
    batcher::Batcher,
    capabilities::PortalCapabilities,
    contacts::ContactBatch,
    get::GetBatch,
    writes::{ArchiveBatch, CreateBatch, UpdateBatch},
};
use super::{Dispatch, Layer, late};
use crate::leads::{CallContext, Error, GetLead, Request, Response};

/// Time after which a negative observation of HubSpot's behaviour is checked again: it changes.
const OBSERVATION_TTL: Duration = Duration::from_secs(600);

/// The batching layer of one portal.
#[derive(Debug)]
pub(super) struct Batching<L: Layer> {
    inner: Arc<L>,
    enabled: bool,
    account: Arc<Account>,
    capabilities: Arc<PortalCapabilities>,
    gets: Batcher<L, GetBatch>,
    creates: Batcher<L, CreateBatch>,
    updates: Batcher<L, UpdateBatch>,
    archives: Batcher<L, ArchiveBatch>,
    contacts: Batcher<L, ContactBatch>,
}

// === impl Batching ===

impl<L: Layer> Batching<L> {
    /// Batches requests to `inner` if `enabled`. Responses of up to `max_response_bytes` are read.
    pub(super) fn new(
        inner: L,
        portal: &str,
        account: Arc<Account>,
        max_response_bytes: usize,
        enabled: bool,
    ) -> Self {
        let inner = Arc::new(inner);
        let capabilities: Arc<PortalCapabilities> = Arc::default();
        let shared = batcher::BatcherShared {
            inner: Arc::clone(&inner),
            portal: portal.into(),
            account: Arc::clone(&account),
            capabilities: Arc::clone(&capabilities),
            max_response_bytes,
            scores: Arc::default(),
        };
        Self {
            inner,
            enabled,
            account,
            capabilities,
            gets: Batcher::new(shared.clone()),
            creates: Batcher::new(shared.clone()),
            updates: Batcher::new(shared.clone()),
            archives: Batcher::new(shared.clone()),
            contacts: Batcher::new(shared),
        }
    }

    /// Ids that individual reads did not find.
    pub(super) fn not_found(&self) -> Arc<NotFoundCache> {
        Arc::clone(&self.capabilities.not_found)
    }

    /// A permit, if one is free: then the request is sent at once, individually.
    fn free_permit(&self, ctx: &CallContext) -> Result<Option<Permit>, Error> {
        Ok(self.account.try_acquire(BucketName::Burst, &ctx.requester, ctx.permit_deadline())?)
    }

    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    fn get(
        &self,
        ctx: &CallContext,
        request: &Arc<Request>,
        get: &GetLead,
        mut dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        async move {
            dispatch.permit = self.free_permit(ctx)?;
            if dispatch.permit.is_some() {
                let result = self.inner.call(ctx, Arc::clone(request), dispatch).await;
                if get.id_property.is_none() {
                    self.capabilities.not_found.observe(get.archived, &get.id, &result);
                }
                return result;
            }
            match GetBatch::batchable(get, &self.capabilities) {
                Some(kind) => {
                    let lead = self.gets.enqueue(ctx, kind, get.id.clone(), dispatch);
                    // The batch lasts until the latest deadline of its callers.
                    let lead = timeout_at(ctx.deadline, lead).await.unwrap_or_else(|_| Err(late()));
                    lead.map(|lead| Response::Lead(lead.into()))
                }
                None => self.inner.call(ctx, Arc::clone(request), dispatch).await,
            }
        }
    }

    /// Sends a write or a lookup individually if a permit is free, or else in a batch if it can be batched.
    async fn send(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        if let Some(permit) = self.free_permit(ctx)? {
            let dispatch = Dispatch { permit: Some(permit), ..dispatch };
            return self.inner.call(ctx, request, dispatch).await;
        }
        match &*request {
            Request::Create(create) => {
                if let Some(kind) = CreateBatch::batchable(create, &self.capabilities) {
                    let lead = self.creates.enqueue(ctx, kind, create.clone(), dispatch).await?;
                    return Ok(Response::Lead(lead.into()));
                }
            }
            Request::Update(update) => {
                if let Some(kind) = UpdateBatch::batchable(update, &self.capabilities) {
                    let lead = self.updates.enqueue(ctx, kind, update.clone(), dispatch).await?;
                    return Ok(Response::Lead(lead.into()));
                }
            }
            Request::Archive(id) => {
                if let Some(kind) = ArchiveBatch::batchable(id) {
                    self.archives.enqueue(ctx, kind, id.clone(), dispatch).await?;
                    return Ok(Response::Archived);
                }
            }
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::BatchRead(_)
            | Request::BatchCreate(_)
            | Request::BatchUpdate(_)
            | Request::BatchArchive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ChangeAssociations(_)
            | Request::ReadSchema(_)
            | Request::CreateContacts(_) => {}
            Request::FindContacts(emails) => {
                if let [email] = emails.as_slice() {
                    let found = self.contacts.enqueue(ctx, ContactBatch, email.clone(), dispatch);
                    // The batch lasts until the latest deadline of its callers.
                    let found =
                        timeout_at(ctx.deadline, found).await.unwrap_or_else(|_| Err(late()));
                    return Ok(Response::Batch(contacts::response(found?)));
                }
            }
        }
        self.inner.call(ctx, request, dispatch).await
    }
}

impl<L: Layer> Layer for Batching<L> {
    #[expect(clippy::manual_async_fn, reason = "an async function stores its arguments twice")]
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        async move {
            let can_be_batched = match &*request {
                Request::Create(_) | Request::Update(_) | Request::Archive(_) => true,
                Request::FindContacts(emails) => emails.len() == 1,
                Request::Get(_)
                | Request::List(_)
                | Request::Search(_)
                | Request::BatchRead(_)
                | Request::BatchCreate(_)
                | Request::BatchUpdate(_)
                | Request::BatchArchive(_)
                | Request::Upsert { .. }
                | Request::ReadAssociations { .. }
                | Request::ListAssociations(_)
                | Request::ChangeAssociations(_)
                | Request::ReadSchema(_)
                | Request::CreateContacts(_) => false,
            };
            let result = if let Request::Get(get) = &*request
                && self.enabled
            {
                self.get(ctx, &request, get, dispatch).await
            } else if self.enabled && can_be_batched {
                // Boxed, because reads would carry its size.
                Box::pin(self.send(ctx, Arc::clone(&request), dispatch)).await
            } else {
                self.inner.call(ctx, Arc::clone(&request), dispatch).await
            };
            self.capabilities.observe(&request, &result);
            result
        }
    }
}

#[cfg(test)]
mod tests;
