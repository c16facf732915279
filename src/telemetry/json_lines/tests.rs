//! Tests of the lines of the log: valid JSON for any field, and the fields of all spans.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tracing::{info, info_span, warn};
use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt as _};

use super::*;

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The lines that `log` logs.
fn lines(log: impl FnOnce()) -> String {
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer()
        .fmt_fields(JsonMembers)
        .event_format(JsonLines)
        .with_ansi(false)
        .with_writer(lines.clone());
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, log);
    let text = lines.0.lock().clone();
    String::from_utf8(text).unwrap()
}

/// The object of the only line, without its time.
fn object(log: impl FnOnce()) -> Value {
    let text = lines(log);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let mut object: Value = serde_json::from_str(&text).unwrap();
    let time = object.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(time.as_str().unwrap().parse::<leadsd_base::time::Timestamp>().is_ok(), "{time}");
    object
}

#[test]
fn an_event_is_one_object_with_its_fields_at_the_top() {
    let missing: Option<&str> = None;
    let event = object(|| {
        warn!(
            target: "a::target",
            text = "plain",
            number = 7_u64,
            negative = -7,
            exact = 1.0,
            tiny = 1e-9,
            none = f64::NAN,
            flag = true,
            missing,
            debug = ?Some("x"),
            display = %"y",
            wide = u128::MAX,
            "Something {}", "happened"
        );
    });
    let expected = json!({
        "level": "WARN",
        "target": "a::target",
        "message": "Something happened",
        "text": "plain",
        "number": 7,
        "negative": -7,
        "exact": 1.0,
        "tiny": 1e-9,
        "none": null,
        "flag": true,
        "debug": "Some(\"x\")",
        "display": "y",
        "wide": u128::MAX.to_string(),
    });
    assert_eq!(event, expected);
}

#[test]
fn an_event_has_the_fields_of_its_innermost_span() {
    let event = object(|| {
        let outer = info_span!("outer", a = 1).entered();
        let inner = info_span!("inner", id = "i-1", late = tracing::field::Empty).entered();
        inner.record("late", "value");
        info!("Inside");
        drop((inner, outer));
    });
    assert_eq!(event["span"], json!({"name": "inner", "id": "i-1", "late": "value"}));
    let event = object(|| {
        let span = info_span!("bare").entered();
        info!("Inside");
        drop(span);
    });
    assert_eq!(event["span"], json!({"name": "bare"}));
}

#[test]
fn an_explicit_parent_is_preferred_to_the_current_span() {
    let event = object(|| {
        let parent = info_span!("parent");
        let current = info_span!("current").entered();
        info!(parent: &parent, "Beside");
        drop(current);
    });
    assert_eq!(event["span"]["name"], "parent");
    let event = object(|| {
        let current = info_span!("current").entered();
        info!(parent: None, "Apart");
        drop(current);
    });
    assert_eq!(event.get("span"), None);
    assert_eq!(object(|| info!("Outside")).get("span"), None);
}

proptest! {
    #[test]
    fn any_text_is_one_json_string(text in any::<String>()) {
        let event = object(|| info!(field = text, shown = %text, "Text"));
        prop_assert_eq!(event["field"].as_str(), Some(&*text));
        prop_assert_eq!(event["shown"].as_str(), Some(&*text));
    }
}

#[test]
fn control_characters_are_escaped() {
    let text: String = (0..0x20_u8).map(char::from).chain(['"', '\\', '\u{7f}', 'ä']).collect();
    let event = object(|| info!(field = text, "Text"));
    assert_eq!(event["field"].as_str(), Some(&*text));
}

#[test]
fn a_time_has_microseconds_and_follows_the_second() {
    for time in [
        "2026-03-01T12:30:00Z",
        "2026-03-01T12:30:00.000001Z",
        "2026-03-01T12:30:00.999999Z",
        "2026-03-01T12:30:01.25Z",
        "2026-03-01T12:30:00.5Z",
        "1999-12-31T23:59:59.123456789Z",
    ] {
        let time: Timestamp = time.parse().unwrap();
        let mut text = String::new();
        write_time(time, &mut text).unwrap();
        assert_eq!(text, format!("{time:.6}"));
    }
}
