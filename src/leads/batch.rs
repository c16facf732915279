//! Batches: any number of inputs on top of HubSpot's batches of one hundred.
//!
//! The outcome is one result per input, in input order. [`run`] divides the inputs into requests of
//! HubSpot's size. [`send_isolated`] sends one such request and finds the inputs for which HubSpot
//! rejects it as a whole. [`send_merged`] does the same for inputs of different callers.
//! [`matching`] assigns HubSpot's response to the inputs.

mod agreement;
mod assignment;
mod common_rejection;
mod created;
mod forms;
mod input;
mod isolate;
mod matching;
mod merge;
mod progress;
mod search;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt as _, stream};

pub(super) use self::progress::{BatchProgress, OutcomeSink};
use self::progress::{Collected, no_outcome};
pub use self::{
    created::CreatedLeads,
    input::{BatchInput, LeadReference, MERGED_IDS, OBJECT_NOT_FOUND, ReadInput},
    isolate::{Attempt, send_isolated},
    matching::{MissingItemPolicy, UnresolvedPolicy, match_all},
    merge::{ItemOutcome, send_merged},
    search::rejects_content,
};
use super::{
    charge::MemoryCharge,
    context::CallContext,
    cost::CostMeter,
    error::{Error, Reason, SideEffect},
    memory::memory_of,
    rejection_search::RejectionSearch,
    request::{ChunkOutcomes, Outcome, Request, Response},
    response_limit::{Overflow, ResponseBudget, ResponseLimit},
};

/// Maximum number of inputs that HubSpot accepts in one batch request.
pub const MAX_CHUNK: usize = 100;

/// Maximum number of inputs of a batch read with property history: HubSpot lowers its maximum.
pub const MAX_CHUNK_WITH_HISTORY: usize = 50;

/// Maximum number of HubSpot batches that one request for upserts fills: more do not save calls, and
/// their leads are held until all are done.
const MAX_UPSERT_BATCHES: usize = 10;

/// Plan of sending one batch call and bounding its response.
#[derive(Debug)]
pub(super) struct BatchPlan {
    /// Maximum number of inputs of one request.
    pub(super) chunk_size: usize,
    /// Maximum number of concurrent requests.
    pub(super) concurrency: usize,
    /// Bounds the leads of the response.
    pub(super) budget: ResponseBudget,
}

/// Limits of every batch call.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLimits {
    /// Maximum number of concurrent requests of one call.
    pub(super) concurrency: usize,
    /// Maximum size of the response.
    pub(super) response: ResponseLimit,
}

// === impl BatchLimits ===

impl BatchLimits {
    /// Limits for requests whose leads are bounded later, when the response is built.
    pub(super) fn unlimited(concurrency: usize) -> Self {
        let response = ResponseLimit { max_bytes: usize::MAX, lead_size: |_| 0 };
        Self { concurrency, response }
    }

    /// Plan of a read with requests of this many inputs.
    pub(super) fn read_plan(self, chunk_size: usize) -> BatchPlan {
        let budget = ResponseBudget::new(self.response, Overflow::Fail);
        BatchPlan { chunk_size, concurrency: self.concurrency, budget }
    }

    /// Plan of upserts. A request has as many inputs as fill its concurrent HubSpot calls, so that
    /// those that exist, and those that do not, fill batches.
    pub(super) fn upsert_plan(self) -> BatchPlan {
        let batches = self.concurrency.clamp(1, MAX_UPSERT_BATCHES);
        BatchPlan { chunk_size: batches * MAX_CHUNK, concurrency: 1, ..self.write_plan() }
    }

    /// Plan of a write.
    pub(super) fn write_plan(self) -> BatchPlan {
        let budget = ResponseBudget::new(self.response, Overflow::KeepId);
        BatchPlan { chunk_size: MAX_CHUNK, concurrency: self.concurrency, budget }
    }
}

/// Sends `inputs` in requests as `plan` says. Returns one outcome per input, in input order.
///
/// Errors as a whole only if HubSpot evaluated none of the inputs and acted on none: then no input
/// has a separate outcome, and the caller can repeat the call. After an error that every request of the
/// portal would get, or a response of a proxy,
/// no further request is sent.
pub(super) async fn run<I: BatchInput>(
    ctx: &CallContext,
    inputs: &[I],
    plan: BatchPlan,
    request: impl Fn(Vec<I>) -> Request + Sync,
) -> Result<Vec<Outcome>, Error> {
    let outcomes = Collected::new(inputs.len());
    run_into(ctx, inputs, plan, request, &outcomes).await;
    outcomes.finish()
}

