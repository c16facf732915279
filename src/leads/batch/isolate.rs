//! Sends one batch and isolates the inputs for which HubSpot rejects it as a whole, so that the
//! other inputs succeed.

use futures_util::{StreamExt as _, stream};

use super::{
    common_rejection::error_of_all,
    input::BatchInput,
    matching::{
        MissingItemPolicy, Unmatched, UnresolvedPolicy, is_affected, match_response, split_by_error,
    },
    progress::no_outcome,
    search::{BatchSearch, Verdict, rejects_content},
};
use crate::leads::{
    error::{Error, Reason},
    rejection_search::RejectionSearch,
    request::{BatchResponse, ChunkOutcomes, Outcome},
};

/// Maximum number of inputs that are sent individually because HubSpot does not say which of several
/// errors is theirs.
const MAX_INDIVIDUAL: usize = 8;

/// Maximum number of open inputs that are sent individually, without another batch, if results have other
/// ids. The individual requests cost no more than another batch, after which inputs may still be open.
const FEW: usize = 2;

/// Maximum number of concurrent individual requests.
const INDIVIDUAL_CONCURRENCY: usize = 8;

/// Stage of sending an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// First request, or a part of a rejected one.
    First,
    /// The response to the first request left the inputs open.
    Again,
    /// The input is sent individually, because responses to batches leave it open.
    Alone,
}

/// Inputs of one request, by index.
struct Part {
    inputs: Vec<usize>,
    attempt: Attempt,
    /// True if the bound for the whole call counts the request: it is neither the first one, nor the first
    /// repeat without the inputs that HubSpot named.
    is_counted: bool,
}

/// Inputs to send again after a response.
#[derive(Default)]
struct Repeats {
    /// Inputs of one batch.
    batch: Vec<usize>,
    /// Inputs of individual requests.
    alone: Vec<usize>,
}

/// A batch while it is sent.
struct IsolatedBatch<'a, I> {
    inputs: &'a [I],
    policies: Policies,
    search: BatchSearch,
    outcomes: Vec<Option<Outcome>>,
    /// Requests to send, the next one last.
    pending: Vec<Part>,
    /// Inputs to send individually at the end.
    alone: Vec<usize>,
    last_rejection: Option<Error>,
    /// True if HubSpot evaluated an input.
    evaluated: bool,
}

/// Policies of a batch operation.
#[derive(Debug, Clone, Copy)]
struct Policies {
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
}

/// Sends a batch of at most 100 inputs. While HubSpot rejects it as a whole, removes the affected
/// inputs or halves it.
///
/// If HubSpot finds the values of both halves invalid alike, and nothing that the rejection names differs
/// between the inputs, every input gets that rejection. `search` bounds the requests of the whole call. An
/// input that was not sent individually gets [`Reason::BatchRejected`].
///
/// Inputs that the response leaves open are sent again where that is safe: first in one batch, and
/// individually if the response does not show to which inputs its results belong, as with merged leads.
/// Inputs that share several errors are sent individually.
pub async fn send_isolated<I, S, F>(
    inputs: &[I],
    missing: MissingItemPolicy,
    unresolved: UnresolvedPolicy,
    search: &RejectionSearch,
    send: S,
) -> ChunkOutcomes
where
    I: BatchInput,
    S: Fn(Vec<I>, Attempt) -> F + Sync,
    F: Future<Output = Result<BatchResponse, Error>> + Send,
{
    let mut isolation = IsolatedBatch::new(inputs, Policies { missing, unresolved }, search);
    if let Some(error) = isolation.search.common_error(inputs) {
        return ChunkOutcomes { outcomes: vec![Err(error); inputs.len()], evaluated: false };
    }
    while let Some(part) = isolation.next() {
        let sent: Vec<I> = part.inputs.iter().map(|&index| inputs[index].clone()).collect();
        match send(sent.clone(), part.attempt).await {
            Ok(response) => isolation.accept(&part, &sent, response),
            Err(error) => isolation.fail(part, error),
        }
    }
    isolation.report_unsent();
    let IsolatedBatch { mut outcomes, alone, evaluated, .. } = isolation;
    send_individually(inputs, alone, missing, &send, &mut outcomes).await;
    complete(outcomes, evaluated)
}

