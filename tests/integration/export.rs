//! ExportLeads over sockets: resume at another replica, drain, back-pressure, cancellation, limits and audit.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::{ApiError, Gate, ScriptedResponse};
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use crate::harness::{PATIENCE, TestApp, eventually, failure, metrics_page};

const LEADS: usize = 450;

type Messages = Streaming<pb::ExportLeadsResponse>;

/// Adds leads of which every second one is hot.
fn add_leads(app: &TestApp, leads: usize, filler: &str) {
    for number in 0..leads {
        let label = if number % 2 == 0 { "HOT" } else { "COLD" };
        let name = format!("Lead {number} {filler}");
        let properties = serde_json::json!({"hs_lead_name": name, "hs_lead_label": label});
        app.hubspot.add_lead(&app.contact, &properties).expect("a valid lead");
    }
}

fn all() -> pb::ExportLeadsRequest {
    pb::ExportLeadsRequest { properties: vec!["hs_lead_name".to_owned()], ..Default::default() }
}

fn hot() -> pb::ExportLeadsRequest {
    let filter = pb::Filter {
        property_name: "hs_lead_label".to_owned(),
        operator: pb::FilterOperator::Eq.into(),
        value: "HOT".to_owned(),
        ..Default::default()
    };
    let filter_groups = vec![pb::FilterGroup { filters: vec![filter] }];
    pb::ExportLeadsRequest { filter_groups, ..all() }
}

async fn export(
    leads: &LeadsServiceClient<Channel>,
    request: pb::ExportLeadsRequest,
) -> Result<Messages, Status> {
    Ok(leads.clone().export_leads(request).await?.into_inner())
}

async fn next(messages: &mut Messages) -> Option<Result<pb::ExportLeadsResponse, Status>> {
    tokio::time::timeout(PATIENCE, messages.next()).await.expect("a message in time")
}

/// The leads of a stream to its end, and its last message.
async fn rest(messages: &mut Messages) -> (Vec<u64>, pb::ExportLeadsResponse) {
    let (mut ids, mut last) = (Vec::new(), None);
    while let Some(message) = next(messages).await {
        let message = message.expect("no error");
        ids.extend(message.leads.iter().map(|lead| lead.id.parse::<u64>().unwrap()));
        last = Some(message);
    }
    (ids, last.expect("a last message"))
}

/// Value of a metric.
async fn value(app: &TestApp, metric: &str) -> String {
    let page = metrics_page(&app.admin).await.expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix(metric));
    line.expect("the metric").trim().to_owned()
}

/// A client whose receive window is smaller than a page.
async fn narrow_client(app: &TestApp) -> LeadsServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", app.grpc)).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(65_535);
    LeadsServiceClient::new(endpoint.connect().await.expect("a connection"))
}

const OPEN: &str = "leadsd_admission_used{limit=\"exports\"}";

#[tokio::test]
async fn an_export_is_resumed_at_another_replica() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS, "");
    let other = app.replica().start().await;
    for (request, expected) in [(all(), LEADS), (hot(), LEADS / 2)] {
        let mut messages = export(&app.leads, request.clone()).await.unwrap();
        let first = next(&mut messages).await.unwrap().unwrap();
        drop(messages);
        assert!(!first.leads.is_empty() && first.leads.len() < expected, "{}", first.leads.len());
        let lead = &first.leads[0];
        assert!(lead.properties["hs_lead_name"].starts_with("Lead "), "{lead:?}");
        let progress = first.progress.unwrap();
        assert_eq!(progress.exported, i64::try_from(first.leads.len()).unwrap());
        assert_eq!(progress.total, Some(i64::try_from(expected).unwrap()));
        assert!(progress.remaining_time.is_some() && !first.complete);
        let resumed = pb::ExportLeadsRequest { resume_token: first.resume_token, ..request };
        let (ids, last) = rest(&mut export(&other.leads, resumed).await.unwrap()).await;
        assert!(last.complete && last.leads.is_empty());
        assert_eq!(last.progress.unwrap().exported, i64::try_from(expected).unwrap());
        let mut all: Vec<u64> = first.leads.iter().map(|lead| lead.id.parse().unwrap()).collect();
        all.extend(ids);
        assert!(all.is_sorted_by(|a, b| a < b));
        assert_eq!(all.len(), expected);
    }
    for metric in ["leadsd_export_resumed_total{}", "leadsd_export_ended_total{end=\"complete\"}"] {
        eventually(metric, || async { value(&other, metric).await == "2.0" }).await;
    }
}

