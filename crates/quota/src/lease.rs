//! One replica's part in a limit that replicas share: the permits it has leased, and what it still
//! has to tell the ledger. Pure: no clock of its own, no waiting.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    ObservedLimit,
    ledger::{ExchangeRequest, Grant, LedgerConfig, LedgerObservation, SlotReport},
    skew::Skew,
};

/// Most permits asked for at a time: more would be missing elsewhere while they wait here.
const BLOCK: usize = 4;

/// A wanted permit is used within this time or given back: those who wait for it are there, so only a
/// stall of the process takes longer.
const HOLD: Duration = Duration::from_millis(100);

/// A spare permit is given back after this time.
const SPARE_HOLD: Duration = Duration::from_secs(1);

/// Calls that come within this time after another find a spare permit.
const BUSY: Duration = Duration::from_secs(1);

/// How often a replica shows that it is there.
const BEAT: Duration = Duration::from_millis(300);

/// For so long a ledger gives what a replica does not ask for to the others; then it keeps a part for
/// a replica it has not heard of.
pub(super) const SILENT: Duration = Duration::from_millis(900);

/// Without a call for so long, a replica leaves the limit to the others.
const IDLE: Duration = Duration::from_secs(30);

/// Pause between attempts to reach a ledger that is away.
const RETRY: Duration = Duration::from_millis(500);

/// How long a replica keeps to its part once a ledger can be reached: until all others that had lost it
/// have told it what they used.
const SETTLE: Duration = Duration::from_millis(1_200);

/// A permit of later than this is not given.
const FAR: Duration = Duration::from_secs(2);

/// Least pause after a ledger had none of what was asked for.
const PAUSE: Duration = Duration::from_millis(25);

/// What is not at hand is not there now, however soon it may be.
pub(super) const NEARLY: Duration = Duration::from_micros(1);

/// How a call that is not answered yet is told of, from its slot number: when HubSpot has counted it
/// at the latest, as far as each window is concerned; `None` if the slot is gone.
pub(super) type Counted<'a> = &'a dyn Fn(u64) -> Option<[Instant; 2]>;

/// What a bucket is, as far as the ledger needs to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) size: u64,
    pub(super) window: Duration,
    pub(super) paced: bool,
    pub(super) reach: [Duration; 2],
    pub(super) spread: bool,
}

/// What is wanted of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// So many permits are waited for.
    Permits(usize),
    /// Nothing any more: the process ends.
    Leave,
}

/// Whether the ledger is of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It was not asked yet.
    Starting,
    /// It cannot be reached; asked again then.
    Away(Instant),
    /// It can be reached again since then; others may need as long to tell it what they used.
    Back(Instant),
    /// Permits come from it.
    Live,
}

/// A permit at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Leased {
    number: u64,
    /// Good from then on.
    from: Instant,
    /// And until then.
    until: Instant,
}

/// What was asked for in vain: the same again is of no use before its time, nor is it more often than
/// with what is told anyhow.
#[derive(Debug, Clone, Copy)]
struct Vain {
    is_wanted: bool,
    ahead: bool,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Lease {
    sharing: LedgerConfig,
    mode: Mode,
    /// How the ledger's clock stands to ours; nothing can be told without.
    skew: Option<Skew>,
    stock: VecDeque<Leased>,
    /// Numbers, as the ledger knows them, of the slots taken.
    numbers: HashMap<u64, u64>,
    next_number: u64,
    /// Slots of which the ledger does not know the newest.
    changed: BTreeSet<u64>,
    /// Numbers of permits that were not used.
    freed: Vec<u64>,
    told: Option<LedgerObservation>,
    close: Option<Instant>,
    /// The same, while the exchange that tells it is under way.
    closing: Option<Instant>,
    /// When one more permit could be good, as far as is known.
    next: Instant,
    vain: Option<Vain>,
    oldest: u64,
    replicas: u32,
    asked: Option<Instant>,
    taken: Option<Instant>,
    /// When a call waited last, whether it got a permit or not.
    wanted: Option<Instant>,
    is_member: bool,
}

// === impl Lease ===

impl Lease {
    pub(super) fn new(sharing: LedgerConfig, now: Instant) -> Self {
        Self {
            replicas: sharing.replicas.max(1),
            sharing,
            mode: Mode::Starting,
            skew: None,
            stock: VecDeque::new(),
            numbers: HashMap::new(),
            next_number: 0,
            changed: BTreeSet::new(),
            freed: Vec::new(),
            told: None,
            close: None,
            closing: None,
            next: now,
            vain: None,
            oldest: 0,
            asked: None,
            taken: None,
            wanted: None,
            is_member: false,
        }
    }

    /// Whether permits come from the ledger.
    pub(super) fn is_live(&self) -> bool {
        self.mode == Mode::Live
    }

    /// Whether nothing is known yet, so that calls have to wait.
    pub(super) fn is_starting(&self) -> bool {
        self.mode == Mode::Starting
    }

    /// Whether the ledger cannot be reached.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.mode, Mode::Away(_))
    }

