//! A real forward proxy with authentication that re-signs TLS: login, doctor, serve, refresh, calls.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_hubspot_fake::{READ, WRITE};
use leadsd_testkit::Process;
use serde_json::json;
use tokio::net::TcpStream;

use super::Private;
use crate::{
    harness::{LEADSD, eventually, properties},
    login::Setting,
    openbao::file,
    real_peers::{run, text, tool},
};

/// A running mitmproxy; killed when dropped.
struct Mitmproxy {
    child: Child,
    port: u16,
}

// === impl Mitmproxy ===

impl Mitmproxy {
    /// Starts the proxy with the credentials `user` and `hush-1`. It trusts the CA of servers; its own
    /// CA is `mitmproxy-ca-cert.pem` in the folder.
    async fn start(folder: &Path, trusted: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let option = |name: &str, path: &Path| format!("{name}={}", path.display());
        let child = Command::new(tool("LEADSD_TEST_MITMDUMP", "mitmdump"))
            .args(["--listen-host", "127.0.0.1", "--listen-port", &port.to_string()])
            .args(["--proxyauth", "user:hush-1", "--set", &option("confdir", folder)])
            .args(["--set", &option("ssl_verify_upstream_trusted_ca", trusted)])
            .env("HOME", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mitmdump starts");
        eventually("mitmdump listens", async || {
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Self { child, port }
    }
}

impl Drop for Mitmproxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs mitmdump (mitmproxy)"]
async fn login_doctor_and_serve_work_through_a_proxy_that_authenticates_and_re_signs() {
    let (setting, private) = (Setting::new().await, Private::new());
    let folder = tempfile::tempdir().unwrap();
    let proxy = Mitmproxy::start(folder.path(), &private.ca_file()).await;
    let front = private.front("127.0.0.1", setting.hubspot.address());
    setting.hubspot.seed();
    setting.hubspot.add_unique_property("crm_key");
    setting.vault.put("leadsd/egress-proxy", json!({"username": "user", "password": "hush-1"}));
    let config = setting.folder.path().join("leadsd.toml");
    let plain = format!("base_url = \"http://{}\"", setting.hubspot.address());
    let text_with = |egress: &str| {
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace(&plain, &format!("base_url = \"https://{front}\""));
        format!("{text}\n[egress]\n{egress}\n")
    };
    let ca = folder.path().join("mitmproxy-ca-cert.pem");
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let with_ca = format!(
        "proxy = \"{address}\"\ncredentials_secret = \"leadsd/egress-proxy\"\nca_files = [\"{}\"]",
        ca.display()
    );
    let good = file(&setting.folder, "good.toml", &text_with(&with_ca));
    let without_ca = with_ca.split("ca_files").next().unwrap();
    let no_ca = file(&setting.folder, "no-ca.toml", &text_with(without_ca));
    let bare = file(&setting.folder, "bare.toml", &text_with(&format!("proxy = \"{address}\"")));
    let leadsd = |command: &str, config: &Path| {
        let mut leadsd = Command::new(LEADSD);
        leadsd.args([command, "--config"]).arg(config).env_clear();
        leadsd
    };

    // Login with a static token from standard input.
    let token = setting.hubspot.static_token(&[READ, WRITE]);
    let input = file(&setting.folder, "token", token.expose());
    let mut login = leadsd("login", &good);
    login.arg("--static").stdin(std::fs::File::open(input).unwrap());
    let said = text(&run(&mut login).await);
    assert!(said.contains("Stored"), "{said}");

    // Without the CA of the proxy, or without credentials, doctor says what to set.
    let said = text(&run(&mut leadsd("doctor", &no_ca)).await);
    assert!(said.contains("not trusted") && said.contains("egress.ca_files"), "{said}");
    let said = text(&run(&mut leadsd("doctor", &bare)).await);
    assert!(said.contains("requires credentials") && said.contains("credentials_secret"), "{said}");
    let said = text(&run(&mut leadsd("doctor", &good)).await);
    let way = format!("; proxy 127.0.0.1:{} (egress.proxy)", proxy.port);
    assert_eq!(said.matches(&way).count(), 2, "{said}");
    assert!(!said.contains("FAIL") && !said.contains("hush"), "{said}");

    // The service refreshes a grant and calls.
    let (id, secret, refresh) = setting.hubspot.oauth_app();
    setting.vault.put(
        "hubspot/default",
        json!({"client_id": id, "client_secret": secret.expose(), "refresh_token": refresh.expose()}),
    );
    let process = Process::serve(LEADSD, &good, &[("NO_PROXY", "*")]);
    let grpc = process.ready().await;
    calls(&grpc, &setting.hubspot.add_contact("jane@example.com")).await;
    let log = setting.hubspot.log();
    assert!(log.iter().any(|call| call.path.starts_with("/oauth/")), "the grant is refreshed");
    process.signal("TERM");
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("hush"), "{log}");
}

/// Sends one call of each kind.
async fn calls(grpc: &str, contact: &str) {
    let mut leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let create = pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", "Jane"), ("crm_key", "1")]),
        primary_contact_id: contact.to_owned(),
        ..Default::default()
    };
    let id = leads.create_lead(create).await.unwrap().into_inner().lead.unwrap().id;
    let get = pb::GetLeadRequest { id: id.clone(), ..Default::default() };
    leads.get_lead(get).await.unwrap();
    let update = pb::UpdateLeadRequest {
        id: id.clone(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    leads.update_lead(update).await.unwrap();
    leads.list_leads(pb::ListLeadsRequest::default()).await.unwrap();
    leads.search_leads(pb::SearchLeadsRequest::default()).await.unwrap();
    let batch = pb::BatchGetLeadsRequest { ids: vec![id.clone()], ..Default::default() };
    leads.batch_get_leads(batch).await.unwrap();
    let upsert = pb::UpsertLeadRequest {
        id_property: "crm_key".to_owned(),
        id: "1".to_owned(),
        properties: properties(&[("hs_lead_label", "COLD")]),
        ..Default::default()
    };
    leads.upsert_lead(upsert).await.unwrap();
    let create = pb::LeadCreate {
        properties: properties(&[("hs_lead_name", "Joe")]),
        primary_contact_id: contact.to_owned(),
        ..Default::default()
    };
    let batch = pb::BatchCreateLeadsRequest { inputs: vec![create], ..Default::default() };
    leads.batch_create_leads(batch).await.unwrap();
    let update = pb::LeadUpdate {
        id: id.clone(),
        properties: properties(&[("hs_lead_label", "WARM")]),
        ..Default::default()
    };
    let batch = pb::BatchUpdateLeadsRequest { inputs: vec![update], ..Default::default() };
    leads.batch_update_leads(batch).await.unwrap();
    let upsert = pb::LeadUpsert {
        id_property: "crm_key".to_owned(),
        id: "1".to_owned(),
        properties: properties(&[("hs_lead_label", "HOT")]),
        ..Default::default()
    };
    let batch = pb::BatchUpsertLeadsRequest { inputs: vec![upsert], ..Default::default() };
    leads.batch_upsert_leads(batch).await.unwrap();
    let batch = pb::BatchArchiveLeadsRequest { ids: vec![id.clone()], ..Default::default() };
    leads.batch_archive_leads(batch).await.unwrap();
    let archive = pb::ArchiveLeadRequest { id, ..Default::default() };
    leads.archive_lead(archive).await.unwrap();
}
