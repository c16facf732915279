//! Authentication and authorization over gRPC: certificates, tokens, API keys and policies; their
//! errors; and rotation of keys and certificates during calls.

mod audit;
mod authorization;
mod certificate_rotation;
mod command_line;
mod health;
pub(crate) mod issuers;
mod key_rotation;
mod third_party_peers;
mod tls;

use std::time::Duration;

use leadsd_base::secret::SECRET_MARKER;
use serde_json::json;

use self::issuers::{Authority, Issuer, Names, sha256};
use crate::harness::{Builder, PATIENCE, TestApp};

/// API key of a caller; it must not appear in the log.
fn api_key(name: &str) -> String {
    format!("{name}-key-{SECRET_MARKER}-0123456789")
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, reached: impl Fn() -> F) {
    let all = async {
        while !reached().await {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap_or_else(|_| panic!("{what} in time"));
}

/// Value of a metric with these labels.
async fn metric(app: &TestApp, name: &str) -> Option<f64> {
    scraped(&app.admin, name).await
}

async fn scraped(admin: &str, name: &str) -> Option<f64> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text = http.get(format!("{admin}/metrics")).send().await.unwrap();
    let text = text.text().await.unwrap();
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start_matches("{}").strip_prefix(' '));
    found.map(|value| value.parse().unwrap())
}

/// Policies of all callers, for every authentication method.
fn with_policies(mut builder: Builder) -> Builder {
    for (policy, portals, access, quota, streams, share) in [
        ("writer", r#"["default"]"#, "write", "true", "false", "5"),
        ("reader", r#"["default"]"#, "read", "false", "true", "1"),
        ("watcher", r#"["zurich"]"#, "none", "true", "false", "1"),
        ("everywhere", r#"["*"]"#, "write", "true", "true", "1"),
        ("blocked", r#"["*"]"#, "none", "false", "false", "1"),
    ] {
        let callers = format!(
            r#"["{policy}", "spiffe://test/{policy}", "system:serviceaccount:shop:{policy}"]"#
        );
        for (key, value) in [
            ("CALLERS", callers.as_str()),
            ("PORTALS", portals),
            ("ACCESS", access),
            ("QUOTA", quota),
            ("EXPORT", streams),
            ("IMPORT", if access == "write" { streams } else { "false" }),
            ("WEIGHT", share),
        ] {
            builder = builder.set(&format!("POLICY__{policy}__{key}"), value);
        }
    }
    builder
}

/// A service with every authentication method, and the issuers of credentials.
struct World {
    app: TestApp,
    ca: Authority,
    issuer: Issuer,
    folder: tempfile::TempDir,
}

// === impl World ===

impl World {
    async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// Starts the service with further settings.
    async fn start_with(change: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (ca, issuer) = (Authority::new("ca"), Issuer::new());
        ca.server().write(folder.path(), "tls");
        std::fs::write(folder.path().join("ca.crt"), ca.pem()).unwrap();
        std::fs::write(folder.path().join("jwks.json"), issuer.jwks().to_string()).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let builder = TestApp::builder()
            .portals(&["default", "zurich"])
            .set("GRPC__TLS__CERT_FILE", &path("tls.crt"))
            .set("GRPC__TLS__KEY_FILE", &path("tls.key"))
            .set("GRPC__TLS__CLIENT_CA_FILE", &path("ca.crt"))
            .set("GRPC__TLS__CLIENT_AUTH", "optional")
            .set("AUTH__JWT__ISSUER", issuers::ISSUER)
            .set("AUTH__JWT__AUDIENCE", "leadsd")
            .set("AUTH__JWT__JWKS_FILE", &path("jwks.json"))
            .set("AUTH__API_KEYS__SECRET", "leadsd/api-keys")
            .secret(
                "leadsd/api-keys",
                json!({"writer": sha256(&api_key("writer")), "reader": sha256(&api_key("reader")),
                       "watcher": sha256(&api_key("watcher")),
                       "everywhere": sha256(&api_key("everywhere")),
                       "blocked": sha256(&api_key("blocked")),
                       "stranger": sha256(&api_key("stranger"))}),
            );
        let app = change(with_policies(builder)).start().await;
        Self { app, ca, issuer, folder }
    }

    /// Opens a connection without a client certificate.
    async fn connect(&self) -> tonic::transport::Channel {
        issuers::connect(&self.app.grpc, &self.ca, None).await.expect("a connection")
    }

    /// Opens a connection with a client certificate of this name.
    async fn connect_as(&self, name: &str) -> tonic::transport::Channel {
        let client = self.ca.client(&Names::uri(&format!("spiffe://test/{name}")));
        issuers::connect(&self.app.grpc, &self.ca, Some(&client)).await.expect("a connection")
    }
}
