//! The writes that can be batched: how each is sent individually, and how as a batch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use leadsd_quota::Permit;
use uuid::Uuid;

use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    correlate::CorrelatedCreate,
    merged::{form, send_merged},
    op::BatchableOp,
    partition::Partition,
    reread,
};
use crate::{
    hubspot::Operation,
    leads::{
        BatchItem, CallContext, CreateLead, Error, Lead, LeadId, Reason, Request, SideEffect,
        Traced, UpdateLead, batch::ItemOutcome,
    },
    pipeline::{Dispatch, Layer},
};

/// Estimated size of HubSpot's response about a written lead besides its values: times, URL,
/// warnings.
const RESPONSE_OVERHEAD: usize = 2_048;

/// Maximum number of bytes that one byte of a value takes in JSON.
const JSON_ESCAPE: usize = 6;

/// Maximum number of updates of a batch that are sent individually after a read showed that they have not
/// taken effect. More of them are sent as one batch.
const MAX_INDIVIDUAL: usize = 2;

/// Creates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CreateBatch;

/// Updates of leads that are named by their record ids, or by the same unique property: a lead that
/// is named in two ways must not occur twice in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UpdateBatch {
    id_property: Option<String>,
}

/// Archives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ArchiveBatch;

// === impl CreateBatch ===

impl CreateBatch {
    /// The kind of a create, if its result can be distinguished from others.
    pub(super) fn batchable(
        request: &CreateLead,
        capabilities: &PortalCapabilities,
    ) -> Option<Self> {
        let is_batchable = capabilities.create.is_possible()
            || capabilities.echoed_properties.may_distinguish(request);
        is_batchable.then_some(Self)
    }
}

impl<L: Layer> BatchableOp<L> for CreateBatch {
    type Input = CreateLead;
    type Output = Lead;

    fn response_bytes(&self, input: &CreateLead) -> usize {
        response_bytes(&input.properties)
    }

    /// A trace id distinguishes a new lead from others. Where HubSpot omits it, written values do.
    fn partition(&self, capabilities: &PortalCapabilities, inputs: &[&CreateLead]) -> Partition {
        if capabilities.create.is_confirmed() {
            return Partition::known(vec![Some(0); inputs.len()]);
        }
        if capabilities.create.is_possible() {
            return Partition::unknown(inputs.len());
        }
        capabilities.echoed_properties.partition(inputs)
    }

    fn observe(
        &self,
        capabilities: &PortalCapabilities,
        input: &CreateLead,
        result: &Result<Lead, Error>,
    ) {
        if let Ok(lead) = result {
            capabilities.echoed_properties.observe_lead(input, lead);
        }
    }

    async fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        input: &CreateLead,
        dispatch: Dispatch,
    ) -> Result<Lead, Error> {
        inner
            .call(ctx, Arc::new(Request::Create(input.clone())), dispatch)
            .await?
            .into_lead()
            .map(Arc::unwrap_or_clone)
    }

    async fn send_batch(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        inputs: &[CreateLead],
        mut permit: Option<Permit>,
    ) -> Vec<ItemOutcome<Lead>> {
        let inputs = traced(inputs, |input| input.trace_id.as_ref());
        let form = form(Operation::BatchCreate);
        if capabilities.create.is_confirmed() || inputs.len() == 1 {
            let outcomes = send_merged(ctx, ctx.owners(), &inputs, form, |first, inputs| {
                let (ctx, dispatch) = (ctx.part(first), ctx.dispatch(permit.take()));
                async move {
                    let request = Arc::new(Request::BatchCreate(inputs));
                    let result = inner.call(&ctx, Arc::clone(&request), dispatch).await;
                    capabilities.observe(&request, &result);
                    result?.into_batch()
                }
            });
            return outcomes.await.into_iter().map(lead).collect();
        }
        // The capability may have changed since the requests were dispatched.
        let Some(correlated) = capabilities.echoed_properties.correlate(&inputs) else {
            return inputs.iter().map(|_| ItemOutcome::RetryAlone).collect();
        };
        let outcomes = send_merged(
            ctx,
            ctx.owners(),
            &correlated,
            form,
            |first, inputs: Vec<CorrelatedCreate>| {
                let (ctx, dispatch) = (ctx.part(first), ctx.dispatch(permit.take()));
                async move {
                    let creates = inputs.iter().map(|input| input.input().clone()).collect();
                    let request = Arc::new(Request::BatchCreate(creates));
                    let result = inner.call(&ctx, Arc::clone(&request), dispatch).await;
                    capabilities.create.observe(&result);
                    capabilities.echoed_properties.verify(&inputs, &result);
                    result?.into_batch()
                }
            },
        );
        outcomes.await.into_iter().map(lead).collect()
    }
}

