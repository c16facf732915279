//! Counts of imports, for the metrics of the replica.

use std::sync::atomic::{AtomicU64, Ordering};

/// Kind of the result of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// A lead was created.
    Created,
    /// A lead was updated.
    Updated,
    /// A lead was archived.
    Archived,
    /// The row is valid, and was not written.
    Validated,
    /// The row failed.
    Failed,
}

/// End of the stream of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportEnd {
    /// All rows of the client have results.
    Complete,
    /// The replica or the connection ends, or the deadline of the call is near.
    Drained,
    /// Too many rows have failed.
    Stopped,
    /// The stream ended with an error.
    Failed,
    /// The client has disconnected or has not read a message in time.
    Cancelled,
}

/// Counters of imports.
#[derive(Debug, Default)]
pub struct ImportStats {
    rows: [AtomicU64; RowKind::ALL.len()],
    ended: [AtomicU64; ImportEnd::ALL.len()],
}

/// Snapshot of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportCounts {
    /// Number of rows with results, by their kind.
    pub rows: [(RowKind, u64); RowKind::ALL.len()],
    /// Number of streams that ended, by their end.
    pub ended: [(ImportEnd, u64); ImportEnd::ALL.len()],
}

// === impl RowKind ===

impl RowKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Updated, Self::Archived, Self::Validated, Self::Failed];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Archived => "archived",
            Self::Validated => "validated",
            Self::Failed => "failed",
        }
    }
}

// === impl ImportEnd ===

impl ImportEnd {
    /// All ends.
    pub const ALL: [Self; 5] =
        [Self::Complete, Self::Drained, Self::Stopped, Self::Failed, Self::Cancelled];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

// === impl ImportStats ===

impl ImportStats {
    pub(in crate::leads) fn on_row(&self, kind: RowKind) {
        self.rows[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::leads) fn on_end(&self, end: ImportEnd) {
        self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Current counts.
    pub fn snapshot(&self) -> ImportCounts {
        let rows = |kind: RowKind| (kind, self.rows[kind as usize].load(Ordering::Relaxed));
        let ended = |end: ImportEnd| (end, self.ended[end as usize].load(Ordering::Relaxed));
        ImportCounts { rows: RowKind::ALL.map(rows), ended: ImportEnd::ALL.map(ended) }
    }
}
