//! Writes log lines in batches from a separate thread, so that a blocked or failing standard error delays
//! no call.
//!
//! - Lines are buffered in order, up to a maximum number of bytes.
//! - Lines that do not fit are dropped and counted by target. A fuller buffer drops access events first,
//!   then `debug`, `info` and `warn`. Audit events have reserved space.
//! - The number of dropped lines is logged where the lines are missing.
//! - Before access events are dropped, the log counts as behind, and the rest of the room is divided among
//!   their origins.
//! - Audit events are written at once. Other lines are batched.
//! - A failed write is repeated: a full disk or a non-blocking pipe may have space later. If the reader
//!   has closed the pipe, the batch counts as dropped.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::log_target::{LineClass, LogTarget};

/// Size of the buffer in bytes: more than a second of access events at 5,000 calls per second.
const MAX_BYTES: usize = 4 << 20;

/// Number of buffered bytes that are written without delay.
const BATCH_BYTES: usize = 64 << 10;

/// Maximum delay of a line for batching.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// Pause before a failed write is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Maximum capacity of an empty buffer in bytes.
const MAX_IDLE_BYTES: usize = 256 << 10;

/// Maximum time for the final flush: a blocked reader must not prevent the exit of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of bytes in the buffer of the process.
static BUFFERED: AtomicUsize = AtomicUsize::new(0);

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
    class: LineClass,
}

/// Number of lost lines since the previous report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LostLines {
    by_target: [u64; LogTarget::ALL.len()],
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
    batch: Batch,
    /// True if the buffer must be written without delay.
    is_urgent: bool,
    /// True while the thread writes a batch.
    is_writing: bool,
    /// Lost lines that are not reported yet.
    unreported: LostLines,
}

/// Lines in the order of their events.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: Vec<BufferedLine>,
}

/// Extent of a line in a batch.
#[derive(Debug, Clone, Copy)]
struct BufferedLine {
    /// Offset of the byte after the line.
    end: u32,
    target: LogTarget,
}

// === impl LogWriter ===

impl LogWriter {
    /// Starts the writer thread. It calls `report` with the number of lost lines.
    pub(super) fn start(
        sink: impl Write + Send + 'static,
        report: impl Fn(LostLines) + Send + 'static,
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
        let is_busy = |buffer: &mut LogBuffer| buffer.is_writing || !buffer.batch.is_empty();
        !drained.wait_while_for(&mut buffer, is_busy, timeout).timed_out()
    }

    fn push(&self, class: LineClass, line: &[u8]) {
        let LogQueue { buffer, filled, .. } = &*self.0;
        let mut buffer = buffer.lock();
        let before = buffer.batch.bytes.len();
        if before + line.len() > class.limit(MAX_BYTES) {
            buffer.unreported.add(class.target());
            return;
        }
        buffer.batch.push(class.target(), line);
        BUFFERED.store(before + line.len(), Ordering::Relaxed);
        let was_urgent = buffer.is_urgent;
        buffer.is_urgent |= class == LineClass::Audit || before + line.len() >= BATCH_BYTES;
        if before == 0 || buffer.is_urgent != was_urgent {
            filled.notify_one();
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { writer: self, class: LineClass::Info }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { writer: self, class: LineClass::from_metadata(metadata) }
    }
}

// === impl LogGuard ===

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

// === impl LineWriter ===

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.push(self.class, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl LostLines ===

impl LostLines {
    /// Number of lost lines of a target.
    pub(super) fn of_target(self, target: LogTarget) -> u64 {
        self.by_target[target as usize]
    }

    /// Number of lost lines of all targets.
    pub(super) fn total(self) -> u64 {
        self.by_target.iter().sum()
    }

    /// Counts a lost line here and in the metric.
    fn add(&mut self, target: LogTarget) {
        target.count_lost();
        self.by_target[target as usize] += 1;
    }
}

// === impl Batch ===

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    fn push(&mut self, target: LogTarget, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        // The buffer is far smaller than 4 GiB.
        let end = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.lines.push(BufferedLine { end, target });
    }

    /// Targets of the lines that are not written completely after `written` bytes.
    fn unwritten(&self, written: usize) -> impl Iterator<Item = LogTarget> {
        let lines = self.lines.iter().rev();
        lines.take_while(move |line| line.end as usize > written).map(|line| line.target)
    }

    fn clear(&mut self) {
        let Self { bytes, lines } = self;
        bytes.clear();
        bytes.shrink_to(MAX_IDLE_BYTES);
        lines.clear();
        lines.shrink_to(MAX_IDLE_BYTES / 64);
    }
}

// === impl LogQueue ===

impl LogQueue {
    fn write_lines(&self, mut sink: impl Write, report: impl Fn(LostLines)) {
        let mut batch = Batch::default();
        let mut has_reader = true;
        loop {
            self.next_batch(&mut batch);
            // Without a reader, each report would be one more lost line to report.
            if has_reader {
                let lost = std::mem::take(&mut self.buffer.lock().unreported);
                if lost.total() > 0 {
                    // The buffer has just been emptied, so the event follows the last lines before the
                    // loss.
                    report(lost);
                }
            }
            let written = write_batch(&mut sink, &batch.bytes);
            has_reader = written.is_ok();
            if let Err(written) = written {
                let mut buffer = self.buffer.lock();
                batch.unwritten(written).for_each(|target| buffer.unreported.add(target));
            }
            batch.clear();
        }
    }

    /// Waits for a batch and swaps it into `batch`, which must be empty.
    fn next_batch(&self, batch: &mut Batch) {
        let mut buffer = self.buffer.lock();
        buffer.is_writing = false;
        if buffer.batch.is_empty() {
            buffer.is_urgent = false;
            self.drained.notify_all();
            self.filled.wait_while(&mut buffer, |buffer| buffer.batch.is_empty());
        }
        self.filled.wait_while_for(&mut buffer, |buffer| !buffer.is_urgent, BATCH_DELAY);
        std::mem::swap(&mut buffer.batch, batch);
        BUFFERED.store(0, Ordering::Relaxed);
        buffer.is_urgent = false;
        buffer.is_writing = true;
    }
}

/// True if lines arrive faster than they are written, and half of the room for access events is in use.
pub fn is_log_behind() -> bool {
    is_behind(BUFFERED.load(Ordering::Relaxed))
}

fn is_behind(buffered: usize) -> bool {
    buffered > LineClass::Access.limit(MAX_BYTES) / 2
}

/// Writes a batch, and repeats failed writes. Errors with the number of written bytes if the reader has
/// closed the pipe.
fn write_batch(sink: &mut impl Write, batch: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while written < batch.len() {
        match sink.write(&batch[written..]) {
            Ok(bytes) if bytes > 0 => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(written),
            // Meanwhile the buffer drops what does not fit.
            Ok(_) | Err(_) => thread::park_timeout(RETRY_PAUSE),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
