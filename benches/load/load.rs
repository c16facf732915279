//! Closed loops: callers that each make one call after the other.

use std::{future::Future, time::Duration};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request, Status, transport::Channel};

/// Deadline of every call that names no other.
const DEADLINE: Duration = Duration::from_secs(60);

/// Result of one call.
#[derive(Debug, Clone)]
pub(crate) struct CallRecord {
    pub(crate) completed_at: Instant,
    pub(crate) latency: Duration,
    /// `None` if the call succeeded.
    pub(crate) failure: Option<(Code, String)>,
}

/// RPC that a caller makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeadCall {
    Get,
    Update,
    Create,
    Archive,
    /// Cannot be batched.
    List,
}

/// One caller and the properties of its calls.
#[derive(Debug, Clone)]
pub(crate) struct LoadCaller {
    pub(crate) client: LeadsServiceClient<Channel>,
    /// Primary contact of created leads.
    pub(crate) contact: String,
    /// Leads of this caller alone, used round robin.
    pub(crate) leads: Vec<String>,
    /// Name sent in the metadata; `None` lets the service use the address.
    pub(crate) name: Option<&'static str>,
    pub(crate) priority: &'static str,
    pub(crate) deadline: Duration,
    /// Pause after a failed call.
    pub(crate) backoff: Duration,
}

/// Running callers.
pub(crate) struct ClosedLoop(JoinSet<Vec<CallRecord>>);

// === impl LeadCall ===

impl LeadCall {
    /// Name of the RPC.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GetLead",
            Self::Update => "UpdateLead",
            Self::Create => "CreateLead",
            Self::Archive => "ArchiveLead",
            Self::List => "ListLeads",
        }
    }
}

// === impl LoadCaller ===

impl LoadCaller {
    pub(crate) fn new(client: LeadsServiceClient<Channel>, leads: &[String]) -> Self {
        Self {
            client,
            contact: String::new(),
            leads: leads.to_vec(),
            name: None,
            priority: "interactive",
            deadline: DEADLINE,
            backoff: Duration::ZERO,
        }
    }

    #[must_use]
    pub(crate) fn with_contact(self, contact: &str) -> Self {
        Self { contact: contact.to_owned(), ..self }
    }

    /// Makes one call. `number` selects the lead and the values that are written.
    pub(crate) async fn call(&mut self, call: LeadCall, number: usize) -> CallRecord {
        let started_at = Instant::now();
        let result = self.send(call, number).await;
        let completed_at = Instant::now();
        let failure = result.err().map(|status| (status.code(), status.message().to_owned()));
        CallRecord { completed_at, latency: completed_at - started_at, failure }
    }

    /// Makes one call after the other until `until`.
    async fn call_until(mut self, call: LeadCall, until: Instant) -> Vec<CallRecord> {
        let mut records = Vec::new();
        while Instant::now() < until {
            let record = self.call(call, records.len()).await;
            if record.failure.is_some() && !self.backoff.is_zero() {
                tokio::time::sleep(self.backoff).await;
            }
            records.push(record);
        }
        records
    }

    async fn send(&mut self, call: LeadCall, number: usize) -> Result<(), Status> {
        let id = match self.leads.len() {
            0 => String::new(),
            count => self.leads[number % count].clone(),
        };
        match call {
            LeadCall::Get => {
                let properties = property_names();
                let request = pb::GetLeadRequest { id, properties, ..Default::default() };
                self.client.get_lead(self.request(request)).await.map(drop)
            }
            LeadCall::Update => {
                let label = ["HOT", "WARM", "COLD"][number % 3];
                let properties = property_values(&[("hs_lead_label", label)]);
                let request = pb::UpdateLeadRequest { id, properties, ..Default::default() };
                self.client.update_lead(self.request(request)).await.map(drop)
            }
            LeadCall::Create => {
                let request = pb::CreateLeadRequest {
                    properties: property_values(&[
                        ("hs_lead_name", "A lead"),
                        ("hs_lead_label", "HOT"),
                    ]),
                    primary_contact_id: self.contact.clone(),
                    ..Default::default()
                };
                self.client.create_lead(self.request(request)).await.map(drop)
            }
            LeadCall::Archive => {
                let request = pb::ArchiveLeadRequest { id, ..Default::default() };
                self.client.archive_lead(self.request(request)).await.map(drop)
            }
            LeadCall::List => {
                // Identical requests would share one HubSpot call.
                let owner = self.leads.first().map_or("", |lead| lead);
                let properties = vec![format!("p{number}_{owner}")];
                let request =
                    pb::ListLeadsRequest { page_size: 1, properties, ..Default::default() };
                self.client.list_leads(self.request(request)).await.map(drop)
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        let metadata = request.metadata_mut();
        metadata.insert("leadsd-priority", self.priority.parse().expect("the value is ASCII"));
        if let Some(name) = self.name {
            metadata.insert("leadsd-caller", name.parse().expect("the value is ASCII"));
        }
        request
    }
}

/// Properties that reads select.
pub(crate) fn property_names() -> Vec<String> {
    ["hs_lead_name", "hs_lead_label", "hs_lead_type", "hs_lead_source", "hs_pipeline_stage"]
        .map(str::to_owned)
        .into()
}

fn property_values(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

// === impl ClosedLoop ===

impl ClosedLoop {
    /// Starts callers that make calls until `until`.
    pub(crate) fn start(callers: Vec<LoadCaller>, call: LeadCall, until: Instant) -> Self {
        Self::spawn(callers.into_iter().map(|caller| caller.call_until(call, until)))
    }

    /// Starts callers that each run a separate loop.
    pub(crate) fn spawn(
        callers: impl IntoIterator<Item = impl Future<Output = Vec<CallRecord>> + Send + 'static>,
    ) -> Self {
        Self(callers.into_iter().collect())
    }

    /// Waits until every caller has ended and returns all calls.
    pub(crate) async fn records(self) -> Vec<CallRecord> {
        self.0.join_all().await.into_iter().flatten().collect()
    }
}
