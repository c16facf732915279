//! The binary as an operator runs it: `serve`, `dev` and `config`, with their exit codes.

use std::{
    io::Write as _,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use leadsd_base::{secret::SECRET_MARKER, time::SystemClock};
use leadsd_hubspot_fake::{FakeHubspot, READ, ScriptedResponse, WRITE};
use leadsd_testkit::{Dev, FREE, Process};
use leadsd_vault_fake::FakeVault;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    harness::{LEADSD, PATIENCE},
    openbao::{self, OpenBao},
    real_peers::{run, text, tool},
};

/// A configuration file for a Vault and a HubSpot on loopback.
pub(crate) fn config(
    folder: &TempDir,
    vault: &str,
    auth: &str,
    hubspot: &FakeHubspot,
) -> std::path::PathBuf {
    let path = folder.path().join("leadsd.toml");
    let text = format!(
        "[grpc]\nlisten = \"{FREE}\"\ndrain_delay = \"0s\"\n[admin]\nlisten = \"{FREE}\"\n\
         [vault]\naddress = \"{vault}\"\npoll_interval = \"1s\"\n[vault.auth]\n{auth}\n\
         [hubspot]\nbase_url = \"http://{}\"\n[portals.default]\n[log]\nlevel = \"debug\"\n",
        hubspot.address()
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts a fake HubSpot whose search index has no lag.
pub(crate) async fn fake_hubspot() -> FakeHubspot {
    let hubspot = FakeHubspot::start(FREE.parse().unwrap(), Arc::new(SystemClock)).await.unwrap();
    hubspot.behave(|behaviour| behaviour.index_lag = Duration::ZERO);
    hubspot
}

/// Starts a fake Vault with a static token of `hubspot`; returns it with a login token.
pub(crate) async fn fake_vault(folder: &TempDir, hubspot: &FakeHubspot) -> (FakeVault, String) {
    let vault = FakeVault::start(FREE.parse().unwrap()).await.unwrap();
    let token = hubspot.static_token(&[READ, WRITE]);
    vault.put("hubspot/default", json!({"access_token": token.expose()}));
    let file = folder.path().join("vault-token");
    let mut written = std::fs::File::create(&file).unwrap();
    writeln!(written, "{}", vault.root_token().expose()).unwrap();
    (vault, format!("method = \"token\"\nfile = \"{}\"", file.display()))
}

#[test]
fn invalid_configuration_lists_every_error_and_exits_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leadsd.toml");
    std::fs::write(&file, "[grpc]\nlisten = \"nowhere\"\nportt = 1\n[vault]\naddress = 3\n")
        .unwrap();
    let output = Command::new(LEADSD)
        .args(["serve", "--config"])
        .arg(&file)
        .env("LEADSD_LOG__FORMAT", "xml")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output);
    for part in [
        "grpc.listen",
        "grpc.portt",
        "vault.address",
        "vault.auth.method",
        "log.format",
        "environment variable LEADSD_LOG__FORMAT",
        "portals",
        &file.display().to_string(),
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn invalid_usage_exits_with_64_and_help_with_0() {
    let leadsd = |args: &[&str]| -> Output { Command::new(LEADSD).args(args).output().unwrap() };
    assert_eq!(leadsd(&["serve", "--confg", "x"]).status.code(), Some(64));
    assert_eq!(leadsd(&["serve", "--config", "/nonexistent"]).status.code(), Some(64));
    let help = leadsd(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help).contains("serve"));
}

#[test]
fn serve_requires_tls_and_authentication_beyond_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leadsd.toml");
    let config = "[grpc]\nlisten = \"0.0.0.0:0\"\n[vault]\naddress = \"http://127.0.0.1:1\"\n\
                [vault.auth]\nmethod = \"token_file\"\nfile = \"/x\"\n[portals.default]\n";
    std::fs::write(&file, config).unwrap();
    let leadsd = |args: &[&str]| -> Output { Command::new(LEADSD).args(args).output().unwrap() };
    for command in [&["serve", "--config"][..], &["config", "check", "--config"]] {
        let output = leadsd(&[command, &[&file.display().to_string()]].concat());
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output);
        assert!(said.contains("without TLS") && said.contains("grpc.insecure = true"), "{said}");
    }
    for flag in ["--grpc", "--admin", "--hubspot", "--vault"] {
        let mut free: Vec<&str> =
            vec!["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE];
        let at = free.iter().position(|arg| *arg == flag).unwrap();
        free[at + 1] = "0.0.0.0:0";
        let output = leadsd(&free);
        assert_eq!(output.status.code(), Some(64));
        let said = text(&output);
        assert!(said.contains(flag) && said.contains("loopback"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_certificate_fails_the_start_and_names_the_file() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let file =
        config(&folder, "http://127.0.0.1:1", "method = \"token_file\"\nfile = \"/x\"", &hubspot);
    let missing = folder.path().join("tls.crt").display().to_string();
    let process = Process::serve(
        LEADSD,
        &file,
        &[
            ("LEADSD_GRPC__TLS__CERT_FILE", &missing),
            ("LEADSD_GRPC__TLS__KEY_FILE", "/nonexistent"),
        ],
    );
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("certificates: ") && log.contains(&missing), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn call_in_flight_survives_sigterm() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let (vault, auth) = fake_vault(&folder, &hubspot).await;
    let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
    let process = Process::serve(LEADSD, &file, &[]);
    let grpc = process.ready().await;
    let contact = hubspot.add_contact("ada@example.com");
    let id = hubspot.add_lead(&contact, &json!({"hs_lead_name": "Jane"})).unwrap();
    hubspot.script("GET", &format!("/{id}"), ScriptedResponse::Delayed(Duration::from_millis(700)));
    let leads = LeadsServiceClient::connect(format!("http://{grpc}")).await.unwrap();
    let mut caller = leads.clone();
    let call = tokio::spawn(async move {
        caller.get_lead(pb::GetLeadRequest { id, ..Default::default() }).await
    });
    let sent = async {
        while hubspot.scripts_left() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, sent).await.expect("the call is under way");
    process.signal("TERM");
    call.await.unwrap().expect("the call in flight is finished");
    drop(leads);
    let (code, log) = process.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Stopped") && !log.contains(SECRET_MARKER), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_variables_of_vault_tools_are_ignored() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let (vault, auth) = fake_vault(&folder, &hubspot).await;
    let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
    let process = Process::serve(
        LEADSD,
        &file,
        &[
            ("VAULT_ADDR", "http://127.0.0.1:1"),
            ("VAULT_TOKEN", "token-of-another-user"),
            ("VAULT_NAMESPACE", "elsewhere"),
            ("VAULT_CACERT", "/nonexistent/ca.pem"),
            ("VAULT_CAPATH", "/nonexistent"),
            ("VAULT_CLIENT_CERT", "/nonexistent/cert.pem"),
            ("VAULT_CLIENT_KEY", "/nonexistent/key.pem"),
            ("VAULT_SKIP_VERIFY", "true"),
            ("HTTP_PROXY", "http://127.0.0.1:1"),
            ("http_proxy", "http://127.0.0.1:1"),
            ("ALL_PROXY", "http://127.0.0.1:1"),
        ],
    );
    process.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs bao (OpenBao) and grpcurl"]
async fn serve_with_a_real_openbao_does_all_calls_with_both_kinds_of_secret() {
    let hubspot = fake_hubspot().await;
    let contact = hubspot.add_contact("ada@example.com");
    let (client_id, client_secret, refresh_token) = hubspot.oauth_app();
    let fixed = json!({"access_token": hubspot.static_token(&[READ, WRITE]).expose()});
    let oauth = json!({"client_id": client_id, "client_secret": client_secret.expose(),
                       "refresh_token": refresh_token.expose()});
    for secret in [fixed, oauth] {
        let bao = OpenBao::start().await;
        let folder = tempfile::tempdir().unwrap();
        let (role_id, secret_id) = bao.approle("1h").await;
        let (role_id, secret_id) = (
            openbao::file(&folder, "role-id", &role_id),
            openbao::file(&folder, "secret-id", &secret_id),
        );
        bao.post("secret/data/hubspot/default", json!({ "data": secret })).await;
        let auth = format!(
            "method = \"approle\"\nrole_id_file = \"{}\"\nsecret_id_file = \"{}\"",
            role_id.display(),
            secret_id.display()
        );
        let process = Process::serve(LEADSD, &config(&folder, &bao.address, &auth, &hubspot), &[]);
        let grpc = process.ready().await;
        let call = |method: &str, body: Value| {
            let mut command = Command::new(tool("LEADSD_TEST_GRPCURL", "grpcurl"));
            let method = format!("leadsd.v1.LeadsService/{method}");
            command.args(["-plaintext", "-d", &body.to_string(), &grpc, &method]);
            async move {
                let output = run(&mut command).await;
                assert!(output.status.success(), "{}", text(&output));
                serde_json::from_slice::<Value>(&output.stdout).expect("grpcurl prints JSON")
            }
        };
        let lead = json!({"properties": {"hs_lead_name": "Jane"}, "primary_contact_id": contact});
        let created = call("CreateLead", lead).await;
        let id = created["lead"]["id"].as_str().expect("an id").to_owned();
        let read = call("GetLead", json!({"id": id, "properties": ["hs_lead_name"]})).await;
        assert_eq!(read["lead"]["properties"]["hs_lead_name"], "Jane");
        let change = json!({"id": id, "properties": {"hs_lead_label": "COLD"}});
        let updated = call("UpdateLead", change).await;
        assert_eq!(updated["lead"]["properties"]["hs_lead_label"], "COLD");
        let filter = json!({"property_name": "hs_lead_label", "operator": "FILTER_OPERATOR_EQ",
                            "value": "COLD"});
        let found = call("SearchLeads", json!({"filter_groups": [{"filters": [filter]}]})).await;
        assert_eq!(found["total"], "1");
        call("ArchiveLead", json!({ "id": id })).await;
        process.signal("TERM");
        let (code, log) = process.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(SECRET_MARKER), "a secret was logged: {log}");
    }
    assert_eq!(hubspot.grants(), 1, "one of the two was OAuth");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_of_dev_lags_behind_writes_but_finds_the_sample_leads() {
    for (lag, written) in [("5m", 0), ("0s", 1)] {
        let dev = Dev::start_with(LEADSD, &["--search-lag", lag]).await;
        let says = dev.banner.iter().any(|line| line.contains("finds a write after"));
        assert!(says, "{:?}", dev.banner);
        let address = format!("http://{}", dev.address("gRPC"));
        let mut leads = LeadsServiceClient::connect(address).await.unwrap();
        let create = pb::CreateLeadRequest {
            properties: [("hs_lead_name".to_owned(), "Written now".to_owned())].into(),
            primary_contact_id: "101".into(),
            ..Default::default()
        };
        leads.create_lead(create).await.unwrap();
        for (query, expected) in [("written", written), ("of", 5)] {
            let search = pb::SearchLeadsRequest { query: query.into(), ..Default::default() };
            let found = leads.search_leads(search).await.unwrap().into_inner();
            assert_eq!(found.total, expected, "{query} with a lag of {lag}");
        }
    }
    for odd in ["1", "301s", "soon"] {
        let output = Command::new(LEADSD).args(["dev", "--search-lag", odd]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{odd}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_behaves_as_a_file_of_switches_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switches.json");
    let switches =
        json!({"version": 1, "switches": {"index_lag": 200.0, "contact_association": "x"}});
    std::fs::write(&file, switches.to_string()).unwrap();
    let path = file.display().to_string();
    let dev = Dev::start_with(LEADSD, &["--switches", &path]).await;
    let address = format!("http://{}", dev.address("gRPC"));
    let mut leads = LeadsServiceClient::connect(address).await.unwrap();
    let get = pb::GetLeadRequest {
        id: "107".into(),
        associations: vec!["contacts".into()],
        ..Default::default()
    };
    let lead = leads.get_lead(get).await.unwrap().into_inner().lead.unwrap();
    assert_eq!(lead.associations["contacts"].objects[0].r#type, "x");
    assert!(dev.banner.iter().any(|line| line.contains("after 200s")), "{:?}", dev.banner);
    for odd in ["{}", "no JSON", r#"{"switches": {"no_such_switch": 1}}"#] {
        std::fs::write(&file, odd).unwrap();
        let mut command = Command::new(LEADSD);
        command.args(["dev", "--grpc", FREE, "--admin", FREE, "--hubspot", FREE, "--vault", FREE]);
        let output = command.args(["--switches", &path]).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{odd}");
        assert!(text(&output).contains("switches.json"), "{}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs grpcurl"]
async fn the_lines_that_dev_prints_can_be_pasted() {
    let grpcurl = tool("LEADSD_TEST_GRPCURL", "grpcurl").display().to_string();
    for options in [&[][..], &["--auth"], &["--portal", "a", "--portal", "b"]] {
        let Dev { process, banner } = Dev::start_with(LEADSD, options).await;
        let calls: Vec<&String> = banner.iter().filter(|line| line.contains("grpcurl")).collect();
        assert!(calls.len() >= 6, "{banner:?}");
        for call in calls {
            let pasted = call.replacen("grpcurl", &grpcurl, 1);
            let output = run(Command::new("sh").args(["-c", &pasted])).await;
            assert!(output.status.success(), "{call}: {}", text(&output));
            if call.contains("SearchLeads") {
                assert!(text(&output).contains("My first lead"), "{}", text(&output));
            }
        }
        process.signal("INT");
        assert_eq!(process.ended().await.0, Some(0));
    }
}

#[test]
fn dev_names_the_flag_and_the_address_of_a_port_that_is_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for flag in ["--grpc", "--admin", "--hubspot", "--vault"] {
        let mut command = std::process::Command::new(LEADSD);
        command.arg("dev");
        for other in ["--grpc", "--admin", "--hubspot", "--vault"] {
            let host =
                if other == flag { format!("localhost:{port}") } else { "127.0.0.1:0".to_owned() };
            command.args([other, &host]);
        }
        let output = command.env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("{flag}: cannot listen on 127.0.0.1:{port}: ");
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains(&format!("choose another port with {flag}")), "{said}");
        assert_eq!(output.status.code(), Some(1));
    }
    let output = std::process::Command::new(LEADSD).args(["dev", "--grpc", "50051"]).output();
    let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(said.contains("use HOST:PORT, such as 127.0.0.1:50051 or localhost:50051"), "{said}");
}

fn printed(arguments: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(LEADSD).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn version_completions_and_manual_pages_are_printed() {
    let package = env!("CARGO_PKG_VERSION");
    let (code, text) = printed(&["version"]);
    assert_eq!(code, Some(0));
    assert!(text.starts_with(&format!("leadsd {package} (")), "{text}");
    assert_eq!(printed(&["--version"]).1, text, "the option prints the same");
    assert_eq!(printed(&["-V"]).1, format!("leadsd {package}\n"));
    let (_, json) = printed(&["version", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["version"], package);
    assert!(json.get("commit").is_some() && json.get("build_date").is_some(), "{json}");
    for (shell, part) in [("bash", "_leadsd()"), ("zsh", "#compdef leadsd"), ("fish", "-c leadsd")]
    {
        let (code, script) = printed(&["completions", shell]);
        assert!(code == Some(0) && script.contains(part) && script.contains("doctor"), "{shell}");
    }
    let (code, page) = printed(&["man"]);
    assert!(code == Some(0) && page.contains(".TH leadsd") && page.contains("doctor"), "{page}");
    let (code, page) = printed(&["man", "serve"]);
    assert!(code == Some(0) && page.contains(".TH leadsd-serve"), "{page}");
    // A page lists the pages of its commands; each of them can be printed.
    let (mut paths, mut pages) = (vec![Vec::<String>::new()], 0);
    while let Some(path) = paths.pop() {
        let words = |first| [first].into_iter().chain(path.iter().map(String::as_str));
        let (code, page) = printed(&words("man").collect::<Vec<_>>());
        assert_eq!(code, Some(0), "{path:?}");
        let name = words("leadsd").collect::<Vec<_>>().join("-");
        let title = format!(".TH {name} 1  \"leadsd {package}\"");
        assert!(page.contains(&title), "{title} in {page}");
        pages += 1;
        let listed = page.lines().filter_map(|line| line.strip_suffix("(1)"));
        for listed in listed.map(|line| line.replace('\\', "")) {
            let command = listed.strip_prefix(&format!("{name}-")).expect(&listed);
            if command != "help" {
                paths.push([&*path, &[command.to_owned()]].concat());
            }
        }
    }
    assert!(pages > 15, "{pages}");
    for unknown in [&["man", "nope"][..], &["man", "config", "nope"]] {
        assert_eq!(printed(unknown).0, Some(64), "{unknown:?}");
    }
}

#[test]
fn config_check_reports_its_errors_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let check = |text: &str| {
        let file = folder.path().join("leadsd.toml");
        std::fs::write(&file, text).unwrap();
        let (code, text) =
            printed(&["config", "check", "--json", "--config", file.to_str().unwrap()]);
        (code, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (code, report) = check("[log]\nlevel = \"inf\"\n[grcp]\n");
    assert_eq!((code, &report["valid"]), (Some(64), &json!(false)));
    let keys: Vec<_> =
        report["errors"].as_array().unwrap().iter().map(|error| &error["key"]).collect();
    assert!(keys.contains(&&json!("log.level")), "{report}");
    let valid = "[vault]\naddress = \"http://127.0.0.1:8200\"\n[vault.auth]\nmethod = \"token\"\n\
        file = \"/run/token\"\n[portals.default]\n";
    assert_eq!(check(valid), (Some(0), json!({"valid": true, "errors": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_calls_an_rpc_and_reports_as_json() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    let health = async |more: &'static [&'static str]| {
        let address = address.clone();
        let work = move || {
            let arguments =
                [&["health", "--json", "--timeout-ms=10000", "--address"][..], &[&address]];
            let (code, text) = printed(&[&arguments.concat()[..], more].concat());
            (code, serde_json::from_str::<Value>(&text).unwrap())
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    };
    let serving = (Some(0), json!({"status": "SERVING"}));
    assert_eq!(health(&[]).await, serving);
    assert_eq!(health(&["--call", "default"]).await, serving);
    assert_eq!(health(&["--service", "leadsd.v1.LeadsService/default"]).await, serving);
    let (code, report) = health(&["--call", "nowhere"]).await;
    assert_eq!((code, &report["status"]), (Some(1), &json!("UNKNOWN")));
    assert!(report["error"].as_str().unwrap().contains("GetQuota failed"), "{report}");
}
