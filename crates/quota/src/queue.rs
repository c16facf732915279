//! The queue for one bucket: fair shares among accounts and their callers, interactive requests before
//! bulk requests, and every tenth permit to bulk. Restricted callers come last.
//!
//! Fair shares divide permits. A queued request of a group is charged for its part of a full batch.
//! The dispatch of the batch charges the rest of its part. A cancelled request is refunded.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    mem,
    sync::Arc,
};

use tokio::time::Instant;

use crate::{
    fair_shares::{FairShares, QueueKey},
    group::Group,
    requester::{AccountKey, Caller, Priority, Requester},
    usage::Users,
    waiting::Waiting,
};

/// Interactive permits in a row after which one goes to bulk: a tenth in all, so that bulk work always
/// makes progress and hardly delays interactive requests.
const INTERACTIVE_IN_A_ROW: u32 = 9;

/// The same for restricted callers: a fiftieth in all.
const UNRESTRICTED_IN_A_ROW: u32 = 49;

/// Requests that are dispatched with one permit.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) users: Users,
    pub(crate) waiting: Vec<Waiting>,
    /// Time at which each request was queued.
    pub(crate) since: Vec<Instant>,
}

/// Next requests of a queue.
#[derive(Debug)]
pub(crate) enum Popped {
    /// Requests for one permit.
    Batch(Batch),
    /// A request whose deadline is too near for a response.
    Late(Waiting),
}

/// The queue for one bucket.
#[derive(Debug)]
pub(crate) struct Queue {
    shares: FairShares,
    entries: BTreeMap<QueueKey, QueuedRequest>,
    groups: HashMap<u64, GroupMembers>,
    /// Number of permits that all entries need. Kept up to date, because every new request reads it.
    permits: usize,
    interactive_in_a_row: u32,
    unrestricted_in_a_row: u32,
}

#[derive(Debug)]
struct QueuedRequest {
    caller: Caller,
    waiting: Waiting,
    since: Instant,
    deadline: Instant,
    /// Charge of the caller for this request.
    charge: u64,
}

/// Queued requests of one group.
#[derive(Debug, Default)]
struct GroupMembers {
    number: usize,
    by_account: HashMap<AccountKey, BTreeSet<QueueKey>>,
}

/// A caller's requests in one batch.
#[derive(Debug)]
struct BatchUser {
    caller: Caller,
    requests: u32,
    charged: u64,
}

// === impl GroupMembers ===

impl GroupMembers {
    fn insert(&mut self, key: QueueKey, account: AccountKey) {
        self.number += usize::from(self.by_account.entry(account).or_default().insert(key));
    }

    fn remove(&mut self, key: QueueKey, account: &AccountKey) {
        let Some(keys) = self.by_account.get_mut(account) else { return };
        self.number -= usize::from(keys.remove(&key));
        if keys.is_empty() {
            self.by_account.remove(account);
        }
    }
}

// === impl Queue ===

impl Queue {
    /// `weights` are those of unauthenticated callers by name.
    pub(crate) fn new(weights: Arc<BTreeMap<String, u32>>) -> Self {
        Self {
            shares: FairShares::new(weights),
            entries: BTreeMap::new(),
            groups: HashMap::new(),
            permits: 0,
            interactive_in_a_row: 0,
            unrestricted_in_a_row: 0,
        }
    }

    /// Positions and weights of the callers.
    pub(crate) fn shares(&self) -> &FairShares {
        &self.shares
    }

