//! Callers that make one call after the other, many at the same time.

use std::{future::Future, time::Duration};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Code, Request, Status, transport::Channel};

/// Longest any call of a load may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// One call that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// When its answer came.
    pub(crate) at: Instant,
    /// How long that took.
    pub(crate) took: Duration,
    /// Why it failed.
    pub(crate) failed: Option<(Code, String)>,
}

/// A single call of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Update,
    Create,
    Archive,
    /// Cannot go together with others.
    List,
}

/// What calls are made with.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) client: LeadsServiceClient<Channel>,
    pub(crate) contact: String,
    /// Leads of this caller alone, used in turn.
    pub(crate) leads: Vec<String>,
    /// Names itself so; else its address is its name.
    pub(crate) name: Option<&'static str>,
    pub(crate) priority: &'static str,
    pub(crate) deadline: Duration,
}

// === impl Kind ===

impl Kind {
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

// === impl Subject ===

impl Subject {
    pub(crate) fn new(client: LeadsServiceClient<Channel>, leads: &[String]) -> Self {
        Self {
            client,
            contact: String::new(),
            leads: leads.to_vec(),
            name: None,
            priority: "interactive",
            deadline: DEADLINE,
        }
    }

    pub(crate) fn contact(self, contact: &str) -> Self {
        Self { contact: contact.to_owned(), ..self }
    }

    /// The call with this number.
    pub(crate) async fn call(&mut self, kind: Kind, number: usize) -> Made {
        let since = Instant::now();
        let answer = self.send(kind, number).await;
        let at = Instant::now();
        let failed = answer.err().map(|status| (status.code(), status.message().to_owned()));
        Made { at, took: at - since, failed }
    }

    async fn send(&mut self, kind: Kind, number: usize) -> Result<(), Status> {
        let id = match self.leads.len() {
            0 => String::new(),
            all => self.leads[number % all].clone(),
        };
        match kind {
            Kind::Get => {
                let request = pb::GetLeadRequest { id, properties: names(), ..Default::default() };
                self.client.get_lead(self.request(request)).await.map(drop)
            }
            Kind::Update => {
                let label = ["HOT", "WARM", "COLD"][number % 3];
                let properties = pairs(&[("hs_lead_label", label)]);
                let request = pb::UpdateLeadRequest { id, properties, ..Default::default() };
                self.client.update_lead(self.request(request)).await.map(drop)
            }
            Kind::Create => {
                let request = pb::CreateLeadRequest {
                    properties: pairs(&[("hs_lead_name", "A lead"), ("hs_lead_label", "HOT")]),
                    primary_contact_id: self.contact.clone(),
                    ..Default::default()
                };
                self.client.create_lead(self.request(request)).await.map(drop)
            }
            Kind::Archive => {
                let request = pb::ArchiveLeadRequest { id, ..Default::default() };
                self.client.archive_lead(self.request(request)).await.map(drop)
            }
            Kind::List => {
                // No two are identical, or they would share one call.
                let properties =
                    vec![format!("p{number}_{}", self.leads.first().map_or("", |s| s))];
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
        metadata.insert("leadsd-priority", self.priority.parse().expect("a value"));
        if let Some(name) = self.name {
            metadata.insert("x-leadsd-caller", name.parse().expect("a value"));
        }
        request
    }
}

/// Properties that reads ask for.
pub(crate) fn names() -> Vec<String> {
    ["hs_lead_name", "hs_lead_label", "hs_lead_type", "hs_lead_source", "hs_pipeline_stage"]
        .map(str::to_owned)
        .into()
}

fn pairs(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Callers at work until a point in time.
pub(crate) struct Load(JoinSet<Vec<Made>>);

// === impl Load ===

impl Load {
    /// Every subject makes its calls one after the other, until `until`.
    pub(crate) fn start(subjects: Vec<Subject>, kind: Kind, until: Instant) -> Self {
        Self::of(subjects.into_iter().map(|mut subject| async move {
            let mut made = Vec::new();
            while Instant::now() < until {
                made.push(subject.call(kind, made.len()).await);
            }
            made
        }))
    }

    pub(crate) fn of(
        callers: impl IntoIterator<Item = impl Future<Output = Vec<Made>> + Send + 'static>,
    ) -> Self {
        let mut set = JoinSet::new();
        for caller in callers {
            set.spawn(caller);
        }
        Self(set)
    }

    /// All calls, once every caller is through.
    pub(crate) async fn made(self) -> Vec<Made> {
        self.0.join_all().await.into_iter().flatten().collect()
    }
}
