//! Captured log lines of one application: checked for secrets, and kept for the targets that tests
//! read.

use std::{
    io,
    sync::{Arc, Once},
};

use leadsd_base::secret::SECRET_MARKER;
use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _};

/// Targets whose lines are kept; lines of other targets are only checked for secrets.
const KEPT: [&str; 2] = ["leadsd::access", "leadsd::audit"];

/// Minimum length of a forbidden text: a shorter one would match unrelated text.
const MIN_FORBIDDEN: usize = 20;

/// Captures the log lines of one application.
///
/// Fakes mark every secret that they invent with [`SECRET_MARKER`]. A line that contains the marker
/// is a leak, and [`LogCapture::assert_clean`] fails.
#[derive(Debug, Clone, Default)]
pub struct LogCapture(Arc<Mutex<Captured>>);

#[derive(Debug, Default)]
struct Captured {
    lines: u64,
    kept: Vec<String>,
    forbidden: Vec<String>,
    leaks: Vec<String>,
}

/// Takes one line at a time.
#[derive(Debug, Clone)]
struct Writer(LogCapture);

/// Writes nothing, and wants to be asked about each event.
///
/// Whether an event is wanted is cached for the process. Threads whose tests capture nothing would
/// decide it for those whose tests do, if they reach the event at the same time.
struct Undecided;

// === impl LogCapture ===

impl LogCapture {
    /// A dispatcher that writes events that pass `filter` into this capture.
    pub fn dispatch(&self, filter: EnvFilter) -> Dispatch {
        static UNDECIDED: Once = Once::new();
        UNDECIDED.call_once(|| {
            // An error means that the process has another one for all threads.
            let _ = tracing::dispatcher::set_global_default(Dispatch::new(Undecided));
        });
        let lines =
            tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Writer(self.clone()));
        Dispatch::new(tracing_subscriber::registry().with(filter).with(lines))
    }

    /// Forbids a text that carries no marker, such as a token that the test has made. Of a token
    /// with parts, the last part is forbidden.
    ///
    /// # Panics
    ///
    /// If the text is so short that it may match unrelated text.
    pub fn forbid(&self, secret: &str) {
        let part = secret.rsplit('.').next().unwrap_or(secret);
        assert!(part.len() > MIN_FORBIDDEN, "the text is too short and may match unrelated text");
        self.0.lock().forbidden.push(part.to_owned());
    }

    /// The lines of `target` (an access or audit event) for the request with this id.
    pub fn events(&self, target: &str, request_id: &str) -> Vec<String> {
        debug_assert!(KEPT.contains(&target), "lines of {target} are not kept");
        let id = format!("request.id=\"{request_id}\"");
        let captured = self.0.lock();
        let own = captured.kept.iter().filter(|line| line.contains(target) && line.contains(&id));
        own.cloned().collect()
    }

    /// Number of lines so far.
    pub fn lines(&self) -> u64 {
        self.0.lock().lines
    }

    /// Lines that contain a secret, removed from the capture.
    pub fn take_leaks(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().leaks)
    }

    /// # Panics
    ///
    /// If a line contains a secret.
    #[track_caller]
    pub fn assert_clean(&self) {
        let captured = self.0.lock();
        assert!(captured.leaks.is_empty(), "secrets in the log: {:#?}", captured.leaks);
    }

    fn take(&self, line: &str) {
        let mut captured = self.0.lock();
        captured.lines += 1;
        if KEPT.iter().any(|target| line.contains(target)) {
            captured.kept.push(line.to_owned());
        }
        let is_leak = line.contains(SECRET_MARKER)
            || captured.forbidden.iter().any(|text| line.contains(text.as_str()));
        if is_leak {
            captured.leaks.push(line.to_owned());
        }
    }
}

// === impl Undecided ===

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

// === impl Writer ===

impl MakeWriter<'_> for Writer {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl io::Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.take(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing::{dispatcher, info};

    use super::*;

    #[test]
    fn a_secret_fails_only_the_capture_it_was_written_to() {
        let (leaky, clean) = (LogCapture::default(), LogCapture::default());
        let filter = || EnvFilter::new("trace");
        dispatcher::with_default(&leaky.dispatch(filter()), || {
            info!(token = format!("{SECRET_MARKER}-1"), "Refreshed access token");
        });
        dispatcher::with_default(&clean.dispatch(filter()), || info!("Refreshed access token"));
        assert_eq!((leaky.lines(), clean.lines()), (1, 1));
        clean.assert_clean();
        let leaks = leaky.take_leaks();
        assert!(leaks.len() == 1 && leaks[0].contains("Refreshed access token"), "{leaks:?}");
    }

    #[test]
    fn a_forbidden_token_is_a_leak_by_its_last_part() {
        let capture = LogCapture::default();
        capture.forbid("header.payload.signature-of-a-long-token");
        dispatcher::with_default(&capture.dispatch(EnvFilter::new("trace")), || {
            info!("sent payload");
            info!("sent signature-of-a-long-token");
        });
        assert_eq!(capture.take_leaks().len(), 1);
    }

    #[test]
    fn events_are_found_by_target_and_request() {
        let capture = LogCapture::default();
        dispatcher::with_default(&capture.dispatch(EnvFilter::new("trace")), || {
            info!(target: "leadsd::access", { request.id = "a" }, "GetLead");
            info!(target: "leadsd::access", { request.id = "b" }, "GetLead");
            info!(target: "leadsd::audit", { request.id = "a" }, "UpdateLead");
        });
        assert_eq!(capture.events("leadsd::access", "a").len(), 1);
        assert_eq!(capture.events("leadsd::audit", "b").len(), 0);
    }
}
