//! Who goes next: weighted fair shares among callers, interactive calls before bulk calls, and every
//! tenth permit to bulk all the same.
//!
//! Start-time fair queueing: each call gets a tag, one share after the tag of its caller's call
//! before it, and the smallest tag goes first. What is shared is permits: a call that may go with
//! others is charged its part of a full batch when it comes, and the rest of its part of the batch
//! when that leaves. One that goes away in between gets its charge back. A caller with a long queue has far tags; one who comes
//! with a single call gets the tag of whoever is served now, and is next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
    sync::Arc,
};

use tokio::{sync::oneshot, time::Instant};

use super::{Caller, Group, Permit, Priority, Rejected, bucket::Users};

/// Interactive permits in a row after which one goes to bulk.
const IN_A_ROW: u32 = 9;

/// What a call of a caller with one share adds to its tag.
const SHARE: u64 = 1 << 32;

/// Callers whose calls of before are remembered although none of theirs waits. With a new name for
/// each call nobody's tag is ever behind.
const MOST_CALLERS: usize = 10_000;

/// Place of a call in a queue; the smallest is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    priority: Priority,
    tag: u64,
    order: u64,
}

/// What waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A call that needs a permit of its own.
    Alone(oneshot::Sender<Result<Permit, Rejected>>),
    /// A call that may share one with others of its group.
    Member(Arc<dyn Group>, u64),
}

#[derive(Debug)]
struct Ticket {
    caller: Caller,
    waiting: Waiting,
    since: Instant,
    /// What was charged for it.
    charge: u64,
}

/// One caller's place among the others.
#[derive(Debug, Default)]
struct Standing {
    /// Tag after its newest call, for each priority.
    tags: [u64; 2],
    waiting: BTreeSet<Key>,
}

/// Those who leave with one permit.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) users: Users,
    pub(super) waiting: Vec<Waiting>,
    /// Since when each of them has waited.
    pub(super) since: Vec<Instant>,
}

/// The queue for one bucket.
#[derive(Debug)]
pub(super) struct Queue {
    shares: Arc<BTreeMap<String, u32>>,
    waiting: BTreeMap<Key, Ticket>,
    groups: HashMap<u64, BTreeSet<Key>>,
    /// Permits that it takes for all of them to leave; kept, for every call that comes asks.
    permits: usize,
    callers: HashMap<Caller, Standing>,
    /// Tag of whoever went last, for each priority.
    now: [u64; 2],
    in_a_row: u32,
    orders: u64,
}

// === impl Queue ===

