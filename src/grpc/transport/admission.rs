//! Admission control: accepts or rejects connections, calls and bytes before they cost anything.
//!
//! Every acceptance is a guard that returns its slot or bytes when it drops. A call's guard lives as
//! long as any work for the call: a write goes on after its client has disconnected, and its slot is
//! in use until then.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    conn_info::ConnInfo,
    connection_stats::{CloseReason, ConnectionStats},
    limits::{ByteBudget, LimitSnapshot, SlotLimit},
};
use crate::leads::{Error, Reason};

/// Connections beyond the limit that are accepted briefly, so that their calls get an error with a
/// reason, and health probes an answer.
const OVERFLOW: usize = 64;

/// Maximum concurrent health probes, not counting the first of each connection. Probes are
/// unauthenticated, so they have a limit of their own.
const PROBES: usize = 1_024;

/// Maximum concurrent health probes on one connection.
const PROBES_PER_CONNECTION: usize = 16;

/// What one replica accepts at the same time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Calls, including writes whose clients have disconnected.
    pub in_flight: usize,
    /// Bytes of requests and responses.
    pub memory: usize,
    /// Bytes of one call's metadata.
    pub metadata: usize,
}

/// Admission control of one server.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: SlotLimit,
    overflow: SlotLimit,
    in_flight: SlotLimit,
    probes: SlotLimit,
    memory: ByteBudget,
    max_metadata: usize,
    metadata_too_large: AtomicU64,
    messages_too_large: AtomicU64,
    connection_stats: ConnectionStats,
}

/// The slot of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    /// True if it is beyond the limit.
    pub(crate) over_limit: bool,
    _slot: OwnedSemaphorePermit,
}

/// The slot of a call and the bytes charged to it.
#[derive(Debug)]
pub(crate) struct CallGuard {
    admission: Arc<Admission>,
    kind: SlotKind,
    request_bytes: AtomicUsize,
    response_bytes: AtomicUsize,
}

/// What a call occupies. The permits are held for their drop.
#[derive(Debug)]
enum SlotKind {
    /// A slot among the calls in flight.
    Call { _slot: OwnedSemaphorePermit },
    /// A slot of its connection's probes, and a shared one unless it is the only one there.
    Probe { _connection: OwnedSemaphorePermit, _shared: Option<OwnedSemaphorePermit> },
    /// Nothing: the call is rejected.
    Rejected,
}

/// Admission control at one moment.
#[derive(Debug, Clone)]
pub struct AdmissionSnapshot {
    /// The limits with their use.
    pub limits: Vec<LimitSnapshot>,
    /// Rejected calls by the limit that they exceeded.
    pub rejected: Vec<(&'static str, u64)>,
    /// Accepted connections.
    pub connections_opened: u64,
    /// Closed connections by reason.
    pub connections_closed: Vec<(&'static str, u64)>,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(limits: Limits) -> Self {
        let Limits { connections, in_flight, memory, metadata } = limits;
        Self {
            connections: SlotLimit::new("connections", connections),
            overflow: SlotLimit::new("overflow", OVERFLOW),
            in_flight: SlotLimit::new("in_flight", in_flight),
            probes: SlotLimit::new("probes", PROBES),
            memory: ByteBudget::new("memory", memory),
            max_metadata: metadata,
            metadata_too_large: AtomicU64::new(0),
            messages_too_large: AtomicU64::new(0),
            connection_stats: ConnectionStats::default(),
        }
    }

    /// Admission control now.
    pub(crate) fn snapshot(&self) -> AdmissionSnapshot {
        let limits = vec![
            self.connections.snapshot(),
            self.in_flight.snapshot(),
            self.memory.snapshot(),
            self.probes.snapshot(),
        ];
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut rejected: Vec<_> =
            limits.iter().map(|limit| (limit.name, limit.rejected)).collect();
        rejected.push(("message_size", count(&self.messages_too_large)));
        rejected.push(("header_size", count(&self.metadata_too_large)));
        AdmissionSnapshot {
            limits,
            rejected,
            connections_opened: self.connection_stats.opened(),
            connections_closed: self.connection_stats.closed(),
        }
    }

    /// Number of connections within the limit.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.used()
    }

    /// Maximum size of one call's metadata, in bytes.
    pub(crate) fn max_metadata(&self) -> usize {
        self.max_metadata
    }

