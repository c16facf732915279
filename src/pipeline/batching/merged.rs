//! Sends inputs of several callers as one batch, by the policies of the operations table.

use super::batch_context::BatchContext;
use crate::{
    hubspot::{BatchForm, Operation},
    leads::{
        BatchItem, BatchResponse, Error,
        batch::{self, BatchInput, ItemOutcome, MissingItemPolicy, UnresolvedPolicy},
    },
};

/// The batch form of an operation, from the operations table.
pub(super) fn form(operation: Operation) -> BatchForm {
    let fallback = BatchForm {
        max_inputs: 1,
        missing: MissingItemPolicy::OutcomeUnknown,
        unresolved: UnresolvedPolicy::Fail,
    };
    operation.spec().batch.unwrap_or(fallback)
}

/// Sends inputs by the policies of their batch form. `owners` has the number of the caller for each input.
pub(super) async fn send_merged<I, S, F>(
    ctx: &BatchContext,
    owners: &[usize],
    inputs: &[I],
    form: BatchForm,
    mut send: S,
) -> Vec<ItemOutcome<Option<BatchItem>>>
where
    I: BatchInput,
    S: FnMut(usize, Vec<I>) -> F,
    F: Future<Output = Result<BatchResponse, Error>> + Send,
{
    let send = |first: usize, inputs: Vec<I>| {
        let response = send(first, inputs);
        async move {
            let result = response.await;
            ctx.observe(&result);
            result
        }
    };
    batch::send_merged(inputs, owners, form.missing, form.unresolved, send).await
}
