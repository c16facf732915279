//! The clients of `examples/`, run by the lines of their page: against `leadsd dev`, and against two
//! replicas of `leadsd serve`. They check what they see themselves.

use std::{process::Command, sync::Arc};

use leadsd::{
    fake::{
        MARK,
        hubspot::{FakeHubspot, READ, WRITE},
        vault::FakeVault,
    },
    time::SystemClock,
};
use serde_json::json;

use crate::{
    openbao::file,
    pages::blocks,
    process::{Dev, FREE, Process},
    real_peers::{run, text},
};

/// The last line of a language's block: the others build what it runs.
fn line_of(language: &str) -> (String, String) {
    let mut blocks = blocks("examples/README.md").into_iter();
    let block = blocks.find(|block| block.heading == language).expect("a block of this language");
    let (folder, run) = (block.text.lines().next().unwrap(), block.text.lines().last().unwrap());
    (folder.to_owned(), run.to_owned())
}

/// Runs a language's walk with these options in place of those on the page; gives what it printed.
async fn walk(language: &str, options: &str) -> String {
    let (folder, line) = line_of(language);
    let (program, _) = line.split_once(" --address ").expect("a line with an address");
    let line = format!("{folder} && {program} {options}");
    let output = run(Command::new("bash").args(["-c", &line])).await;
    let said = text(&output);
    assert!(output.status.success(), "{line} (built as examples/README.md says?)\n{said}");
    let ending = format!("{}: all as expected", language.to_lowercase());
    assert!(said.lines().any(|line| line == ending), "{said}");
    assert!(!said.contains(MARK), "a secret in {said}");
    said
}

/// Two replicas of the service in front of one HubSpot account.
struct Replicas {
    _processes: [Process; 2],
    _peers: (FakeHubspot, FakeVault, tempfile::TempDir),
    addresses: String,
    contact: String,
}

// === impl Replicas ===

impl Replicas {
    async fn start() -> Self {
        let free = || FREE.parse().unwrap();
        let hubspot = FakeHubspot::start(free(), Arc::new(SystemClock)).await.unwrap();
        let vault = FakeVault::start(free()).await.unwrap();
        let contact = hubspot.add_contact("ada@example.com");
        // Repeats may come to the other replica.
        hubspot.add_unique_property("request_key");
        let token = hubspot.static_token(&[READ, WRITE]);
        vault.put("hubspot/default", json!({"access_token": token.expose()}));
        let folder = tempfile::tempdir().unwrap();
        let token = file(&folder, "vault-token", vault.root_token().expose());
        let config = format!(
            "[grpc]\nlisten = \"{FREE}\"\n[admin]\nlisten = \"{FREE}\"\n\
             [vault]\naddress = \"http://{}\"\n\
             [vault.auth]\nmethod = \"token_file\"\nfile = \"{}\"\n\
             [hubspot]\nbase_url = \"http://{}\"\n\
             [portals.default]\nrequest_id_property = \"request_key\"\n",
            vault.address(),
            token.display(),
            hubspot.address()
        );
        let config = file(&folder, "leadsd.toml", &config);
        let processes = [Process::serve(&config, &[]), Process::serve(&config, &[])];
        let addresses = format!("{},{}", processes[0].ready().await, processes[1].ready().await);
        Self { _processes: processes, _peers: (hubspot, vault, folder), addresses, contact }
    }
}

async fn walks(language: &str) {
    let dev = Dev::start().await;
    let said = walk(language, &format!("--address {}", dev.address("gRPC"))).await;
    assert!(!said.contains("answered 1"), "one address is not balanced: {said}");

    let replicas = Replicas::start().await;
    let options = format!("--address {} --contact {}", replicas.addresses, replicas.contact);
    let said = walk(language, &options).await;
    for address in replicas.addresses.split(',') {
        assert!(said.contains(&format!("{address} answered ")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Go example, built"]
async fn the_go_client_sees_what_it_should() {
    walks("Go").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Java example, built"]
async fn the_java_client_sees_what_it_should() {
    walks("Java").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Python example, built"]
async fn the_python_client_sees_what_it_should() {
    walks("Python").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Node example, built"]
async fn the_node_client_sees_what_it_should() {
    walks("Node").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Rust example, built"]
async fn the_rust_client_sees_what_it_should() {
    walks("Rust").await;
}
