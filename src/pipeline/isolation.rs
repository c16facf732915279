//! Gives every input of a batch its own outcome: isolates the inputs for which HubSpot rejects the
//! batch as a whole, and matches the response with the inputs. Leads that a batch or an update does not
//! find are requested individually, because they may have been merged.
//!
//! The folder knows no order of writes and no permits.

mod merged;

use std::sync::Arc;

use futures_util::future::Either;

use super::{Dispatch, Layer, batching::NotFoundCache};
use crate::{
    hubspot::{BatchForm, Operation},
    leads::{
        BatchItem, BatchRead, BatchResponse, CallContext, ChunkOutcomes, DEFAULT_PROPERTIES, Error,
        GetLead, LeadId, Request, Response, Selection,
        batch::{Attempt, BatchInput, MERGED_IDS, ReadInput, send_isolated},
    },
};

/// Maximum total length of the names in the URL of an individual read, in bytes. A longer list is read by
/// a batch of one.
const MAX_NAME_BYTES: usize = 2_000;

/// The isolation layer.
#[derive(Debug)]
pub(super) struct Isolation<L> {
    inner: L,
    /// Ids that individual requests did not find.
    not_found: Arc<NotFoundCache>,
}

// === impl Isolation ===

impl<L: Layer> Isolation<L> {
    /// Isolates the inputs of batches that are sent to `inner`. Leads of `not_found` are not requested
    /// individually again.
    pub(super) fn new(inner: L, not_found: Arc<NotFoundCache>) -> Self {
        Self { inner, not_found }
    }

    async fn isolate<I: BatchInput>(
        &self,
        ctx: &CallContext,
        inputs: &[I],
        form: BatchForm,
        request: impl Fn(Vec<I>) -> Request + Sync,
    ) -> ChunkOutcomes {
        let send = |inputs: Vec<I>, _: Attempt| {
            let request = Arc::new(request(inputs));
            async move { self.inner.call(ctx, request, Dispatch::new(ctx)).await?.into_batch() }
        };
        send_isolated(inputs, form.missing, form.unresolved, &ctx.search, send).await
    }

    /// Isolates the ids of a read. HubSpot returns a lead that was merged under its own id, once for all of
    /// its ids. So ids that a response leaves open are read again with the ids of merged leads. Ids that are
    /// still open are read individually.
    async fn isolate_read(
        &self,
        ctx: &CallContext,
        read: &BatchRead,
        form: BatchForm,
    ) -> ChunkOutcomes {
        let input = |id| ReadInput { id, id_property: read.id_property.clone() };
        let inputs: Vec<ReadInput> = read.ids.iter().cloned().map(input).collect();
        let send = |inputs: Vec<ReadInput>, attempt: Attempt| {
            let request = Arc::new(read_request(read, inputs, attempt));
            async move {
                let response = self.inner.call(ctx, Arc::clone(&request), Dispatch::new(ctx)).await;
                if let Request::Get(get) = &*request
                    && get.id_property.is_none()
                {
                    self.not_found.observe(get.archived, &get.id, &response);
                }
                let response = response?;
                if let Response::Lead(lead) = response {
                    let lead = Arc::unwrap_or_clone(lead);
                    let results = vec![BatchItem { lead, trace_id: None, created: None }];
                    return Ok(BatchResponse { results, errors: Vec::new() });
                }
                response.into_batch()
            }
        };
        let mut chunk =
            send_isolated(&inputs, form.missing, form.unresolved, &ctx.search, send).await;
        let find = |ctx: CallContext, input: ReadInput| async move {
            self.read_merged(&ctx, read, input).await
        };
        self.find_merged(ctx, &inputs, read.archived, &mut chunk, find).await;
        let is_selected = |property: &String| property == MERGED_IDS;
        if !read.properties.iter().any(is_selected) {
            for item in chunk.outcomes.iter_mut().flatten().flatten() {
                item.lead.remove_property(MERGED_IDS);
            }
        }
        chunk
    }

    async fn isolate_batch(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
        form: BatchForm,
    ) -> Result<Response, Error> {
        let outcomes = match &*request {
            Request::BatchRead(read) => self.isolate_read(ctx, read, form).await,
            Request::BatchCreate(inputs) => {
                self.isolate(ctx, inputs, form, Request::BatchCreate).await
            }
            Request::BatchUpdate(inputs) => self.isolate_update(ctx, inputs, form).await,
            Request::ChangeAssociations(change) => self.isolate_changes(ctx, change, form).await,
            Request::BatchArchive(ids) => self.isolate(ctx, ids, form, Request::BatchArchive).await,
            Request::FindContacts(emails) => {
                self.isolate(ctx, emails, form, Request::FindContacts).await
            }
            Request::CreateContacts(contacts) => {
                self.isolate(ctx, contacts, form, Request::CreateContacts).await
            }
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::Create(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ReadSchema(_) => {
                return self.inner.call(ctx, request, dispatch).await;
            }
        };
        Ok(Response::Outcomes(outcomes))
    }
}

impl<L: Layer> Layer for Isolation<L> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        let form = Operation::from(&*request).spec().batch;
        if form.is_none() && !matches!(*request, Request::Update(_)) {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        }
        // Boxed: it is large, and every other request of a single lead would carry its size.
        Either::Right(Box::pin(async move {
            match form {
                Some(form) => self.isolate_batch(ctx, request, dispatch, form).await,
                None => self.update_one(ctx, request, dispatch).await,
            }
        }))
    }
}

/// The request for ids of a batch read.
fn read_request(read: &BatchRead, inputs: Vec<ReadInput>, attempt: Attempt) -> Request {
    let ids = inputs.into_iter().map(|input| input.id).collect();
    let mut read = BatchRead { ids, ..read.clone() };
    match attempt {
        Attempt::Alone if fits_url(&read) => {
            if let [id] = read.ids.as_slice() {
                let selection = Selection {
                    properties: read.properties,
                    properties_with_history: read.properties_with_history,
                    associations: Vec::new(),
                };
                let (id, id_property, archived) = (id.clone(), read.id_property, read.archived);
                return Request::Get(GetLead { id, id_property, selection, archived });
            }
        }
        Attempt::Again if read.id_property.is_none() => {
            if read.properties.is_empty() {
                read.properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
            }
            if !read.properties.iter().any(|property| property == MERGED_IDS) {
                read.properties.push(MERGED_IDS.to_owned());
            }
        }
        Attempt::First | Attempt::Again | Attempt::Alone => {}
    }
    Request::BatchRead(read)
}

fn fits_url(read: &BatchRead) -> bool {
    let names = read.properties.iter().chain(&read.properties_with_history);
    names.map(|name| name.len() + 1).sum::<usize>() <= MAX_NAME_BYTES
        && read.ids.iter().all(LeadId::fits_url)
}

#[cfg(test)]
mod tests;
