//! Documentation for operators agrees with the service: metrics, log fields, alerts, runbooks and
//! the dashboard. `LEADSD_BLESS=1 cargo test documentation` regenerates the generated parts of the
//! pages.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, process::Command};

use leadsd::{
    admin::metrics::{self, Metric, MetricKind},
    telemetry::names,
};
use serde_json::Value;

use crate::real_peers::{run, text, tool};

const RULES: &str = "helm/leadsd/alerts/leadsd.rules.yaml";
const DASHBOARD: &str = "helm/leadsd/dashboards/leadsd.json";

pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Compares the part of a page between its marks with its expected content, or writes it.
pub(crate) fn agrees(page: &str, part: &str, wanted: &str) {
    let old = read(page);
    let open = format!("<!-- {part}: written by LEADSD_BLESS=1 cargo test documentation -->\n");
    let at = old.find(&open).unwrap_or_else(|| panic!("{page} has a part {part}")) + open.len();
    let end = at + old[at..].find("<!-- end -->").expect("the part ends");
    if std::env::var_os("LEADSD_BLESS").is_some() {
        let new = format!("{}{wanted}{}", &old[..at], &old[end..]);
        std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(page), new).unwrap();
        return;
    }
    let said = &old[at..end];
    assert!(said == wanted, "{page} is old: LEADSD_BLESS=1 cargo test documentation");
}

fn table(rows: &[(&str, &str)]) -> String {
    let mut out = "| | |\n|---|---|\n".to_owned();
    for (name, meaning) in rows {
        writeln!(out, "| `{name}` | {meaning} |").unwrap();
    }
    out
}

#[test]
fn documentation_lists_every_metric_and_log_name() {
    let mut rows = "| Name | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for Metric { name, kind, labels, help } in metrics::all() {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(rows, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).unwrap();
    }
    agrees("docs/OPERATIONS.md", "metrics", &rows);
    agrees("docs/LOGGING.md", "targets", &table(names::TARGETS));
    agrees("docs/LOGGING.md", "spans", &table(names::LOG_SPANS));
    agrees("docs/LOGGING.md", "fields", &table(names::FIELDS));
}

/// Names of metrics in a text, as scraped.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.split(|c| !is_name(c))
        .filter(|word| word.starts_with("leadsd_") || word.starts_with("process_"))
        .collect()
}

fn scraped() -> BTreeSet<String> {
    let endings = |kind| match kind {
        MetricKind::Counter => &["_total"][..],
        MetricKind::Gauge => &[""],
        MetricKind::Histogram => &["_bucket", "_sum", "_count"],
    };
    let all = metrics::all();
    all.flat_map(|metric| endings(metric.kind).iter().map(|end| format!("{}{end}", metric.name)))
        .collect()
}

/// The expressions of a dashboard's panels.
pub(crate) fn expressions(panels: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for panel in panels.as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    all
}

#[test]
fn documentation_dashboard_and_alerts_use_existing_metrics() {
    let scraped = scraped();
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = &dashboard["panels"];
    let shown = expressions(panels);
    assert!(shown.len() > 30, "{} expressions", shown.len());
    let asked = [read(RULES), shown.join("\n")].join("\n");
    let unknown: Vec<_> =
        metrics_in(&asked).into_iter().filter(|name| !scraped.contains(*name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let mut ids = BTreeSet::new();
    for panel in panels.as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "an id stands for one panel");
        let is_row = panel["type"] == "row";
        assert!(is_row || panel["description"].as_str().is_some_and(|text| !text.is_empty()));
    }
}

#[test]
fn documentation_whatever_expires_is_on_the_dashboard_and_has_an_alert() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let (shown, rules) = (expressions(&dashboard["panels"]).join("\n"), read(RULES));
    let metrics: Vec<_> =
        scraped().into_iter().filter(|name| name.ends_with("_expires_in_seconds")).collect();
    assert!(metrics.len() >= 5, "{metrics:?}");
    for metric in metrics {
        assert!(shown.contains(&metric), "{metric} is not on the dashboard");
        // leadsd refreshes access tokens; LeadsdCredentialStale reports those that it cannot refresh.
        let is_refreshed = metric == "leadsd_credential_token_expires_in_seconds";
        assert!(is_refreshed || rules.contains(&metric), "{metric} has no alert");
    }
}

