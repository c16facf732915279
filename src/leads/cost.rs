//! Counts the HubSpot requests that were sent for one call, and holds the memory of their responses. The
//! response metadata of the call has these facts.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use super::{charge::MemoryCharge, request_id::RequestIdScope};

/// HubSpot requests sent for one call. A request that several calls share is divided among them.
#[derive(Debug, Default)]
pub struct CostMeter {
    /// Meters of the calls that share this cost in equal parts.
    sharers: Vec<Arc<CostMeter>>,
    /// Cost in millionths of a request, because requests are shared.
    millionths: AtomicU64,
    in_progress: AtomicBool,
    correlation_id: Mutex<Option<Arc<str>>>,
    /// Scope of the request id: its number in [`RequestIdScope::ALL`] and one; 0 without an id.
    request_id_scope: AtomicU8,
    /// Memory of responses that were read.
    held: Mutex<Option<MemoryCharge>>,
    /// True if there may be such memory: most calls take no lock for it.
    is_holding: AtomicBool,
}

/// Millionths of one request.
const REQUEST: u64 = 1_000_000;

/// Size in bytes from which the memory of a response is held, as for messages that are sent. Slots bound
/// the number of smaller ones.
const MIN_HELD: usize = 1 << 10;

// === impl CostMeter ===

impl CostMeter {
    /// A meter whose cost is divided equally among `sharers`.
    pub fn shared_by(sharers: Vec<Arc<Self>>) -> Self {
        Self { sharers, ..Self::default() }
    }

    /// Counts one request sent to HubSpot.
    pub fn count(&self) {
        self.add(REQUEST);
    }

    /// Counts a part of a request, in millionths.
    pub fn add(&self, millionths: u64) {
        self.millionths.fetch_add(millionths, Ordering::Relaxed);
        self.begin();
        let parts = self.sharers.len() as u64;
        for (number, sharer) in (0..).zip(&self.sharers) {
            // The first sharers bear the remainder of the division.
            let rest = u64::from(number < millionths % parts);
            sharer.add(millionths / parts + rest);
        }
    }

    /// Marks the call as in progress at HubSpot, alone or as part of a batch.
    pub fn begin(&self) {
        self.in_progress.store(true, Ordering::Relaxed);
        self.sharers.iter().for_each(|sharer| sharer.begin());
    }