/// Sends inputs individually. Their outcomes replace those that responses to batches left open.
async fn send_individually<I, S, F>(
    inputs: &[I],
    alone: Vec<usize>,
    missing: MissingItemPolicy,
    send: &S,
    outcomes: &mut [Option<Outcome>],
) where
    I: BatchInput,
    S: Fn(Vec<I>, Attempt) -> F + Sync,
    F: Future<Output = Result<BatchResponse, Error>> + Send,
{
    let requests = alone.into_iter().map(|index| {
        let sent = vec![inputs[index].clone()];
        let response = send(sent.clone(), Attempt::Alone);
        async move { (index, sent, response.await) }
    });
    let mut responses = stream::iter(requests).buffer_unordered(INDIVIDUAL_CONCURRENCY);
    while let Some((index, sent, response)) = responses.next().await {
        let outcome = match response {
            Ok(response) => {
                let (found, unmatched) = match_response(&sent, response, is_affected);
                let own = found.into_iter().flatten().next();
                own.filter(|it| is_own(&sent[0], Attempt::Alone, it))
                    .unwrap_or_else(|| unmatched.outcome(1, missing))
            }
            Err(error)
                if rejects_content(&error) || determines_outcome(Attempt::Alone, missing) =>
            {
                rejected(&error, missing)
            }
            Err(_) => continue,
        };
        outcomes[index] = Some(outcome);
    }
}

/// The outcome of an input that HubSpot rejects. An unknown lead counts as archived, as in the individual
/// operation.
pub(super) fn rejected(error: &Error, missing: MissingItemPolicy) -> Outcome {
    if missing == MissingItemPolicy::Succeeded && error.reason() == Reason::LeadNotFound {
        return Ok(None);
    }
    Err(error.clone())
}

/// True if a failed request determines the outcome of its inputs. It does not if an earlier request may have
/// written them.
fn determines_outcome(attempt: Attempt, missing: MissingItemPolicy) -> bool {
    attempt == Attempt::First || missing.is_read()
}

fn complete(outcomes: Vec<Option<Outcome>>, evaluated: bool) -> ChunkOutcomes {
    let open = || Err(no_outcome());
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(open)).collect();
    ChunkOutcomes { outcomes, evaluated }
}

/// False if a repeat has a result that does not show the unique value of its input: HubSpot may return a lead
/// that was not requested. A write returns only leads that it wrote.
fn is_own<I: BatchInput>(input: &I, attempt: Attempt, outcome: &Outcome) -> bool {
    let reference = input.reference().filter(|_| attempt != Attempt::First);
    let unique = reference.and_then(|reference| Some((reference, reference.unique_property()?)));
    match (unique, outcome) {
        (Some((reference, property)), Ok(Some(item))) => {
            (input.written().is_some() || item.lead.properties.contains_key(property))
                && reference.identifies(&item.lead) != Some(false)
        }
        (Some(_) | None, _) => true,
    }
}

// === impl IsolatedBatch ===

impl<'a, I: BatchInput> IsolatedBatch<'a, I> {
    fn new(inputs: &'a [I], policies: Policies, search: &RejectionSearch) -> Self {
        Self {
            inputs,
            policies,
            search: BatchSearch::new(search),
            outcomes: vec![None; inputs.len()],
            pending: vec![Part::whole(inputs.len())],
            alone: Vec::new(),
            last_rejection: None,
            evaluated: false,
        }
    }

    /// The next request. `None` if none is left or if the search has reached a bound.
    fn next(&mut self) -> Option<Part> {
        let part = self.pending.last()?;
        if self.search.may_send(part.is_counted) { self.pending.pop() } else { None }
    }

    /// Takes the response to a request.
    fn accept(&mut self, part: &Part, sent: &[I], response: BatchResponse) {
        self.evaluated = true;
        self.search.accepted();
        let missing = self.policies.missing;
        let (found, unmatched) = match_response(sent, response, is_affected);
        let mut open = Vec::new();
        for (&index, outcome) in part.inputs.iter().zip(found) {
            match outcome.filter(|it| is_own(&self.inputs[index], part.attempt, it)) {
                Some(outcome) => self.outcomes[index] = Some(outcome),
                None => open.push(index),
            }
        }
        // Reported unless a repeat says more.
        for &index in &open {
            self.outcomes[index] = Some(unmatched.outcome(open.len(), missing));
        }
        let repeats =
            Repeats::after(part.attempt, part.inputs.len(), open, &unmatched, self.policies);
        self.alone.extend(repeats.alone);
        if !repeats.batch.is_empty() {
            let (inputs, attempt) = (repeats.batch, Attempt::Again);
            self.pending.push(Part { inputs, attempt, is_counted: false });
        }
    }