    /// Slots for the health probes of one connection.
    pub(crate) fn probe_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PROBES_PER_CONNECTION))
    }

    /// Admits a connection; `None` if even the overflow slots are in use.
    pub(crate) fn admit_connection(&self) -> Option<ConnectionGuard> {
        self.connection_stats.on_open();
        if let Some(slot) = self.connections.try_acquire() {
            return Some(ConnectionGuard { over_limit: false, _slot: slot });
        }
        let Some(slot) = self.overflow.try_acquire() else {
            self.on_connection_closed(CloseReason::OverLimit);
            return None;
        };
        Some(ConnectionGuard { over_limit: true, _slot: slot })
    }

    /// Counts a closed connection.
    pub(crate) fn on_connection_closed(&self, reason: CloseReason) {
        self.connection_stats.on_close(reason);
    }

    /// Counts a message that is larger than the limit.
    pub(crate) fn on_message_too_large(&self) {
        self.messages_too_large.fetch_add(1, Ordering::Relaxed);
    }

    /// Admits a call with metadata of this size.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connection: &ConnInfo,
        is_probe: bool,
        metadata: usize,
    ) -> Result<CallGuard, Error> {
        if connection.over_limit && !is_probe {
            return Err(self.connections.overloaded("connections"));
        }
        if metadata > self.max_metadata {
            self.metadata_too_large.fetch_add(1, Ordering::Relaxed);
            let max = self.max_metadata;
            let text =
                format!("the metadata is too large ({metadata} bytes, limit {max}); send less");
            return Err(Error::new(Reason::RequestTooLarge, text));
        }
        let kind = if is_probe {
            self.admit_probe(&connection.probe_slots)?
        } else {
            let slot = self.in_flight.try_acquire();
            SlotKind::Call { _slot: slot.ok_or_else(|| self.in_flight.overloaded("calls"))? }
        };
        Ok(self.guard(kind))
    }

    /// A guard for a call that is rejected: it occupies nothing.
    pub(crate) fn rejected(self: &Arc<Self>) -> CallGuard {
        self.guard(SlotKind::Rejected)
    }

    /// The first probe of each connection always gets a slot: other clients' probes cannot keep an
    /// orchestrator from asking.
    fn admit_probe(&self, connection: &Arc<Semaphore>) -> Result<SlotKind, Error> {
        let overloaded = || self.probes.overloaded("health probes");
        let Ok(slot) = Arc::clone(connection).try_acquire_owned() else {
            self.probes.count_rejection();
            return Err(overloaded());
        };
        // Only the task of the connection acquires, so no other probe can start in between.
        let is_only = connection.available_permits() + 1 == PROBES_PER_CONNECTION;
        let shared = match is_only {
            true => None,
            false => Some(self.probes.try_acquire().ok_or_else(overloaded)?),
        };
        Ok(SlotKind::Probe { _connection: slot, _shared: shared })
    }

    fn guard(self: &Arc<Self>, kind: SlotKind) -> CallGuard {
        let (request_bytes, response_bytes) = Default::default();
        CallGuard { admission: Arc::clone(self), kind, request_bytes, response_bytes }
    }
}

// === impl CallGuard ===

impl CallGuard {
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// True for a health probe: its bytes are not charged, because probes are answered even if the
    /// memory is used up.
    pub(crate) fn is_probe(&self) -> bool {
        match self.kind {
            SlotKind::Probe { .. } => true,
            SlotKind::Call { .. } | SlotKind::Rejected => false,
        }
    }

    /// Charges at least this many bytes of the request. The charge shrinks only with the call's end.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        // One task reads the request, so the value does not change in between.
        let before = self.request_bytes.load(Ordering::Relaxed);
        if bytes > before {
            self.admission.memory.try_charge(bytes - before)?;
            self.request_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Charges exactly this many bytes of a response, which exist already.
    pub(crate) fn set_response_bytes(&self, bytes: usize) {
        let before = self.response_bytes.swap(bytes, Ordering::Relaxed);
        self.admission.memory.charge(bytes);
        self.admission.memory.release(before);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let Self { admission, kind: _, request_bytes, response_bytes } = self;
        let charged = request_bytes.get_mut().saturating_add(*response_bytes.get_mut());
        if charged > 0 {
            admission.memory.release(charged);
        }
    }
}

#[cfg(test)]
mod tests;
