//! Wire formats: tolerated HubSpot responses and their size limit, compression, reflection.

use std::io::Write as _;

use axum::{
    Router,
    http::header::{CONTENT_ENCODING, CONTENT_TYPE},
    response::IntoResponse as _,
};
use flate2::{Compression, write::GzEncoder};
use leadsd::grpc::pb;
use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::ScriptedResponse;
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::harness::{TestApp, failure};

fn json(body: impl Into<String>) -> ScriptedResponse {
    ScriptedResponse::Reply(200, "application/json", body.into())
}

#[tokio::test]
async fn leads_are_parsed_with_missing_and_unknown_fields() {
    let app = TestApp::start().await;
    for (body, properties) in [
        (r#"{"id":"7"}"#, 0),
        (r#"{"id":7,"properties":{"a":"x","b":null}}"#, 1),
        (r#"{"id":"7","properties":{"n":5,"t":true},"archived":false,"novel":[{"x":{}}]}"#, 2),
        (r#"{"id":"7","properties":null,"createdAt":null,"associations":null,"warnings":null}"#, 0),
        (r#"{"id":"7","createdAt":"not a time","associations":{"contacts":{"results":[]}}}"#, 0),
    ] {
        app.hubspot.script("GET", "/7", json(body));
        let lead = app.get("7").await.unwrap().into_inner().lead.unwrap();
        assert_eq!((lead.id.as_str(), lead.properties.len()), ("7", properties), "{body}");
    }
}

#[tokio::test]
async fn response_over_the_maximum_size_is_not_read_completely() {
    let app = TestApp::builder().set("HUBSPOT__MAX_RESPONSE_SIZE", "64KiB").start().await;
    let large = format!(r#"{{"id":"7","properties":{{"a":"{}"}}}}"#, "x".repeat(70_000));
    app.hubspot.script("GET", "/7", json(large));
    let (code, reason, _) = failure(app.get("7").await);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RESPONSE_TOO_LARGE"));
    let id = app.lead("Jane");
    app.get(&id).await.expect("the next call is served");
}

/// Starts a HubSpot that answers every request with this body, compressed; returns its URL.
async fn compressed(body: Vec<u8>) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&body).unwrap();
    let bytes = encoder.finish().unwrap();
    let answer = move || {
        let headers = [(CONTENT_ENCODING, "gzip"), (CONTENT_TYPE, "application/json")];
        let answer = (headers, bytes.clone()).into_response();
        async move { answer }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    format!("http://{address}")
}

#[tokio::test]
async fn compressed_responses_are_bounded_after_decompression() {
    let url = compressed(br#"{"id":"7","properties":{"hs_lead_name":"Jane"}}"#.to_vec()).await;
    let app = TestApp::builder().set("HUBSPOT__BASE_URL", &url).start().await;
    let lead = app.get("7").await.unwrap().into_inner().lead.unwrap();
    assert_eq!(lead.properties["hs_lead_name"], "Jane");

    let url = compressed(vec![b' '; 40 << 20]).await;
    let app = TestApp::builder().set("HUBSPOT__BASE_URL", &url).start().await;
    let (code, reason, _) = failure(app.get("7").await);
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "RESPONSE_TOO_LARGE"));
}

#[tokio::test]
async fn requests_and_responses_may_be_compressed() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    let mut leads = app
        .leads
        .clone()
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let answer = leads.get_lead(pb::GetLeadRequest { id, ..Default::default() }).await.unwrap();
    assert_eq!(answer.metadata().get("grpc-encoding").unwrap(), "gzip");
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services() {
    let app = TestApp::start().await;
    let channel = Channel::from_shared(format!("http://{}", app.grpc)).unwrap().connect_lazy();
    macro_rules! listed {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                message_request: Some(MessageRequest::ListServices(String::new())),
                ..Default::default()
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let requests = futures_util::stream::iter([request]);
            let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
            let answer = answers.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("a list");
            };
            let names: Vec<String> = list.service.into_iter().map(|found| found.name).collect();
            for name in ["leadsd.v1.LeadsService", "grpc.health.v1.Health"] {
                assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
            }
        }};
    }
    listed!(v1);
    listed!(v1alpha);
}

#[tokio::test]
async fn property_values_are_never_logged() {
    // Log capture checks every line for the marker.
    let app = TestApp::start().await;
    let mut leads = app.leads.clone();
    let request = app.create_request(&format!("{SECRET_MARKER} Jane"));
    let lead = leads.create_lead(request).await.unwrap().into_inner().lead.unwrap();
    let mut wrong = app.create_request("Jane");
    wrong.properties.insert("hs_lead_label".to_owned(), format!("{SECRET_MARKER} BOILING"));
    leads.create_lead(wrong).await.unwrap_err();
    let filter = pb::Filter {
        property_name: "hs_lead_name".to_owned(),
        operator: pb::FilterOperator::Eq.into(),
        value: format!("{SECRET_MARKER} Jane"),
        ..Default::default()
    };
    let filter_groups = vec![pb::FilterGroup { filters: vec![filter] }];
    let search = pb::SearchLeadsRequest { filter_groups, ..Default::default() };
    leads.search_leads(search).await.unwrap();
    app.get(&lead.id).await.unwrap();
}
