//! Processes that the service is measured against: a HubSpot that costs as little as possible, and
//! the barest forwarder that gives the same answers.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, http::HeaderName};
use clap::ValueEnum;
use leadsd::grpc::pb;
use leadsd_base::time::Timestamp;
use serde::Deserialize;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::server::{Server, TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use crate::peers::FREE;

/// What a helper process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Answers every read with the same lead.
    Upstream,
    /// Makes of a GetLead one read, and of its answer a lead.
    Forwarder,
}

/// Headers of every HubSpot answer.
const HEADERS: [(&str, &str); 9] = [
    ("content-type", "application/json;charset=utf-8"),
    ("x-hubspot-correlation-id", "019a0000-0000-7000-8000-000000000000"),
    ("x-hubspot-ratelimit-max", "1000000"),
    ("x-hubspot-ratelimit-remaining", "1000000"),
    ("x-hubspot-ratelimit-interval-milliseconds", "10000"),
    ("x-hubspot-ratelimit-secondly", "100000"),
    ("x-hubspot-ratelimit-secondly-remaining", "100000"),
    ("x-hubspot-ratelimit-daily", "1000000000"),
    ("x-hubspot-ratelimit-daily-remaining", "1000000000"),
];

/// A lead as a read of five properties answers it.
const LEAD: &str = r#"{"id":"512345678901","properties":{"hs_createdate":"2026-03-01T12:00:00.000Z","hs_lastmodifieddate":"2026-03-01T12:30:00.000Z","hs_lead_label":"WARM","hs_lead_name":"Lead 512345678901","hs_lead_source":"bench","hs_lead_type":"NEW_BUSINESS","hs_object_id":"512345678901","hs_pipeline_stage":"new-stage-id"},"createdAt":"2026-03-01T12:00:00.000Z","updatedAt":"2026-03-01T12:30:00.000Z","archived":false,"url":"https://app.hubspot.com/contacts/1/record/0-136/512345678901"}"#;

/// The id of that lead.
pub(crate) const LEAD_ID: &str = "512345678901";

/// Plays the role until the process is killed; tells its address first.
pub(crate) async fn run(role: Role, upstream: &str) {
    let tell = |address: &str| writeln!(std::io::stderr(), "{address}").expect("a listener");
    match role {
        Role::Upstream => {
            let (listener, address) = listen().await;
            tell(&address);
            serve(listener, || std::future::ready(())).await;
        }
        Role::Forwarder => {
            let incoming = TcpIncoming::bind(FREE.parse().expect("an address"));
            let incoming = incoming.expect("a free port").with_nodelay(Some(true));
            tell(&incoming.local_addr().expect("an address").to_string());
            let http = client();
            let forwarder = Forwarder { http, collection: collection(upstream) };
            let server = Server::builder().add_service(forwarder);
            server.serve_with_incoming(incoming).await.expect("it serves");
        }
    }
}

/// A free port, and where it is.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(FREE).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

/// Answers every request with the same lead, once `wait` is over.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    wait: impl Fn() -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let answer = move || {
        let wait = wait();
        async move {
            wait.await;
            (HEADERS.map(|(name, value)| (HeaderName::from_static(name), value)), LEAD)
        }
    };
    axum::serve(listener, Router::new().fallback(answer)).await.expect("it serves");
}

/// An HTTP client with nothing set that is not needed.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// Where the leads of an upstream are.
pub(crate) fn collection(upstream: &str) -> String {
    format!("http://{upstream}/crm/objects/2026-09/leads")
}

/// A read as a program makes it that calls HubSpot itself.
pub(crate) async fn read(
    http: &reqwest::Client,
    collection: &str,
    id: &str,
    properties: &[String],
) -> Result<Lead, reqwest::Error> {
    let request = http.get(format!("{collection}/{id}")).bearer_auth("pat-na1-bench");
    let request = request.query(&[("properties", properties.join(","))]);
    request.send().await?.error_for_status()?.json().await
}

/// What a read answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lead {
    id: String,
    properties: BTreeMap<String, Option<String>>,
    created_at: String,
    updated_at: String,
    archived: bool,
    url: String,
}

impl From<Lead> for pb::Lead {
    fn from(lead: Lead) -> Self {
        let Lead { id, properties, created_at, updated_at, archived, url } = lead;
        let time = |text: &str| {
            let time: Timestamp = text.parse().ok()?;
            let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
            Some(prost_types::Timestamp { seconds, nanos })
        };
        Self {
            id,
            properties: properties.into_iter().filter_map(|(k, v)| Some((k, v?))).collect(),
            create_time: time(&created_at),
            update_time: time(&updated_at),
            archived,
            url,
            ..Default::default()
        }
    }
}

/// GetLead, and nothing that is not needed for it.
#[derive(Debug, Clone)]
struct Forwarder {
    http: reqwest::Client,
    collection: String,
}

// === impl Forwarder ===

impl Forwarder {
    #[expect(clippy::disallowed_methods, reason = "the bare forwarder has no builder of statuses")]
    async fn get(
        self,
        request: Request<pb::GetLeadRequest>,
    ) -> Result<Response<pb::GetLeadResponse>, Status> {
        let pb::GetLeadRequest { id, properties, .. } = request.into_inner();
        let lead = read(&self.http, &self.collection, &id, &properties).await;
        let lead = lead.map_err(|error| Status::aborted(error.to_string()))?;
        Ok(Response::new(pb::GetLeadResponse { lead: Some(lead.into()) }))
    }
}

impl NamedService for Forwarder {
    const NAME: &'static str = "hubspot.leads.v1.LeadsService";
}

impl Service<http::Request<Body>> for Forwarder {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async move {
            let mut grpc =
                Grpc::new(ProstCodec::<pb::GetLeadResponse, pb::GetLeadRequest>::default());
            Ok(grpc.unary(service_fn(move |request| own.clone().get(request)), request).await)
        })
    }
}
