//! A real Prometheus scrapes two releases, evaluates the alerts, and answers the queries of the dashboard.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    documentation::{expressions, read},
    harness::{TestApp, eventually},
    real_peers::tool,
};

const RULES: &str = "helm/leadsd/alerts/leadsd.rules.yaml";
const DASHBOARD: &str = "helm/leadsd/dashboards/leadsd.json";

/// A server that scrapes each second; killed when dropped.
struct Prometheus {
    server: Child,
    address: String,
    _folder: TempDir,
}

// === impl Prometheus ===

impl Prometheus {
    /// Scrapes these admin ports. Each has a release name, which is its namespace and its job.
    fn start(releases: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<Value> = releases
            .iter()
            .map(|(release, admin)| {
                let address = admin.trim_start_matches("http://");
                let target = json!({"targets": [address], "labels": {"namespace": release}});
                json!({"job_name": release, "static_configs": [target]})
            })
            .collect();
        let rules = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(RULES);
        // JSON is YAML.
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": targets,
        });
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let address = format!("127.0.0.1:{}", leadsd_testkit::unused_port());
        let server = Command::new(tool("LEADSD_TEST_PROMETHEUS", "prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Self { server, address, _folder: folder }
    }

    /// Series that a query finds now; `None` while the server does not answer. Panics if the query is not
    /// valid.
    async fn query(&self, query: &str) -> Option<Vec<Value>> {
        let url = format!("http://{}/api/v1/query", self.address);
        let url = url::Url::parse_with_params(&url, [("query", query)]).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let text = http.get(url).send().await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    /// Waits until a query finds exactly these values of a label.
    async fn until(&self, query: &str, label: &str, expected: &[&str]) {
        eventually(&format!("{query} finds {expected:?}"), async || {
            let found = self.query(query).await.unwrap_or_default();
            let mut found: Vec<_> =
                found.iter().filter_map(|series| series["metric"][label].as_str()).collect();
            found.sort_unstable();
            found == expected
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs prometheus"]
async fn two_releases_are_scraped_alerted_on_and_shown_apart() {
    let good = TestApp::start().await;
    let dead = TestApp::builder()
        .unready()
        .secret("hubspot/revoked", json!({"access_token": "pat-na1-revoked"}))
        .set("PORTALS__DEFAULT__SECRET", "hubspot/revoked")
        .start()
        .await;
    let prometheus = Prometheus::start(&[("crm", &good.admin), ("shop", &dead.admin)]);
    prometheus.until("up == 1", "job", &["crm", "shop"]).await;
    prometheus.until("leadsd_credential_usable == 1", "namespace", &["crm"]).await;
    prometheus.until("leadsd_credential_usable == 0", "namespace", &["shop"]).await;
    // The alerts wait for their duration; their conditions hold for one of the releases.
    let alerts = |name: &str| format!("ALERTS{{alertname=\"{name}\"}}");
    prometheus.until(&alerts("LeadsdCredentialUnusable"), "namespace", &["shop"]).await;
    prometheus.until(&alerts("LeadsdDown"), "namespace", &[]).await;
    prometheus.until(&alerts("LeadsdCredentialStale"), "namespace", &[]).await;

    let id = good.lead("Jane");
    let shown = "sum by (grpc_method) (rate(grpc_server_handled_total{namespace=\"crm\"}[5m])) > 0";
    eventually("calls are counted", async || {
        good.get(&id).await.unwrap();
        prometheus.query(shown).await.is_some_and(|series| !series.is_empty())
    })
    .await;
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let (mut with_data, mut all) = (0, 0);
    for query in expressions(&dashboard["panels"]) {
        let query = query
            .replace("$namespace", "crm")
            .replace("$job", "crm")
            .replace("$instance", ".*")
            .replace("$portal", ".*")
            .replace("$__rate_interval", "5m")
            .replace("$__range", "1h");
        assert!(!query.contains('$'), "an unknown variable: {query}");
        let found = prometheus.query(&query).await.expect("an answer");
        all += 1;
        with_data += usize::from(!found.is_empty());
    }
    // The others are about events that have not happened.
    assert!(with_data * 2 > all, "{with_data} of {all} queries have data");
    dead.stop().await;
    prometheus.until(&alerts("LeadsdDown"), "namespace", &["shop"]).await;
    good.stop().await;
}