    /// How many replicas share the limit.
    pub(super) fn replicas(&self) -> u32 {
        self.replicas
    }

    /// How many permits were granted before the oldest that still counts.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Whether there is neither a permit at hand nor one to come: nothing happens before the ledger
    /// answers.
    pub(super) fn is_bare(&self) -> bool {
        self.stock.is_empty()
    }

    /// When the permit after `ahead` others can be given, as far as is known.
    pub(super) fn opens(&self, ahead: usize, gap: Duration, now: Instant) -> Instant {
        if let Some(leased) = self.stock.get(ahead) {
            return leased.from.max(now);
        }
        let known = self.stock.len();
        let more = u32::try_from(ahead - known).unwrap_or(u32::MAX);
        let next = self.stock.back().map_or(self.next, |last| self.next.max(last.from + gap));
        next.max(now + NEARLY) + gap.saturating_mul(more)
    }

    /// Drops what was kept for too long. What is good from now on must be used soon.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(leased) = self.stock.front().filter(|leased| leased.until <= now) {
            self.freed.push(leased.number);
            self.stock.pop_front();
        }
    }

    /// A slot is taken, in any mode.
    pub(super) fn take(&mut self, slot: u64, now: Instant) {
        self.taken = Some(now);
        let number = match self.stock.pop_front() {
            Some(leased) => leased.number,
            None => self.number(),
        };
        self.numbers.insert(slot, number);
    }

    /// There is something new of a slot.
    pub(super) fn change(&mut self, slot: u64) {
        // A ledger that comes back is told everything.
        if matches!(self.mode, Mode::Back(_) | Mode::Live) {
            self.changed.insert(slot);
        }
    }

    /// A slot was not used.
    pub(super) fn give_back(&mut self, slot: u64) {
        self.changed.remove(&slot);
        let number = self.numbers.remove(&slot);
        if !self.is_away() {
            self.freed.extend(number);
        }
    }

    /// Slots before this one are over.
    pub(super) fn forget(&mut self, first: u64) {
        if self.numbers.len() > 64 || first.is_multiple_of(64) {
            let changed = &self.changed;
            self.numbers.retain(|slot, _| *slot >= first || changed.contains(slot));
        }
    }

    /// What HubSpot said; `oldest` is from when the call was sent.
    pub(super) fn learn(&mut self, told: ObservedLimit, oldest: u64, shape: Shape) {
        let Some(remaining) = told.remaining else { return };
        let size = told.size.unwrap_or(shape.size);
        self.told = Some(LedgerObservation {
            size,
            window: told.window.unwrap_or(shape.window),
            used: size.saturating_sub(remaining),
            oldest,
        });
    }

    pub(super) fn close(&mut self, until: Instant) {
        self.close = Some(self.close.map_or(until, |known| known.max(until)));
    }

    /// What to tell and to ask now, if there is anything.
    pub(super) fn ask(
        &mut self,
        demand: Demand,
        shape: Shape,
        counted: Counted<'_>,
        now: Instant,
    ) -> Option<ExchangeRequest> {
        self.expire(now);
        let demand = match demand {
            Demand::Permits(demand) => demand,
            Demand::Leave if self.is_member => {
                (self.taken, self.wanted) = (None, None);
                self.freed.extend(self.stock.drain(..).map(|leased| leased.number));
                0
            }
            Demand::Leave => return None,
        };
        if demand > 0 {
            self.wanted = Some(now);
        }
        let is_active = self.is_active(demand, now);
        if let Mode::Away(again) = self.mode
            && now < again
        {
            return None;
        }
        let (want, spare) = if self.is_live() { self.needs(demand, now) } else { (0, 0) };
        let is_due = self.asked.is_none_or(|asked| now >= asked + BEAT);
        let leave = !is_active && self.is_member;
        let news = !self.changed.is_empty() || !self.freed.is_empty();
        let news = news || self.told.is_some() || self.close.is_some();
        // A replica that has nothing to do with the limit does not meddle.
        let joins = matches!(self.mode, Mode::Starting | Mode::Away(_)) && is_active;
        let beat = is_due && is_active;
        let asks = want + spare > 0 && !self.is_vain(want > 0, now);
        let has_work = asks || leave || beat || joins || (news && self.is_member);
        if !has_work {
            return None;
        }
        self.closing = self.close.take().filter(|until| *until > now);
        let slots = self.reports(counted);
        let first = self.next_number;
        self.next_number += (want + spare) as u64;
        Some(ExchangeRequest {
            replica: Arc::clone(&self.sharing.replica),
            size: shape.size,
            window: shape.window,
            paced: shape.paced,
            want,
            spare,
            first,
            ahead: self.stock.is_empty(),
            spread: shape.spread,
            hold: HOLD,
            spare_hold: SPARE_HOLD,
            reach: shape.reach,
            slots,
            observed: self.told.take(),
            close: self.closing.map(|until| until.saturating_duration_since(now)),
            detached: !self.is_live(),
            leave,
        })
    }

    /// The ledger's answer to what was asked at `since`.
    pub(super) fn granted(&mut self, ask: &ExchangeRequest, grant: &Grant, since: Instant) {
        self.asked = Some(since);
        self.is_member = !ask.leave;
        self.closing = None;
        let now = Instant::now();
        let skew = match self.skew.as_mut() {
            Some(skew) => {
                skew.learn(since, grant.now, now);
                *skew
            }
            None => *self.skew.insert(Skew::new(since, grant.now, now)),
        };
        self.mode = match self.mode {
            Mode::Starting | Mode::Away(_) => {
                // The ledger may be a new one: it is told everything with the next exchange.
                self.changed.extend(self.numbers.keys());
                self.asked = None;
                Mode::Back(now)
            }
            Mode::Back(since) if grant.warming || now < since + SETTLE => Mode::Back(since),
            Mode::Back(_) => Mode::Live,
            Mode::Live if grant.warming => Mode::Back(now),
            Mode::Live => Mode::Live,
        };
        // A ledger that was away may not have heard of all of them yet.
        let least = if self.is_live() { 1 } else { self.replicas };
        self.replicas = grant.replicas.max(least);
        self.oldest = grant.oldest;
        self.next = skew.ours(grant.next);
        let none = grant.permits.is_empty() && ask.want + ask.spare > 0;
        self.vain = none.then(|| {
            let is_wanted = ask.want > 0;
            let until = match (is_wanted, ask.ahead) {
                (true, true) => self.next.checked_sub(FAR).unwrap_or(now),
                (true, false) => self.next,
                (false, _) => now + BEAT,
            };
            Vain { is_wanted, ahead: ask.ahead, until: until.max(now + PAUSE) }
        });
        for (number, (index, from)) in (ask.first..).zip(grant.permits.iter().enumerate()) {
            let hold = if index < ask.want { ask.hold } else { ask.spare_hold };
            let from = skew.ours(*from);
            self.stock.push_back(Leased { number, from, until: from + hold });
        }
    }

    /// The ledger did not answer. What was told it may be lost: it hears of all slots when it is back,
    /// and that HubSpot wants no more calls.
    pub(super) fn lost(&mut self, now: Instant) {
        if let Some(until) = self.closing.take() {
            self.close(until);
        }
        self.mode = Mode::Away(now + RETRY);
        self.asked = Some(now);
        self.stock.clear();
        self.changed.clear();
        self.freed.clear();
        self.skew = None;
        self.is_member = false;
    }

    /// When there may be something to ask although nothing happens.
    pub(super) fn wake(&self, demand: usize, now: Instant) -> Option<Instant> {
        let is_active = self.is_active(demand, now);
        if !is_active && !self.is_member {
            return None;
        }
        let beat = match self.mode {
            Mode::Away(again) => again,
            Mode::Starting => now,
            Mode::Back(_) | Mode::Live => self.asked.map_or(now, |asked| asked + BEAT),
        };
        let stale = self.stock.front().map(|leased| leased.until);
        let again = self.vain.map(|vain| vain.until).filter(|until| *until > now);
        [stale, again, Some(beat)].into_iter().flatten().min()
    }

    /// Permits to ask for: for those who wait, and for those who may come.
    fn needs(&self, demand: usize, now: Instant) -> (usize, usize) {
        // With one of later at hand there are none for now.
        if self.stock.back().is_some_and(|last| last.from > now) {
            return (0, 0);
        }
        let want = demand.saturating_sub(self.stock.len()).min(BLOCK);
        let is_busy = self.taken.is_some_and(|taken| now < taken + BUSY);
        (want, usize::from(is_busy && demand == 0 && self.stock.is_empty()))
    }

    /// Whether there are calls at all. Those that waited in vain are some: who makes them would else
    /// leave before its first permit.
    fn is_active(&self, demand: usize, now: Instant) -> bool {
        demand > 0 || self.taken.max(self.wanted).is_some_and(|last| now < last + IDLE)
    }

    fn is_vain(&self, is_wanted: bool, now: Instant) -> bool {
        let same = |vain: Vain| vain.is_wanted == is_wanted && vain.ahead == self.stock.is_empty();
        self.vain.is_some_and(|vain| same(vain) && now < vain.until)
    }

    fn reports(&mut self, counted: Counted<'_>) -> Vec<SlotReport> {
        let Some(skew) = self.skew else { return Vec::new() };
        let mut reports = Vec::with_capacity(self.changed.len() + self.freed.len());
        for slot in std::mem::take(&mut self.changed) {
            if let (Some(number), Some(counted)) = (self.numbers.get(&slot), counted(slot)) {
                let counted = counted.map(|at| skew.theirs(at));
                reports.push(SlotReport { number: *number, counted: Some(counted) });
            }
        }
        let freed = std::mem::take(&mut self.freed);
        reports.extend(freed.into_iter().map(|number| SlotReport { number, counted: None }));
        reports
    }

    fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }
}
