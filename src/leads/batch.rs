//! Batches: any number of inputs on top of HubSpot's batches of one hundred.
//!
//! The outcome is one result per input, in input order. [`run`] divides the inputs into requests of
//! HubSpot's size. [`send_isolated`] sends one such request and finds the inputs for which HubSpot
//! rejects it as a whole. [`send_merged`] does the same for inputs of different callers.
//! [`matching`] assigns HubSpot's response to the inputs.

mod input;
mod isolate;
mod matching;
mod merge;

use futures_util::{StreamExt as _, stream};

pub use self::{
    input::{BatchInput, LeadReference, ReadInput},
    isolate::send_isolated,
    matching::{MissingItemPolicy, match_all},
    merge::{ItemOutcome, UnresolvedPolicy, send_merged},
};
use super::{
    context::CallContext,
    error::{Error, SideEffect},
    request::{ChunkOutcomes, Outcome, Request},
};

/// Maximum number of inputs that HubSpot accepts in one batch request.
pub const MAX_CHUNK: usize = 100;

/// Maximum number of inputs of a batch read with property history: HubSpot lowers its maximum.
pub const MAX_CHUNK_WITH_HISTORY: usize = 50;

/// Sends `inputs` in requests of at most `chunk_size`, at most `concurrency` at a time.
///
/// Errors as a whole only if HubSpot evaluated none of the inputs and acted on none: then no input
/// has a separate outcome, and the caller can repeat the call.
pub(super) async fn run<I: BatchInput>(
    ctx: &CallContext,
    inputs: &[I],
    chunk_size: usize,
    concurrency: usize,
    request: impl Fn(Vec<I>) -> Request + Sync,
) -> Result<Vec<Outcome>, Error> {
    let chunks = inputs.chunks(chunk_size).map(<[I]>::to_vec).collect::<Vec<_>>();
    let responses: Vec<ChunkOutcomes> = stream::iter(chunks)
        .map(|chunk| {
            let size = chunk.len();
            let response = ctx.portal.upstream.call(ctx, request(chunk));
            async move {
                let outcomes = match response.await {
                    Ok(response) => response.into_outcomes(),
                    Err(error) => Err(error),
                };
                outcomes.unwrap_or_else(|error| ChunkOutcomes {
                    outcomes: vec![Err(error); size],
                    evaluated: false,
                })
            }
        })
        .buffered(concurrency.max(1))
        .collect()
        .await;
    let evaluated = responses.iter().any(|chunk| chunk.evaluated);
    let outcomes: Vec<Outcome> = responses.into_iter().flat_map(|chunk| chunk.outcomes).collect();
    if evaluated {
        return Ok(outcomes);
    }
    let without_effect = |outcome: &Outcome| matches!(outcome, Err(error) if error.side_effect() == SideEffect::None);
    match outcomes.first() {
        Some(Err(error)) if outcomes.iter().all(without_effect) => Err(error.clone()),
        _ => Ok(outcomes),
    }
}

#[cfg(test)]
mod tests;