// === impl UpdateBatch ===

impl UpdateBatch {
    /// The kind of an update, if a batch can make it and its result can be matched.
    pub(super) fn batchable(
        request: &UpdateLead,
        capabilities: &PortalCapabilities,
    ) -> Option<Self> {
        let UpdateLead { id, id_property, properties: _, trace_id: _ } = request;
        let is_batchable = match id_property.as_deref() {
            None => is_record_id(id),
            // Without a trace id only a record id identifies the result.
            Some(_) => capabilities.update.is_confirmed(),
        };
        is_batchable.then(|| Self { id_property: id_property.clone() })
    }
}

impl<L: Layer> BatchableOp<L> for UpdateBatch {
    type Input = UpdateLead;
    type Output = Lead;

    fn response_bytes(&self, input: &UpdateLead) -> usize {
        response_bytes(&input.properties)
    }

    /// HubSpot rejects a batch that names a lead twice. Writes to one lead are ordered, but an upsert
    /// and an update may name the same lead in different ways.
    fn partition(&self, _: &PortalCapabilities, inputs: &[&UpdateLead]) -> Partition {
        let mut seen: HashMap<&LeadId, usize> = HashMap::with_capacity(inputs.len());
        let mut batches = Vec::with_capacity(inputs.len());
        for input in inputs {
            let times = seen.entry(&input.id).or_default();
            batches.push(Some(*times));
            *times += 1;
        }
        Partition::known(batches)
    }

    async fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        input: &UpdateLead,
        dispatch: Dispatch,
    ) -> Result<Lead, Error> {
        inner
            .call(ctx, Arc::new(Request::Update(input.clone())), dispatch)
            .await?
            .into_lead()
            .map(Arc::unwrap_or_clone)
    }

    async fn send_batch(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        inputs: &[UpdateLead],
        mut permit: Option<Permit>,
    ) -> Vec<ItemOutcome<Lead>> {
        let inputs = traced(inputs, |input| input.trace_id.as_ref());
        let form = form(Operation::BatchUpdate);
        let mut send = |first: usize, inputs: Vec<Traced<UpdateLead>>| {
            let (ctx, dispatch) = (ctx.part(first), ctx.dispatch(permit.take()));
            async move {
                let request = Arc::new(Request::BatchUpdate(inputs));
                let result = inner.call(&ctx, Arc::clone(&request), dispatch).await;
                capabilities.observe(&request, &result);
                result?.into_batch()
            }
        };
        let outcomes = send_merged(ctx, ctx.owners(), &inputs, form, &mut send).await;
        let mut outcomes: Vec<_> = outcomes.into_iter().map(lead).collect();
        let open = reread::resolve_unmatched(inner, ctx, &inputs, &mut outcomes).await;
        if open.len() > MAX_INDIVIDUAL {
            let again: Vec<_> = open.iter().map(|&index| inputs[index].clone()).collect();
            let owners: Vec<_> = open.iter().map(|&index| ctx.owners()[index]).collect();
            let send = |first: usize, inputs| send(open[first], inputs);
            let found = send_merged(ctx, &owners, &again, form, send).await;
            for (&index, outcome) in open.iter().zip(found) {
                outcomes[index] = lead(outcome);
            }
        }
        let outcome = |(outcome, input): (_, &Traced<UpdateLead>)| match outcome {
            // The old id of a merged lead may be known to an individual request only. An update does not
            // tell that a read finds no lead.
            ItemOutcome::Resolved(Err(error))
                if error.reason() == Reason::LeadNotFound
                    && self.id_property.is_none()
                    && !capabilities.not_found.contains(false, &input.input.id) =>
            {
                ItemOutcome::RetryAlone
            }
            outcome @ (ItemOutcome::Resolved(_)
            | ItemOutcome::RetryAlone
            | ItemOutcome::RetryApart) => outcome,
        };
        outcomes.into_iter().zip(&inputs).map(outcome).collect()
    }
}

// === impl ArchiveBatch ===

