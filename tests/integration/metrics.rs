//! Metrics page: names, types, help texts and label values. `LEADSD_BLESS=1` rewrites the fixture.

use std::{collections::BTreeSet, path::Path};

use crate::harness::{TestApp, failure};

const FIXTURE: &str = "tests/fixtures/metrics.txt";

/// Types, help texts and series of a scrape, sorted and without values.
fn shape(scrape: &str) -> BTreeSet<String> {
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let lines = scrape.lines().filter(|line| *line != "# EOF");
    let without_value = |line: &str| {
        if line.starts_with('#') {
            return line.to_owned();
        }
        let (series, _) = line.rsplit_once(' ').expect("a series and its value");
        series.replace(&version, "version=\"*\"")
    };
    lines.map(without_value).collect()
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn metrics_keep_their_names_types_and_labels() {
    let app = TestApp::builder()
        .oauth()
        .portals(&["default", "eu"])
        .set("TRACE__OTLP_ENDPOINT", "http://127.0.0.1:1")
        // Without a limit of the cgroup, the metric of the limit would be absent.
        .set("GRPC__MEMORY_LIMIT", "64GiB")
        .start()
        .await;
    let id = app.lead("Jane");
    app.get(&id).await.unwrap();
    failure(app.get("999999").await);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let scrape = async |accept: &str| {
        let request = http.get(format!("{}/metrics", app.admin)).header("accept", accept);
        let response = request.send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, response.text().await.unwrap())
    };
    let (kind, text) = scrape("*/*").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE grpc_server_started_total counter") && !text.contains("# EOF"));
    let (kind, text) = scrape("application/openmetrics-text").await;
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(text.ends_with("# EOF\n"));
    let now = shape(&text);
    let text: String = now.iter().map(|line| format!("{line}\n")).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE);
    if std::env::var_os("LEADSD_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let kept: BTreeSet<String> = kept.lines().map(str::to_owned).collect();
    let gone: Vec<_> = kept.difference(&now).collect();
    let new: Vec<_> = now.difference(&kept).collect();
    assert!(gone.is_empty() && new.is_empty(), "gone: {gone:#?}\nnew: {new:#?}");
}
