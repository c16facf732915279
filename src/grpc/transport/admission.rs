//! Admission control: admits or rejects connections, calls and bytes before they use resources.
//!
//! Each admission is a guard that releases its slot or bytes on drop. The guard of a call lives as long as
//! any work for the call: a write continues after its client has disconnected, and keeps its slot.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    conn_info::ConnInfo,
    connection_stats::{CloseReason, ConnectionStats},
    limits::{ByteBudget, LimitSnapshot, SlotLimit},
    memory_shedding::{MemoryShedding, PROCESS_MEMORY},
};
use crate::leads::{Error, MemoryAccount, Reason};
use leadsd_base::memory::{MemoryPressure, MemoryUsage, PressureLevel};

/// Maximum number of connections over the limit. They are accepted briefly, so that their calls get an
/// error with a reason and health probes a response.
const OVERFLOW: usize = 64;

/// Maximum number of concurrent health probes, not counting the first per connection. Probes are
/// unauthenticated, so they have a separate limit.
const PROBES: usize = 1_024;

/// Maximum number of concurrent health probes per connection.
const PROBES_PER_CONNECTION: usize = 16;

/// Limits of admission control per replica.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Maximum number of concurrent connections.
    pub connections: usize,
    /// Maximum number of concurrent calls, including writes whose clients have disconnected.
    pub in_flight: usize,
    /// Maximum total size of requests and responses in bytes.
    pub memory: usize,
    /// Maximum size of one call's metadata in bytes.
    pub metadata: usize,
}

/// Admission control of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: SlotLimit,
    overflow: SlotLimit,
    in_flight: SlotLimit,
    probes: SlotLimit,
    memory: ByteBudget,
    shedding: MemoryShedding,
    max_metadata: usize,
    metadata_too_large: AtomicU64,
    messages_too_large: AtomicU64,
    connection_stats: ConnectionStats,
}

/// Slot of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    /// True if the connection is over the limit.
    pub(crate) over_limit: bool,
    _slot: OwnedSemaphorePermit,
}

/// Slot of a call, and the bytes charged to it.
#[derive(Debug)]
pub(crate) struct CallGuard {
    admission: Arc<Admission>,
    kind: SlotKind,
    request_bytes: AtomicUsize,
    response_bytes: AtomicUsize,
}

/// Permits of a call, released on drop.
#[derive(Debug)]
enum SlotKind {
    /// Slot of a call in flight.
    Call { _slot: OwnedSemaphorePermit },
    /// Probe slot of the connection, and a shared probe slot unless the probe is the only one there.
    Probe { _connection: OwnedSemaphorePermit, _shared: Option<OwnedSemaphorePermit> },
    /// No slot: the call is rejected.
    Rejected,
}

/// Snapshot of admission control.
#[derive(Debug, Clone)]
pub struct AdmissionSnapshot {
    /// Limits and their use.
    pub limits: Vec<LimitSnapshot>,
    /// Resident memory and its limit; `None` without a limit.
    pub process_memory: Option<MemoryUsage>,
    /// Level of memory pressure.
    pub pressure: PressureLevel,
    /// Number of rejected calls by exceeded limit.
    pub rejected: Vec<(&'static str, u64)>,
    /// Number of accepted connections.
    pub connections_opened: u64,
    /// Number of closed connections by reason.
    pub connections_closed: Vec<(&'static str, u64)>,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        let AdmissionLimits { connections, in_flight, memory, metadata } = limits;
        Self {
            connections: SlotLimit::new("connections", connections),
            overflow: SlotLimit::new("overflow", OVERFLOW),
            in_flight: SlotLimit::new("in_flight", in_flight),
            probes: SlotLimit::new("probes", PROBES),
            memory: ByteBudget::new("memory", memory),
            shedding: MemoryShedding::default(),
            max_metadata: metadata,
            metadata_too_large: AtomicU64::new(0),
            messages_too_large: AtomicU64::new(0),
            connection_stats: ConnectionStats::default(),
        }
    }

    /// Sheds load under this memory pressure.
    pub(crate) fn with_memory_pressure(self, pressure: MemoryPressure) -> Self {
        Self { shedding: MemoryShedding::new(pressure), ..self }
    }

    /// Load shedding by memory pressure.
    pub(crate) fn shedding(&self) -> &MemoryShedding {
        &self.shedding
    }

    /// Current snapshot.
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
        rejected.push((PROCESS_MEMORY, self.shedding.rejected()));
        rejected.push(("message_size", count(&self.messages_too_large)));
        rejected.push(("header_size", count(&self.metadata_too_large)));
        AdmissionSnapshot {
            limits,
            process_memory: self.shedding.pressure().usage(),
            pressure: self.shedding.pressure().level(),
            rejected,
            connections_opened: self.connection_stats.opened(),
            connections_closed: self.connection_stats.closed(),
        }
    }

