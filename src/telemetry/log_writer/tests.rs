//! Order, bounds and loss of log lines, with sinks that wait for permission to write.

use std::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(30);

/// Sink that waits for a permission before each batch.
struct GatedSink {
    permissions: mpsc::Receiver<()>,
    written: mpsc::Sender<String>,
}

// === impl GatedSink ===

impl Write for GatedSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.permissions.recv().map_err(io::Error::other)?;
        self.written.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// In-memory sink.
#[derive(Clone, Default)]
struct OpenSink(Arc<Mutex<Vec<u8>>>);

// === impl OpenSink ===

impl Write for OpenSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(writer: &LogWriter, target: LogTarget, line: &str) {
    writer.push(target, line.as_bytes());
}

#[test]
fn an_open_sink_gets_all_lines_in_the_order_of_each_thread() {
    let sink = OpenSink::default();
    let writer = LogWriter::start(sink.clone(), |_| {}).unwrap();
    thread::scope(|scope| {
        for name in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                for number in 0..2_500 {
                    let target = LogTarget::ALL[number % 3];
                    log(writer, target, &format!("{name} {number}\n"));
                }
            });
        }
    });
    assert!(writer.flush(SOON));
    let written = String::from_utf8(sink.0.lock().clone()).unwrap();
    for name in 0..4 {
        let prefix = format!("{name} ");
        let numbers: Vec<usize> =
            written.lines().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert_eq!(numbers, (0..2_500).collect::<Vec<_>>(), "thread {name}");
    }
}

#[test]
fn a_blocked_sink_delays_no_caller_and_the_loss_is_counted_and_reported() {
    let (permit, permissions) = mpsc::channel();
    let (sender, written) = mpsc::channel();
    let (report, reported) = mpsc::channel();
    let sink = GatedSink { permissions, written: sender };
    let writer = LogWriter::start(sink, move |lost| report.send(lost).unwrap()).unwrap();
    let before = LogTarget::ALL.map(LogTarget::lost);
    let lost = |target: LogTarget| target.lost() - before[target as usize];
    let line = format!("{}\n", "x".repeat(1_023));

    log(&writer, LogTarget::Other, "first\n");
    // From here on the thread is blocked in the sink, and lines stay in the buffer.
    while !writer.0.buffer.lock().is_writing {
        thread::yield_now();
    }
    let fitting = (MAX_BYTES - AUDIT_BYTES) / line.len();
    for _ in 0..fitting + 5 {
        log(&writer, LogTarget::Access, &line);
    }
    assert_eq!(lost(LogTarget::Access), 5);
    for _ in 0..AUDIT_BYTES / line.len() + 2 {
        log(&writer, LogTarget::Audit, &line);
    }
    assert_eq!(lost(LogTarget::Audit), 2, "audit events have reserved space");
    assert!(!writer.flush(Duration::ZERO));

    for _ in 0..2 {
        permit.send(()).unwrap();
    }
    assert_eq!(written.recv_timeout(SOON).unwrap(), "first\n");
    assert_eq!(written.recv_timeout(SOON).unwrap().len(), MAX_BYTES);
    assert_eq!(reported.recv_timeout(SOON), Ok(7));
    assert!(writer.flush(SOON));
}

#[test]
fn a_dropped_guard_flushes_the_buffer() {
    let sink = OpenSink::default();
    let writer = LogWriter::start(sink.clone(), |_| {}).unwrap();
    let guard = writer.guard();
    log(&writer, LogTarget::Other, "last words\n");
    drop(guard);
    assert_eq!(*sink.0.lock(), b"last words\n");
}

#[test]
fn a_panic_flushes_the_buffer() {
    let sink = OpenSink::default();
    let writer = LogWriter::start(sink.clone(), |_| {}).unwrap();
    let work = || {
        let _guard = writer.guard();
        log(&writer, LogTarget::Audit, "before the panic\n");
        panic!("planted");
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
    assert_eq!(*sink.0.lock(), b"before the panic\n");
}

#[test]
fn events_are_classified_by_their_target() {
    assert_eq!(LogTarget::from_target("leadsd::access"), LogTarget::Access);
    assert_eq!(LogTarget::from_target("leadsd::audit"), LogTarget::Audit);
    assert_eq!(LogTarget::from_target("leadsd::audit::more"), LogTarget::Other);
}
