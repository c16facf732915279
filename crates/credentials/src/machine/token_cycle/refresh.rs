//! Schedule of token requests.
//!
//! Expiry is counted on the monotonic clock, so setting the wall clock neither ends nor prolongs a
//! token. The monotonic clock may stand still while the machine sleeps, so the planned refresh also
//! has a wall-clock time: once that has passed, the token is refreshed soon but stays in use. A
//! clock set forward by an hour thus costs one early refresh, and one set back costs nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::{machine::context::Attempt, schedule};
use leadsd_base::time::Timestamp;

#[derive(Debug, Default)]
pub(in crate::machine) struct Refresh {
    pub(in crate::machine) attempt: Attempt,
    /// Wall-clock time of the planned refresh.
    wall_due: Option<Timestamp>,
    /// Time of the last token request.
    sent_at: Option<Instant>,
    pub(in crate::machine) in_flight: bool,
}

// === impl Refresh ===

impl Refresh {
    pub(in crate::machine) fn due_by(&mut self, at: Instant) {
        self.attempt.due_by(at);
    }

    /// Plans the refresh of a new token.
    pub(in crate::machine) fn plan(&mut self, after: Duration, now: Instant, wall: Timestamp) {
        self.due_by(now + after);
        self.wall_due = Some(wall.checked_add(after).unwrap_or(Timestamp::MAX));
    }

    /// Drops the plan: the token does not expire.
    pub(in crate::machine) fn cancel(&mut self) {
        self.attempt.succeeded();
        self.wall_due = None;
    }

    /// True if a planned refresh has become due only on the wall clock.
    pub(in crate::machine) fn wall_clock_passed(&mut self, now: Instant, wall: Timestamp) -> bool {
        self.wall_due.take_if(|at| *at <= wall).is_some()
            && !self.attempt.is_due(now)
            && !self.in_flight
    }

    /// True if the next token request follows a failed one.
    pub(in crate::machine) fn is_retry(&self) -> bool {
        self.attempt.failures > 0
    }

    /// True if a token request may be sent now.
    pub(in crate::machine) fn is_due(&self, now: Instant) -> bool {
        self.attempt.is_due(now) && self.floor().is_none_or(|floor| floor <= now)
    }

    /// Clears the plan; it is about to be carried out.
    pub(in crate::machine) fn begin(&mut self) {
        self.attempt.due = None;
        self.wall_due = None;
    }

    /// Records that a token request was sent.
    pub(in crate::machine) fn sent(&mut self, now: Instant) {
        self.in_flight = true;
        self.sent_at = Some(now);
    }

    /// Records that the response to a token request in flight is lost.
    pub(in crate::machine) fn lost(&mut self, now: Instant) {
        if std::mem::take(&mut self.in_flight) {
            self.due_by(now);
        }
    }

    /// Time of the next request, if that is after `now`. A request that is already due waits for
    /// the store, whose response is a separate event.
    pub(in crate::machine) fn wake(&self, now: Instant) -> Option<Instant> {
        let due = self.attempt.due.filter(|_| !self.in_flight)?;
        let at = due.max(self.floor().unwrap_or(due));
        (at > now).then_some(at)
    }

    /// Earliest time of the next token request.
    fn floor(&self) -> Option<Instant> {
        self.sent_at.map(|at| at + schedule::REQUEST_FLOOR)
    }
}
