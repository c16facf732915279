//! Upserts: sends the lookups, updates and creates that an upsert consists of.
//!
//! The plan is [`UpsertPlan`]. Lookups of many leads are batch reads; all leads that exist share batch
//! updates, and all others batch creates. A single lookup, update or create is sent as an individual
//! request, which the batching layer groups with those of other callers.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::Either, stream};
use tokio::time::{Instant, sleep_until};

use super::{Dispatch, Layer};
use crate::leads::{
    BatchItem, BatchRead, CallContext, ChunkOutcomes, CreateLead, Error, GetLead, MemoryCharge,
    Outcome, Request, Response, Selection, Traced, UpdateLead, UpsertLead,
    batch::{MAX_CHUNK, ReadInput, rejects_content},
    upsert::{UpsertPlan, Writes},
};

/// The upsert layer.
#[derive(Debug)]
pub(super) struct Upsert<L> {
    inner: L,
}

/// One request of an upsert.
#[derive(Debug)]
struct Part {
    kind: PartKind,
    /// Indices of the upserts that the request is about.
    indices: Vec<usize>,
    request: Request,
}

/// Kind of a part, which decides what its outcomes mean.
#[derive(Debug, Clone, Copy)]
enum PartKind {
    Lookup,
    Update,
    Create,
}

/// Outcomes of one part.
#[derive(Debug)]
struct PartOutcomes {
    kind: PartKind,
    outcomes: Vec<(usize, Outcome)>,
    evaluated: bool,
}

// === impl Upsert ===

impl<L: Layer> Upsert<L> {
    /// Sends the parts of upserts to `inner`.
    pub(super) fn new(inner: L) -> Self {
        Self { inner }
    }

    async fn upsert(
        &self,
        ctx: &CallContext,
        inputs: &[Traced<UpsertLead>],
        concurrency: usize,
    ) -> ChunkOutcomes {
        let mut plan = UpsertPlan::new(inputs.to_vec());
        let mut charge = MemoryCharge::new(&ctx.memory);
        let mut evaluated = false;
        while let Some(pause) = plan.next_round() {
            if !pause.is_zero() {
                sleep_until((Instant::now() + pause).min(ctx.deadline)).await;
            }
            let lookups = Part::lookups(&plan);
            evaluated |= self.send_all(ctx, &mut plan, lookups, concurrency, &mut charge).await;
            let writes = Part::writes(plan.writes());
            let ctx = &if plan.is_first_round() { looking_up(ctx) } else { ctx.clone() };
            evaluated |= self.send_all(ctx, &mut plan, writes, concurrency, &mut charge).await;
        }
        ChunkOutcomes { outcomes: plan.into_outcomes(), evaluated }
    }

    /// Sends the parts, and passes their outcomes to the plan. Returns true if HubSpot evaluated one.
    async fn send_all(
        &self,
        ctx: &CallContext,
        plan: &mut UpsertPlan,
        parts: Vec<Part>,
        concurrency: usize,
        charge: &mut MemoryCharge,
    ) -> bool {
        let mut any_evaluated = false;
        let mut sent = stream::iter(parts)
            .map(|part| self.send(ctx, part))
            .buffer_unordered(concurrency.max(1));
        while let Some(PartOutcomes { kind, outcomes, evaluated }) = sent.next().await {
            any_evaluated |= evaluated;
            for (index, outcome) in outcomes {
                match kind {
                    PartKind::Lookup => plan.looked_up(index, outcome),
                    PartKind::Update => plan.updated(index, outcome),
                    PartKind::Create => plan.created(index, outcome),
                }
            }
            charge.set(plan.result_bytes());
            ctx.cost.release_memory();
        }
        any_evaluated
    }

    async fn send(&self, ctx: &CallContext, part: Part) -> PartOutcomes {
        let Part { kind, indices, request } = part;
        let response = self.inner.call(ctx, Arc::new(request), Dispatch::new(ctx)).await;
        let ChunkOutcomes { outcomes, evaluated } = outcomes(response, indices.len());
        PartOutcomes { kind, outcomes: indices.into_iter().zip(outcomes).collect(), evaluated }
    }
}

