//! Guard of a call: its slot, the account of its caller, and the bytes charged to it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    call_limits::CallLimits,
    caller_accounts::{CallerAccount, MEMORY_ITEMS},
    conn_info::ConnInfo,
    receive_window::ReceiveWindow,
};
use crate::leads::{Error, MemoryAccount};
use leadsd_quota::Caller;

/// Bytes of a call without the end of its request, besides its metadata: its streams and its task.
const WAITING_CALL: usize = 4 * 1024;

/// Size in bytes of metadata that is not charged while a call is in flight. Slots bound the number of
/// calls.
pub(super) const UNCHARGED_METADATA: usize = 1_024;

/// Bytes of responses that the service of a bidirectional stream builds before the client reads them.
const STREAM_RESPONSES: usize = 192 * 1024;

/// Slot of a call, and the bytes charged to it.
#[derive(Debug)]
pub(crate) struct CallGuard {
    limits: Arc<CallLimits>,
    kind: SlotKind,
    /// Size of the metadata in bytes.
    metadata: usize,
    /// Account of the caller, set before the first charge.
    account: OnceLock<Arc<CallerAccount>>,
    /// True once the call has a slot of the calls in flight.
    is_in_flight: AtomicBool,
    /// True if the client sends a stream of messages.
    is_stream: AtomicBool,
    request_bytes: AtomicUsize,
    response_bytes: AtomicUsize,
}

/// Slot and bytes of a call whose request has not ended, released on drop.
#[derive(Debug)]
pub(crate) struct WaitingSlot<'a> {
    call: &'a CallGuard,
    bytes: usize,
}

/// Slot of a call whose caller is not identified, released on drop.
#[derive(Debug)]
pub(crate) struct IdentifyingSlot<'a> {
    limits: &'a CallLimits,
    address: &'a CallerAccount,
}

/// Slot of an export, released on drop.
#[derive(Debug)]
pub(crate) struct ExportSlot {
    limits: Arc<CallLimits>,
    account: Arc<CallerAccount>,
}

/// Slot of an import, released on drop.
#[derive(Debug)]
pub(crate) struct ImportSlot {
    limits: Arc<CallLimits>,
    account: Arc<CallerAccount>,
}

/// Permits of a call, released on drop.
#[derive(Debug)]
pub(super) enum SlotKind {
    /// Slot of the calls in flight, once the request has ended.
    Call,
    /// Probe slot of the connection, and a shared probe slot unless the probe is the only one there.
    Probe { _connection: OwnedSemaphorePermit, _shared: Option<OwnedSemaphorePermit> },
    /// No slot: the call is rejected.
    Rejected,
}

// === impl CallGuard ===

impl CallGuard {
    /// Creates the guard of a call whose metadata has this size in bytes.
    pub(super) fn new(limits: Arc<CallLimits>, kind: SlotKind, metadata: usize) -> Self {
        Self {
            limits,
            kind,
            metadata,
            account: OnceLock::new(),
            is_in_flight: AtomicBool::new(false),
            is_stream: AtomicBool::new(false),
            request_bytes: AtomicUsize::new(0),
            response_bytes: AtomicUsize::new(0),
        }
    }

    /// Limits of calls.
    pub(crate) fn limits(&self) -> &CallLimits {
        &self.limits
    }

    /// Reports whether the call is a health probe. The bytes of probes are not charged: they are served
    /// even if the memory limit is reached.
    pub(crate) fn is_probe(&self) -> bool {
        match self.kind {
            SlotKind::Probe { .. } => true,
            SlotKind::Call | SlotKind::Rejected => false,
        }
    }

