//! Repeats of the page of an export after an error. The pipeline has made its own attempts before.

use std::time::Duration;

use tokio::time::Instant;

use crate::leads::error::{Error, Reason};

/// Time without a page after which an export fails with the last error.
const MAX_OUTAGE: Duration = Duration::from_secs(600);

/// Upper bound of the first pause, unless the error states one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Upper bound of any pause that the error does not state.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Maximum number of unusable responses in a row.
const MAX_UNUSABLE: u32 = 3;

/// Failures since the last page.
#[derive(Debug, Default)]
pub(in crate::leads) struct PageRetries {
    failures: u32,
    unusable: u32,
    /// Time of the first of them.
    since: Option<Instant>,
}

/// Reaction to an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::leads) enum PageRetry {
    /// Request the page again after this pause.
    After(Duration),
    /// Request a smaller page.
    Smaller,
    /// The export fails.
    Stop,
}

/// Kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Transient,
    Unusable,
    TooLarge,
    Lasting,
}

// === impl PageRetries ===

impl PageRetries {
    /// Decides after an error. `random` is in 0..1.
    pub(in crate::leads) fn decide(
        &mut self,
        error: &Error,
        now: Instant,
        random: f64,
    ) -> PageRetry {
        let since = *self.since.get_or_insert(now);
        match kind(error.reason()) {
            Kind::TooLarge => return PageRetry::Smaller,
            Kind::Lasting => return PageRetry::Stop,
            Kind::Unusable => self.unusable += 1,
            Kind::Transient => {}
        }
        let doubled = FIRST_PAUSE * 2_u32.pow(self.failures.min(5));
        self.failures += 1;
        let pause = doubled.min(MAX_PAUSE).mul_f64(0.5 + random / 2.0);
        let pause = pause.max(error.retry_after().unwrap_or_default());
        if self.unusable > MAX_UNUSABLE || now + pause > since + MAX_OUTAGE {
            return PageRetry::Stop;
        }
        PageRetry::After(pause)
    }

    /// A page was read.
    pub(in crate::leads) fn reset(&mut self) {
        *self = Self::default();
    }
}

fn kind(reason: Reason) -> Kind {
    match reason {
        Reason::RateLimited
        | Reason::AccountLocked
        | Reason::AccountMigrating
        | Reason::UpstreamUnavailable
        | Reason::Overloaded
        | Reason::CredentialUnavailable
        // The deadline of a page, not that of the call.
        | Reason::DeadlineExceeded => Kind::Transient,
        Reason::UpstreamInvalidResponse | Reason::Conflict => Kind::Unusable,
        Reason::ResponseTooLarge => Kind::TooLarge,
        // Its end is hours away.
        Reason::DailyLimitReached
        | Reason::InvalidRequest
        | Reason::UnknownPortal
        | Reason::InvalidPageToken
        | Reason::SearchWindowExceeded
        | Reason::RequestIdReused
        | Reason::LeadNotFound
        | Reason::ValidationFailed
        | Reason::AlreadyExists
        | Reason::MissingScopes
        | Reason::UpstreamForbidden
        | Reason::CredentialRejected
        | Reason::WriteOutcomeUnknown
        | Reason::BatchRejected
        | Reason::Internal
        | Reason::RequestTooLarge
        | Reason::Unauthenticated
        | Reason::CallerForbidden
        | Reason::AuthenticationUnavailable
        | Reason::Unimplemented
        | Reason::WrongDataCenter => Kind::Lasting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(reason: Reason) -> Error {
        Error::new(reason, "of the test")
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_error_is_repeated_until_no_page_was_read_for_ten_minutes() {
        let start = Instant::now();
        for random in [0.0, 0.999] {
            let mut retries = PageRetries::default();
            let (mut now, mut pauses) = (start, Vec::new());
            while let PageRetry::After(pause) =
                retries.decide(&error(Reason::UpstreamUnavailable), now, random)
            {
                now += pause;
                pauses.push(pause);
            }
            assert!(pauses[0] <= FIRST_PAUSE && pauses[0] >= FIRST_PAUSE / 2);
            assert!(pauses.iter().all(|pause| *pause <= MAX_PAUSE), "{pauses:?}");
            assert!(pauses.len() < 60, "{}", pauses.len());
            let waited = now - start;
            assert!(waited <= MAX_OUTAGE && waited > MAX_OUTAGE - MAX_PAUSE, "{waited:?}");
            retries.reset();
            let again = retries.decide(&error(Reason::UpstreamUnavailable), now, random);
            assert_eq!(again, PageRetry::After(pauses[0]));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stated_pause_is_kept_and_a_long_one_ends_the_export() {
        let now = Instant::now();
        for (seconds, is_kept) in [(60, true), (600, true), (601, false)] {
            let pause = Duration::from_secs(seconds);
            let stated = error(Reason::RateLimited).with_retry_after(pause);
            let decided = PageRetries::default().decide(&stated, now, 0.0);
            let expected = if is_kept { PageRetry::After(pause) } else { PageRetry::Stop };
            assert_eq!(decided, expected, "{seconds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_errors_are_final_or_make_the_page_smaller() {
        let now = Instant::now();
        let mut retries = PageRetries::default();
        for reason in [Reason::MissingScopes, Reason::CredentialRejected, Reason::DailyLimitReached]
        {
            assert_eq!(retries.decide(&error(reason), now, 0.5), PageRetry::Stop, "{reason:?}");
        }
        let large = error(Reason::ResponseTooLarge);
        assert_eq!(retries.decide(&large, now, 0.5), PageRetry::Smaller);
        let unusable = error(Reason::UpstreamInvalidResponse);
        let decided: Vec<_> = (0..4).map(|_| retries.decide(&unusable, now, 0.5)).collect();
        assert!(decided[..3].iter().all(|it| matches!(it, PageRetry::After(_))), "{decided:?}");
        assert_eq!(decided[3], PageRetry::Stop);
    }
}
