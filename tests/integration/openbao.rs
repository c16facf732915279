//! OpenBao on loopback, with storage on disk, so that it can be killed and restarted.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use leadsd_base::time::{SystemClock, WallClock as _};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{PATIENCE, eventually},
    real_peers::tool,
    tls_front::Certificate,
};

/// An unsealed server with a KV v2 engine at `secret`; killed when dropped.
pub(crate) struct OpenBao {
    server: Child,
    folder: TempDir,
    pub(crate) address: String,
    pub(crate) root: String,
    unseal_key: String,
    http: reqwest::Client,
}

/// Addresses of a server.
struct Node<'a> {
    scheme: &'a str,
    host: &'a str,
    api: u16,
    cluster: u16,
    /// Keys of the listener about TLS.
    listener: &'a str,
}

// === impl OpenBao ===

impl OpenBao {
    pub(crate) async fn start() -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self::launch("http", "tls_disable = true", http).await
    }

    /// Starts a cluster of three voters, at one port of 127.0.0.1, 127.0.0.2 and 127.0.0.3. The first is
    /// active.
    pub(crate) async fn start_cluster() -> [Self; 3] {
        let (api, cluster) = (leadsd_testkit::unused_port(), leadsd_testkit::unused_port());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let node =
            |host| Node { scheme: "http", host, api, cluster, listener: "tls_disable = true" };
        let mut first = Self::boot(&node("127.0.0.1"), http.clone()).await;
        first.initialize().await;
        let joined = async |host| {
            let mut bao = Self::boot(&node(host), http.clone()).await;
            bao.root.clone_from(&first.root);
            bao.unseal_key.clone_from(&first.unseal_key);
            let leader = json!({"leader_api_addr": first.address});
            bao.call(Method::PUT, "sys/storage/raft/join", leader).await.expect("joined");
            bao.unseal_until("sys/health?standbyok=true").await;
            bao
        };
        let (second, third) = (joined("127.0.0.2").await, joined("127.0.0.3").await);
        let voters = async || {
            let path = "sys/storage/raft/configuration";
            let found = first.call(Method::GET, path, Value::Null).await.unwrap_or_default();
            let servers =
                found["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
            servers.iter().filter(|server| server["voter"] == true).count() == 3
        };
        eventually("all three are voters", voters).await;
        [first, second, third]
    }

    /// Starts with TLS and certificates of `authority`.
    pub(crate) async fn start_tls(authority: &Authority) -> Self {
        let (certificate, key) = authority.issue("127.0.0.1");
        let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        let folder = authority.folder.path();
        std::fs::write(folder.join("server.pem"), certificate).unwrap();
        std::fs::write(folder.join("server-key.pem"), key).unwrap();
        let listener = format!(
            "tls_cert_file = \"{0}/server.pem\"\n  tls_key_file = \"{0}/server-key.pem\"",
            folder.display()
        );
        Self::launch("https", &listener, http).await
    }

    async fn launch(scheme: &str, listener: &str, http: reqwest::Client) -> Self {
        let (api, cluster) = (leadsd_testkit::unused_port(), leadsd_testkit::unused_port());
        let mut bao =
            Self::boot(&Node { scheme, host: "127.0.0.1", api, cluster, listener }, http).await;
        bao.initialize().await;
        bao
    }

    /// Starts a server that is not initialized.
    async fn boot(node: &Node<'_>, http: reqwest::Client) -> Self {
        let Node { scheme, host, api, cluster, listener } = node;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        let config = format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"{host}\"\n}}\n\
             listener \"tcp\" {{\n  address = \"{host}:{api}\"\n  \
             cluster_address = \"{host}:{cluster}\"\n  {listener}\n}}\n\
             api_addr = \"{scheme}://{host}:{api}\"\ncluster_addr = \"http://{host}:{cluster}\"\n",
            folder.path().join("data").display()
        );
        std::fs::write(folder.path().join("bao.hcl"), config).unwrap();
        let bao = Self {
            server: spawn(&folder),
            folder,
            address: format!("{scheme}://{host}:{api}"),
            root: String::new(),
            unseal_key: String::new(),
            http,
        };
        bao.until_up().await;
        bao
    }

    /// Initializes and unseals a new server, and mounts the engine.
    async fn initialize(&mut self) {
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let made = self.call(Method::PUT, "sys/init", shares).await.expect("initialised");
        made["root_token"].as_str().unwrap().clone_into(&mut self.root);
        made["keys"][0].as_str().unwrap().clone_into(&mut self.unseal_key);
        self.unseal().await;
        let engine = json!({"type": "kv", "options": {"version": "2"}});
        self.post("sys/mounts/secret", engine).await;
        // A new engine rejects requests until it has set up its versions.
        eventually("the engine is ready", || async {
            self.call(Method::GET, "secret/config", Value::Null).await.is_some()
        })
        .await;
    }

    /// Restarts a server with TLS with a certificate of another authority. `files` is the authority of its
    /// start, whose folder has the files of the listener.
    pub(crate) async fn move_to(&mut self, files: &Authority, authority: &Authority) {
        let (certificate, key) = authority.issue("127.0.0.1");
        std::fs::write(files.folder.path().join("server.pem"), certificate).unwrap();
        std::fs::write(files.folder.path().join("server-key.pem"), key).unwrap();
        let ca = reqwest::Certificate::from_pem(authority.pem().as_bytes()).unwrap();
        self.http = reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap();
        self.kill();
        self.restart().await;
    }

    /// Kills the process without cleanup.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Restarts and unseals the server.
    pub(crate) async fn restart(&mut self) {
        self.server = spawn(&self.folder);
        self.until_up().await;
        self.unseal().await;
    }

    pub(crate) async fn seal(&self) {
        self.post("sys/seal", json!({})).await;
    }

    /// Unseals the server and waits until it serves as the active node.
    pub(crate) async fn unseal(&self) {
        self.unseal_until("sys/health").await;
    }

    /// Unseals the server and waits until the request succeeds.
    async fn unseal_until(&self, health: &str) {
        let key = json!({"key": self.unseal_key});
        let serves = async {
            // A starting server may reject the unseal key.
            while self.call(Method::PUT, "sys/unseal", key.clone()).await.is_none()
                || self.call(Method::GET, health, Value::Null).await.is_none()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, serves).await.expect("unsealed");
    }

    async fn until_up(&self) {
        let url = format!("{}/v1/sys/seal-status", self.address);
        let up = async {
            while self.http.get(&url).send().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.expect("bao is up");
    }

    /// Sends a request with the root token; `None` if it failed.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Option<Value> {
        let url = format!("{}/v1/{path}", self.address);
        let request = self.http.request(method, url).header("x-vault-token", &self.root);
        let answer = request.json(&body).send().await.ok()?;
        let text =
            if answer.status().is_success() { answer.text().await.ok()? } else { return None };
        Some(serde_json::from_str(&text).unwrap_or_else(|_| json!({})))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> impl Future<Output = Value> {
        let (path, asked) = (path.to_owned(), body);
        async move {
            let answer = self.call(Method::POST, &path, asked).await;
            answer.unwrap_or_else(|| panic!("{path} failed"))
        }
    }

    /// Creates a policy `leadsd` for the paths below `secret/*/hubspot/`.
    pub(crate) async fn policy(&self) {
        let policy = r#"path "secret/data/hubspot/*" { capabilities = ["read", "create", "update"] }
                        path "secret/metadata/hubspot/*" { capabilities = ["read", "list"] }
                        path "secret/metadata/hubspot" { capabilities = ["list"] }"#;
        self.post("sys/policies/acl/leadsd", json!({ "policy": policy })).await;
    }

    /// Creates an AppRole with that policy; returns its role id and secret id.
    pub(crate) async fn approle(&self, ttl: &str) -> (String, String) {
        self.policy().await;
        self.call(Method::POST, "sys/auth/approle", json!({"type": "approle"})).await;
        let role = json!({"token_policies": "leadsd", "token_ttl": ttl});
        self.post("auth/approle/role/leadsd", role).await;
        let path = "auth/approle/role/leadsd/role-id";
        let role_id = self.call(Method::GET, path, Value::Null).await.unwrap();
        let secret_id = self.post("auth/approle/role/leadsd/secret-id", json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&role_id["data"]["role_id"]), text(&secret_id["data"]["secret_id"]))
    }

    /// Enables the method jwt for the service account of the fixtures.
    pub(crate) async fn jwt(&self) {
        self.policy().await;
        self.post("sys/auth/jwt", json!({"type": "jwt"})).await;
        let key = std::fs::read_to_string("tests/fixtures/vault/jwt-key.pem").unwrap();
        self.post("auth/jwt/config", json!({"jwt_validation_pubkeys": [key]})).await;
        let role = json!({"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
                          "token_policies": "leadsd", "token_ttl": "1h"});
        self.post("auth/jwt/role/leadsd", role).await;
    }

    /// Enables the method kubernetes with the TokenReview endpoint at `reviewer`.
    pub(crate) async fn kubernetes(&self, reviewer: &str) {
        self.policy().await;
        self.post("sys/auth/kubernetes", json!({"type": "kubernetes"})).await;
        let ca = std::fs::read_to_string("tests/fixtures/vault/kubernetes-ca.pem").unwrap();
        let config = json!({"kubernetes_host": reviewer, "kubernetes_ca_cert": ca,
                            "token_reviewer_jwt": jwt(), "disable_local_ca_jwt": true});
        self.post("auth/kubernetes/config", config).await;
        let role = json!({"bound_service_account_names": "leadsd",
                          "bound_service_account_namespaces": "default",
                          "token_policies": "leadsd", "token_ttl": "1h"});
        self.post("auth/kubernetes/role/leadsd", role).await;
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        // The process may have exited.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A certificate authority of the test, with its files.
pub(crate) struct Authority {
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
    pem: String,
    pub(crate) folder: TempDir,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { key, params, pem, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for a name, for servers and clients; returns it with its key.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        self.issue_with(name, |_| {})
    }

    /// Issues a certificate for 127.0.0.1 with this fault; returns it with its key.
    pub(crate) fn issue_as(&self, certificate: Certificate) -> (String, String) {
        match certificate {
            Certificate::Good => self.issue("127.0.0.1"),
            Certificate::OfAnotherName => self.issue("vault.example"),
            Certificate::Expired => self.issue_with("127.0.0.1", |params| {
                params.not_before = rcgen::date_time_ymd(2020, 1, 1);
                params.not_after = rcgen::date_time_ymd(2021, 1, 1);
            }),
            Certificate::EndingSoon => self.issue_with("127.0.0.1", |params| {
                let end = SystemClock.now().as_second() + 3 * 86_400;
                let since_epoch = Duration::from_secs(end.try_into().unwrap());
                params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
            }),
            Certificate::Early => self.issue_with("127.0.0.1", |params| {
                params.not_before = rcgen::date_time_ymd(2090, 1, 1);
                params.not_after = rcgen::date_time_ymd(2091, 1, 1);
            }),
        }
    }

    fn issue_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![
            rcgen::ExtendedKeyUsagePurpose::ServerAuth,
            rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn spawn(folder: &TempDir) -> Child {
    Command::new(tool("LEADSD_TEST_BAO", "bao"))
        .arg("server")
        .arg(format!("-config={}", folder.path().join("bao.hcl").display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bao starts")
}

/// Service account token of the fixtures.
pub(crate) fn jwt() -> String {
    let text = std::fs::read_to_string("tests/fixtures/vault/service-account.jwt").unwrap();
    text.trim().to_owned()
}

/// Writes a text with a final newline into a file of the folder, as editors do.
pub(crate) fn file(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, format!("{text}\n")).unwrap();
    path
}

/// Starts a TokenReview endpoint that accepts one token; returns its address.
pub(crate) async fn token_reviewer() -> String {
    use axum::{Json, Router, http::StatusCode, routing::post};
    let review = |Json(asked): Json<Value>| async move {
        let known = asked["spec"]["token"] == jwt();
        let user = json!({"username": "system:serviceaccount:default:leadsd",
                          "uid": "0b1c2d3e-0000-4000-8000-000000000001",
                          "groups": ["system:serviceaccounts"]});
        let status = json!({"authenticated": known, "user": user, "audiences": ["vault"]});
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                            "status": status});
        (StatusCode::CREATED, Json(review))
    };
    let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(review));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}
