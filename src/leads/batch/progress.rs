//! Results of one batch call as they arrive, so that a call whose deadline passes returns what is known
//! of each input.

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;

use crate::leads::{
    cost::CostMeter,
    error::{Error, Reason, SideEffect},
    request::Outcome,
};

/// Receiver of the outcomes of a batch, in any order.
pub(in crate::leads) trait OutcomeSink: Sync {
    /// Notes that the request for these inputs begins. `meter` counts the requests that are sent to
    /// HubSpot for them.
    fn begin(&self, inputs: Range<usize>, meter: &Arc<CostMeter>);

    /// Takes the outcomes of the inputs from `first` on. `evaluated` is true if HubSpot evaluated
    /// them.
    fn settle(&self, first: usize, outcomes: Vec<Outcome>, evaluated: bool);
}

/// Sink that collects all outcomes.
#[derive(Debug)]
pub(super) struct Collected(Mutex<Outcomes>);

#[derive(Debug)]
struct Outcomes {
    all: Vec<Outcome>,
    evaluated: bool,
}

/// Results of a batch call so far, one per input, in input order.
#[derive(Debug)]
pub(in crate::leads) struct BatchProgress<T> {
    effects: SideEffect,
    convert: fn(Outcome) -> Result<T, Error>,
    state: Mutex<State<T>>,
}

/// Sink for some inputs of a batch: those at `positions`.
#[derive(Debug)]
pub(in crate::leads) struct PartOfBatch<'a, T> {
    progress: &'a BatchProgress<T>,
    positions: &'a [usize],
}

#[derive(Debug)]
struct State<T> {
    inputs: Vec<InputState<T>>,
    /// True if some input has a separate result: HubSpot evaluated it, or an earlier call returned it.
    evaluated: bool,
}

#[derive(Debug)]
struct InputState<T> {
    /// Result so far; `None` if nothing is known.
    result: Option<Result<T, Error>>,
    /// Meter of the request for the input; `None` before it begins.
    meter: Option<Arc<CostMeter>>,
}

// === impl Collected ===

impl Collected {
    /// Collects the outcomes of this many inputs.
    pub(super) fn new(inputs: usize) -> Self {
        Self(Mutex::new(Outcomes { all: vec![Err(no_outcome()); inputs], evaluated: false }))
    }

    /// The outcomes in input order. Errors as a whole only if HubSpot evaluated none of the inputs and
    /// acted on none.
    pub(super) fn finish(self) -> Result<Vec<Outcome>, Error> {
        let Outcomes { all, evaluated } = self.0.into_inner();
        let failure = (!evaluated).then(|| common_failure(&all)).flatten();
        failure.map_or(Ok(all), Err)
    }
}

impl OutcomeSink for Collected {
    fn begin(&self, _: Range<usize>, _: &Arc<CostMeter>) {}

    fn settle(&self, first: usize, outcomes: Vec<Outcome>, evaluated: bool) {
        let mut state = self.0.lock();
        state.evaluated |= evaluated;
        for (slot, outcome) in state.all[first..].iter_mut().zip(outcomes) {
            *slot = outcome;
        }
    }
}

// === impl BatchProgress ===

impl<T: Clone> BatchProgress<T> {
    /// Progress of a batch of this many inputs. `effects` are those of an unfinished request.
    pub(in crate::leads) fn new(
        inputs: usize,
        effects: SideEffect,
        convert: fn(Outcome) -> Result<T, Error>,
    ) -> Self {
        let inputs = (0..inputs).map(|_| InputState { result: None, meter: None }).collect();
        Self { effects, convert, state: Mutex::new(State { inputs, evaluated: false }) }
    }

    /// Progress of a write that continues after `previous`, the response to an earlier call with the
    /// same request id. Returns the inputs that are open, with their indices.
    pub(in crate::leads) fn resume<I>(
        previous: Option<Result<Vec<Result<T, Error>>, Error>>,
        inputs: Vec<I>,
        convert: fn(Outcome) -> Result<T, Error>,
    ) -> (Self, Vec<(usize, I)>) {
        let progress = Self::new(inputs.len(), SideEffect::Possible, convert);
        // After a failure as a whole nothing is known.
        let results = previous.and_then(Result::ok).unwrap_or_default();
        let mut state = progress.state.lock();
        state.evaluated = !results.is_empty();
        for (input, result) in state.inputs.iter_mut().zip(results) {
            input.result = Some(result).filter(|result| is_final(result) || is_unknown(result));
        }
        let is_open = |index: usize| !state.inputs[index].result.as_ref().is_some_and(is_final);
        let open = inputs.into_iter().enumerate().filter(|(index, _)| is_open(*index)).collect();
        drop(state);
        (progress, open)
    }

    /// Error of an input that was sent without learning its outcome.
    pub(in crate::leads) fn unknown(&self, index: usize) -> Option<Error> {
        let state = self.state.lock();
        let result = state.inputs.get(index)?.result.as_ref()?;
        result.as_ref().err().filter(|error| error.side_effect() == SideEffect::Possible).cloned()
    }

