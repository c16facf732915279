//! Writes log lines in batches from a separate thread, so that a blocked reader of standard error delays
//! no call.
//!
//! - Lines are buffered in order, up to a maximum number of bytes.
//! - Lines over the maximum are dropped and counted by target; the loss is logged when writing continues.
//! - Audit events have reserved space and are written at once. Other lines are batched.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::names::{ACCESS_TARGET, AUDIT_TARGET};

/// Size of the buffer in bytes: almost two seconds of access events at 5,000 calls per second.
const MAX_BYTES: usize = 4 << 20;

/// Part of the buffer that is reserved for audit events, in bytes.
const AUDIT_BYTES: usize = 1 << 20;

/// Number of buffered bytes that are written without delay.
const BATCH_BYTES: usize = 64 << 10;

/// Maximum delay of a line for batching.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// Maximum capacity of an empty buffer in bytes.
const MAX_IDLE_BYTES: usize = 256 << 10;

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

/// Handle to the writer thread.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<LogQueue>);

/// Guard that flushes the buffer on drop, for at most one second.
#[derive(Debug)]
#[must_use = "without the guard, lines buffered at the end of the process are lost"]
pub struct LogGuard(LogWriter);

/// Writer of one log line into the buffer.
pub(super) struct LineWriter<'a> {
    writer: &'a LogWriter,
    target: LogTarget,
}

/// Queue of log lines, shared with the writer thread.
#[derive(Debug, Default)]
struct LogQueue {
    buffer: Mutex<LogBuffer>,
    /// Signals that the buffer has lines.
    filled: Condvar,
    /// Signals that all lines are written.
    drained: Condvar,
}

/// Buffered log lines.
#[derive(Debug, Default)]
struct LogBuffer {
    lines: Vec<u8>,
    /// True if the buffer must be written without delay.
    is_urgent: bool,
    /// True while the thread writes a batch.
    is_writing: bool,
    /// Number of lost lines that are not reported yet.
    unreported: u64,
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

    fn from_target(target: &str) -> Self {
        match target {
            ACCESS_TARGET => Self::Access,
            AUDIT_TARGET => Self::Audit,
            _ => Self::Other,
        }
    }

    /// Maximum number of bytes in the buffer after adding a line of this target.
    fn limit(self) -> usize {
        match self {
            Self::Audit => MAX_BYTES,
            Self::Access | Self::Other => MAX_BYTES - AUDIT_BYTES,
        }
    }
}

// === impl LogWriter ===

impl LogWriter {
    /// Starts the writer thread. It calls `report` with the number of lost lines.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Arc::<LogQueue>::default();
        let writer = Arc::clone(&queue);
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.write_lines(sink, report))?;
        Ok(Self(queue))
    }

    /// Creates a guard that flushes the buffer on drop.
    pub(super) fn guard(&self) -> LogGuard {
        LogGuard(self.clone())
    }

    /// Waits until all buffered lines are written. Returns false after `timeout`.
    fn flush(&self, timeout: Duration) -> bool {
        let LogQueue { buffer, filled, drained } = &*self.0;
        let mut buffer = buffer.lock();
        buffer.is_urgent = true;
        filled.notify_one();
        let is_busy = |buffer: &mut LogBuffer| buffer.is_writing || !buffer.lines.is_empty();
        !drained.wait_while_for(&mut buffer, is_busy, timeout).timed_out()
    }

    fn push(&self, target: LogTarget, line: &[u8]) {
        let LogQueue { buffer, filled, .. } = &*self.0;
        let mut buffer = buffer.lock();
        if buffer.lines.len() + line.len() > target.limit() {
            buffer.unreported += 1;
            LOST[target as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = buffer.lines.is_empty();
        buffer.lines.extend_from_slice(line);
        let was_urgent = buffer.is_urgent;
        buffer.is_urgent |= target == LogTarget::Audit || buffer.lines.len() >= BATCH_BYTES;
        if was_empty || buffer.is_urgent != was_urgent {
            filled.notify_one();
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { writer: self, target: LogTarget::Other }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { writer: self, target: LogTarget::from_target(metadata.target()) }
    }
}

// === impl LogGuard ===

impl Drop for LogGuard {
    fn drop(&mut self) {
        // Bounded, since a blocked reader must not prevent the exit of the process.
        self.0.flush(Duration::from_secs(1));
    }
}

// === impl LineWriter ===

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.push(self.target, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl LogQueue ===

impl LogQueue {
    fn write_lines(&self, mut sink: impl Write, report: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let lost = self.next_batch(&mut batch);
            // The service continues if the reader has closed the pipe.
            let _ = sink.write_all(&batch).and_then(|()| sink.flush());
            batch.clear();
            batch.shrink_to(MAX_IDLE_BYTES);
            if lost > 0 {
                report(lost);
            }
        }
    }

    /// Waits for a batch and swaps it into `batch`, which must be empty. Returns the number of lines lost
    /// since the previous batch.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        let mut buffer = self.buffer.lock();
        buffer.is_writing = false;
        if buffer.lines.is_empty() {
            buffer.is_urgent = false;
            self.drained.notify_all();
            self.filled.wait_while(&mut buffer, |buffer| buffer.lines.is_empty());
        }
        self.filled.wait_while_for(&mut buffer, |buffer| !buffer.is_urgent, BATCH_DELAY);
        std::mem::swap(&mut buffer.lines, batch);
        buffer.is_urgent = false;
        buffer.is_writing = true;
        std::mem::take(&mut buffer.unreported)
    }
}

#[cfg(test)]
mod tests;
