//! Audit events: one per write, with caller, portal, operation and outcome, and without property
//! values.

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::{Request, transport::Channel};

use super::{World, api_key};
use crate::harness::{PATIENCE, TestApp, properties};

/// Target of audit events.
const AUDIT: &str = "leadsd::audit";

/// Property value that no event may contain.
const PRIVATE: &str = "Jane Doe of Acme";

fn request<T>(message: T, caller: &str, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !caller.is_empty() {
        request.metadata_mut().insert("x-api-key", api_key(caller).parse().unwrap());
    }
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

/// Audit events of a call, once `count` exist.
async fn events(app: &TestApp, id: &str, wanted: usize) -> Vec<String> {
    let come = async {
        loop {
            let found = app.logs.events(AUDIT, id);
            if found.len() >= wanted {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, come).await.expect("the events come");
    assert_eq!(found.len(), wanted, "{found:#?}");
    assert!(found.iter().all(|line| !line.contains(PRIVATE)), "{found:#?}");
    found
}

#[track_caller]
fn has(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

type Leads = pb::leads_service_client::LeadsServiceClient<Channel>;

#[tokio::test(flavor = "multi_thread")]
async fn each_write_logs_one_audit_event_with_its_outcome() {
    let world = World::start().await;
    let app = &world.app;
    let mut leads = Leads::new(world.connect().await);
    let create = app.create_request(PRIVATE);
    let lead = leads.create_lead(request(create, "writer", "audit-create")).await.unwrap();
    let id = lead.into_inner().lead.unwrap().id;
    let lines = events(app, "audit-create", 1).await;
    let ours = ["caller=\"writer\"", "caller.authenticated=true", "portal=\"default\""];
    has(&lines[0], &ours);
    let named = format!("lead.id=\"{id}\"");
    has(&lines[0], &["audit.operation=\"CreateLead\"", "audit.outcome=\"OK\"", &named]);

    let update = |id: &str| pb::UpdateLeadRequest {
        id: id.to_owned(),
        properties: properties(&[("hs_lead_name", PRIVATE)]),
        ..Default::default()
    };
    leads.update_lead(request(update(&id), "writer", "audit-update")).await.unwrap();
    has(&events(app, "audit-update", 1).await[0], &["\"UpdateLead\"", "\"OK\"", &named]);
    leads.update_lead(request(update("999999"), "writer", "audit-missing")).await.unwrap_err();
    let missing = &events(app, "audit-missing", 1).await[0];
    has(missing, &["audit.outcome=\"LEAD_NOT_FOUND\"", "lead.id=\"999999\""]);

    let inputs =
        vec![app.create_input(PRIVATE, &[]), app.create_input(PRIVATE, &[("nonsense", PRIVATE)])];
    let batch = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    leads.batch_create_leads(request(batch, "writer", "audit-batch")).await.unwrap();
    let lines = events(app, "audit-batch", 2).await;
    has(&lines[0], &ours);
    has(
        &lines[0],
        &["\"BatchCreateLeads\"", "\"PARTIAL\"", "audit.inputs=2", "OK=1 VALIDATION_FAILED=1"],
    );
    assert!(lines[1].contains("DEBUG") && lines[1].contains("lead.ids="), "{}", lines[1]);

    let gone = pb::BatchArchiveLeadsRequest { ids: vec![id.clone()], ..Default::default() };
    leads.batch_archive_leads(request(gone, "writer", "audit-archive")).await.unwrap();
    has(&events(app, "audit-archive", 1).await[0], &["\"BatchArchiveLeads\"", "\"OK\"", &named]);

    // Reads and invalid writes log no audit event.
    let get = pb::GetLeadRequest { id: id.clone(), ..Default::default() };
    let _ = leads.get_lead(request(get, "writer", "audit-read")).await;
    let empty = pb::CreateLeadRequest::default();
    leads.create_lead(request(empty, "writer", "audit-form")).await.unwrap_err();
    for id in ["audit-read", "audit-form"] {
        assert!(app.logs.events(AUDIT, id).is_empty(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_writes_and_exports_are_audited() {
    let world = World::start().await;
    let mut leads = Leads::new(world.connect().await);
    let export = request(pb::ExportLeadsRequest::default(), "writer", "audit-export");
    leads.export_leads(export).await.unwrap_err();
    let refused = &events(&world.app, "audit-export", 1).await[0];
    has(refused, &["CALLER_FORBIDDEN", "caller=\"writer\"", "\"ExportLeads\""]);
    let create = || world.app.create_request(PRIVATE);
    leads.create_lead(request(create(), "reader", "audit-reader")).await.unwrap_err();
    let refused = &events(&world.app, "audit-reader", 1).await[0];
    has(
        refused,
        &["CALLER_FORBIDDEN", "caller=\"reader\"", "\"CreateLead\"", "portal=\"default\""],
    );
    let mut elsewhere = request(create(), "writer", "audit-elsewhere");
    elsewhere.metadata_mut().insert("leadsd-portal", "zurich".parse().unwrap());
    leads.create_lead(elsewhere).await.unwrap_err();
    has(
        &events(&world.app, "audit-elsewhere", 1).await[0],
        &["CALLER_FORBIDDEN", "caller=\"writer\""],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_writes_are_audited_and_replays_are_not_second_writes() {
    let app = TestApp::start().await;
    let create = |name: &str| pb::CreateLeadRequest {
        request_id: format!("rid-{name}"),
        ..app.create_request(PRIVATE)
    };
    app.hubspot.script(
        "POST",
        "",
        ScriptedResponse::Delayed(std::time::Duration::from_millis(400)),
    );
    let mut leads = app.leads.clone();
    let going = request(create("gone"), "", "audit-gone");
    let call = tokio::spawn(async move { leads.create_lead(going).await });
    let sent = async {
        while app.hubspot.scripts_left() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("the write is under way");
    call.abort();
    let line = &events(&app, "audit-gone", 1).await[0];
    has(line, &["audit.outcome=\"OK\"", "audit.replayed=false", "caller=\"127.0.0.1\""]);
    has(line, &["caller.authenticated=false"]);

    let again = request(create("gone"), "", "audit-again");
    app.leads.clone().create_lead(again).await.unwrap();
    has(&events(&app, "audit-again", 1).await[0], &["audit.outcome=\"OK\"", "audit.replayed=true"]);
}
