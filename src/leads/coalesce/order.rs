//! Writes to one lead go one after the other, in the order they came.
//!
//! A write stands in the queue of every lead that it is about, and enters all of them at once: two
//! writes with leads in common are in the same order in each, so that none waits for the other in a
//! circle. Who comes last waits longest, whatever its priority: order is what is promised.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::leads::{CallContext, CostMeter, Error, LeadId, PortalName, Reason};
use leadsd_quota::{BucketName, Priority, Quota, WriteQueueStats};

/// How the limit on waiting writes is called in refusals.
const LEAD: &str = "lead";

/// The writes that wait for one lead are at most this part of all that may wait: one lead that many
/// write to leaves room for the others.
const PART_OF_A_LEAD: usize = 10;

/// When to try again, as long as it is not known how long a write takes.
const ABOUT_A_WRITE: Duration = Duration::from_millis(200);

/// What leads are called in writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    property: Option<String>,
    name: String,
}

/// The leads that are written to.
#[derive(Debug)]
pub(super) struct Order {
    quota: Arc<Quota>,
    portals: Mutex<HashMap<PortalName, Arc<Portal>>>,
    /// Most writes that wait in one portal.
    most: usize,
}

#[derive(Debug)]
struct Portal {
    leads: Mutex<Leads>,
    /// What others see of it.
    turns: Arc<WriteQueueStats>,
}

#[derive(Debug, Default)]
struct Leads {
    /// The writes to each lead: the one whose turn it is, and those behind it.
    queues: HashMap<Arc<Key>, VecDeque<u64>>,
    writes: HashMap<u64, Write>,
    numbers: u64,
    waiting: usize,
    pace: Pace,
}

#[derive(Debug)]
struct Write {
    keys: Vec<Arc<Key>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// In so many queues another is before it.
    Waits { queues: usize, ready: oneshot::Sender<()> },
    /// It is its turn.
    Goes { since: Instant },
}

/// How long a write takes, from its turn to its end.
#[derive(Debug, Default)]
struct Pace {
    mean: Option<Duration>,
    newest: Duration,
}

/// The right to write to some leads, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    portal: Arc<Portal>,
    number: u64,
    cost: Arc<CostMeter>,
}

/// What stands in the way of a write that comes now.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    Full(Duration),
    Late(Duration),
}

// === impl Key ===

impl Key {
    /// That of the lead which `id` names. A lead that is named by its record id here and by a unique
    /// value there counts as two: only HubSpot knows. Those two never share a batch.
    pub(super) fn new(id: &LeadId, property: Option<&str>) -> Self {
        let property = property.filter(|name| *name != "hs_object_id");
        Self { property: property.map(str::to_owned), name: name(id, property) }
    }
}

// === impl Order ===

impl Order {
    /// At most `most` writes wait in a portal.
    pub(super) fn new(quota: Arc<Quota>, most: usize) -> Self {
        Self { quota, portals: Mutex::default(), most }
    }

    /// Waits until the writes to these leads that came before are through. A write that would not be
    /// in time for its turn, as far as is known, is refused at once, and so is one too many.
    pub(super) async fn turn(
        &self,
        call: &CallContext,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<Turn, Error> {
        let keys: BTreeSet<Key> = keys.into_iter().collect();
        let portal = self.of(&call.portal);
        let until = call.permit_until();
        let (number, ready) = self.enter(&portal, call, keys)?;
        let turn = Turn { portal, number, cost: Arc::clone(&call.cost) };
        let Some(ready) = ready else { return Ok(turn) };
        match timeout_at(until, ready).await {
            Ok(_) => Ok(turn),
            Err(_) => Err(Error::new(
                Reason::DeadlineExceeded,
                "an earlier write to the same lead was not through before the deadline",
            )),
        }
    }

    fn of(&self, portal: &PortalName) -> Arc<Portal> {
        let mut portals = self.portals.lock();
        if let Some(known) = portals.get(portal) {
            return Arc::clone(known);
        }
        let turns = self.quota.account(portal.as_str()).write_queue();
        let new = Arc::new(Portal { leads: Mutex::default(), turns });
        Arc::clone(portals.entry(portal.clone()).or_insert(new))
    }

    fn enter(
        &self,
        portal: &Portal,
        call: &CallContext,
        keys: BTreeSet<Key>,
    ) -> Result<(u64, Option<oneshot::Receiver<()>>), Error> {
        let now = Instant::now();
        let until = call.permit_until();
        let mut leads = portal.leads.lock();
        if keys.iter().any(|key| leads.queues.contains_key(key)) {
            // Its permit is not there before the next one.
            let account = self.quota.account(call.portal.as_str());
            account.check_deadline(BucketName::Burst, until)?;
            // Nobody waits for bulk, so it takes no more than half of the room.
            let most = match call.who.priority {
                Priority::Interactive => self.most,
                Priority::Bulk => self.most / 2,
            };
            if let Some(obstacle) = leads.obstacle(&keys, most.max(1), until, now) {
                match obstacle {
                    Obstacle::Full(_) => portal.turns.count_queue_full(),
                    Obstacle::Late(_) => portal.turns.count_deadline(),
                }
                return Err(obstacle.into());
            }
        }
        let entered = leads.enter(keys, now);
        portal.turns.set_waiting(leads.waiting);
        Ok(entered)
    }
}

// === impl Leads ===

impl Leads {
    fn obstacle(
        &self,
        keys: &BTreeSet<Key>,
        most: usize,
        until: Instant,
        now: Instant,
    ) -> Option<Obstacle> {
        let queues = keys.iter().filter_map(|key| self.queues.get(key));
        let longest = queues.max_by_key(|queue| queue.len())?;
        let going = longest.front().and_then(|number| self.writes.get(number));
        let since = match going.map(|write| &write.state) {
            Some(State::Goes { since }) => now.saturating_duration_since(*since),
            Some(State::Waits { .. }) | None => Duration::ZERO,
        };
        let before = u32::try_from(longest.len()).unwrap_or(u32::MAX);
        // One of those before it has its turn already.
        if longest.len() > most.div_ceil(PART_OF_A_LEAD) || self.waiting >= most {
            let one = self.pace.one().unwrap_or(ABOUT_A_WRITE);
            return Some(Obstacle::Full(one.saturating_mul(before)));
        }
        let one = self.pace.one()?;
        let wait = one.saturating_mul(before).saturating_sub(since.min(one));
        (wait > until.saturating_duration_since(now)).then_some(Obstacle::Late(wait))
    }

