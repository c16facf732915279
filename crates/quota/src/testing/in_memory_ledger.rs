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
const DEAD: LedgerInstant = 60_000_000;
const MAX_AHEAD: LedgerInstant = 2_000_000;
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
        if let Some(close) = request.close {
            self.closed = self.closed.max(now + micros(close));
        }
        let window = self.window;
        self.long.retain(|_, at| *at > now - window);
        self.short.retain(|_, at| *at > now - SECOND);
        self.waiting.retain(|other, until| *until > now && *other != replica);
        let permits = self.grant(request, now);
        let next = self.opens(request, now);
        if now - self.born >= WARM_UP && permits.len() < request.want {
            self.waiting.insert(replica, self.last.max(now) + RETRY);
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
            size: self.size,
            window: Duration::from_micros(window),
            closed: Duration::from_micros((self.closed - now).max(0).unsigned_abs()),
            replicas: u32::try_from(self.replicas.len()).expect("few"),
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
            self.last = at;
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
        let silent = self.replicas.values().filter(|seen| **seen <= now - SILENT).count() as u64;
        let without_ledger = silent.min(1) + self.detached.len() as u64;
        // Rounded up, as the script does.
        let reserved = (self.size * without_ledger).div_ceil((self.replicas.len() as u64).max(1));
        let (others, window) = self.others(now);
        let window = self.size.saturating_sub(others.div_ceil(window).max(reserved)).max(1);
        let window = usize::try_from(window).expect("small");
        (window, (window / 10).max(1))
    }

    fn is_quiet(&self, request: &ExchangeRequest, now: LedgerInstant) -> bool {
        let (window, second) = self.limits(now);
        self.long.len() * 2 < window && (!request.paced || self.short.len() * 2 < second)
    }

    fn opens(&self, request: &ExchangeRequest, now: LedgerInstant) -> LedgerInstant {
        let (window, second) = self.limits(now);
        let fits = |slots: &BTreeMap<_, LedgerInstant>, limit: usize, length| {
            let mut slots: Vec<LedgerInstant> = slots.values().copied().collect();
            slots.sort_unstable_by(|a, b| b.cmp(a));
            slots.get(limit - 1).map_or(0, |nth| nth + length)
        };
        let mut at = now.max(self.closed).max(fits(&self.long, window, self.window));
        let mut gap = 0;
        if request.paced {
            at = at.max(fits(&self.short, second, SECOND));
            gap = SECOND / i64::try_from(second).expect("small");
        }
        if request.spread || !self.waiting.is_empty() {
            at = at.max(self.last + gap);
        }
        at
    }
}

fn micros(duration: Duration) -> LedgerInstant {
    i64::try_from(duration.as_micros()).expect("short")
}
