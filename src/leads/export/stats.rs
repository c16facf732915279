//! Counts of exports, for the metrics of the replica.

use std::sync::atomic::{AtomicU64, Ordering};

/// End of the stream of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportEnd {
    /// All leads were sent.
    Complete,
    /// The stream ended with a token: the replica or the connection ends, or the deadline of the call is near.
    Paused,
    /// The stream ended with an error.
    Failed,
    /// The client has disconnected or has not read a message in time.
    Cancelled,
}

/// Counters of exports.
#[derive(Debug, Default)]
pub struct ExportStats {
    leads: AtomicU64,
    resumed: AtomicU64,
    ended: [AtomicU64; ExportEnd::ALL.len()],
}

/// Snapshot of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExportCounts {
    /// Number of leads passed to streams.
    pub leads: u64,
    /// Number of streams that began with a token.
    pub resumed: u64,
    /// Number of streams that ended, by their end.
    pub ended: [(ExportEnd, u64); ExportEnd::ALL.len()],
}

// === impl ExportEnd ===

impl ExportEnd {
    /// All ends.
    pub const ALL: [Self; 4] = [Self::Complete, Self::Paused, Self::Failed, Self::Cancelled];

    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Paused => "paused",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

// === impl ExportStats ===

impl ExportStats {
    pub(in crate::leads) fn on_leads(&self, leads: usize) {
        self.leads.fetch_add(leads as u64, Ordering::Relaxed);
    }

    pub(in crate::leads) fn on_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    pub(in crate::leads) fn on_end(&self, end: ExportEnd) {
        self.ended[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Current counts.
    pub fn snapshot(&self) -> ExportCounts {
        let count = |end: ExportEnd| (end, self.ended[end as usize].load(Ordering::Relaxed));
        ExportCounts {
            leads: self.leads.load(Ordering::Relaxed),
            resumed: self.resumed.load(Ordering::Relaxed),
            ended: ExportEnd::ALL.map(count),
        }
    }
}