    fn enter(&mut self, keys: BTreeSet<Key>, now: Instant) -> (u64, Option<oneshot::Receiver<()>>) {
        self.numbers += 1;
        let number = self.numbers;
        let keys: Vec<Arc<Key>> = keys.into_iter().map(Arc::new).collect();
        let mut queues = 0;
        for key in &keys {
            let queue = self.queues.entry(Arc::clone(key)).or_default();
            queues += usize::from(!queue.is_empty());
            queue.push_back(number);
        }
        let (state, receiver) = if queues == 0 {
            (State::Goes { since: now }, None)
        } else {
            self.waiting += 1;
            let (ready, receiver) = oneshot::channel();
            (State::Waits { queues, ready }, Some(receiver))
        };
        self.writes.insert(number, Write { keys, state });
        (number, receiver)
    }

    /// A write is through, or has gone away. `asked` is whether HubSpot was asked for it.
    fn leave(&mut self, number: u64, asked: bool, now: Instant) {
        let Some(Write { keys, state }) = self.writes.remove(&number) else { return };
        match state {
            State::Waits { .. } => self.waiting -= 1,
            State::Goes { since } if asked => {
                self.pace.learn(now.saturating_duration_since(since));
            }
            State::Goes { .. } => {}
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

    /// A write has become the first in one more of its queues.
    fn advance(&mut self, number: u64, now: Instant) {
        let Some(write) = self.writes.get_mut(&number) else { return };
        match &mut write.state {
            State::Waits { queues, .. } if *queues > 1 => *queues -= 1,
            State::Waits { .. } => {
                let goes = State::Goes { since: now };
                if let State::Waits { ready, .. } = std::mem::replace(&mut write.state, goes) {
                    // Whoever has gone away leaves at once.
                    let _ = ready.send(());
                }
                self.waiting -= 1;
            }
            State::Goes { .. } => {}
        }
    }
}

// === impl Pace ===

impl Pace {
    fn learn(&mut self, took: Duration) {
        self.mean = Some(self.mean.map_or(took, |mean| (mean * 7 + took) / 8));
        self.newest = took;
    }

    /// How long one write takes at the least: one that hung says nothing of those that come.
    fn one(&self) -> Option<Duration> {
        self.mean.map(|mean| mean.min(self.newest))
    }
}

// === impl Turn ===

impl Drop for Turn {
    fn drop(&mut self) {
        let mut leads = self.portal.leads.lock();
        leads.leave(self.number, self.cost.is_under_way(), Instant::now());
        self.portal.turns.set_waiting(leads.waiting);
    }
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Self {
        let (text, wait) = match obstacle {
            Obstacle::Full(wait) => {
                ("too many writes wait for an earlier one to the same lead", wait)
            }
            Obstacle::Late(wait) => (
                "earlier writes to the same lead take longer than there is time for this one",
                wait,
            ),
        };
        Self::new(Reason::Overloaded, text).with_retry_after(wait).with_bucket(LEAD)
    }
}

/// What all ways to write the same id have in common: HubSpot compares unique values without regard to
/// case, and record ids are numbers.
fn name(id: &LeadId, property: Option<&str>) -> String {
    let id = id.as_str();
    let is_number = property.is_none() && id.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { id.trim_start_matches('0').to_owned() } else { id.to_lowercase() }
}

#[cfg(test)]
mod tests;
