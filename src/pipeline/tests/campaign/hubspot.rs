//! A HubSpot with leads, rate limits and faults that can be switched on, and links of replicas to it that
//! can be cut.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use leadsd_base::task;
use leadsd_quota::{Observation, ObservedLimit, Permit, RateLimited, RetryTime};
use parking_lot::Mutex;
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::lead_in_store;
use crate::{
    hubspot::{Operation, timed_out},
    leads::{
        AffectedInputs, BatchItem, BatchResponse, CallContext, CreateLead, Error, Lead, LeadId,
        Page, Reason, Request, Response, SearchPage, SideEffect, Traced, UpdateLead,
    },
    pipeline::{Dispatch, Layer, late, late_to_send},
};

/// Unique property in which creates store their request id.
pub(in crate::pipeline::tests) const TAG: &str = "leadsd_request_id";

const WINDOW: Duration = Duration::from_secs(10);

const SECOND: Duration = Duration::from_secs(1);

/// Timeout of a request, as configured by default.
pub(in crate::pipeline::tests) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A fault of HubSpot, or of the connection to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pipeline::tests) enum Fault {
    /// Connections are refused.
    Refused,
    /// Connections break after the request was sent.
    Cut,
    /// Requests get no response.
    Hang,
    /// 503 from HubSpot, which may have processed the request.
    ServerError,
    /// 521 from the gateway: HubSpot has not seen the request.
    Gateway,
    /// 429 of the limit per second.
    RateLimitedSecond,
    /// 429 of the limit of ten seconds.
    RateLimitedWindow,
    /// 429 with `Retry-After`.
    RateLimitedStated,
    /// 423: a bulk operation locks the account.
    Locked,
    /// A page of HTML instead of the response to a request that was processed.
    Html,
    /// Responses take seconds.
    Slow,
    /// Responses to batches leave some inputs out.
    Omitted,
}

/// All faults.
pub(in crate::pipeline::tests) const FAULTS: [Fault; 12] = [
    Fault::Refused,
    Fault::Cut,
    Fault::Hang,
    Fault::ServerError,
    Fault::Gateway,
    Fault::RateLimitedSecond,
    Fault::RateLimitedWindow,
    Fault::RateLimitedStated,
    Fault::Locked,
    Fault::Html,
    Fault::Slow,
    Fault::Omitted,
];

/// A lead.
#[derive(Debug, Clone)]
pub(in crate::pipeline::tests) struct StoredLead {
    pub(in crate::pipeline::tests) id: String,
    pub(in crate::pipeline::tests) properties: BTreeMap<String, String>,
}

/// The double.
#[derive(Debug)]
pub(in crate::pipeline::tests) struct Hubspot {
    state: Mutex<State>,
    /// Calls allowed in ten seconds, and ten times those allowed in a second.
    pub(in crate::pipeline::tests) limit: usize,
    /// True if responses announce the limit.
    pub(in crate::pipeline::tests) announces: bool,
    /// Requests beyond the limit.
    overruns: AtomicUsize,
}

#[derive(Debug)]
struct State {
    random: SmallRng,
    /// Faults, and the part of the requests that they affect.
    faults: Vec<Fault>,
    part: f64,
    leads: Vec<StoredLead>,
    by_tag: HashMap<String, usize>,
    arrivals: VecDeque<Instant>,
}

/// The connection of one replica to HubSpot.
#[derive(Debug)]
pub(in crate::pipeline::tests) struct Link {
    hubspot: Arc<Hubspot>,
    /// True once the replica was killed: it sends nothing any more.
    is_dead: AtomicBool,
    in_flight: AtomicUsize,
}

/// Counts a request until it is dropped.
struct InFlight<'a>(&'a AtomicUsize);

// === impl Fault ===

impl Fault {
    /// True if a rate limit of HubSpot rejects the request.
    pub(in crate::pipeline::tests) fn is_429(self) -> bool {
        matches!(self, Self::RateLimitedSecond | Self::RateLimitedWindow | Self::RateLimitedStated)
    }
}

// === impl Hubspot ===

impl Hubspot {
    pub(in crate::pipeline::tests) fn new(seed: u64, limit: usize) -> Arc<Self> {
        let random = SmallRng::seed_from_u64(seed);
        let announces = seed.is_multiple_of(2);
        let state = State {
            random,
            faults: Vec::new(),
            part: 0.0,
            leads: Vec::new(),
            by_tag: HashMap::new(),
            arrivals: VecDeque::new(),
        };
        let overruns = AtomicUsize::new(0);
        Arc::new(Self { state: Mutex::new(state), limit, announces, overruns })
    }

