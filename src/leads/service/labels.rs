//! Labels of the open inputs of a batch, which are resolved before the inputs are validated and sent, and
//! labels of leads that were read.

use super::Service;
use crate::leads::{
    batch::BatchProgress,
    charge::MemoryCharge,
    context::CallContext,
    labels::{DisplayLabels, LabelResolver, LabelTarget, Labelled},
    lead::Lead,
};

/// Resolves the labels of the open inputs of a batch, and settles those that have none. Returns the others,
/// and the charge of the errors. An input whose outcome is open from an earlier call keeps it: it may have
/// been written.
pub(super) async fn resolve_open<I: LabelTarget, T: Clone>(
    labels: &LabelResolver,
    ctx: &CallContext,
    open: Vec<(usize, Labelled<I>)>,
    progress: &BatchProgress<T>,
) -> (Vec<(usize, I)>, Option<MemoryCharge>) {
    let (indices, inputs): (Vec<usize>, Vec<Labelled<I>>) = open.into_iter().unzip();
    let resolved = labels.resolve(ctx, inputs).await;
    let mut open = Vec::with_capacity(indices.len());
    for (index, result) in indices.into_iter().zip(resolved.results) {
        match result {
            Ok(input) => open.push((index, input)),
            Err(_) if progress.unknown(index).is_some() => {}
            Err(error) => progress.settle_one(index, Err(error), true),
        }
    }
    (open, resolved.charge)
}

impl Service {
    /// Labels of the values of leads that were read, from the copies of the schema.
    pub async fn labels(
        &self,
        ctx: &CallContext,
        leads: impl Iterator<Item = &Lead>,
    ) -> DisplayLabels {
        self.labels.display(ctx, leads).await
    }
}