#[test]
fn documentation_has_a_runbook_for_every_alert_and_for_no_other() {
    let (rules, page) = (read(RULES), read("docs/OPERATIONS.md"));
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let runbooks: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert!(alerts.len() >= 15);
    assert_eq!(alerts, runbooks, "in the same order");
    for alert in &alerts {
        let rule = rules.split(&format!("- alert: {alert}\n")).nth(1).unwrap();
        let rule = rule.split("- alert: ").next().unwrap();
        // The chart adds the annotation `runbook_url` where the page is published.
        assert!(!rule.contains("runbook_url"), "{alert}");
        for part in ["severity: ", "summary: ", "description: ", "expr: "] {
            assert!(rule.contains(part), "{alert}: {part}");
        }
        let section = page.split(&format!("### {alert}\n")).nth(1).unwrap();
        assert!(section.split("\n### ").next().unwrap().trim().len() > 60, "{alert}");
    }
    let tests = read("tests/fixtures/leadsd.rules.test.yaml");
    assert!(alerts.iter().all(|alert| tests.contains(alert)), "every alert is tested");
}

#[tokio::test]
#[ignore = "needs promtool"]
async fn documentation_alert_rules_pass_prometheus_own_checks_and_fire_when_they_should() {
    let promtool = tool("LEADSD_TEST_PROMTOOL", "promtool");
    let root = env!("CARGO_MANIFEST_DIR");
    for (what, file) in [("check", RULES), ("test", "tests/fixtures/leadsd.rules.test.yaml")] {
        let mut command = Command::new(&promtool);
        let output = run(command.args([what, "rules"]).arg(Path::new(root).join(file))).await;
        assert!(output.status.success(), "{}", text(&output));
    }
}

#[tokio::test]
#[ignore = "needs promtool"]
async fn documentation_dashboard_queries_are_valid_and_select_a_release() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut rules = Vec::new();
    for query in expressions(&dashboard["panels"]) {
        let selected = query.matches(r#"{namespace=~"$namespace",job=~"$job""#).count();
        assert_eq!(selected, query.matches('{').count(), "{query}");
        assert!(selected > 0, "{query}");
        let query = query.replace("$__rate_interval", "5m").replace("$__range", "1h");
        let record = format!("dashboard:{}", rules.len());
        rules.push(serde_json::json!({"record": record, "expr": query}));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let groups = serde_json::json!({"groups": [{"name": "dashboard", "rules": rules}]});
    std::fs::write(file.path(), groups.to_string()).unwrap();
    let mut promtool = Command::new(tool("LEADSD_TEST_PROMTOOL", "promtool"));
    let output = run(promtool.args(["check", "rules"]).arg(file.path())).await;
    assert!(output.status.success(), "{}", text(&output));
}

/// All Rust code below these folders.
fn sources(folders: &[&str]) -> String {
    let mut folders: Vec<_> =
        folders.iter().map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).collect();
    let mut code = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    code
}

#[test]
fn documentation_of_threats_names_tests_that_exist() {
    let (page, code) = (read("docs/SECURITY.md"), sources(&["src", "crates", "tests"]));
    let model = page.split_once("## Threat model").expect("the section exists").1;
    let rows = model.lines().filter(|line| line.starts_with("| ") && line.matches('_').count() > 2);
    let mut names = BTreeSet::new();
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        names.extend(last.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')));
    }
    assert!(names.len() > 30, "{names:?}");
    for name in names.iter().filter(|name| !name.contains(['/', '.'])) {
        assert!(code.contains(&format!("fn {name}()")), "there is no test {name}");
    }
}
