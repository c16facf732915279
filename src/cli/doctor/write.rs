//! The write probe: one lead is created and archived, through the client that the service uses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{check::CheckResult, location::SecretLocation};
use crate::{
    app,
    cli::remediation::Remediation,
    hubspot,
    leads::{
        Association, AssociationCategory, AssociationType, CallContext, CostMeter, CreateLead,
        Error, Guard, Lead, LeadId, ListLeads, Request, Response, Selection,
    },
    pipeline,
    telemetry::trace_context::TraceContext,
};
use leadsd_base::{secret::Secret, time::SystemClock};
use leadsd_credentials::Handle;
use leadsd_quota::{Caller, Priority, Quota, Requester};

/// Timeout for the whole probe.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Name of the lead, in case it is not archived.
const NAME: &str = "leadsd doctor: a test, archived at once";

/// Association type of a lead's primary contact.
const PRIMARY_CONTACT: i32 = 578;

/// Creates a lead of a contact and archives it.
pub(super) async fn probe(
    location: &SecretLocation<'_>,
    token: &Secret,
    contact: Option<&str>,
) -> CheckResult<()> {
    match written(location, token, contact).await {
        Ok(id) => CheckResult::ok((), format!("lead {id} was created and archived")),
        Err(advice) => CheckResult::fail(advice),
    }
}

async fn written(
    location: &SecretLocation<'_>,
    token: &Secret,
    contact: Option<&str>,
) -> Result<String, Remediation> {
    let config = location.config;
    let settings = app::quota_settings(config.quota.clone(), &config.portals);
    let quota = Quota::new(settings, Arc::new(SystemClock));
    let client = hubspot::Client::new(&config.hubspot)
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
    let to_id = LeadId::parse(&contact).map_err(|what| {
        Remediation::new(
            format!("the id of the contact {what}"),
            "give the record id with --contact",
        )
    })?;
    let created = send(&ctx, Request::Create(new_lead(to_id)))
        .await
        .and_then(Response::into_lead)
        .map_err(|error| failed(&error))?;
    let id = LeadId::parse(&created.id).map_err(|what| {
        Remediation::new(format!("the id of the new lead {what}"), "archive the lead in HubSpot")
    })?;
    send(&ctx, Request::Archive(id)).await.map_err(|error| {
        let Remediation { cause, fix } = failed(&error);
        let cause = format!("lead {} was created and cannot be archived: {cause}", created.id);
        Remediation::new(cause, format!("archive it in HubSpot; {fix}"))
    })?;
    Ok(created.id)
}

/// Sends a request once.
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
        "there is no lead whose contact could be taken",
        "name a contact that the test lead may be of: --contact ID",
    )
}

fn new_lead(contact: LeadId) -> CreateLead {
    let primary =
        AssociationType { category: AssociationCategory::HubspotDefined, type_id: PRIMARY_CONTACT };
    CreateLead {
        properties: BTreeMap::from([("hs_lead_name".to_owned(), NAME.to_owned())]),
        associations: vec![Association { to_id: contact, types: vec![primary] }],
    }
}