#[tokio::test]
async fn a_replica_that_stops_ends_its_exports_with_a_token() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS, "");
    let replica = app.replica().set("GRPC__SHUTDOWN_GRACE", "20s").start().await;
    let mut messages = export(&replica.leads, all()).await.unwrap();
    let gate = Gate::new();
    // The next page does not arrive.
    let first = next(&mut messages).await.unwrap().unwrap();
    app.hubspot.script("GET", "/leads", ScriptedResponse::Held(gate.clone()));
    let ((received, last), ()) = tokio::join!(rest(&mut messages), replica.stop());
    gate.open();
    assert!(!last.complete && last.leads.is_empty());
    let resumed = pb::ExportLeadsRequest { resume_token: last.resume_token, ..all() };
    let (others, end) = rest(&mut export(&app.leads, resumed).await.unwrap()).await;
    assert!(end.complete);
    let count = first.leads.len() + received.len() + others.len();
    let ids: BTreeSet<u64> = received.into_iter().chain(others).collect();
    assert_eq!((count, ids.len() + first.leads.len()), (LEADS, LEADS));
}

#[tokio::test]
async fn a_stream_ends_with_a_token_shortly_before_its_deadline() {
    let app = TestApp::start().await;
    add_leads(&app, LEADS, "");
    let gate = Gate::new();
    app.hubspot.script("GET", "/leads", ScriptedResponse::Held(gate.clone()));
    let mut request = Request::new(all());
    request.metadata_mut().insert("grpc-timeout", "2S".parse().unwrap());
    let mut messages = app.leads.clone().export_leads(request).await.unwrap().into_inner();
    let (ids, last) = rest(&mut messages).await;
    gate.open();
    assert!(ids.is_empty() && !last.complete && !last.resume_token.is_empty());
}

#[tokio::test]
async fn exports_that_are_not_read_stop_reading_hubspot_and_are_bounded() {
    let app = TestApp::start().await;
    // One page exceeds the receive window of the client.
    add_leads(&app, 900, &"x".repeat(2_000));
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut messages = export(&narrow_client(&app).await, all()).await.unwrap();
        next(&mut messages).await.unwrap().unwrap();
        open.push(messages);
    }
    let (code, reason, _) = failure(export(&app.leads, all()).await.map(drop));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(value(&app, OPEN).await, "16.0");
    let lists = app.hubspot.log().iter().filter(|call| call.method == "GET").count();
    assert!(lists <= 16 * 3, "{lists} pages");
    // An unread stream holds nothing that keeps another call out.
    app.get(&app.lead("Jane")).await.unwrap();
    drop(open);
    eventually("all exports have ended", || async { value(&app, OPEN).await == "0.0" }).await;
    let (ids, last) = rest(&mut export(&app.leads, all()).await.unwrap()).await;
    assert!(last.complete && ids.len() >= 900);
    assert_eq!(value(&app, "leadsd_export_ended_total{end=\"cancelled\"}").await, "16.0");
}

#[tokio::test]
async fn each_stream_has_one_audit_event_with_its_counts() {
    let app = TestApp::start().await;
    add_leads(&app, 10, "");
    let audit = |id: &str| app.logs.events("leadsd::audit", id);
    let mut token = String::new();
    for (id, request, parts) in [
        ("whole", all(), ["audit.exported=10 ", "audit.outcome=\"OK\"", "audit.filtered=false"]),
        ("some", hot(), ["audit.exported=5 ", "audit.outcome=\"OK\"", "audit.filtered=true"]),
    ] {
        let mut request = Request::new(request);
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        let mut messages = app.leads.clone().export_leads(request).await.unwrap().into_inner();
        token = rest(&mut messages).await.1.resume_token;
        eventually("the event", || async { audit(id).len() == 1 }).await;
        let event = audit(id).remove(0);
        assert!(parts.iter().all(|part| event.contains(part)), "{event}");
        assert!(event.contains("ExportLeads") && !event.contains("Lead 1"), "{event}");
    }
    // A request that is rejected is no export.
    let mut invalid = Request::new(pb::ExportLeadsRequest { resume_token: token, ..all() });
    invalid.metadata_mut().insert("x-request-id", "invalid".parse().unwrap());
    let (code, reason, fields) = failure(app.leads.clone().export_leads(invalid).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "INVALID_PAGE_TOKEN"));
    assert_eq!(fields, ["resume_token"]);
    assert!(audit("invalid").is_empty());
}