impl<L: Layer> Layer for Upsert<L> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        if !matches!(*request, Request::Upsert { .. }) {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        }
        // Boxed: it is large, and every other request would carry its size.
        Either::Right(Box::pin(async move {
            let Request::Upsert { inputs, concurrency } = &*request else {
                return self.inner.call(ctx, request, dispatch).await;
            };
            Ok(Response::Outcomes(self.upsert(ctx, inputs, *concurrency).await))
        }))
    }
}

// === impl Part ===

impl Part {
    fn lookups(plan: &UpsertPlan) -> Vec<Self> {
        let mut parts = Vec::new();
        for (id_property, reads) in plan.lookups() {
            for chunk in reads.chunks(MAX_CHUNK) {
                let (indices, reads) = chunk.iter().cloned().unzip();
                let request = lookup(id_property, reads);
                parts.push(Self { kind: PartKind::Lookup, indices, request });
            }
        }
        parts
    }

    fn writes(writes: Writes) -> Vec<Self> {
        let Writes { updates, creates } = writes;
        let mut parts = Vec::new();
        for chunk in updates.chunks(MAX_CHUNK) {
            let (indices, updates) = chunk.iter().cloned().unzip();
            let one = |Traced { trace_id, input }| {
                Request::Update(UpdateLead { trace_id: Some(trace_id), ..input })
            };
            let request = one_or_many(updates, one, Request::BatchUpdate);
            parts.push(Self { kind: PartKind::Update, indices, request });
        }
        for chunk in creates.chunks(MAX_CHUNK) {
            let (indices, creates) = chunk.iter().cloned().unzip();
            let one = |Traced { trace_id, input }| {
                Request::Create(CreateLead { trace_id: Some(trace_id), ..input })
            };
            let request = one_or_many(creates, one, Request::BatchCreate);
            parts.push(Self { kind: PartKind::Create, indices, request });
        }
        parts
    }
}

/// The context of creates whose leads are looked up in the next round.
fn looking_up(ctx: &CallContext) -> CallContext {
    CallContext { search: ctx.search.looking_up_duplicates(), ..ctx.clone() }
}

/// The request that reads only the unique values of these leads.
fn lookup(id_property: &str, reads: Vec<ReadInput>) -> Request {
    let properties = vec![id_property.to_owned()];
    let id_property = Some(id_property.to_owned());
    if let [ReadInput { id, .. }] = reads.as_slice()
        && id.fits_url()
    {
        let selection = Selection { properties, ..Selection::default() };
        return Request::Get(GetLead { id: id.clone(), id_property, selection, archived: false });
    }
    Request::BatchRead(BatchRead {
        ids: reads.into_iter().map(|read| read.id).collect(),
        id_property,
        properties,
        properties_with_history: Vec::new(),
        archived: false,
    })
}

fn one_or_many<T: Clone>(
    inputs: Vec<Traced<T>>,
    one: impl FnOnce(Traced<T>) -> Request,
    many: impl FnOnce(Vec<Traced<T>>) -> Request,
) -> Request {
    match inputs.as_slice() {
        [input] => one(input.clone()),
        _ => many(inputs),
    }
}

/// The outcomes of a request about this many leads.
fn outcomes(response: Result<Response, Error>, leads: usize) -> ChunkOutcomes {
    if let Ok(Response::Lead(lead)) = response {
        let lead = Arc::unwrap_or_clone(lead);
        let outcome = Ok(Some(BatchItem { lead, trace_id: None, created: None }));
        return ChunkOutcomes { outcomes: vec![outcome], evaluated: true };
    }
    response.and_then(Response::into_outcomes).unwrap_or_else(|error| {
        let evaluated = rejects_content(&error);
        ChunkOutcomes { outcomes: vec![Err(error); leads], evaluated }
    })
}

#[cfg(test)]
mod tests;
