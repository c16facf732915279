//! Fixtures of the layers' tests: contexts, accounts, requests and responses. And the size of the stack.

mod campaign;
mod exports;
mod hanging_writes;
mod lost_writes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leadsd_base::{
    secret::Secret,
    time::{SystemClock, Zone},
};
use leadsd_credentials::Handle;
use leadsd_quota::{Account, Caller, Priority, Quota, Requester, Settings};
use tokio::time::Instant;

use super::{
    Dispatch, Layer,
    authenticate::Authenticate,
    batching::Batching,
    rate_limit::RateLimit,
    retry::Retry,
    scripted::{Scripted, ScriptedUpstream},
};
use crate::{
    leads::{
        BatchItem, BatchResponse, CallContext, ChunkOutcomes, CostMeter, CreateLead, Error,
        GetLead, Guard, Lead, LeadId, PortalName, Reason, RejectionSearch, Request, Response,
        Selection, Traced, Unlimited, UpdateLead, UpsertLead,
        contacts::{ContactEmail, NewContact},
        schema::SchemaPage,
        testing::portal,
    },
    telemetry::trace_context::TraceContext,
};

/// A context of `caller` with a deadline in `time`.
pub(super) fn context_of(caller: &str, priority: Priority, time: Duration) -> CallContext {
    let name = PortalName::parse("default").unwrap();
    CallContext {
        portal: portal(&name),
        deadline: Instant::now() + time,
        requester: Requester { caller: Caller::new(caller), priority },
        request_id: "test".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        search: RejectionSearch::default(),
        is_row: false,
        may_create_contacts: true,
        memory: Arc::new(Unlimited),
        guard: Guard::default(),
    }
}

/// An interactive context with a deadline in `time`.
pub(super) fn context(time: Duration) -> CallContext {
    context_of("test", Priority::Interactive, time)
}

/// An account that allows `burst` requests in ten seconds and `burst` / 10 in a second.
pub(super) fn account(burst: u64, max_queue: usize) -> Arc<Account> {
    let settings = Settings {
        burst,
        burst_window: Duration::from_secs(10),
        search_per_second: 5,
        daily: None,
        max_queue,
        max_concurrency: 1_000,
        max_caller_share: 1.0,
        weights: BTreeMap::new(),
        zones: BTreeMap::new(),
        zone: Zone::default(),
        ledger: None,
    };
    Quota::new(settings, Arc::new(SystemClock)).account("default")
}

/// A read of one lead by record id.
pub(super) fn get(id: &str) -> Arc<Request> {
    Arc::new(Request::Get(GetLead {
        id: lead_id(id),
        id_property: None,
        selection: Selection {
            properties: vec!["hs_lead_name".to_owned()],
            ..Selection::default()
        },
        archived: false,
    }))
}

/// A create of one lead.
pub(super) fn create(name: &str) -> Arc<Request> {
    let properties = BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]);
    Arc::new(Request::Create(CreateLead {
        properties,
        associations: Vec::new(),
        contact: None,
        trace_id: None,
    }))
}

/// An update of one lead by record id.
pub(super) fn update(id: &str, name: &str) -> Arc<Request> {
    let properties = BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]);
    Arc::new(Request::Update(UpdateLead {
        id: lead_id(id),
        id_property: None,
        properties,
        trace_id: None,
    }))
}

/// A parsed id.
pub(super) fn lead_id(id: &str) -> LeadId {
    LeadId::parse(id).unwrap()
}

/// A lead with this record id.
pub(super) fn lead(id: &str) -> Lead {
    Lead { id: id.to_owned(), ..Lead::default() }
}

/// The lead in a response.
pub(super) fn lead_in(result: Result<Response, Error>) -> Result<Lead, Error> {
    result.and_then(Response::into_lead).map(Arc::unwrap_or_clone)
}

/// A response with this lead.
pub(super) fn found(id: &str) -> Result<Response, Error> {
    Ok(Response::Lead(lead(id).into()))
}

