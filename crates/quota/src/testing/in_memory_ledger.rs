//! A ledger in memory by the same rules as the script in Redis, with a separate clock, in simulated
//! time. A test against a real Redis compares both.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::ledger::{ExchangeRequest, Grant, Ledger, LedgerInstant, LimitKey, TENTHS, Unavailable};

/// Epoch of the ledger's clock, far from that of any replica.
const EPOCH: LedgerInstant = 1_700_000_000_000_000;

const SECOND: LedgerInstant = 1_000_000;
const WARM_UP: LedgerInstant = 2_500_000;
const SILENT: LedgerInstant = 900_000;
const PART_OF_LOST: f64 = 28.0;
const PART_OF_SEEN: f64 = 20.0;
const SMALL: u64 = 100;
const DEAD: LedgerInstant = 60_000_000;
const MAX_AHEAD: LedgerInstant = 2_000_000;
const CATCH_UP: LedgerInstant = 25_000;
const RETRY: LedgerInstant = 300_000;

/// A ledger in memory that can become unavailable and lose its data.
#[derive(Debug)]
pub struct InMemoryLedger {
    start: Instant,
    /// Time from the request to the ledger, and from there to the response.
    latency: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_unavailable: bool,
    exchanges: u64,
    limits: HashMap<LimitKey, LedgerEntry>,
}

/// One limit. Slots are by name, with the latest time at which HubSpot counts their call.
#[derive(Debug)]
pub(crate) struct LedgerEntry {
    size: u64,
    window: LedgerInstant,
    born: LedgerInstant,
    closed: LedgerInstant,
    external: u64,
    learned: [Option<u64>; 2],
    observed_at: LedgerInstant,
    seq: u64,
    last: LedgerInstant,
    long: BTreeMap<(Arc<str>, u64), LedgerInstant>,
    short: BTreeMap<(Arc<str>, u64), LedgerInstant>,
    replicas: BTreeMap<Arc<str>, LedgerInstant>,
    detached: BTreeMap<Arc<str>, LedgerInstant>,
    waiting: BTreeMap<Arc<str>, LedgerInstant>,
}

// === impl InMemoryLedger ===

impl InMemoryLedger {
    /// Creates an empty ledger that is reached in this time, and responds in the same.
    pub fn new(latency: Duration) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), latency, state: Mutex::default() })
    }

    /// Makes the ledger unavailable, or available again.
    pub fn set_unavailable(&self, is_unavailable: bool) {
        self.state.lock().is_unavailable = is_unavailable;
    }

    /// True if the ledger is unavailable.
    pub fn is_unavailable(&self) -> bool {
        self.state.lock().is_unavailable
    }

    /// Loses all data, as a store that was restarted without persistence.
    pub fn lose_data(&self) {
        self.state.lock().limits.clear();
    }

    /// Number of exchanges with a response.
    pub fn exchanges(&self) -> u64 {
        self.state.lock().exchanges
    }

    fn now(&self) -> LedgerInstant {
        EPOCH + micros(self.start.elapsed())
    }
}

#[async_trait::async_trait]
impl Ledger for InMemoryLedger {
    async fn exchange(
        &self,
        limit: &LimitKey,
        request: &ExchangeRequest,
    ) -> Result<Grant, Unavailable> {
        sleep(self.latency).await;
        let grant = {
            let mut state = self.state.lock();
            if state.is_unavailable {
                return Err(Unavailable("set unavailable".to_owned()));
            }
            state.exchanges += 1;
            let now = self.now();
            let entry =
                state.limits.entry(limit.clone()).or_insert_with(|| LedgerEntry::new(request, now));
            entry.exchange(request, now)
        };
        sleep(self.latency).await;
        Ok(grant)
    }
}

// === impl LedgerEntry ===