    /// Sink for the inputs at `positions`.
    pub(in crate::leads) fn part<'a>(&'a self, positions: &'a [usize]) -> PartOfBatch<'a, T> {
        PartOfBatch { progress: self, positions }
    }

    /// Notes that the request for an input begins.
    pub(in crate::leads) fn begin_one(&self, index: usize, meter: &Arc<CostMeter>) {
        if let Some(input) = self.state.lock().inputs.get_mut(index) {
            input.meter = Some(Arc::clone(meter));
        }
    }

    /// Sets the outcome of an input. An outcome that stays unknown is not replaced by an error that
    /// says nothing of it.
    pub(in crate::leads) fn settle_one(&self, index: usize, outcome: Outcome, evaluated: bool) {
        let result = (self.convert)(outcome);
        let mut state = self.state.lock();
        state.evaluated |= evaluated;
        let Some(input) = state.inputs.get_mut(index) else { return };
        let says_nothing = !is_final(&result) && !is_unknown(&result);
        if !(says_nothing && input.result.as_ref().is_some_and(is_unknown)) {
            input.result = Some(result);
        }
    }

    /// Removes the outcome of an input: another one is known.
    pub(in crate::leads) fn reopen_one(&self, index: usize) {
        if let Some(input) = self.state.lock().inputs.get_mut(index) {
            input.result = None;
        }
    }

    /// The results so far. An input without one has the error of a deadline that has passed, which says
    /// whether HubSpot was asked. Errors as a whole if no input has a separate result.
    pub(in crate::leads) fn results(&self) -> Result<Vec<Result<T, Error>>, Error> {
        let state = self.state.lock();
        let is_asked = |input: &InputState<T>| {
            input.meter.as_ref().is_some_and(|meter| meter.is_in_progress())
        };
        let (asked, unasked) = (asked_in_time(self.effects), not_asked_in_time());
        let results: Vec<Result<T, Error>> = state
            .inputs
            .iter()
            .map(|input| match &input.result {
                Some(result) => result.clone(),
                None if is_asked(input) => Err(asked.clone()),
                None => Err(unasked.clone()),
            })
            .collect();
        if state.evaluated {
            return Ok(results);
        }
        let all_asked = state.inputs.iter().all(|input| input.result.is_none() && is_asked(input));
        match common_failure(&results) {
            None if all_asked => Err(asked),
            None => Ok(results),
            Some(error) => Err(error),
        }
    }
}

impl<T: Clone + Send> OutcomeSink for BatchProgress<T> {
    fn begin(&self, inputs: Range<usize>, meter: &Arc<CostMeter>) {
        inputs.for_each(|index| self.begin_one(index, meter));
    }

    fn settle(&self, first: usize, outcomes: Vec<Outcome>, evaluated: bool) {
        for (index, outcome) in (first..).zip(outcomes) {
            self.settle_one(index, outcome, evaluated);
        }
    }
}

// === impl PartOfBatch ===

impl<T: Clone + Send> OutcomeSink for PartOfBatch<'_, T> {
    fn begin(&self, inputs: Range<usize>, meter: &Arc<CostMeter>) {
        self.positions[inputs].iter().for_each(|&index| self.progress.begin_one(index, meter));
    }

    fn settle(&self, first: usize, outcomes: Vec<Outcome>, evaluated: bool) {
        for (&index, outcome) in self.positions[first..].iter().zip(outcomes) {
            self.progress.settle_one(index, outcome, evaluated);
        }
    }
}

/// Error of an input that a response does not contain.
pub(super) fn no_outcome() -> Error {
    Error::new(Reason::Internal, "internal error: an input of the batch has no outcome")
        .with_side_effect(SideEffect::Possible)
}

/// Error of an input for which HubSpot was asked, and did not respond before the deadline.
fn asked_in_time(effects: SideEffect) -> Error {
    let text = match effects {
        SideEffect::None => "the deadline passed before HubSpot responded",
        SideEffect::Possible => {
            "the deadline passed before HubSpot responded, so the outcome of this input is unknown; \
             a repeat with the same request_id returns it"
        }
    };
    Error::new(Reason::DeadlineExceeded, text).with_side_effect(effects)
}

/// Error of an input for which HubSpot was not asked.
fn not_asked_in_time() -> Error {
    let text =
        "the deadline passed before HubSpot was asked for this input; repeat it with more time";
    Error::new(Reason::DeadlineExceeded, text)
}

/// The first error if no input succeeded and none has an effect.
fn common_failure<T>(results: &[Result<T, Error>]) -> Option<Error> {
    let without_effect = |result: &Result<T, Error>| {
        result.as_ref().is_err_and(|error| error.side_effect() == SideEffect::None)
    };
    let first = results.first()?.as_ref().err()?;
    results.iter().all(without_effect).then(|| first.clone())
}

/// True if a result is known to be that of its input.
fn is_final<T>(result: &Result<T, Error>) -> bool {
    result.as_ref().err().is_none_or(Error::is_final)
}

fn is_unknown<T>(result: &Result<T, Error>) -> bool {
    result.as_ref().is_err_and(|error| error.side_effect() == SideEffect::Possible)
}

#[cfg(test)]
mod tests;
