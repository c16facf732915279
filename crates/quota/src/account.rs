//! The quota of one portal: permits, queued requests and snapshots.
//!
//! All limits are behind one mutex that is held for a few microseconds. A call takes it three times: to
//! acquire its permit, to mark it as sent, and to release it with the observed limits.

mod state;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use leadsd_base::{task::Task, time::WallClock};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};

use self::state::{Now, QueueStep, State};
use crate::{
    bucket_name::BucketName,
    fair_shares::QueueKey,
    group::Group,
    ledger::{ExchangeRequest, Grant, LedgerConfig},
    limiter::{Limiter, Next},
    observation::{Baseline, Observation},
    permit::{Issuer, Permit},
    rejected::Rejected,
    replica_lease::Demand,
    requester::Requester,
    settings::{QueueLimits, Settings},
    snapshot::AccountSnapshot,
    waiting::Waiting,
    write_queue::WriteQueueStats,
};

/// Buckets that replicas share through the ledger. HubSpot announces the rest of the day to each of them.
pub(crate) const SHARED_BUCKETS: [BucketName; 2] = [BucketName::Burst, BucketName::Search];

/// The quota of one portal.
pub struct Account {
    portal: Arc<str>,
    clock: Arc<dyn WallClock>,
    queue_limits: QueueLimits,
    state: Mutex<State>,
    /// Notified of events that can serve a queue.
    queue_changed: Arc<Notify>,
    ledger: Option<Arc<LedgerLink>>,
    /// Tasks of this account. They end with it.
    tasks: OnceLock<Vec<Task>>,
    write_queue: Arc<WriteQueueStats>,
}

/// A queued request. Dropping it cancels the request.
#[derive(Debug)]
pub struct QueueEntry {
    account: Arc<Account>,
    bucket: BucketName,
    key: QueueKey,
}

/// The ledger and the signals for the tasks that exchange with it.
#[derive(Debug)]
pub(crate) struct LedgerLink {
    pub(crate) config: LedgerConfig,
    burst_changed: Notify,
    search_changed: Notify,
}

/// Time of the next exchange with the ledger.
#[derive(Debug)]
pub(crate) enum NextExchange {
    /// Now, with this request.
    Now(Box<ExchangeRequest>),
    /// At this time or on a change.
    At(Instant),
    /// On a change.
    OnChange,
}

/// Permits and rejections to hand out once the mutex is released, and when to continue.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) batches: Vec<(Permit, Vec<Waiting>)>,
    pub(crate) rejected: Vec<(Waiting, Rejected)>,
    /// `None` to continue on the next event.
    pub(crate) wake: Option<Instant>,
}

// === impl Account ===

impl Account {
    pub(crate) fn new(
        portal: Arc<str>,
        settings: &Settings,
        weights: Arc<BTreeMap<String, u32>>,
        clock: Arc<dyn WallClock>,
    ) -> Self {
        let zone = settings.zones.get(&*portal).unwrap_or(&settings.zone).clone();
        let state = State::new(settings, zone, weights, Instant::now());
        let link = |config| Arc::new(LedgerLink::new(config));
        Self {
            portal,
            clock,
            queue_limits: QueueLimits::new(settings.max_queue, settings.max_caller_share),
            state: Mutex::new(state),
            queue_changed: Arc::default(),
            ledger: settings.ledger.clone().map(link),
            tasks: OnceLock::new(),
            write_queue: Arc::default(),
        }
    }

    /// Acquires a permit if one is free and no request waits for it. A request whose deadline leaves less
    /// time than HubSpot usually takes is rejected.
    pub fn try_acquire(
        self: &Arc<Self>,
        bucket: BucketName,
        requester: &Requester,
        deadline: Instant,
    ) -> Result<Option<Permit>, Rejected> {
        let now = self.now();
        let slot = self.state.lock().try_take(bucket, requester, deadline, now)?;
        Ok(slot.map(|slot| self.issue(bucket, slot)))
    }