    /// Number of connections within the limit.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.used()
    }

    /// Maximum size of one call's metadata in bytes.
    pub(crate) fn max_metadata(&self) -> usize {
        self.max_metadata
    }

    /// Creates the probe slots of a connection.
    pub(crate) fn probe_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PROBES_PER_CONNECTION))
    }

    /// Admits a connection; `None` if all overflow slots are in use.
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

    /// Counts a message over the limit.
    pub(crate) fn on_message_too_large(&self) {
        self.messages_too_large.fetch_add(1, Ordering::Relaxed);
    }

    /// Admits a call with metadata of this size in bytes.
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
            let text = format!(
                "the metadata is too large ({metadata} bytes, limit {max} bytes); send less"
            );
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

    /// Creates the guard of a rejected call, without a slot.
    pub(crate) fn rejected(self: &Arc<Self>) -> CallGuard {
        self.guard(SlotKind::Rejected)
    }

    /// Admits a health probe. The first probe of each connection always gets a slot, so that the probes of
    /// other clients cannot block an orchestrator's.
    fn admit_probe(&self, connection: &Arc<Semaphore>) -> Result<SlotKind, Error> {
        let overloaded = || self.probes.overloaded("health probes");
        let Ok(slot) = Arc::clone(connection).try_acquire_owned() else {
            self.probes.count_rejection();
            return Err(overloaded());
        };
        // Only the connection's task acquires these slots, so no other probe can start in between.
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

    /// Reports whether the call is a health probe. The bytes of probes are not charged: they are served
    /// even if the memory limit is reached.
    pub(crate) fn is_probe(&self) -> bool {
        match self.kind {
            SlotKind::Probe { .. } => true,
            SlotKind::Call { .. } | SlotKind::Rejected => false,
        }
    }

    /// Account to which the domain charges the memory of this call. Unlike the guard, it may outlive
    /// the call.
    pub(crate) fn account(&self) -> Arc<dyn MemoryAccount> {
        let account: Arc<Admission> = Arc::clone(&self.admission);
        account
    }

    /// Charges at least this many bytes of the request. The charge is released at the end of the call.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        // Only one task reads the request, so the value does not change in between.
        let before = self.request_bytes.load(Ordering::Relaxed);
        if bytes > before {
            let Admission { memory, shedding, .. } = &*self.admission;
            shedding.admit_bytes(before, bytes, memory.used())?;
            self.admission.memory.try_charge(bytes - before)?;
            self.request_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Charges exactly this many bytes of the response, which are about to be used. Errors if an increase
    /// exceeds a limit; the charge is then unchanged.
    pub(crate) fn try_set_response_bytes(&self, bytes: usize) -> Result<(), Error> {
        let before = self.response_bytes.load(Ordering::Relaxed);
        if bytes > before {
            self.admission.memory.try_charge(bytes - before)?;
        } else {
            self.admission.memory.release(before - bytes);
        }
        // Only one task builds and sends the response, so the value did not change in between.
        self.response_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Charges exactly this many bytes of the response, which are already in memory.
    pub(crate) fn set_response_bytes(&self, bytes: usize) {
        let before = self.response_bytes.swap(bytes, Ordering::Relaxed);
        self.admission.memory.charge(bytes);
        self.admission.memory.release(before);
    }
}

impl MemoryAccount for Admission {
    fn try_charge(&self, bytes: usize) -> Result<(), Error> {
        self.memory.try_charge(bytes)
    }

    fn charge(&self, bytes: usize) {
        self.memory.charge(bytes);
    }

    fn release(&self, bytes: usize) {
        self.memory.release(bytes);
    }

    fn shared(self: Arc<Self>) -> Arc<dyn MemoryAccount> {
        self
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
