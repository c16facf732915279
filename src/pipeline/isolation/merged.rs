//! Leads that HubSpot does not find and that may have been merged into others.
//!
//! HubSpot may follow merges only where a lead is read individually. So these leads are: as many as are
//! found, and a bounded number of others. A change is sent again for the lead that such a read finds, after
//! HubSpot has said that it did not find the lead to change, so that nothing is changed twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{Isolation, read_request};
use crate::{
    hubspot::BatchForm,
    leads::{
        AssociationChange, BatchItem, BatchRead, CallContext, ChangeAssociations, ChunkOutcomes,
        Error, GetLead, LeadId, RECORD_ID, Reason, Request, Response, Selection, Traced,
        UpdateLead,
        batch::{
            Attempt, BatchInput, LeadReference, MissingItemPolicy, OBJECT_NOT_FOUND, ReadInput,
            match_all,
        },
    },
    pipeline::{Dispatch, Layer},
};

/// Maximum number of concurrent individual requests after a batch.
const INDIVIDUAL_CONCURRENCY: usize = 8;

// === impl Isolation ===

impl<L: Layer> Isolation<L> {
    /// Isolates the inputs of an update.
    pub(super) async fn isolate_update(
        &self,
        ctx: &CallContext,
        inputs: &[Traced<UpdateLead>],
        form: BatchForm,
    ) -> ChunkOutcomes {
        let mut chunk = self.isolate(ctx, inputs, form, Request::BatchUpdate).await;
        let update = |ctx: CallContext, Traced { trace_id, input }: Traced<UpdateLead>| async move {
            let id = self.survivor(&ctx, input.id.clone(), false).await?;
            let trace_id = Some(trace_id);
            let update = UpdateLead { id, id_property: None, trace_id, ..input };
            self.send_one(&ctx, Request::Update(update)).await
        };
        self.find_merged(ctx, inputs, false, &mut chunk, update).await;
        chunk
    }

    /// Updates one lead, or the one into which it was merged.
    pub(super) async fn update_one(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let result = self.inner.call(ctx, Arc::clone(&request), dispatch).await;
        let (Request::Update(update), Err(error)) = (&*request, &result) else { return result };
        let UpdateLead { id, id_property, .. } = update;
        let reference = LeadReference { id, id_property: id_property.as_deref() };
        let is_open = error.reason() == Reason::LeadNotFound
            && reference.unique_property().is_none()
            && !self.not_found.contains(false, id);
        if !is_open {
            return result;
        }
        let survivor = self.survivor(ctx, id.clone(), false).await;
        self.not_found.observe(false, id, &survivor);
        match survivor {
            Ok(survivor) if survivor != *id => {
                let update = UpdateLead { id: survivor, id_property: None, ..update.clone() };
                let request = Arc::new(Request::Update(update));
                self.inner.call(ctx, request, Dispatch::new(ctx)).await
            }
            Err(error) if error.reason() != Reason::LeadNotFound => Err(error),
            Ok(_) | Err(_) => result,
        }
    }

    /// Isolates the inputs of a change of associations. Those of leads that HubSpot does not find are changed
    /// for the leads into which they were merged, in one more batch.
    pub(super) async fn isolate_changes(
        &self,
        ctx: &CallContext,
        change: &ChangeAssociations,
        form: BatchForm,
    ) -> ChunkOutcomes {
        let ChangeAssociations { kind, to, changes } = change;
        let request = |changes| {
            let (kind, to) = (*kind, to.clone());
            Request::ChangeAssociations(ChangeAssociations { kind, to, changes })
        };
        let mut chunk = self.isolate(ctx, changes, form, request).await;
        let is_missing = |index: &usize| {
            let error = chunk.outcomes[*index].as_ref().err();
            error.is_some_and(|error| is_lead_missing(&changes[*index], error))
        };
        let missing: Vec<usize> = (0..changes.len()).filter(is_missing).collect();
        let leads: BTreeSet<&LeadId> = missing.iter().map(|&index| &changes[index].lead).collect();
        let leads: Vec<LeadId> = leads.into_iter().cloned().collect();
        let unknown = vec![Err(Error::lead_not_found()); leads.len()];
        let mut found = ChunkOutcomes { outcomes: unknown, evaluated: false };
        let read = |ctx: CallContext, id: LeadId| async move {
            self.send_one(&ctx, Request::Get(read_of_id(id, false))).await
        };
        self.find_merged(ctx, &leads, false, &mut found, read).await;
        let found: BTreeMap<LeadId, _> = leads.into_iter().zip(found.outcomes).collect();
        let (mut indices, mut moved) = (Vec::new(), Vec::new());
        for index in missing {
            let change = &changes[index];
            match found.get(&change.lead) {
                Some(Ok(Some(item))) => {
                    let survivor = LeadId::parse(&item.lead.id).ok();
                    if let Some(lead) = survivor.filter(|survivor| *survivor != change.lead) {
                        indices.push(index);
                        moved.push(AssociationChange { lead, ..change.clone() });
                    }
                }
                Some(Err(error)) if error.reason() != Reason::LeadNotFound => {
                    chunk.outcomes[index] = Err(error.clone());
                }
                Some(Ok(None) | Err(_)) | None => {}
            }
        }
        if !moved.is_empty() {
            let again = self.isolate(ctx, &moved, form, request).await;
            for (index, outcome) in indices.into_iter().zip(again.outcomes) {
                chunk.outcomes[index] = outcome;
            }
        }
        chunk
    }

