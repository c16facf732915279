//! Portals and their pipelines: builds one stack of layers per portal, on first use.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    future::ready,
    sync::Arc,
};

use futures_util::future::BoxFuture;
use leadsd_credentials::{Credentials, Handle};
use leadsd_quota::{Account, Quota};
use parking_lot::RwLock;

use super::{
    Dispatch, Layer,
    authenticate::Authenticate,
    batching::Batching,
    breaker::{Breaker, BreakerSettings, Circuits, HealthMonitor},
    contacts::Contacts,
    created_leads::IdentifyCreated,
    http::Http,
    isolation::Isolation,
    long_selection,
    rate_limit::RateLimit,
    retry::Retry,
    single_flight::SingleFlight,
    stats::{CallStats, Latencies, Latency, PortalStats},
    upsert::Upsert,
    write_order::WriteOrder,
};
use crate::{
    hubspot::{HubspotClient, PortalClients, RequestFit},
    leads::{CallContext, Error, Portal, PortalName, PortalSettings, Request, Response, Upstream},
    telemetry::spans::SpanSink,
};

/// Settings of the pipelines.
#[derive(Debug, Clone)]
pub struct PipelineSettings {
    /// True if requests are batched and reads shared. Writes to one lead are ordered regardless.
    pub batching: bool,
    /// Maximum number of attempts of one request, the first one included.
    pub max_attempts: u32,
    /// Bounds of the time after which an unanswered request counts as a failure of HubSpot.
    pub breaker: BreakerSettings,
    /// Settings of portals, by name.
    pub portals: BTreeMap<PortalName, PortalSettings>,
    /// Settings of the portals that are not listed.
    pub other_portals: PortalSettings,
}

/// Portals with their pipelines.
pub struct Portals {
    settings: PipelineSettings,
    clients: PortalClients,
    quota: Arc<Quota>,
    credentials: Arc<Credentials>,
    spans: SpanSink,
    latencies: Arc<Latencies>,
    built: RwLock<HashMap<PortalName, Built>>,
}

/// A portal whose pipeline was built.
#[derive(Debug, Clone)]
struct Built {
    portal: Arc<Portal>,
    tokens: Handle,
    stats: Arc<PortalStats>,
    circuits: Arc<Circuits>,
}

/// Resources of one portal that its layers use.
pub(super) struct StackParts<'a> {
    /// Name of the portal.
    pub(super) portal: &'a str,
    /// Quota of the portal.
    pub(super) account: Arc<Account>,
    /// Access tokens of the portal.
    pub(super) tokens: Handle,
    /// State of the circuit breakers.
    pub(super) circuits: Arc<Circuits>,
    /// Counters of the portal.
    pub(super) stats: Arc<PortalStats>,
    /// Maximum size of a response of HubSpot in bytes.
    pub(super) max_response_bytes: usize,
    /// Maximum number of queued requests.
    pub(super) max_queue: usize,
}

/// The top of a stack: checks requests before they enter it.
#[derive(Debug)]
struct Pipeline<L> {
    client: HubspotClient,
    stack: L,
}

// === impl Portals ===

impl Portals {
    /// Portals that send requests with `clients`, limited by `quota`, with tokens of `credentials`.
    pub fn new(
        settings: PipelineSettings,
        clients: PortalClients,
        quota: Arc<Quota>,
        credentials: Arc<Credentials>,
        spans: SpanSink,
    ) -> Self {
        let latencies = Arc::default();
        let built = RwLock::default();
        Self { settings, clients, quota, credentials, spans, latencies, built }
    }

    /// The portal of this name. `None` if it is neither configured nor discovered.
    pub fn get(&self, name: &PortalName) -> Option<Arc<Portal>> {
        let tokens = self.credentials.handle(name.as_str())?;
        if let Some(built) = self.built.read().get(name)
            && built.tokens.is_same(&tokens)
        {
            return Some(Arc::clone(&built.portal));
        }
        let mut all = self.built.write();
        // Another call may have built it, or the portal was removed and added again: then its
        // tokens are those of another engine.
        let is_current = all.get(name).is_some_and(|built| built.tokens.is_same(&tokens));
        if !is_current {
            let built = self.build(name, tokens);
            all.insert(name.clone(), built);
        }
        all.get(name).map(|built| Arc::clone(&built.portal))
    }

    /// Names of all portals, in order.
    pub fn names(&self) -> Vec<PortalName> {
        let names = self.credentials.names();
        names.iter().filter_map(|name| PortalName::parse(name)).collect()
    }

