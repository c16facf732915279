//! A bucket and the queue before it: taking a slot, refusing what would be late, making room.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{
    BucketCounters, BucketName, BucketSnapshot, Caller, CallerSnapshot, LedgerSnapshot, Reason,
    Rejected,
    bucket::Bucket,
    queue::{Key, Queue, Waiting},
};

/// A bucket and who waits for it.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) name: BucketName,
    pub(super) bucket: Bucket,
    pub(super) queue: Queue,
    pub(super) counts: BucketCounters,
}

// === impl Lane ===

impl Lane {
    pub(super) fn take(&mut self, users: Vec<(Caller, u32)>, together: usize, now: Instant) -> u64 {
        self.bucket.take(users, together, now)
    }

    /// Refuses a call whose permit will not come in time, as far as is known now.
    pub(super) fn refuse_if_late(
        &mut self,
        key: Key,
        group: Option<u64>,
        until: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        // Counting those before it takes time: not needed if it is in time even as the last one.
        if self.bucket.opens(self.queue.permits(), now) <= until {
            return Ok(());
        }
        let before = self.queue.permits_before(key, group);
        self.refuse_behind(before, until, now)
    }

    /// Refuses a call whose permit will not come in time even if nobody else waits.
    pub(super) fn refuse_if_closed(
        &mut self,
        until: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        self.bucket.expire(now);
        self.refuse_behind(0, until, now)
    }

    fn refuse_behind(
        &mut self,
        before: usize,
        until: Instant,
        now: Instant,
    ) -> Result<(), Rejected> {
        let opens = self.bucket.opens(before, now);
        if opens <= until {
            return Ok(());
        }
        self.counts.deadline += 1;
        let wait = opens.saturating_duration_since(now);
        Err(Rejected { bucket: self.name, reason: Reason::Deadline, retry_after: wait })
    }

    /// Where too many wait, whoever has most of them loses one; the newcomer, if that is itself.
    pub(super) fn make_room(
        &mut self,
        caller: &Caller,
        max: usize,
        now: Instant,
    ) -> Result<Option<(Waiting, Rejected)>, Rejected> {
        if self.queue.len() < max {
            return Ok(None);
        }
        self.counts.queue_full += 1;
        let opens = self.bucket.opens(self.queue.permits(), now);
        let wait = opens.saturating_duration_since(now);
        let refusal = Rejected { bucket: self.name, reason: Reason::QueueFull, retry_after: wait };
        let own = self.queue.waiting_of(caller);
        match self.queue.drop_longest(own + 1) {
            Some(waiting) => Ok(Some((waiting, refusal))),
            None => Err(refusal),
        }
    }

    pub(super) fn view(&mut self, now: Instant) -> BucketSnapshot {
        self.bucket.expire(now);
        let mut callers: BTreeMap<&Caller, (f64, usize)> = BTreeMap::new();
        for (caller, used) in self.bucket.users() {
            callers.entry(caller).or_default().0 += used;
        }
        for (caller, waiting) in self.queue.callers() {
            callers.entry(caller).or_default().1 += waiting;
        }
        let callers = callers.into_iter().map(|(caller, (used, waiting))| CallerSnapshot {
            caller: caller.clone(),
            weight: self.queue.shares_of(caller),
            used,
            waiting,
        });
        let until = |then: Instant| then.saturating_duration_since(now);
        BucketSnapshot {
            name: self.name,
            size: Some(self.bucket.size()),
            window: self.bucket.window(),
            used: self.bucket.used(now),
            reset: until(self.bucket.resets(now)),
            closed: self.bucket.closed_until(now).map_or(Duration::ZERO, until),
            waiting: self.queue.len(),
            callers: callers.collect(),
            counts: self.counts,
            ledger: self.bucket.lease().map(|lease| LedgerSnapshot {
                is_unavailable: lease.is_away(),
                replicas: lease.replicas(),
            }),
        }
    }
}
