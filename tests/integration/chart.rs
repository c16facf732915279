//! Chart and binary: `leadsd` accepts the rendered configuration and behaves as the chart assumes.
//! The suites in `helm/leadsd/tests` test the chart itself.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    harness::{LEADSD, TestApp},
    real_peers::{run, text, tool},
};

const CHART: &str = "helm/leadsd";

/// Required values of the chart.
const LEAST: [&str; 2] =
    ["config.vault.address=https://vault.example", "config.grpc.insecure=true"];

/// Renders objects from values files and single values; `null` unsets a value.
async fn rendered(files: &[PathBuf], values: &[&str]) -> Vec<Value> {
    let mut flags: Vec<OsString> = Vec::new();
    flags.extend(files.iter().flat_map(|file| ["--values".into(), file.into()]));
    flags.extend(values.iter().flat_map(|value| ["--set".into(), value.into()]));
    template(flags).await
}

/// Renders objects from values in JSON.
async fn rendered_json(values: &[&str]) -> Vec<Value> {
    template(values.iter().flat_map(|value| ["--set-json".into(), value.into()]).collect()).await
}

async fn template(flags: Vec<OsString>) -> Vec<Value> {
    let mut helm = Command::new(tool("LEADSD_TEST_HELM", "helm"));
    helm.args(["template", "leadsd", CHART, "--namespace", "crm", "--kube-version", "1.37.0"]);
    let template = run(helm.args(&flags)).await;
    assert!(template.status.success(), "{flags:?}: {}", text(&template));
    from_yaml(&template.stdout)
}

/// Parses YAML with Python, to avoid another parser crate.
fn from_yaml(yaml: &[u8]) -> Vec<Value> {
    const PROGRAM: &str = "import json, sys, yaml\n\
                           print(json.dumps([o for o in yaml.safe_load_all(sys.stdin) if o]))";
    let mut python = Command::new(tool("LEADSD_TEST_PYTHON", "python3"))
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    python.stdin.take().unwrap().write_all(yaml).unwrap();
    serde_json::from_slice(&python.wait_with_output().unwrap().stdout).expect("JSON")
}

/// The object of a kind with the name `leadsd`.
#[track_caller]
fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let is_it = |object: &&Value| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        object["kind"] == kind && name.starts_with("leadsd") && !name.ends_with("-dashboard")
    };
    objects.iter().find(is_it).unwrap_or_else(|| panic!("no {kind}"))
}

