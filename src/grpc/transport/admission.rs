//! Admission control: admits or rejects connections, calls and bytes before they use resources.
//!
//! Each admission is a guard that releases its slot or bytes on drop. The guard of a call lives as long as
//! any work for the call: a write continues after its client has disconnected, and keeps its slot.
//!
//! A call is admitted in steps, so that only calls of known callers that can run take the shared limits:
//! 1. The headers have arrived: the metadata is small enough.
//! 2. The caller is authorized: the connection is within the limits, and the call is attached to the
//!    account of the caller.
//! 3. The request has ended: the call takes a slot of the calls in flight.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Semaphore;

pub(crate) use super::call_guard::{CallGuard, ExportSlot};
use super::{
    accept_errors::AcceptErrors,
    call_guard::SlotKind,
    call_limits::CallLimits,
    caller_accounts::{AccountKey, CallerAccount},
    conn_info::ConnInfo,
    connection_guard::ConnectionGuard,
    connection_limits::ConnectionLimits,
    connection_stats::{CloseReason, ConnectionStats},
    limits::{CallerShare, LimitSnapshot, SlotLimit},
    memory_shedding::{MemoryShedding, PROCESS_MEMORY},
    receive_window::{ReceiveWindows, WindowGuard},
};
use crate::{
    auth::Identity,
    leads::{Error, Reason},
};
use leadsd_base::memory::{MemoryPressure, MemoryUsage, PressureLevel};
use leadsd_quota::RemotePeer;

/// Maximum number of concurrent health probes, not counting the first per connection. Probes are
/// unauthenticated, so they have a separate limit.
const PROBES: usize = 1_024;

/// Maximum number of concurrent health probes per connection.
const PROBES_PER_CONNECTION: usize = 16;

/// Part of the memory limit that is the size of all large receive windows. They are memory beside it.
const LARGE_WINDOWS_PART: usize = 4;

/// Limits of admission control per replica.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Maximum number of concurrent connections of identified callers.
    pub connections: usize,
    /// Maximum number of these connections from one address.
    pub connections_per_address: usize,
    /// Maximum number of concurrent calls, including writes whose clients have disconnected.
    pub in_flight: usize,
    /// Maximum total size of requests and responses in bytes.
    pub memory: usize,
    /// Maximum size of one call's metadata in bytes.
    pub metadata: usize,
    /// Part of each of these limits that one caller may hold.
    pub caller_share: CallerShare,
}

/// Admission control of a server.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: Arc<ConnectionLimits>,
    calls: Arc<CallLimits>,
    probes: SlotLimit,
    receive_windows: Arc<ReceiveWindows>,
    max_metadata: usize,
    metadata_too_large: AtomicU64,
    connection_stats: ConnectionStats,
    accept_errors: AcceptErrors,
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
    /// Number of connections that could not be accepted.
    pub accept_errors: u64,
    /// Number of accepted connections.
    pub connections_opened: u64,
    /// Number of closed connections by reason.
    pub connections_closed: Vec<(&'static str, u64)>,
}