    /// True if the call is in progress at HubSpot; otherwise it waits for a permit.
    pub fn is_in_progress(&self) -> bool {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// Cost so far, in millionths of a request.
    pub fn millionths(&self) -> u64 {
        self.millionths.load(Ordering::Relaxed)
    }

    /// Cost so far, in requests.
    #[expect(clippy::cast_precision_loss, reason = "the count stays far below 2^53")]
    pub fn requests(&self) -> f64 {
        self.millionths() as f64 / REQUEST as f64
    }

    /// Records HubSpot's correlation id of the latest response.
    pub fn set_correlation_id(&self, id: &Arc<str>) {
        *self.correlation_id.lock() = Some(Arc::clone(id));
        self.sharers.iter().for_each(|sharer| sharer.set_correlation_id(id));
    }

    /// HubSpot's correlation id of the latest response.
    pub fn correlation_id(&self) -> Option<Arc<str>> {
        self.correlation_id.lock().clone()
    }

    /// Records the scope in which a repeat of the write is recognized.
    pub fn set_request_id_scope(&self, scope: RequestIdScope) {
        self.request_id_scope.store(scope as u8 + 1, Ordering::Relaxed);
    }

    /// Scope in which a repeat of the write is recognized. `None` without a request id.
    pub fn request_id_scope(&self) -> Option<RequestIdScope> {
        let number = usize::from(self.request_id_scope.load(Ordering::Relaxed)).checked_sub(1)?;
        RequestIdScope::ALL.get(number).copied()
    }

    /// Holds the charge of a response that was read, until [`release_memory`](Self::release_memory) or the
    /// end of what the meter counts. A batch may wait for further requests after it.
    pub fn hold(&self, charge: MemoryCharge) {
        if charge.bytes() < MIN_HELD {
            return;
        }
        let mut held = self.held.lock();
        match &mut *held {
            Some(held) => held.absorb(&charge),
            None => *held = Some(charge),
        }
        self.is_holding.store(true, Ordering::Relaxed);
    }

    /// Moves one of `parts` equal parts of the memory that is held to the meter of a call which gets a part of
    /// the responses.
    pub fn give_part(&self, parts: usize, to: &Self) {
        if !self.is_holding.load(Ordering::Relaxed) {
            return;
        }
        let part =
            self.held.lock().as_mut().map(|held| held.split_off(held.bytes() / parts.max(1)));
        if let Some(part) = part {
            to.hold(part);
        }
    }

    /// Number of bytes of responses that are held.
    pub fn held_bytes(&self) -> usize {
        if !self.is_holding.load(Ordering::Relaxed) {
            return 0;
        }
        self.held.lock().as_ref().map_or(0, MemoryCharge::bytes)
    }

    /// Releases the charges of responses, once their leads are charged elsewhere.
    pub fn release_memory(&self) {
        if self.is_holding.swap(false, Ordering::Relaxed) {
            *self.held.lock() = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::{MemoryAccount, testing::TestAccount};

    #[test]
    fn a_shared_request_is_divided_without_loss() {
        let sharers: Vec<Arc<CostMeter>> = (0..3).map(|_| Arc::default()).collect();
        let shared = CostMeter::shared_by(sharers.clone());
        shared.count();
        let parts: Vec<u64> = sharers.iter().map(|sharer| sharer.millionths()).collect();
        assert_eq!(parts, [333_334, 333_333, 333_333]);
        assert!(sharers.iter().all(|sharer| sharer.is_in_progress()));
        let id: Arc<str> = "c-1".into();
        shared.set_correlation_id(&id);
        assert!(sharers.iter().all(|sharer| sharer.correlation_id().as_ref() == Some(&id)));
    }

    #[test]
    fn memory_of_large_responses_is_held_until_it_is_released_or_the_meter_ends() {
        let account = TestAccount::new(1 << 20);
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        let charge = |bytes| {
            let mut charge = MemoryCharge::new(&port);
            charge.set(bytes);
            charge
        };
        let meter = CostMeter::default();
        meter.hold(charge(MIN_HELD - 1));
        assert_eq!(account.used(), 0, "a small response is bounded by its slot");
        meter.hold(charge(MIN_HELD));
        meter.hold(charge(100_000));
        assert_eq!(account.used(), MIN_HELD + 100_000);
        meter.release_memory();
        assert_eq!(account.used(), 0);
        meter.hold(charge(MIN_HELD));
        drop(meter);
        assert_eq!(account.used(), 0);
    }

    #[test]
    fn a_shared_response_is_charged_until_the_last_call_has_charged_its_part() {
        let account = TestAccount::new(1 << 20);
        let port: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
        let mut charge = MemoryCharge::new(&port);
        charge.set(10 * MIN_HELD);
        let shared = CostMeter::default();
        shared.hold(charge);
        let calls: [CostMeter; 3] = Default::default();
        for (index, call) in calls.iter().enumerate() {
            shared.give_part(3 - index, call);
        }
        drop(shared);
        assert_eq!(account.used(), 10 * MIN_HELD, "the parts are the whole");
        assert!(calls.iter().all(|call| call.held_bytes() >= 3 * MIN_HELD));
        for (call, left) in calls.into_iter().zip([2, 1, 0]) {
            let own = call.held_bytes();
            let before = account.used();
            drop(call);
            assert_eq!(account.used(), before - own, "{left} calls are left");
        }
        assert_eq!(account.used(), 0);
        // Nothing is held, so nothing is given.
        let (empty, call) = (CostMeter::default(), CostMeter::default());
        empty.give_part(0, &call);
        assert_eq!(call.held_bytes(), 0);
    }

    #[test]
    fn requests_add_up() {
        let meter = CostMeter::default();
        assert!(!meter.is_in_progress());
        meter.count();
        meter.add(REQUEST / 2);
        assert!((meter.requests() - 1.5).abs() < 1e-9);
    }
}
