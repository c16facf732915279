//! Clients of `examples/`, run with the commands of their page: without TLS against `leadsd dev`,
//! and with TLS and a token against two replicas of `leadsd serve`. The clients check their
//! results.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use leadsd_base::{secret::SECRET_MARKER, time::SystemClock};
use leadsd_hubspot_fake::{CONTACTS_READ, FakeHubspot, OWNERS, READ, WRITE};
use leadsd_testkit::{Dev, FREE, Process};
use leadsd_vault_fake::FakeVault;
use serde_json::json;

use crate::harness::LEADSD;
use crate::{
    markdown_blocks::blocks,
    openbao::{Authority, file},
    real_peers::{run, text},
};

/// Issuer of the callers' tokens.
const ISSUER: &str = "https://issuer.internal";

/// Host name in the service's certificate.
pub(crate) const NAME: &str = "leadsd.internal";

/// Last line of a language's block: it runs the client that the other lines build.
fn line_of(language: &str) -> (String, String) {
    let mut blocks = blocks("examples/README.md").into_iter();
    let block = blocks.find(|block| block.heading == language).expect("a block of this language");
    let (folder, run) = (block.text.lines().next().unwrap(), block.text.lines().last().unwrap());
    (folder.to_owned(), run.to_owned())
}

/// Outcome of a client run.
struct Walked {
    language: String,
    line: String,
    succeeded: bool,
    said: String,
}

// === impl Walked ===

impl Walked {
    /// Output of a successful run.
    fn succeeded(self) -> String {
        let Self { language, line, succeeded, said } = self;
        assert!(succeeded, "{line} (built as examples/README.md says?)\n{said}");
        let ending = format!("{}: all as expected", language.to_lowercase());
        assert!(said.lines().any(|line| line == ending), "{said}");
        assert!(!said.contains(SECRET_MARKER), "a secret in {said}");
        said
    }

    /// Asserts that authentication failed.
    fn failed(self) -> String {
        let Self { line, succeeded, said, .. } = self;
        assert!(!succeeded && !said.contains("created"), "{line}\n{said}");
        said
    }
}

/// Runs the client of a language with these options and this timeout in seconds.
async fn walk(language: &str, options: &str, seconds: u32) -> Walked {
    let (folder, line) = line_of(language);
    let (program, _) = line.split_once(" --address ").expect("a line with an address");
    let line = format!("{folder} && timeout {seconds} env {program} {options}");
    let output = run(Command::new("bash").args(["-c", &line])).await;
    let (succeeded, said) = (output.status.success(), text(&output));
    Walked { language: language.to_owned(), line, succeeded, said }
}

/// Two replicas for one HubSpot account, with TLS and tokens.
pub(crate) struct Replicas {
    _processes: [Process; 2],
    _peers: (FakeHubspot, FakeVault, Authority),
    /// Credentials of a client.
    options: String,
    pub(crate) addresses: String,
    pub(crate) ca_file: PathBuf,
    pub(crate) token_file: PathBuf,
}

// === impl Replicas ===