    /// Makes this part of the requests meet one of these faults.
    pub(in crate::pipeline::tests) fn set_faults(&self, faults: &[Fault], part: f64) {
        let mut state = self.state.lock();
        (state.faults, state.part) = (faults.to_vec(), part);
    }

    /// The leads so far.
    pub(in crate::pipeline::tests) fn leads(&self) -> Vec<StoredLead> {
        self.state.lock().leads.clone()
    }

    /// Value of a property of a lead.
    pub(in crate::pipeline::tests) fn value(&self, id: &str, property: &str) -> Option<String> {
        let state = self.state.lock();
        state.leads.iter().find(|lead| lead.id == id)?.properties.get(property).cloned()
    }

    /// Adds a lead of this name, and returns its record id.
    pub(in crate::pipeline::tests) fn add(&self, name: &str) -> String {
        let properties = BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]);
        self.state.lock().store(properties).id
    }

    /// Number of requests that exceeded the limit.
    pub(in crate::pipeline::tests) fn overruns(&self) -> usize {
        self.overruns.load(Ordering::Relaxed)
    }

    /// The fault that a request meets, if any.
    fn draw(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        let part = state.part;
        if state.faults.is_empty() || !state.random.random_bool(part) {
            return None;
        }
        let number = state.faults.len();
        let index = state.random.random_range(0..number);
        Some(state.faults[index])
    }

    /// A random time up to `max`.
    fn time(&self, max: Duration) -> Duration {
        max.mul_f64(self.state.lock().random.random())
    }

    fn coin(&self) -> bool {
        self.state.lock().random.random()
    }

    /// Counts an arrival. Returns the number in the window. Errors with the window that has no room.
    fn count(&self) -> Result<usize, Duration> {
        let now = Instant::now();
        let mut state = self.state.lock();
        while state.arrivals.front().is_some_and(|first| *first + WINDOW <= now) {
            state.arrivals.pop_front();
        }
        let in_second = state.arrivals.iter().rev().take_while(|at| **at + SECOND > now).count();
        if state.arrivals.len() >= self.limit || in_second >= self.limit / 10 {
            self.overruns.fetch_add(1, Ordering::Relaxed);
            return Err(if in_second >= self.limit / 10 { SECOND } else { WINDOW });
        }
        state.arrivals.push_back(now);
        Ok(state.arrivals.len())
    }

    /// The headers of a response.
    fn headers(&self, used: usize) -> Observation {
        if !self.announces {
            return Observation::default();
        }
        let limit = ObservedLimit {
            size: Some(self.limit as u64),
            remaining: Some((self.limit - used) as u64),
            window: Some(WINDOW),
        };
        Observation { limit, ..Observation::default() }
    }
}

// === impl State ===

impl State {
    fn store(&mut self, properties: BTreeMap<String, String>) -> StoredLead {
        let lead = StoredLead { id: (self.leads.len() + 1).to_string(), properties };
        if let Some(tag) = lead.properties.get(TAG) {
            self.by_tag.insert(tag.clone(), self.leads.len());
        }
        self.leads.push(lead.clone());
        lead
    }

    fn create(&mut self, create: &CreateLead) -> Result<Lead, Error> {
        if create.properties.get(TAG).is_some_and(|tag| self.by_tag.contains_key(tag)) {
            return Err(Error::new(Reason::AlreadyExists, "a lead has this value"));
        }
        Ok(lead_in_store(&self.store(create.properties.clone())))
    }

    fn find(&self, id: &LeadId, property: Option<&str>) -> Option<usize> {
        match property {
            Some(TAG) => self.by_tag.get(id.as_str()).copied(),
            Some(_) => None,
            None => id
                .as_str()
                .parse::<usize>()
                .ok()?
                .checked_sub(1)
                .filter(|index| *index < self.leads.len()),
        }
    }

    fn update(&mut self, update: &UpdateLead) -> Result<Lead, Error> {
        let index = self.find(&update.id, update.id_property.as_deref());
        let lead = &mut self.leads[index.ok_or_else(Error::lead_not_found)?];
        lead.properties.extend(update.properties.clone());
        Ok(lead_in_store(lead))
    }