// === impl Admission ===

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Self {
        let AdmissionLimits {
            connections,
            connections_per_address,
            in_flight,
            memory,
            metadata,
            caller_share,
        } = limits;
        Self {
            connections: Arc::new(ConnectionLimits::new(
                connections,
                connections_per_address,
                caller_share,
            )),
            calls: Arc::new(CallLimits::new(in_flight, memory, caller_share)),
            probes: SlotLimit::new("probes", PROBES),
            receive_windows: Arc::new(ReceiveWindows::new(
                memory / LARGE_WINDOWS_PART,
                caller_share,
            )),
            max_metadata: metadata,
            metadata_too_large: AtomicU64::new(0),
            connection_stats: ConnectionStats::default(),
            accept_errors: AcceptErrors::default(),
        }
    }

    /// Sheds load under this memory pressure.
    pub(crate) fn with_memory_pressure(mut self, pressure: MemoryPressure) -> Self {
        // The limits are not shared before the start.
        if let Some(calls) = Arc::get_mut(&mut self.calls) {
            calls.shedding = Arc::new(MemoryShedding::new(pressure));
            calls.accounts.shed(Arc::clone(&calls.shedding));
        }
        self
    }

    /// Load shedding by memory pressure.
    pub(crate) fn shedding(&self) -> &MemoryShedding {
        &self.calls.shedding
    }

    /// Current snapshot.
    pub(crate) fn snapshot(&self) -> AdmissionSnapshot {
        let [connections, unidentified] = self.connections.snapshots();
        let limits = vec![
            connections,
            self.calls.in_flight.snapshot(),
            self.calls.memory.snapshot(),
            self.probes.snapshot(),
            self.calls.waiting.snapshot(),
            unidentified,
            self.calls.identifying.snapshot(),
            self.calls.exports.snapshot(),
            self.calls.imports.snapshot(),
        ];
        let mut rejected: Vec<_> =
            limits.iter().map(|limit| (limit.name, limit.rejected)).collect();
        rejected.push((PROCESS_MEMORY, self.calls.shedding.rejected()));
        rejected.push(("message_size", self.calls.messages_too_large()));
        rejected.push(("header_size", self.metadata_too_large.load(Ordering::Relaxed)));
        AdmissionSnapshot {
            limits,
            process_memory: self.calls.shedding.pressure().usage(),
            pressure: self.calls.shedding.pressure().level(),
            rejected,
            accept_errors: self.accept_errors.total(),
            connections_opened: self.connection_stats.opened(),
            connections_closed: self.connection_stats.closed(),
        }
    }

    /// Number of connections.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.open()
    }

    /// Maximum size of one call's metadata in bytes.
    pub(crate) fn max_metadata(&self) -> usize {
        self.max_metadata
    }

    /// Creates the probe slots of a connection.
    pub(crate) fn probe_slots() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(PROBES_PER_CONNECTION))
    }

    /// Admits a connection of this peer. Its caller is not known yet.
    pub(crate) fn admit_connection(&self, peer: RemotePeer) -> ConnectionGuard {
        self.connection_stats.on_open();
        let address = self.calls.accounts.get(AccountKey::from_peer(peer));
        ConnectionGuard::new(&self.connections, address)
    }

    /// Counts a connection that could not be accepted. Returns the number of these since the last log line if
    /// one is due.
    pub(crate) fn on_accept_error(&self) -> Option<u64> {
        self.accept_errors.count()
    }

    /// Counts a closed connection.
    pub(crate) fn on_connection_closed(&self, reason: CloseReason) {
        self.connection_stats.on_close(reason);
    }

    /// Admits a call with metadata of this size in bytes.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connection: &ConnInfo,
        is_probe: bool,
        metadata: usize,
    ) -> Result<CallGuard, Error> {
        connection.count_call();
        if metadata > self.max_metadata {
            self.metadata_too_large.fetch_add(1, Ordering::Relaxed);
            let max = self.max_metadata;
            let text = format!(
                "the metadata is too large ({metadata} bytes, limit {max} bytes); send less"
            );
            return Err(Error::new(Reason::RequestTooLarge, text));
        }
        let kind = match is_probe {
            true => self.admit_probe(&connection.probe_slots)?,
            false => SlotKind::Call,
        };
        Ok(self.guard(kind, metadata))
    }

    /// Chooses the receive window of a connection from this address.
    pub(crate) fn receive_window(&self, address: &Arc<CallerAccount>) -> WindowGuard {
        self.receive_windows.acquire(address)
    }

    /// Account of an identity.
    pub(crate) fn identity_account(&self, identity: &Identity) -> Arc<CallerAccount> {
        self.calls.accounts.get(AccountKey::Identity(identity.name().into()))
    }

    /// Creates the guard of a rejected call, without a slot.
    pub(crate) fn rejected(self: &Arc<Self>) -> CallGuard {
        self.guard(SlotKind::Rejected, 0)
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

    fn guard(self: &Arc<Self>, kind: SlotKind, metadata: usize) -> CallGuard {
        CallGuard::new(Arc::clone(&self.calls), kind, metadata)
    }
}

#[cfg(test)]
mod tests;