impl Replicas {
    pub(crate) async fn start() -> Self {
        let free = || FREE.parse().unwrap();
        let hubspot = FakeHubspot::start(free(), Arc::new(SystemClock)).await.unwrap();
        let vault = FakeVault::start(free()).await.unwrap();
        let contact = hubspot.add_contact("ada@example.com");
        hubspot.add_owner("sales@example.com");
        // The clients search for leads that they have just written.
        hubspot.behave(|behaviour| behaviour.index_lag = Duration::ZERO);
        // Repeated calls may reach the other replica.
        hubspot.add_unique_property("request_key");
        let token = hubspot.static_token(&[READ, WRITE, CONTACTS_READ, OWNERS]);
        vault.put("hubspot/default", json!({"access_token": token.expose()}));

        let authority = Authority::new();
        let (certificate, key) = authority.issue(NAME);
        let kept = |name: &str, text: &str| file(&authority.folder, name, text);
        let (bearer, jwks) = token_of("clients");
        let token_file = kept("token", &bearer);
        let config = format!(
            "[grpc]\nlisten = \"{FREE}\"\n\
             [grpc.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n\
             [admin]\nlisten = \"{FREE}\"\n\
             [auth.jwt]\nissuer = \"{ISSUER}\"\naudience = \"leadsd\"\njwks_file = \"{}\"\n\
             [policy.clients]\ncallers = [\"clients\"]\nportals = [\"default\"]\n\
             access = \"write\"\nexport = true\nimport = true\nquota = true\n\
             [vault]\naddress = \"http://{}\"\n\
             [vault.auth]\nmethod = \"token_file\"\nfile = \"{}\"\n\
             [hubspot]\nbase_url = \"http://{}\"\n\
             [portals.default]\nrequest_id_property = \"request_key\"\n",
            kept("tls.crt", &certificate).display(),
            kept("tls.key", &key).display(),
            kept("jwks.json", &jwks).display(),
            vault.address(),
            kept("vault-token", vault.root_token().expose()).display(),
            hubspot.address()
        );
        let config = kept("leadsd.toml", &config);
        let processes =
            [Process::serve(LEADSD, &config, &[]), Process::serve(LEADSD, &config, &[])];
        let addresses = format!("{},{}", processes[0].ready().await, processes[1].ready().await);
        let ca_file = kept("ca.pem", authority.pem());
        let options = format!(
            "--address {addresses} --contact {contact} --server-name {NAME} --ca-file {}",
            ca_file.display()
        );
        let peers = (hubspot, vault, authority);
        Self { _processes: processes, _peers: peers, options, addresses, ca_file, token_file }
    }
}

/// Bearer token of this caller, valid for an hour, and the key set that verifies it.
fn token_of(caller: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let expires = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let claims = json!({"iss": ISSUER, "aud": "leadsd", "sub": caller,
                        "exp": expires.as_secs() + 3_600});
    let signing = EncodingKey::from_ed_der(&key.serialize_der());
    let token = encode(&Header::new(Algorithm::EdDSA), &claims, &signing).unwrap();
    let x = URL_SAFE_NO_PAD.encode(key.public_key_raw());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": x}]});
    (token, keys.to_string())
}

async fn walks(language: &str) {
    let dev = Dev::start_with(LEADSD, &["--search-lag", "0s"]).await;
    let said = walk(language, &format!("--address {}", dev.address("gRPC")), 60).await.succeeded();
    assert!(said.contains("as it should: ") && said.contains("UNKNOWN_PORTAL"), "{said}");

    let Replicas { _processes, _peers, options, addresses, ca_file: _, token_file } =
        Replicas::start().await;
    let with_token = format!("{options} --token-file {}", token_file.display());
    let said = walk(language, &with_token, 60).await.succeeded();
    assert!(said.contains("CALLER_FORBIDDEN"), "{said}");
    for address in addresses.split(',') {
        assert!(said.contains(&format!("{address} answered ")), "{said}");
    }
    // The service authenticates its callers.
    let said = walk(language, &options, 60).await.failed();
    assert!(said.to_uppercase().contains("UNAUTHENTICATED"), "{said}");
    // The client verifies the service and waits for the right one.
    let elsewhere = with_token.replace(NAME, "elsewhere.internal");
    walk(language, &elsewhere, 4).await.failed();
}

#[test]
fn every_example_sets_the_maximum_size_of_responses() {
    for (file, option) in [
        ("go/connect.go", "grpc.MaxCallRecvMsgSize(maxResponseSize)"),
        (
            "java/src/main/java/leadsd/example/Server.java",
            "maxInboundMessageSize(MAX_RESPONSE_SIZE)",
        ),
        ("node/connect.mjs", "'grpc.max_receive_message_length': maxResponseSize"),
        ("python/connect.py", "(\"grpc.max_receive_message_length\", MAX_RESPONSE_SIZE)"),
        ("rust/src/main.rs", "max_decoding_message_size(MAX_RESPONSE_SIZE)"),
    ] {
        let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(option), "{file} does not call {option}");
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
