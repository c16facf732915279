//! A bucket and its queue: acquires slots, rejects requests that would be late, and makes room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    bucket::Bucket,
    bucket_name::BucketName,
    fair_shares::QueueKey,
    latency::UsualLatency,
    queue::{Popped, Queue},
    rejected::{Reason, Rejected},
    requester::{Caller, Priority, Requester},
    retry_spread::RetrySpread,
    settings::QueueLimits,
    snapshot::{BucketCounters, BucketSnapshot, CallerSnapshot, LedgerSnapshot},
    usage::Users,
    waiting::Waiting,
};

/// Minimum [`Rejected::retry_after`] of a request that waited until its deadline. An estimate near zero
/// has just proved wrong.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(100);

/// Time for which permits are spread after several callers, or bulk requests, have waited: a window.
const CONTENDED: Duration = Duration::from_secs(10);

/// A bucket and the requests that wait for it.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) name: BucketName,
    pub(crate) bucket: Bucket,
    pub(crate) queue: Queue,
    pub(crate) counts: BucketCounters,
    /// Permits that are issued and not released.
    in_use: usize,
    /// Maximum number of them. It bounds the connections to HubSpot.
    max_concurrency: usize,
    /// Time until which the permits of queued requests are spread.
    contended_until: Option<Instant>,
    latency: UsualLatency,
    retries: RetrySpread,
}

/// Permits that a limiter offers to its queue.
#[derive(Debug)]
pub(crate) enum Next {
    /// A slot that is acquired for these requests.
    Batch(u64, Vec<Waiting>),
    /// A request that has no time left for a response.
    Late(Waiting, Rejected),
    /// No permit before this time.
    At(Instant),
    /// No permit before an event: a new request, a released slot, or a response of the ledger.
    OnEvent,
}

// === impl Limiter ===

impl Limiter {
    pub(crate) fn new(
        name: BucketName,
        bucket: Bucket,
        weights: Arc<BTreeMap<String, u32>>,
        max_concurrency: usize,
    ) -> Self {
        Self {
            name,
            bucket,
            queue: Queue::new(weights),
            counts: BucketCounters::default(),
            in_use: 0,
            max_concurrency,
            contended_until: None,
            latency: UsualLatency::default(),
            retries: RetrySpread::default(),
        }
    }

    /// Acquires a slot if one is free and no request waits for it. Rejects a request whose deadline leaves
    /// no time for a response.
    pub(crate) fn try_take(
        &mut self,
        requester: &Requester,
        deadline: Instant,
        now: Instant,
    ) -> Result<Option<u64>, Rejected> {
        self.bucket.expire(now);
        self.bucket.set_awaited(self.is_contended(now));
        let is_full = self.in_use >= self.max_concurrency;
        if is_full || !self.queue.is_empty() || self.bucket.next_check(now).is_some() {
            return Ok(None);
        }
        if self.response_at(now) > deadline {
            return Err(self.reject(Reason::ShortDeadline, now, now));
        }
        self.queue.serve_now(&requester.caller, requester.priority);
        self.counts.calls += 1;
        self.in_use += 1;
        Ok(Some(self.bucket.take(Users::Single(requester.caller.clone()), 1, now)))
    }

    /// Queues a request that can be served before `deadline`. If the queue is full, a request of the
    /// account with the most of them is removed, and returned.
    pub(crate) fn enqueue(
        &mut self,
        requester: &Requester,
        waiting: Waiting,
        deadline: Instant,
        limits: QueueLimits,
        now: Instant,
    ) -> Result<(QueueKey, Option<(Waiting, Rejected)>), Rejected> {
        self.bucket.expire(now);
        let Requester { caller, priority } = requester;
        let key = self.queue.shares().next_key(caller, *priority);
        self.check_position(key, caller, waiting.group_id(), [deadline, now])?;
        let removed = self.make_room(caller, limits, now)?;
        if *priority > Priority::Interactive
            || self.queue.len() > self.queue.shares().queued(caller)
        {
            self.contended_until = Some(now + CONTENDED);
        }
        self.queue.push(key, caller.clone(), waiting, [now, deadline]);
        self.bucket.set_awaited(self.is_contended(now));
        Ok((key, removed))
    }

    /// Rejects a request whose permit would come after `deadline` even if the queue were empty.
    pub(crate) fn check_deadline(
        &mut self,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        self.bucket.expire(now);
        self.check_behind(0, deadline, now)
    }

