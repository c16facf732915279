//! Order, bounds and loss of log lines, with sinks that block, fail or wait for permission to write.

use std::sync::mpsc;

use super::*;

const SOON: Duration = Duration::from_secs(30);

/// Sink that waits for a permission before each batch.
struct GatedSink {
    permissions: mpsc::Receiver<()>,
    written: mpsc::Sender<String>,
}

/// In-memory sink.
#[derive(Clone, Default)]
struct OpenSink(Arc<Mutex<Vec<u8>>>);

/// In-memory sink that first fails with these errors, and writes one byte before each.
struct FailingSink {
    errors: Vec<io::ErrorKind>,
    accepts_byte: bool,
    sink: OpenSink,
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

// === impl OpenSink ===

impl OpenSink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl Write for OpenSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl FailingSink ===

impl FailingSink {
    fn new(errors: &[io::ErrorKind], sink: &OpenSink) -> Self {
        Self { errors: errors.to_vec(), accepts_byte: true, sink: sink.clone() }
    }
}

impl Write for FailingSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.errors.is_empty() {
            return self.sink.write(bytes);
        }
        self.accepts_byte = !self.accepts_byte;
        match self.accepts_byte {
            false => self.sink.write(&bytes[..1]),
            true => Err(self.errors.remove(0).into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(writer: &LogWriter, class: LineClass, line: &str) {
    writer.push(class, line.as_bytes());
}

/// Waits until the thread is blocked in the sink.
fn wait_until_writing(writer: &LogWriter) {
    while !writer.0.buffer.lock().is_writing {
        thread::yield_now();
    }
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
                    log(writer, LineClass::ALL[number % 5], &format!("{name} {number}\n"));
                }
            });
        }
    });
    assert!(writer.flush(SOON));
    let written = sink.text();
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
    let lost = |target| writer.0.buffer.lock().unreported.of_target(target);
    let line = format!("{}\n", "x".repeat(1_023));

    log(&writer, LineClass::Info, "first\n");
    wait_until_writing(&writer);
    let eighth = MAX_BYTES / 8 / line.len();
    for _ in 0..4 * eighth + 5 {
        log(&writer, LineClass::Access, &line);
    }
    assert_eq!(lost(LogTarget::Access), 5, "access events use at most half of the buffer");
    for class in [LineClass::Debug, LineClass::Info, LineClass::Warn] {
        for _ in 0..=eighth {
            log(&writer, class, &line);
        }
    }
    assert_eq!(lost(LogTarget::Other), 3, "each class has space that the lower ones cannot use");
    for _ in 0..eighth + 2 {
        log(&writer, LineClass::Audit, &line);
    }
    assert_eq!(lost(LogTarget::Audit), 2, "audit events have reserved space");
    assert!(!writer.flush(Duration::ZERO));

    for _ in 0..2 {
        permit.send(()).unwrap();
    }
    assert_eq!(written.recv_timeout(SOON).unwrap(), "first\n");
    assert_eq!(written.recv_timeout(SOON).unwrap().len(), MAX_BYTES);
    let reported = reported.recv_timeout(SOON).unwrap();
    assert_eq!(LogTarget::ALL.map(|target| reported.of_target(target)), [5, 2, 3]);
    assert!(writer.flush(SOON));
    for (target, before) in LogTarget::ALL.into_iter().zip(before) {
        // Tests that run at the same time count as well.
        assert!(target.lost() >= before + reported.of_target(target), "{target:?}");
    }
}

#[test]
fn a_full_disk_loses_no_line_that_fits_into_the_buffer() {
    let sink = OpenSink::default();
    let errors =
        [io::ErrorKind::StorageFull, io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
    let (report, reported) = mpsc::channel();
    let writer = LogWriter::start(FailingSink::new(&errors, &sink), move |lost| {
        report.send(lost).unwrap();
    });
    let writer = writer.unwrap();
    for number in 0..100 {
        log(&writer, LineClass::Info, &format!("line {number}\n"));
    }
    assert!(writer.flush(SOON));
    assert_eq!(sink.text().lines().count(), 100);
    assert!(reported.try_recv().is_err());
}

#[test]
fn lines_for_a_closed_pipe_are_lost_and_reported_only_to_a_new_reader() {
    let sink = OpenSink::default();
    let errors = [io::ErrorKind::BrokenPipe, io::ErrorKind::BrokenPipe];
    let (report, reported) = mpsc::channel();
    let writer = LogWriter::start(FailingSink::new(&errors, &sink), move |lost| {
        report.send(lost).unwrap();
    });
    let writer = writer.unwrap();
    for line in ["one\n", "two\n", "three\n"] {
        log(&writer, LineClass::Audit, line);
        assert!(writer.flush(SOON));
        assert!(reported.try_recv().is_err(), "a report would be lost as well");
    }
    log(&writer, LineClass::Audit, "four\n");
    let reported = reported.recv_timeout(SOON).unwrap();
    assert_eq!((reported.total(), reported.of_target(LogTarget::Audit)), (2, 2));
    assert!(writer.flush(SOON));
    assert_eq!(sink.text(), "otthree\nfour\n");
}

#[test]
fn a_dropped_guard_flushes_the_buffer() {
    let sink = OpenSink::default();
    let writer = LogWriter::start(sink.clone(), |_| {}).unwrap();
    let guard = writer.guard();
    log(&writer, LineClass::Info, "last words\n");
    drop(guard);
    assert_eq!(sink.text(), "last words\n");
}

#[test]
fn a_panic_flushes_the_buffer() {
    let sink = OpenSink::default();
    let writer = LogWriter::start(sink.clone(), |_| {}).unwrap();
    let work = || {
        let _guard = writer.guard();
        log(&writer, LineClass::Audit, "before the panic\n");
        panic!("planted");
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
    assert_eq!(sink.text(), "before the panic\n");
}

#[test]
fn the_log_is_behind_before_access_events_are_dropped() {
    assert!(!is_behind(BATCH_BYTES) && !is_behind(1 << 20));
    assert!(is_behind((1 << 20) + 1));
    let (permissions, gate) = mpsc::channel();
    let (written, _lines) = mpsc::channel();
    let writer = LogWriter::start(GatedSink { permissions: gate, written }, |_| {}).unwrap();
    log(&writer, LineClass::Audit, "first\n");
    wait_until_writing(&writer);
    let line = "x".repeat(1_000);
    let buffered = || writer.0.buffer.lock().batch.bytes.len();
    while !is_behind(buffered()) {
        log(&writer, LineClass::Access, &line);
    }
    let room = LineClass::Access.limit(MAX_BYTES) - buffered();
    assert!(room > 1_000_000, "{room} bytes of room");
    drop(permissions);
}
