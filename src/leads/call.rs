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

use crate::telemetry::trace_context::TraceContext;
pub use leadsd_base::portal_name::PortalName;
use leadsd_quota::{Permit, Requester};

/// One call of a client, on its way to HubSpot and back.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// The account it is about.
    pub portal: PortalName,
    /// When the caller stops waiting. No step may outlast it.
    pub deadline: Instant,
    /// On whose behalf it uses the portal's quota.
    pub who: Requester,
    /// Names the call in logs and in the answer.
    pub request_id: Arc<str>,
    /// Where in a trace it is.
    pub trace: TraceContext,
    /// What it has cost; shared by all copies of this call.
    pub cost: Arc<CostMeter>,
    /// A permit for its first HubSpot call, if it has waited for one already; shared by all copies.
    pub prepaid: Prepaid,
    /// What stays taken until nothing works for the call any more.
    pub guard: Guard,
    /// Until when attempts may be repeated for it.
    pub patience: Patience,
    /// Attempts made for it before, in a call that it shared with others.
    pub made: u32,
    /// Keeps the turn of a write whose parts are made again.
    pub claim: Claim,
}

/// Keeps what one part of a call has taken for those that follow it, until the last copy is gone: a
/// batch that HubSpot refuses is made again in parts, and no other write comes between them.
#[derive(Debug, Clone, Default)]
pub struct Claim(Option<Arc<Mutex<Guard>>>);

/// Something that is given back when the last copy of a call is gone, such as its place among the
/// calls in flight: a write goes on when its caller has gone away.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<dyn Any + Send + Sync>>);

/// A permit on its way to the HubSpot call that it is for.
#[derive(Debug, Clone, Default)]
pub struct Prepaid(Arc<Mutex<Option<Permit>>>);

/// When the first of those who share a call stops waiting.
///
/// A failed attempt is repeated only if that is over by then: whoever has less time gets the failure, as
/// it would alone, and whoever has more tries again without it.
#[derive(Debug, Clone)]
pub struct Patience(Arc<Mutex<Instant>>);

/// HubSpot calls made for one client call.
#[derive(Debug, Default)]
pub struct CostMeter {
    /// Whose calls these are, if they are made for several: each bears an even part.
    sharers: Vec<Arc<CostMeter>>,
    /// In millionths of a call: calls are shared.
    millionths: AtomicU64,
    under_way: AtomicBool,
    correlation_id: Mutex<Option<Arc<str>>>,
}

/// Time before the deadline at which waiting for a permit ends: HubSpot could not answer in less, and
/// the refusal has to get to the caller.
const FOR_THE_ANSWER: Duration = Duration::from_millis(5);

/// With less than this left to the deadline no further attempt is begun: HubSpot's fastest answers
/// take about as long.
pub const ATTEMPT_TIME: Duration = Duration::from_millis(50);

// === impl Call ===

impl CallContext {
    /// Whether there is time for an attempt after this pause.
    pub fn has_time_after(&self, pause: Duration) -> bool {
        Instant::now() + pause + ATTEMPT_TIME <= self.deadline
    }

    /// The same call with a claim that its parts have in common.
    #[must_use]
    pub fn in_part(&self, claim: Claim) -> Self {
        Self { claim, ..self.clone() }
    }

    /// Gives it time until then, if it has less: nobody waits for it any more, and its outcome is
    /// wanted all the same.
    pub fn extend(&mut self, until: Instant) {
        self.deadline = self.deadline.max(until);
        self.patience = Patience::new(self.deadline);
    }

    /// How long it is of use to wait for a permit.
    pub fn permit_until(&self) -> Instant {
        self.deadline.checked_sub(FOR_THE_ANSWER).unwrap_or(self.deadline)
    }
}

// === impl Guard ===

impl Guard {
    /// Keeps `what` as long as there is a copy of the call.
    pub fn new<T: Any + Send + Sync>(what: &Arc<T>) -> Self {
        let what: Arc<T> = Arc::clone(what);
        Self(Some(what))
    }
}

// === impl Claim ===

impl Claim {
    /// One that keeps what is taken; the default does not.
    pub fn open() -> Self {
        Self(Some(Arc::default()))
    }

    /// Whether something was taken before.
    pub fn is_taken(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.lock().0.is_some())
    }

    /// Keeps `what`, or gives it back to be kept by whoever took it.
    pub fn keep<T: Any + Send + Sync>(&self, what: T) -> Option<T> {
        let Some(kept) = &self.0 else { return Some(what) };
        *kept.lock() = Guard::new(&Arc::new(what));
        None
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.0.is_some()).finish()
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

// === impl Patience ===

impl Patience {
    /// That of a call which is made for one caller, until its deadline.
    pub fn new(deadline: Instant) -> Self {
        Self(Arc::new(Mutex::new(deadline)))
    }

    /// Somebody joins who waits until then.
    pub fn join(&self, deadline: Instant) {
        let mut until = self.0.lock();
        *until = deadline.min(*until);
    }

    /// When the first of them stops waiting.
    pub fn until(&self) -> Instant {
        *self.0.lock()
    }
}

// === impl Spent ===

/// Millionths of a HubSpot call.
const CALL: u64 = 1_000_000;

impl CostMeter {
    /// What is spent on a call made for all of these.
    pub fn among(sharers: Vec<Arc<Self>>) -> Self {
        Self { sharers, ..Self::default() }
    }

    /// Counts one call sent to HubSpot.
    pub fn count(&self) {
        self.add(CALL);
    }

    /// Counts millionths of a call.
    pub fn add(&self, millionths: u64) {
        self.millionths.fetch_add(millionths, Ordering::Relaxed);
        self.begin();
        let parts = self.sharers.len() as u64;
        for (number, sharer) in (0..).zip(&self.sharers) {
            // What does not divide is borne by the first.
            let rest = u64::from(number < millionths % parts);
            sharer.add(millionths / parts + rest);
        }
    }

    /// HubSpot is being asked, perhaps in a call together with others.
    pub fn begin(&self) {
        self.under_way.store(true, Ordering::Relaxed);
        self.sharers.iter().for_each(|sharer| sharer.begin());
    }

    /// Whether HubSpot was asked: a call that is not under way yet waits for a permit.
    pub fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Millionths of a call sent so far.
    pub fn millionths(&self) -> u64 {
        self.millionths.load(Ordering::Relaxed)
    }

    /// Calls sent so far; a call that was shared counts as its part.
    #[expect(clippy::cast_precision_loss, reason = "nobody makes that many calls")]
    pub fn calls(&self) -> f64 {
        self.millionths() as f64 / CALL as f64
    }

    /// Keeps HubSpot's correlation id of the newest answer.
    pub fn set_correlation_id(&self, id: &Arc<str>) {
        *self.correlation_id.lock() = Some(Arc::clone(id));
        self.sharers.iter().for_each(|sharer| sharer.set_correlation_id(id));
    }

    /// HubSpot's correlation id of the newest answer.
    pub fn correlation_id(&self) -> Option<Arc<str>> {
        self.correlation_id.lock().clone()
    }
}