    /// Acquires a slot for the requests that are served next.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        self.bucket.expire(now);
        self.bucket.set_awaited(self.is_contended(now));
        let is_full = self.in_use >= self.max_concurrency;
        if is_full || self.queue.is_empty() || self.bucket.waits_for_ledger() {
            return Next::OnEvent;
        }
        if let Some(check) = self.bucket.next_check(now) {
            return Next::At(check);
        }
        let batch = match self.queue.pop(self.response_at(now)) {
            None => return Next::OnEvent,
            Some(Popped::Late(waiting)) => {
                return Next::Late(waiting, self.reject(Reason::ShortDeadline, now, now));
            }
            Some(Popped::Batch(batch)) => batch,
        };
        let requests = batch.waiting.len();
        self.counts.calls += requests as u64;
        for since in &batch.since {
            self.counts.waits.observe(now.saturating_duration_since(*since));
        }
        self.in_use += 1;
        Next::Batch(self.bucket.take(batch.users, requests, now), batch.waiting)
    }

    /// Records that a slot was not used.
    pub(crate) fn release(&mut self, slot: u64, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        self.bucket.release(slot, now);
    }

    /// Records that the call of a slot ended, with a response or without.
    pub(crate) fn finish(&mut self, slot: u64, has_response: bool, now: Instant) {
        self.in_use = self.in_use.saturating_sub(1);
        let latency = self.bucket.finish(slot, now);
        if let Some(latency) = latency.filter(|_| has_response) {
            self.latency.observe(latency, now);
        }
    }

    /// Removes a request whose deadline has passed, with an estimate for the next try.
    pub(crate) fn expire_request(&mut self, key: QueueKey, now: Instant) -> Rejected {
        self.queue.cancel(key);
        let opens = self.bucket.opens(self.queue.permits(), now);
        self.reject(Reason::Deadline, opens.max(now + MIN_RETRY_AFTER), now)
    }

    /// Rejects a request that may come back at `opens`, or later if others were rejected shortly before.
    pub(crate) fn reject(&mut self, reason: Reason, opens: Instant, now: Instant) -> Rejected {
        match reason {
            Reason::Deadline | Reason::ShortDeadline => self.counts.deadline += 1,
            Reason::QueueFull => self.counts.queue_full += 1,
            // Counted for the daily limit.
            Reason::Exhausted => {}
        }
        let jitter = self.jitter(now);
        let retry_after = opens.saturating_duration_since(now) + jitter;
        Rejected { bucket: self.name, reason, retry_after }
    }

    /// Time by which the retry of a rejected request is delayed.
    pub(crate) fn jitter(&mut self, now: Instant) -> Duration {
        self.retries.jitter(self.bucket.gap(now), rand::random(), now)
    }

    /// Read model of the bucket and its queue.
    pub(crate) fn snapshot(&mut self, now: Instant) -> BucketSnapshot {
        self.bucket.expire(now);
        // A name may come from several addresses.
        let mut callers: BTreeMap<(&str, bool), CallerSnapshot> = BTreeMap::new();
        let used = self.bucket.usage().parts().map(|(caller, part)| (caller, part, 0));
        let queued = self.queue.shares().queued_callers();
        for (caller, part, requests) in
            used.chain(queued.map(|(caller, number)| (caller, 0.0, number)))
        {
            let name = (caller.as_str(), caller.is_authenticated());
            let snapshot = callers.entry(name).or_insert_with(|| CallerSnapshot {
                caller: caller.clone(),
                weight: self.queue.shares().weight(caller),
                used: 0.0,
                waiting: 0,
            });
            snapshot.used += part;
            snapshot.waiting += requests;
        }
        let closed_until = self.bucket.closed_until(now);
        BucketSnapshot {
            name: self.name,
            size: Some(self.bucket.size()),
            window: self.bucket.window(),
            used: self.bucket.used(now),
            reset: self.wait_behind(0, now),
            closed: closed_until.map_or(Duration::ZERO, |until| until - now),
            waiting: self.queue.len(),
            callers: callers.into_values().collect(),
            counts: self.counts,
            ledger: self.bucket.lease().map(|lease| LedgerSnapshot {
                is_unavailable: lease.is_unavailable(),
                replicas: lease.replicas(),
            }),
        }
    }

    fn check_position(
        &mut self,
        key: QueueKey,
        caller: &Caller,
        group: Option<u64>,
        [deadline, now]: [Instant; 2],
    ) -> Result<(), Rejected> {
        // Counting the permits before it visits the queue. That is not needed if it is in time even as the
        // last one.
        if self.response_at(self.bucket.opens(self.queue.permits(), now)) <= deadline {
            return Ok(());
        }
        self.check_behind(self.queue.permits_before(key, caller, group), deadline, now)
    }

    fn check_behind(
        &mut self,
        ahead: usize,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        let opens = self.bucket.opens(ahead, now);
        if self.response_at(opens) <= deadline {
            return Ok(());
        }
        let reason = if opens > now { Reason::Deadline } else { Reason::ShortDeadline };
        Err(self.reject(reason, opens, now))
    }

    /// Makes room in a full queue: removes a request of the account with the most requests. If that is the
    /// account of the caller, or if it has as many as one account may have, removes a request of its name
    /// with the most. Rejects the new request if that is the caller.
    fn make_room(
        &mut self,
        caller: &Caller,
        limits: QueueLimits,
        now: Instant,
    ) -> Result<Option<(Waiting, Rejected)>, Rejected> {
        let shares = self.queue.shares();
        let (of_account, own) =
            (shares.queued_of_account(&caller.account()), shares.queued(caller));
        let has_share = of_account < limits.max_per_caller;
        if has_share && self.queue.len() < limits.max {
            return Ok(None);
        }
        let opens = self.bucket.opens(self.queue.permits(), now);
        let rejected = self.reject(Reason::QueueFull, opens, now);
        let of_others = match has_share {
            true => self.queue.cancel_of_longest(of_account + 1),
            false => None,
        };
        let removed = of_others.or_else(|| self.queue.cancel_of_longest_name(caller, own + 1));
        removed.map(|waiting| Some((waiting, rejected))).ok_or(rejected)
    }

    /// True if requests wait, and requests of several callers or bulk requests have waited lately. Only then
    /// would permits at the beginning of a second be taken from another caller.
    fn is_contended(&self, now: Instant) -> bool {
        !self.queue.is_empty() && self.contended_until.is_some_and(|until| now < until)
    }

    /// Estimated time of the response to a request that is sent at `sent`.
    fn response_at(&self, sent: Instant) -> Instant {
        sent + self.latency.estimate(sent)
    }

    fn wait_behind(&self, ahead: usize, now: Instant) -> Duration {
        self.bucket.opens(ahead, now).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests;
