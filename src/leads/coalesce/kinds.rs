//! The five kinds of calls that can leave together: what is the same for all that do, how each is
//! made alone, and how together.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use uuid::Uuid;

use super::{echo::Kinds, group::Kind};
use crate::leads::{
    BatchRead, Call, CreateLead, Error, GetLead, Lead, LeadId, Processed, Reason, Selection,
    Traced, UpdateLead, UpsertLead, Upstream,
    batch::{self, Outcome, Unmentioned},
    inputs::ReadInput,
    service::{DEFAULT_PROPERTIES, MAX_CHUNK_WITH_HISTORY},
    upstream::BatchItem,
};

/// Longest list of property names, in bytes, of a read that may leave with others: one that is too
/// long for a URL must fail alone and together alike.
const MAX_NAMES: usize = 2_000;

/// Reads of one selection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Get {
    id_property: Option<String>,
    selection: Selection,
    archived: bool,
}

/// Creates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Create;

/// Changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Update;

/// Archives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Archive;

/// Upserts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Upsert;

// === impl Get ===

impl Get {
    /// The kind of a read, if batches can read it.
    pub(super) fn of(request: &GetLead) -> Option<Self> {
        let GetLead { id: _, id_property, selection, archived } = request;
        let names = selection.properties.iter().chain(&selection.properties_with_history);
        let length: usize = names.map(|name| name.len() + 1).sum();
        if !selection.associations.is_empty() || length > MAX_NAMES {
            return None;
        }
        Some(Self {
            id_property: id_property.clone(),
            selection: selection.clone(),
            archived: *archived,
        })
    }

    /// The properties to ask for, and whether the unique one is among them only to find the lead
    /// again.
    fn properties(&self) -> (Vec<String>, bool) {
        let mut properties = self.selection.properties.clone();
        let Some(id_property) = &self.id_property else { return (properties, false) };
        if properties.is_empty() && self.selection.properties_with_history.is_empty() {
            properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
        }
        let asked = properties.iter().chain(&self.selection.properties_with_history);
        if asked.clone().any(|name| name == id_property) {
            return (properties, false);
        }
        properties.push(id_property.clone());
        (properties, true)
    }
}

#[async_trait]
impl Kind for Get {
    type Input = LeadId;
    type Output = Lead;

    fn most(&self) -> usize {
        match self.selection.properties_with_history.is_empty() {
            true => batch::MAX_CHUNK,
            false => MAX_CHUNK_WITH_HISTORY,
        }
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &Call,
        id: &LeadId,
    ) -> Result<Lead, Error> {
        let request = GetLead {
            id: id.clone(),
            id_property: self.id_property.clone(),
            selection: self.selection.clone(),
            archived: self.archived,
        };
        upstream.get(call, &request).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        _: &Kinds,
        call: &Call,
        ids: &[LeadId],
    ) -> Vec<Result<Lead, Error>> {
        let (properties, added) = self.properties();
        let (distinct, positions) = distinct(ids, self.id_property.is_some());
        let inputs: Vec<ReadInput> = distinct
            .into_iter()
            .map(|id| ReadInput { id, id_property: self.id_property.clone() })
            .collect();
        let send = |inputs: Vec<ReadInput>| {
            let request = BatchRead {
                ids: inputs.into_iter().map(|input| input.id).collect(),
                id_property: self.id_property.clone(),
                properties: properties.clone(),
                properties_with_history: self.selection.properties_with_history.clone(),
                archived: self.archived,
            };
            async move { upstream.batch_read(call, &request).await }
        };
        let done = batch::run(&inputs, self.most(), 1, Unmentioned::NotFound, send).await;
        let outcomes = each(done, inputs.len());
        let lead = |position: usize| -> Result<Lead, Error> {
            let mut lead = item(outcomes[position].clone())?.lead;
            if added && let Some(id_property) = &self.id_property {
                lead.properties.remove(id_property);
            }
            Ok(lead)
        };
        positions.into_iter().map(lead).collect()
    }

    /// A lead that was merged away is answered with the id of the one it became, or not at all: a
    /// single read of its record id finds it.
    fn must_go_alone(&self, error: &Error) -> bool {
        match error.reason() {
            Reason::BatchRefused | Reason::UpstreamUnintelligible => true,
            Reason::LeadNotFound => self.id_property.is_none(),
            _ => false,
        }
    }
}

// === impl Create ===

#[async_trait]
impl Kind for Create {
    type Input = CreateLead;
    type Output = Lead;

    /// Only a trace id tells a new lead from another.
    fn tells_apart(&self, echoes: &Kinds) -> bool {
        echoes.create.is_sure()
    }

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &Call,
        input: &CreateLead,
    ) -> Result<Lead, Error> {
        upstream.create(call, input).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        echoes: &Kinds,
        call: &Call,
        inputs: &[CreateLead],
    ) -> Vec<Result<Lead, Error>> {
        let inputs = traced(inputs);
        let send = |inputs: Vec<Traced<CreateLead>>| async move {
            let answer = upstream.batch_create(call, &inputs).await;
            echoes.create.learn(&answer);
            answer
        };
        let unmentioned = Unmentioned::OutcomeUnknown;
        let done = batch::run(&inputs, batch::MAX_CHUNK, 1, unmentioned, send).await;
        each(done, inputs.len()).into_iter().map(|outcome| Ok(item(outcome)?.lead)).collect()
    }
}