    /// Acquires a slot for the time until the caller is identified.
    pub(crate) fn identify<'a>(
        &'a self,
        connection: &'a ConnInfo,
    ) -> Result<IdentifyingSlot<'a>, Error> {
        let (limit, address) = (&self.limits.identifying, &*connection.peer_account);
        limit.try_acquire(&address.identifying, 1).map_err(|exceeded| {
            limit.overloaded(exceeded, "calls whose caller is not identified")
        })?;
        Ok(IdentifyingSlot { limits: &self.limits, address })
    }

    /// Attaches the call to the account of its caller, once the caller is authorized. Errors if the caller
    /// has too many connections.
    pub(crate) fn attach(
        &self,
        connection: &ConnInfo,
        caller: Option<&Caller>,
    ) -> Result<(), Error> {
        if self.is_probe() {
            return Ok(());
        }
        let account = self.account.get_or_init(|| self.limits.account(connection, caller));
        connection.stage.identify(account)
    }

    /// Acquires a slot for the time until the request has ended.
    pub(crate) fn wait(&self) -> Result<WaitingSlot<'_>, Error> {
        let CallLimits { waiting, memory, .. } = &*self.limits;
        waiting.try_acquire(&self.charged_to().waiting, 1).map_err(|exceeded| {
            waiting.overloaded(exceeded, "calls without the end of their requests")
        })?;
        // From here on, the slot is released on drop.
        let mut slot = WaitingSlot { call: self, bytes: 0 };
        let bytes = self.metadata.saturating_add(WAITING_CALL);
        memory
            .try_acquire(&self.charged_to().memory, bytes)
            .map_err(|exceeded| memory.overloaded(exceeded, MEMORY_ITEMS))?;
        slot.bytes = bytes;
        Ok(slot)
    }

    /// Acquires a slot of the calls in flight until the end of the call. Probes have one already.
    pub(crate) fn start(&self) -> Result<(), Error> {
        if !matches!(self.kind, SlotKind::Call) || self.is_in_flight.load(Ordering::Relaxed) {
            return Ok(());
        }
        let limit = &self.limits.in_flight;
        limit
            .try_acquire(&self.charged_to().in_flight, 1)
            .map_err(|exceeded| limit.overloaded(exceeded, "concurrent calls"))?;
        self.is_in_flight.store(true, Ordering::Relaxed);
        match self.metadata.saturating_sub(UNCHARGED_METADATA) {
            0 => Ok(()),
            more => self.reserve(self.request_bytes().saturating_add(more)),
        }
    }

    /// Acquires a slot of the exports.
    pub(crate) fn start_export(&self) -> Result<ExportSlot, Error> {
        let (limit, account) = (&self.limits.exports, self.charged_to());
        limit
            .try_acquire(&account.exports, 1)
            .map_err(|exceeded| limit.overloaded(exceeded, "concurrent exports"))?;
        Ok(ExportSlot { limits: Arc::clone(&self.limits), account: Arc::clone(account) })
    }

    /// Acquires a slot of the imports.
    pub(crate) fn start_import(&self) -> Result<ImportSlot, Error> {
        let (limit, account) = (&self.limits.imports, self.charged_to());
        limit
            .try_acquire(&account.imports, 1)
            .map_err(|exceeded| limit.overloaded(exceeded, "concurrent imports"))?;
        Ok(ImportSlot { limits: Arc::clone(&self.limits), account: Arc::clone(account) })
    }

    /// Bytes charged for the request. They grow with each part that arrives.
    pub(crate) fn request_bytes(&self) -> usize {
        self.request_bytes.load(Ordering::Relaxed)
    }

    /// Starts a call whose client sends a stream of messages. Charges the receive window of the stream,
    /// which is in memory while the service does not read, and the responses that the client does not
    /// read.
    pub(crate) fn start_stream(&self, window: ReceiveWindow) -> Result<(), Error> {
        self.is_stream.store(true, Ordering::Relaxed);
        self.start()?;
        self.reserve((window.stream as usize).saturating_add(STREAM_RESPONSES))
    }

    /// Reports whether the client sends a stream of messages.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream.load(Ordering::Relaxed)
    }

    /// Charges at least this many bytes of the request. The charge is released at the end of the call.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        // Only one task reads the request, so the value does not change in between.
        let before = self.request_bytes();
        if bytes > before {
            let CallLimits { memory: limit, shedding, .. } = &*self.limits;
            limit.check_request(bytes)?;
            shedding.admit_bytes(before, bytes, limit.used())?;
            limit
                .try_acquire(&self.charged_to().memory, bytes - before)
                .map_err(|exceeded| limit.overloaded(exceeded, MEMORY_ITEMS))?;
            self.request_bytes.store(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Charges exactly this many bytes of the response, which are about to be used. Errors if an increase
    /// exceeds a limit; the charge is then unchanged.
    pub(crate) fn try_set_response_bytes(&self, bytes: usize) -> Result<(), Error> {
        let before = self.response_bytes.load(Ordering::Relaxed);
        let (limit, account) = (&self.limits.memory, &self.charged_to().memory);
        if bytes > before {
            // What the response consists of is in memory already, so only its growth is expected.
            self.limits.shedding.admit_bytes(before, bytes, 0)?;
            limit
                .try_acquire(account, bytes - before)
                .map_err(|exceeded| limit.overloaded(exceeded, MEMORY_ITEMS))?;
        } else {
            limit.release(account, before - bytes);
        }
        // Only one task builds and sends the response, so the value did not change in between.
        self.response_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Charges a built message of the response until [`Self::release_sent`], even over the limit. It
    /// replaces the charge of what it was built from.
    pub(crate) fn start_sending(&self, bytes: usize) {
        let CallLimits { memory, .. } = &*self.limits;
        let account = &self.charged_to().memory;
        memory.charge(account, bytes);
        memory.release(account, self.response_bytes.swap(0, Ordering::Relaxed));
    }

    /// Releases a message of the response that was sent or dropped.
    pub(crate) fn release_sent(&self, bytes: usize) {
        self.limits.memory.release(&self.charged_to().memory, bytes);
    }

    /// Account to which the domain charges the memory of this call. Unlike the guard, it may outlive
    /// the call.
    pub(crate) fn account(&self) -> Arc<dyn MemoryAccount> {
        let account: Arc<CallerAccount> = Arc::clone(self.charged_to());
        account
    }

    /// Account that the call is charged to.
    fn charged_to(&self) -> &Arc<CallerAccount> {
        self.account.get_or_init(|| Arc::clone(&self.limits.unidentified))
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        let Self { limits, account, is_in_flight, request_bytes, response_bytes, .. } = self;
        let Some(account) = account.get() else { return };
        if *is_in_flight.get_mut() {
            limits.in_flight.release(&account.in_flight, 1);
        }
        let charged = request_bytes.get_mut().saturating_add(*response_bytes.get_mut());
        limits.memory.release(&account.memory, charged);
    }
}

// === impl IdentifyingSlot ===

impl Drop for IdentifyingSlot<'_> {
    fn drop(&mut self) {
        self.limits.identifying.release(&self.address.identifying, 1);
    }
}

// === impl ExportSlot ===

impl Drop for ExportSlot {
    fn drop(&mut self) {
        self.limits.exports.release(&self.account.exports, 1);
    }
}

// === impl ImportSlot ===

impl Drop for ImportSlot {
    fn drop(&mut self) {
        self.limits.imports.release(&self.account.imports, 1);
    }
}

// === impl WaitingSlot ===

impl Drop for WaitingSlot<'_> {
    fn drop(&mut self) {
        let Self { call, bytes } = self;
        let account = call.charged_to();
        call.limits.waiting.release(&account.waiting, 1);
        call.limits.memory.release(&account.memory, *bytes);
    }
}
