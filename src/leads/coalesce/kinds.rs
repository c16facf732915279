//! The kinds of writes that can leave together: what is the same for all that do, how each is made
//! alone, and how together.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    group::{Kind, Shared},
    learned::Learned,
    tell::Told,
};
use crate::leads::{
    CallContext, CreateLead, Error, Lead, LeadId, Reason, SideEffect, Traced, UpdateLead,
    UpsertLead, Upstream,
    batch::{self, Fate, Unmentioned, Unsettled},
    upstream::BatchItem,
};

/// About what HubSpot answers of a written lead besides the values: times, URL, warnings.
const OVERHEAD: usize = 2_048;

/// A byte of a value takes at most so many in JSON.
const ESCAPED: usize = 6;

/// Creates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Create;

/// Changes of leads that are named by their record ids, or by the same unique property: one lead that
/// is named in two ways must not stand twice in a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Update {
    id_property: Option<String>,
}

/// Archives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Archive;

/// Upserts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Upsert;

// === impl Create ===

impl Create {
    /// The kind of a create, if its answer can be told from those of others.
    pub(super) fn of(request: &CreateLead, learned: &Learned) -> Option<Self> {
        (learned.create.may_be() || learned.shown.may_tell(request)).then_some(Self)
    }
}

#[async_trait]
impl Kind for Create {
    type Input = CreateLead;
    type Output = Lead;

    fn weight(&self, input: &CreateLead) -> usize {
        weight(&input.properties)
    }

    /// A trace id tells a new lead from another; where none come back, what was written does.
    fn batches(&self, learned: &Learned, inputs: &[&CreateLead]) -> Option<Vec<Option<usize>>> {
        if learned.create.is_sure() {
            return Some(vec![Some(0); inputs.len()]);
        }
        if learned.create.may_be() {
            return None;
        }
        learned.shown.batches(inputs)
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        input: &CreateLead,
    ) -> Result<Lead, Error> {
        upstream.create(call, input).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        inputs: &[CreateLead],
    ) -> Vec<Fate<Lead>> {
        let inputs = traced(inputs);
        let unknown = Unmentioned::OutcomeUnknown;
        if learned.create.is_sure() || inputs.len() == 1 {
            let send = |first: usize, inputs: Vec<Traced<CreateLead>>| async move {
                let call = call.part(first);
                let answer = upstream.batch_create(&call, &inputs).await;
                learned.create.learn(&answer);
                learned.shown.learn(&inputs, &answer);
                answer
            };
            let fates = batch::together(&inputs, unknown, Unsettled::Tell, send).await;
            return fates.into_iter().map(lead).collect();
        }
        // What was known when they left may have changed.
        let Some(told) = learned.shown.told(&inputs) else {
            return inputs.iter().map(|_| Fate::Alone).collect();
        };
        let send = |first: usize, told: Vec<Told>| async move {
            let call = call.part(first);
            let inputs: Vec<_> = told.iter().map(|told| told.input().clone()).collect();
            let answer = upstream.batch_create(&call, &inputs).await;
            learned.create.learn(&answer);
            learned.shown.check(&told, &answer);
            answer
        };
        let fates = batch::together(&told, unknown, Unsettled::Tell, send).await;
        fates.into_iter().map(lead).collect()
    }
}

// === impl Update ===

impl Update {
    /// The kind of a change, if batches can make it and their answer tells whose it is.
    pub(super) fn of(request: &UpdateLead, learned: &Learned) -> Option<Self> {
        let UpdateLead { id, id_property, properties: _ } = request;
        let tells = match id_property.as_deref() {
            None => is_record_id(id),
            Some("hs_object_id") => false,
            // Without a trace id that comes back only a record id tells.
            Some(_) => learned.update.is_sure(),
        };
        tells.then(|| Self { id_property: id_property.clone() })
    }
}

#[async_trait]
impl Kind for Update {
    type Input = UpdateLead;
    type Output = Lead;

    fn weight(&self, input: &UpdateLead) -> usize {
        weight(&input.properties)
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        input: &UpdateLead,
    ) -> Result<Lead, Error> {
        upstream.update(call, input).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        inputs: &[UpdateLead],
    ) -> Vec<Fate<Lead>> {
        let inputs = traced(inputs);
        let send = |first: usize, inputs: Vec<Traced<UpdateLead>>| async move {
            let call = call.part(first);
            let answer = upstream.batch_update(&call, &inputs).await;
            learned.update.learn(&answer);
            answer
        };
        let unknown = Unmentioned::OutcomeUnknown;
        // Full values may be written twice.
        let fates = batch::together(&inputs, unknown, Unsettled::Repeat, send).await;
        let fate = |fate| match lead(fate) {
            // A lead that was merged away may be known by its old id in a single call only.
            Fate::Told(Err(error))
                if error.reason() == Reason::LeadNotFound && self.id_property.is_none() =>
            {
                Fate::Alone
            }
            fate => fate,
        };
        fates.into_iter().map(fate).collect()
    }
}

