//! Matches HubSpot's response to a batch with the inputs of the batch.
//!
//! Results and errors name their input in three ways, which are tried in this order: the trace id of
//! the input, its record id or unique value, and the values that it wrote. The position in the
//! response is never used, because HubSpot guarantees no order.
//!
//! Several reads may name one lead: by the ids of leads that were merged, or by one unique value in
//! different case. Each of them gets the lead. A write never shares its result.

mod affected;
mod by_identity;
mod by_values;

use self::affected::affected_inputs;
pub(super) use self::{
    affected::{is_affected, is_named, split_by_error},
    by_values::{may_be_one_of_results, may_be_result},
};
use super::input::BatchInput;
use crate::leads::{
    error::{Error, Reason, SideEffect, UpstreamFacts},
    request::{BatchItem, BatchResponse, Outcome},
};

/// Maximum number of unattributed errors in the message of an input.
const MAX_NAMED_ERRORS: usize = 4;

/// Outcome of an input that is missing in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingItemPolicy {
    /// A read: HubSpot did not answer for the record. Only HubSpot can say that a record does not exist.
    Unanswered,
    /// A write: the outcome is unknown.
    OutcomeUnknown,
    /// An archive: it succeeded, because HubSpot responds without results.
    Succeeded,
}

/// Policy for inputs that are missing in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedPolicy {
    /// Requests the input individually: the operation is idempotent.
    RetryAlone,
    /// Returns the error to the caller.
    Fail,
}

/// Results and errors that match no input.
pub(super) struct Unmatched {
    /// Number of results that name no input.
    pub(super) results: usize,
    /// Errors that name no input.
    pub(super) errors: Vec<Error>,
}

/// A response while it is matched. Each step matches only what is certain.
struct Matching<'a, I> {
    inputs: &'a [I],
    outcomes: Vec<Option<Outcome>>,
    results: Vec<Option<BatchItem>>,
    errors: Vec<Error>,
    /// Errors that name no input.
    unmatched_errors: Vec<Error>,
}

// === impl MissingItemPolicy ===

impl MissingItemPolicy {
    /// True for reads, which have no effect.
    pub(super) fn is_read(self) -> bool {
        match self {
            Self::Unanswered => true,
            Self::OutcomeUnknown | Self::Succeeded => false,
        }
    }
}

// === impl Matching ===

impl<'a, I: BatchInput> Matching<'a, I> {
    fn new(inputs: &'a [I], response: BatchResponse) -> Self {
        Self {
            inputs,
            outcomes: vec![None; inputs.len()],
            results: response.results.into_iter().map(Some).collect(),
            errors: response.errors,
            unmatched_errors: Vec::new(),
        }
    }

    fn by_trace_id(&mut self) {
        for slot in &mut self.results {
            let Some(trace_id) = slot.as_ref().and_then(|item| item.trace_id.as_deref()) else {
                continue;
            };
            let owner = self.inputs.iter().position(|input| input.trace_id() == Some(trace_id));
            if let Some(index) = owner
                && self.outcomes[index].is_none()
            {
                self.outcomes[index] = Some(Ok(slot.take()));
            }
        }
    }

    /// Assigns an error to every input that it is about and that has no result. An only input is the one
    /// that every error is about.
    fn by_errors(&mut self, is_about: impl Fn(&I, &Error) -> bool) {
        let is_only = self.inputs.len() == 1;
        for error in std::mem::take(&mut self.errors) {
            let affected = affected_inputs(self.inputs, &error, &is_about);
            let mut is_matched = false;
            for (outcome, is_affected) in self.outcomes.iter_mut().zip(affected) {
                if is_only || is_affected {
                    is_matched = true;
                    outcome.get_or_insert_with(|| Err(error.clone()));
                }
            }
            if !is_matched {
                self.unmatched_errors.push(error);
            }
        }
    }

    /// Matches the last open input with the last result, unless an error is left as well or the result
    /// shows other values. Those of the only create decide nothing: HubSpot may change them.
    fn by_elimination(&mut self) {
        let open = self.open_inputs();
        let is_single = self.inputs.len() == 1 && self.results.len() == 1;
        let mut left: Vec<&mut Option<BatchItem>> =
            self.results.iter_mut().filter(|slot| slot.is_some()).collect();
        if let ([index], [slot]) = (open.as_slice(), left.as_mut_slice())
            && self.unmatched_errors.is_empty()
            && slot.as_ref().is_some_and(|item| {
                let input = &self.inputs[*index];
                is_single && is_create_of(input, item) || may_be_result(input, item)
            })
        {
            self.outcomes[*index] = Some(Ok(slot.take()));
        }
    }

    fn open_inputs(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|&index| self.outcomes[index].is_none()).collect()
    }

    /// Matches open inputs with remaining results where each fits exactly one of the other.
    fn match_where(&mut self, fits: impl Fn(&I, &BatchItem) -> bool) {
        let open = self.open_inputs();
        let mut candidates: Vec<Vec<usize>> = vec![Vec::new(); self.results.len()];
        let mut matches_of_input = vec![0_usize; self.inputs.len()];
        for (slot, item) in self.results.iter().enumerate() {
            let Some(item) = item else { continue };
            for &index in &open {
                if fits(&self.inputs[index], item) {
                    candidates[slot].push(index);
                    matches_of_input[index] += 1;
                }
            }
        }
        for (slot, fitting) in candidates.into_iter().enumerate() {
            if let [index] = fitting.as_slice()
                && matches_of_input[*index] == 1
            {
                self.outcomes[*index] = Some(Ok(self.results[slot].take()));
            }
        }
    }
}

