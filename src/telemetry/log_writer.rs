//! Writes log lines from a thread of its own, in batches, so that a blocked reader delays no call.
//!
//! Lines wait in one buffer with a bound in bytes and keep their order. Lines that do not fit are
//! counted by target, and the loss is reported once lines are written again. Audit events have room of
//! their own in the buffer and are written at once; others wait a moment for more.

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

/// Maximum bytes in the buffer: almost two seconds of access events at 5,000 calls a second.
const MAX_BYTES: usize = 4 << 20;

/// Bytes of the buffer that only audit events use.
const AUDIT_BYTES: usize = 1 << 20;

/// Buffered bytes that are written without waiting for more.
const BATCH_BYTES: usize = 64 << 10;

/// How long a line waits for others to be written with.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// Capacity that an empty buffer may keep.
const MAX_IDLE_BYTES: usize = 256 << 10;

/// Number of lost lines by [`LogTarget`], of all writers of the process.
static LOST: [AtomicU64; LogTarget::ALL.len()] =
    [const { AtomicU64::new(0) }; LogTarget::ALL.len()];

/// The kinds of events that are counted apart when they are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogTarget {
    /// Access events.
    Access,
    /// Audit events.
    Audit,
    /// Everything else.
    Other,
}

/// Accepts log lines for one thread that writes them.
#[derive(Debug, Clone)]
pub(super) struct LogWriter(Arc<Shared>);

/// Writes what is buffered when it is dropped, for a second at most.
#[derive(Debug)]
#[must_use = "lines that are buffered when the process ends are lost without it"]
pub struct LogGuard(LogWriter);

/// One line on its way into the buffer.
pub(super) struct Line<'a> {
    writer: &'a LogWriter,
    target: LogTarget,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Everything that was buffered is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Whether lines wait that must be written without delay.
    is_urgent: bool,
    /// Whether the thread has lines that are not written yet.
    is_writing: bool,
    /// Lost lines that were not reported yet.
    unreported: u64,
}

// === impl LogTarget ===

impl LogTarget {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Access, Self::Audit, Self::Other];

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Audit => "audit",
            Self::Other => "other",
        }
    }

    /// Number of lines that were lost since the process started.
    pub fn lost(self) -> u64 {
        LOST[self as usize].load(Ordering::Relaxed)
    }

    fn of_event(target: &str) -> Self {
        match target {
            ACCESS_TARGET => Self::Access,
            AUDIT_TARGET => Self::Audit,
            _ => Self::Other,
        }
    }

    /// Bytes that the buffer may hold, this line included.
    fn limit(self) -> usize {
        match self {
            Self::Audit => MAX_BYTES,
            Self::Access | Self::Other => MAX_BYTES - AUDIT_BYTES,
        }
    }
}

// === impl LogWriter ===

impl LogWriter {
    /// Starts the thread. `report` is called on it with the number of lines that were lost.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let own = Arc::clone(&shared);
        thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || own.write_lines(sink, report))?;
        Ok(Self(shared))
    }

    /// Flushes the buffer when the result is dropped.
    pub(super) fn guard(&self) -> LogGuard {
        LogGuard(self.clone())
    }

    /// Waits until everything is written that was buffered before. False if that takes longer than
    /// `timeout`.
    fn flush(&self, timeout: Duration) -> bool {
        let Shared { state, filled, drained } = &*self.0;
        let mut state = state.lock();
        state.is_urgent = true;
        filled.notify_one();
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        !drained.wait_while_for(&mut state, is_busy, timeout).timed_out()
    }

    fn push(&self, target: LogTarget, line: &[u8]) {
        let Shared { state, filled, .. } = &*self.0;
        let mut state = state.lock();
        if state.lines.len() + line.len() > target.limit() {
            state.unreported += 1;
            LOST[target as usize].fetch_add(1, Ordering::Relaxed);
            return;
        }
        let was_empty = state.lines.is_empty();
        state.lines.extend_from_slice(line);
        let was_urgent = state.is_urgent;
        state.is_urgent |= target == LogTarget::Audit || state.lines.len() >= BATCH_BYTES;
        if was_empty || state.is_urgent != was_urgent {
            filled.notify_one();
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { writer: self, target: LogTarget::Other }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { writer: self, target: LogTarget::of_event(metadata.target()) }
    }
}

// === impl LogGuard ===

impl Drop for LogGuard {
    fn drop(&mut self) {
        // A reader that is blocked must not keep the process from ending.
        self.0.flush(Duration::from_secs(1));
    }
}

// === impl Line ===

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.push(self.target, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Shared ===

impl Shared {
    fn write_lines(&self, mut sink: impl Write, report: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let lost = self.next_batch(&mut batch);
            // A reader that has gone takes nothing away from the service.
            let _ = sink.write_all(&batch).and_then(|()| sink.flush());
            batch.clear();
            batch.shrink_to(MAX_IDLE_BYTES);
            if lost > 0 {
                report(lost);
            }
        }
    }

    /// Swaps the buffered lines into `batch`, which is empty, once there are enough or they have waited
    /// long enough. Returns how many lines were lost since the last time.
    fn next_batch(&self, batch: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.is_writing = false;
        if state.lines.is_empty() {
            state.is_urgent = false;
            self.drained.notify_all();
            self.filled.wait_while(&mut state, |state| state.lines.is_empty());
        }
        self.filled.wait_while_for(&mut state, |state| !state.is_urgent, BATCH_DELAY);
        std::mem::swap(&mut state.lines, batch);
        state.is_urgent = false;
        state.is_writing = true;
        std::mem::take(&mut state.unreported)
    }
}

#[cfg(test)]
mod tests;