// === impl Archive ===

impl Archive {
    /// The kind of an archive, if batches can make it.
    pub(super) fn of(id: &LeadId) -> Option<Self> {
        is_record_id(id).then_some(Self)
    }
}

#[async_trait]
impl Kind for Archive {
    type Input = LeadId;
    type Output = ();

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        id: &LeadId,
    ) -> Result<(), Error> {
        upstream.archive(call, id).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        _: &Learned,
        call: &Shared,
        ids: &[LeadId],
    ) -> Vec<Fate<()>> {
        let send = |first: usize, ids: Vec<LeadId>| async move {
            let call = call.part(first);
            upstream.batch_archive(&call, &ids).await
        };
        let fates = batch::together(ids, Unmentioned::Done, Unsettled::Repeat, send).await;
        let fate = |fate| match fate {
            Fate::Told(outcome) => Fate::Told(Result::map(outcome, drop)),
            Fate::Alone => Fate::Alone,
        };
        fates.into_iter().map(fate).collect()
    }
}

// === impl Upsert ===

impl Upsert {
    /// The kind of an upsert, if batches can make it and their answer tells whose it is.
    pub(super) fn of(request: &UpsertLead, learned: &Learned) -> Option<Self> {
        let is_unique = request.id_property.as_deref().is_some_and(|name| name != "hs_object_id");
        (is_unique && learned.upsert.is_sure()).then_some(Self)
    }
}

#[async_trait]
impl Kind for Upsert {
    type Input = UpsertLead;
    type Output = BatchItem;

    fn weight(&self, input: &UpsertLead) -> usize {
        weight(&input.properties)
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &CallContext,
        input: &UpsertLead,
    ) -> Result<BatchItem, Error> {
        let inputs = traced(std::slice::from_ref(input));
        let send = |_, inputs: Vec<Traced<UpsertLead>>| async move {
            upstream.batch_upsert(call, &inputs).await
        };
        let done = batch::run(&inputs, 1, 1, Unmentioned::OutcomeUnknown, send).await?;
        done.into_iter().next().unwrap_or_else(|| Err(lost()))?.ok_or_else(lost)
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        learned: &Learned,
        call: &Shared,
        inputs: &[UpsertLead],
    ) -> Vec<Fate<BatchItem>> {
        let inputs = traced(inputs);
        let send = |first: usize, inputs: Vec<Traced<UpsertLead>>| async move {
            let call = call.part(first);
            let answer = upstream.batch_upsert(&call, &inputs).await;
            learned.upsert.learn(&answer);
            answer
        };
        let unknown = Unmentioned::OutcomeUnknown;
        // A second one would say that the lead was there before.
        let fates = batch::together(&inputs, unknown, Unsettled::Tell, send).await;
        fates.into_iter().map(item).collect()
    }
}

/// Whether it is written as HubSpot writes record ids: one that is not is found all the same, and
/// answered in HubSpot's way.
pub(super) fn is_record_id(id: &LeadId) -> bool {
    let id = id.as_str();
    id.bytes().all(|digit| digit.is_ascii_digit()) && !id.starts_with('0')
}

fn weight(properties: &BTreeMap<String, String>) -> usize {
    let values = properties.iter().map(|(name, value)| name.len() + value.len() * ESCAPED);
    OVERHEAD + values.sum::<usize>()
}

/// The inputs with trace ids of their own.
fn traced<T: Clone>(inputs: &[T]) -> Vec<Traced<T>> {
    let trace = |input: &T| Traced { trace_id: Uuid::new_v4().to_string(), input: input.clone() };
    inputs.iter().map(trace).collect()
}

fn item(fate: Fate<Option<BatchItem>>) -> Fate<BatchItem> {
    match fate {
        Fate::Told(outcome) => Fate::Told(outcome.and_then(|item| item.ok_or_else(lost))),
        Fate::Alone => Fate::Alone,
    }
}

fn lead(fate: Fate<Option<BatchItem>>) -> Fate<Lead> {
    match item(fate) {
        Fate::Told(outcome) => Fate::Told(outcome.map(|item| item.lead)),
        Fate::Alone => Fate::Alone,
    }
}

fn lost() -> Error {
    Error::new(Reason::Internal, "the service lost track of an input")
        .with_side_effect(SideEffect::Possible)
}
