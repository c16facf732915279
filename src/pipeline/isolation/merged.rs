//! Leads that a batch does not find and that may have been merged into others.
//!
//! HubSpot may follow merges only where a lead is requested individually. So these leads are: as many as
//! are found, and a bounded number of others.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::{Isolation, read_request};
use crate::{
    hubspot::BatchForm,
    leads::{
        BatchItem, BatchRead, CallContext, ChunkOutcomes, Error, GetLead, LeadId, RECORD_ID,
        Reason, Request, Selection, Traced, UpdateLead,
        batch::{Attempt, BatchInput, MissingItemPolicy, ReadInput, match_all},
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
            let request = Request::Update(UpdateLead { trace_id: Some(trace_id), ..input });
            self.send_one(&ctx, request).await
        };
        self.find_merged(ctx, inputs, false, &mut chunk, update).await;
        chunk
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
        let get = GetLead {
            id: input.id,
            id_property: None,
            selection: Selection { properties: vec![RECORD_ID.to_owned()], ..Selection::default() },
            archived: read.archived,
        };
        let survivor = self.send_one(ctx, Request::Get(get)).await?.lead;
        let id = LeadId::parse(&survivor.id).map_err(|_| Error::lead_not_found())?;
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