impl ArchiveBatch {
    /// The kind of an archive, if a batch can make it.
    pub(super) fn batchable(id: &LeadId) -> Option<Self> {
        is_record_id(id).then_some(Self)
    }
}

impl<L: Layer> BatchableOp<L> for ArchiveBatch {
    type Input = LeadId;
    type Output = ();

    async fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        id: &LeadId,
        dispatch: Dispatch,
    ) -> Result<(), Error> {
        inner.call(ctx, Arc::new(Request::Archive(id.clone())), dispatch).await.map(drop)
    }

    async fn send_batch(
        &self,
        inner: &L,
        _: &PortalCapabilities,
        ctx: &BatchContext,
        ids: &[LeadId],
        mut permit: Option<Permit>,
    ) -> Vec<ItemOutcome<()>> {
        let form = form(Operation::BatchArchive);
        let outcomes = send_merged(ctx, ctx.owners(), ids, form, |first, ids| {
            let (ctx, dispatch) = (ctx.part(first), ctx.dispatch(permit.take()));
            let request = Arc::new(Request::BatchArchive(ids));
            async move { inner.call(&ctx, request, dispatch).await?.into_batch() }
        });
        let outcome = |outcome| match outcome {
            ItemOutcome::Resolved(outcome) => ItemOutcome::Resolved(Result::map(outcome, drop)),
            ItemOutcome::RetryAlone => ItemOutcome::RetryAlone,
            ItemOutcome::RetryApart => ItemOutcome::RetryApart,
        };
        outcomes.await.into_iter().map(outcome).collect()
    }
}

/// True if the id has the spelling of HubSpot's record ids. Other spellings of a number are found
/// as well, but returned in HubSpot's spelling.
pub(super) fn is_record_id(id: &LeadId) -> bool {
    let id = id.as_str();
    id.bytes().all(|digit| digit.is_ascii_digit()) && !id.starts_with('0')
}

fn response_bytes(properties: &BTreeMap<String, String>) -> usize {
    let values = properties.iter().map(|(name, value)| name.len() + value.len() * JSON_ESCAPE);
    RESPONSE_OVERHEAD + values.sum::<usize>()
}

/// The inputs with their `own` trace ids. An input without one, or whose caller uses the one of another
/// caller, has a new one.
fn traced<T: Clone>(inputs: &[T], own: impl Fn(&T) -> Option<&String>) -> Vec<Traced<T>> {
    let mut used = HashSet::new();
    let mut traced = Vec::with_capacity(inputs.len());
    for input in inputs {
        let own = own(input).filter(|id| used.insert(id.as_str()));
        let trace_id = own.map_or_else(|| Uuid::new_v4().to_string(), String::clone);
        traced.push(Traced { trace_id, input: input.clone() });
    }
    traced
}

fn item(outcome: ItemOutcome<Option<BatchItem>>) -> ItemOutcome<BatchItem> {
    match outcome {
        ItemOutcome::Resolved(result) => {
            ItemOutcome::Resolved(result.and_then(|item| item.ok_or_else(lost)))
        }
        ItemOutcome::RetryAlone => ItemOutcome::RetryAlone,
        ItemOutcome::RetryApart => ItemOutcome::RetryApart,
    }
}

fn lead(outcome: ItemOutcome<Option<BatchItem>>) -> ItemOutcome<Lead> {
    match item(outcome) {
        ItemOutcome::Resolved(result) => ItemOutcome::Resolved(result.map(|item| item.lead)),
        ItemOutcome::RetryAlone => ItemOutcome::RetryAlone,
        ItemOutcome::RetryApart => ItemOutcome::RetryApart,
    }
}

fn lost() -> Error {
    Error::new(Reason::Internal, "internal error: an input has no outcome")
        .with_side_effect(SideEffect::Possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_keeps_its_trace_id_unless_another_caller_uses_it() {
        let inputs = [Some("t".to_owned()), None, Some("t".to_owned()), Some("u".to_owned())];
        let traced = traced(&inputs, Option::as_ref);
        let ids: Vec<&str> = traced.iter().map(|input| input.trace_id.as_str()).collect();
        assert_eq!((ids[0], ids[3]), ("t", "u"));
        let distinct: HashSet<&str> = ids.iter().copied().collect();
        assert_eq!(distinct.len(), 4, "{ids:?}");
        assert!(traced.iter().map(|input| &input.input).eq(&inputs));
    }
}