impl LedgerEntry {
    pub(crate) fn new(request: &ExchangeRequest, now: LedgerInstant) -> Self {
        Self {
            size: request.size,
            window: micros(request.window),
            born: now,
            closed: 0,
            external: 0,
            learned: [None; 2],
            observed_at: 0,
            seq: 0,
            last: 0,
            long: BTreeMap::new(),
            short: BTreeMap::new(),
            replicas: BTreeMap::new(),
            detached: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    pub(crate) fn exchange(&mut self, request: &ExchangeRequest, now: LedgerInstant) -> Grant {
        let replica = Arc::clone(&request.replica);
        if request.leave {
            self.replicas.remove(&replica);
        } else {
            self.replicas.insert(Arc::clone(&replica), now);
        }
        self.replicas.retain(|_, seen| *seen > now - DEAD);
        self.detached.remove(&replica);
        if request.detached && !request.leave {
            self.detached.insert(Arc::clone(&replica), now);
        }
        self.detached.retain(|_, seen| *seen > now - SILENT);
        for report in &request.slots {
            let name = (Arc::clone(&replica), report.number);
            match report.counted {
                Some([long, short]) => {
                    self.seq += u64::from(self.long.insert(name.clone(), long).is_none());
                    self.short.insert(name, short);
                }
                None => {
                    self.long.remove(&name);
                    self.short.remove(&name);
                }
            }
        }
        if let Some(observed) = request.observed {
            (self.size, self.window) = (observed.size, micros(observed.window));
            self.external = observed.used.saturating_sub(self.seq.saturating_sub(observed.oldest));
            self.observed_at = now;
        }
        self.learned = request.learned.unwrap_or(self.learned);
        if let Some(close) = request.close {
            self.closed = self.closed.max(now + micros(close));
        }
        let window = self.window;
        self.long.retain(|_, at| *at > now - window);
        self.short.retain(|_, at| *at > now - SECOND);
        self.waiting.retain(|_, until| *until > now);
        if request.want > 0 || request.leave {
            self.waiting.remove(&replica);
        }
        let permits = self.grant(request, now);
        let next = self.opens(request, now);
        let last = permits.last().copied().unwrap_or(now);
        if now - self.born >= WARM_UP && (permits.len() < request.want || last > now) {
            self.waiting.insert(replica, next.max(last) + RETRY);
        }
        let mut leaving = [0; TENTHS];
        for at in self.long.values() {
            let part = (at - (now - self.window)).max(0) * 10 / self.window;
            leaving[usize::try_from(part).expect("small").min(TENTHS - 1)] += 1;
        }
        let (others, window) = self.others(now);
        Grant {
            now,
            permits,
            leaving,
            next,
            used: self.long.len() as u64 + others / window,
            used_in_second: if request.paced { self.short.len() as u64 } else { 0 },
            learned: self.learned,
            size: self.size,
            window: Duration::from_micros(window),
            closed: Duration::from_micros((self.closed - now).max(0).unsigned_abs()),
            replicas: u32::try_from(self.replicas.len()).expect("few"),
            live_others: self.live_others(&request.replica, now),
            oldest: self.seq.saturating_sub(self.long.len() as u64),
            warming: now - self.born < WARM_UP,
        }
    }

    fn grant(&mut self, request: &ExchangeRequest, now: LedgerInstant) -> Vec<LedgerInstant> {
        let mut granted = Vec::new();
        if now - self.born < WARM_UP {
            return granted;
        }
        for (index, number) in (0..request.want + request.spare).zip(request.first..) {
            let at = self.opens(request, now);
            let is_spare = index >= request.want;
            if is_spare && (at > now || !self.is_quiet(request, now)) {
                break;
            }
            if at > now && (!request.ahead || !granted.is_empty() || at > now + MAX_AHEAD) {
                break;
            }
            let hold = if is_spare { request.spare_hold } else { request.hold };
            let name = (Arc::clone(&request.replica), number);
            self.long.insert(name.clone(), at + micros(hold + request.transit[0]));
            self.short.insert(name, at + micros(hold + request.transit[1]));
            self.seq += 1;
            let gap = self.gap(request, now);
            let planned = self.last + gap;
            let is_late = planned <= at - CATCH_UP.max(gap / 2);
            self.last = if is_late { at } else { planned.min(at) };
            granted.push(at);
            if at > now {
                break;
            }
        }
        granted
    }

    /// Calls of other clients, times the length of the window, and that length.
    fn others(&self, now: LedgerInstant) -> (u64, u64) {
        let left = (self.window - (now - self.observed_at)).max(0).unsigned_abs();
        (self.external * left, self.window.unsigned_abs())
    }

    fn limits(&self, now: LedgerInstant) -> (usize, usize) {
        let [window, known_rest] = self.rest(now);
        let second = self.tenth(known_rest).min(self.learned[1].unwrap_or(u64::MAX));
        [window, second].map(|limit| usize::try_from(limit).expect("small")).into()
    }

    /// Permits left to the replicas, with calls that lost replicas may make, and without them.
    fn rest(&self, now: LedgerInstant) -> [u64; 2] {
        let allowed = self.size.min(self.learned[0].unwrap_or(u64::MAX));
        self.reserved(now).map(|reserved| allowed.saturating_sub(reserved).max(1))
    }

    fn is_small(&self, known_rest: u64) -> bool {
        self.learned[0].is_some() && known_rest < SMALL
    }

    fn tenth(&self, known_rest: u64) -> u64 {
        let tenth =
            if self.is_small(known_rest) { known_rest.div_ceil(10) } else { known_rest / 10 };
        tenth.max(1)
    }

    fn is_paced(&self, request: &ExchangeRequest, now: LedgerInstant) -> bool {
        let [_, known_rest] = self.rest(now);
        let has_own_second = self.learned[1].is_some_and(|cap| cap < self.tenth(known_rest));
        request.paced && (!self.is_small(known_rest) || has_own_second)
    }

    /// Calls of other clients and of detached replicas, with those that lost replicas may make, and without
    /// them. Rounded up, as the script does.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as the script computes"
    )]
    fn reserved(&self, now: LedgerInstant) -> [u64; 2] {
        let lost_since = now - SILENT - self.window;
        let is_lost = |seen: &LedgerInstant| *seen <= now - SILENT;
        let sharing: Vec<_> = self.replicas.values().filter(|seen| **seen > lost_since).collect();
        let lost = sharing.iter().filter(|seen| is_lost(seen)).count() as f64;
        let parts = sharing.len().max(1) as f64;
        let allowed = self.learned[0].map_or(self.size, |cap| cap.min(self.size)) as f64;
        let (others, window) = self.others(now);
        let others = others as f64 / window as f64;
        let newest = self.replicas.values().filter(|seen| is_lost(seen)).max();
        let unknown = newest.map_or(0.0, |seen| {
            let age = (now - SILENT - seen) as f64 / self.window as f64;
            let unknown = allowed * (lost / parts).min(1.0 / PART_OF_LOST) * (1.0 - age).max(0.0);
            if others >= 1.0 { allowed / PART_OF_SEEN } else { unknown }
        });
        let detached = allowed * self.detached.len() as f64 / parts;
        [others + unknown, others].map(|reserved| reserved.max(detached).ceil() as u64)
    }

