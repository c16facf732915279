//! Plans upserts: which leads to look up, to update and to create, until each input has an outcome.
//!
//! HubSpot's upsert takes no associations, and a new lead needs a contact. So leadsd looks the leads up
//! by their unique values, updates those that exist and creates the others. Another client may create
//! or archive a lead in between, and the response to a create may be lost. Such inputs are looked up
//! again in another round: the unique property keeps a second create from making a second lead.
//!
//! [`UpsertPlan`] is a state machine without I/O; the pipeline sends its requests.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::{
    batch::ReadInput,
    error::{Error, FieldFault, Reason, SideEffect},
    lead::Lead,
    memory::memory_of,
    query::LeadId,
    request::{BatchItem, Outcome},
    write::{Association, CreateLead, LEAD_NAME, Traced, UpdateLead, UpsertLead},
};

/// Maximum number of rounds. A round leaves an input open only if the lead appeared or disappeared
/// after its lookup, or if the response to its create was lost.
const MAX_ROUNDS: u32 = 4;

/// Pause before the second round; it doubles with each round. A create in progress at HubSpot completes
/// in that time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// `RetryInfo` of an upsert whose outcome stays unknown: a repeat is safe.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Upserts of one request, with what is known about each.
#[derive(Debug)]
pub struct UpsertPlan {
    inputs: Vec<Traced<UpsertLead>>,
    states: Vec<State>,
    /// True for the inputs of which the outcome of a create was unknown.
    was_lost: Vec<bool>,
    round: u32,
    /// Estimated memory of the results.
    result_bytes: usize,
}

/// Progress of one input.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "every state ends as the largest one")]
enum State {
    /// The lead has to be looked up.
    Open(Cause),
    /// The lead exists.
    Found { id: LeadId, key: Option<String> },
    /// The lead does not exist and can be created.
    Missing(Box<CreateLead>),
    /// The outcome is known, or stays unknown.
    Done(Outcome),
}

/// Cause of a lookup.
#[derive(Debug, Clone)]
enum Cause {
    /// First lookup of the input.
    Start,
    /// A unique value of the create belongs to another lead, perhaps that of the key.
    Clash(Error),
    /// HubSpot rejected a batch with the create, without naming the input that its error is about.
    Unattributed(Error),
    /// The outcome of the create is unknown.
    Lost(Error),
    /// The update did not find the lead that the lookup had found.
    Vanished(Error),
}

/// Writes of one round, each with the index of its input.
#[derive(Debug, Default)]
pub struct Writes {
    /// Updates of leads that exist, by record id.
    pub updates: Vec<(usize, Traced<UpdateLead>)>,
    /// Creates of leads that do not exist.
    pub creates: Vec<(usize, Traced<CreateLead>)>,
}

// === impl UpsertPlan ===

impl UpsertPlan {
    /// Starts a plan. No two inputs may name the same lead.
    pub fn new(inputs: Vec<Traced<UpsertLead>>) -> Self {
        let state = |input: &Traced<UpsertLead>| match input.input.id_property {
            Some(_) => State::Open(Cause::Start),
            None => State::Found { id: input.input.id.clone(), key: None },
        };
        let states = inputs.iter().map(state).collect();
        let was_lost = vec![false; inputs.len()];
        Self { inputs, states, was_lost, round: 0, result_bytes: 0 }
    }

    /// Begins a round. Returns the pause before it, or `None` if every input has an outcome or the last
    /// round is over.
    pub fn next_round(&mut self) -> Option<Duration> {
        let is_open = |state: &State| !matches!(state, State::Done(_));
        if self.round == MAX_ROUNDS || !self.states.iter().any(is_open) {
            return None;
        }
        self.round += 1;
        let is_lost = |state: &State| matches!(state, State::Open(Cause::Lost(_)));
        let waits = self.round > 2 || self.states.iter().any(is_lost);
        Some(if waits && self.round > 1 {
            FIRST_PAUSE * 2_u32.pow(self.round - 2)
        } else {
            Duration::ZERO
        })
    }

    /// True in the first round: inputs of a batch that HubSpot rejects without naming one are looked up again
    /// in the next one.
    pub fn is_first_round(&self) -> bool {
        self.round == 1
    }