    /// Processes a request.
    fn respond(&mut self, request: &Request) -> Result<Response, Error> {
        let mut response = BatchResponse::default();
        match request {
            Request::Get(get) => {
                let index = self.find(&get.id, get.id_property.as_deref());
                let lead = &self.leads[index.ok_or_else(Error::lead_not_found)?];
                return Ok(Response::Lead(lead_in_store(lead).into()));
            }
            Request::Create(create) => return Ok(Response::Lead(self.create(create)?.into())),
            Request::Update(update) => return Ok(Response::Lead(self.update(update)?.into())),
            Request::BatchRead(read) => {
                let mut missing = Vec::new();
                for id in &read.ids {
                    match self.find(id, read.id_property.as_deref()) {
                        Some(index) => {
                            let lead = lead_in_store(&self.leads[index]);
                            response.results.push(BatchItem {
                                lead,
                                trace_id: None,
                                created: None,
                            });
                        }
                        None => missing.push(id.to_string()),
                    }
                }
                if !missing.is_empty() {
                    let affected = AffectedInputs { ids: missing, ..AffectedInputs::default() };
                    let error = Error::lead_not_found().with_affected_inputs(affected);
                    response.errors.push(error);
                }
            }
            Request::BatchCreate(inputs) => {
                let is_taken = |traced: &Traced<CreateLead>| {
                    let tag = traced.input.properties.get(TAG);
                    tag.is_some_and(|tag| self.by_tag.contains_key(tag))
                };
                if inputs.iter().any(is_taken) {
                    return Err(Error::new(Reason::AlreadyExists, "a lead has one of the values"));
                }
                for Traced { trace_id, input } in inputs {
                    push(&mut response, trace_id, self.create(input)?);
                }
            }
            Request::BatchUpdate(inputs) => {
                for Traced { trace_id, input } in inputs {
                    push(&mut response, trace_id, self.update(input)?);
                }
            }
            Request::List(_) => return Ok(Response::Page(Page::default().into())),
            Request::Search(_) => return Ok(Response::SearchPage(SearchPage::default().into())),
            // The probe of the circuit of writes.
            Request::BatchArchive(ids) if ids.is_empty() => {
                return Err(Error::new(Reason::ValidationFailed, "no inputs"));
            }
            Request::Archive(_)
            | Request::BatchArchive(_)
            | Request::Upsert { .. }
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ChangeAssociations(_)
            | Request::ReadSchema(_)
            | Request::FindContacts(_)
            | Request::CreateContacts(_) => panic!("no part of the campaign: {request:?}"),
        }
        // HubSpot's order is random.
        let middle = self.random.random_range(0..=response.results.len());
        response.results.rotate_left(middle);
        Ok(Response::Batch(response))
    }
}

fn push(response: &mut BatchResponse, trace_id: &str, lead: Lead) {
    let trace_id = Some(trace_id.to_owned());
    response.results.push(BatchItem { lead, trace_id, created: None });
}

// === impl Link ===

impl Link {
    pub(in crate::pipeline::tests) fn new(hubspot: &Arc<Hubspot>) -> Arc<Self> {
        Arc::new(Self {
            hubspot: Arc::clone(hubspot),
            is_dead: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
        })
    }

    /// Cuts the replica off, as if its process was killed.
    pub(in crate::pipeline::tests) fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    pub(in crate::pipeline::tests) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Number of requests without a response.
    pub(in crate::pipeline::tests) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Processes a create some time later, when its caller has given up. If its repeat was faster, HubSpot
    /// rejects it.
    fn process_late(&self, request: &Arc<Request>) {
        if !matches!(**request, Request::Create(_) | Request::BatchCreate(_)) {
            return;
        }
        let (hubspot, request) = (Arc::clone(&self.hubspot), Arc::clone(request));
        let after = hubspot.time(20 * SECOND);
        task::spawn("late create", "", async move {
            sleep(after).await;
            let _ = hubspot.state.lock().respond(&request);
        })
        .detach();
    }

    /// Sends one request, and returns its result as the HTTP layer does.
    async fn exchange(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        mut permit: Permit,
    ) -> Result<Response, Error> {
        let operation = Operation::from(&*request);
        let hubspot = &self.hubspot;
        permit.mark_sent(request.leads());
        ctx.cost.count();
        let timeout = Instant::now() + REQUEST_TIMEOUT;
        let is_of_caller = !operation.writes() && ctx.deadline < timeout;
        let until = if is_of_caller { ctx.deadline } else { timeout };
        let too_late = || if is_of_caller { late() } else { timed_out(operation) };
        let fault = hubspot.draw();
        sleep(Duration::from_millis(10) + hubspot.time(Duration::from_millis(40))).await;
        let (used, permit) = self.arrive(fault, permit)?;
        if let Some(error) = self.failure(fault, &request, operation) {
            if fault == Some(Fault::Hang) {
                sleep_until(until).await;
                return Err(too_late());
            }
            permit.observe(hubspot.headers(used));
            return Err(error);
        }
        let response = hubspot.state.lock().respond(&request);
        let latency = if fault == Some(Fault::Slow) {
            2 * SECOND + hubspot.time(6 * SECOND)
        } else {
            Duration::from_millis(10) + hubspot.time(Duration::from_millis(60))
        };
        if Instant::now() + latency > until {
            sleep_until(until).await;
            return Err(too_late());
        }
        sleep(latency).await;
        if fault == Some(Fault::Cut) {
            return Err(timed_out(operation));
        }
        permit.observe(hubspot.headers(used));
        if fault == Some(Fault::Html) {
            return Err(html(operation));
        }
        response.map(|response| self.without_some(response, fault))
    }