// === impl Update ===

#[async_trait]
impl Kind for Update {
    type Input = UpdateLead;
    type Output = Lead;

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &Call,
        input: &UpdateLead,
    ) -> Result<Lead, Error> {
        upstream.update(call, input).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        echoes: &Kinds,
        call: &Call,
        inputs: &[UpdateLead],
    ) -> Vec<Result<Lead, Error>> {
        let inputs = traced(inputs);
        let send = |inputs: Vec<Traced<UpdateLead>>| async move {
            let answer = upstream.batch_update(call, &inputs).await;
            echoes.update.learn(&answer);
            answer
        };
        let unmentioned = Unmentioned::OutcomeUnknown;
        let done = batch::run(&inputs, batch::MAX_CHUNK, 1, unmentioned, send).await;
        each(done, inputs.len()).into_iter().map(|outcome| Ok(item(outcome)?.lead)).collect()
    }

    /// Full values may be written twice, so an answer that cannot be matched is asked for again.
    fn must_go_alone(&self, error: &Error) -> bool {
        matches!(error.reason(), Reason::BatchRefused | Reason::WriteOutcomeUnknown)
    }
}

// === impl Archive ===

#[async_trait]
impl Kind for Archive {
    type Input = LeadId;
    type Output = ();

    async fn alone(&self, upstream: &dyn Upstream, call: &Call, id: &LeadId) -> Result<(), Error> {
        upstream.archive(call, id).await
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        _: &Kinds,
        call: &Call,
        ids: &[LeadId],
    ) -> Vec<Result<(), Error>> {
        let send = |ids: Vec<LeadId>| async move { upstream.batch_archive(call, &ids).await };
        let done = batch::run(ids, batch::MAX_CHUNK, 1, Unmentioned::Done, send).await;
        each(done, ids.len()).into_iter().map(|outcome| outcome.map(drop)).collect()
    }

    /// As with changes.
    fn must_go_alone(&self, error: &Error) -> bool {
        matches!(error.reason(), Reason::BatchRefused | Reason::WriteOutcomeUnknown)
    }
}

// === impl Upsert ===

#[async_trait]
impl Kind for Upsert {
    type Input = UpsertLead;
    type Output = BatchItem;

    async fn alone(
        &self,
        upstream: &dyn Upstream,
        call: &Call,
        input: &UpsertLead,
    ) -> Result<BatchItem, Error> {
        let inputs = traced(std::slice::from_ref(input));
        let send = |inputs: Vec<Traced<UpsertLead>>| async move {
            upstream.batch_upsert(call, &inputs).await
        };
        let done = batch::run(&inputs, 1, 1, Unmentioned::OutcomeUnknown, send).await?;
        done.into_iter().next().map_or_else(|| Err(lost()), item)
    }

    async fn together(
        &self,
        upstream: &Arc<dyn Upstream>,
        echoes: &Kinds,
        call: &Call,
        inputs: &[UpsertLead],
    ) -> Vec<Result<BatchItem, Error>> {
        let inputs = traced(inputs);
        let send = |inputs: Vec<Traced<UpsertLead>>| async move {
            let answer = upstream.batch_upsert(call, &inputs).await;
            echoes.upsert.learn(&answer);
            answer
        };
        let unmentioned = Unmentioned::OutcomeUnknown;
        let done = batch::run(&inputs, batch::MAX_CHUNK, 1, unmentioned, send).await;
        each(done, inputs.len()).into_iter().map(item).collect()
    }
}

/// The inputs with trace ids of their own.
fn traced<T: Clone>(inputs: &[T]) -> Vec<Traced<T>> {
    let trace = |input: &T| Traced { trace_id: Uuid::new_v4().to_string(), input: input.clone() };
    inputs.iter().map(trace).collect()
}

/// What came of each input; what is true of the whole batch is true of each.
fn each(done: Result<Vec<Outcome>, Error>, inputs: usize) -> Vec<Outcome> {
    done.unwrap_or_else(|error| vec![Err(error); inputs])
}

fn item(outcome: Outcome) -> Result<BatchItem, Error> {
    outcome?.ok_or_else(lost)
}

fn lost() -> Error {
    Error::new(Reason::Internal, "the service lost track of an input")
        .with_processed(Processed::Maybe)
}

/// The different ids, and for each given one where it stands among them. Unique values differ only
/// if they do so without regard to case.
fn distinct(ids: &[LeadId], are_values: bool) -> (Vec<LeadId>, Vec<usize>) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let name = if are_values { id.as_str().to_lowercase() } else { id.as_str().to_owned() };
        let position = *seen.entry(name).or_insert_with(|| {
            distinct.push(id.clone());
            distinct.len() - 1
        });
        positions.push(position);
    }
    (distinct, positions)
}