/// Sends `inputs` in requests as `plan` says, and gives each outcome to `sink` when it arrives.
pub(super) async fn run_into<I: BatchInput>(
    ctx: &CallContext,
    inputs: &[I],
    plan: BatchPlan,
    request: impl Fn(Vec<I>) -> Request + Sync,
    sink: &dyn OutcomeSink,
) {
    let BatchPlan { chunk_size, concurrency, mut budget } = plan;
    let is_full = AtomicBool::new(false);
    let full_error = budget.full_error();
    let rejected: OnceLock<Error> = OnceLock::new();
    let search = ctx.search.begun();
    let chunks: Vec<(usize, Vec<I>)> = inputs
        .chunks(chunk_size)
        .enumerate()
        .map(|(number, chunk)| (number * chunk_size, chunk.to_vec()))
        .collect();
    let mut responses = stream::iter(chunks)
        .map(|(first, chunk)| {
            let (size, search) = (chunk.len(), search.clone());
            let request = match rejected.get() {
                Some(error) => Err(error.clone()),
                None if is_full.load(Ordering::Relaxed) => Err(full_error.clone()),
                None => Ok(request(chunk)),
            };
            async move {
                let response = match request {
                    Ok(request) => {
                        let ctx = metered(ctx, search);
                        sink.begin(first..first + size, &ctx.cost);
                        let response = ctx.portal.upstream.call(&ctx, request).await;
                        // Charged below.
                        ctx.cost.release_memory();
                        response.and_then(Response::into_outcomes)
                    }
                    Err(error) => Err(error),
                };
                (first, size, response)
            }
        })
        .buffer_unordered(concurrency.max(1));
    let mut charges = Vec::new();
    while let Some((first, size, response)) = responses.next().await {
        let ChunkOutcomes { mut outcomes, evaluated } = response.unwrap_or_else(|error| {
            ChunkOutcomes { outcomes: vec![Err(error); size], evaluated: false }
        });
        outcomes.resize_with(size, || Err(no_outcome()));
        if let Some(error) = whole_rejection(&outcomes).filter(|_| !evaluated) {
            // Further requests would get the same error.
            rejected.get_or_init(|| error.clone());
        }
        charges.extend(keep(ctx, &mut budget, &mut outcomes));
        is_full.store(budget.is_full(), Ordering::Relaxed);
        sink.settle(first, outcomes, evaluated);
    }
}

/// The error of a request that HubSpot, or a proxy before it, rejects whatever its content; `None` if it did
/// not.
fn whole_rejection(outcomes: &[Outcome]) -> Option<&Error> {
    let error = outcomes.first()?.as_ref().err()?;
    let status = error.upstream().http_status.unwrap_or_default();
    let is_foreign =
        error.reason() == Reason::UpstreamInvalidResponse && (300..500).contains(&status);
    let is_whole = error.reason().is_about_portal() || is_foreign;
    (is_whole && error.side_effect() == SideEffect::None).then_some(error)
}

/// The context of one request, with a meter that tells whether HubSpot was asked.
fn metered(ctx: &CallContext, search: RejectionSearch) -> CallContext {
    let cost = Arc::new(CostMeter::shared_by(vec![Arc::clone(&ctx.cost)]));
    CallContext { cost, search, ..ctx.clone() }
}

/// Drops what does not fit in the response, and charges the rest to the call while further requests
/// are sent. A read fails if the account has no room for its leads.
fn keep(
    ctx: &CallContext,
    budget: &mut ResponseBudget,
    outcomes: &mut [Outcome],
) -> Option<MemoryCharge> {
    outcomes.iter_mut().for_each(|outcome| budget.admit(outcome));
    let lead =
        |outcome: &Outcome| outcome.as_ref().ok()?.as_ref().map(|item| memory_of(&item.lead));
    let bytes = outcomes.iter().filter_map(lead).sum();
    let mut charge = MemoryCharge::new(&ctx.memory);
    match budget.overflow() {
        Overflow::KeepId => charge.set(bytes),
        Overflow::Fail => {
            if let Err(error) = charge.try_set(bytes) {
                outcomes.iter_mut().filter(|outcome| outcome.is_ok()).for_each(|outcome| {
                    *outcome = Err(error.clone());
                });
                return None;
            }
        }
    }
    Some(charge)
}

#[cfg(test)]
mod tests;