    /// The lead of an id, which may be that of a lead that was merged into it.
    async fn survivor(
        &self,
        ctx: &CallContext,
        id: LeadId,
        archived: bool,
    ) -> Result<LeadId, Error> {
        let lead = self.send_one(ctx, Request::Get(read_of_id(id, archived))).await?.lead;
        LeadId::parse(&lead.id).map_err(|_| Error::lead_not_found())
    }

    /// Requests the leads individually that a batch did not find by their record ids. Within half of the
    /// remaining time; leads that are not requested may have been merged, and their outcome says so.
    pub(super) async fn find_merged<I: BatchInput, F>(
        &self,
        ctx: &CallContext,
        inputs: &[I],
        archived: bool,
        chunk: &mut ChunkOutcomes,
        find: impl Fn(CallContext, I) -> F + Sync,
    ) where
        F: Future<Output = Result<BatchItem, Error>> + Send,
    {
        let missing = inputs.iter().zip(&chunk.outcomes).enumerate();
        let missing = missing.filter_map(|(index, (input, outcome))| {
            let error = outcome.as_ref().err()?;
            let reference = input.reference().filter(|it| it.unique_property().is_none())?;
            let is_open = error.reason() == Reason::LeadNotFound
                && !self.not_found.contains(archived, reference.id);
            is_open.then(|| (index, reference.id.clone(), input.clone()))
        });
        let missing: Vec<(usize, LeadId, I)> = missing.collect();
        if missing.is_empty() {
            return;
        }
        let now = Instant::now();
        let deadline = now + ctx.deadline.saturating_duration_since(now) / 2;
        let ctx = CallContext { deadline, ..ctx.clone() };
        let (ctx, find) = (&ctx, &find);
        let mut found = stream::iter(missing)
            .map(|(index, id, input)| async move {
                let may_ask = Instant::now() < deadline && ctx.search.may_ask_individually();
                let result = if may_ask { Some(find(ctx.clone(), input).await) } else { None };
                (index, id, result)
            })
            .buffer_unordered(INDIVIDUAL_CONCURRENCY);
        while let Some((index, id, result)) = found.next().await {
            let Some(result) = result else {
                chunk.outcomes[index] = Err(not_requested(&id));
                continue;
            };
            self.not_found.observe(archived, &id, &result);
            match result {
                Err(error) if error.reason() == Reason::LeadNotFound => {}
                result => {
                    if result.is_ok() {
                        ctx.search.found_individually();
                    }
                    chunk.outcomes[index] = result.map(Some);
                }
            }
        }
    }

    /// Reads a lead that may have been merged into another one.
    pub(super) async fn read_merged(
        &self,
        ctx: &CallContext,
        read: &BatchRead,
        input: ReadInput,
    ) -> Result<BatchItem, Error> {
        let request = read_request(read, vec![input.clone()], Attempt::Alone);
        if matches!(request, Request::Get(_)) {
            return self.send_one(ctx, request).await;
        }
        // The names do not fit in a URL, so the read that follows the merge only returns the id.
        let id = self.survivor(ctx, input.id, read.archived).await?;
        let input = ReadInput { id, id_property: None };
        let request = Arc::new(read_request(read, vec![input.clone()], Attempt::First));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await?.into_batch()?;
        let outcome = match_all(&[input], response, MissingItemPolicy::Unanswered).pop();
        outcome.and_then(Result::transpose).unwrap_or_else(|| Err(Error::lead_not_found()))
    }

    /// Sends a request of one lead.
    async fn send_one(&self, ctx: &CallContext, request: Request) -> Result<BatchItem, Error> {
        let response = self.inner.call(ctx, Arc::new(request), Dispatch::new(ctx)).await?;
        let lead = Arc::unwrap_or_clone(response.into_lead()?);
        Ok(BatchItem { lead, trace_id: None, created: None })
    }
}

/// An individual read of the id of a lead.
fn read_of_id(id: LeadId, archived: bool) -> GetLead {
    let selection = Selection { properties: vec![RECORD_ID.to_owned()], ..Selection::default() };
    GetLead { id, id_property: None, selection, archived }
}

/// True if the error of a change may be that its lead does not exist.
fn is_lead_missing(change: &AssociationChange, error: &Error) -> bool {
    let is_not_found = error.upstream().category.as_deref() == Some(OBJECT_NOT_FOUND);
    let is_missing = error.reason() == Reason::LeadNotFound
        || error.reason() == Reason::ValidationFailed && is_not_found;
    let ids = &error.affected_inputs().ids;
    is_missing && (ids.is_empty() || ids.iter().any(|id| id == change.lead.as_str()))
}

/// Error of a lead that a batch did not find and that was not requested individually: it may have been
/// merged.
fn not_requested(id: &LeadId) -> Error {
    let message = format!(
        "HubSpot did not find lead {id} in a batch, where it may not find a merged lead, and leadsd did not \
         request it individually: the call has too many unknown leads or too little time; send it again \
         in a smaller batch"
    );
    Error::new(Reason::BatchRejected, message)
}
