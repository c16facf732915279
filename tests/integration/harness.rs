//! The service of this crate in the harness of `leadsd-testkit`, with a client of its contract.

use std::ops::Deref;

use leadsd::{
    app::BoundService,
    config::Loaded,
    grpc::pb::{self, leads_service_client::LeadsServiceClient},
    telemetry,
};
use leadsd_base::secret::SECRET_MARKER;
use leadsd_testkit::Launched;
pub(crate) use leadsd_testkit::{PATIENCE, eventually, metrics_page, wait_ready};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// The binary under test.
pub(crate) const LEADSD: &str = env!("CARGO_BIN_EXE_leadsd");

/// Maximum size of a response that the client takes.
const MAX_RESPONSE: usize = 64 << 20;

/// A running service with a client. Dropping it stops the service and checks that nothing leaked.
pub(crate) struct TestApp {
    pub(crate) leads: LeadsServiceClient<Channel>,
    app: leadsd_testkit::TestApp,
}

/// Configuration of a service before it starts.
pub(crate) struct Builder(leadsd_testkit::Builder);

// === impl TestApp ===

impl TestApp {
    pub(crate) fn builder() -> Builder {
        let launch: leadsd_testkit::Launch = |settings, stop| {
            Box::pin(async {
                let config = Loaded::new(None, settings).expect("a valid configuration").config;
                let bound = BoundService::bind(config).await.expect("free ports");
                let grpc = bound.grpc_address().to_string().parse().expect("an IP address");
                let admin = bound.admin_address();
                let run = Box::pin(bound.run(async {
                    // An error means that the test has ended.
                    let _ = stop.await;
                }));
                Launched { grpc, admin, run }
            })
        };
        let filter = || telemetry::filter("trace").expect("a valid filter");
        Builder(leadsd_testkit::Builder::new(launch, filter))
    }

    /// Configures another replica of this service, with the same HubSpot and Vault.
    pub(crate) fn replica(&self) -> Builder {
        Builder(self.app.replica())
    }

    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn create_request(&self, name: &str) -> pb::CreateLeadRequest {
        pb::CreateLeadRequest {
            properties: properties(&[("hs_lead_name", name)]),
            primary_contact_id: self.contact.clone(),
            ..Default::default()
        }
    }

    pub(crate) fn create_input(&self, name: &str, more: &[(&str, &str)]) -> pb::LeadCreate {
        let mut properties = properties(more);
        properties.insert("hs_lead_name".to_owned(), name.to_owned());
        pb::LeadCreate {
            properties,
            primary_contact_id: self.contact.clone(),
            ..Default::default()
        }
    }

    /// Reads one lead with its name and label.
    pub(crate) async fn get(&self, id: &str) -> Result<Response<pb::GetLeadResponse>, Status> {
        let request = pb::GetLeadRequest {
            id: id.to_owned(),
            properties: vec!["hs_lead_name".to_owned(), "hs_lead_label".to_owned()],
            ..Default::default()
        };
        self.leads.clone().get_lead(request).await
    }

    /// Waits until HubSpot has received the requests that its scripted responses are for.
    pub(crate) async fn scripts_used(&self) {
        let hubspot = &self.app.hubspot;
        eventually("HubSpot receives the scripted requests", async || hubspot.scripts_left() == 0)
            .await;
    }

    /// Waits until at least this many calls are queued in this bucket of the portal `default`.
    pub(crate) async fn queued(&self, bucket: &str, calls: usize) {
        let what = format!("{calls} calls are queued in {bucket}");
        eventually(&what, async || self.queue(bucket).await >= to_f64(calls)).await;
    }

    async fn queue(&self, bucket: &str) -> f64 {
        let name = format!("leadsd_quota_waiting{{portal=\"default\",bucket=\"{bucket}\"}}");
        self.metric(&name).await.unwrap_or_default()
    }