    /// Acquires a permit, and waits for it until `deadline` at most. A request that would wait longer is
    /// rejected at once. Cancel safe: dropping the future cancels the request.
    pub async fn acquire(
        self: &Arc<Self>,
        bucket: BucketName,
        requester: &Requester,
        deadline: Instant,
    ) -> Result<Permit, Rejected> {
        if let Some(permit) = self.try_acquire(bucket, requester, deadline)? {
            return Ok(permit);
        }
        let (sender, receiver) = oneshot::channel();
        let entry = self.push(bucket, requester, deadline, Waiting::Single(sender))?;
        match timeout_at(deadline, receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(entry.deadline_error()),
        }
    }

    /// Queues a member of a group, which is then dispatched or rejected through the group. A member that
    /// would wait until after `deadline` is rejected at once.
    pub fn enqueue(
        self: &Arc<Self>,
        bucket: BucketName,
        requester: &Requester,
        deadline: Instant,
        group: Arc<dyn Group>,
        member: u64,
    ) -> Result<QueueEntry, Rejected> {
        self.push(bucket, requester, deadline, Waiting::Member(group, member))
    }

    /// Rejects a request whose permit would come after `deadline` even if the queue were empty.
    pub fn check_deadline(&self, bucket: BucketName, deadline: Instant) -> Result<(), Rejected> {
        let now = self.now();
        let mut state = self.state.lock();
        state.check_daily(now)?;
        state.limiter(bucket).check_deadline(deadline, now.instant)
    }

    /// Charges requesters for permits that served the requests of others, in equal parts.
    pub fn charge(&self, bucket: BucketName, requesters: &[Requester], permits: usize) {
        self.state.lock().limiter(bucket).queue.charge(requesters, permits);
    }

    /// Statistics of writes that wait for an earlier write to the same lead.
    pub fn write_queue(&self) -> Arc<WriteQueueStats> {
        Arc::clone(&self.write_queue)
    }

    /// Read model of the account.
    pub fn snapshot(&self, now: Instant) -> AccountSnapshot {
        let now = Now { instant: now, wall: self.clock.now() };
        AccountSnapshot {
            portal: self.portal(),
            buckets: self.state.lock().snapshot(now),
            write_queue: self.write_queue.snapshot(),
        }
    }

    /// Name of the portal.
    pub(crate) fn portal(&self) -> Arc<str> {
        Arc::clone(&self.portal)
    }

    /// Notified of events that can serve a queue.
    pub(crate) fn queue_changed(&self) -> Arc<Notify> {
        Arc::clone(&self.queue_changed)
    }

    /// The ledger, if replicas share the limits.
    pub(crate) fn ledger(&self) -> Option<&Arc<LedgerLink>> {
        self.ledger.as_ref()
    }

    /// Keeps the tasks of this account. Only the first call counts.
    pub(crate) fn keep_tasks(&self, tasks: Vec<Task>) {
        let _ = self.tasks.set(tasks);
    }

    /// Acquires all available permits for queued requests.
    pub(crate) fn serve_queues(self: &Arc<Self>) -> Round {
        let now = self.now();
        let mut round = Round::default();
        let mut state = self.state.lock();
        for bucket in SHARED_BUCKETS {
            loop {
                match state.next(bucket, now) {
                    QueueStep::Next(Next::Batch(slot, waiting)) => {
                        round.batches.push((self.issue(bucket, slot), waiting));
                    }
                    QueueStep::Next(Next::Late(waiting, rejected)) => {
                        round.rejected.push((waiting, rejected));
                    }
                    QueueStep::Next(Next::At(wake)) => {
                        round.wake = Some(round.wake.map_or(wake, |known| known.min(wake)));
                        break;
                    }
                    QueueStep::Next(Next::OnEvent) => break,
                    QueueStep::Exhausted(rejected) => {
                        round.rejected.extend(rejected);
                        break;
                    }
                }
            }
        }
        round
    }

    /// The next exchange of a bucket.
    pub(crate) fn next_exchange(&self, bucket: BucketName) -> NextExchange {
        let now = Instant::now();
        let mut state = self.state.lock();
        let limiter = state.limiter(bucket);
        let demand = limiter.queue.permits();
        if let Some(request) = limiter.bucket.exchange_request(Demand::Permits(demand), now) {
            return NextExchange::Now(Box::new(request));
        }
        limiter.bucket.next_exchange(demand, now).map_or(NextExchange::OnChange, NextExchange::At)
    }

