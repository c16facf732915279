//! A portal in memory with latency and faults, whose creates have a tag.
#![expect(clippy::wildcard_enum_match_arm, reason = "rows send a few requests")]

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::leads::{
    context::Portal,
    context::{CallContext, Upstream},
    error::{Error, Reason, SideEffect},
    lead::Lead,
    query::{BatchRead, LeadId},
    request::{BatchItem, ChunkOutcomes, Outcome, Request, Response},
    testing::RecordingUpstream,
};

/// Property with the tags of creates.
const TAG: &str = "leadsd_request_id";

/// Fault of a write.
pub(super) enum Fault {
    None,
    /// The response comes after this time.
    Delay(Duration),
    /// The content is rejected.
    Reject,
    /// The write fails without an effect.
    Fail(Reason),
    /// The write takes effect, and its response is lost.
    Lose,
}

type Decide = dyn Fn(&str, usize) -> Fault + Send + Sync;

/// Portal whose faults depend on the name of the lead and on the number of earlier writes.
#[derive(Clone)]
pub(super) struct TestPortal(Arc<State>);

struct State {
    decide: Box<Decide>,
    leads: Mutex<Leads>,
    lookups_fail_until: Mutex<Instant>,
}

#[derive(Default)]
struct Leads {
    writes: usize,
    /// Names and tags, by position.
    created: Vec<(String, Option<String>)>,
}

// === impl TestPortal ===

impl TestPortal {
    pub(super) fn new(decide: impl Fn(&str, usize) -> Fault + Send + Sync + 'static) -> Self {
        let decide = Box::new(decide);
        let lookups_fail_until = Mutex::new(Instant::now());
        Self(Arc::new(State { decide, leads: Mutex::default(), lookups_fail_until }))
    }

    /// Lookups by tag fail for this time.
    pub(super) fn fail_lookups_for(&self, time: Duration) {
        *self.0.lookups_fail_until.lock() = Instant::now() + time;
    }

    /// A context without a near deadline.
    pub(super) fn context(&self) -> CallContext {
        let template = RecordingUpstream::new(|_, _| Ok(Response::Archived)).context(Some(TAG));
        let portal = Portal {
            name: template.portal.name.clone(),
            upstream: Arc::new(self.clone()),
            settings: template.portal.settings.clone(),
        };
        let deadline = Instant::now() + Duration::from_secs(86_400);
        CallContext { portal: Arc::new(portal), deadline, ..template }
    }

    /// Names of the leads that were created.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.leads.lock().created.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn write(&self, name: &str) -> Result<bool, Error> {
        let number = {
            let mut leads = self.0.leads.lock();
            leads.writes += 1;
            leads.writes
        };
        match (self.0.decide)(name, number) {
            Fault::None => Ok(true),
            Fault::Delay(time) => {
                sleep(time).await;
                Ok(true)
            }
            Fault::Reject => Err(Error::new(Reason::ValidationFailed, "the value is invalid")),
            Fault::Fail(reason) => Err(Error::new(reason, "of the test")),
            Fault::Lose => Ok(false),
        }
    }

    async fn create(&self, properties: BTreeMap<String, String>) -> Result<Lead, Error> {
        let name = properties["hs_lead_name"].clone();
        let is_received = self.write(&name).await?;
        let lead = {
            let mut leads = self.0.leads.lock();
            let tag = properties.get(TAG).cloned();
            if tag.is_some() && leads.created.iter().any(|(_, other)| *other == tag) {
                return Err(Error::new(Reason::AlreadyExists, "a lead has the tag"));
            }
            leads.created.push((name, tag));
            lead(leads.created.len(), properties)
        };
        match is_received {
            true => Ok(lead),
            false => Err(Error::new(Reason::WriteOutcomeUnknown, "the response is lost")
                .with_side_effect(SideEffect::Possible)),
        }
    }

    fn find(&self, tag: &LeadId) -> Outcome {
        let leads = self.0.leads.lock();
        let found = leads.created.iter().position(|(_, own)| own.as_deref() == Some(tag.as_str()));
        let number = found.ok_or_else(Error::lead_not_found)?;
        let (name, tag) = leads.created[number].clone();
        let properties = BTreeMap::from([
            ("hs_lead_name".to_owned(), name),
            (TAG.to_owned(), tag.unwrap_or_default()),
        ]);
        Ok(Some(item(lead(number + 1, properties), None)))
    }
}

#[async_trait]
impl Upstream for TestPortal {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        ctx.cost.count();
        let outcomes = match request {
            Request::Create(create) => {
                let lead = self.create(create.properties).await?;
                return Ok(Response::Lead(lead.into()));
            }
            Request::Update(update) => {
                self.write(update.id.as_str()).await?;
                return Ok(Response::Lead(lead(7, update.properties).into()));
            }
            Request::Archive(id) => {
                self.write(id.as_str()).await?;
                return Ok(Response::Archived);
            }
            Request::BatchCreate(inputs) => {
                let mut outcomes = Vec::new();
                for input in inputs {
                    let created = self.create(input.input.properties).await;
                    outcomes.push(created.map(|lead| Some(item(lead, None))));
                }
                outcomes
            }
            Request::BatchRead(_) if Instant::now() < *self.0.lookups_fail_until.lock() => {
                return Err(Error::new(Reason::UpstreamUnavailable, "of the test"));
            }
            Request::BatchRead(BatchRead { ids, .. }) => {
                ids.iter().map(|id| self.find(id)).collect()
            }
            Request::Upsert { inputs, .. } => {
                let upserted = |input: crate::leads::Traced<crate::leads::UpsertLead>| {
                    let is_new = input.input.id.as_str() == "new";
                    Ok(Some(item(lead(8, input.input.properties), Some(is_new))))
                };
                inputs.into_iter().map(upserted).collect()
            }
            other => panic!("no row sends {other:?}"),
        };
        Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
    }
}

impl fmt::Debug for TestPortal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestPortal")
    }
}

fn lead(number: usize, properties: BTreeMap<String, String>) -> Lead {
    Lead { id: (100 + number).to_string(), properties, ..Lead::default() }
}

fn item(lead: Lead, created: Option<bool>) -> BatchItem {
    BatchItem { lead, trace_id: None, created }
}
