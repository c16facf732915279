//! Deadlines of calls: the minimum of the client's timeout and the maximum of this service.

use std::{future::Future, time::Duration};

use http::HeaderValue;
use tokio::time::{Instant, Timeout, timeout_at};

use crate::grpc::methods::MethodKind;

/// Maximum timeout of streams, larger than any real timeout.
const MAX_STREAMING: Duration = Duration::from_secs(365 * 86_400);

/// Maximum timeout of health probes, and of the first response of a health watch.
const MAX_PROBE: Duration = Duration::from_secs(5);

/// Time after the deadline at which the layer ends a call. Handlers end at the deadline with a more
/// specific error, which this delay lets through.
const HANDLER_GRACE: Duration = Duration::from_millis(20);

/// Maximum timeouts of calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadlinePolicy {
    /// Maximum timeout of calls for one lead or one page.
    pub(crate) max_unary: Duration,
    /// Maximum timeout of batches.
    pub(crate) max_batch: Duration,
}

/// Deadlines of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadlines {
    /// Deadline of the call.
    pub(crate) call: Instant,
    /// Deadline of the response headers; earlier than `call` for streams.
    pub(crate) response: Instant,
}

// === impl DeadlinePolicy ===

impl DeadlinePolicy {
    /// Computes the deadlines of a call that starts at `start`, from the client's timeout.
    pub(crate) fn deadlines(
        &self,
        kind: MethodKind,
        is_probe: bool,
        timeout: Option<Duration>,
        start: Instant,
    ) -> Deadlines {
        let max_unary = if is_probe { self.max_unary.min(MAX_PROBE) } else { self.max_unary };
        let (call, response) = match kind {
            MethodKind::Unary => (max_unary, max_unary),
            MethodKind::Batch => (self.max_batch, self.max_batch),
            MethodKind::Streaming => (MAX_STREAMING, max_unary),
        };
        let call = start + timeout.map_or(call, |asked| asked.min(call));
        Deadlines { call, response: call.min(start + response) }
    }
}

// === impl Deadlines ===

impl Deadlines {
    /// Waits for the response headers until their deadline.
    pub(crate) fn enforce<F: Future>(self, response: F) -> Timeout<F> {
        timeout_at(self.response + HANDLER_GRACE, response)
    }
}

/// Parses a `grpc-timeout`: one to eight digits and a unit. `None` if it is malformed.
pub(super) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let (digits, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    const POLICY: DeadlinePolicy =
        DeadlinePolicy { max_unary: Duration::from_secs(30), max_batch: Duration::from_secs(120) };

    #[test]
    fn timeouts_are_parsed_as_grpc_defines_them() {
        let parsed = |text: &'static str| parse_timeout(&HeaderValue::from_static(text));
        assert_eq!(parsed("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parsed("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(parsed("3M"), Some(Duration::from_secs(180)));
        assert_eq!(parsed("99999999m"), Some(Duration::from_millis(99_999_999)));
        assert_eq!(parsed("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(parsed("7u"), Some(Duration::from_micros(7)));
        assert_eq!(parsed("9n"), Some(Duration::from_nanos(9)));
        for malformed in ["", "S", "5", "5s", "-5S", "123456789S", "1.5S", "5SS"] {
            assert_eq!(parsed(malformed), None, "{malformed:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_the_clients_or_the_maximum_of_the_kind() {
        let start = Instant::now();
        let year = 365 * 86_400;
        for (kind, is_probe, timeout, call, response) in [
            (MethodKind::Unary, false, None, 30, 30),
            (MethodKind::Unary, false, Some(5), 5, 5),
            (MethodKind::Unary, false, Some(31), 30, 30),
            (MethodKind::Unary, false, Some(0), 0, 0),
            (MethodKind::Unary, true, None, 5, 5),
            (MethodKind::Unary, true, Some(2), 2, 2),
            (MethodKind::Batch, false, None, 120, 120),
            (MethodKind::Batch, false, Some(60), 60, 60),
            (MethodKind::Streaming, false, None, year, 30),
            (MethodKind::Streaming, false, Some(3600), 3_600, 30),
            (MethodKind::Streaming, false, Some(10), 10, 10),
            (MethodKind::Streaming, true, None, year, 5),
            (MethodKind::Streaming, true, Some(3), 3, 3),
        ] {
            let asked = timeout.map(Duration::from_secs);
            let deadlines = POLICY.deadlines(kind, is_probe, asked, start);
            let expected = Deadlines {
                call: start + Duration::from_secs(call),
                response: start + Duration::from_secs(response),
            };
            assert_eq!(deadlines, expected, "{kind:?} {is_probe} {timeout:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_response_ends_just_after_the_deadline() {
        let start = Instant::now();
        let timeout = Some(Duration::from_secs(2));
        let deadlines = POLICY.deadlines(MethodKind::Unary, false, timeout, start);
        assert_eq!(deadlines.enforce(ready(7)).await, Ok(7));
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert!(deadlines.enforce(pending::<()>()).await.is_err());
        let ended = start.elapsed();
        assert!((Duration::from_millis(2_020)..Duration::from_millis(2_022)).contains(&ended));
    }
}
