//! A bucket and its queue: acquires slots, rejects requests that would be late, and makes room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    bucket::Bucket,
    bucket_name::BucketName,
    fair_shares::QueueKey,
    queue::Queue,
    rejected::{Reason, Rejected},
    requester::{Caller, Requester},
    snapshot::{BucketCounters, BucketSnapshot, CallerSnapshot, LedgerSnapshot},
    usage::Users,
    waiting::Waiting,
};

/// A bucket and the requests that wait for it.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) name: BucketName,
    pub(crate) bucket: Bucket,
    pub(crate) queue: Queue,
    pub(crate) counts: BucketCounters,
}

/// Permits that a limiter offers to its queue.
#[derive(Debug)]
pub(crate) enum Next {
    /// A slot that is acquired for these requests.
    Batch(u64, Vec<Waiting>),
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
    ) -> Self {
        Self { name, bucket, queue: Queue::new(weights), counts: BucketCounters::default() }
    }

    /// Acquires a slot if one is free and no request waits for it.
    pub(crate) fn try_take(&mut self, requester: &Requester, now: Instant) -> Option<u64> {
        self.bucket.expire(now);
        if !self.queue.is_empty() || self.bucket.next_check(now).is_some() {
            return None;
        }
        self.queue.serve_now(&requester.caller, requester.priority);
        self.counts.calls += 1;
        Some(self.bucket.take(Users::Single(requester.caller.clone()), 1, now))
    }

    /// Queues a request that can be served before `deadline`. If the queue is full, a request of the
    /// caller with the most of them is rejected, and returned.
    pub(crate) fn enqueue(
        &mut self,
        requester: &Requester,
        waiting: Waiting,
        deadline: Instant,
        max_queue: usize,
        now: Instant,
    ) -> Result<(QueueKey, Option<(Waiting, Rejected)>), Rejected> {
        self.bucket.expire(now);
        let Requester { caller, priority } = requester;
        let key = self.queue.shares().next_key(caller, *priority);
        self.check_position(key, waiting.group_id(), deadline, now)?;
        let removed = self.make_room(caller, max_queue, now)?;
        self.queue.push(key, caller.clone(), waiting, now);
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
        if self.queue.is_empty() || self.bucket.waits_for_ledger() {
            return Next::OnEvent;
        }
        if let Some(check) = self.bucket.next_check(now) {
            return Next::At(check);
        }
        let Some(batch) = self.queue.pop() else { return Next::OnEvent };
        let requests = batch.waiting.len();
        self.counts.calls += requests as u64;
        for since in &batch.since {
            self.counts.waits.observe(now.saturating_duration_since(*since));
        }
        Next::Batch(self.bucket.take(batch.users, requests, now), batch.waiting)
    }

    /// Removes a request whose deadline has passed, with an estimate for the next try.
    pub(crate) fn expire_request(&mut self, key: QueueKey, now: Instant) -> Duration {
        self.queue.cancel(key);
        self.counts.deadline += 1;
        self.wait_behind(self.queue.permits(), now)
    }

    /// Read model of the bucket and its queue.
    pub(crate) fn snapshot(&mut self, now: Instant) -> BucketSnapshot {
        self.bucket.expire(now);
        let mut callers: BTreeMap<&Caller, (f64, usize)> = BTreeMap::new();
        for (caller, part) in self.bucket.usage().parts() {
            callers.entry(caller).or_default().0 += part;
        }
        for (caller, waiting) in self.queue.shares().queued_callers() {
            callers.entry(caller).or_default().1 += waiting;
        }
        let callers = callers.into_iter().map(|(caller, (used, waiting))| CallerSnapshot {
            caller: caller.clone(),
            weight: self.queue.shares().weight(caller),
            used,
            waiting,
        });
        let closed_until = self.bucket.closed_until(now);
        BucketSnapshot {
            name: self.name,
            size: Some(self.bucket.size()),
            window: self.bucket.window(),
            used: self.bucket.used(now),
            reset: self.wait_behind(0, now),
            closed: closed_until.map_or(Duration::ZERO, |until| until - now),
            waiting: self.queue.len(),
            callers: callers.collect(),
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
        group: Option<u64>,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        // Counting the permits before it visits the queue. That is not needed if it is in time even as the
        // last one.
        if self.bucket.opens(self.queue.permits(), now) <= deadline {
            return Ok(());
        }
        self.check_behind(self.queue.permits_before(key, group), deadline, now)
    }

    fn check_behind(
        &mut self,
        ahead: usize,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        let opens = self.bucket.opens(ahead, now);
        if opens <= deadline {
            return Ok(());
        }
        self.counts.deadline += 1;
        let retry_after = opens.saturating_duration_since(now);
        Err(Rejected { bucket: self.name, reason: Reason::Deadline, retry_after })
    }

    /// Makes room in a full queue: removes a request of the caller with the most requests, or
    /// rejects the new request if its caller has the most.
    fn make_room(
        &mut self,
        caller: &Caller,
        max_queue: usize,
        now: Instant,
    ) -> Result<Option<(Waiting, Rejected)>, Rejected> {
        if self.queue.len() < max_queue {
            return Ok(None);
        }
        self.counts.queue_full += 1;
        let retry_after = self.wait_behind(self.queue.permits(), now);
        let rejected = Rejected { bucket: self.name, reason: Reason::QueueFull, retry_after };
        let own = self.queue.shares().queued(caller);
        match self.queue.cancel_of_longest(own + 1) {
            Some(waiting) => Ok(Some((waiting, rejected))),
            None => Err(rejected),
        }
    }

    fn wait_behind(&self, ahead: usize, now: Instant) -> Duration {
        self.bucket.opens(ahead, now).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests;
