//! Deadline for sending the response of a call, enforced by `stream_executor`.
//!
//! A response has one deadline, that of its call. An export may last for hours, so each of its messages has a
//! separate deadline, and none runs while the service prepares the next message.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Time after the deadline of a call for sending its response; then the client has given up.
pub(super) const SEND_GRACE: Duration = Duration::from_secs(1);

/// Timeout from which a call has no send deadline: its stream may last as long as its connection.
pub(super) const NO_DEADLINE: Duration = Duration::from_secs(86_400);

/// Timeout for reading one message of an export.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Value of an inactive deadline of a message.
const INACTIVE: u64 = u64::MAX;

/// Deadline for sending a response; unset before the response starts.
#[derive(Debug, Default)]
pub(crate) struct SendDeadline(OnceLock<Scope>);

/// Scope of the deadline.
#[derive(Debug)]
enum Scope {
    Response(Instant),
    /// One message. `until` is its deadline in milliseconds after the start, or [`INACTIVE`].
    Message {
        start: Instant,
        until: AtomicU64,
    },
}

// === impl SendDeadline ===

impl SendDeadline {
    /// Sets the send deadline from the deadline of the call.
    pub(crate) fn start(&self, deadline: Instant) {
        if deadline.saturating_duration_since(Instant::now()) < NO_DEADLINE {
            // A call has one response, so this is set once.
            let _ = self.0.set(Scope::Response(deadline + SEND_GRACE));
        }
    }

    /// Sets a deadline for each message instead of one for the response.
    pub(crate) fn start_for_each_message(&self) {
        let _ =
            self.0.set(Scope::Message { start: Instant::now(), until: AtomicU64::new(INACTIVE) });
    }

    /// A message is passed to HTTP/2 from now on. Returns the start of the deadline, which is that of the call
    /// unless each message has a deadline.
    pub(super) fn start_message(&self, call: Instant) -> Instant {
        match self.0.get() {
            Some(Scope::Message { start, until }) => {
                let now = Instant::now();
                let after = (now + MESSAGE_TIMEOUT).saturating_duration_since(*start);
                until
                    .store(u64::try_from(after.as_millis()).unwrap_or(INACTIVE), Ordering::Relaxed);
                now
            }
            Some(Scope::Response(_)) | None => call,
        }
    }

    /// The client has read the message, or its rest fits in the receive window.
    pub(super) fn end_message(&self) {
        if let Some(Scope::Message { until, .. }) = self.0.get() {
            until.store(INACTIVE, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> Option<Instant> {
        match self.0.get()? {
            Scope::Response(until) => Some(*until),
            Scope::Message { start, until } => match until.load(Ordering::Relaxed) {
                INACTIVE => None,
                after => Some(*start + Duration::from_millis(after)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_response_has_one_deadline_unless_it_may_last_for_a_day() {
        let now = Instant::now();
        for (seconds, is_limited) in [(1, true), (86_399, true), (86_400, false)] {
            let deadline = SendDeadline::default();
            let until = now + Duration::from_secs(seconds);
            deadline.start(until);
            assert_eq!(deadline.get(), is_limited.then_some(until + SEND_GRACE));
            assert_eq!(deadline.start_message(now), now);
            deadline.end_message();
            assert_eq!(deadline.get(), is_limited.then_some(until + SEND_GRACE));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_an_export_has_a_deadline_while_it_is_sent() {
        let call = Instant::now();
        let deadline = SendDeadline::default();
        deadline.start_for_each_message();
        // Set by the first of both.
        deadline.start(call);
        for _ in 0..3 {
            assert_eq!(deadline.get(), None, "no message is sent");
            advance(Duration::from_secs(100_000)).await;
            let now = Instant::now();
            assert_eq!(deadline.start_message(call), now);
            assert_eq!(deadline.get(), Some(now + MESSAGE_TIMEOUT));
            deadline.end_message();
        }
    }
}
