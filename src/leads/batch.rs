//! Batches of any size on top of HubSpot's batches of a hundred: split, send, match every answer
//! with its input, and where HubSpot refuses a whole batch for one bad input, find that input so
//! that the others still get their turn.
//!
//! The outcome is always one result per input, in input order. What HubSpot says about inputs comes
//! in three ways, tried in this order: the trace id we gave the input, the record id or unique
//! value, and what the input wrote. Position is never used: HubSpot's order is random.

mod together;

use futures_util::{StreamExt as _, stream};

pub(super) use self::together::{Fate, Unsettled, together};
use super::{
    call::Claim,
    error::{AffectedInputs, Error, Reason, SideEffect},
    upstream::{BatchAnswer, BatchItem},
};

/// Most inputs HubSpot takes in one batch call.
pub(super) const MAX_CHUNK: usize = 100;

/// Most calls spent on one chunk to find the inputs for which HubSpot refuses it as a whole. Three
/// bad inputs in a hundred take at most 3 x 2 x log2(100) = 40 calls.
const MAX_CALLS_PER_CHUNK: u32 = 40;

/// What is known of an input that an answer can be matched by.
pub(super) trait Input: Clone + Send + Sync {
    /// The trace id that was sent with it.
    fn trace_id(&self) -> Option<&str>;

    /// The record id or unique value that it names.
    fn id(&self) -> Option<&str>;

    /// Whether a result belongs to it, as far as its id tells. `None` if it names no id.
    fn is_answered_by(&self, item: &BatchItem) -> Option<bool>;

    /// Whether the result holds what the input wrote.
    fn has_written(&self, item: &BatchItem) -> bool;

    /// Whether it mentions the property.
    fn mentions(&self, property: &str) -> bool;
}

/// What an input gets if the answer does not mention it at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmentioned {
    /// A read: there is no such lead.
    NotFound,
    /// A write: nobody knows.
    OutcomeUnknown,
    /// An archive: done, for HubSpot answers without results.
    Done,
}

/// The outcome of one input: the result, or `None` for a success without one.
pub(super) type Outcome = Result<Option<BatchItem>, Error>;

/// What came of one chunk.
struct ChunkOutcome {
    outcomes: Vec<Outcome>,
    /// Whether HubSpot looked at the inputs at all.
    considered: bool,
}

/// Sends `inputs` in chunks, at most `concurrency` at a time, and matches the answers. The calls for
/// one chunk have a claim in common.
///
/// Fails as a whole only if HubSpot considered none of the inputs and certainly acted on none: then
/// there is nothing to tell about single inputs, and the caller can repeat the call.
pub(super) async fn run<I, S, F>(
    inputs: &[I],
    chunk_size: usize,
    concurrency: usize,
    unmentioned: Unmentioned,
    send: S,
) -> Result<Vec<Outcome>, Error>
where
    I: Input,
    S: Fn(Claim, Vec<I>) -> F + Sync,
    F: Future<Output = Result<BatchAnswer, Error>> + Send,
{
    let chunks: Vec<Vec<I>> = inputs.chunks(chunk_size).map(<[I]>::to_vec).collect();
    let done: Vec<ChunkOutcome> = stream::iter(chunks)
        .map(|chunk| run_chunk(chunk, unmentioned, &send))
        .buffered(concurrency.max(1))
        .collect()
        .await;
    let considered = done.iter().any(|chunk| chunk.considered);
    let outcomes: Vec<Outcome> = done.into_iter().flat_map(|chunk| chunk.outcomes).collect();
    if considered {
        return Ok(outcomes);
    }
    let untouched = |outcome: &Outcome| matches!(outcome, Err(error) if error.side_effect() == SideEffect::None);
    match outcomes.first() {
        Some(Err(error)) if outcomes.iter().all(untouched) => Err(error.clone()),
        _ => Ok(outcomes),
    }
}

