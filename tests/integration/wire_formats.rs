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
use leadsd_hubspot_fake::{BodyEnd, ScriptedResponse};
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
async fn only_the_field_of_an_unreadable_value_is_lost_and_counted() {
    let app = TestApp::start().await;
    let page = concat!(
        "\u{feff}",
        r#"{"results":[{"id":"1","properties":{"a":"\ud800","b":1.0,"c":12345678901234567890},"url":7.5e0},"#,
        r#"{"id":"2","properties":{"a":"x","a":"y"},"createdAt":"soon","archived":[]},"#,
        r#"{"id":"3","properties":{"a":{"b":1},"c":true},"associations":7}]}"#,
    );
    app.hubspot.script("GET", "/leads", json(page));
    let answer = app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await.unwrap();
    let leads = answer.into_inner().leads;
    let found: Vec<(&str, Vec<(&str, &str)>)> = leads
        .iter()
        .map(|lead| {
            let mut all: Vec<(&str, &str)> =
                lead.properties.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            all.sort_unstable();
            (lead.id.as_str(), all)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("1", vec![("b", "1.0"), ("c", "12345678901234567890")]),
            ("2", vec![("a", "y")]),
            ("3", vec![("c", "true")]),
        ]
    );
    for (field, count) in
        [("properties", 2.0), ("createdAt", 1.0), ("archived", 1.0), ("associations", 1.0)]
    {
        let series = format!(
            "leadsd_hubspot_unreadable_fields_total{{portal=\"default\",field=\"{field}\"}}"
        );
        assert_eq!(app.metric(&series).await, Some(count), "{field}");
    }
}

#[tokio::test]
async fn a_create_with_an_id_is_known_whatever_the_rest_of_the_response_is() {
    let app = TestApp::builder().set("HUBSPOT__REQUEST_TIMEOUT", "2s").start().await;
    let located = |body: &str| {
        let location = "/crm/objects/2026-09/leads/7007".to_owned();
        let headers = vec![("location".to_owned(), location)];
        ScriptedResponse::Exact(201, headers, body.to_owned())
    };
    let truncated = r#"{"id":"7007","properties":{"hs_lead_name":"Ja"#;
    let partial = |end| ScriptedResponse::Partial(Box::new(located(truncated)), end);
    // The second half is missing.
    let whole = format!(r#"{{"id":"7007","properties":{{"hs_lead_name":"{}"}}}}"#, "x".repeat(99));
    let unlocated = |end| {
        let whole = ScriptedResponse::Reply(201, "application/json", whole.clone());
        ScriptedResponse::Partial(Box::new(whole), end)
    };
    for script in [
        ScriptedResponse::Reply(201, "application/json", truncated.into()),
        located(""),
        located("<html>"),
        located(r#"{"properties":"none"}"#),
        partial(BodyEnd::Broken),
        partial(BodyEnd::Silent),
        unlocated(BodyEnd::Broken),
        unlocated(BodyEnd::Silent),
    ] {
        app.hubspot.script("POST", "/leads", script.clone());
        let request = app.create_request("Jane");
        let lead = app.leads.clone().create_lead(request).await.unwrap().into_inner().lead.unwrap();
        assert_eq!((lead.id.as_str(), lead.id_only), ("7007", true), "{script:?}");
        assert!(lead.properties.is_empty(), "{script:?}");
    }
}

#[tokio::test]
async fn the_leads_of_a_batch_create_that_arrived_are_known() {
    let app = TestApp::start().await;
    let result = |number: usize| {
        let padding = "x".repeat(400);
        format!(
            r#"{{"id":"70{number}","properties":{{"hs_lead_name":"n{number}","a":"{padding}"}}}}"#
        )
    };
    let results: Vec<_> = (0..4).map(result).collect();
    let body = format!(r#"{{"status":"COMPLETE","results":[{}]}}"#, results.join(","));
    let whole = ScriptedResponse::Reply(201, "application/json", body);
    let script = ScriptedResponse::Partial(Box::new(whole), BodyEnd::Broken);
    app.hubspot.script("POST", "/batch/create", script);
    let inputs: Vec<_> =
        (0..4).map(|number| app.create_input(&format!("n{number}"), &[])).collect();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let answer = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner();
    let told: Vec<_> = answer
        .results
        .into_iter()
        .map(|result| match result.outcome.unwrap() {
            pb::lead_write_result::Outcome::Lead(lead) => Ok(lead.id),
            pb::lead_write_result::Outcome::Error(error) => Err(error.code),
        })
        .collect();
    let unknown = Err(Code::Unknown as i32);
    assert_eq!(told, [Ok("700".to_owned()), unknown.clone(), unknown.clone(), unknown]);
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