    /// The leads to look up, by unique property, each with the index of its input.
    pub fn lookups(&self) -> BTreeMap<&str, Vec<(usize, ReadInput)>> {
        let mut lookups: BTreeMap<&str, Vec<(usize, ReadInput)>> = BTreeMap::new();
        for (index, (input, state)) in self.inputs.iter().zip(&self.states).enumerate() {
            let UpsertLead { id, id_property, .. } = &input.input;
            if let (State::Open(_), Some(id_property)) = (state, id_property) {
                let read = ReadInput { id: id.clone(), id_property: Some(id_property.clone()) };
                lookups.entry(id_property).or_default().push((index, read));
            }
        }
        lookups
    }

    /// Takes the outcome of a lookup.
    pub fn looked_up(&mut self, index: usize, outcome: Outcome) {
        let State::Open(cause) = &self.states[index] else { return };
        let cause = cause.clone();
        let input = &self.inputs[index].input;
        let state = match outcome {
            Ok(Some(item)) => match LeadId::parse(&item.lead.id) {
                Ok(id) => {
                    let key = input.id_property.as_ref();
                    let key = key.and_then(|name| item.lead.properties.get(name).cloned());
                    State::Found { id, key }
                }
                Err(_) => State::Done(Err(no_record_id())),
            },
            Ok(None) => State::Done(Err(no_record_id())),
            Err(error) if error.reason() == Reason::LeadNotFound => match cause {
                // The conflict is about another unique property.
                Cause::Clash(error) => State::Done(Err(error)),
                Cause::Start | Cause::Unattributed(_) | Cause::Lost(_) | Cause::Vanished(_) => {
                    match new_lead(input) {
                        Ok(create) => State::Missing(Box::new(create)),
                        Err(error) => State::Done(Err(error)),
                    }
                }
            },
            Err(error) => State::Done(Err(match cause {
                Cause::Lost(lost) => unresolved(lost, Some(&error)),
                Cause::Start | Cause::Clash(_) | Cause::Unattributed(_) | Cause::Vanished(_) => {
                    error
                }
            })),
        };
        self.set(index, state);
    }

    /// The writes that the lookups call for.
    pub fn writes(&mut self) -> Writes {
        let mut writes = Writes::default();
        let mut ids = HashSet::new();
        for index in 0..self.inputs.len() {
            let Traced { trace_id, input } = &self.inputs[index];
            match &self.states[index] {
                State::Found { id, .. } if !ids.insert(id.as_str().to_owned()) => {
                    let description = "names the same lead as another input";
                    let fault = vec![FieldFault::new("id", description)];
                    self.set(index, State::Done(Err(Error::invalid(fault))));
                }
                State::Found { id, key } if input.properties.is_empty() => {
                    let lead = Lead { id: id.to_string(), ..Lead::default() };
                    let item = BatchItem { lead, trace_id: None, created: self.not_created(index) };
                    let item = with_key(item, input, key.as_deref());
                    self.set(index, State::Done(Ok(Some(item))));
                }
                State::Found { id, .. } => {
                    let update = UpdateLead {
                        id: id.clone(),
                        id_property: None,
                        properties: input.properties.clone(),
                        trace_id: None,
                    };
                    let update = Traced { trace_id: trace_id.clone(), input: update };
                    writes.updates.push((index, update));
                }
                State::Missing(create) => {
                    let input = (**create).clone();
                    let create = Traced { trace_id: trace_id.clone(), input };
                    writes.creates.push((index, create));
                }
                State::Open(_) | State::Done(_) => {}
            }
        }
        writes
    }

    /// Takes the outcome of an update.
    pub fn updated(&mut self, index: usize, outcome: Outcome) {
        let State::Found { key, .. } = &self.states[index] else { return };
        let input = &self.inputs[index].input;
        let state = match outcome {
            Ok(Some(item)) => {
                let created = self.not_created(index);
                let item = with_key(BatchItem { created, ..item }, input, key.as_deref());
                State::Done(Ok(Some(item)))
            }
            Err(error) if error.reason() == Reason::LeadNotFound && input.id_property.is_some() => {
                State::Open(Cause::Vanished(error))
            }
            outcome => State::Done(outcome),
        };
        self.set(index, state);
    }

