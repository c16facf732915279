//! What the service has in hand, against what it takes: connections, calls, bytes. Also counts what
//! became of them; all of it is read at each scrape.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crate::grpc::methods::{MethodSnapshot, Methods};
use crate::leads::{Error, Reason};

/// How soon to try again where the service itself is full: it is a matter of moments.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

/// Connections past the most that are let in for a moment, to be told so and to ask for health.
const OVERFLOW: usize = 64;

/// Health probes at the same time past the first of each connection: nobody has to say who it is for one.
const PROBES: usize = 1_024;

/// Health probes at the same time on one connection.
const LINE_PROBES: usize = 16;

/// The most of each.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time.
    pub connections: usize,
    /// Calls at the same time, with writes whose callers have gone away.
    pub in_flight: usize,
    /// Bytes of requests and answers held at the same time.
    pub memory: usize,
}

/// The load of one server.
#[derive(Debug)]
pub struct Admission {
    pub(crate) connections: Limit,
    spare: Limit,
    pub(crate) in_flight: Limit,
    pub(crate) memory: Limit,
    probes: Limit,
    pub(crate) methods: Methods,
    pub(crate) messages_too_large: AtomicU64,
    pub(crate) metadata_too_large: AtomicU64,
    opened: AtomicU64,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// One thing of which there is only so much.
#[derive(Debug)]
pub(crate) struct Limit {
    name: &'static str,
    most: usize,
    used: AtomicUsize,
    refused: AtomicU64,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The caller closed it.
    Caller,
    /// It was as old as connections get.
    Age,
    /// The service stops.
    Drain,
    /// There were too many.
    Crowded,
    /// Its caller's certificate has ended, or its CA is no longer trusted.
    Certificate,
    /// What came first was no TLS or no HTTP/2, or did not come.
    Handshake,
    /// It broke, went silent, or broke the protocol.
    Error,
    /// Its calls did not end in the time they had left.
    Cut,
}

/// A connection's part of the load; given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    load: Arc<Admission>,
    /// Whether it is one too many.
    pub(crate) over_limit: bool,
}

/// A call's part of the load. It is given back when nothing works for the call any more, whether or
/// not its caller is still there.
#[derive(Debug)]
pub(crate) struct CallGuard {
    load: Arc<Admission>,
    /// Bytes of the request.
    request: AtomicUsize,
    /// Bytes of the answer.
    answer: AtomicUsize,
    part: SlotKind,
}

/// As what a call counts.
#[derive(Debug)]
enum SlotKind {
    /// A call in flight.
    Call,
    /// A health probe of this connection.
    Probe { line: Arc<AtomicUsize>, shared: bool },
    /// A call that is refused.
    Nothing,
}

