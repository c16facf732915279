//! Queues of writes by lead: a state machine without a clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::LeadKey;

/// The writes queued for one lead are at most this part of all: one lead with many writes leaves room
/// for the others.
const LEAD_SHARE: usize = 10;

/// Assumed duration of a write, for the pause of a rejection, as long as none was measured.
const ASSUMED_DURATION: Duration = Duration::from_millis(200);

/// The queues of one portal.
#[derive(Debug, Default)]
pub(super) struct WriteQueues {
    /// The writes to each lead: the active one, and those behind it.
    queues: HashMap<Arc<LeadKey>, VecDeque<u64>>,
    writes: HashMap<u64, Write>,
    last_number: u64,
    waiting: usize,
    latency: LatencyEstimate,
}

/// A write that has entered its queues.
#[derive(Debug)]
pub(super) struct Entered {
    /// Identifies the write.
    pub(super) number: u64,
    /// Resolves when it becomes active. `None` if it is active already.
    pub(super) ready: Option<oneshot::Receiver<()>>,
}

/// Rejection of a write, with the time after which it may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteRejection {
    /// Too many writes are queued.
    QueueFull(Duration),
    /// The write would start after its deadline.
    Deadline(Duration),
}

#[derive(Debug)]
struct Write {
    keys: Vec<Arc<LeadKey>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Another write is before it in this number of queues.
    Waiting { queues: usize, ready: oneshot::Sender<()> },
    /// The write is first in all of its queues.
    Active { since: Instant },
}

/// Estimates how long a write takes, from activation to completion.
#[derive(Debug, Default)]
struct LatencyEstimate {
    mean: Option<Duration>,
    latest: Duration,
}

// === impl WriteQueues ===

impl WriteQueues {
    /// Number of writes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// True if no write has entered a queue.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.writes.is_empty() && self.waiting == 0
    }

    /// True if a write to one of these leads is active.
    pub(super) fn any_busy(&self, keys: &BTreeSet<LeadKey>) -> bool {
        keys.iter().any(|key| self.queues.contains_key(key))
    }

    /// Rejection of a write that has this time left; `None` if it may enter.
    pub(super) fn rejection(
        &self,
        keys: &BTreeSet<LeadKey>,
        max_queue: usize,
        remaining: Duration,
        now: Instant,
    ) -> Option<WriteRejection> {
        let queues = keys.iter().filter_map(|key| self.queues.get(key));
        let longest = queues.max_by_key(|queue| queue.len())?;
        let active = longest.front().and_then(|number| self.writes.get(number));
        let elapsed = match active.map(|write| &write.state) {
            Some(State::Active { since }) => now.saturating_duration_since(*since),
            Some(State::Waiting { .. }) | None => Duration::ZERO,
        };
        let before = u32::try_from(longest.len()).unwrap_or(u32::MAX);
        // One of those before it is active, and does not wait.
        if longest.len() > max_queue.div_ceil(LEAD_SHARE) || self.waiting >= max_queue {
            let one = self.latency.estimate().unwrap_or(ASSUMED_DURATION);
            return Some(WriteRejection::QueueFull(one.saturating_mul(before)));
        }
        let one = self.latency.estimate()?;
        let wait = one.saturating_mul(before).saturating_sub(elapsed.min(one));
        (wait > remaining).then_some(WriteRejection::Deadline(wait))
    }

    /// Adds a write to the queues of all of its leads.
    pub(super) fn enter(&mut self, keys: BTreeSet<LeadKey>, now: Instant) -> Entered {
        self.last_number += 1;
        let number = self.last_number;
        let keys: Vec<Arc<LeadKey>> = keys.into_iter().map(Arc::new).collect();
        let mut queues = 0;
        for key in &keys {
            let queue = self.queues.entry(Arc::clone(key)).or_default();
            queues += usize::from(!queue.is_empty());
            queue.push_back(number);
        }
        let (state, ready) = if queues == 0 {
            (State::Active { since: now }, None)
        } else {
            self.waiting += 1;
            let (sender, receiver) = oneshot::channel();
            (State::Waiting { queues, ready: sender }, Some(receiver))
        };
        self.writes.insert(number, Write { keys, state });
        Entered { number, ready }
    }

    /// Removes a write that completed or was cancelled. `was_sent` is true if HubSpot was called.
    pub(super) fn leave(&mut self, number: u64, was_sent: bool, now: Instant) {
        let Some(Write { keys, state }) = self.writes.remove(&number) else { return };
        match state {
            State::Waiting { .. } => self.waiting -= 1,
            State::Active { since } if was_sent => {
                self.latency.observe(now.saturating_duration_since(since));
            }
            State::Active { .. } => {}
        }
        for key in keys {
            let Some(queue) = self.queues.get_mut(&key) else { continue };
            let Some(place) = queue.iter().position(|own| *own == number) else { continue };
            queue.remove(place);
            match queue.front().copied() {
                None => drop(self.queues.remove(&key)),
                Some(next) if place == 0 => self.advance(next, now),
                Some(_) => {}
            }
        }
    }

    /// Records that a write became first in one more of its queues, and activates it if it is first
    /// in all.
    fn advance(&mut self, number: u64, now: Instant) {
        let Some(write) = self.writes.get_mut(&number) else { return };
        match &mut write.state {
            State::Waiting { queues, .. } if *queues > 1 => *queues -= 1,
            State::Waiting { .. } => {
                let active = State::Active { since: now };
                if let State::Waiting { ready, .. } = std::mem::replace(&mut write.state, active) {
                    // A cancelled write leaves at once.
                    let _ = ready.send(());
                }
                self.waiting -= 1;
            }
            State::Active { .. } => {}
        }
    }
}

// === impl LatencyEstimate ===

impl LatencyEstimate {
    fn observe(&mut self, duration: Duration) {
        self.mean = Some(self.mean.map_or(duration, |mean| (mean * 7 + duration) / 8));
        self.latest = duration;
    }

    /// Lower estimate of the duration of one write: a write that hung does not predict later ones.
    fn estimate(&self) -> Option<Duration> {
        self.mean.map(|mean| mean.min(self.latest))
    }
}
