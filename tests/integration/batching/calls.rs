//! A single call, and everything that its caller sees of the result.

use std::collections::BTreeMap;

use leadsd::grpc::pb;
use leadsd_base::secret::Secret;
use tonic::{Code, Request, Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use crate::harness::TestApp;

/// Single call.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Get(pb::GetLeadRequest),
    Create(pb::CreateLeadRequest),
    Update(pb::UpdateLeadRequest),
    Archive(pb::ArchiveLeadRequest),
    Upsert(pb::UpsertLeadRequest),
}

/// Visible result without values that differ between leads, calls and times.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Lead(Box<Lead>),
    Done,
    Failed(Box<Failure>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lead {
    /// Absent for a new lead.
    id: Option<String>,
    values: BTreeMap<String, String>,
    unset: Vec<String>,
    history: BTreeMap<String, Vec<String>>,
    associations: BTreeMap<String, (Vec<(String, String)>, String)>,
    archived: bool,
    pub(super) id_only: bool,
    /// Presence of times and links.
    has: [bool; 4],
    warnings: Vec<String>,
    created: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) reason: String,
    message: String,
    metadata: BTreeMap<String, String>,
    fields: Vec<(String, String)>,
    /// Whole seconds: the rest of a wait differs.
    retry: Option<u64>,
    quota: Vec<String>,
    resource: Option<(String, String)>,
    preconditions: Vec<String>,
}

/// A result and its reported HubSpot calls.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) seen: Seen,
    pub(super) cost: f64,
}

// === impl Ask ===

impl Ask {
    /// Makes the call in this portal.
    pub(super) async fn send(&self, app: &TestApp, portal: &str) -> Answered {
        let mut leads = app.leads.clone();
        match self.clone() {
            Self::Get(request) => {
                let answer = leads.get_lead(request_for(portal, request)).await;
                answered(answer, true, |answer| (answer.lead, false))
            }
            Self::Create(request) => {
                let answer = leads.create_lead(request_for(portal, request)).await;
                answered(answer, false, |answer| (answer.lead, true))
            }
            Self::Update(request) => {
                let answer = leads.update_lead(request_for(portal, request)).await;
                answered(answer, true, |answer| (answer.lead, false))
            }
            Self::Archive(request) => {
                let answer = leads.archive_lead(request_for(portal, request)).await;
                answered(answer, true, |_| (None, false))
            }
            Self::Upsert(request) => {
                let answer = leads.upsert_lead(request_for(portal, request)).await;
                answered(answer, false, |answer| (answer.lead, answer.created))
            }
        }
    }

    /// Method and end of the path of the individual HubSpot call.
    pub(super) fn alone(&self) -> (&'static str, String) {
        match self {
            Self::Get(request) => ("GET", format!("/leads/{}", request.id)),
            Self::Create(_) => ("POST", "/leads".to_owned()),
            Self::Update(request) => ("PATCH", format!("/leads/{}", request.id)),
            Self::Archive(request) => ("DELETE", format!("/leads/{}", request.id)),
            // Its first call, the lookup.
            Self::Upsert(request) => ("GET", format!("/leads/{}", request.id)),
        }
    }

    /// End of the path of the batched HubSpot call.
    pub(super) fn together(&self) -> &'static str {
        match self {
            Self::Get(_) | Self::Upsert(_) => "/leads/batch/read",
            Self::Create(_) => "/leads/batch/create",
            Self::Update(_) => "/leads/batch/update",
            Self::Archive(_) => "/leads/batch/archive",
        }
    }
}

/// Creates a request in this portal.
pub(super) fn request_for<T>(portal: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("leadsd-portal", portal.parse().expect("a name"));
    request
}

