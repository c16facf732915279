//! A ledger in memory, by the same rules as the script in Redis, with paused time, a clock of its own
//! and a way that takes its time; it can go away, and lose everything.

use std::collections::BTreeMap;

use super::*;
use crate::{ExchangeRequest, Grant, Ledger, LedgerInstant, LimitKey, TENTHS, Unavailable};

const SECOND: LedgerInstant = 1_000_000;
const WARM: LedgerInstant = 2_500_000;
const SILENT: LedgerInstant = 900_000;
const GONE: LedgerInstant = 60_000_000;
const FAR: LedgerInstant = 2_000_000;
const AGAIN: LedgerInstant = 300_000;

/// The store.
#[derive(Debug)]
pub(super) struct Book {
    start: Instant,
    way: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_away: bool,
    exchanges: u64,
    limits: HashMap<LimitKey, Entry>,
}

/// One limit. Slots are by name, with when they are counted at the latest.
#[derive(Debug)]
pub(super) struct Entry {
    size: u64,
    window: LedgerInstant,
    born: LedgerInstant,
    closed: LedgerInstant,
    foreign: u64,
    told: LedgerInstant,
    seq: u64,
    last: LedgerInstant,
    long: BTreeMap<(Arc<str>, u64), LedgerInstant>,
    short: BTreeMap<(Arc<str>, u64), LedgerInstant>,
    replicas: BTreeMap<Arc<str>, LedgerInstant>,
    apart: BTreeMap<Arc<str>, LedgerInstant>,
    hungry: BTreeMap<Arc<str>, LedgerInstant>,
}

// === impl Book ===

impl Book {
    pub(super) fn new(way: Duration) -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), way, state: Mutex::default() })
    }

    pub(super) fn away(&self, is_away: bool) {
        self.state.lock().is_away = is_away;
    }

    pub(super) fn is_away(&self) -> bool {
        self.state.lock().is_away
    }

    /// Loses everything, as a store that was started again.
    pub(super) fn lose(&self) {
        self.state.lock().limits.clear();
    }

    pub(super) fn exchanges(&self) -> u64 {
        self.state.lock().exchanges
    }

    /// Far from that of the replicas.
    fn now(&self) -> LedgerInstant {
        1_700_000_000_000_000 + micros(self.start.elapsed())
    }
}

