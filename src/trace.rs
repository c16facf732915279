//! Which trace a call belongs to, as W3C trace context has it: taken over from the caller, or begun
//! here, and handed on to HubSpot.

use std::fmt;

/// A place in a trace: the trace, and one span of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// Never zero.
    trace: u128,
    /// Never zero.
    span: u64,
    /// Whether the spans of the trace are kept.
    pub sampled: bool,
}

/// The id of a trace, as it is written: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;

// === impl Context ===

impl Context {
    /// The beginning of a new trace, of which `ratio` are kept, 0 to 1.
    pub fn root(ratio: f64) -> Self {
        let trace = rand::random::<u128>().max(1);
        Self { trace, span: some_span(), sampled: is_kept(trace, ratio) }
    }

    /// Reads a `traceparent`; anything that is not well formed is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.split_at_checked(2)?;
        let version = hex(version)?;
        // Later versions may go on after what is known of them today; 255 is none.
        let goes_on = version > 0 && text.as_bytes().get(LENGTH) == Some(&b'-');
        if version == 255 || (text.len() != LENGTH && !goes_on) {
            return None;
        }
        let mut parts = rest.get(..LENGTH - 2)?.split('-');
        let (Some(""), Some(trace), Some(span), Some(flags), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        if (trace.len(), span.len(), flags.len()) != (32, 16, 2) {
            return None;
        }
        let (trace, span, flags) = (hex(trace)?, hex(span)?, hex(flags)?);
        let span = u64::try_from(span).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: some_span(), ..self }
    }

    /// The trace it belongs to.
    pub fn trace_id(self) -> TraceId {
        TraceId(self.trace)
    }

    /// The bytes of the trace's id, as OTLP has them.
    pub fn trace_bytes(self) -> [u8; 16] {
        self.trace.to_be_bytes()
    }

    /// The bytes of the span's id, as OTLP has them.
    pub fn span_bytes(self) -> [u8; 8] {
        self.span.to_be_bytes()
    }
}

/// As the header `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace, span, sampled } = self;
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", u8::from(*sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn some_span() -> u64 {
    rand::random::<u64>().max(1)
}

/// The same trace is kept by every service that goes by its id.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a part of all ids need not be exact"
)]
fn is_kept(trace: u128, ratio: f64) -> bool {
    // The last seven bytes are the random ones, by the W3C's rule.
    let random = trace as u64 & ((1 << 56) - 1);
    random < (ratio.clamp(0.0, 1.0) * (1_u64 << 56) as f64) as u64
}

/// Lower-case digits only: W3C forbids the others.
fn hex(text: &str) -> Option<u128> {
    let allowed = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.bytes().all(allowed).then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_callers_trace_goes_on_under_a_new_span() {
        let given = Context::parse(GIVEN).unwrap();
        assert_eq!(given.to_string(), GIVEN);
        let child = given.child();
        assert_eq!(child.trace_id(), given.trace_id());
        assert_ne!(child.span_bytes(), given.span_bytes());
        assert!(child.sampled);
        assert_eq!(child.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(!Context::parse(&GIVEN.replace("-01", "-00")).unwrap().sampled);
        // Other flags than the first are for others to understand.
        assert!(Context::parse(&GIVEN.replace("-01", "-ff")).unwrap().sampled);
    }

    #[test]
    fn what_is_not_well_formed_begins_a_new_trace() {
        let later = GIVEN.replacen("00", "cc", 1);
        assert!(Context::parse(&later).is_some());
        assert!(Context::parse(&format!("{later}-more")).is_some());
        for bad in [
            "",
            "00",
            &GIVEN[..54],
            &format!("{GIVEN}-more"),
            &format!("{later}more"),
            &GIVEN.replacen("00", "ff", 1),
            &GIVEN.to_uppercase(),
            &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GIVEN.replace('-', "_"),
            &GIVEN.replace("4b", "+b"),
        ] {
            assert_eq!(Context::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn as_many_traces_are_kept_as_asked_for() {
        assert!((0..1_000).all(|_| Context::root(1.0).sampled));
        assert!(!(0..1_000).any(|_| Context::root(0.0).sampled));
        let kept = (0..10_000).filter(|_| Context::root(0.25).sampled).count();
        assert!((2_200..2_800).contains(&kept), "{kept}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,70}") {
            let _ = Context::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(ratio in 0.0..1.0_f64) {
            let context = Context::root(ratio);
            prop_assert_eq!(Context::parse(&context.to_string()), Some(context));
        }
    }
}
