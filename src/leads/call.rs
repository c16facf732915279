//! What travels with every call: for whom, until when, what it has cost so far, and a permit if it
//! has one already.

use std::{
    any::Any,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    quota::{Permit, Who},
    trace,
};

/// Name of a configured portal (HubSpot account): 1 to 64 letters, digits, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalName(Arc<str>);

/// One call of a client, on its way to HubSpot and back.
#[derive(Debug, Clone)]
pub struct Call {
    /// The account it is about.
    pub portal: PortalName,
    /// When the caller stops waiting. No step may outlast it.
    pub deadline: Instant,
    /// On whose behalf it uses the portal's quota.
    pub who: Who,
    /// Names the call in logs and in the answer.
    pub request_id: Arc<str>,
    /// Where in a trace it is.
    pub trace: trace::Context,
    /// What it has cost; shared by all copies of this call.
    pub spent: Arc<Spent>,
    /// A permit for its first HubSpot call, if it has waited for one already; shared by all copies.
    pub prepaid: Prepaid,
    /// What stays taken until nothing works for the call any more.
    pub hold: Hold,
}

/// Something that is given back when the last copy of a call is gone, such as its place among the
/// calls in flight: a write goes on when its caller has gone away.
#[derive(Clone, Default)]
pub struct Hold(Option<Arc<dyn Any + Send + Sync>>);

/// A permit on its way to the HubSpot call that it is for.
#[derive(Debug, Clone, Default)]
pub struct Prepaid(Arc<Mutex<Option<Permit>>>);

/// HubSpot calls made for one client call.
#[derive(Debug, Default)]
pub struct Spent {
    /// In millionths of a call: calls are shared.
    millionths: AtomicU64,
    under_way: AtomicBool,
    correlation_id: Mutex<Option<Arc<str>>>,
}

/// Time before the deadline at which waiting for a permit ends: HubSpot could not answer in less, and
/// the refusal has to get to the caller.
const FOR_THE_ANSWER: Duration = Duration::from_millis(5);

// === impl Call ===

impl Call {
    /// How long it is of use to wait for a permit.
    pub fn permit_until(&self) -> Instant {
        self.deadline.checked_sub(FOR_THE_ANSWER).unwrap_or(self.deadline)
    }
}

// === impl Hold ===

impl Hold {
    /// Keeps `what` as long as there is a copy of the call.
    pub fn new<T: Any + Send + Sync>(what: &Arc<T>) -> Self {
        let what: Arc<T> = Arc::clone(what);
        Self(Some(what))
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hold").field(&self.0.is_some()).finish()
    }
}

// === impl PortalName ===

impl PortalName {
    /// Checks a name; `None` if it has a character or length that no portal name may have.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let fits = (1..=64).contains(&text.len()) && text.chars().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Prepaid ===

impl Prepaid {
    /// Holds a permit until the first HubSpot call takes it.
    pub fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Takes the permit, if it is still there.
    pub fn take(&self) -> Option<Permit> {
        self.0.lock().take()
    }
}

// === impl Spent ===

/// Millionths of a HubSpot call.
const CALL: u64 = 1_000_000;

impl Spent {
    /// Counts one call sent to HubSpot.
    pub fn count(&self) {
        self.millionths.fetch_add(CALL, Ordering::Relaxed);
        self.begin();
    }

    /// HubSpot is being asked, perhaps in a call together with others.
    pub fn begin(&self) {
        self.under_way.store(true, Ordering::Relaxed);
    }

    /// Whether HubSpot was asked: a call that is not under way yet waits for a permit.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Takes over a part of what was spent on several calls together.
    pub fn share(&self, whole: &Self, parts: usize) {
        let parts = u64::try_from(parts).unwrap_or(u64::MAX).max(1);
        let part = whole.millionths.load(Ordering::Relaxed).div_ceil(parts);
        self.millionths.fetch_add(part, Ordering::Relaxed);
        if let Some(id) = whole.correlation_id() {
            *self.correlation_id.lock() = Some(id);
        }
    }

    /// Calls sent so far; a call that was shared counts as its part.
    #[expect(clippy::cast_precision_loss, reason = "nobody makes that many calls")]
    pub fn calls(&self) -> f64 {
        self.millionths.load(Ordering::Relaxed) as f64 / CALL as f64
    }

    /// Keeps HubSpot's correlation id of the newest answer.
    pub fn set_correlation_id(&self, id: &str) {
        *self.correlation_id.lock() = Some(id.into());
    }

    /// HubSpot's correlation id of the newest answer.
    pub fn correlation_id(&self) -> Option<Arc<str>> {
        self.correlation_id.lock().clone()
    }
}