/// The load at one moment.
#[derive(Debug, Clone)]
pub struct AdmissionSnapshot {
    /// What there is only so much of.
    pub limits: Vec<LimitSnapshot>,
    /// Calls refused by each bound, by the bound's name.
    pub refused: Vec<(&'static str, u64)>,
    /// Every method that can be called.
    pub methods: Vec<MethodSnapshot>,
    /// Connections accepted.
    pub opened: u64,
    /// Connections ended, by why.
    pub closed: Vec<(&'static str, u64)>,
}

/// A limit at one moment.
#[derive(Debug, Clone, Copy)]
pub struct LimitSnapshot {
    /// Its name.
    pub name: &'static str,
    /// In use.
    pub used: usize,
    /// The most.
    pub most: usize,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(most: Limits, methods: Methods) -> Self {
        Self {
            connections: Limit::new("connections", most.connections),
            spare: Limit::new("spare", OVERFLOW),
            in_flight: Limit::new("in_flight", most.in_flight),
            memory: Limit::new("memory", most.memory),
            probes: Limit::new("probes", PROBES),
            methods,
            messages_too_large: AtomicU64::new(0),
            metadata_too_large: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            closed: Default::default(),
        }
    }

    /// The load now.
    pub fn view(&self) -> AdmissionSnapshot {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let limits = [&self.connections, &self.in_flight, &self.memory, &self.probes];
        let mut refused: Vec<_> =
            limits.iter().map(|limit| (limit.name, count(&limit.refused))).collect();
        refused.push(("message_size", count(&self.messages_too_large)));
        refused.push(("header_size", count(&self.metadata_too_large)));
        let limit = |limit: &&Limit| LimitSnapshot {
            name: limit.name,
            used: limit.used.load(Ordering::Relaxed),
            most: limit.most,
        };
        let closed =
            CloseReason::ALL.map(|ending| (ending.as_str(), count(&self.closed[ending as usize])));
        AdmissionSnapshot {
            limits: limits.iter().map(limit).collect(),
            refused,
            methods: self.methods.view(),
            opened: count(&self.opened),
            closed: closed.into(),
        }
    }

    pub(crate) fn closed(&self, ending: CloseReason) {
        self.closed[ending as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A place for one more connection; none if even the spare ones are taken.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<ConnectionGuard> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let over_limit = !self.connections.take(1);
        if over_limit && !self.spare.take(1) {
            self.closed(CloseReason::Crowded);
            return None;
        }
        Some(ConnectionGuard { load: Arc::clone(self), over_limit })
    }

    /// A place among the calls in flight.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<CallGuard, Error> {
        if !self.in_flight.take(1) {
            return Err(self.in_flight.full("calls"));
        }
        Ok(self.slot(SlotKind::Call))
    }

    /// A place for a health probe, given how many its connection has. The first of each connection
    /// always gets one, so that nobody can keep an orchestrator from asking.
    pub(crate) fn admit_probe(
        self: &Arc<Self>,
        line: &Arc<AtomicUsize>,
    ) -> Result<CallGuard, Error> {
        let before = line.fetch_add(1, Ordering::Relaxed);
        let shared = before > 0;
        if before >= LINE_PROBES || (shared && !self.probes.take(1)) {
            line.fetch_sub(1, Ordering::Relaxed);
            if before >= LINE_PROBES {
                self.probes.refused.fetch_add(1, Ordering::Relaxed);
            }
            return Err(self.probes.full("health probes"));
        }
        Ok(self.slot(SlotKind::Probe { line: Arc::clone(line), shared }))
    }

    /// A place for a call that is refused: it takes nothing.
    pub(crate) fn refused(self: &Arc<Self>) -> CallGuard {
        self.slot(SlotKind::Nothing)
    }

    fn slot(self: &Arc<Self>, part: SlotKind) -> CallGuard {
        let (request, answer) = Default::default();
        CallGuard { load: Arc::clone(self), request, answer, part }
    }
}

// === impl Limit ===

impl Limit {
    fn new(name: &'static str, most: usize) -> Self {
        Self { name, most, used: AtomicUsize::new(0), refused: AtomicU64::new(0) }
    }

    /// Takes some, or counts a refusal.
    pub(crate) fn take(&self, amount: usize) -> bool {
        let before = self.used.fetch_add(amount, Ordering::Relaxed);
        if before.saturating_add(amount) <= self.most {
            return true;
        }
        self.used.fetch_sub(amount, Ordering::Relaxed);
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Takes some even if there is no more.
    fn force(&self, amount: usize) {
        self.used.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, amount: usize) {
        self.used.fetch_sub(amount, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn full(&self, what: &str) -> Error {
        let text = format!("this replica has as many {what} in hand as it takes ({})", self.most);
        Error::new(Reason::Overloaded, text).with_bucket(self.name).with_retry_after(RETRY_AFTER)
    }
}

// === impl CloseReason ===

impl CloseReason {
    const ALL: [Self; 8] = [
        Self::Caller,
        Self::Age,
        Self::Drain,
        Self::Crowded,
        Self::Certificate,
        Self::Handshake,
        Self::Error,
        Self::Cut,
    ];

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Crowded => "crowded",
            Self::Certificate => "certificate",
            Self::Handshake => "handshake",
            Self::Error => "error",
            Self::Cut => "cut",
        }
    }
}

// === impl ConnectionGuard ===

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let Self { load, over_limit } = self;
        let limit = if *over_limit { &load.spare } else { &load.connections };
        limit.give_back(1);
    }
}

// === impl CallGuard ===

impl CallGuard {
    pub(crate) fn load(&self) -> &Admission {
        &self.load
    }

    /// Whether it is a health probe's: it is answered whatever else is full.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self.part, SlotKind::Probe { .. })
    }