/// Sends one chunk; while HubSpot refuses it as a whole, takes the culprits out or halves it.
async fn run_chunk<I, S, F>(inputs: Vec<I>, unmentioned: Unmentioned, send: &S) -> ChunkOutcome
where
    I: Input,
    S: Fn(Claim, Vec<I>) -> F + Sync,
    F: Future<Output = Result<BatchAnswer, Error>> + Send,
{
    let claim = Claim::open();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; inputs.len()];
    let mut considered = false;
    let mut calls = 0;
    let mut waiting: Vec<Vec<usize>> = vec![(0..inputs.len()).collect()];
    let mut last_refusal = None;
    while calls < MAX_CALLS_PER_CHUNK {
        let Some(part) = waiting.pop() else { break };
        let sent: Vec<I> = part.iter().map(|&index| inputs[index].clone()).collect();
        calls += 1;
        let refusal = match send(claim.clone(), sent.clone()).await {
            Ok(answer) => {
                considered = true;
                let (found, left) = matched(&sent, answer, is_culprit);
                for (&index, outcome) in part.iter().zip(found) {
                    outcomes[index] = Some(outcome.unwrap_or_else(|| left.outcome(unmentioned)));
                }
                continue;
            }
            Err(error) => error,
        };
        if !refuses_inputs(&refusal) {
            for index in part {
                outcomes[index] = Some(Err(refusal.clone()));
            }
            continue;
        }
        considered = true;
        let (bad, rest) = isolate(&inputs, part, &refusal);
        for index in bad {
            outcomes[index] = Some(Err(refusal.clone()));
        }
        waiting.extend(rest);
        last_refusal = Some(refusal);
    }
    if let Some(refusal) = last_refusal {
        for index in waiting.into_iter().flatten() {
            outcomes[index] = Some(Err(not_tried_alone(&refusal)));
        }
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or_else(|| Err(internal("an input was left out"))))
        .collect();
    ChunkOutcome { outcomes, considered }
}

/// Whether HubSpot refused the batch because of what is in it, so that parts of it may pass.
fn refuses_inputs(error: &Error) -> bool {
    let about_content = matches!(
        error.reason(),
        Reason::ValidationFailed | Reason::AlreadyExists | Reason::Conflict | Reason::LeadNotFound
    );
    about_content && error.side_effect() == SideEffect::None
}

/// Splits a refused part into the inputs that are at fault and the parts to try again.
fn isolate<I: Input>(
    inputs: &[I],
    part: Vec<usize>,
    refusal: &Error,
) -> (Vec<usize>, Vec<Vec<usize>>) {
    if part.len() == 1 {
        return (part, Vec::new());
    }
    let (bad, good): (Vec<usize>, Vec<usize>) =
        part.iter().copied().partition(|&index| is_culprit(&inputs[index], refusal));
    if bad.is_empty() {
        let (left, right) = part.split_at(part.len() / 2);
        return (Vec::new(), vec![right.to_vec(), left.to_vec()]);
    }
    let rest = if good.is_empty() { Vec::new() } else { vec![good] };
    (bad, rest)
}

/// Whether an error is about this input: it names it, or it names none and is about a property that
/// does not exist and that the input mentions.
fn is_culprit<I: Input>(input: &I, error: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, unknown_properties } = error.affected_inputs();
    is_named(input, error)
        || (trace_ids.is_empty()
            && ids.is_empty()
            && unknown_properties.iter().any(|property| input.mentions(property)))
}

/// Whether an error names this input.
fn is_named<I: Input>(input: &I, error: &Error) -> bool {
    let AffectedInputs { trace_ids, ids, unknown_properties: _ } = error.affected_inputs();
    let is_in = |list: &[String], own: Option<&str>| {
        own.is_some_and(|own| list.iter().any(|named| named == own))
    };
    is_in(trace_ids, input.trace_id()) || is_in(ids, input.id())
}

/// Matches an answer with the inputs it is for: the outcome of each input that it is certain of, in
/// their order, and what is left of it. `is_about` says which inputs an error is about.
fn matched<I: Input>(
    inputs: &[I],
    answer: BatchAnswer,
    is_about: impl Fn(&I, &Error) -> bool,
) -> (Vec<Option<Outcome>>, Left) {
    let mut matching = Matching::new(inputs, answer);
    matching.by_trace_id();
    matching.by_id();
    matching.by_errors(is_about);
    matching.by_content();
    matching.by_elimination();
    let left =
        Left { results: matching.results.iter().flatten().count(), errors: matching.loose_errors };
    (matching.outcomes, left)
}

/// What an answer has beyond what could be matched.
struct Left {
    /// Results that do not tell which inputs they are for.
    results: usize,
    /// Errors of the same kind.
    errors: Vec<Error>,
}

/// An answer on its way to its inputs. Each step matches only what is certain.
struct Matching<'a, I> {
    inputs: &'a [I],
    outcomes: Vec<Option<Outcome>>,
    results: Vec<Option<BatchItem>>,
    /// Errors that name no input of ours.
    loose_errors: Vec<Error>,
    errors: Vec<Error>,
}

// === impl Matching ===

