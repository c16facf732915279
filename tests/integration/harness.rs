//! `TestApp`: the service as `serve` runs it, a fake HubSpot and a fake Vault, all on free ports.

use std::{collections::BTreeMap, io::Write as _, sync::Arc, time::Duration};

use leadsd::{
    app::Bound,
    config::Loaded,
    grpc::pb::{self, leads_service_client::LeadsServiceClient},
};
use leadsd_base::{
    secret::{SECRET_MARKER, Secret},
    time::SystemClock,
};
use leadsd_hubspot_fake::{FakeHubspot, READ, WRITE};
use leadsd_vault_fake::FakeVault;
use serde_json::json;
use tempfile::NamedTempFile;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::logs;

/// Longest any one step of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running service with its peers. Dropping it stops everything.
pub(crate) struct TestApp {
    pub(crate) hubspot: Arc<FakeHubspot>,
    pub(crate) vault: Arc<FakeVault>,
    pub(crate) leads: LeadsServiceClient<Channel>,
    pub(crate) grpc: String,
    pub(crate) admin: String,
    /// A contact that leads can be about.
    pub(crate) contact: String,
    /// Static tokens by portal.
    pub(crate) tokens: BTreeMap<String, Secret>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
    token: Arc<NamedTempFile>,
}

/// What a test asks for before the service starts.
pub(crate) struct Builder {
    api_version: &'static str,
    oauth: bool,
    settings: Vec<(String, String)>,
    portals: Vec<String>,
    wait_ready: bool,
    left_out: Vec<&'static str>,
    secrets: Vec<(&'static str, serde_json::Value)>,
    peers: Option<Peers>,
}

/// What replicas of one service have in common.
#[derive(Clone)]
struct Peers {
    hubspot: Arc<FakeHubspot>,
    vault: Arc<FakeVault>,
    contact: String,
    tokens: BTreeMap<String, Secret>,
    token: Arc<NamedTempFile>,
}

// === impl TestApp ===

impl TestApp {
    pub(crate) fn builder() -> Builder {
        Builder {
            api_version: "2026-09",
            oauth: false,
            settings: Vec::new(),
            portals: vec!["default".to_owned()],
            wait_ready: true,
            left_out: Vec::new(),
            peers: None,
            secrets: Vec::new(),
        }
    }

    /// Another replica of this service: in front of the same HubSpot and Vault.
    pub(crate) fn replica(&self) -> Builder {
        let peers = Peers {
            hubspot: Arc::clone(&self.hubspot),
            vault: Arc::clone(&self.vault),
            contact: self.contact.clone(),
            tokens: self.tokens.clone(),
            token: Arc::clone(&self.token),
        };
        Builder { peers: Some(peers), ..Self::builder() }
    }

    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// A lead made behind the service's back.
    pub(crate) fn lead(&self, name: &str) -> String {
        self.hubspot.add_lead(&self.contact, &json!({"hs_lead_name": name})).expect("a good lead")
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

    /// Asks for one lead with the name property.
    pub(crate) async fn get(&self, id: &str) -> Result<Response<pb::GetLeadResponse>, Status> {
        let request = pb::GetLeadRequest {
            id: id.to_owned(),
            properties: vec!["hs_lead_name".to_owned(), "hs_lead_label".to_owned()],
            ..Default::default()
        };
        self.leads.clone().get_lead(request).await
    }

    /// Paths of the calls HubSpot got, without the token endpoint.
    pub(crate) fn hubspot_calls(&self) -> Vec<String> {
        let log = self.hubspot.log().into_iter();
        log.filter(|call| !call.path.starts_with("/oauth/"))
            .map(|call| format!("{} {}", call.method, call.path))
            .collect()
    }

    /// Stops the service as a signal does and waits for its end.
    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(running) = self.running.take() {
            tokio::time::timeout(PATIENCE, running).await.expect("in time").expect("no panic");
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
        if !std::thread::panicking() {
            logs::assert_clean();
        }
    }
}

// === impl Builder ===

impl Builder {
    pub(crate) fn api_version(mut self, version: &'static str) -> Self {
        self.api_version = version;
        self
    }

    /// OAuth credentials instead of a static token.
    pub(crate) fn oauth(mut self) -> Self {
        self.oauth = true;
        self
    }

    pub(crate) fn portals(mut self, names: &[&str]) -> Self {
        self.portals = names.iter().map(|&name| name.to_owned()).collect();
        self
    }

    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves out a setting that the harness would make.
    pub(crate) fn without(mut self, key: &'static str) -> Self {
        self.left_out.push(key);
        self
    }

