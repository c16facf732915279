//! `leadsd dev` with its fakes: portals, faults, limits, callers, an OAuth login, and records that stay.

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_testkit::Dev;
use serde_json::{Value, json};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    harness::{LEADSD, PATIENCE, eventually, properties},
    login::clicked,
};

const FREE: &str = "127.0.0.1:0";

async fn leads_of(dev: &Dev) -> LeadsServiceClient<Channel> {
    LeadsServiceClient::connect(format!("http://{}", dev.address("gRPC"))).await.unwrap()
}

fn create(name: &str) -> pb::CreateLeadRequest {
    pb::CreateLeadRequest {
        properties: properties(&[("hs_lead_name", name)]),
        primary_contact_id: "101".to_owned(),
        ..Default::default()
    }
}

fn of_portal<T>(message: T, portal: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("leadsd-portal", portal.parse().unwrap());
    request
}

/// Names of the leads of a portal.
async fn names(leads: &mut LeadsServiceClient<Channel>, portal: &str) -> Vec<String> {
    let list = pb::ListLeadsRequest {
        page_size: 100,
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    let page = leads.list_leads(of_portal(list, portal)).await.unwrap().into_inner();
    page.leads.into_iter().map(|lead| lead.properties["hs_lead_name"].clone()).collect()
}

/// Text of the banner line with this prefix.
fn line(dev: &Dev, prefix: &str) -> String {
    let found = dev.banner.iter().find_map(|line| line.strip_prefix(prefix));
    found.unwrap_or_else(|| panic!("no {prefix:?} in {:?}", dev.banner)).trim().to_owned()
}

/// Runs a line of the banner as a shell does; returns its standard output as JSON.
fn pasted(line: &str) -> Value {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Exit code and standard error of a start that fails.
fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(LEADSD);
    command.args(["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE]);
    let output = command.args(arguments).env_clear().output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?} does not start");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_have_separate_accounts_and_their_tokens_are_printed() {
    let dev = Dev::start_with(LEADSD, &["--portal", "EU-1", "--portal", "us"]).await;
    let mut leads = leads_of(&dev).await;
    leads.create_lead(of_portal(create("Only in us"), "us")).await.unwrap();
    assert_eq!(names(&mut leads, "us").await.len(), 6);
    assert_eq!(names(&mut leads, "EU-1").await.len(), 5);
    let nowhere = leads.create_lead(create("nowhere")).await.unwrap_err();
    assert!(nowhere.message().contains("EU-1"), "{nowhere}");
    let calls: Vec<_> =
        dev.banner.iter().filter(|line| line.contains("curl -s")).cloned().collect();
    let [eu, us, vault] = &calls[..] else { panic!("{:?}", dev.banner) };
    assert_eq!(pasted(eu)["results"].as_array().unwrap().len(), 5);
    assert_eq!(pasted(us)["results"].as_array().unwrap().len(), 6);
    let token = pasted(vault)["data"]["data"]["access_token"].as_str().unwrap().to_owned();
    assert!(eu.contains(&token) && vault.contains("hubspot/EU-1"), "{vault}");
    let examples = dev.banner.iter().filter(|line| line.contains("LeadsService/"));
    assert!(examples.clone().all(|line| line.contains("leadsd-portal: EU-1")), "{:?}", dev.banner);
}

#[test]
fn contradictory_and_malformed_options_name_the_flag_and_what_is_allowed() {
    for (arguments, expected) in [
        (&["--portal", "a b"][..], &["--portal <NAME>", "a b", "letters, digits"][..]),
        (&["--portal", "a", "--portal", "a"], &["--portal: a is given twice"]),
        (&["--fault", "create=503"], &["--fault", "create=503", "create:503@10%"]),
        (&["--fault", "purge:503@10%"], &["--fault", "purge", "operations: create, get"]),
        (
            &["--fault", "any:503@60%", "--fault", "get:500@50%"],
            &["--fault: ", "get add up to 110%"],
        ),
        (&["--latency", "200"], &["--latency", "200", "such as 200ms"]),
        (&["--quota", "20"], &["--quota", "20", "such as 20/10s"]),
        (&["--log", "inf"], &["--log", "inf", "did you mean \"info\""]),
        (&["--api-version", "v9"], &["--api-version", "v9", "2026-09, 2026-03, v3"]),
        (
            &["--upstream", "http://127.0.0.1:1", "--fault", "any:503@1%"],
            &["--fault", "--upstream"],
        ),
        (&["--upstream", "http://127.0.0.1:1", "--state", "x"], &["--state", "--upstream"]),
    ] {
        let (code, said) = fails(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {said}");
        for part in expected {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_fails_its_operation_without_an_effect_and_no_other() {
    let arguments = ["--fault", "create:403@100%", "--latency", "1ms"];
    let dev = Dev::start_with(LEADSD, &arguments).await;
    assert_eq!(line(&dev, "faults"), "create:403@100%");
    assert_eq!(line(&dev, "latency"), "1ms");
    let mut leads = leads_of(&dev).await;
    let failed = leads.create_lead(create("Never created")).await.unwrap_err();
    assert_eq!(failed.code(), Code::PermissionDenied, "{failed}");
    let names = names(&mut leads, "default").await;
    assert_eq!(names.len(), 5, "{names:?}");
    let update = pb::UpdateLeadRequest {
        id: "107".to_owned(),
        properties: properties(&[("hs_lead_label", "COLD")]),
        ..Default::default()
    };
    leads.update_lead(update).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_the_requests_fails() {
    let dev = Dev::start_with(LEADSD, &["--fault", "list:500@50%", "--quota", "1000/1s"]).await;
    let token = dev.banner.iter().find_map(|line| line.split("Bearer ").nth(1)).unwrap();
    let token = token.split('\'').next().unwrap();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}/crm/objects/2026-09/leads", dev.address("HubSpot"));
    let mut failed = 0;
    for _ in 0..200 {
        let response = client.get(&url).bearer_auth(token).send().await.unwrap();
        match response.status().as_u16() {
            200 => {}
            500 => failed += 1,
            other => panic!("{other}"),
        }
    }
    // Eight standard deviations.
    assert!((43..=157).contains(&failed), "{failed} of 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_learns_the_quota_of_the_fake() {
    let dev = Dev::start_with(LEADSD, &["--quota", "20/10s"]).await;
    assert_eq!(line(&dev, "quota"), "20 calls in 10s");
    let mut leads = leads_of(&dev).await;
    names(&mut leads, "default").await;
    let address = format!("http://{}", dev.address("gRPC"));
    let client = pb::quota_service_client::QuotaServiceClient::connect(address).await;
    let quota = client.unwrap().get_quota(pb::GetQuotaRequest {}).await.unwrap().into_inner();
    let buckets = quota.quota.unwrap().buckets;
    let burst = buckets.iter().find(|bucket| bucket.name == "burst").unwrap();
    assert_eq!(burst.limit, Some(20));
}

/// Connects with TLS as the banner says, with a client certificate or without.
async fn connected(dev: &Dev, with_certificate: bool) -> LeadsServiceClient<Channel> {
    let call = dev.banner.iter().find(|line| line.contains(" -cert ")).unwrap();
    let words: Vec<&str> = call.split_whitespace().collect();
    let file = |option: &str| {
        let at = words.iter().position(|word| *word == option).unwrap();
        assert_eq!(std::fs::metadata(words[at + 1]).unwrap().permissions().mode() & 0o77, 0);
        std::fs::read(words[at + 1]).unwrap()
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(file("-cacert")));
    if with_certificate {
        tls = tls.identity(Identity::from_pem(file("-cert"), file("-key")));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", dev.address("gRPC"))).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    LeadsServiceClient::new(channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_prints_an_api_key_and_a_certificate_that_work() {
    let dev = Dev::start_with(LEADSD, &["--auth"]).await;
    let key = dev.banner.iter().find_map(|line| line.split("x-api-key: ").nth(1)).unwrap();
    let key = key.split('\'').next().unwrap().to_owned();
    let with_key = |message, key: &str| {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-api-key", key.parse().unwrap());
        request
    };
    let mut leads = connected(&dev, false).await;
    leads.create_lead(with_key(create("by key"), &key)).await.unwrap();
    let wrong = leads.create_lead(with_key(create("no"), &format!("{key}x"))).await.unwrap_err();
    assert_eq!(wrong.code(), Code::Unauthenticated, "{wrong}");
    let none = leads.create_lead(create("no")).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated, "{none}");
    let mut leads = connected(&dev, true).await;
    leads.create_lead(create("by certificate")).await.unwrap();
    let plain = LeadsServiceClient::connect(format!("http://{}", dev.address("gRPC"))).await;
    if let Ok(mut plain) = plain {
        plain.create_lead(create("no")).await.unwrap_err();
    }
    let folder = folder_of(&dev);
    assert!(Path::new(&folder).exists());
    dev.process.signal("TERM");
    let (code, log) = dev.process.ended().await;
    assert_eq!(code, Some(0));
    assert!(!Path::new(&folder).exists(), "the private folder is deleted");
    let login = log.lines().find(|line| line.contains("Logged in to Vault")).expect(&log);
    assert_eq!(login.matches("task{").count(), 1, "each task is named once: {login}");
}

/// Private folder of the process, from the command of its login.
fn folder_of(dev: &Dev) -> String {
    let config = config_of(dev);
    Path::new(&config).parent().unwrap().display().to_string()
}

/// Configuration file of the process.
fn config_of(dev: &Dev) -> String {
    let login = line(dev, "  leadsd login --config ");
    login.split_whitespace().next().unwrap().to_owned()
}

/// Logs in to a portal with the app and the command that the banner shows after this line.
async fn log_in(dev: &Dev, first_line: &str) {
    let at = dev.banner.iter().position(|line| line.starts_with(first_line));
    let at = at.unwrap_or_else(|| panic!("no {first_line:?} in {:?}", dev.banner));
    let id = dev.banner[at].rsplit(' ').next().unwrap();
    let secret = dev.banner[at + 1].strip_prefix("and client secret ").unwrap();
    let shown = dev.banner[at + 3].trim().replace("leadsd login", "\"$0\" login --no-browser");
    let mut command = Command::new("sh");
    command.args(["-c", &shown, LEADSD]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{id}\n{}", secret.trim_end_matches(':')).unwrap();
    let mut printed = std::io::BufReader::new(child.stderr.take().unwrap());
    let url = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        while !line.trim_start().starts_with("http") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut printed, &mut line).unwrap();
            assert!(read > 0, "a consent URL is printed");
        }
        (line.trim().to_owned(), printed)
    });
    let (url, _printed) = tokio::time::timeout(PATIENCE, url).await.unwrap().unwrap();
    let redirect = clicked(&url, "connect").await;
    assert!(redirect.starts_with("http://localhost:8976/oauth-callback?"), "{redirect}");
    writeln!(stdin, "{redirect}").unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("version 2"), "{said}");
}

/// Waits until the service uses an OAuth grant for a portal.
async fn until_oauth(dev: &Dev, portal: &str) {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let admin = format!("http://{}/portals", dev.address("admin"));
    eventually("the service uses the OAuth grant", async || {
        let portals = client.get(&admin).send().await.unwrap().text().await.unwrap();
        let portals: Vec<Value> = serde_json::from_str(&portals).unwrap();
        let found = portals.iter().find(|found| found["portal"] == portal).unwrap();
        found["kind"] == "oauth" && found["usable"] == true
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oauth_login_replaces_the_token_of_a_running_dev() {
    let dev = Dev::start(LEADSD).await;
    log_in(&dev, "An OAuth login, with client id ").await;
    until_oauth(&dev, "default").await;
    leads_of(&dev).await.create_lead(create("by OAuth")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_portal_of_dev_has_an_oauth_app_for_its_account() {
    let dev = Dev::start_with(LEADSD, &["--portal", "eu", "--portal", "us"]).await;
    let mut leads = leads_of(&dev).await;
    for portal in ["us", "eu"] {
        log_in(&dev, &format!("An OAuth login of portal {portal}, with client id ")).await;
        until_oauth(&dev, portal).await;
        leads.create_lead(of_portal(create(&format!("Of {portal}")), portal)).await.unwrap();
        let names = names(&mut leads, portal).await;
        assert_eq!(names.len(), 6, "{names:?}");
    }
    passes_doctor(&dev);
}

/// Asserts that doctor has neither an error nor a warning about the configuration of dev.
fn passes_doctor(dev: &Dev) {
    let mut command = Command::new(LEADSD);
    command.args(["doctor", "--json", "--config", &config_of(dev)]).env_clear();
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let all = report["checks"].as_array().unwrap().iter();
    let found: Vec<_> = all
        .filter(|check| !["ok", "skipped"].contains(&check["result"].as_str().unwrap()))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(report["result"], "ok");
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_has_no_warning_about_a_configuration_of_dev() {
    let variants: [&[&str]; 4] = [
        &[],
        &["--portal", "eu", "--portal", "us"],
        &["--auth"],
        &["--api-version", "v3", "--quota", "1000/10s", "--search-lag", "0s"],
    ];
    for arguments in variants {
        passes_doctor(&Dev::start_with(LEADSD, arguments).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_file_keeps_leads_over_a_stop_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.json").display().to_string();
    let kept = ["--state", &file, "--portal", "a"];
    let start = || Dev::start_with(LEADSD, &kept);
    let dev = start().await;
    assert_eq!(line(&dev, "state"), format!("{file}, 5 leads"));
    leads_of(&dev).await.create_lead(create("Kept over a stop")).await.unwrap();
    let (code, said) = fails(&["--state", &file]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another leadsd dev uses this file"), "{said}");
    dev.process.signal("TERM");
    assert_eq!(dev.process.ended().await.0, Some(0));
    let mut dev = start().await;
    assert_eq!(line(&dev, "state"), format!("{file}, 6 leads"));
    leads_of(&dev).await.create_lead(create("Kept over a kill")).await.unwrap();
    eventually("it is written while the process runs", async || {
        std::fs::read_to_string(&file).unwrap().contains("Kept over a kill")
    })
    .await;
    dev.process.child.kill().unwrap();
    dev.process.wait().await;
    drop(dev);
    // The records of a portal that does not run stay.
    let other = Dev::start_with(LEADSD, &["--state", &file, "--portal", "b"]).await;
    other.process.signal("TERM");
    assert_eq!(other.process.ended().await.0, Some(0));
    let dev = start().await;
    let names = names(&mut leads_of(&dev).await, "a").await;
    assert_eq!(names.len(), 7, "{names:?}");
    let search = pb::SearchLeadsRequest { query: "kept".to_owned(), ..Default::default() };
    let found = leads_of(&dev).await.search_leads(search).await.unwrap().into_inner();
    assert_eq!(found.total, 2, "old records are in the search index");
}

#[test]
fn a_state_file_that_cannot_be_read_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.json");
    let path = file.display().to_string();
    let endless = json!({"leadsd_dev_state": 1, "portals": {"default": {
        "last_id": 9, "contacts": {}, "companies": {}, "owners": {}, "leads": [],
        "merged": {"1": 2, "2": 1},
    }}});
    for (text, expected) in [
        ("{\"leadsd_dev_state\":1,\"portals\":{".to_owned(), "not a state file of leadsd dev"),
        (json!({"leadsd_dev_state": 7}).to_string(), "has the version 7"),
        (endless.to_string(), "does not end at a lead"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let (code, said) = fails(&["--state", &path]);
        assert!(code == Some(1) || code == Some(64), "{said}");
        assert!(said.contains("--state") && said.contains(expected), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "it is unchanged");
    }
    let (code, said) = fails(&["--state", &folder.path().join("none/x").display().to_string()]);
    assert!(code == Some(1) && said.contains("--state") && said.contains("none/x"), "{said}");
}
