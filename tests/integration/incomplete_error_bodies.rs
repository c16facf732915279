//! HubSpot errors with truncated or missing bodies: status and headers suffice.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{ApiError, BodyEnd, ScriptedResponse};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::{
    admission::closed,
    deadlines::patient,
    harness::{TestApp, failure, properties},
};

/// A body over the maximum size of these services.
const TOO_LARGE: usize = 70_000;

/// Kinds of incomplete bodies.
fn partly(status: u16, headers: &[(&str, &str)]) -> [ScriptedResponse; 3] {
    let body = format!(r#"{{"status":"error","message":"{}"}}"#, "x".repeat(200));
    let headers: Vec<(String, String)> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let exact = |body: String| ScriptedResponse::Exact(status, headers.clone(), body);
    let large = format!(r#"{{"status":"error","message":"{}"}}"#, "x".repeat(TOO_LARGE));
    [
        ScriptedResponse::Partial(Box::new(exact(body.clone())), BodyEnd::Broken),
        ScriptedResponse::Partial(Box::new(exact(body)), BodyEnd::Silent),
        exact(large),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Rpc {
    Get,
    Search,
    Create,
    Update,
    Archive,
    BatchCreate,
    Upsert,
}

const ALL: [Rpc; 7] =
    [Rpc::Get, Rpc::Search, Rpc::Create, Rpc::Update, Rpc::Archive, Rpc::BatchCreate, Rpc::Upsert];

// === impl Rpc ===

impl Rpc {
    /// HubSpot call of the operation.
    fn path(self) -> (&'static str, &'static str) {
        match self {
            Self::Get => ("GET", "/7"),
            Self::Search => ("POST", "/leads/search"),
            Self::Create => ("POST", "/leads"),
            Self::Update => ("PATCH", "/7"),
            Self::Archive => ("DELETE", "/7"),
            Self::BatchCreate => ("POST", "/batch/create"),
            // The lookup.
            Self::Upsert => ("GET", "/7"),
        }
    }

    async fn call(self, app: &TestApp, portal: &str) -> Status {
        let mut leads = app.leads.clone();
        let id = "7".to_owned();
        macro_rules! fails {
            ($method:ident, $message:expr) => {
                leads.$method(request_for(portal, $message)).await.map(drop).expect_err("refused")
            };
        }
        match self {
            Self::Get => fails!(get_lead, pb::GetLeadRequest { id, ..Default::default() }),
            Self::Search => fails!(search_leads, pb::SearchLeadsRequest::default()),
            Self::Create => fails!(create_lead, app.create_request("New")),
            Self::Update => {
                let properties = properties(&[("hs_lead_label", "HOT")]);
                let request = pb::UpdateLeadRequest { id, properties, ..Default::default() };
                fails!(update_lead, request)
            }
            Self::Archive => {
                fails!(archive_lead, pb::ArchiveLeadRequest { id, ..Default::default() })
            }
            Self::BatchCreate => {
                let inputs = vec![app.create_input("New", &[])];
                let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
                fails!(batch_create_leads, request)
            }
            Self::Upsert => {
                let request = pb::UpsertLeadRequest {
                    id,
                    id_property: "crm_key".to_owned(),
                    properties: properties(&[("hs_lead_label", "HOT")]),
                    ..Default::default()
                };
                fails!(upsert_lead, request)
            }
        }
    }
}

/// A service with this many portals, each with a separate quota and credential.
async fn service(portals: usize) -> (TestApp, Vec<String>) {
    let portals: Vec<String> = (0..portals).map(|number| format!("p{number}")).collect();
    let names: Vec<&str> = portals.iter().map(String::as_str).collect();
    let builder = TestApp::builder().portals(&names).set("VAULT__POLL_INTERVAL", "1h");
    let app = builder.set("HUBSPOT__MAX_RESPONSE_SIZE", "64KiB").start().await;
    app.hubspot.add_unique_property("crm_key");
    (app, portals)
}

fn request_for<T>(portal: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
    request
}

/// Scripts the response to a call.
async fn answered(app: &TestApp, portal: &str, rpc: Rpc, script: ScriptedResponse) -> Status {
    let (method, path) = rpc.path();
    app.hubspot.script_of(&app.tokens[portal], method, path, script);
    rpc.call(app, portal).await
}

#[tokio::test]
async fn rate_limit_is_reported_without_the_body_of_the_429() {
    let mut cases = Vec::new();
    for (headers, seconds) in [(&[][..], 10.0), (&[("retry-after", "4")][..], 4.0)] {
        for script in partly(429, headers) {
            cases.extend(ALL.map(|rpc| (rpc, script.clone(), seconds)));
        }
    }
    let (app, portals) = service(cases.len()).await;
    let limited = |(portal, (rpc, script, seconds)): (String, (Rpc, ScriptedResponse, f64))| {
        let app = &app;
        async move {
            let status = answered(app, &portal, rpc, script).await;
            let wait = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
            let (code, reason, _) = failure(Err::<(), _>(status));
            let got = (code, reason.as_str());
            assert_eq!(got, (Code::ResourceExhausted, "RATE_LIMITED"), "{rpc:?}");
            assert!((wait.as_secs_f64() - seconds).abs() < 0.01, "{rpc:?}: {wait:?}");
            let [burst, search] = closed(app, &portal).await;
            let (own, other) = if rpc == Rpc::Search { (search, burst) } else { (burst, search) };
            // The rest depends on the machine.
            assert!(own <= seconds && (own > 0.0 || seconds < 10.0), "{rpc:?}: {own}");
            assert!(other <= 0.0, "{rpc:?}: {other}");
        }
    };
    let count = cases.len();
    join_all(portals.into_iter().zip(cases).map(limited)).await;
    assert_eq!(app.hubspot_calls().len(), count, "nothing is sent again");
}

#[tokio::test]
async fn slow_body_of_a_429_does_not_exceed_the_deadline() {
    let (app, portals) = service(1).await;
    let refusal = ApiError::RateLimited { policy: "SECONDLY", retry_after: None };
    let silent =
        ScriptedResponse::Partial(Box::new(ScriptedResponse::Reject(refusal)), BodyEnd::Silent);
    app.hubspot.script("GET", "/7", silent);
    let mut request = Request::new(pb::GetLeadRequest { id: "7".to_owned(), ..Default::default() });
    request.set_timeout(Duration::from_secs(2));
    let status = patient(&app).get_lead(request).await.expect_err("refused");
    assert_eq!(failure(Err::<(), _>(status)).1, "RATE_LIMITED");
    let [burst, _] = closed(&app, &portals[0]).await;
    assert!(burst > 0.0, "{burst}");
}

#[tokio::test]
async fn errors_have_the_same_reason_without_their_body() {
    let statuses = [400, 401, 403, 404, 409, 414, 423, 477, 500, 502, 503, 504, 521, 523, 524, 530];
    let rpcs = [Rpc::Get, Rpc::Update, Rpc::Create];
    let cases = statuses.into_iter().flat_map(|status| rpcs.map(|rpc| (status, rpc)));
    let (app, portals) = service(statuses.len() * rpcs.len() * 4).await;
    let compare = |((status, rpc), portals): ((u16, Rpc), &[String])| {
        let app = &app;
        let portals = portals.to_vec();
        async move {
            let whole = r#"{"status":"error","message":"no"}"#.to_owned();
            let whole = ScriptedResponse::Reply(status, "application/json", whole);
            let expected = failure(Err::<(), _>(answered(app, &portals[0], rpc, whole).await));
            for (portal, script) in portals[1..].iter().zip(partly(status, &[])) {
                let note = format!("{rpc:?}: {script:?}");
                let got = failure(Err::<(), _>(answered(app, portal, rpc, script).await));
                assert_eq!(got, expected, "{note}");
            }
            // Only these may have taken effect.
            let doubtful = rpc == Rpc::Create && [500, 502, 503, 504, 524].contains(&status);
            assert_eq!(expected.0 == Code::Unknown, doubtful, "{rpc:?} {status}");
        }
    };
    join_all(cases.zip(portals.chunks(4)).map(compare)).await;
}