#[async_trait::async_trait]
impl Ledger for Book {
    async fn exchange(
        &self,
        limit: &LimitKey,
        ask: &ExchangeRequest,
    ) -> Result<Grant, Unavailable> {
        sleep(self.way).await;
        let grant = {
            let mut state = self.state.lock();
            if state.is_away {
                return Err(Unavailable("away".to_owned()));
            }
            state.exchanges += 1;
            let now = self.now();
            let entry = state.limits.entry(limit.clone()).or_insert_with(|| Entry::new(ask, now));
            entry.exchange(ask, now)
        };
        sleep(self.way).await;
        Ok(grant)
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(ask: &ExchangeRequest, now: LedgerInstant) -> Self {
        Self {
            size: ask.size,
            window: micros(ask.window),
            born: now,
            closed: 0,
            foreign: 0,
            told: 0,
            seq: 0,
            last: 0,
            long: BTreeMap::new(),
            short: BTreeMap::new(),
            replicas: BTreeMap::new(),
            apart: BTreeMap::new(),
            hungry: BTreeMap::new(),
        }
    }

    pub(super) fn exchange(&mut self, ask: &ExchangeRequest, now: LedgerInstant) -> Grant {
        let replica = Arc::clone(&ask.replica);
        if ask.leave {
            self.replicas.remove(&replica);
        } else {
            self.replicas.insert(Arc::clone(&replica), now);
        }
        self.replicas.retain(|_, seen| *seen > now - GONE);
        self.apart.remove(&replica);
        if ask.detached && !ask.leave {
            self.apart.insert(Arc::clone(&replica), now);
        }
        self.apart.retain(|_, seen| *seen > now - SILENT);
        for report in &ask.slots {
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
        if let Some(told) = ask.observed {
            (self.size, self.window) = (told.size, micros(told.window));
            self.foreign = told.used.saturating_sub(self.seq.saturating_sub(told.oldest));
            self.told = now;
        }
        if let Some(close) = ask.close {
            self.closed = self.closed.max(now + micros(close));
        }
        let window = self.window;
        self.long.retain(|_, at| *at > now - window);
        self.short.retain(|_, at| *at > now - SECOND);
        self.hungry.retain(|other, until| *until > now && *other != replica);
        let permits = self.grant(ask, now);
        let next = self.opens(ask, now);
        if now - self.born >= WARM && permits.len() < ask.want {
            self.hungry.insert(replica, self.last.max(now) + AGAIN);
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
            warming: now - self.born < WARM,
        }
    }

    fn grant(&mut self, ask: &ExchangeRequest, now: LedgerInstant) -> Vec<LedgerInstant> {
        let mut granted = Vec::new();
        if now - self.born < WARM {
            return granted;
        }
        for (index, number) in (0..ask.want + ask.spare).zip(ask.first..) {
            let at = self.opens(ask, now);
            let is_spare = index >= ask.want;
            if is_spare && (at > now || !self.is_quiet(ask, now)) {
                break;
            }
            if at > now && (!ask.ahead || !granted.is_empty() || at > now + FAR) {
                break;
            }
            let hold = if is_spare { ask.spare_hold } else { ask.hold };
            let name = (Arc::clone(&ask.replica), number);
            self.long.insert(name.clone(), at + micros(hold + ask.reach[0]));
            self.short.insert(name, at + micros(hold + ask.reach[1]));
            self.seq += 1;
            self.last = at;
            granted.push(at);
            if at > now {
                break;
            }
        }
        granted
    }

    /// Calls of others in the window, and the window's length that they are a part of.
    fn others(&self, now: LedgerInstant) -> (u64, u64) {
        let left = (self.window - (now - self.told)).max(0).unsigned_abs();
        (self.foreign * left, self.window.unsigned_abs())
    }

    fn limits(&self, now: LedgerInstant) -> (usize, usize) {
        let silent = self.replicas.values().filter(|seen| **seen <= now - SILENT).count() as u64;
        let on_their_own = silent.min(1) + self.apart.len() as u64;
        // Rounded up: to be on the safe side, as the script is.
        let kept_back = (self.size * on_their_own).div_ceil((self.replicas.len() as u64).max(1));
        let (others, window) = self.others(now);
        let window = self.size.saturating_sub(others.div_ceil(window).max(kept_back)).max(1);
        let window = usize::try_from(window).expect("small");
        (window, (window / 10).max(1))
    }

    fn is_quiet(&self, ask: &ExchangeRequest, now: LedgerInstant) -> bool {
        let (window, second) = self.limits(now);
        self.long.len() * 2 < window && (!ask.paced || self.short.len() * 2 < second)
    }

    fn opens(&self, ask: &ExchangeRequest, now: LedgerInstant) -> LedgerInstant {
        let (window, second) = self.limits(now);
        let fits = |slots: &BTreeMap<_, LedgerInstant>, limit: usize, length| {
            let mut slots: Vec<LedgerInstant> = slots.values().copied().collect();
            slots.sort_unstable_by(|a, b| b.cmp(a));
            slots.get(limit - 1).map_or(0, |nth| nth + length)
        };
        let mut at = now.max(self.closed).max(fits(&self.long, window, self.window));
        let mut gap = 0;
        if ask.paced {
            at = at.max(fits(&self.short, second, SECOND));
            gap = SECOND / i64::try_from(second).expect("small");
        }
        if ask.spread || !self.hungry.is_empty() {
            at = at.max(self.last + gap);
        }
        at
    }
}

fn micros(duration: Duration) -> LedgerInstant {
    i64::try_from(duration.as_micros()).expect("short")
}