    /// HTTP requests so far, for each portal that was called, in order of their names.
    pub fn call_stats(&self) -> Vec<CallStats> {
        let built = self.built.read();
        let mut all: Vec<_> = built
            .iter()
            .map(|(name, built)| {
                built.stats.snapshot(name.clone(), built.circuits.stats().to_vec())
            })
            .collect();
        all.sort_by(|a, b| a.portal.cmp(&b.portal));
        all
    }

    /// Latency of HubSpot so far, for each operation that was requested.
    pub fn latencies(&self) -> Vec<Latency> {
        self.latencies.snapshot()
    }

    fn build(&self, name: &PortalName, tokens: Handle) -> Built {
        let PipelineSettings { portals, other_portals, .. } = &self.settings;
        let account = self.quota.account(name.as_str());
        let (stats, circuits): (Arc<PortalStats>, Arc<Circuits>) = Default::default();
        let client = self.clients.get(name).clone();
        let http = Http::new(
            client.clone(),
            Arc::clone(&stats),
            Arc::clone(&self.latencies),
            self.spans.clone(),
        );
        let parts = StackParts {
            portal: name.as_str(),
            account,
            tokens: tokens.clone(),
            circuits: Arc::clone(&circuits),
            stats: Arc::clone(&stats),
            max_response_bytes: client.max_response_bytes(),
            max_queue: self.quota.max_queue(),
        };
        let stack = stack(http, parts, &self.settings);
        let upstream = Arc::new(Pipeline { client, stack });
        let settings = portals.get(name).unwrap_or(other_portals).clone();
        let portal = Portal { name: name.clone(), upstream, settings };
        Built { portal: Arc::new(portal), tokens, stats, circuits }
    }
}

impl fmt::Debug for Portals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// Builds the layers of one portal above `http`.
pub(super) fn stack<H: Layer>(
    http: H,
    parts: StackParts<'_>,
    settings: &PipelineSettings,
) -> impl Layer + use<H> {
    let StackParts { portal, account, tokens, circuits, stats, max_response_bytes, max_queue } =
        parts;
    let PipelineSettings { batching, max_attempts, breaker, .. } = *settings;
    let monitored = HealthMonitor::new(http, Arc::clone(&circuits), breaker);
    let limited = RateLimit::new(monitored, Arc::clone(&account));
    let authenticated = Authenticate::new(limited, tokens);
    let protected = Breaker::new(authenticated, circuits);
    let retried = Retry::new(protected, max_attempts, stats);
    let identified = IdentifyCreated::new(retried);
    let batched =
        Batching::new(identified, portal, Arc::clone(&account), max_response_bytes, batching);
    let batched = Arc::new(batched);
    let isolated = Isolation::new(Arc::clone(&batched), batched.not_found());
    let lookups = SingleFlight::new(Arc::clone(&batched), Arc::clone(&batched), batching);
    let with_contacts = Contacts::new(isolated, lookups);
    let upserted = Upsert::new(with_contacts);
    let ordered = WriteOrder::new(upserted, account, max_queue);
    SingleFlight::new(batched, ordered, batching)
}

/// A portal whose requests are sent once, without retries, batching or write order: for diagnostics.
pub fn direct_portal(
    name: PortalName,
    client: HubspotClient,
    tokens: Handle,
    account: Arc<Account>,
) -> Arc<Portal> {
    let http = Http::new(client.clone(), Arc::default(), Arc::default(), SpanSink::default());
    let stack = Authenticate::new(RateLimit::new(http, account), tokens);
    let upstream = Arc::new(Pipeline { client, stack });
    Arc::new(Portal { name, upstream, settings: PortalSettings::default() })
}

impl<L: Layer> Upstream for Pipeline<L> {
    // Not an async function, which would store the request while it waits, and twice.
    fn call<'life0, 'life1, 'async_trait>(
        &'life0 self,
        ctx: &'life1 CallContext,
        request: Request,
    ) -> BoxFuture<'async_trait, Result<Response, Error>>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        Self: 'async_trait,
    {
        match self.client.check(&request) {
            Ok(RequestFit::Fits) => {
                Box::pin(self.stack.call(ctx, Arc::new(request), Dispatch::new(ctx)))
            }
            Ok(RequestFit::LongSelection) => {
                Box::pin(long_selection::send(&self.stack, ctx, request))
            }
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}