    /// The request that leaves the limit of a bucket to the other replicas.
    pub(crate) fn leave_request(&self, bucket: BucketName) -> Option<ExchangeRequest> {
        let mut state = self.state.lock();
        state.limiter(bucket).bucket.exchange_request(Demand::Leave, Instant::now())
    }

    /// Applies the response to a request that was sent at `sent_at`; `None` if there was no
    /// response.
    pub(crate) fn finish_exchange(
        &self,
        bucket: BucketName,
        request: &ExchangeRequest,
        grant: Option<&Grant>,
        sent_at: Instant,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let limiter = state.limiter(bucket);
        match grant {
            Some(grant) => limiter.bucket.on_grant(request, grant, sent_at, now),
            None => limiter.bucket.on_unavailable(now),
        }
        self.wake_queue(limiter);
    }

    fn push(
        self: &Arc<Self>,
        bucket: BucketName,
        requester: &Requester,
        deadline: Instant,
        waiting: Waiting,
    ) -> Result<QueueEntry, Rejected> {
        let now = self.now();
        let mut state = self.state.lock();
        state.check_daily(now)?;
        let limiter = state.limiter(bucket);
        let (key, removed) =
            limiter.enqueue(requester, waiting, deadline, self.queue_limits, now.instant)?;
        drop(state);
        if let Some((removed, rejected)) = removed {
            removed.reject(rejected);
        }
        self.notify_ledger(bucket);
        self.queue_changed.notify_one();
        Ok(QueueEntry { account: Arc::clone(self), bucket, key })
    }

    fn now(&self) -> Now {
        Now { instant: Instant::now(), wall: self.clock.now() }
    }

    fn issue(self: &Arc<Self>, bucket: BucketName, slot: u64) -> Permit {
        self.notify_ledger(bucket);
        Permit::new(Arc::clone(self) as Arc<dyn Issuer>, bucket, slot)
    }

    fn notify_ledger(&self, bucket: BucketName) {
        if let Some(link) = &self.ledger {
            link.changed(bucket).notify_one();
        }
    }

    fn wake_queue(&self, limiter: &Limiter) {
        if !limiter.queue.is_empty() {
            self.queue_changed.notify_one();
        }
    }
}

impl Issuer for Account {
    fn mark_sent(&self, bucket: BucketName, slot: u64, leads: usize) -> Baseline {
        let baseline = self.state.lock().mark_sent(bucket, slot, leads, Instant::now());
        self.notify_ledger(bucket);
        baseline
    }

    fn finish(&self, bucket: BucketName, slot: u64, response: Option<(Observation, Baseline)>) {
        let now = self.now();
        let mut state = self.state.lock();
        let has_response = response.is_some();
        if let Some(response) = response {
            state.observe(bucket, slot, response, now);
        }
        state.finish(bucket, slot, has_response, now.instant);
        self.wake_queue(state.limiter(bucket));
        drop(state);
        self.notify_ledger(bucket);
    }

    fn release_unused(&self, bucket: BucketName, slot: u64) {
        let mut state = self.state.lock();
        state.release(bucket, slot, Instant::now());
        self.wake_queue(state.limiter(bucket));
        drop(state);
        self.notify_ledger(bucket);
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("portal", &self.portal).finish_non_exhaustive()
    }
}

// === impl QueueEntry ===

impl QueueEntry {
    /// Cancels the request. Returns whether it was still queued.
    pub fn cancel(&self) -> bool {
        self.account.state.lock().limiter(self.bucket).queue.cancel(self.key).is_some()
    }

    /// Cancels a request whose deadline has passed, and returns its error.
    pub fn deadline_error(&self) -> Rejected {
        let mut state = self.account.state.lock();
        state.limiter(self.bucket).expire_request(self.key, Instant::now())
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.cancel();
    }
}

// === impl LedgerLink ===

impl LedgerLink {
    fn new(config: LedgerConfig) -> Self {
        Self { config, burst_changed: Notify::new(), search_changed: Notify::new() }
    }

    /// Notified of changes to report to the ledger.
    pub(crate) fn changed(&self, bucket: BucketName) -> &Notify {
        match bucket {
            BucketName::Search => &self.search_changed,
            BucketName::Burst | BucketName::Daily => &self.burst_changed,
        }
    }
}
