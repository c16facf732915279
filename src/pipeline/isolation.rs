//! Gives every input of a batch its own outcome: isolates the inputs for which HubSpot rejects the
//! batch as a whole, and matches the response with the inputs.

use std::sync::Arc;

use futures_util::future::Either;

use super::{Dispatch, Layer};
use crate::{
    hubspot::{BatchForm, Operation},
    leads::{
        BatchRead, CallContext, ChunkOutcomes, Error, Request, Response,
        batch::{BatchInput, ReadInput, send_isolated},
    },
};

/// The isolation layer.
#[derive(Debug)]
pub(super) struct Isolation<L> {
    inner: L,
}

// === impl Isolation ===

impl<L: Layer> Isolation<L> {
    /// Isolates the inputs of batches that are sent to `inner`.
    pub(super) fn new(inner: L) -> Self {
        Self { inner }
    }

    async fn isolate<I: BatchInput>(
        &self,
        ctx: &CallContext,
        inputs: &[I],
        form: BatchForm,
        request: impl Fn(Vec<I>) -> Request + Sync,
    ) -> ChunkOutcomes {
        let send = |inputs: Vec<I>| {
            let request = Arc::new(request(inputs));
            async move { self.inner.call(ctx, request, Dispatch::new(ctx)).await?.into_batch() }
        };
        send_isolated(inputs, form.missing, form.unresolved, send).await
    }

    async fn isolate_batch(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
        form: BatchForm,
    ) -> Result<Response, Error> {
        let outcomes = match &*request {
            Request::BatchRead(read) => {
                let input = |id| ReadInput { id, id_property: read.id_property.clone() };
                let inputs: Vec<ReadInput> = read.ids.iter().cloned().map(input).collect();
                let request = |inputs: Vec<ReadInput>| {
                    let ids = inputs.into_iter().map(|input| input.id).collect();
                    Request::BatchRead(BatchRead { ids, ..read.clone() })
                };
                self.isolate(ctx, &inputs, form, request).await
            }
            Request::BatchCreate(inputs) => {
                self.isolate(ctx, inputs, form, Request::BatchCreate).await
            }
            Request::BatchUpdate(inputs) => {
                self.isolate(ctx, inputs, form, Request::BatchUpdate).await
            }
            Request::BatchArchive(ids) => self.isolate(ctx, ids, form, Request::BatchArchive).await,
            Request::Get(_)
            | Request::List(_)
            | Request::Search(_)
            | Request::Create(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. } => {
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
        let Some(form) = Operation::from(&*request).spec().batch else {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        };
        // Boxed: it is large, and every request of a single lead would carry its size.
        Either::Right(Box::pin(self.isolate_batch(ctx, request, dispatch, form)))
    }
}

#[cfg(test)]
mod tests;
