//! Doubles of the domain's ports for unit tests of this crate.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use leadsd_quota::{Caller, Priority, Requester};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    association_type::AssociationType,
    charge::{MemoryAccount, Unlimited},
    context::{CallContext, Guard, Portal, PortalName, PortalSettings, Upstream},
    cost::CostMeter,
    error::{Error, Reason},
    lead::{Associated, AssociatedObject},
    rejection_search::RejectionSearch,
    request::{Link, Links, Request, Response},
};
use crate::telemetry::trace_context::TraceContext;

/// An upstream that no test calls.
#[derive(Debug)]
struct NoUpstream;

#[async_trait]
impl Upstream for NoUpstream {
    async fn call(&self, _: &CallContext, _: Request) -> Result<Response, Error> {
        Err(Error::new(Reason::Internal, "the test has no upstream"))
    }
}

type Respond = dyn Fn(usize, &Request) -> Result<Response, Error> + Send + Sync;

/// An upstream that responds by a function of the number of earlier requests and the request, and
/// records every request.
pub(super) struct RecordingUpstream {
    respond: Box<Respond>,
    requests: Mutex<Vec<Request>>,
}

// === impl RecordingUpstream ===

impl RecordingUpstream {
    pub(super) fn new(
        respond: impl Fn(usize, &Request) -> Result<Response, Error> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { respond: Box::new(respond), requests: Mutex::default() })
    }

    /// The requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }

    /// The context of a call with a deadline in ten seconds. `property` stores the request ids of
    /// creates.
    pub(super) fn context(self: &Arc<Self>, property: Option<&str>) -> CallContext {
        let name = PortalName::parse("default").expect("a valid name");
        let upstream = Arc::clone(self);
        CallContext {
            portal: Arc::new(Portal {
                name,
                upstream,
                settings: PortalSettings {
                    request_id_property: property.map(str::to_owned),
                    ..PortalSettings::default()
                },
            }),
            deadline: Instant::now() + Duration::from_secs(10),
            requester: Requester { caller: Caller::new("web"), priority: Priority::Interactive },
            request_id: "call-1".into(),
            trace: TraceContext::root(0.0),
            cost: Arc::new(CostMeter::default()),
            search: RejectionSearch::default(),
            is_row: false,
            may_create_contacts: true,
            memory: Arc::new(Unlimited),
            guard: Guard::default(),
        }
    }
}

impl fmt::Debug for RecordingUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordingUpstream")
    }
}

#[async_trait]
impl Upstream for RecordingUpstream {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        ctx.cost.count();
        let number = {
            let mut requests = self.requests.lock();
            requests.push(request.clone());
            requests.len() - 1
        };
        (self.respond)(number, &request)
    }
}

/// A memory account with a limit that records its use.
#[derive(Debug)]
pub(crate) struct TestAccount {
    limit: usize,
    /// Maximum size of one charge.
    max_charge: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
}

// === impl TestAccount ===

impl TestAccount {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Self::with_large(limit, usize::MAX)
    }

    /// Creates an account that rejects charges of more than `max_charge` bytes as large.
    pub(crate) fn with_large(limit: usize, max_charge: usize) -> Arc<Self> {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { limit, max_charge, used, peak })
    }

    /// Number of charged bytes.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Number of bytes up to the limit.
    pub(crate) fn free(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Highest number of charged bytes so far.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

impl MemoryAccount for TestAccount {
    fn check_growth(&self, _: usize, after: usize) -> Result<(), Error> {
        if after > self.max_charge {
            return Err(Error::new(Reason::Overloaded, "the charge of the test is large"));
        }
        Ok(())
    }

    fn try_charge(&self, bytes: usize) -> Result<(), Error> {
        if self.used() + bytes > self.limit {
            return Err(Error::new(Reason::Overloaded, "the account of the test is full"));
        }
        self.charge(bytes);
        Ok(())
    }

    fn charge(&self, bytes: usize) {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(used, Ordering::Relaxed);
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn shared(self: Arc<Self>) -> Arc<dyn MemoryAccount> {
        Self::new(self.limit)
    }
}

/// The complete associations of a lead with these records, in this order.
pub(crate) fn links(lead: &str, records: &[Link]) -> Links {
    let entries = |record: &Link| {
        let entry = |kind: &AssociationType| AssociatedObject {
            association_type: Some(*kind),
            ..AssociatedObject::named(&record.id, "")
        };
        record.types.iter().map(entry).collect::<Vec<_>>()
    };
    let objects = records.iter().flat_map(entries).collect();
    Links { page: Associated { objects, next: None }, ..Links::none(lead.to_owned()) }
}

/// A portal of this name whose upstream no test calls.
pub(crate) fn portal(name: &PortalName) -> Arc<Portal> {
    let upstream = Arc::new(NoUpstream);
    Arc::new(Portal { name: name.clone(), upstream, settings: PortalSettings::default() })
}
