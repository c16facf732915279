//! Outcomes of the rows of one stream, and the rule that stops it.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{RowOutcome, stats::RowKind};
use crate::leads::error::Error;

/// Rule that stops a stream in which too many rows fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopRule {
    /// Part of the rows with results that may be errors, from 0 to 1.
    pub error_ratio: f64,
    /// Number of rows with results from which the rule counts.
    pub min_rows: u64,
}

/// Counts of one stream so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportSummary {
    /// Number of rows that were read.
    pub rows: u64,
    /// Number of created leads.
    pub created: u64,
    /// Number of updated leads.
    pub updated: u64,
    /// Number of archived leads.
    pub archived: u64,
    /// Number of valid rows that were not written.
    pub validated: u64,
    /// Number of rows that failed.
    pub failed: u64,
}

/// Outcomes of the rows of one stream.
#[derive(Debug, Default)]
pub(in crate::leads) struct ImportTally {
    summary: ImportSummary,
    /// Number of failed rows by reason.
    reasons: BTreeMap<&'static str, u64>,
}

// === impl ImportSummary ===

impl ImportSummary {
    /// Number of rows with results.
    pub fn answered(&self) -> u64 {
        let Self { rows: _, created, updated, archived, validated, failed } = self;
        created + updated + archived + validated + failed
    }
}

// === impl StopRule ===

impl StopRule {
    /// True if too many rows have failed.
    #[expect(clippy::cast_precision_loss, reason = "the counts stay far below 2^53")]
    fn is_exceeded(&self, summary: &ImportSummary) -> bool {
        let answered = summary.answered();
        answered >= self.min_rows && summary.failed as f64 > self.error_ratio * answered as f64
    }
}

// === impl ImportTally ===

impl ImportTally {
    /// Counts a row that was read; returns its number, from 1.
    pub(in crate::leads) fn read(&mut self) -> u64 {
        self.summary.rows += 1;
        self.summary.rows
    }

    /// Counts the result of a row; returns its kind.
    pub(in crate::leads) fn add(&mut self, outcome: &Result<RowOutcome, Error>) -> RowKind {
        let ImportSummary { rows: _, created, updated, archived, validated, failed } =
            &mut self.summary;
        let kind = outcome.as_ref().map_or(RowKind::Failed, RowOutcome::kind);
        match kind {
            RowKind::Created => *created += 1,
            RowKind::Updated => *updated += 1,
            RowKind::Archived => *archived += 1,
            RowKind::Validated => *validated += 1,
            RowKind::Failed => *failed += 1,
        }
        if let Err(error) = outcome {
            *self.reasons.entry(error.reason().as_str()).or_default() += 1;
        }
        kind
    }

    /// Counts so far.
    pub(in crate::leads) fn summary(&self) -> ImportSummary {
        self.summary
    }

    /// True if the rule stops the stream.
    pub(in crate::leads) fn exceeds(&self, rule: Option<StopRule>) -> bool {
        rule.is_some_and(|rule| rule.is_exceeded(&self.summary))
    }

    /// Outcomes for the audit event, such as `created=2 failed=1 VALIDATION_FAILED=1`.
    pub(in crate::leads) fn outcomes(&self) -> String {
        let ImportSummary { rows: _, created, updated, archived, validated, failed } = self.summary;
        let mut text = format!(
            "created={created} updated={updated} archived={archived} validated={validated} \
             failed={failed}"
        );
        for (reason, rows) in &self.reasons {
            // Writing to a `String` cannot fail.
            let _ = write!(text, " {reason}={rows}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::error::Reason;

    fn tally(done: u64, failed: u64) -> ImportTally {
        let mut tally = ImportTally::default();
        for number in 0..done + failed {
            tally.read();
            let failure = Err(Error::new(Reason::ValidationFailed, "of the test"));
            tally.add(&if number < done { Ok(RowOutcome::Archived) } else { failure });
        }
        tally
    }

    #[test]
    fn a_stream_is_stopped_by_more_errors_than_the_rule_permits() {
        for (error_ratio, min_rows, done, failed, is_stopped) in [
            (0.1, 10, 0, 9, false),
            (0.1, 10, 0, 10, true),
            (0.1, 10, 9, 1, false),
            (0.1, 10, 8, 2, true),
            (0.0, 1, 5, 0, false),
            (0.0, 1, 5, 1, true),
            (1.0, 1, 0, 5, false),
        ] {
            let rule = StopRule { error_ratio, min_rows };
            let tally = tally(done, failed);
            assert_eq!(tally.exceeds(Some(rule)), is_stopped, "{rule:?} {done} {failed}");
            assert!(!tally.exceeds(None));
        }
    }

    #[test]
    fn outcomes_have_the_reasons_of_failed_rows() {
        let tally = tally(2, 3);
        let expected = "created=0 updated=0 archived=2 validated=0 failed=3 VALIDATION_FAILED=3";
        assert_eq!(tally.outcomes(), expected);
        assert_eq!((tally.summary().rows, tally.summary().answered()), (5, 5));
    }
}
