//! Counters of opened and closed connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// Reason why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Closed by the client.
    Client,
    /// Reached the maximum age.
    Age,
    /// Closed by the shutdown of the service.
    Drain,
    /// Over a limit of connections, or closed to make room.
    OverLimit,
    /// Without calls for too long.
    Idle,
    /// The client certificate expired, or its CA is no longer trusted.
    Certificate,
    /// The TLS handshake or the HTTP/2 preface failed or timed out.
    Handshake,
    /// I/O error, keepalive timeout or protocol violation.
    Error,
    /// The calls did not finish within the grace period.
    Forced,
    /// The client cancelled too many calls.
    Cancellations,
    /// The client did not read a response in time.
    Unread,
}

/// Counters of opened and closed connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionStats {
    opened: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

// === impl CloseReason ===

impl CloseReason {
    const ALL: [Self; 11] = [
        Self::Client,
        Self::Age,
        Self::Drain,
        Self::OverLimit,
        Self::Idle,
        Self::Certificate,
        Self::Handshake,
        Self::Error,
        Self::Forced,
        Self::Cancellations,
        Self::Unread,
    ];

    /// Label value in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::OverLimit => "over_limit",
            Self::Idle => "idle",
            Self::Certificate => "certificate",
            Self::Handshake => "handshake",
            Self::Error => "error",
            Self::Forced => "forced",
            Self::Cancellations => "cancellations",
            Self::Unread => "unread",
        }
    }
}

// === impl ConnectionStats ===

impl ConnectionStats {
    /// Counts an accepted connection.
    pub(crate) fn on_open(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed connection.
    pub(crate) fn on_close(&self, reason: CloseReason) {
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Number of accepted connections.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// Number of closed connections by reason.
    pub(crate) fn closed(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: CloseReason| self.closed[reason as usize].load(Ordering::Relaxed);
        CloseReason::ALL.map(|reason| (reason.as_str(), count(reason))).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_separate_counter() {
        let stats = ConnectionStats::default();
        for (times, reason) in (1..).zip(CloseReason::ALL) {
            (0..times).for_each(|_| stats.on_close(reason));
        }
        let expected: Vec<_> =
            (1..).zip(CloseReason::ALL).map(|(times, reason)| (reason.as_str(), times)).collect();
        assert_eq!(stats.closed(), expected);
    }
}