    /// Takes the error of a request.
    fn fail(&mut self, part: Part, error: Error) {
        let missing = self.policies.missing;
        if !rejects_content(&error) {
            if determines_outcome(part.attempt, missing) {
                self.set(part.inputs, &Err(error));
            }
            return;
        }
        self.evaluated = true;
        let (affected, others) = split_by_error(self.inputs, &part.inputs, &error);
        if affected.is_empty() {
            self.reject(part, &error);
        } else {
            self.set(affected, &rejected(&error, missing));
            if !others.is_empty() {
                let is_counted = self.search.requests() > 1;
                self.pending.push(Part { inputs: others, is_counted, ..part });
            }
        }
        self.last_rejection = Some(error);
    }

    /// Takes a rejection that names no input.
    fn reject(&mut self, part: Part, error: &Error) {
        match self.search.rejected(self.inputs, part.inputs.len(), error) {
            Verdict::Common => {
                self.pending.clear();
                self.set((0..self.inputs.len()).collect(), &Err(error_of_all(error)));
            }
            Verdict::LookUp => self.set(part.inputs, &Err(unattributed(error))),
            Verdict::Divide if part.inputs.len() == 1 => {
                self.set(part.inputs, &rejected(error, self.policies.missing));
            }
            Verdict::Divide => {
                // The halves of the whole batch come before their parts.
                let is_first_half = self.search.requests() == 2;
                let other_half = if is_first_half { self.pending.pop() } else { None };
                self.pending.extend(part.halves());
                self.pending.extend(other_half);
            }
        }
    }

    /// Sets the outcome of the inputs that a search left unsent.
    fn report_unsent(&mut self) {
        let Some(rejection) = &self.last_rejection else { return };
        let unsent = Err(unattributed(rejection));
        let left = std::mem::take(&mut self.pending);
        let left = left.into_iter().filter(|part| part.attempt == Attempt::First);
        self.set(left.flat_map(|part| part.inputs).collect(), &unsent);
    }

    fn set(&mut self, inputs: Vec<usize>, outcome: &Outcome) {
        for index in inputs {
            self.outcomes[index] = Some(outcome.clone());
        }
    }
}

// === impl Part ===

impl Part {
    /// The first request, with all inputs.
    fn whole(inputs: usize) -> Self {
        Self { inputs: (0..inputs).collect(), attempt: Attempt::First, is_counted: false }
    }

    /// The halves, the first one last.
    fn halves(self) -> [Self; 2] {
        let Self { inputs, attempt, .. } = self;
        let (left, right) = inputs.split_at(inputs.len() / 2);
        [right, left].map(|half| Self { inputs: half.to_vec(), attempt, is_counted: true })
    }
}

// === impl Repeats ===

impl Repeats {
    /// The inputs to send again after a response to `sent` inputs that leaves some open.
    fn after(
        attempt: Attempt,
        sent: usize,
        open: Vec<usize>,
        unmatched: &Unmatched,
        policies: Policies,
    ) -> Self {
        let Policies { missing, unresolved } = policies;
        let is_read = missing.is_read();
        let alone = |alone| Self { alone, ..Self::default() };
        let batch = |batch| Self { batch, ..Self::default() };
        if open.is_empty() || attempt == Attempt::Alone || unresolved == UnresolvedPolicy::Fail {
            return Self::default();
        }
        // Results of other leads: those into which leads of the open inputs were merged.
        if unmatched.results > 0 {
            let is_safe = missing != MissingItemPolicy::Succeeded;
            return match attempt {
                _ if !is_safe || sent == 1 => Self::default(),
                Attempt::First if is_read && open.len() > FEW => batch(open),
                Attempt::First | Attempt::Again | Attempt::Alone => alone(open),
            };
        }
        if attempt == Attempt::Again {
            return Self::default();
        }
        if unmatched.is_empty() {
            // An archive succeeds without results. If no update has one, HubSpot omits them.
            let is_open = match missing {
                MissingItemPolicy::Unanswered => true,
                MissingItemPolicy::OutcomeUnknown => open.len() < sent,
                MissingItemPolicy::Succeeded => false,
            };
            return match open.len() {
                _ if !is_open => Self::default(),
                1 if sent > 1 => alone(open),
                _ => batch(open),
            };
        }
        if unmatched.error_of_each(open.len(), missing).is_some() || open.len() > MAX_INDIVIDUAL {
            return Self::default();
        }
        alone(open)
    }
}

/// The error of an input of a batch that HubSpot rejected as a whole, and that was not sent individually.
fn unattributed(rejection: &Error) -> Error {
    let message = format!(
        "HubSpot rejected a batch with this input, did not name the input that its error is about, and \
         wrote nothing; send this input alone or in a smaller batch. HubSpot's error: {}",
        rejection.message()
    );
    Error::new(Reason::BatchRejected, message).with_upstream(rejection.upstream().clone())
}
