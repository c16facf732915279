//! Attempts of a long command: whether it calls the service again after a failure.

use std::time::Duration;

use tokio::time::sleep;
use tonic::Code;

use crate::cli::call::Failure;

/// Maximum number of attempts in a row without progress. With the pauses between them, about two minutes: a
/// replica has restarted by then.
const MAX_ATTEMPTS: u32 = 10;

/// Mean pause before the second attempt. Each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Maximum of the pause without its jitter.
const MAX_PAUSE: Duration = Duration::from_secs(20);

/// Maximum pause that the service may ask for. A daily limit lasts longer: then a person resumes the command.
const MAX_ADVISED: Duration = Duration::from_secs(120);

/// Reason of a message that is too large each time, although its code is that of a transient failure.
const TOO_LARGE: &str = "REQUEST_TOO_LARGE";

/// Attempts since the last progress.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
    has_started: bool,
}

// === impl Attempts ===

impl Attempts {
    /// A response has arrived.
    pub(super) fn started(&mut self) {
        self.has_started = true;
    }

    /// The command has progressed.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next stream after one that has failed, or else has ended before the command. Errors if
    /// there is none.
    pub(super) async fn wait(
        &mut self,
        failure: Option<Box<Failure>>,
        has_progressed: bool,
    ) -> Result<(), Box<Failure>> {
        let pause = match &failure {
            Some(failure) => self.after_failure(failure, rand::random()),
            None => self.after_end(has_progressed, rand::random()),
        };
        match (pause, failure) {
            (Some(pause), _) => {
                sleep(pause).await;
                Ok(())
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => {
                let message = "the service ends each stream without a result";
                Err(Failure::local(Code::Unavailable, message, "resume it later").into())
            }
        }
    }

    /// Pause before the next attempt after a failure; `None` if there is none. `jitter` is from 0 to 1.
    fn after_failure(&mut self, failure: &Failure, jitter: f64) -> Option<Duration> {
        // Before the first message, the address or a credential is more likely to be wrong than the
        // service to be down.
        if !self.has_started || !is_transient(failure.code) || failure.reason() == TOO_LARGE {
            return None;
        }
        let advised = failure.retry_delay().unwrap_or_default();
        if advised > MAX_ADVISED {
            return None;
        }
        Some(self.pause(jitter)?.max(advised))
    }

    /// Pause before the next attempt after a call that left something to do; `None` if there is none. After
    /// progress it is zero.
    fn after_end(&mut self, has_progressed: bool, jitter: f64) -> Option<Duration> {
        if has_progressed { Some(Duration::ZERO) } else { self.pause(jitter) }
    }

    fn pause(&mut self, jitter: f64) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= MAX_ATTEMPTS {
            return None;
        }
        let base = FIRST_PAUSE.saturating_mul(1 << (self.failed - 1)).min(MAX_PAUSE);
        Some(base.mul_f64(0.5 + jitter.clamp(0.0, 1.0)))
    }
}

/// True if the same request may succeed later.
fn is_transient(code: Code) -> bool {
    match code {
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded => {
            true
        }
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: Code) -> Failure {
        Failure::local(code, "", "")
    }

    #[test]
    fn transient_failures_are_repeated_a_bounded_number_of_times() {
        for code in [Code::Unavailable, Code::ResourceExhausted, Code::Aborted] {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.after_failure(&failure(code), 0.5), None, "before a message");
            attempts.started();
            let mut pauses = Vec::new();
            while let Some(pause) = attempts.after_failure(&failure(code), 0.5) {
                pauses.push(pause.as_millis());
            }
            let expected = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 20_000];
            assert_eq!(pauses, expected);
            attempts.progressed();
            let [least, most] = [0.0, 1.0].map(|jitter| {
                attempts.progressed();
                attempts.after_failure(&failure(code), jitter).unwrap().as_millis()
            });
            assert_eq!((least, most), (250, 750));
        }
    }

    #[test]
    fn other_failures_end_the_export() {
        let mut attempts = Attempts::default();
        attempts.started();
        for code in [Code::InvalidArgument, Code::PermissionDenied, Code::Internal, Code::Unknown] {
            assert_eq!(attempts.after_failure(&failure(code), 0.5), None, "{code:?}");
        }
    }

    #[test]
    fn a_stream_that_had_leads_is_continued_at_once() {
        let mut attempts = Attempts::default();
        for _ in 0..100 {
            assert_eq!(attempts.after_end(true, 0.5), Some(Duration::ZERO));
        }
        let mut ends = 0;
        while attempts.after_end(false, 0.5).is_some() {
            ends += 1;
        }
        assert_eq!(ends, 9);
    }
}