fn container(objects: &[Value]) -> &Value {
    &object(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

/// Writes the rendered configuration to a file.
fn configuration(objects: &[Value]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let config = object(objects, "ConfigMap")["data"]["leadsd.toml"].as_str().expect("a file");
    file.write_all(config.as_bytes()).unwrap();
    file
}

async fn leadsd_config(command: &str, file: &Path) -> std::process::Output {
    let mut leadsd = Command::new(LEADSD);
    run(leadsd.args(["config", command, "--config"]).arg(file)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn the_chart_renders_a_configuration_that_the_binary_accepts() {
    let ha = Path::new(CHART).join("values-ha.yaml");
    let mut files = 0;
    for values in std::fs::read_dir(Path::new(CHART).join("ci")).unwrap() {
        let values = values.unwrap().path();
        for files in [vec![values.clone()], vec![values.clone(), ha.clone()]] {
            let file = configuration(&rendered(&files, &[]).await);
            let check = leadsd_config("check", file.path()).await;
            let shown = std::fs::read_to_string(file.path()).unwrap();
            assert!(check.status.success(), "{files:?}: {}\n{shown}", text(&check));
        }
        files += 1;
    }
    assert!(files >= 4, "the ways to reach Vault are examples");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn every_key_goes_through_the_chart_as_it_is() {
    let example = std::fs::read_to_string("leadsd.example.toml").unwrap();
    let (mut section, mut defaults) = (String::new(), Vec::new());
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ").filter(|_| !line.starts_with('#'))
            && key != "listen"
        {
            // Plain values are equal in TOML and in JSON.
            defaults.push((format!("config.{section}.{key}={value}"), key, value));
        }
    }
    assert!(defaults.len() > 40, "{defaults:?}");
    let mut values: Vec<&str> = defaults.iter().map(|(value, ..)| value.as_str()).collect();
    // Defaults, except for required values.
    values.extend([
        r#"config.vault.address="https://vault.example""#,
        "config.grpc.insecure=true",
        r#"config.quota.shared.url="redis://valkey""#,
        r#"drain.wait="process""#,
    ]);
    let objects = rendered_json(&values).await;
    let file = configuration(&objects);
    let check = leadsd_config("check", file.path()).await;
    let text_of_it = std::fs::read_to_string(file.path()).unwrap();
    assert!(check.status.success(), "{}\n{text_of_it}", text(&check));
    for (_, key, value) in defaults.iter().filter(|(_, key, _)| *key != "insecure") {
        let whole = value.strip_suffix(".0").unwrap_or(value);
        let line = format!("{key} = {whole}\n");
        assert!(text_of_it.contains(&line), "no {line} in\n{text_of_it}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn the_chart_goes_by_the_defaults_of_the_binary() {
    let unset = ["config.grpc.drain_delay=null", "config.grpc.shutdown_grace=null"];
    let waits = ["drain.wait=process"];
    let objects = rendered(&[], &[&LEAST[..], &unset, &waits].concat()).await;
    // Address and login method of Vault have no default; all other values are printed.
    let mut least = tempfile::NamedTempFile::new().unwrap();
    let text_of_it = "[vault]\naddress = \"https://vault.example\"\n[vault.auth]\n\
                      method = \"kubernetes\"\nrole = \"leadsd\"\n[portals.default]\n";
    least.write_all(text_of_it.as_bytes()).unwrap();
    let printed = text(&leadsd_config("print", least.path()).await);
    let default = |section: &str, key: &str| {
        let (_, rest) = printed.split_once(&format!("[{section}]\n")).expect("the section");
        let line = rest.lines().find(|line| line.starts_with(&format!("{key} = "))).expect("a key");
        line.split('"').nth(1).expect("a text").to_owned()
    };
    let port = |section: &str| -> u64 {
        default(section, "listen").rsplit_once(':').unwrap().1.parse().unwrap()
    };
    let seconds = |section: &str, key: &str| -> u64 {
        default(section, key).strip_suffix('s').unwrap().parse().unwrap()
    };

    let ports = &container(&objects)["ports"];
    assert_eq!(
        (&ports[0]["name"], &ports[0]["containerPort"]),
        (&"grpc".into(), &port("grpc").into())
    );
    assert_eq!(
        (&ports[1]["name"], &ports[1]["containerPort"]),
        (&"admin".into(), &port("admin").into())
    );
    let service = object(&objects, "Service");
    assert_eq!(service["spec"]["ports"][0]["port"], port("grpc"));
    let all = seconds("grpc", "drain_delay") + seconds("grpc", "shutdown_grace") + 10;
    let pod = &object(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], all);

    // A third of the memory limit is the default of `leadsd` for requests.
    let config = object(&objects, "ConfigMap")["data"]["leadsd.toml"].as_str().unwrap();
    let memory = format!("max_request_memory = \"{}\"", default("grpc", "max_request_memory"));
    assert!(config.contains(&memory), "{config}");

    // The grace period of the pod equals that of leadsd.
    let objects = rendered(&[], &[&LEAST[..], &unset].concat()).await;
    let sleep = &container(&objects)["lifecycle"]["preStop"]["sleep"]["seconds"];
    assert_eq!(*sleep, seconds("grpc", "drain_delay"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn the_probes_ask_what_the_service_answers() {
    let app = TestApp::start().await;
    let plain = rendered(&[], &LEAST).await;
    let plain = container(&plain);
    assert_eq!(plain["readinessProbe"]["grpc"]["service"], Value::Null, "the whole server");
    let channel = tonic::transport::Endpoint::new(format!("http://{}", app.grpc)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);

    let tls =
        rendered(&[], &[&LEAST[..], &["tls.enabled=true", "tls.existingSecret=tls"]].concat())
            .await;
    let tls = container(&tls);
    for probe in [&plain["startupProbe"], &plain["livenessProbe"], &tls["readinessProbe"]] {
        assert_eq!(probe["httpGet"]["port"], "admin");
        let path = probe["httpGet"]["path"].as_str().expect("a path");
        let status = reqwest::get(format!("{}{path}", app.admin)).await.unwrap().status();
        assert_eq!(status, 200, "{path}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn helm_test_asks_as_the_binary_understands_it() {
    let app = TestApp::start().await;
    let objects = rendered(&[], &LEAST).await;
    let args = object(&objects, "Pod")["spec"]["containers"][0]["args"].as_array().unwrap();
    let args = args.iter().map(|arg| match arg.as_str().unwrap() {
        "--address=leadsd.crm:50051" => format!("--address={}", app.grpc),
        other => other.to_owned(),
    });
    let args: Vec<String> = args.collect();
    let health = run(Command::new(LEADSD).args(&args)).await;
    assert!(health.status.success(), "{args:?}: {}", text(&health));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs helm and Python with PyYAML"]
async fn pods_restart_for_a_new_configuration_and_for_nothing_else() {
    let checksum = |objects: &[Value]| {
        let template = &object(objects, "Deployment")["spec"]["template"];
        template["metadata"]["annotations"]["checksum/config"].as_str().unwrap().to_owned()
    };
    let before = checksum(&rendered(&[], &LEAST).await);
    let scaled = checksum(&rendered(&[], &[&LEAST[..], &["service.port=443"]].concat()).await);
    assert_eq!(before, scaled);
    let louder =
        checksum(&rendered(&[], &[&LEAST[..], &["config.log.level=debug"]].concat()).await);
    assert_ne!(before, louder);
}

#[tokio::test]
#[ignore = "needs helm, promtool and Python with PyYAML"]
async fn alerts_of_two_releases_in_one_namespace_keep_apart() {
    let folder = tempfile::tempdir().unwrap();
    for release in ["eu", "us"] {
        let name = format!("fullnameOverride=leadsd-{release}");
        let values = [&LEAST[..], &["prometheusRule.enabled=true", &name]].concat();
        let objects = rendered(&[], &values).await;
        let rules = object(&objects, "PrometheusRule")["spec"].to_string();
        std::fs::write(folder.path().join(format!("{release}.json")), rules).unwrap();
    }
    let series = |name: &str, values: &str| {
        let labels = r#"namespace="crm",job="leadsd-eu-metrics",instance="a",portal="default""#;
        serde_json::json!({"series": format!("{name}{{{labels}}}"), "values": values})
    };
    let fires = |alert: &str, job: &str| {
        let labels = format!(r#"{{job="{job}"}}"#);
        serde_json::json!({
            "expr": format!(r#"count by (job) (ALERTS{{alertname="{alert}",alertstate="firing"}})"#),
            "eval_time": "20m",
            "exp_samples": [{"labels": labels, "value": 1}],
        })
    };
    // The second release was never scraped; what the first one reports is no answer for it.
    let test = serde_json::json!({
        "rule_files": ["eu.json", "us.json"],
        "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [
                series("leadsd_build_info", "1x30"),
                series("leadsd_credential_usable", "0x30"),
            ],
            "promql_expr_test": [
                fires("LeadsdDown", "leadsd-us-metrics"),
                fires("LeadsdCredentialUnusable", "leadsd-eu-metrics"),
            ],
        }],
    });
    let file = folder.path().join("test.json");
    std::fs::write(&file, test.to_string()).unwrap();
    let mut promtool = Command::new(tool("LEADSD_TEST_PROMTOOL", "promtool"));
    let output = run(promtool.args(["test", "rules"]).arg(&file)).await;
    assert!(output.status.success(), "{}", text(&output));
}

/// Every key in a JSON schema with its description; `*` for names that the operator chooses.
fn keys_of(schema: &Value, whole: &Value, path: &str, keys: &mut BTreeMap<String, Value>) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => whole.pointer(name.trim_start_matches('#')).expect("a definition"),
        None => schema,
    };
    let join =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let named = schema["properties"].as_object();
    let any = Some(&schema["additionalProperties"]).filter(|any| any.is_object());
    if named.is_none() && any.is_none() {
        keys.insert(path.to_owned(), schema.clone());
    }
    for (name, schema) in named.into_iter().flatten() {
        keys_of(schema, whole, &join(name), keys);
    }
    if let Some(schema) = any {
        keys_of(schema, whole, &join("*"), keys);
    }
}

#[tokio::test]
async fn values_schema_equals_the_configuration_schema() {
    let schema = run(Command::new(LEADSD).args(["config", "schema"])).await;
    let of_binary: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let of_chart = std::fs::read(Path::new(CHART).join("values.schema.json")).unwrap();
    let of_chart: Value = serde_json::from_slice(&of_chart).unwrap();
    let (mut known, mut taken) = (BTreeMap::new(), BTreeMap::new());
    keys_of(&of_binary, &of_binary, "", &mut known);
    keys_of(&of_chart["properties"]["config"], &of_chart, "", &mut taken);
    assert!(known.contains_key("portals.*.secret") && known.contains_key("grpc.tls.key_file"));
    assert_eq!(known.keys().collect::<Vec<_>>(), taken.keys().collect::<Vec<_>>());
    for (key, known) in &known {
        // The chart may validate more, for example that a path has no `..`.
        for says in ["type", "enum", "minimum", "maximum", "pattern"] {
            if let Some(wanted) = known.get(says) {
                assert_eq!(taken[key].get(says), Some(wanted), "{says} of config.{key}");
            }
        }
    }
}
