//! The quota of one portal: its buckets, their queues, and the task that gives permits to those who
//! wait.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    AccountSnapshot, BucketCounters, BucketName, BucketSnapshot, Group, Observation, Permit,
    RateLimited, Reason, Rejected, Requester, Settings, WriteQueueStats,
    bucket::{Bucket, Oldest},
    daily::Daily,
    lane::Lane,
    lease::Demand,
    ledger::{ExchangeRequest, Grant, LedgerConfig, LimitKey},
    queue::{Key, Queue, Waiting},
    share,
};
use leadsd_base::{
    task::{self, Task},
    time::{WallClock, Zone},
};

/// Longest a refusal is believed to close a bucket: past a day it is no limit but a mistake.
const LONGEST: Duration = Duration::from_secs(86_400);

/// Shortest wait that is told to a call that has waited in vain: what could come at any moment has not
/// come so far.
const MIN_RETRY_AFTER: Duration = Duration::from_millis(100);

/// The buckets that replicas share; what is left of the day HubSpot tells each of them.
const SHARED: [BucketName; 2] = [BucketName::Burst, BucketName::Search];

/// The quota of one portal.
pub struct Account {
    portal: Arc<str>,
    clock: Arc<dyn WallClock>,
    max_queue: usize,
    state: Mutex<State>,
    /// Something has changed for those who wait.
    changed: Arc<Notify>,
    sharing: Option<LedgerConfig>,
    /// Something has changed that the ledger may have to hear.
    to_share: [Arc<Notify>; 2],
    tasks: OnceLock<Vec<Task>>,
    write_queue: Arc<WriteQueueStats>,
}

struct State {
    burst: Lane,
    search: Lane,
    daily: Daily,
    daily_refused: u64,
    /// Calls sent and not answered yet.
    under_way: u64,
}

/// A place in a queue; given up when dropped.
#[derive(Debug)]
pub struct QueueEntry {
    account: Arc<Account>,
    bucket: BucketName,
    key: Key,
}

/// What the driver has to hand over once the state is no longer locked.
#[derive(Default)]
struct Turn {
    leaving: Vec<(Permit, Vec<Waiting>)>,
    refused: Vec<(Waiting, Rejected)>,
    /// When to look again.
    wake: Option<Instant>,
}

// === impl Account ===

impl Account {
    pub(super) fn start(
        portal: Arc<str>,
        settings: &Settings,
        weights: Arc<BTreeMap<String, u32>>,
        clock: Arc<dyn WallClock>,
    ) -> Arc<Self> {
        let now = Instant::now();
        let sharing = settings.ledger.clone();
        let zone: &Zone = settings.zones.get(&*portal).unwrap_or(&settings.zone);
        let lane = |name, bucket| Lane {
            name,
            bucket: Bucket::shared(bucket, sharing.clone(), now),
            queue: Queue::new(Arc::clone(&weights)),
            counts: BucketCounters::default(),
        };
        let state = State {
            burst: lane(BucketName::Burst, Bucket::burst(settings.burst, settings.burst_window)),
            search: lane(BucketName::Search, Bucket::secondly(settings.search_per_second)),
            daily: Daily::new(settings.daily, zone.clone()),
            daily_refused: 0,
            under_way: 0,
        };
        let account = Arc::new(Self {
            portal: Arc::clone(&portal),
            clock,
            max_queue: settings.max_queue,
            state: Mutex::new(state),
            changed: Arc::default(),
            sharing,
            to_share: Default::default(),
            tasks: OnceLock::new(),
            write_queue: Arc::default(),
        });
        let driver = drive(Arc::downgrade(&account), Arc::clone(&account.changed));
        let mut tasks = vec![task::spawn("quota", &portal, driver)];
        if let Some(sharing) = &account.sharing {
            for (bucket, notify) in SHARED.into_iter().zip(&account.to_share) {
                let limit = LimitKey { portal: Arc::clone(&portal), bucket };
                let sharer = share::run(
                    Arc::downgrade(&account),
                    sharing.clone(),
                    limit,
                    Arc::clone(notify),
                );
                tasks.push(task::spawn("quota_share", &portal, sharer));
            }
        }
        // The account was made just now, so there are none yet.
        let _ = account.tasks.set(tasks);
        account
    }