    /// Takes the outcome of a create.
    pub fn created(&mut self, index: usize, outcome: Outcome) {
        let state = match outcome {
            Ok(Some(item)) => State::Done(Ok(Some(BatchItem { created: Some(true), ..item }))),
            Err(error) if error.side_effect() == SideEffect::Possible => {
                self.was_lost[index] = true;
                State::Open(Cause::Lost(error))
            }
            Err(error) if error.reason() == Reason::AlreadyExists => {
                State::Open(Cause::Clash(error))
            }
            // The lookups of the second round find the leads that exist. The search finds the others.
            Err(error) if error.reason() == Reason::BatchRejected && self.is_first_round() => {
                State::Open(Cause::Unattributed(error))
            }
            outcome => State::Done(outcome),
        };
        self.set(index, state);
    }

    /// False for a lead that existed before the upsert. `None` if the response to its create was lost: another
    /// client may have created the lead at the same time.
    fn not_created(&self, index: usize) -> Option<bool> {
        (!self.was_lost[index]).then_some(false)
    }

    /// Estimated memory of the results so far, in bytes.
    pub fn result_bytes(&self) -> usize {
        self.result_bytes
    }

    /// The outcomes, in input order.
    pub fn into_outcomes(self) -> Vec<Outcome> {
        let outcome = |state| match state {
            State::Done(outcome) => outcome,
            State::Open(Cause::Lost(error)) => Err(unresolved(error, None)),
            State::Open(
                Cause::Clash(error) | Cause::Unattributed(error) | Cause::Vanished(error),
            ) => Err(error),
            State::Open(Cause::Start) | State::Found { .. } | State::Missing(_) => {
                Err(no_outcome())
            }
        };
        self.states.into_iter().map(outcome).collect()
    }

    fn set(&mut self, index: usize, state: State) {
        if let State::Done(Ok(Some(item))) = &state {
            self.result_bytes += memory_of(&item.lead);
        }
        self.states[index] = state;
    }
}

/// The lead to create if none has the unique value. Errors if HubSpot's requirements of a new lead are
/// not met.
fn new_lead(upsert: &UpsertLead) -> Result<CreateLead, Error> {
    let UpsertLead { id, id_property, properties, associations, contact } = upsert;
    let Some(id_property) = id_property else { return Err(Error::lead_not_found()) };
    let mut faults = Vec::new();
    if contact.is_none() && !associations.iter().any(Association::may_name_contact) {
        let description = "is required, or an association with a contact: the lead does not exist, \
                           and a new lead needs a contact";
        faults.push(FieldFault::new("primary_contact_id", description));
    }
    if properties.get(LEAD_NAME).is_none_or(|name| name.trim().is_empty()) {
        let field = format!("properties[\"{LEAD_NAME}\"]");
        let description = "is required: the lead does not exist, and a new lead needs a name";
        faults.push(FieldFault::new(field, description));
    }
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    let mut properties = properties.clone();
    properties.entry(id_property.clone()).or_insert_with(|| id.to_string());
    let (associations, contact) = (associations.clone(), contact.clone());
    Ok(CreateLead { properties, associations, contact, trace_id: None })
}

/// Adds the unique value to the lead, which HubSpot returns only if it is written.
fn with_key(mut item: BatchItem, input: &UpsertLead, key: Option<&str>) -> BatchItem {
    if let (Some(name), Some(key)) = (&input.id_property, key) {
        item.lead.properties.entry(name.clone()).or_insert_with(|| key.to_owned());
    }
    item
}

/// The error of a create whose outcome stays unknown. A repeat of the upsert finds the lead, if it
/// exists.
fn unresolved(lost: Error, cause: Option<&Error>) -> Error {
    let stated = cause.and_then(Error::retry_after).or_else(|| lost.retry_after());
    let text = "HubSpot may have created the lead; repeat the upsert, which is safe";
    let unknown = Error::new(Reason::WriteOutcomeUnknown, text)
        .with_side_effect(SideEffect::Possible)
        .with_upstream(lost.upstream().clone())
        .with_retry_after(stated.unwrap_or_default().max(RETRY_AFTER));
    match cause {
        Some(cause) => unknown.with_internal(cause.to_string()),
        None => unknown,
    }
}

fn no_record_id() -> Error {
    Error::new(Reason::UpstreamInvalidResponse, "HubSpot's response has no valid lead id")
}

fn no_outcome() -> Error {
    Error::new(Reason::Internal, "internal error: an upsert has no outcome")
        .with_side_effect(SideEffect::Possible)
}

#[cfg(test)]
mod tests;