impl Queue {
    /// `shares` are those of callers who have more than one.
    pub(super) fn new(shares: Arc<BTreeMap<String, u32>>) -> Self {
        Self {
            shares,
            waiting: BTreeMap::new(),
            groups: HashMap::new(),
            permits: 0,
            callers: HashMap::new(),
            now: [0; 2],
            in_a_row: 0,
            orders: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    #[cfg(test)]
    pub(super) fn remembers(&self) -> usize {
        self.callers.len()
    }

    #[cfg(test)]
    pub(super) fn holds(&self, key: Key) -> bool {
        self.waiting.contains_key(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Waiting calls of a caller.
    pub(super) fn waiting_of(&self, caller: &Caller) -> usize {
        self.callers.get(caller).map_or(0, |standing| standing.waiting.len())
    }

    /// Callers that have calls waiting, each with how many.
    pub(super) fn callers(&self) -> impl Iterator<Item = (&Caller, usize)> {
        let all = self.callers.iter().map(|(caller, standing)| (caller, standing.waiting.len()));
        all.filter(|(_, waiting)| *waiting > 0)
    }

    /// How many shares a caller has.
    pub(super) fn shares_of(&self, caller: &Caller) -> u32 {
        let by_name = || self.shares.get(caller.as_str()).copied();
        caller.weight.or_else(by_name).unwrap_or(1).max(1)
    }

    /// The place that the caller's next call would get.
    pub(super) fn place(&self, caller: &Caller, priority: Priority) -> Key {
        let class = priority as usize;
        let own = self.callers.get(caller).map_or(0, |standing| standing.tags[class]);
        Key { priority, tag: own.max(self.now[class]), order: self.orders }
    }

    /// A call of the caller goes without waiting.
    pub(super) fn pass(&mut self, caller: &Caller, priority: Priority) {
        let key = self.place(caller, priority);
        let charge = self.share_of(caller);
        self.charge(key, caller, charge);
        self.advance(key);
    }

    /// A call waits at the place it was told.
    pub(super) fn push(&mut self, key: Key, caller: Caller, waiting: Waiting, since: Instant) {
        let mut charge = self.share_of(&caller);
        match &waiting {
            Waiting::Alone(_) => self.permits += 1,
            Waiting::Member(group, _) => {
                let most = group.max_size().max(1);
                let keys = self.groups.entry(group.id()).or_default();
                // One more batch begins with it, or none.
                self.permits += usize::from(keys.len().is_multiple_of(most));
                keys.insert(key);
                charge /= most as u64;
            }
        }
        self.charge(key, &caller, charge).waiting.insert(key);
        self.waiting.insert(key, Ticket { caller, waiting, since, charge });
    }

    /// Takes a call out, as if it had never come; `None` if it has left already.
    pub(super) fn remove(&mut self, key: Key) -> Option<Waiting> {
        let ticket = self.take(key)?;
        if let Some(standing) = self.callers.get_mut(&ticket.caller) {
            // The next one of the caller still goes after those that wait.
            let same = |other: &&Key| other.priority == key.priority;
            let newest = standing.waiting.iter().rev().find(same).map_or(0, |newest| newest.tag);
            let tag = &mut standing.tags[key.priority as usize];
            *tag = tag.saturating_sub(ticket.charge).max(newest);
        }
        Some(ticket.waiting)
    }

    /// Takes out those who leave with the next permit.
    pub(super) fn pop(&mut self) -> Option<Party> {
        let head = self.head()?;
        self.in_a_row = if head.priority == Priority::Bulk { 0 } else { self.in_a_row + 1 };
        self.advance(head);
        let keys = match &self.waiting.get(&head)?.waiting {
            Waiting::Alone(_) => vec![head],
            Waiting::Member(group, _) => self.members(head, &**group),
        };
        let mut party = Party { users: Users::new(), waiting: Vec::new(), since: Vec::new() };
        let mut paid = Vec::new();
        for key in keys {
            let Some(ticket) = self.take(key) else { continue };
            match party.users.iter().position(|(caller, _)| *caller == ticket.caller) {
                Some(place) => {
                    party.users[place].1 += 1;
                    paid[place] += ticket.charge;
                }
                None => {
                    party.users.push((ticket.caller, 1));
                    paid.push(ticket.charge);
                }
            }
            party.waiting.push(ticket.waiting);
            party.since.push(ticket.since);
        }
        self.settle(head.priority, &party, &paid);
        Some(party)
    }

    /// Charges the rest for a permit that is not used by as many calls as could.
    fn settle(&mut self, priority: Priority, party: &Party, paid: &[u64]) {
        let all = party.waiting.len().max(1) as u64;
        for ((caller, calls), paid) in party.users.iter().zip(paid) {
            let part = self.share_of(caller) * u64::from(*calls) / all;
            if let Some(standing) = self.callers.get_mut(caller) {
                let tag = &mut standing.tags[priority as usize];
                *tag = tag.saturating_add(part.saturating_sub(*paid));
            }
        }
    }

    /// Takes out everybody.
    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        self.groups.clear();
        self.permits = 0;
        self.callers.clear();
        std::mem::take(&mut self.waiting).into_values().map(|ticket| ticket.waiting).collect()
    }

    /// Takes the newest call of whoever has the most waiting, if that is more than `than`.
    pub(super) fn drop_longest(&mut self, than: usize) -> Option<Waiting> {
        let (caller, waiting) = self.callers().max_by_key(|(_, waiting)| *waiting)?;
        if waiting <= than {
            return None;
        }
        let caller = caller.clone();
        let mut keys = self.waiting.iter().rev();
        let key = keys.find(|(_, ticket)| ticket.caller == caller).map(|(key, _)| *key)?;
        self.remove(key)
    }

    /// At most so many permits go before a call that comes now.
    pub(super) fn permits(&self) -> usize {
        self.permits
    }

    /// How many permits go before a call with this key, as far as is known now. `group` is its own: it
    /// leaves with the first of the batch that it is in.
    pub(super) fn permits_before(&self, key: Key, group: Option<u64>) -> usize {
        let (mut first, mut own) = (key, 0);
        if let Some(keys) = group.and_then(|group| self.groups.get(&group)) {
            let most = self.most(keys);
            own = keys.range(..key).count() / most;
            first = keys.iter().nth(own * most).copied().map_or(key, |head| head.min(key));
        }
        let mut alone = 0;
        let mut members: HashMap<u64, (usize, usize)> = HashMap::new();
        for ticket in self.waiting.range(..first).map(|(_, ticket)| ticket) {
            match &ticket.waiting {
                Waiting::Member(other, _) if group == Some(other.id()) => {}
                Waiting::Alone(_) => alone += 1,
                Waiting::Member(group, _) => {
                    members.entry(group.id()).or_insert_with(|| (0, group.max_size())).0 += 1;
                }
            }
        }
        let batches = members.into_values().map(|(calls, most)| calls.div_ceil(most.max(1)));
        let batches = own + batches.sum::<usize>();
        let before = alone + batches;
        let any_bulk =
            self.waiting.keys().next_back().is_some_and(|key| key.priority == Priority::Bulk);
        match key.priority {
            Priority::Interactive if any_bulk => before + before / IN_A_ROW as usize + 1,
            Priority::Interactive | Priority::Bulk => before,
        }
    }

    fn most(&self, keys: &BTreeSet<Key>) -> usize {
        let ticket = keys.first().and_then(|key| self.waiting.get(key));
        match ticket.map(|ticket| &ticket.waiting) {
            Some(Waiting::Member(group, _)) => group.max_size().max(1),
            Some(Waiting::Alone(_)) | None => 1,
        }
    }

    /// Whose turn it is.
    fn head(&self) -> Option<Key> {
        let (first, _) = self.waiting.first_key_value()?;
        if first.priority == Priority::Interactive && self.in_a_row >= IN_A_ROW {
            let bulk = Key { priority: Priority::Bulk, tag: 0, order: 0 };
            let mut bulk = self.waiting.range((Bound::Included(bulk), Bound::Unbounded));
            if let Some((key, _)) = bulk.next() {
                return Some(*key);
            }
        }
        Some(*first)
    }

    /// The head and those of its group that go with it, in the order of their places.
    fn members(&self, head: Key, group: &dyn Group) -> Vec<Key> {
        let all = self.groups.get(&group.id());
        if all.map_or(0, BTreeSet::len) < group.min_size() {
            return vec![head];
        }
        let others = all.into_iter().flatten().copied().filter(|key| *key != head);
        let mut keys: Vec<Key> = others.take(group.max_size().saturating_sub(1)).collect();
        keys.push(head);
        keys.sort_unstable();
        keys
    }

    fn take(&mut self, key: Key) -> Option<Ticket> {
        let ticket = self.waiting.remove(&key)?;
        match &ticket.waiting {
            Waiting::Alone(_) => self.permits -= 1,
            Waiting::Member(group, _) => {
                if let Some(keys) = self.groups.get_mut(&group.id()) {
                    keys.remove(&key);
                    self.permits -= usize::from(keys.len().is_multiple_of(group.max_size().max(1)));
                    if keys.is_empty() {
                        self.groups.remove(&group.id());
                    }
                }
            }
        }
        if let Some(standing) = self.callers.get_mut(&ticket.caller) {
            standing.waiting.remove(&key);
        }
        Some(ticket)
    }

    /// What a permit costs the caller.
    fn share_of(&self, caller: &Caller) -> u64 {
        SHARE / u64::from(self.shares_of(caller))
    }

    /// A place is taken: the caller's next one is later by the charge.
    fn charge(&mut self, key: Key, caller: &Caller, charge: u64) -> &mut Standing {
        self.orders += 1;
        // Only now and then: it looks at all of them.
        if self.orders.is_multiple_of(1_024) {
            self.forget_idle();
        }
        let standing = self.callers.entry(caller.clone()).or_default();
        standing.tags[key.priority as usize] = key.tag.saturating_add(charge);
        standing
    }

    fn advance(&mut self, key: Key) {
        let now = &mut self.now[key.priority as usize];
        *now = key.tag.max(*now);
    }

    /// Callers name themselves: those who have nothing waiting and no tag ahead need no memory, nor do
    /// all that have nothing waiting where there are too many.
    fn forget_idle(&mut self) {
        let now = self.now;
        let is_crowded = self.callers.len() > MOST_CALLERS;
        self.callers.retain(|_, standing| {
            let ahead = |class: usize| standing.tags[class] > now[class];
            !standing.waiting.is_empty() || !is_crowded && (ahead(0) || ahead(1))
        });
    }
}