impl<'a, I: Input> Matching<'a, I> {
    fn new(inputs: &'a [I], answer: BatchAnswer) -> Self {
        Self {
            inputs,
            outcomes: vec![None; inputs.len()],
            results: answer.results.into_iter().map(Some).collect(),
            loose_errors: Vec::new(),
            errors: answer.errors.into_iter().map(|item| item.error).collect(),
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

    fn by_id(&mut self) {
        self.match_where(|input, item| input.is_answered_by(item) == Some(true));
    }

    /// Gives an error to every input it is about that has no result.
    fn by_errors(&mut self, is_about: impl Fn(&I, &Error) -> bool) {
        for error in std::mem::take(&mut self.errors) {
            let mut named = false;
            for (index, input) in self.inputs.iter().enumerate() {
                if is_about(input, &error) {
                    named = true;
                    self.outcomes[index].get_or_insert_with(|| Err(error.clone()));
                }
            }
            if !named {
                self.loose_errors.push(error);
            }
        }
    }

    /// What was written tells results apart if no two inputs could have given the same result. An
    /// input that names an id is not matched by content: its result has that id or is not its own.
    fn by_content(&mut self) {
        self.match_where(|input, item| {
            input.is_answered_by(item).is_none() && input.has_written(item)
        });
    }

    /// One input and one result are left over: they belong together, unless an error is left too.
    fn by_elimination(&mut self) {
        let open: Vec<usize> = self.open_inputs();
        let mut left: Vec<&mut Option<BatchItem>> =
            self.results.iter_mut().filter(|slot| slot.is_some()).collect();
        if let ([index], [slot]) = (open.as_slice(), left.as_mut_slice())
            && self.loose_errors.is_empty()
        {
            self.outcomes[*index] = Some(Ok(slot.take()));
        }
    }

    fn open_inputs(&self) -> Vec<usize> {
        (0..self.inputs.len()).filter(|&index| self.outcomes[index].is_none()).collect()
    }

    /// Matches open inputs with left-over results where each fits exactly one of the other.
    fn match_where(&mut self, fits: impl Fn(&I, &BatchItem) -> bool) {
        let open = self.open_inputs();
        let mut candidates: Vec<Vec<usize>> = vec![Vec::new(); self.results.len()];
        let mut wanted = vec![0_usize; self.inputs.len()];
        for (slot, item) in self.results.iter().enumerate() {
            let Some(item) = item else { continue };
            for &index in &open {
                if fits(&self.inputs[index], item) {
                    candidates[slot].push(index);
                    wanted[index] += 1;
                }
            }
        }
        for (slot, fitting) in candidates.into_iter().enumerate() {
            if let [index] = fitting.as_slice()
                && wanted[*index] == 1
            {
                self.outcomes[*index] = Some(Ok(self.results[slot].take()));
            }
        }
    }
}

// === impl Left ===

impl Left {
    /// What to say of an input that neither a result nor an error could be matched with.
    fn outcome(&self, unmentioned: Unmentioned) -> Outcome {
        if self.results > 0 {
            return match unmentioned {
                Unmentioned::NotFound => Err(Error::new(
                    Reason::UpstreamUnintelligible,
                    "HubSpot answered with leads that do not tell which inputs they are for",
                )),
                Unmentioned::OutcomeUnknown | Unmentioned::Done => Err(unknown(
                    "HubSpot wrote some leads of this batch without telling which inputs they are \
                     for; this input may be one of them",
                )),
            };
        }
        if let Some(error) = self.errors.first() {
            return Err(error.clone());
        }
        match unmentioned {
            Unmentioned::NotFound => Err(Error::lead_not_found()),
            Unmentioned::OutcomeUnknown => {
                Err(unknown("HubSpot's answer does not mention this input"))
            }
            Unmentioned::Done => Ok(None),
        }
    }
}

fn unknown(message: &str) -> Error {
    Error::new(Reason::WriteOutcomeUnknown, message).with_side_effect(SideEffect::Possible)
}

fn internal(what: &str) -> Error {
    Error::new(Reason::Internal, "the service lost track of an input")
        .with_internal(what)
        .with_side_effect(SideEffect::Possible)
}

fn not_tried_alone(refusal: &Error) -> Error {
    let message = format!(
        "HubSpot refused a batch that held this input together with others that are at fault, and \
         too many were to try each alone; nothing was written for it. HubSpot said: {}",
        refusal.message()
    );
    Error::new(Reason::BatchRefused, message).with_upstream(refusal.upstream().clone())
}

#[cfg(test)]
mod tests;
