//! Everything that any test logs, at the most talkative level, looked through for secrets: those of
//! the fakes carry a mark.

use std::{
    io,
    sync::{Mutex, Once},
};

use leadsd::telemetry;
use leadsd_base::secret::SECRET_MARKER;
use tracing_subscriber::{
    fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Lines that hold a secret; shared by all tests of the process.
static LEAKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Secrets without the mark, such as tokens, of which no line may have a part.
static KEPT_OUT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Events of the audit trail.
static AUDIT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Access events.
static ACCESS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Lines seen, so that the check is known to look at something.
static LINES: Mutex<u64> = Mutex::new(0);

#[derive(Clone, Copy)]
struct Sink;

/// Captures the logs of this process from now on.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = telemetry::filter("trace").expect("a good filter");
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(Sink);
        tracing_subscriber::registry().with(filter).with(lines).init();
    });
}

/// From now on no line may have this text, or the last part of it if it is a token.
pub(crate) fn keep_out(secret: &str) {
    let part = secret.rsplit('.').next().unwrap_or(secret);
    assert!(part.len() > 20, "too short to be told from other texts");
    KEPT_OUT.lock().unwrap().push(part.to_owned());
}

/// The audit events of a call.
pub(crate) fn audit(request_id: &str) -> Vec<String> {
    let lines = AUDIT.lock().unwrap();
    let id = format!("request.id=\"{request_id}\"");
    lines.iter().filter(|line| line.contains(&id)).cloned().collect()
}

/// The access event of a call; fails if it has several.
#[track_caller]
pub(crate) fn access(request_id: &str) -> Option<String> {
    let lines = ACCESS.lock().unwrap();
    let id = format!("request.id=\"{request_id}\"");
    let mut own = lines.iter().filter(|line| line.contains(&id));
    let first = own.next().cloned();
    assert_eq!(own.next(), None, "one event for a call");
    first
}

/// Fails if a secret was logged.
#[track_caller]
pub(crate) fn assert_clean() {
    let leaks = LEAKS.lock().unwrap();
    assert!(leaks.is_empty(), "a secret was logged:\n{}", leaks.join("\n"));
}

// === impl Sink ===

impl io::Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        *LINES.lock().unwrap() += 1;
        let text = String::from_utf8_lossy(line);
        let kept_out = |secret: &String| text.contains(secret.as_str());
        if text.contains("leadsd::audit") {
            AUDIT.lock().unwrap().push(text.clone().into_owned());
        }
        if text.contains("leadsd::access") {
            ACCESS.lock().unwrap().push(text.clone().into_owned());
        }
        if text.contains(SECRET_MARKER) || KEPT_OUT.lock().unwrap().iter().any(kept_out) {
            LEAKS.lock().unwrap().push(text.into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Sink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

#[tokio::test]
async fn secrets_would_be_noticed_in_the_logs_and_are_not_there() {
    let app = crate::harness::TestApp::builder().oauth().start().await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    app.hubspot.expire_tokens();
    app.get(&id).await.unwrap();
    assert!(*LINES.lock().unwrap() > 10, "the capture sees the service's logs");
    let mut sink = Sink;
    let line = format!("token={SECRET_MARKER}-1");
    assert_eq!(io::Write::write(&mut sink, line.as_bytes()).unwrap(), line.len());
    let planted = LEAKS.lock().unwrap().pop().expect("the planted secret is noticed");
    assert_eq!(planted, line);
}
