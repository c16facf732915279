//! A batch write that a repeat with the same request id resumes: inputs with a result keep it, the
//! others are sent again.

use super::outcome::is_final;
use crate::leads::{
    error::{Error, SideEffect},
    request::Outcome,
};

/// Results of a batch from earlier calls. Empty for the first call.
#[derive(Debug)]
pub(super) struct Resumed<T> {
    results: Vec<Result<T, Error>>,
}

// === impl Resumed ===

impl<T> Resumed<T> {
    /// Takes the results of earlier calls. Returns the inputs that are open, with their indices.
    pub(super) fn new<I>(
        previous: Option<Result<Vec<Result<T, Error>>, Error>>,
        inputs: Vec<I>,
    ) -> (Self, Vec<(usize, I)>) {
        // After a failure as a whole nothing is known.
        let results = previous.and_then(Result::ok).unwrap_or_default();
        let is_open = |index: usize| results.get(index).is_none_or(|result| !is_final(result));
        let open = inputs.into_iter().enumerate().filter(|(index, _)| is_open(*index)).collect();
        (Self { results }, open)
    }

    /// Error of an input that an earlier call sent without learning its outcome.
    pub(super) fn unknown(&self, index: usize) -> Option<Error> {
        let error = self.results.get(index)?.as_ref().err()?;
        (error.side_effect() == SideEffect::Possible).then(|| error.clone())
    }

    /// Adds the outcomes of the open inputs. An outcome that stays unknown is not replaced by an error
    /// that says nothing of it.
    pub(super) fn merge(
        self,
        outcomes: Result<Vec<Outcome>, Error>,
        convert: impl Fn(Outcome) -> Result<T, Error>,
    ) -> Result<Vec<Result<T, Error>>, Error> {
        if self.results.is_empty() {
            return outcomes.map(|outcomes| outcomes.into_iter().map(convert).collect());
        }
        let (mut outcomes, error) = match outcomes {
            Ok(outcomes) => (outcomes.into_iter(), None),
            Err(error) => (Vec::new().into_iter(), Some(error)),
        };
        let merged = |result: Result<T, Error>| {
            let Err(previous) = result else { return result };
            if previous.is_final() {
                return Err(previous);
            }
            let outcome = match (outcomes.next(), &error) {
                (Some(outcome), _) => convert(outcome),
                (None, Some(error)) => Err(error.clone()),
                (None, None) => return Err(previous),
            };
            match outcome {
                Err(error)
                    if previous.side_effect() == SideEffect::Possible && !error.is_final() =>
                {
                    Err(previous)
                }
                outcome => outcome,
            }
        };
        Ok(self.results.into_iter().map(merged).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::error::Reason;

    fn error(reason: Reason, side_effect: SideEffect) -> Error {
        Error::new(reason, "failed").with_side_effect(side_effect)
    }

    #[test]
    fn only_open_inputs_are_sent_again_and_unknown_outcomes_stay_until_they_are_resolved() {
        let unsent = error(Reason::DeadlineExceeded, SideEffect::None);
        let lost = error(Reason::WriteOutcomeUnknown, SideEffect::Possible);
        let invalid = error(Reason::ValidationFailed, SideEffect::None);
        let previous = vec![
            Ok(0),
            Err(unsent.clone()),
            Err(invalid.clone()),
            Err(lost.clone()),
            Err(lost.clone()),
            Err(lost.clone()),
        ];
        let (resumed, open) = Resumed::new(Some(Ok(previous)), (0..6).collect::<Vec<_>>());
        assert_eq!(open, [(1, 1), (3, 3), (4, 4), (5, 5)]);
        assert_eq!([1, 3].map(|index| resumed.unknown(index)), [None, Some(lost.clone())]);
        let outcomes = vec![Ok(None), Ok(None), Err(unsent), Err(invalid.clone())];
        let merged = resumed.merge(Ok(outcomes), |outcome| outcome.map(|_| 1)).unwrap();
        let expected = vec![Ok(0), Ok(1), Err(invalid.clone()), Ok(1), Err(lost), Err(invalid)];
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_failure_as_a_whole_is_the_outcome_of_every_open_input() {
        let unsent = error(Reason::DeadlineExceeded, SideEffect::None);
        let (resumed, _) = Resumed::new(Some(Ok(vec![Ok(0), Err(unsent)])), vec![0, 1]);
        let down = error(Reason::UpstreamUnavailable, SideEffect::None);
        let merged = resumed.merge(Err(down.clone()), |_| Ok(1)).unwrap();
        assert_eq!(merged, [Ok(0), Err(down.clone())]);
        let (first, open) = Resumed::<u8>::new(None, vec![7]);
        assert_eq!(open, [(0, 7)]);
        assert_eq!(first.merge(Err(down.clone()), |_| Ok(1)), Err(down));
    }
}