    /// Holds this many bytes of the request from now on.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Error> {
        // One task reads the request: nobody else changes the number in between.
        let before = self.request.load(Ordering::Relaxed);
        let memory = &self.load.memory;
        if bytes > before {
            if !memory.take(bytes - before) {
                return Err(memory.full("bytes of requests and answers"));
            }
        } else {
            memory.give_back(before - bytes);
        }
        self.request.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Holds at least this many bytes of the request from now on.
    pub(crate) fn reserve_at_least(&self, bytes: usize) -> Result<(), Error> {
        self.hold(bytes.max(self.request.load(Ordering::Relaxed)))
    }

    /// Holds this many bytes of the answer, which is there already: it keeps others out.
    pub(crate) fn reserve_response(&self, bytes: usize) {
        let before = self.answer.swap(bytes, Ordering::Relaxed);
        self.load.memory.force(bytes);
        self.load.memory.give_back(before);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let Self { load, request, answer, part } = self;
        let held = request.get_mut().saturating_add(*answer.get_mut());
        if held > 0 {
            load.memory.give_back(held);
        }
        match part {
            SlotKind::Call => load.in_flight.give_back(1),
            SlotKind::Probe { line, shared } => {
                line.fetch_sub(1, Ordering::Relaxed);
                if *shared {
                    load.probes.give_back(1);
                }
            }
            SlotKind::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(in_flight: usize, memory: usize) -> Arc<Admission> {
        let most = Limits { connections: 1, in_flight, memory };
        Arc::new(Admission::new(most, Methods::known()))
    }

    #[test]
    fn calls_past_the_most_are_refused_until_one_is_over_and_probes_never() {
        let load = load(2, 1);
        let slots = [load.admit().unwrap(), load.admit().unwrap()];
        let refused = load.admit().unwrap_err();
        assert_eq!((refused.reason(), refused.bucket()), (Reason::Overloaded, Some("in_flight")));
        assert!(refused.retry_after().is_some());
        let probe = load.admit_probe(&Arc::default()).unwrap();
        drop(slots);
        drop(probe);
        assert_eq!(load.in_flight.used(), 0);
        let view = load.view();
        assert!(view.refused.contains(&("in_flight", 1)), "{view:?}");
    }

    #[test]
    fn probes_have_a_most_on_a_connection_and_in_all_and_the_first_of_each_connection_is_taken() {
        let load = load(1, 1);
        let line = Arc::default();
        let mut held: Vec<_> = std::iter::from_fn(|| load.admit_probe(&line).ok()).collect();
        assert_eq!(held.len(), LINE_PROBES);
        let refused = load.admit_probe(&line).unwrap_err();
        assert_eq!((refused.reason(), refused.bucket()), (Reason::Overloaded, Some("probes")));
        while load.probes.used() < PROBES {
            let line = Arc::default();
            held.extend(std::iter::from_fn(|| load.admit_probe(&line).ok()));
        }
        let late = Arc::default();
        let first = load.admit_probe(&late).unwrap();
        assert_eq!(load.admit_probe(&late).unwrap_err().bucket(), Some("probes"));
        drop((held, first));
        assert_eq!(load.probes.used(), 0);
        assert!(load.admit_probe(&line).is_ok());
    }

    #[test]
    fn connections_past_the_most_are_crowded_and_past_the_spare_ones_turned_away() {
        let load = load(1, 1);
        let first = load.connect().unwrap();
        assert!(!first.over_limit);
        let spare: Vec<_> = std::iter::from_fn(|| load.connect()).collect();
        assert_eq!(spare.len(), OVERFLOW);
        assert!(spare.iter().all(|place| place.over_limit));
        drop(first);
        assert!(!load.connect().unwrap().over_limit);
    }

    #[test]
    fn bytes_are_counted_up_and_down_and_given_back_with_the_call() {
        let load = load(10, 100);
        let (one, two) = (load.admit().unwrap(), load.admit().unwrap());
        one.hold(60).unwrap();
        assert_eq!(two.hold(41).unwrap_err().bucket(), Some("memory"));
        two.hold(40).unwrap();
        one.reserve_at_least(10).unwrap();
        assert_eq!(load.memory.used(), 100);
        one.hold(10).unwrap();
        // An answer is there already: it can only keep requests out.
        one.reserve_response(500);
        assert_eq!(load.memory.used(), 550);
        assert!(two.hold(41).is_err());
        one.reserve_response(0);
        two.hold(41).unwrap();
        drop((one, two));
        assert_eq!(load.memory.used(), 0);
    }
}
