//! Recorded HubSpot error responses and the exact status for each. After a deliberate change,
//! `LEADSD_BLESS=1 cargo test golden` rewrites the file; review the difference before the commit.

use std::collections::BTreeMap;

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use serde::{Deserialize, Serialize};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, properties};

const FILE: &str = "tests/fixtures/hubspot_errors.json";

#[derive(Debug, Serialize, Deserialize)]
struct Case {
    given: Given,
    expected: Option<Expected>,
}

/// Response of HubSpot to an operation.
#[derive(Debug, Serialize, Deserialize)]
struct Given {
    name: String,
    operation: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Expected status.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Expected {
    code: String,
    message: String,
    reason: String,
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fields: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u128>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quota: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resource: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    preconditions: Vec<String>,
}

// === impl Expected ===

impl Expected {
    fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().expect("every failure has an ErrorInfo");
        assert_eq!(info.domain, "leadsd");
        let link = &details.help().expect("every failure links to the catalogue").links[0].url;
        assert_eq!(*link, format!("docs/ERRORS.md#{}", info.reason.to_lowercase()));
        let fields = details.bad_request().map(|bad| &bad.field_violations[..]).unwrap_or_default();
        let quota = details.quota_failure().map(|quota| &quota.violations[..]).unwrap_or_default();
        let preconditions =
            details.precondition_failure().map(|all| &all.violations[..]).unwrap_or_default();
        let delay = details.retry_info().and_then(|retry| retry.retry_delay);
        let resource = details.resource_info();
        Self {
            code: format!("{:?}", status.code()),
            message: status.message().to_owned(),
            reason: info.reason.clone(),
            metadata: info.metadata.clone().into_iter().collect(),
            fields: fields
                .iter()
                .map(|field| (field.field.clone(), field.description.clone()))
                .collect(),
            retry_after_ms: delay.map(|delay| delay.as_millis()),
            quota: quota.iter().map(|violation| violation.subject.clone()).collect(),
            resource: resource
                .map(|found| (found.resource_type.clone(), found.resource_name.clone())),
            preconditions: preconditions.iter().map(|violation| violation.r#type.clone()).collect(),
        }
    }
}

async fn call(app: &TestApp, operation: &str) -> Status {
    let mut leads = app.leads.clone();
    match operation {
        "get" => app.get("7").await.map(drop),
        "create" => leads.create_lead(app.create_request("Jane")).await.map(drop),
        "update" => {
            let properties = properties(&[("hs_lead_label", "HOT")]);
            let request =
                pb::UpdateLeadRequest { id: "7".to_owned(), properties, ..Default::default() };
            leads.update_lead(request).await.map(drop)
        }
        other => panic!("{other}"),
    }
    .expect_err("a failure")
}

#[tokio::test]
async fn recorded_errors_have_their_exact_status() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let mut cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 60);
    let bless = std::env::var("LEADSD_BLESS").is_ok();
    // Separate portals: consecutive outages would open the circuit breaker of one, and a 429 would
    // close its limit.
    let mut app = TestApp::start().await;
    let mut wrong = Vec::new();
    let mut limited = false;
    for (index, case) in cases.iter_mut().enumerate() {
        if index % 8 == 0 || limited {
            app = TestApp::start().await;
        }
        let Given { name, operation, status, headers, body } = &case.given;
        limited = *status == 429;
        let (method, path) = match operation.as_str() {
            "get" => ("GET", "/7"),
            "update" => ("PATCH", "/7"),
            _ => ("POST", "/leads"),
        };
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.push(("x-hubspot-correlation-id".to_owned(), "c-1".to_owned()));
        app.hubspot.script(method, path, ScriptedResponse::Exact(*status, headers, body.clone()));
        let got = Expected::from_status(&call(&app, operation).await);
        assert_eq!(app.hubspot.scripts_left(), 0, "{name}: the answer was used");
        let is_ours = ["Internal", "Unauthenticated"].contains(&got.code.as_str());
        let is_unknown = got.code == "Unknown" && got.reason != "WRITE_OUTCOME_UNKNOWN";
        assert!(!is_ours && !is_unknown, "{name}: {got:?}");
        if bless {
            case.expected = Some(got);
        } else if case.expected.as_ref() != Some(&got) {
            wrong.push(format!("{name}\n   got {got:?}\nwanted {:?}", case.expected));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if bless {
        std::fs::write(FILE, serde_json::to_string_pretty(&cases).unwrap() + "\n").unwrap();
    }
}