/// A contact with this number and address.
pub(super) fn contact((number, email): (usize, &ContactEmail)) -> BatchItem {
    let properties = BTreeMap::from([("email".to_owned(), email.as_str().to_owned())]);
    let lead = Lead { properties, ..lead(&number.to_string()) };
    BatchItem { lead, trace_id: None, created: None }
}

/// HubSpot's ordinary response to a request: every lead exists, every write succeeds, and trace ids
/// are returned.
pub(super) fn ordinary(request: &Request) -> Result<Response, Error> {
    let written = |id: String, trace_id: &str| BatchItem {
        lead: lead(&id),
        trace_id: Some(trace_id.to_owned()),
        created: None,
    };
    let results = match request {
        Request::Get(get) => return found(get.id.as_str()),
        Request::Update(update) => return found(update.id.as_str()),
        Request::Create(create) => return found(&create.properties["hs_lead_name"]),
        Request::Archive(_) => return Ok(Response::Archived),
        Request::BatchRead(read) => read
            .ids
            .iter()
            .map(|id| BatchItem { lead: lead(id.as_str()), trace_id: None, created: None })
            .collect(),
        Request::BatchCreate(inputs) => inputs
            .iter()
            .map(|traced| {
                let name = &traced.input.properties["hs_lead_name"];
                written(name.clone(), &traced.trace_id)
            })
            .collect(),
        Request::BatchUpdate(inputs) => inputs
            .iter()
            .map(|traced| written(traced.input.id.to_string(), &traced.trace_id))
            .collect(),
        Request::Upsert { inputs, .. } => {
            let outcome = |traced: &Traced<UpsertLead>| {
                Ok(Some(written(traced.input.id.to_string(), &traced.trace_id)))
            };
            let outcomes = inputs.iter().map(outcome).collect();
            return Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }));
        }
        Request::BatchArchive(_) | Request::ChangeAssociations(_) => Vec::new(),
        Request::List(_) => return Ok(Response::Page(crate::leads::Page::default().into())),
        Request::Search(_) => {
            return Ok(Response::SearchPage(crate::leads::SearchPage::default().into()));
        }
        Request::ReadAssociations { .. } => return Ok(Response::Associations(Vec::new())),
        Request::ListAssociations(_) => return Ok(Response::Associated(Arc::default())),
        Request::FindContacts(emails) => (1..).zip(emails).map(contact).collect(),
        Request::CreateContacts(contacts) => {
            let created = |(number, own): (usize, &Traced<NewContact>)| BatchItem {
                trace_id: Some(own.trace_id.clone()),
                ..contact((number, &own.input.email))
            };
            (1..).zip(contacts).map(created).collect()
        }
        Request::ReadSchema(_) => {
            return Ok(Response::Schema(SchemaPage::AssociationTypes(Vec::new())));
        }
    };
    Ok(Response::Batch(BatchResponse { results, errors: Vec::new() }))
}

/// An error that HubSpot is unavailable.
pub(super) fn unavailable() -> Error {
    Error::new(Reason::UpstreamUnavailable, "HubSpot is unavailable")
}

/// Maximum number of bytes that the layers add to the future of a read. Thousands of them wait at a time,
/// and each is moved into a box.
const MAX_LAYERS_SIZE: usize = 700;

#[tokio::test(start_paused = true)]
async fn the_layers_add_little_to_the_future_of_a_read() {
    let upstream = ScriptedUpstream::new(|call| Scripted::now(ordinary(&call.request)));
    let account = account(190, 100);
    let tokens = Handle::fixed(Secret::from("token".to_owned()));
    let limited = RateLimit::new(Arc::clone(&upstream), Arc::clone(&account));
    let retried = Retry::new(Authenticate::new(limited, tokens), 4, Arc::default());
    let batched = Batching::new(retried, "default", Arc::clone(&account), 1 << 20, true);
    let ctx = context(Duration::from_secs(10));
    let of_request = size_of_val(&upstream.call(&ctx, get("1"), Dispatch::new(&ctx)));
    let of_stack = size_of_val(&batched.call(&ctx, get("1"), Dispatch::new(&ctx)));
    assert!(of_stack - of_request <= MAX_LAYERS_SIZE, "{of_stack} - {of_request}");
}