    /// A permit, if one is free and nobody waits for it.
    pub fn try_acquire(
        self: &Arc<Self>,
        bucket: BucketName,
        who: &Requester,
    ) -> Result<Option<Permit>, Rejected> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.refuse_if_used_up(self.clock.now())?;
        let lane = state.lane(bucket);
        lane.bucket.expire(now);
        if !lane.queue.is_empty() || lane.bucket.waits(now).is_some() {
            return Ok(None);
        }
        lane.queue.pass(&who.caller, who.priority);
        lane.counts.calls += 1;
        let number = lane.take(vec![(who.caller.clone(), 1)], 1, now);
        state.daily.take(self.clock.now());
        drop(state);
        self.tell(bucket);
        Ok(Some(Permit::new(Arc::clone(self), bucket, number)))
    }

    /// Waits for a permit, at most until `until`.
    pub async fn acquire(
        self: &Arc<Self>,
        bucket: BucketName,
        who: &Requester,
        until: Instant,
    ) -> Result<Permit, Rejected> {
        if let Some(permit) = self.try_acquire(bucket, who)? {
            return Ok(permit);
        }
        let (sender, receiver) = oneshot::channel();
        let place = self.queue(bucket, who, until, Waiting::Alone(sender))?;
        match timeout_at(until, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(place.deadline_error()),
        }
    }

    /// Queues a call that may leave together with others of its group, which is told how it went.
    pub fn enqueue(
        self: &Arc<Self>,
        bucket: BucketName,
        who: &Requester,
        until: Instant,
        group: Arc<dyn Group>,
        member: u64,
    ) -> Result<QueueEntry, Rejected> {
        self.queue(bucket, who, until, Waiting::Member(group, member))
    }

    /// Refuses a call whose permit will not come in time even if nobody else waits.
    pub fn check_deadline(&self, bucket: BucketName, until: Instant) -> Result<(), Rejected> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.refuse_if_used_up(self.clock.now())?;
        state.lane(bucket).refuse_if_closed(until, now)
    }

    /// Where to tell of the writes that wait for their turn.
    pub fn write_queue(&self) -> Arc<WriteQueueStats> {
        Arc::clone(&self.write_queue)
    }

    /// How the quota stands.
    pub fn snapshot(&self, now: Instant) -> AccountSnapshot {
        let mut state = self.state.lock();
        let end_of_day = state.daily.left_of_day(self.clock.now());
        let mut buckets = vec![state.burst.view(now), state.search.view(now)];
        let counts = BucketCounters { exhausted: state.daily_refused, ..BucketCounters::default() };
        buckets.push(BucketSnapshot {
            name: BucketName::Daily,
            size: state.daily.size(),
            window: end_of_day,
            used: state.daily.used(),
            reset: end_of_day,
            closed: Duration::ZERO,
            waiting: 0,
            callers: Vec::new(),
            counts,
            ledger: None,
        });
        AccountSnapshot {
            portal: Arc::clone(&self.portal),
            buckets,
            write_queue: self.write_queue.snapshot(),
        }
    }

    fn queue(
        self: &Arc<Self>,
        bucket: BucketName,
        who: &Requester,
        until: Instant,
        waiting: Waiting,
    ) -> Result<QueueEntry, Rejected> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.refuse_if_used_up(self.clock.now())?;
        let lane = state.lane(bucket);
        lane.bucket.expire(now);
        let group = match &waiting {
            Waiting::Member(group, _) => Some(group.id()),
            Waiting::Alone(_) => None,
        };
        let key = lane.queue.place(&who.caller, who.priority);
        lane.refuse_if_late(key, group, until, now)?;
        let dropped = lane.make_room(&who.caller, self.max_queue, now)?;
        lane.queue.push(key, who.caller.clone(), waiting, now);
        drop(state);
        if let Some((waiting, refusal)) = dropped {
            refuse(waiting, refusal);
        }
        self.tell(bucket);
        self.changed.notify_one();
        Ok(QueueEntry { account: Arc::clone(self), bucket, key })
    }

    pub(super) fn sent(&self, name: BucketName, number: u64, leads: usize) -> Oldest {
        let mut state = self.state.lock();
        state.under_way += 1;
        let lane = state.lane(name);
        lane.counts.permits += 1;
        lane.counts.leads += leads as u64;
        lane.bucket.sent(number, Instant::now());
        let oldest = lane.bucket.oldest();
        drop(state);
        self.tell(name);
        oldest
    }

    pub(super) fn heard(
        &self,
        bucket: BucketName,
        heard: Observation,
        number: u64,
        oldest: Oldest,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let (Some(size), Some(remaining)) = (heard.daily, heard.daily_remaining) {
            let others = state.under_way.saturating_sub(1);
            state.daily.learn(size, remaining, others);
        }
        let lane = state.lane(bucket);
        // Answers to searches tell nothing of the limit on searches.
        if bucket == BucketName::Burst {
            lane.bucket.learn(heard.limit, number, oldest, now);
        }
        match heard.rate_limited {
            None => {}
            Some(RateLimited::Bucket(wait)) => {
                lane.counts.upstream_429 += 1;
                lane.bucket.close(now + wait.min(LONGEST), now);
            }
            Some(RateLimited::Daily) => {
                lane.counts.upstream_429 += 1;
                state.daily.close(self.clock.now());
            }
        }
    }

    pub(super) fn done(&self, bucket: BucketName, number: u64) {
        let mut state = self.state.lock();
        state.under_way = state.under_way.saturating_sub(1);
        let lane = state.lane(bucket);
        lane.bucket.done(number, Instant::now());
        self.wake_driver(lane);
        self.tell(bucket);
    }

    pub(super) fn give_back(&self, bucket: BucketName, number: u64) {
        let mut state = self.state.lock();
        state.daily.give_back();
        let lane = state.lane(bucket);
        lane.bucket.give_back(number);
        self.wake_driver(lane);
        self.tell(bucket);
    }

    /// What to tell the ledger and to ask of it now, or when to look again.
    pub(super) fn ask(&self, bucket: BucketName) -> Result<ExchangeRequest, Option<Instant>> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let lane = state.lane(bucket);
        let demand = lane.queue.permits();
        let ask = lane.bucket.ask(Demand::Permits(demand), now);
        ask.ok_or_else(|| lane.bucket.ask_again(demand, now))
    }

    /// Tells the other replicas that this one makes no more calls. What it has used still counts.
    pub(super) async fn leave_ledger(&self) {
        let Some(sharing) = &self.sharing else { return };
        for bucket in SHARED {
            let ask = self.state.lock().lane(bucket).bucket.ask(Demand::Leave, Instant::now());
            let limit = LimitKey { portal: Arc::clone(&self.portal), bucket };
            if let Some(ask) = ask {
                share::exchange(sharing, &limit, &ask).await;
            }
        }
    }

    /// The ledger has answered what was asked at `since`, or has not.
    pub(super) fn granted(
        &self,
        bucket: BucketName,
        ask: &ExchangeRequest,
        grant: Option<&Grant>,
        since: Instant,
    ) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let lane = state.lane(bucket);
        match grant {
            Some(grant) => lane.bucket.granted(ask, grant, since, now),
            None => lane.bucket.lost(now),
        }
        self.wake_driver(lane);
    }

    /// The ledger may have to hear of it.
    fn tell(&self, bucket: BucketName) {
        let [burst, search] = &self.to_share;
        match bucket {
            BucketName::Search => search.notify_one(),
            BucketName::Burst | BucketName::Daily => burst.notify_one(),
        }
    }

    fn wake_driver(&self, lane: &Lane) {
        if !lane.queue.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Gives permits to those whose turn it is.
    fn turn(self: &Arc<Self>) -> Turn {
        let now = Instant::now();
        let mut turn = Turn::default();
        let mut state = self.state.lock();
        for bucket in [BucketName::Burst, BucketName::Search] {
            self.turn_of(&mut state, bucket, now, &mut turn);
        }
        turn
    }

    fn turn_of(
        self: &Arc<Self>,
        state: &mut State,
        bucket: BucketName,
        now: Instant,
        turn: &mut Turn,
    ) {
        let clock = self.clock.now();
        loop {
            let lane = state.lane(bucket);
            lane.bucket.expire(now);
            if lane.queue.is_empty() {
                return;
            }
            if let Err(refusal) = state.refuse_if_used_up(clock) {
                let all = state.lane(bucket).queue.drain();
                // One of them is counted.
                state.daily_refused += (all.len() as u64).saturating_sub(1);
                turn.refused.extend(all.into_iter().map(|waiting| (waiting, refusal)));
                return;
            }
            let lane = state.lane(bucket);
            if lane.bucket.waits_for_ledger() {
                // Its answer wakes those who wait.
                return;
            }
            if let Some(look) = lane.bucket.waits(now) {
                turn.wake = Some(turn.wake.map_or(look, |wake| wake.min(look)));
                return;
            }
            let Some(party) = lane.queue.pop() else { return };
            lane.counts.calls += party.waiting.len() as u64;
            lane.counts.waits += party.waiting.len() as u64;
            let waited = party.since.iter().map(|since| now.saturating_duration_since(*since));
            lane.counts.waited += waited.sum::<Duration>();
            let number = lane.take(party.users, party.waiting.len(), now);
            state.daily.take(clock);
            let permit = Permit::new(Arc::clone(self), bucket, number);
            turn.leaving.push((permit, party.waiting));
            self.tell(bucket);
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("portal", &self.portal).finish_non_exhaustive()
    }
}

/// Gives permits for as long as there is the account.
async fn drive(account: Weak<Account>, changed: Arc<Notify>) {
    loop {
        let Some(strong) = account.upgrade() else { return };
        let turn = strong.turn();
        drop(strong);
        for (permit, waiting) in turn.leaving {
            hand_over(permit, waiting);
        }
        for (waiting, refusal) in turn.refused {
            refuse(waiting, refusal);
        }
        match turn.wake {
            None => changed.notified().await,
            Some(wake) => select! {
                () = changed.notified() => {}
                () = sleep_until(wake) => {}
            },
        }
    }
}

/// Those who leave with a permit are one alone, or members of one group.
fn hand_over(permit: Permit, waiting: Vec<Waiting>) {
    let mut group = None;
    let mut members = Vec::with_capacity(waiting.len());
    for waiting in waiting {
        match waiting {
            Waiting::Alone(sender) => {
                // Whoever has left in the meantime drops the permit, which gives it back.
                let _ = sender.send(Ok(permit));
                return;
            }
            Waiting::Member(own, member) => {
                group = Some(own);
                members.push(member);
            }
        }
    }
    if let Some(group) = group {
        group.dispatch(permit, members);
    }
}

fn refuse(waiting: Waiting, refusal: Rejected) {
    match waiting {
        // Whoever has left needs no answer.
        Waiting::Alone(sender) => drop(sender.send(Err(refusal))),
        Waiting::Member(group, member) => group.reject(member, refusal),
    }
}

// === impl State ===

impl State {
    /// The day has no lane: every call takes from it.
    fn lane(&mut self, bucket: BucketName) -> &mut Lane {
        match bucket {
            BucketName::Search => &mut self.search,
            BucketName::Burst | BucketName::Daily => &mut self.burst,
        }
    }

    fn refuse_if_used_up(&mut self, now: leadsd_base::time::Timestamp) -> Result<(), Rejected> {
        let Some(wait) = self.daily.used_up(now) else { return Ok(()) };
        self.daily_refused += 1;
        Err(Rejected { bucket: BucketName::Daily, reason: Reason::Exhausted, retry_after: wait })
    }
}

// === impl QueueEntry ===

impl QueueEntry {
    /// Leaves the queue; false if the call's turn has come before.
    pub fn cancel(&self) -> bool {
        self.account.state.lock().lane(self.bucket).queue.remove(self.key).is_some()
    }

    /// What to say of a call that has waited until it was too late.
    pub fn deadline_error(&self) -> Rejected {
        let now = Instant::now();
        let mut state = self.account.state.lock();
        let lane = state.lane(self.bucket);
        lane.queue.remove(self.key);
        lane.counts.deadline += 1;
        let wait = lane.bucket.opens(lane.queue.permits(), now).saturating_duration_since(now);
        Rejected {
            bucket: self.bucket,
            reason: Reason::Deadline,
            retry_after: wait.max(MIN_RETRY_AFTER),
        }
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.cancel();
    }
}
