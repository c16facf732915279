//! W3C trace context: continues the caller's trace or starts one, and propagates it to HubSpot.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

/// Header with trace id, parent span id and flags.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Header with vendor-specific data for a `traceparent`.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00 in bytes.
const LENGTH: usize = 55;

/// Hexadecimal digits.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Maximum length of a propagated `tracestate` in bytes: the minimum that the specification requires.
const MAX_STATE: usize = 512;

/// Trace context of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Never zero.
    trace_id: u128,
    /// Never zero.
    span_id: u64,
    /// True if the spans of the trace are recorded.
    sampled: bool,
    /// `tracestate`; `None` if the caller sent none.
    state: Option<Arc<str>>,
    /// True if requests to HubSpot carry the context.
    propagated: bool,
}

/// Trace id, displayed as 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

// === impl TraceContext ===

impl TraceContext {
    /// Starts a trace, sampled with probability `ratio`. It is not propagated to HubSpot.
    pub fn root(ratio: f64) -> Self {
        let trace_id = rand::random::<u128>().max(1);
        let sampled = is_sampled(trace_id, ratio);
        Self { trace_id, span_id: new_span_id(), sampled, state: None, propagated: false }
    }

    /// Parses the caller's context. `None` if `traceparent` is missing or malformed.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let context = Self::parse(headers.get(TRACEPARENT)?.to_str().ok()?)?;
        Some(Self { state: state(headers), ..context })
    }

    /// Parses a `traceparent`. `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.split_at_checked(2)?;
        let version = hex(version)?;
        // Later versions may append fields; 255 is forbidden.
        let has_more = version > 0 && text.as_bytes().get(LENGTH) == Some(&b'-');
        if version == 255 || (text.len() != LENGTH && !has_more) {
            return None;
        }
        let mut parts = rest.get(..LENGTH - 2)?.split('-');
        let (Some(""), Some(trace_id), Some(span_id), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if (trace_id.len(), span_id.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let (trace_id, flags) = (hex(trace_id)?, hex(flags)?);
        let span_id = u64::try_from(hex(span_id)?).ok()?;
        let sampled = flags & 1 == 1;
        let is_valid = trace_id != 0 && span_id != 0;
        is_valid.then_some(Self { trace_id, span_id, sampled, state: None, propagated: true })
    }

    /// Enables propagation to HubSpot.
    #[must_use]
    pub fn propagated(self) -> Self {
        Self { propagated: true, ..self }
    }

    /// Creates a child span of the same trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: new_span_id(), ..self.clone() }
    }

    /// Trace id.
    pub fn trace_id(&self) -> TraceId {
        TraceId(self.trace_id)
    }

    /// Bytes of the trace id, as in OTLP.
    pub fn trace_bytes(&self) -> [u8; 16] {
        self.trace_id.to_be_bytes()
    }

    /// Bytes of the span id, as in OTLP.
    pub fn span_bytes(&self) -> [u8; 8] {
        self.span_id.to_be_bytes()
    }

    /// Reports whether the spans of the trace are recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// `tracestate`; `None` if the caller sent none.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Reports whether requests to HubSpot carry the context.
    pub fn is_propagated(&self) -> bool {
        self.propagated
    }

    /// Adds `traceparent` and `tracestate` to the headers of a request.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let values =
            [(TRACEPARENT, Some(self.to_string())), (TRACESTATE, self.state().map(str::to_owned))];
        for (name, value) in values {
            // Both are valid header values: one is formatted here, the other was a header.
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Formats the header `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, sampled, .. } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*sampled))
    }
}

// === impl TraceId ===

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Faster than the formatting of a u128; there is one in each line of the access log.
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Reports whether a request has a `traceparent`, valid or malformed.
pub fn is_traced(headers: &HeaderMap) -> bool {
    headers.contains_key(TRACEPARENT)
}

/// Joins all `tracestate` headers. `None` if there are none or they exceed the maximum length: the
/// specification allows dropping them, but not truncating an entry.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let values = headers.get_all(TRACESTATE).iter().map(|value| value.to_str());
    let entries: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
    let state = entries.join(",");
    (1..=MAX_STATE).contains(&state.len()).then(|| state.into())
}

fn new_span_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// Decides sampling by the trace id, so that all services sample the same traces.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a sampling ratio need not be exact"
)]
fn is_sampled(trace_id: u128, ratio: f64) -> bool {
    // The specification guarantees randomness only in the last seven bytes.
    let random = trace_id as u64 & ((1 << 56) - 1);
    random < (ratio.clamp(0.0, 1.0) * (1_u64 << 56) as f64) as u64
}

/// Parses lower-case hexadecimal digits; the specification forbids upper case.
fn hex(text: &str) -> Option<u128> {
    let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.bytes().all(is_digit).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests;
