//! Identical reads under way share one call.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::group::may_go_on;
use crate::leads::{CallContext, CostMeter, Error, Patience, PortalName, Prepaid, Reason};
use leadsd_quota::{Caller, Priority};

type Answer<A> = BoxFuture<'static, Result<A, Error>>;

/// By the hash of what makes reads identical: that takes long enough to do it once.
type Running<Q, A> = HashMap<u64, Vec<Flight<Q, A>>>;

/// Reads under way.
#[derive(Debug)]
pub(super) struct Flights<Q, A> {
    running: Arc<Mutex<Running<Q, A>>>,
    hasher: RandomState,
    numbers: AtomicU64,
}

/// One read under way.
#[derive(Debug)]
struct Flight<Q, A> {
    number: u64,
    portal: PortalName,
    /// A call that others have not joined must not make them wait longer than their own would: it is
    /// part of what makes reads identical.
    priority: Priority,
    request: Arc<Q>,
    caller: Caller,
    /// Gone once nobody waits for it any more.
    answer: WeakShared<Answer<A>>,
    ticket: Ticket,
}

/// What those who share a read know of it.
#[derive(Debug, Clone)]
struct Ticket {
    cost: Arc<CostMeter>,
    patience: Patience,
    riders: Arc<Mutex<Riders>>,
}

/// Those who share a read and have not paid for it yet, and what others have paid, in millionths of a
/// call.
#[derive(Debug, Default)]
struct Riders {
    left: u64,
    paid: u64,
}

/// One of those who share a read. It pays its part when it leaves, be it with the answer or before.
struct Ride {
    ticket: Ticket,
    cost: Arc<CostMeter>,
}

// === impl Flights ===

impl<Q, A> Default for Flights<Q, A> {
    fn default() -> Self {
        Self { running: Arc::default(), hasher: RandomState::new(), numbers: AtomicU64::default() }
    }
}

impl<Q, A> Flights<Q, A>
where
    Q: Clone + Eq + Hash + Send + Sync + 'static,
    A: Clone + Send + Sync + 'static,
{
    /// Joins the same read if it is under way, or begins it with `work`.
    ///
    /// Cancel-safe: the read goes on as long as anybody waits for it.
    pub(super) async fn run<F>(
        &self,
        call: &CallContext,
        request: &Q,
        work: impl Fn(CallContext, Arc<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let request = Arc::new(request.clone());
        let mut call = call.clone();
        loop {
            let (answer, ticket, is_own) = self.join(&call, &request, &work);
            let ride = Ride { ticket, cost: Arc::clone(&call.cost) };
            let answer = answer.await;
            drop(ride);
            match &answer {
                // There was time for another attempt, but not for all.
                Err(error) if may_go_on(&call, error) => {
                    call.made = error.upstream().attempts;
                    sleep(error.retry_after().unwrap_or_default()).await;
                }
                // Somebody else's time ran out, or somebody else had not enough of it.
                Err(error) if !is_own && is_personal(error) && call.deadline > Instant::now() => {}
                Ok(_) | Err(_) => return answer,
            }
        }
    }

    /// Lets nobody else join the reads that `is_about` says.
    pub(super) fn forget(&self, portal: &PortalName, is_about: impl Fn(&Q) -> bool) {
        self.running.lock().retain(|_, flights| {
            flights.retain(|flight| flight.portal != *portal || !is_about(&flight.request));
            !flights.is_empty()
        });
    }

    fn join<F>(
        &self,
        call: &CallContext,
        request: &Arc<Q>,
        work: impl Fn(CallContext, Arc<Q>) -> F,
    ) -> (Shared<Answer<A>>, Ticket, bool)
    where
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let hash = self.hasher.hash_one((&call.portal, call.who.priority, request));
        let mut running = self.running.lock();
        // Nearly always there is one.
        let flights = running.entry(hash).or_insert_with(|| Vec::with_capacity(1));
        if let Some((answer, ticket)) = joinable(flights, call, request) {
            ticket.join(call);
            return (answer, ticket, false);
        }
        let patience = Patience::new(call.deadline);
        let ticket = Ticket { cost: Arc::default(), patience, riders: Arc::default() };
        ticket.join(call);
        let own = CallContext {
            cost: Arc::clone(&ticket.cost),
            prepaid: Prepaid::default(),
            patience: ticket.patience.clone(),
            ..call.clone()
        };
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let landing = Landing { running: Arc::clone(&self.running), hash, number };
        // Not an async block: that would take the room of the work twice.
        let work = work(own, Arc::clone(request));
        let answer = work.inspect(move |_| drop(landing)).boxed().shared();
        if let Some(weak) = answer.downgrade() {
            flights.push(Flight {
                number,
                portal: call.portal.clone(),
                priority: call.who.priority,
                request: Arc::clone(request),
                caller: call.who.caller.clone(),
                answer: weak,
                ticket: ticket.clone(),
            });
        }
        (answer, ticket, true)
    }
}

// === impl Ticket ===

impl Ticket {
    fn join(&self, call: &CallContext) {
        self.riders.lock().left += 1;
        self.patience.join(call.deadline);
    }
}

// === impl Ride ===

impl Drop for Ride {
    fn drop(&mut self) {
        let Ticket { cost, riders, .. } = &self.ticket;
        let mut riders = riders.lock();
        let due = cost.millionths().saturating_sub(riders.paid) / riders.left.max(1);
        riders.left = riders.left.saturating_sub(1);
        riders.paid += due;
        drop(riders);
        self.cost.add(due);
        if let Some(id) = cost.correlation_id() {
            self.cost.set_correlation_id(&id);
        }
    }
}

/// The same read that the caller may join: its own, or one that waits for nothing but HubSpot. To
/// wait for a permit at somebody else's place in the queue would not be fair.
fn joinable<Q: Eq, A: Clone>(
    flights: &[Flight<Q, A>],
    call: &CallContext,
    request: &Q,
) -> Option<(Shared<Answer<A>>, Ticket)> {
    let is_same = |flight: &&Flight<Q, A>| {
        flight.priority == call.who.priority
            && flight.portal == call.portal
            && *flight.request == *request
    };
    let own_or_sent = flights
        .iter()
        .filter(is_same)
        .filter(|flight| flight.caller == call.who.caller || flight.ticket.cost.is_under_way());
    own_or_sent.filter_map(|flight| Some((flight.answer.upgrade()?, flight.ticket.clone()))).next()
}

/// Takes a read from those under way when it is over, or when nobody waits for it.
struct Landing<Q, A> {
    running: Arc<Mutex<Running<Q, A>>>,
    hash: u64,
    number: u64,
}

impl<Q, A> Drop for Landing<Q, A> {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        if let Some(flights) = running.get_mut(&self.hash) {
            flights.retain(|flight| flight.number != self.number);
            if flights.is_empty() {
                running.remove(&self.hash);
            }
        }
    }
}

/// Whether an error is about the call that made it, and not about what it asked.
fn is_personal(error: &Error) -> bool {
    error.reason() == Reason::DeadlineExceeded || error.bucket().is_some()
}