    /// Waits until this many calls of an RPC of the LeadsService are in progress.
    pub(crate) async fn in_flight(&self, method: &str, calls: usize) {
        eventually(&format!("{calls} calls of {method} are in flight"), async || {
            let page = metrics_page(&self.app.admin).await.unwrap_or_default();
            let line = page.lines().find(|line| {
                line.starts_with("leadsd_grpc_in_flight{")
                    && line.contains(&format!("\"{method}\""))
            });
            let value = line.and_then(|line| line.rsplit(' ').next());
            value.and_then(|value| value.parse().ok()).unwrap_or(0.0) == to_f64(calls)
        })
        .await;
        // A call counts from its headers on. One that comes later is rejected after the others were
        // read.
        let invalid = pb::ListLeadsRequest { page_size: -1, ..Default::default() };
        self.leads.clone().list_leads(invalid).await.expect_err("an invalid request");
    }

    /// Value of a metric with these labels; `None` if absent.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = metrics_page(&self.app.admin).await?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().expect("a number"))
    }

    /// Access event of a call; fails if there are several.
    #[track_caller]
    pub(crate) fn access_event(&self, request_id: &str) -> Option<String> {
        let events = self.app.logs.events("leadsd::access", request_id);
        assert!(events.len() <= 1, "one event for each call: {events:?}");
        events.into_iter().next()
    }

    /// Stops the service as a signal does, and checks that nothing leaked.
    pub(crate) async fn stop(self) {
        let Self { leads, app } = self;
        drop(leads);
        app.stop().await;
    }
}

impl Deref for TestApp {
    type Target = leadsd_testkit::TestApp;

    fn deref(&self) -> &Self::Target {
        &self.app
    }
}

// === impl Builder ===

impl Builder {
    pub(crate) fn api_version(self, version: &'static str) -> Self {
        Self(self.0.api_version(version))
    }

    pub(crate) fn oauth(self) -> Self {
        Self(self.0.oauth())
    }

    pub(crate) fn portals(self, names: &[&str]) -> Self {
        Self(self.0.portals(names))
    }

    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        Self(self.0.set(key, value))
    }

    pub(crate) fn without(self, key: &'static str) -> Self {
        Self(self.0.without(key))
    }

    pub(crate) fn secret(self, path: &'static str, content: serde_json::Value) -> Self {
        Self(self.0.secret(path, content))
    }

    pub(crate) fn unready(self) -> Self {
        Self(self.0.unready())
    }

    pub(crate) async fn start(self) -> TestApp {
        let app = self.0.start().await;
        let channel = Channel::from_shared(format!("http://{}", app.grpc)).expect("a URL");
        let leads = LeadsServiceClient::new(channel.connect_lazy());
        TestApp { leads: leads.max_decoding_message_size(MAX_RESPONSE), app }
    }
}

/// Number of random cases: `few`, or `all` if `LEADSD_TEST_CASES=full` asks for a thorough run.
pub(crate) fn cases(few: usize, all: usize) -> usize {
    if std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full") { all } else { few }
}

pub(crate) fn properties(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A count in the format of a metric.
#[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
pub(crate) fn to_f64(count: usize) -> f64 {
    count as f64
}

/// Path of an RPC of the LeadsService.
pub(crate) fn leads_rpc(method: &str) -> String {
    format!("/leadsd.v1.LeadsService/{method}")
}

/// Code, reason and rejected fields of an error, after checks that hold for every error.
#[track_caller]
pub(crate) fn failure<T: std::fmt::Debug>(
    result: Result<T, Status>,
) -> (Code, String, Vec<String>) {
    let status = result.expect_err("an error");
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, "leadsd");
    assert!(!status.message().is_empty());
    assert!(!format!("{status:?}").contains(SECRET_MARKER), "a secret in an error");
    assert!(status.metadata().get("x-request-id").is_some(), "the request id is sent back");
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect());
    (status.code(), info.reason.clone(), fields.unwrap_or_default())
}
