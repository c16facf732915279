//! Counts of validated writes and of their violations.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::leads::validation::ViolationKind;

/// Outcome of the validation of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationOutcome {
    /// Write without a violation.
    Valid,
    /// Write that was sent with a violation, because the mode is `warn`.
    Warned,
    /// Write that was refused.
    Refused,
    /// Write that was sent with a violation that could not be confirmed.
    Unconfirmed,
    /// Write that was sent without a check, because there is no young copy of the schema.
    Unchecked,
}

/// Counts since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationSnapshot {
    /// Number of writes by outcome.
    pub outcomes: [(ValidationOutcome, u64); 5],
    /// Number of violations of writes that were warned about or refused, by kind.
    pub violations: [(ViolationKind, u64); 13],
}

#[derive(Debug, Default)]
pub(super) struct ValidationStats {
    outcomes: [AtomicU64; 5],
    violations: [AtomicU64; 13],
}

// === impl ValidationOutcome ===

impl ValidationOutcome {
    const ALL: [Self; 5] =
        [Self::Valid, Self::Warned, Self::Refused, Self::Unconfirmed, Self::Unchecked];

    /// Value of the label `outcome` in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Warned => "warned",
            Self::Refused => "refused",
            Self::Unconfirmed => "unconfirmed",
            Self::Unchecked => "unchecked",
        }
    }
}

// === impl ValidationStats ===

impl ValidationStats {
    /// Counts writes.
    pub(super) fn count(&self, outcome: ValidationOutcome, writes: usize) {
        self.outcomes[outcome as usize].fetch_add(writes as u64, Ordering::Relaxed);
    }

    /// Counts a violation.
    pub(super) fn count_violation(&self, kind: ViolationKind) {
        self.violations[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> ValidationSnapshot {
        let outcome = |outcome: ValidationOutcome| {
            (outcome, self.outcomes[outcome as usize].load(Ordering::Relaxed))
        };
        let violation =
            |kind: ViolationKind| (kind, self.violations[kind as usize].load(Ordering::Relaxed));
        ValidationSnapshot {
            outcomes: ValidationOutcome::ALL.map(outcome),
            violations: ViolationKind::ALL.map(violation),
        }
    }
}
