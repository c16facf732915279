//! Silence of HubSpot: requests are held back while it has not responded for longer than usual, until it
//! responds or the circuit opens.
//!
//! A request is overdue only after a second or more, and in that time every caller would send. So while a
//! handful of requests has no response, not even to one of them, only a trial passes from time to time:
//! its response ends the silence for all. A trial does not depend on those before it, so callers that
//! leave early delay nothing.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Number of requests without a response from which on others are held back.
const HANDFUL: u32 = 5;

/// Minimum time without a response: timers and busy replicas are not exact.
const MIN_SILENCE: Duration = Duration::from_millis(50);

/// A trial passes after this many times the usual latency.
const TRIAL_FACTOR: u64 = 2;

/// Requests since the latest response of one portal.
#[derive(Debug)]
pub(super) struct Silence {
    created: Instant,
    /// Number of requests sent since the latest response.
    unanswered: AtomicU32,
    /// Time of the first of them, in milliseconds since `created`.
    since: AtomicU64,
    /// Longest usual latency among them, in milliseconds; 0 while it is not known.
    usual: AtomicU64,
    /// Time from which on the next trial passes.
    next_trial: AtomicU64,
    /// Wakes requests that are held back.
    ended: Notify,
}

// === impl Silence ===

impl Silence {
    /// Records a request that is sent now. `usual` is the 99th percentile of the latency of its kind.
    pub(super) fn on_sent(&self, usual: Option<Duration>) {
        let usual = usual.map_or(0, |usual| millis(usual.max(MIN_SILENCE)));
        if self.unanswered.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(self.now(), Ordering::Relaxed);
            self.usual.store(usual, Ordering::Relaxed);
        } else {
            self.usual.fetch_max(usual, Ordering::Relaxed);
        }
    }

    /// Ends the silence: a request has ended with a response or an error.
    pub(super) fn on_response(&self) {
        if self.unanswered.swap(0, Ordering::Relaxed) >= HANDFUL {
            self.ended.notify_waiters();
        }
    }

    /// Wakes requests that are held back: the circuit has opened.
    pub(super) fn on_opened(&self) {
        self.ended.notify_waiters();
    }

    /// True if a request has to wait. A trial does not: the next one then waits.
    pub(super) fn holds(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= HANDFUL && self.next_pass().is_some()
    }

    /// Waits until HubSpot has responded, the circuit has opened, or the next trial passes. Returns at
    /// `deadline` at the latest.
    pub(super) async fn wait(&self, deadline: Instant) {
        let mut ended = pin!(self.ended.notified());
        ended.as_mut().enable();
        if self.unanswered.load(Ordering::Relaxed) < HANDFUL {
            return;
        }
        let next_trial = Duration::from_millis(self.next_trial.load(Ordering::Relaxed));
        // An error means that the next trial passes, or that the deadline has come.
        let _ = timeout_at(deadline.min(self.created + next_trial), ended).await;
    }

    /// Time at which the next trial passes. `None` if the request passes now.
    fn next_pass(&self) -> Option<u64> {
        let usual = self.usual.load(Ordering::Relaxed);
        let now = self.now();
        if usual == 0 || now < self.since.load(Ordering::Relaxed) + usual {
            return None;
        }
        let next = self.next_trial.load(Ordering::Relaxed);
        let after = now + TRIAL_FACTOR * usual;
        let passes = now >= next
            && self
                .next_trial
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes { None } else { Some(next) }
    }

    fn now(&self) -> u64 {
        millis(self.created.elapsed())
    }
}

impl Default for Silence {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            unanswered: AtomicU32::new(0),
            since: AtomicU64::new(0),
            usual: AtomicU64::new(0),
            next_trial: AtomicU64::new(0),
            ended: Notify::new(),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
