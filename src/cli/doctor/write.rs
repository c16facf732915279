//! Write probe: creates one lead and archives it, through the HubSpot client of the service.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{check::CheckResult, location::SecretLocation};
use crate::{
    app,
    cli::remediation::Remediation,
    hubspot,
    leads::{
        Association, AssociationCategory, AssociationType, CallContext, CostMeter, CreateLead,
        Error, Guard, Lead, LeadId, ListLeads, RejectionSearch, Request, Response, Selection,
        Unlimited,
    },
    pipeline,
    telemetry::trace_context::TraceContext,
};
use leadsd_base::{secret::Secret, time::SystemClock};
use leadsd_credentials::Handle;
use leadsd_quota::{Caller, Priority, Quota, Requester};

/// Timeout for the whole probe.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Name of the lead, for people who find it unarchived.
const NAME: &str = "leadsd doctor: write probe, archived at once";

/// Association type of a lead's primary contact.
const PRIMARY_CONTACT: i32 = 578;

/// Creates a lead of a contact and archives it.
pub(super) async fn probe(
    location: &SecretLocation<'_>,
    token: &Secret,
    contact: Option<&str>,
) -> CheckResult<()> {
    match create_and_archive(location, token, contact).await {
        Ok(id) => CheckResult::ok((), format!("created and archived lead {id}")),
        Err(remediation) => CheckResult::fail(remediation),
    }
}

async fn create_and_archive(
    location: &SecretLocation<'_>,
    token: &Secret,
    contact: Option<&str>,
) -> Result<String, Remediation> {
    let config = location.config;
    let redis = config.quota.shared.as_ref().map(app::redis_client);
    let settings = app::quota_settings(config.quota.clone(), redis, 1.0, &config.portals);
    let quota = Quota::new(settings, Arc::new(SystemClock));
    let client = hubspot::HubspotClient::new(&config.hubspot_for(&location.name))
        .map_err(|error| Remediation::new(error.to_string(), "check [hubspot]"))?;
    let name = location.name.clone();
    let account = quota.account(name.as_str());
    let deadline = Instant::now() + TIMEOUT;
    let ctx = CallContext {
        portal: pipeline::direct_portal(name, client, Handle::fixed(token.clone()), account),
        deadline,
        requester: Requester {
            caller: Caller::new("leadsd-doctor"),
            priority: Priority::Interactive,
        },
        request_id: "leadsd-doctor".into(),
        trace: TraceContext::root(0.0),
        cost: Arc::new(CostMeter::default()),
        search: RejectionSearch::default(),
        is_row: false,
        may_create_contacts: false,
        memory: Arc::new(Unlimited),
        guard: Guard::default(),
    };
    let failed =
        |error: &Error| location.remediation(&hubspot::DiagnosticsError::Api(error.clone()));
    let contact = match contact {
        Some(contact) => contact.to_owned(),
        None => {
            let first = send(&ctx, Request::List(first_lead()))
                .await
                .and_then(Response::into_page)
                .map_err(|error| failed(&error))?;
            first.leads.first().and_then(contact_of).ok_or_else(no_contact)?
        }
    };
    let to_id = LeadId::parse(&contact).map_err(|violation| {
        Remediation::new(
            format!("the contact id {violation}"),
            "pass the record id of a contact with --contact",
        )
    })?;
    let created = send(&ctx, Request::Create(new_lead(to_id)))
        .await
        .and_then(Response::into_lead)
        .map_err(|error| failed(&error))?;
    let id = LeadId::parse(&created.id).map_err(|violation| {
        Remediation::new(format!("the id of the new lead {violation}"), "archive it in HubSpot")
    })?;
    send(&ctx, Request::Archive(id)).await.map_err(|error| {
        let Remediation { cause, fix } = failed(&error);
        let cause = format!("created lead {}, but archiving it failed: {cause}", created.id);
        Remediation::new(cause, format!("archive it in HubSpot; {fix}"))
    })?;
    Ok(created.id.clone())
}

/// Sends a request without retries.
async fn send(ctx: &CallContext, request: Request) -> Result<Response, Error> {
    ctx.portal.upstream.call(ctx, request).await
}

fn first_lead() -> ListLeads {
    let selection = Selection { associations: vec!["contacts".to_owned()], ..Selection::default() };
    ListLeads { limit: 1, after: None, selection, archived: false }
}

fn contact_of(lead: &Lead) -> Option<String> {
    Some(lead.associations.get("contacts")?.objects.first()?.id.clone())
}

fn no_contact() -> Remediation {
    Remediation::new(
        "the first lead listed has no contact to associate the new lead with",
        "name the contact for the new lead: --contact ID",
    )
}

fn new_lead(contact: LeadId) -> CreateLead {
    let primary =
        AssociationType { category: AssociationCategory::HubspotDefined, type_id: PRIMARY_CONTACT };
    CreateLead {
        properties: BTreeMap::from([("hs_lead_name".to_owned(), NAME.to_owned())]),
        associations: vec![Association { to_id: contact, types: vec![primary], position: None }],
        contact: None,
        trace_id: None,
    }
}
