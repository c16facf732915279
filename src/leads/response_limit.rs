//! Maximum size of a response, and the policy for leads that do not fit.
//!
//! A read of a lead that does not fit fails with [`Reason::ResponseTooLarge`]; the caller reads it in
//! another call. A write has taken effect, so its result keeps the id and loses everything else.

use super::{
    error::{Error, Reason},
    lead::Lead,
    request::Outcome,
};

/// Maximum size of one response, in the encoding of the responses.
#[derive(Debug, Clone, Copy)]
pub struct ResponseLimit {
    /// Maximum number of bytes.
    pub max_bytes: usize,
    /// Encoded size of a lead in bytes.
    pub lead_size: fn(&Lead) -> usize,
}

/// Policy for a lead that does not fit in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// A read: the input fails.
    Fail,
    /// A write: the lead is reduced to its id.
    KeepId,
}

/// Leads of one response as they arrive in input order. Those that do not fit are dropped at once, so
/// that a batch holds little more than its response.
#[derive(Debug)]
pub(super) struct ResponseBudget {
    limit: ResponseLimit,
    overflow: Overflow,
    used: usize,
    is_full: bool,
}

// === impl ResponseLimit ===

impl ResponseLimit {
    /// Error of an input whose result does not fit beside the others, or not even alone.
    pub fn does_not_fit(&self, size: usize) -> Error {
        let limit = self.max_bytes;
        let text = if size > limit {
            format!(
                "the lead is too large for a response ({size} bytes, limit {limit} bytes); \
                 select fewer properties"
            )
        } else {
            format!("the response is full (limit {limit} bytes); read this lead in another call")
        };
        Error::new(Reason::ResponseTooLarge, text)
    }
}

// === impl ResponseBudget ===

impl ResponseBudget {
    pub(super) fn new(limit: ResponseLimit, overflow: Overflow) -> Self {
        Self { limit, overflow, used: 0, is_full: false }
    }

    /// Policy for a lead that does not fit.
    pub(super) fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// True if a lead did not fit that fits in a response by itself. Further leads need not be read.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Error of an input that is not read because the response is full.
    pub(super) fn full_error(&self) -> Error {
        self.limit.does_not_fit(0)
    }

    /// Counts the lead of an outcome, or drops it if it does not fit.
    pub(super) fn admit(&mut self, outcome: &mut Outcome) {
        let Ok(Some(item)) = outcome else { return };
        let size = (self.limit.lead_size)(&item.lead);
        if self.used.saturating_add(size) <= self.limit.max_bytes {
            self.used += size;
            return;
        }
        match self.overflow {
            Overflow::Fail => {
                self.is_full |= size <= self.limit.max_bytes;
                *outcome = Err(self.limit.does_not_fit(size));
            }
            Overflow::KeepId => item.lead = item.lead.id_only(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::BatchItem;

    const LIMIT: ResponseLimit = ResponseLimit { max_bytes: 10, lead_size: |lead| lead.id.len() };

    fn outcome(id: &str) -> Outcome {
        let lead = Lead { id: id.to_owned(), archived: true, ..Lead::default() };
        Ok(Some(BatchItem { lead, trace_id: None, created: None }))
    }

    #[test]
    fn a_read_that_does_not_fit_fails_and_says_why() {
        let mut budget = ResponseBudget::new(LIMIT, Overflow::Fail);
        let mut outcomes = ["1234567", "too long for any", "12", "1234", "1"].map(outcome);
        let full: Vec<bool> = outcomes
            .iter_mut()
            .map(|outcome| {
                budget.admit(outcome);
                budget.is_full()
            })
            .collect();
        let fits: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(fits, [true, false, true, false, true]);
        assert_eq!(full, [false, false, false, true, true], "a lead too large fills no response");
        let text = |index: usize| outcomes[index].as_ref().unwrap_err().message().to_owned();
        assert!(text(1).contains("select fewer properties"), "{}", text(1));
        assert!(text(3).contains("read this lead in another call"), "{}", text(3));
        let mut failed = Err(Error::lead_not_found());
        budget.admit(&mut failed);
        assert_eq!(failed.unwrap_err().reason(), Reason::LeadNotFound);
    }

    #[test]
    fn a_write_that_does_not_fit_keeps_its_id_and_outcome() {
        let mut budget = ResponseBudget::new(LIMIT, Overflow::KeepId);
        let mut outcomes = ["1234567", "abcdefg"].map(outcome);
        outcomes.iter_mut().for_each(|outcome| budget.admit(outcome));
        let [first, second] = outcomes.map(|outcome| outcome.unwrap().unwrap().lead);
        assert!(!first.is_id_only && first.archived);
        assert_eq!(second, Lead { id: "abcdefg".to_owned(), is_id_only: true, ..Lead::default() });
    }
}