    /// Other replicas that take permits from the ledger.
    fn live_others(&self, own: &Arc<str>, now: LedgerInstant) -> u32 {
        let is_live = |(replica, seen): &(&Arc<str>, &LedgerInstant)| {
            *replica != own && **seen > now - SILENT && !self.detached.contains_key(*replica)
        };
        u32::try_from(self.replicas.iter().filter(is_live).count()).expect("few")
    }

    fn is_quiet(&self, request: &ExchangeRequest, now: LedgerInstant) -> bool {
        let (window, second) = self.limits(now);
        let is_paced = self.is_paced(request, now);
        self.long.len() * 2 < window && (!is_paced || self.short.len() * 2 < second)
    }

    fn opens(&self, request: &ExchangeRequest, now: LedgerInstant) -> LedgerInstant {
        let (window, second) = self.limits(now);
        let fits = |slots: &BTreeMap<_, LedgerInstant>, limit: usize, length| {
            let mut slots: Vec<LedgerInstant> = slots.values().copied().collect();
            slots.sort_unstable_by(|a, b| b.cmp(a));
            slots.get(limit - 1).map_or(0, |nth| nth + length)
        };
        let mut at = now.max(self.closed).max(fits(&self.long, window, self.window));
        if self.is_paced(request, now) {
            at = at.max(fits(&self.short, second, SECOND));
        }
        let others_wait = self.waiting.keys().any(|other| *other != request.replica);
        let any_lost = self.replicas.values().any(|seen| *seen <= now - SILENT);
        if request.spread || others_wait || any_lost {
            at = at.max(self.last + self.gap(request, now));
        }
        at
    }

    fn gap(&self, request: &ExchangeRequest, now: LedgerInstant) -> LedgerInstant {
        let (in_window, in_second) = self.limits(now);
        if self.is_paced(request, now) {
            SECOND / i64::try_from(in_second).expect("small")
        } else {
            self.window / i64::try_from(in_window).expect("small")
        }
    }
}

fn micros(duration: Duration) -> LedgerInstant {
    i64::try_from(duration.as_micros()).expect("short")
}
