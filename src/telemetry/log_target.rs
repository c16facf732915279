//! Targets and classes of log lines, and the counts of lost lines.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Level, Metadata};

use super::names::{ACCESS_TARGET, AUDIT_TARGET};

/// Number of lost lines by [`LogTarget`], of all writers of the process.
static LOST: [AtomicU64; LogTarget::ALL.len()] =
    [const { AtomicU64::new(0) }; LogTarget::ALL.len()];

/// Target of log events, for counting lost lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Access events.
    Access,
    /// Audit events.
    Audit,
    /// Other events.
    Other,
}

/// Class of a log line. A fuller buffer rejects more classes, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LineClass {
    /// Access events of any level.
    Access,
    /// Other events at `debug` and `trace`.
    Debug,
    /// Other events at `info`.
    Info,
    /// Other events at `warn` and `error`.
    Warn,
    /// Audit events of any level.
    Audit,
}

// === impl LogTarget ===

impl LogTarget {
    /// All targets.
    pub const ALL: [Self; 3] = [Self::Access, Self::Audit, Self::Other];

    /// Label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Audit => "audit",
            Self::Other => "other",
        }
    }

    /// Number of lost lines since start.
    pub fn lost(self) -> u64 {
        LOST[self as usize].load(Ordering::Relaxed)
    }

    /// Counts a lost line.
    pub(super) fn count_lost(self) {
        LOST[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}

// === impl LineClass ===

impl LineClass {
    /// All classes.
    #[cfg(test)]
    pub(super) const ALL: [Self; 5] =
        [Self::Access, Self::Debug, Self::Info, Self::Warn, Self::Audit];

    /// Class of an event.
    pub(super) fn from_metadata(metadata: &Metadata<'_>) -> Self {
        match (metadata.target(), *metadata.level()) {
            (ACCESS_TARGET, _) => Self::Access,
            (AUDIT_TARGET, _) => Self::Audit,
            (_, Level::ERROR | Level::WARN) => Self::Warn,
            (_, Level::INFO) => Self::Info,
            (_, Level::DEBUG | Level::TRACE) => Self::Debug,
        }
    }

    /// Target under which a lost line is counted.
    pub(super) fn target(self) -> LogTarget {
        match self {
            Self::Access => LogTarget::Access,
            Self::Audit => LogTarget::Audit,
            Self::Debug | Self::Info | Self::Warn => LogTarget::Other,
        }
    }

    /// Maximum number of bytes in a buffer of `size` bytes after adding a line of this class. Each class
    /// leaves an eighth to the classes above it, and access events leave the half.
    pub(super) fn limit(self, size: usize) -> usize {
        let eighths = match self {
            Self::Access => 4,
            Self::Debug => 5,
            Self::Info => 6,
            Self::Warn => 7,
            Self::Audit => 8,
        };
        size / 8 * eighths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_space_that_the_classes_below_cannot_use() {
        let limits = LineClass::ALL.map(|class| class.limit(8 << 10));
        assert_eq!(limits, [4, 5, 6, 7, 8].map(|eighths| eighths << 10));
        assert!(LineClass::ALL.is_sorted());
    }

    #[test]
    fn lines_are_classified_by_target_and_level() {
        use tracing::{Subscriber, subscriber::with_default};
        use tracing_subscriber::{
            Layer, Registry,
            layer::{Context, SubscriberExt as _},
        };

        /// Layer that collects the class of each event.
        struct Classes(std::sync::Arc<parking_lot::Mutex<Vec<LineClass>>>);

        // === impl Classes ===

        impl<S: Subscriber> Layer<S> for Classes {
            fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
                self.0.lock().push(LineClass::from_metadata(event.metadata()));
            }
        }

        let classes = std::sync::Arc::default();
        with_default(Registry::default().with(Classes(std::sync::Arc::clone(&classes))), || {
            tracing::info!(target: "leadsd::access", "Call finished");
            tracing::debug!(target: "leadsd::access", "Call finished");
            tracing::trace!("trace");
            tracing::debug!("debug");
            tracing::info!("info");
            tracing::warn!("warn");
            tracing::error!(target: "leadsd::audit::other", "error");
            tracing::info!(target: "leadsd::audit", "Wrote lead");
        });
        use LineClass::{Access, Audit, Debug, Info, Warn};
        assert_eq!(*classes.lock(), [Access, Access, Debug, Debug, Info, Warn, Warn, Audit]);
    }
}
