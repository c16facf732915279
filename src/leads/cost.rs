//! Counts the HubSpot requests that were sent for one call.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

/// HubSpot requests sent for one call. A request that several calls share is divided among them.
#[derive(Debug, Default)]
pub struct CostMeter {
    /// Meters of the calls that share this cost in equal parts.
    sharers: Vec<Arc<CostMeter>>,
    /// Cost in millionths of a request, because requests are shared.
    millionths: AtomicU64,
    in_progress: AtomicBool,
    correlation_id: Mutex<Option<Arc<str>>>,
}

/// Millionths of one request.
const REQUEST: u64 = 1_000_000;

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
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn requests_add_up() {
        let meter = CostMeter::default();
        assert!(!meter.is_in_progress());
        meter.count();
        meter.add(REQUEST / 2);
        assert!((meter.requests() - 1.5).abs() < 1e-9);
    }
}