    /// Counts the arrival of a request. Returns the calls in the window and the permit. Errors if the
    /// request does not arrive, or if a limit rejects it.
    fn arrive(&self, fault: Option<Fault>, permit: Permit) -> Result<(usize, Permit), Error> {
        let window = match fault {
            Some(Fault::Refused) => {
                return Err(Error::new(Reason::UpstreamUnavailable, "cannot connect to HubSpot"));
            }
            Some(Fault::Gateway) => {
                return Err(Error::new(
                    Reason::UpstreamUnavailable,
                    "no connection behind HubSpot",
                )
                .with_retry_after(3 * SECOND));
            }
            Some(Fault::RateLimitedSecond) => RetryTime::Window(SECOND),
            Some(Fault::RateLimitedWindow) => RetryTime::Window(WINDOW),
            Some(Fault::RateLimitedStated) => RetryTime::Stated(4 * SECOND),
            Some(
                Fault::Cut
                | Fault::Hang
                | Fault::ServerError
                | Fault::Locked
                | Fault::Html
                | Fault::Slow
                | Fault::Omitted,
            )
            | None => match self.hubspot.count() {
                Ok(used) => return Ok((used, permit)),
                Err(window) => RetryTime::Window(window),
            },
        };
        Err(limited(permit, window))
    }

    /// Error of a request that HubSpot receives and does not respond to as usual. It may process it.
    fn failure(
        &self,
        fault: Option<Fault>,
        request: &Arc<Request>,
        operation: Operation,
    ) -> Option<Error> {
        let error = timed_out(operation);
        match fault {
            Some(Fault::Locked) => {
                let error = Error::new(Reason::AccountLocked, "a bulk operation locks the account");
                Some(error.with_retry_after(2 * SECOND))
            }
            Some(Fault::Hang) => {
                if self.hubspot.coin() {
                    drop(self.hubspot.state.lock().respond(request));
                } else {
                    self.process_late(request);
                }
                Some(error)
            }
            Some(Fault::ServerError) => {
                if self.hubspot.coin() {
                    drop(self.hubspot.state.lock().respond(request));
                }
                let is_unknown = error.reason() == Reason::WriteOutcomeUnknown;
                Some(if is_unknown { error } else { error.with_retry_after(3 * SECOND) })
            }
            Some(
                Fault::Refused
                | Fault::Cut
                | Fault::Gateway
                | Fault::RateLimitedSecond
                | Fault::RateLimitedWindow
                | Fault::RateLimitedStated
                | Fault::Html
                | Fault::Slow
                | Fault::Omitted,
            )
            | None => None,
        }
    }

    /// A response to a batch without some of its results.
    fn without_some(&self, mut response: Response, fault: Option<Fault>) -> Response {
        if let (Response::Batch(batch), Some(Fault::Omitted)) = (&mut response, fault) {
            batch.results.retain(|_| self.hubspot.coin());
        }
        response
    }
}

impl Layer for Link {
    async fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        if self.is_dead() {
            return pending().await;
        }
        if Instant::now() >= ctx.deadline {
            return Err(late_to_send());
        }
        let permit = dispatch.permit.expect("a permit");
        assert!(dispatch.token.is_some(), "a token");
        let in_flight = InFlight::new(&self.in_flight);
        let result = self.exchange(ctx, request, permit).await;
        drop(in_flight);
        // A replica that was killed receives no response.
        if self.is_dead() { pending().await } else { result }
    }
}

// === impl InFlight ===

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Error of a request that a limit rejects, which the quota learns.
fn limited(permit: Permit, retry: RetryTime) -> Error {
    let rate_limited = Some(RateLimited::Bucket(retry));
    permit.observe(Observation { rate_limited, ..Observation::default() });
    let (RetryTime::Stated(wait) | RetryTime::Window(wait)) = retry;
    Error::new(Reason::RateLimited, "HubSpot's rate limit is exhausted").with_retry_after(wait)
}

/// Error of a response that is no JSON.
fn html(operation: Operation) -> Error {
    let error = timed_out(operation);
    if error.reason() == Reason::WriteOutcomeUnknown {
        return error;
    }
    let effect = if operation.writes() { SideEffect::Possible } else { SideEffect::None };
    Error::new(Reason::UpstreamInvalidResponse, "HubSpot's response is no JSON")
        .with_side_effect(effect)
}
