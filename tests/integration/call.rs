//! `leadsd call` against a running service: requests, output, errors, exit codes, profiles and signals.

mod odd_servers;
mod signals;

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use leadsd_testkit::Dev;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::harness::LEADSD;

/// A command that reads no profile of the machine that runs the test.
pub(crate) fn leadsd_call(arguments: &[&str]) -> Command {
    let mut command = Command::new(LEADSD);
    command.arg("call").args(arguments).env_remove("HOME").env_remove("XDG_CONFIG_HOME");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

// === impl Ran ===

impl Ran {
    /// The response, if the call succeeded and nothing else was printed.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        assert_eq!(self.out.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }

    /// Asserts the exit code, and that standard error has these parts.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part} in {self:?}");
        }
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

pub(crate) async fn ran(mut command: Command) -> Ran {
    spawn_blocking(move || command.output().unwrap().into()).await.unwrap()
}

/// Runs a call at this address.
async fn call(address: &str, arguments: &[&str]) -> Ran {
    ran(leadsd_call(&[&["--address", address], arguments].concat())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_creates_reads_searches_and_archives_without_other_tools() {
    let dev = Dev::start_with(LEADSD, &["--search-lag", "0s"]).await;
    let address = dev.address("gRPC");
    let create = [
        "CreateLead",
        "--json",
        "properties.hs_lead_name=Ada: 10 seats",
        "properties[hs_lead_label]=HOT",
        "primary_contact_id=101",
    ];
    let created = call(&address, &create).await.json();
    let id = created["lead"]["id"].as_str().unwrap().to_owned();
    assert_eq!(created["lead"]["properties"]["hs_lead_name"], "Ada: 10 seats");
    let id_field = format!("id={id}");

    let read = [
        "LeadsService/GetLead",
        &id_field,
        "properties=hs_lead_name",
        "properties=hs_lead_label",
        "associations=contacts",
    ];
    let read = call(&address, &read).await;
    assert_eq!((read.code, read.err.as_str()), (Some(0), ""), "{read:?}");
    assert!(
        read.out.starts_with(&format!("lead:\n  id: \"{id}\"\n  properties:\n")),
        "{}",
        read.out
    );
    for line in [
        "    hs_lead_label: HOT",
        "    hs_lead_name: \"Ada: 10 seats\"",
        "  associations:",
        "        - id: \"101\"",
    ] {
        assert!(read.out.lines().any(|known| known == line), "{line} in {}", read.out);
    }

    let found = call(
        &address,
        &[
            "SearchLeads",
            "--json",
            r#"{"properties": ["hs_lead_name"], "pageSize": 5}"#,
            "filter_groups[0].filters[0].property_name=hs_lead_label",
            "filter_groups[0].filters[0].operator=EQ",
            "filter_groups[0].filters[0].value=HOT",
            "filter_groups[0].filters[1].property_name=hs_lead_name",
            "filter_groups[0].filters[1].operator=CONTAINS_TOKEN",
            "filter_groups[0].filters[1].value=ada*",
        ],
    )
    .await
    .json();
    assert_eq!((found["total"].as_str(), &found["leads"][0]["id"]), (Some("1"), &json!(id)));

    let archived = call(&address, &["leadsd.v1.LeadsService/ArchiveLead", &id_field]).await;
    assert_eq!((archived.code, archived.out.as_str()), (Some(0), "{}\n"), "{archived:?}");
    let gone = call(&address, &["GetLead", &id_field]).await;
    gone.failed(69, &["leadsd: NOT_FOUND: ", "\n  reason: LEAD_NOT_FOUND\n", "\n  request id: "]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_taken_from_an_argument_a_file_and_standard_input() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request.json");
    std::fs::write(&file, "{\"id\": \"107\",\n \"properties\": [\"hs_lead_name\"]}\n").unwrap();
    let from_file = format!("@{}", file.display());
    let argument = r#"{"id": "107", "properties": ["hs_lead_name"]}"#;
    for request in [&["GetLead", "--json", argument][..], &["GetLead", "--json", &from_file]] {
        let lead = call(&address, request).await.json();
        assert_eq!(lead["lead"]["properties"]["hs_lead_name"], "Lead of ada");
    }
    let mut command = leadsd_call(&["GetLead", "--json", "-", "id=108", "--address", &address]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(argument.as_bytes()).unwrap();
    let output = spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(Ran::from(output).json()["lead"]["id"], "108", "fields are set on top");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_inputs_of_a_batch_are_reported_and_set_the_exit_code() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    let arguments = ["BatchGetLeads", "ids=107", "ids=999999", "ids=108"];
    let ran = call(&address, &arguments).await;
    ran.failed(
        2,
        &["leadsd: 1 of 3 inputs failed\nresults[1]: NOT_FOUND: ", "\n  reason: LEAD_NOT_FOUND\n"],
    );
    assert!(ran.out.contains("results:\n  - lead:\n      id: \"107\"\n"), "{}", ran.out);
    assert!(ran.out.contains("\n  - error:\n      code: 5\n"), "{}", ran.out);
    let ran = call(&address, &[&arguments[..], &["--json"]].concat()).await;
    ran.failed(2, &["leadsd: 1 of 3 inputs failed\n"]);
    let response: Value = serde_json::from_str(&ran.out).unwrap();
    let details = &response["results"][1]["error"]["details"][0];
    assert_eq!(details["@type"], "type.googleapis.com/google.rpc.ErrorInfo");
    assert_eq!(details["reason"], "LEAD_NOT_FOUND");
    let ran = call(&address, &["BatchGetLeads", "ids=107"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let ran = call(&address, &["BatchArchiveLeads", "ids=109", "--json"]).await;
    assert_eq!(ran.json(), json!({"results": [{"status": {}}]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_service_are_shown_for_people_and_as_json() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    let arguments = ["BatchGetLeads", "ids=107", "properties=a", "properties=hs lead name"];
    call(&address, &arguments).await.failed(
        67,
        &[
            "leadsd: INVALID_ARGUMENT: ",
            "\n  reason: INVALID_REQUEST\n",
            "\n  field: properties[1]: ",
            "\n  help: docs/ERRORS.md#invalid_request\n",
            "\n  request id: ",
        ],
    );
    let ran = call(&address, &[&arguments[..], &["--json"]].concat()).await;
    ran.failed(67, &[]);
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    let error = &error["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!(3), &json!("INVALID_ARGUMENT")));
    let details = error["details"].as_array().unwrap();
    let bad = details.iter().find(|detail| detail.get("fieldViolations").is_some()).unwrap();
    assert_eq!(bad["fieldViolations"][0]["field"], "properties[1]");
    let unknown = call(&address, &["GetLead", "id=107", "--portal", "nowhere"]).await;
    unknown.failed(67, &["reason: UNKNOWN_PORTAL"]);
    let ran = call(&address, &["GetLead", "id=107", "--verbose", "--priority", "bulk"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("leadsd-quota-cost: 1\n"), "{ran:?}");
    assert!(ran.err.contains("x-request-id: "), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_one_document_for_each_response() {
    let dev = Dev::start(LEADSD).await;
    let address = dev.address("gRPC");
    let watch = ["WatchQuota", "interval=100ms", "--max-messages", "3"];
    let ran = call(&address, &[&watch[..], &["--json"]].concat()).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    let lines: Vec<Value> =
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["quota"]["portal"] == "default"), "{lines:?}");
    let ran = call(&address, &watch).await;
    let documents: Vec<_> = ran.out.split("---\n").collect();
    assert_eq!(documents.len(), 3, "{}", ran.out);
    let all = documents.iter().all(|text| text.starts_with("quota:\n  portal: default\n"));
    assert!(all, "{documents:?}");
    let ended = call(&address, &["WatchQuota", "--deadline", "200ms"]).await;
    ended.failed(68, &["leadsd: DEADLINE_EXCEEDED: "]);
    assert!(ended.out.starts_with("quota:\n"), "{ended:?}");
    // Any other service: one response, and a stream in both directions.
    assert_eq!(call(&address, &["Check", "--json"]).await.json(), json!({"status": "SERVING"}));
    let list = [
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "--json",
        r#"{"list_services": ""} {"file_containing_symbol": "no.such.Symbol"}"#,
    ];
    let ran = call(&address, &list).await;
    assert_eq!((ran.code, ran.out.lines().count()), (Some(0), 2), "{ran:?}");
    assert!(ran.out.contains("leadsd.v1.LeadsService"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_reported_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let profiles = file("profiles.toml", "[profile.x]\ntoken = \"hush\"\n");
    for (arguments, expected) in [
        (&["GetLeads"][..], "leadsd has no method \"GetLeads\"; did you mean \"GetLead\"?"),
        (&["GetLead", "ids=1"], "ids: is no field of GetLeadRequest; did you mean \"id\"?"),
        (&["ListLeads", "page_size=ten"], "page_size: \"ten\" is not a 32-bit integer"),
        (&["GetLead", "@/nowhere.json"], "cannot read /nowhere.json: "),
        (
            &["GetLead", "--address", "localhost"],
            "invalid address \"localhost\" (--address): use HOST:PORT",
        ),
        (&["GetLead", "--tls", "--ca-file", "/nowhere.pem"], "--ca-file: /nowhere.pem cannot be"),
        (&["GetLead", "--token-file", "/nowhere"], "cannot read the token in /nowhere: "),
        (&["GetLead", "--profile", "x"], "neither XDG_CONFIG_HOME nor HOME is set"),
        (&["GetLead", "--profile-file", &profiles, "--profile", "x"], "must not contain a secret"),
        (&["GetLead", "--max-messages", "2"], "--max-messages is for streams"),
        (&["GetLead", "-", "--token-prompt"], "cannot both be read from standard input"),
        (&["--describe", "Nothing"], "leadsd has no method or type \"Nothing\""),
        (&[], "the following required arguments were not provided"),
        (&["GetLead", "--deadline", "soon"], "use a duration from 1ms to 24h"),
        (&["GetLead", "--max-response-size", "2GiB"], "use a size from 1B to 1GiB"),
        (&["GetLead", "--token", "x"], "unexpected argument '--token' found"),
    ] {
        let ran = ran(leadsd_call(arguments)).await;
        ran.failed(64, &[expected]);
        assert!(ran.out.is_empty() && !ran.err.contains("hush"), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_are_found_in_the_configuration_folder() {
    let dev = Dev::start(LEADSD).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join(".config/leadsd");
    std::fs::create_dir_all(&config).unwrap();
    let text = format!(
        "default = \"dev\"\n[profile.dev]\naddress = \"{}\"\n[profile.other]\naddress = \
         \"127.0.0.1:1\"\n[profile.nowhere]\naddress = \"{0}\"\nportal = \"nowhere\"\n",
        dev.address("gRPC")
    );
    std::fs::write(config.join("profiles.toml"), text).unwrap();
    let with = |variable: &str, value: &std::path::Path, arguments: &[&str]| {
        let mut command = leadsd_call(&[&["GetLead", "id=107", "--json"], arguments].concat());
        command.env(variable, value);
        ran(command)
    };
    let home = folder.path();
    assert_eq!(with("HOME", home, &[]).await.json()["lead"]["id"], "107");
    let xdg = home.join(".config");
    assert_eq!(with("XDG_CONFIG_HOME", &xdg, &[]).await.json()["lead"]["id"], "107");
    with("HOME", home, &["--profile", "other"])
        .await
        .failed(78, &["127.0.0.1:1 cannot be reached"]);
    with("HOME", home, &["--profile", "nowhere"]).await.failed(67, &["UNKNOWN_PORTAL"]);
    let overridden = ["--profile", "nowhere", "--portal", "default"];
    assert_eq!(with("HOME", home, &overridden).await.json()["lead"]["id"], "107");
    with("HOME", home, &["--profile", "devel"]).await.failed(64, &["did you mean \"dev\"?"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_uses_a_profile_only_if_it_is_named() {
    let dev = Dev::start(LEADSD).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("leadsd")).unwrap();
    let file = folder.path().join("leadsd/profiles.toml");
    let text = format!(
        "default = \"closed\"\n[profile.closed]\naddress = \"127.0.0.1:1\"\n[profile.dev]\n\
         address = \"{}\"\nportal = \"default\"\n[profile.odd]\ntoken = \"hush\"\n",
        dev.address("gRPC")
    );
    std::fs::write(&file, text).unwrap();
    let health = |arguments: &[&str]| {
        let mut command = Command::new(LEADSD);
        command.args(["health", "--timeout-ms=10000"]).args(arguments);
        command.env_remove("HOME").env("XDG_CONFIG_HOME", folder.path());
        ran(command)
    };
    let serving = health(&["--profile", "dev"]).await;
    assert_eq!((serving.code, serving.out.as_str()), (Some(0), "SERVING\n"), "{serving:?}");
    let explicit = ["--profile", "dev", "--profile-file", file.to_str().unwrap()];
    assert_eq!(health(&explicit).await.code, Some(0));
    let address = ["--address", &dev.address("gRPC")];
    assert_eq!(health(&address).await.code, Some(0), "the default profile is not used");
    let overridden = [&["--profile", "closed"][..], &address].concat();
    assert_eq!(health(&overridden).await.code, Some(0), "a flag overrides the profile");
    health(&["--profile", "closed"]).await.failed(1, &["cannot connect"]);
    let odd = health(&["--profile", "odd"]).await;
    odd.failed(64, &["must not contain a secret"]);
    assert!(!odd.err.contains("hush"), "{odd:?}");
    health(&["--profile", "deb"]).await.failed(64, &["did you mean \"dev\"?"]);
}

#[test]
fn methods_are_listed_described_and_completed() {
    let run =
        |arguments: &[&str]| Ran::from(Command::new(LEADSD).args(arguments).output().unwrap());
    let list = run(&["call", "--list"]);
    assert_eq!(list.code, Some(0));
    assert!(list.out.contains("\n  GetLead                 Reads one lead by id"), "{}", list.out);
    let described = run(&["call", "--describe", "SearchLeads"]).out;
    assert!(described.contains("\n  filter_groups: repeated FilterGroup\n"), "{described}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).out;
        for word in ["token-file", "max-messages"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    for (shell, line) in [
        ("zsh", "BatchUpsertLeads\\:\"Updates or creates many leads"),
        ("fish", "using_subcommand call\" -f -a \"BatchUpsertLeads\" -d 'Updates or creates"),
    ] {
        let script = run(&["completions", shell]).out;
        assert!(script.contains(line), "{shell}: {line}");
    }
    // As bash does when a person presses Tab.
    let script = format!(
        "source <('{LEADSD}' completions bash); COMP_WORDS=(leadsd call BatchU); COMP_CWORD=2; \
         _leadsd leadsd BatchU call; echo \"${{COMPREPLY[*]}}\""
    );
    let completed = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(Ran::from(completed).out, "BatchUpdateLeads BatchUpsertLeads\n");
    let page = run(&["man", "call"]).out;
    for part in [".TH leadsd-call", "64 plus the gRPC code", "Default: 20s"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let help = run(&["call", "--help"]).out;
    assert!(
        help.contains("65 to 80 the call failed") && !help.contains("possible values: GetLead")
    );
}