fn answered<T>(
    answer: Result<tonic::Response<T>, Status>,
    with_id: bool,
    parts: impl FnOnce(T) -> (Option<pb::Lead>, bool),
) -> Answered {
    match answer {
        Ok(answer) => {
            let cost = cost(answer.metadata());
            let (lead, created) = parts(answer.into_inner());
            let lead =
                lead.map(|lead| Seen::Lead(Box::new(Lead::from_response(lead, with_id, created))));
            Answered { seen: lead.unwrap_or(Seen::Done), cost }
        }
        Err(status) => Answered {
            seen: Seen::Failed(Box::new(Failure::from_status(&status))),
            cost: cost(status.metadata()),
        },
    }
}

/// HubSpot calls that a response reports.
pub(super) fn cost(metadata: &MetadataMap) -> f64 {
    let cost = metadata.get("leadsd-quota-cost").expect("every answer says what it took");
    cost.to_str().unwrap().parse().unwrap()
}

// === impl Lead ===

impl Lead {
    fn from_response(lead: pb::Lead, with_id: bool, created: bool) -> Self {
        let pb::Lead {
            id,
            properties,
            property_history,
            associations,
            create_time,
            update_time,
            archived,
            archive_time,
            url,
            warnings,
            id_only,
            unset_properties,
            typed_properties: _,
            // Only with `display`.
            labels: _,
        } = lead;
        let masked = |(name, value): (String, String)| {
            let differs = ["hs_createdate", "hs_lastmodifieddate"].contains(&name.as_str())
                || (!with_id && name == "hs_object_id");
            (name, if differs { "some".to_owned() } else { value })
        };
        let history = property_history.into_iter().map(|(name, history)| {
            (
                name,
                history
                    .versions
                    .into_iter()
                    .map(|version| format!("{:?}", version.value))
                    .collect(),
            )
        });
        let associations = associations.into_iter().map(|(to, list)| {
            let objects = list.objects.into_iter().map(|object| (object.id, object.r#type));
            (to, (objects.collect(), list.next_cursor))
        });
        Self {
            id: with_id.then_some(id),
            values: properties.into_iter().map(masked).collect(),
            unset: unset_properties,
            history: history.collect(),
            associations: associations.collect(),
            archived,
            id_only,
            has: [
                create_time.is_some(),
                update_time.is_some(),
                archive_time.is_some(),
                !url.is_empty(),
            ],
            warnings: warnings.into_iter().map(|warning| format!("{warning:?}")).collect(),
            created,
        }
    }
}

// === impl Failure ===

impl Failure {
    fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().expect("every failure has one").clone();
        let mut metadata: BTreeMap<String, String> = info.metadata.into_iter().collect();
        // Each HubSpot call has a distinct id, and so has each new lead.
        metadata.remove("correlationId");
        let existing = metadata.get("existingId").cloned().unwrap_or_default();
        let masked = |text: &str| match existing.as_str() {
            "" => text.to_owned(),
            id => text.replace(id, "some"),
        };
        let message = masked(status.message());
        metadata.entry("existingId".to_owned()).and_modify(|id| id.clear());
        let fields = details.bad_request().map(|bad| &bad.field_violations[..]);
        let quota = details.quota_failure().map(|quota| &quota.violations[..]);
        let unmet = details.precondition_failure().map(|all| &all.violations[..]);
        let resource = details.resource_info();
        Self {
            code: status.code(),
            reason: info.reason,
            message,
            metadata,
            fields: fields
                .unwrap_or_default()
                .iter()
                .map(|fault| (fault.field.clone(), masked(&fault.description)))
                .collect(),
            retry: details
                .retry_info()
                .map(|retry| retry.retry_delay.unwrap_or_default().as_secs()),
            quota: quota.unwrap_or_default().iter().map(|broken| broken.subject.clone()).collect(),
            resource: resource
                .map(|found| (found.resource_type.clone(), found.description.clone())),
            preconditions: unmet
                .unwrap_or_default()
                .iter()
                .map(|violation| violation.r#type.clone())
                .collect(),
        }
    }
}

/// Token of this portal.
pub(super) fn token<'a>(app: &'a TestApp, portal: &str) -> &'a Secret {
    &app.tokens[portal]
}