    /// Number of queued requests.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if no request is queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn contains(&self, key: QueueKey) -> bool {
        self.entries.contains_key(&key)
    }

    /// Upper bound on the number of permits before a request that is queued now.
    pub(crate) fn permits(&self) -> usize {
        self.permits
    }

    /// Charges a caller for a request that takes a permit without waiting.
    pub(crate) fn serve_now(&mut self, caller: &Caller, priority: Priority) {
        self.shares.serve_now(caller, priority);
    }

    /// Queues a request at the position that [`FairShares::next_key`] has returned.
    pub(crate) fn push(
        &mut self,
        key: QueueKey,
        caller: Caller,
        waiting: Waiting,
        [since, deadline]: [Instant; 2],
    ) {
        let max_batch = waiting.max_batch();
        let charge = self.shares.cost(&caller) / max_batch as u64;
        match waiting.group_id() {
            None => self.permits += 1,
            Some(id) => {
                let members = self.groups.entry(id).or_default();
                // It begins a new batch if all batches of its group are full.
                self.permits += usize::from(members.number.is_multiple_of(max_batch));
                members.insert(key, caller.account());
            }
        }
        self.shares.enqueue(key, &caller, charge);
        self.entries.insert(key, QueuedRequest { caller, waiting, since, deadline, charge });
    }

    /// Removes a cancelled request as if it had never been queued. `None` if it was dispatched before.
    pub(crate) fn cancel(&mut self, key: QueueKey) -> Option<Waiting> {
        let entry = self.remove(key)?;
        self.shares.refund(key, &entry.caller, entry.charge);
        Some(entry.waiting)
    }

    /// Removes the requests that the next permit is for: those whose responses come at `response`.
    pub(crate) fn pop(&mut self, response: Instant) -> Option<Popped> {
        let head = self.head()?;
        let entry = self.entries.get(&head)?;
        if entry.deadline < response {
            return self.cancel(head).map(Popped::Late);
        }
        self.shares.advance(head, &entry.caller);
        self.count_in_a_row(head.priority);
        let keys = match &self.entries.get(&head)?.waiting {
            Waiting::Single(_) => return self.pop_single(head).map(Popped::Batch),
            Waiting::Member(group, _) => self.batch_keys(head, &**group, response),
        };
        let mut users: Vec<BatchUser> = Vec::new();
        let (mut waiting, mut since) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            let Some(entry) = self.serve(key) else { continue };
            match users.iter_mut().find(|user| user.caller == entry.caller) {
                Some(user) => {
                    user.requests += 1;
                    user.charged += entry.charge;
                }
                None => users.push(BatchUser {
                    caller: entry.caller,
                    requests: 1,
                    charged: entry.charge,
                }),
            }
            waiting.push(entry.waiting);
            since.push(entry.since);
        }
        self.charge_rest(head.priority, &users, waiting.len());
        let users = users.into_iter().map(|user| (user.caller, user.requests));
        Some(Popped::Batch(Batch { users: Users::Batch(users.collect()), waiting, since }))
    }

    /// Removes and returns all requests.
    pub(crate) fn drain(&mut self) -> Vec<Waiting> {
        self.groups.clear();
        self.permits = 0;
        self.shares.clear();
        mem::take(&mut self.entries).into_values().map(|entry| entry.waiting).collect()
    }

    /// Cancels the newest request of the account with the most queued requests, if these are more than
    /// `min`.
    pub(crate) fn cancel_of_longest(&mut self, min: usize) -> Option<Waiting> {
        let newest = self.shares.newest_of_longest(min)?;
        self.cancel(newest)
    }

    /// Cancels the newest request of the name with the most queued requests among those of the caller's
    /// account, if these are more than `min`.
    pub(crate) fn cancel_of_longest_name(
        &mut self,
        caller: &Caller,
        min: usize,
    ) -> Option<Waiting> {
        let newest = self.shares.newest_of_longest_name(caller, min)?;
        self.cancel(newest)
    }

    /// Estimated number of permits before a request of this caller at `key`. A member of `group` is
    /// dispatched with the first member of its batch.
    pub(crate) fn permits_before(
        &self,
        key: QueueKey,
        caller: &Caller,
        group: Option<u64>,
    ) -> usize {
        let (mut first, before) = self.shares.before(key, caller);
        let before = before.into_iter().filter_map(|(place, key)| {
            let waiting = &self.entries.get(&key)?.waiting;
            Some((place, waiting.group_id(), waiting.max_batch()))
        });
        let before: Vec<_> = before.collect();
        let mut own_batches = 0;
        if let Some(members) = group.and_then(|group| self.groups.get(&group)) {
            let max_batch = self.max_batch(members);
            let own = before.iter().filter(|(_, other, _)| *other == group);
            let mut own: Vec<_> = own.map(|(place, ..)| *place).collect();
            own_batches = own.len() / max_batch;
            let begins = own_batches * max_batch;
            if begins < own.len() {
                first = *own.select_nth_unstable(begins).1;
            }
        }
        let mut single = 0;
        let mut members: HashMap<u64, (usize, usize)> = HashMap::new();
        for (_, other, max_batch) in before.into_iter().filter(|(place, ..)| *place < first) {
            match other {
                None => single += 1,
                Some(_) if group == other => {}
                Some(other) => members.entry(other).or_insert((0, max_batch)).0 += 1,
            }
        }
        let batches = members.into_values().map(|(members, max)| members.div_ceil(max));
        let before = single + own_batches + batches.sum::<usize>();
        // Every tenth permit goes to bulk, and every fiftieth to restricted callers.
        let later = |priority: Priority, in_a_row: u32| {
            let is_later = key.priority < priority && self.has_queued(priority);
            if is_later { before / in_a_row as usize + 1 } else { 0 }
        };
        before
            + later(Priority::Bulk, INTERACTIVE_IN_A_ROW)
            + later(Priority::Restricted, UNRESTRICTED_IN_A_ROW)
    }

    /// Charges requesters for permits that served the requests of others, in equal parts.
    pub(crate) fn charge(&mut self, requesters: &[Requester], permits: usize) {
        for Requester { caller, priority } in requesters {
            let charge = self.shares.cost(caller) * permits as u64 / requesters.len() as u64;
            self.shares.charge_more(caller, *priority, charge);
        }
    }

    fn pop_single(&mut self, key: QueueKey) -> Option<Batch> {
        let QueuedRequest { caller, waiting, since, deadline: _, charge: _ } = self.serve(key)?;
        Some(Batch { users: Users::Single(caller), waiting: vec![waiting], since: vec![since] })
    }

    /// Charges the members of a partial batch for the unpaid rest of its permit.
    fn charge_rest(&mut self, priority: Priority, users: &[BatchUser], size: usize) {
        let size = size.max(1) as u64;
        for BatchUser { caller, requests, charged } in users {
            let part = self.shares.cost(caller) * u64::from(*requests) / size;
            self.shares.charge_more(caller, priority, part.saturating_sub(*charged));
        }
    }

    fn max_batch(&self, members: &GroupMembers) -> usize {
        let key = members.by_account.values().next().and_then(BTreeSet::first);
        let entry = key.and_then(|key| self.entries.get(key));
        entry.map_or(1, |entry| entry.waiting.max_batch())
    }

    fn head(&self) -> Option<QueueKey> {
        let is_due = |priority: Priority| match priority {
            Priority::Recovery | Priority::Interactive => false,
            Priority::Bulk => self.interactive_in_a_row >= INTERACTIVE_IN_A_ROW,
            Priority::Restricted => self.unrestricted_in_a_row >= UNRESTRICTED_IN_A_ROW,
        };
        let due = [Priority::Restricted, Priority::Bulk].into_iter().filter(|it| is_due(*it));
        self.shares.head(due.chain(Priority::ALL).find(|it| self.has_queued(*it))?)
    }

    /// True if a request of this priority is queued.
    fn has_queued(&self, priority: Priority) -> bool {
        let next = self.entries.range(QueueKey::first_of(priority)..).next();
        next.is_some_and(|(key, _)| key.priority == priority)
    }

    fn count_in_a_row(&mut self, priority: Priority) {
        self.unrestricted_in_a_row = self.unrestricted_in_a_row.saturating_add(1);
        self.interactive_in_a_row = self.interactive_in_a_row.saturating_add(1);
        match priority {
            Priority::Recovery | Priority::Interactive => {}
            Priority::Bulk => self.interactive_in_a_row = 0,
            Priority::Restricted => self.unrestricted_in_a_row = 0,
        }
    }

    /// The head and the members of its group that share its permit, in order of their positions. Members
    /// that have no time for a response are left to their deadlines.
    fn batch_keys(&self, head: QueueKey, group: &dyn Group, response: Instant) -> Vec<QueueKey> {
        let has_time =
            |key: &&QueueKey| self.entries.get(key).is_some_and(|entry| entry.deadline >= response);
        let charge = |key: &QueueKey| self.entries.get(key).map_or(0, |entry| entry.charge);
        let members = self.groups.get(&group.id());
        let accounts = members.into_iter().flat_map(|members| &members.by_account);
        let mut accounts: Vec<_> = accounts
            .map(|(account, keys)| {
                let others = keys.iter().filter(|key| **key != head).filter(has_time);
                (self.shares.places(account), others)
            })
            .collect();
        let number = accounts.len();
        let mut next = |account: usize| {
            let (places, keys) = accounts.get_mut(account)?;
            let key = keys.next()?;
            Some(Reverse((places.next(*key, charge(key)), *key, account)))
        };
        // The next member of each account.
        let mut others: BinaryHeap<_> = (0..number).filter_map(&mut next).collect();
        let mut keys = Vec::new();
        while keys.len() + 1 < group.max_size()
            && let Some(Reverse((_, key, account))) = others.pop()
        {
            keys.push(key);
            others.extend(next(account));
        }
        if keys.len() + 1 < group.min_size() {
            return vec![head];
        }
        keys.push(head);
        keys.sort_unstable();
        keys
    }

    /// Removes a request that is served.
    fn serve(&mut self, key: QueueKey) -> Option<QueuedRequest> {
        self.shares.serve(key, &self.entries.get(&key)?.caller);
        self.remove(key)
    }

    fn remove(&mut self, key: QueueKey) -> Option<QueuedRequest> {
        let entry = self.entries.remove(&key)?;
        match entry.waiting.group_id() {
            None => self.permits -= 1,
            Some(id) => self.leave_group(id, key, &entry),
        }
        self.shares.dequeue(key, &entry.caller);
        Some(entry)
    }

    fn leave_group(&mut self, id: u64, key: QueueKey, entry: &QueuedRequest) {
        let Some(members) = self.groups.get_mut(&id) else { return };
        members.remove(key, &entry.caller.account());
        self.permits -= usize::from(members.number.is_multiple_of(entry.waiting.max_batch()));
        if members.number == 0 {
            self.groups.remove(&id);
        }
    }
}