#[tokio::test]
async fn an_export_needs_room_for_its_filter_and_fails_with_hubspots_error() {
    let app = TestApp::start().await;
    let mut full = hot();
    let filter = full.filter_groups[0].filters[0].clone();
    full.filter_groups[0].filters = vec![filter.clone(); 6];
    let (code, _, fields) = failure(export(&app.leads, full.clone()).await.map(drop));
    assert_eq!(
        (code, fields),
        (Code::InvalidArgument, vec!["filter_groups[0].filters".to_owned()])
    );
    full.filter_groups = vec![pb::FilterGroup { filters: vec![filter; 4] }; 4];
    let (_, _, fields) = failure(export(&app.leads, full).await.map(drop));
    assert_eq!(fields, ["filter_groups"]);
    app.hubspot.script("POST", "/search", ScriptedResponse::Reject(ApiError::Forbidden));
    let mut messages = export(&app.leads, hot()).await.unwrap();
    let status = next(&mut messages).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(next(&mut messages).await.is_none());
}

#[tokio::test]
async fn history_and_associations_are_exported() {
    let app = TestApp::start().await;
    add_leads(&app, 60, "");
    for request in [all(), hot()] {
        let request = pb::ExportLeadsRequest {
            properties_with_history: vec!["hs_lead_label".to_owned()],
            associations: vec!["contacts".to_owned()],
            ..request
        };
        let mut messages = export(&app.leads, request).await.unwrap();
        let first = next(&mut messages).await.unwrap().unwrap();
        let lead = &first.leads[0];
        assert_eq!(lead.property_history["hs_lead_label"].versions.len(), 1, "{lead:?}");
        let contact = &lead.associations["contacts"].objects[0];
        assert_eq!(contact.id, app.contact);
        assert!(contact.association_type.is_some());
    }
}

#[tokio::test]
async fn default_properties_and_all_properties_are_those_of_other_reads() {
    // Enough for lists and searches side by side.
    const MANY: usize = 3_000;
    let app = TestApp::builder()
        .set("QUOTA__BURST", "100000")
        .set("QUOTA__SEARCH_PER_SECOND", "10000")
        .start()
        .await;
    app.hubspot.limit(|limits| (limits.burst, limits.search_per_second) = (100_000, 100_000));
    add_leads(&app, MANY, "");
    app.hubspot.add_text_property("region");
    let read = |properties: &[&str]| {
        let properties = properties.iter().map(|&name| name.to_owned()).collect();
        pb::ListLeadsRequest { page_size: 1, properties, ..Default::default() }
    };
    for properties in [&[][..], &["*"], &["*", "region"]] {
        let list = app.leads.clone().list_leads(read(properties)).await.unwrap().into_inner();
        let expected: Vec<&String> = list.leads[0].properties.keys().collect();
        let unset = &list.leads[0].unset_properties;
        assert!(expected.iter().any(|name| *name == "hs_lead_name"), "{expected:?}");
        for (request, count) in [(all(), MANY), (hot(), MANY / 2)] {
            let properties = properties.iter().map(|&name| name.to_owned()).collect();
            let request = pb::ExportLeadsRequest { properties, ..request };
            let mut messages = export(&app.leads, request).await.unwrap();
            let mut leads = Vec::new();
            while let Some(message) = next(&mut messages).await {
                leads.extend(message.expect("no error").leads);
            }
            assert_eq!(leads.len(), count);
            for lead in leads {
                assert_eq!(lead.properties.keys().collect::<Vec<_>>(), expected);
                assert_eq!(lead.unset_properties, *unset);
            }
        }
    }
    let log = app.hubspot.log();
    let searches = log.iter().filter(|call| call.path.ends_with("/search")).count();
    assert!(searches > 3 * (2 + MANY / 2 / 200), "exports without conditions search as well");
}