    /// Puts a secret into Vault.
    pub(crate) fn secret(mut self, path: &'static str, content: serde_json::Value) -> Self {
        self.secrets.push((path, content));
        self
    }

    /// Does not wait for the credentials.
    pub(crate) fn unready(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    async fn peers(&self) -> Peers {
        let free = "127.0.0.1:0".parse().expect("an address");
        let hubspot = FakeHubspot::start(free, Arc::new(SystemClock)).await.expect("a fake");
        let vault = FakeVault::start(free).await.expect("a fake");
        let contact = hubspot.add_contact("ada@example.com");
        let mut tokens = BTreeMap::new();
        for portal in &self.portals {
            let secret = if self.oauth {
                let (client_id, client_secret, refresh_token) = hubspot.oauth_app();
                json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()})
            } else {
                let token = hubspot.static_token(&[READ, WRITE]);
                let secret = json!({"access_token": token.expose()});
                tokens.insert(portal.clone(), token);
                secret
            };
            vault.put(&format!("hubspot/{portal}"), secret);
        }
        for (path, content) in &self.secrets {
            vault.put(path, content.clone());
        }
        let mut token = NamedTempFile::new().expect("a file");
        writeln!(token, "{}", vault.root_token().expose()).expect("written");
        Peers {
            hubspot: Arc::new(hubspot),
            vault: Arc::new(vault),
            contact,
            tokens,
            token: Arc::new(token),
        }
    }

    pub(crate) async fn start(self) -> TestApp {
        logs::capture();
        let Peers { hubspot, vault, contact, tokens, token } = match self.peers.clone() {
            Some(peers) => peers,
            None => self.peers().await,
        };
        let mut settings = vec![
            ("GRPC__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("GRPC__DRAIN_DELAY".to_owned(), "0s".to_owned()),
            ("ADMIN__LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
            ("VAULT__ADDRESS".to_owned(), format!("http://{}", vault.address())),
            ("VAULT__AUTH__METHOD".to_owned(), "token".to_owned()),
            ("VAULT__AUTH__FILE".to_owned(), token.path().display().to_string()),
            ("VAULT__POLL_INTERVAL".to_owned(), "1s".to_owned()),
            ("HUBSPOT__BASE_URL".to_owned(), format!("http://{}", hubspot.address())),
            ("HUBSPOT__API_VERSION".to_owned(), self.api_version.to_owned()),
            // Tests of retries say how many; the others want to see each failure.
            ("HUBSPOT__MAX_ATTEMPTS".to_owned(), "1".to_owned()),
        ];
        for portal in &self.portals {
            settings.push((format!("PORTALS__{portal}__SECRET"), format!("hubspot/{portal}")));
        }
        settings.retain(|(key, _)| !self.left_out.contains(&key.as_str()));
        settings.extend(self.settings);
        let settings = settings.into_iter().map(|(key, value)| (format!("LEADSD_{key}"), value));
        let config = Loaded::new(None, settings).expect("a good configuration").config;
        let bound = Bound::bind(config).await.expect("bound");
        let grpc = bound.grpc_address().to_string();
        let admin = format!("http://{}", bound.admin_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(bound.run(async {
            let _ = stopped.await;
        }));
        let channel = Channel::from_shared(format!("http://{grpc}")).expect("a URL").connect_lazy();
        let leads = LeadsServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let app = TestApp {
            hubspot,
            vault,
            leads,
            grpc,
            admin,
            contact,
            tokens,
            stop: Some(stop),
            running: Some(running),
            token,
        };
        if self.wait_ready {
            wait_ready(&app.admin).await;
        }
        app
    }
}

/// Waits until `/ready` says so.
pub(crate) async fn wait_ready(admin: &str) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    let ready = async {
        loop {
            let answer = http.get(format!("{admin}/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
}

pub(crate) fn properties(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Checks what holds for every failure, and gives code, reason and the fields at fault.
#[track_caller]
pub(crate) fn failure<T: std::fmt::Debug>(
    answer: Result<T, Status>,
) -> (Code, String, Vec<String>) {
    let status = answer.expect_err("a failure");
    let details = status.get_error_details();
    let info = details.error_info().expect("every failure has an ErrorInfo");
    assert_eq!(info.domain, "leadsd");
    assert!(!status.message().is_empty());
    assert!(!format!("{status:?}").contains(SECRET_MARKER), "a secret in an error");
    assert!(status.metadata().get("x-request-id").is_some(), "the request id is sent back");
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|violation| violation.field.clone()).collect());
    (status.code(), info.reason.clone(), fields.unwrap_or_default())
}
