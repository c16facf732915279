//! Formats log events as JSON, one object per line.
//!
//! The line is that of tracing-subscriber's own JSON format with flattened events and the innermost
//! span. That format parses the fields of the span again for every event. Here a span keeps its fields
//! as JSON text, which is copied into each line.
//!
//! There is a line for each call. Text that needs no escape is found by a scan without branches, and the
//! date is formatted once per second.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
};

use leadsd_base::time::{SystemClock, Timestamp, WallClock as _};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

/// Hexadecimal digits of an escaped control character.
const HEX: &[u8; 16] = b"0123456789abcdef";

thread_local! {
    /// Second of the last line of this thread, and its text up to the fraction.
    static SECOND: RefCell<(Option<i64>, String)> = const { RefCell::new((None, String::new())) };
}

/// Formats an event as one line: time, level, fields, target, and the innermost span.
#[derive(Debug)]
pub(super) struct JsonLines;

/// Formats the fields of a span as the members of a JSON object, without its braces.
#[derive(Debug)]
pub(super) struct JsonMembers;

/// Writes fields as members of a JSON object.
struct MemberWriter<'a, 'w> {
    out: &'a mut Writer<'w>,
    /// True if a comma separates the next member from the text before it.
    follows: bool,
    result: fmt::Result,
}

/// Writes the text of a JSON string.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

// === impl JsonLines ===

impl<S> FormatEvent<S, JsonMembers> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, JsonMembers>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        out.write_str("{\"timestamp\":\"")?;
        write_time(SystemClock.now(), &mut out)?;
        out.write_str("\",\"level\":\"")?;
        out.write_str(metadata.level().as_str())?;
        out.write_char('"')?;
        let mut fields = MemberWriter { out: &mut out, follows: true, result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        out.write_str(",\"target\":\"")?;
        Escaped(&mut out).write_str(metadata.target())?;
        out.write_char('"')?;
        if let Some(span) = ctx.parent_span() {
            out.write_str(",\"span\":{")?;
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonMembers>>();
            if let Some(fields) = fields.filter(|fields| !fields.is_empty()) {
                out.write_str(fields)?;
                out.write_char(',')?;
            }
            out.write_str("\"name\":\"")?;
            Escaped(&mut out).write_str(span.name())?;
            out.write_str("\"}")?;
        }
        out.write_str("}\n")
    }
}

// === impl JsonMembers ===

impl<'w> FormatFields<'w> for JsonMembers {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> fmt::Result {
        let mut members = MemberWriter { out: &mut out, follows: false, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }

    /// Appends fields. A field that the span has already occurs twice; readers of JSON use the last.
    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let follows = !current.is_empty();
        let mut out = current.as_writer();
        let mut members = MemberWriter { out: &mut out, follows, result: Ok(()) };
        fields.record(&mut members);
        members.result
    }
}

// === impl MemberWriter ===

impl MemberWriter<'_, '_> {
    /// Writes one member, unless an earlier one failed.
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = self.name(field).and_then(|()| value(self.out));
        }
    }

    fn name(&mut self, field: &Field) -> fmt::Result {
        let follows = std::mem::replace(&mut self.follows, true);
        self.out.write_str(if follows { ",\"" } else { "\"" })?;
        let name = field.name();
        // A raw identifier.
        Escaped(self.out).write_str(name.strip_prefix("r#").unwrap_or(name))?;
        self.out.write_str("\":")
    }
}

impl Visit for MemberWriter<'_, '_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.write(field, |out| {
            if value.is_finite() { write!(out, "{value:?}") } else { out.write_str("null") }
        });
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |out| write!(out, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |out| out.write_str(if value { "true" } else { "false" }));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |out| {
            out.write_char('"')?;
            Escaped(out).write_str(value)?;
            out.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |out| {
            out.write_char('"')?;
            write!(Escaped(out), "{value:?}")?;
            out.write_char('"')
        });
    }
}

// === impl Escaped ===

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Most text needs no escape. Without an early exit, the compiler checks many bytes at a time.
        if !text.bytes().fold(false, |any, byte| any | is_escaped(byte)) {
            return self.0.write_str(text);
        }
        let mut rest = text;
        while let Some(at) = rest.bytes().position(is_escaped) {
            let (plain, tail) = rest.split_at(at);
            self.0.write_str(plain)?;
            // An escaped character is ASCII, so it is one byte.
            let (character, tail) = tail.split_at(1);
            match character.as_bytes()[0] {
                byte @ (b'"' | b'\\') => {
                    self.0.write_char('\\')?;
                    self.0.write_char(char::from(byte))?;
                }
                b'\n' => self.0.write_str("\\n")?,
                b'\r' => self.0.write_str("\\r")?,
                b'\t' => self.0.write_str("\\t")?,
                byte => {
                    self.0.write_str("\\u00")?;
                    self.0.write_char(char::from(HEX[usize::from(byte >> 4)]))?;
                    self.0.write_char(char::from(HEX[usize::from(byte & 0xf)]))?;
                }
            }
            rest = tail;
        }
        self.0.write_str(rest)
    }
}

/// Writes a time with microseconds, as RFC 3339 defines it.
fn write_time(now: Timestamp, out: &mut impl fmt::Write) -> fmt::Result {
    SECOND.with_borrow_mut(|(second, text)| {
        if *second != Some(now.as_second()) {
            *text = now.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
            *second = Some(now.as_second());
        }
        out.write_str(text)
    })?;
    write!(out, "{:06}Z", now.subsec_microsecond())
}

/// True if JSON requires an escape for a byte.
fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cfg(test)]
mod tests;