// === impl Unmatched ===

impl Unmatched {
    /// True if the response says nothing about the open inputs.
    pub(super) fn is_empty(&self) -> bool {
        self.results == 0 && self.errors.is_empty()
    }

    /// The only error of the open inputs, if there is one; it may occur repeatedly.
    pub(super) fn only_error(&self) -> Option<&Error> {
        let (first, others) = self.errors.split_first()?;
        let is_same =
            |other: &Error| (other.reason(), other.message()) == (first.reason(), first.message());
        others.iter().all(is_same).then_some(first)
    }

    /// The only error of `open` inputs, if each of them has it: the others of an archive have no results, so
    /// it takes one error for each.
    pub(super) fn error_of_each(&self, open: usize, policy: MissingItemPolicy) -> Option<&Error> {
        let is_certain = policy != MissingItemPolicy::Succeeded || self.errors.len() >= open;
        self.only_error().filter(|_| is_certain)
    }

    /// The outcome of one of `open` inputs that neither a result nor an error could be matched with.
    pub(super) fn outcome(&self, open: usize, policy: MissingItemPolicy) -> Outcome {
        if self.results > 0 {
            return match policy {
                MissingItemPolicy::Unanswered => Err(Error::new(
                    Reason::UpstreamInvalidResponse,
                    "HubSpot's response to a batch cannot be matched with its ids; read this lead with \
                     GetLead",
                )),
                MissingItemPolicy::OutcomeUnknown | MissingItemPolicy::Succeeded => Err(unknown(
                    "HubSpot wrote some leads of this batch without telling which inputs they are \
                     for; this input may be one of them",
                )),
            };
        }
        if let Some(error) = self.error_of_each(open, policy) {
            return Err(error.clone());
        }
        if !self.errors.is_empty() {
            return Err(self.one_of_several(open, policy));
        }
        match policy {
            MissingItemPolicy::Unanswered => Err(Error::new(
                Reason::UpstreamInvalidResponse,
                "HubSpot's response to a batch does not mention this lead; it may or may not exist",
            )),
            MissingItemPolicy::OutcomeUnknown => {
                Err(unknown("HubSpot's response has no result for this input"))
            }
            MissingItemPolicy::Succeeded => Ok(None),
        }
    }

    /// Error of an input that has one of several errors, or none if there are fewer errors than inputs.
    fn one_of_several(&self, open: usize, policy: MissingItemPolicy) -> Error {
        let mut texts: Vec<&str> = Vec::new();
        for error in &self.errors {
            if !texts.contains(&error.message()) && texts.len() < MAX_NAMED_ERRORS {
                texts.push(error.message());
            }
        }
        let texts = texts.join("; ");
        let is_certain = self.errors.len() >= open;
        if !is_certain && !policy.is_read() {
            return unknown(&format!(
                "HubSpot rejected some inputs of this batch without telling which; this input may be \
                 one of them. HubSpot's errors: {texts}"
            ));
        }
        let mut reasons = self.errors.iter().map(Error::reason);
        let first = reasons.next().unwrap_or(Reason::BatchRejected);
        let reason = if !is_certain {
            Reason::UpstreamInvalidResponse
        } else if reasons.all(|reason| reason == first) {
            first
        } else {
            Reason::BatchRejected
        };
        let upstream = UpstreamFacts {
            correlation_id: self.errors.iter().find_map(|it| it.upstream().correlation_id.clone()),
            ..UpstreamFacts::default()
        };
        let text = "HubSpot rejected several inputs of this batch without telling which; the error of \
                    this input is one of these";
        Error::new(reason, format!("{text}: {texts}")).with_upstream(upstream)
    }
}

/// Matches a response with its inputs: the outcome of each input for which it is certain, in input
/// order, and the unmatched rest. `is_about` is true for the inputs that an error is about.
pub(super) fn match_response<I: BatchInput>(
    inputs: &[I],
    response: BatchResponse,
    is_about: impl Fn(&I, &Error) -> bool,
) -> (Vec<Option<Outcome>>, Unmatched) {
    let mut matching = Matching::new(inputs, response);
    matching.by_trace_id();
    matching.by_identity();
    matching.by_errors(is_about);
    matching.by_values();
    matching.by_elimination();
    let results = matching.results.iter().flatten().count();
    (matching.outcomes, Unmatched { results, errors: matching.unmatched_errors })
}

/// Matches the response to a batch that is not divided further: one outcome per input, in input
/// order.
pub fn match_all<I: BatchInput>(
    inputs: &[I],
    response: BatchResponse,
    missing: MissingItemPolicy,
) -> Vec<Outcome> {
    let (outcomes, unmatched) = match_response(inputs, response, is_affected);
    let open = outcomes.iter().filter(|outcome| outcome.is_none()).count();
    let outcome =
        |outcome: Option<Outcome>| outcome.unwrap_or_else(|| unmatched.outcome(open, missing));
    outcomes.into_iter().map(outcome).collect()
}

/// True if the input is a create, and the result has no trace id of another one.
fn is_create_of<I: BatchInput>(input: &I, item: &BatchItem) -> bool {
    let is_create = input.written().is_some() && input.reference().is_none();
    is_create && item.trace_id.as_deref().is_none_or(|id| input.trace_id() == Some(id))
}

fn unknown(message: &str) -> Error {
    Error::new(Reason::WriteOutcomeUnknown, message).with_side_effect(SideEffect::Possible)
}

#[cfg(test)]
mod tests;
