//! Faults of caller authentication, of the certificate of the gRPC port, and of the shared ledger.

use serde_json::json;

use super::{
    POLICY, World,
    planted_faults::{Planted, each_is_named, fails, warns},
};
use crate::{
    openbao::Authority,
    real_peers::tool,
    tls_front::{self, Certificate},
};

/// Serves gRPC with this chain and key.
fn serves(world: &mut World, chain: &str, key: &str) {
    let (cert, key) = (world.file("tls.crt", chain), world.file("tls.key", key));
    world.sections.push_str(&format!(
        "[grpc.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
        cert.display(),
        key.display()
    ));
}

/// Trusts a CA that is good, and this certificate.
fn trusts(world: &mut World, certificate: Certificate) {
    let authority = Authority::new();
    let pem = format!("{}{}", authority.pem(), authority.issue_as(certificate).0);
    let file = world.file("ca.pem", &pem);
    world.sections.push_str(&format!("[egress]\nca_files = [\"{}\"]\n", file.display()));
}

/// Authenticates callers by tokens with keys at this URL.
fn knows(world: &mut World, keys: &str) {
    world.sections.push_str(&format!(
        "[auth.jwt]\nissuer = \"https://issuer.example\"\naudience = \"leadsd\"\n{keys}\n\
         [policy.all]\ncallers = [\"*\"]\nportals = [\"*\"]\naccess = \"read\"\n"
    ));
}

/// Authenticates callers by API keys with the hashes in this secret.
fn has_keys(world: &mut World, keys: Option<serde_json::Value>) {
    if let Some(keys) = keys {
        world.vault.put("leadsd/api-keys", keys);
    }
    world.allow(&[POLICY[0], POLICY[1], ("secret/data/leadsd/", &["read"])]);
    world.sections.push_str(
        "[auth.api_keys]\nsecret = \"leadsd/api-keys\"\n\
         [policy.all]\ncallers = [\"*\"]\nportals = [\"*\"]\naccess = \"read\"\n",
    );
}

fn shares(world: &mut World, keys: &str) {
    world.sections.push_str(&format!("[quota.shared]\n{keys}\n"));
}

const SERVICE: &[Planted] = &[
    fails("no certificate", "grpc.certificate", &["/nonexistent/tls.crt"], |world| {
        world.sections = "[grpc.tls]\ncert_file = \"/nonexistent/tls.crt\"\n\
                          key_file = \"/nonexistent/tls.key\"\n"
            .into();
    }),
    fails("the key of another certificate", "grpc.certificate", &["key"], |world| {
        let authority = Authority::new();
        let (chain, _) = authority.issue("leadsd.example");
        let (_, key) = authority.issue("leadsd.example");
        serves(world, &chain, &key);
    }),
    fails(
        "an expired certificate",
        "grpc.certificate",
        &["has expired", "valid PEM certificate chain"],
        |world| {
            let (chain, key) = Authority::new().issue_as(Certificate::Expired);
            serves(world, &chain, &key);
        },
    ),
    warns("a certificate that ends soon", "grpc.certificate", &["days", "renew"], |world| {
        let (chain, key) = Authority::new().issue_as(Certificate::EndingSoon);
        serves(world, &chain, &key);
    }),
    fails("a chain of strangers", "grpc.certificate", &["do not form a chain", "first"], |world| {
        let (leaf, key) = Authority::new().issue("leadsd.example");
        serves(world, &format!("{leaf}{}", Authority::new().pem()), &key);
    }),
    warns("a CA that ends soon", "ca_files", &["egress.ca_files", "expires in 3.0"], |world| {
        trusts(world, Certificate::EndingSoon);
    }),
    warns("a CA that has ended", "ca_files", &["expired", "without a restart"], |world| {
        trusts(world, Certificate::Expired);
    }),
    warns("strangers on a network", "grpc.callers", &["without authentication"], |world| {
        world.grpc = "listen = \"0.0.0.0:0\"\ninsecure = true".into();
    }),
    warns("callers in the clear", "grpc.callers", &["not encrypted", "TLS"], |world| {
        world.grpc = "listen = \"0.0.0.0:0\"\ninsecure = true".into();
        let keys = world.file("jwks.json", &jwks());
        knows(world, &format!("jwks_file = \"{}\"", keys.display()));
    }),
    fails("no key set", "auth.jwks", &["/nonexistent/jwks.json"], |world| {
        knows(world, "jwks_file = \"/nonexistent/jwks.json\"");
    }),
    fails("an issuer that is away", "auth.jwks", &["refused"], |world| {
        knows(world, "jwks_url = \"http://127.0.0.1:1/jwks\"");
    }),
    fails("an issuer of another authority", "auth.jwks", &["UnknownIssuer"], |world| {
        let hubspot = world.hubspot.address();
        let url = tls_front::start(&Authority::new(), Certificate::Good, hubspot);
        knows(world, &format!("jwks_url = \"{url}/jwks\""));
    }),
    fails("a key set without keys", "auth.jwks", &["key"], |world| {
        let keys = world.file("jwks.json", r#"{"keys": []}"#);
        knows(world, &format!("jwks_file = \"{}\"", keys.display()));
    }),
    warns("no API keys", "auth.api_keys", &["no API keys", "SHA-256"], |world| {
        has_keys(world, None);
    }),
    warns("an API key that is not hashed", "auth.api_keys", &["billing"], |world| {
        has_keys(world, Some(json!({"billing": "hush-a-key-in-the-clear", "shop": hash(1)})));
    }),
    fails(
        "API keys at a path of the API",
        "auth.api_keys",
        &["path of Vault's API", "set auth.api_keys.secret to \"leadsd/api-keys\""],
        |world| {
            has_keys(world, None);
            let path = "secret = \"secret/data/leadsd/api-keys\"";
            world.sections = world.sections.replace("secret = \"leadsd/api-keys\"", path);
        },
    ),
    fails("a policy without the API keys", "auth.api_keys", &["secret/data/leadsd"], |world| {
        has_keys(world, Some(json!({"shop": hash(1)})));
        world.allow(&POLICY);
    }),
    warns(
        "no keys of the admin port",
        "admin.api_keys",
        &["no API keys at secret/data/"],
        |world| {
            world.allow(&[POLICY[0], POLICY[1], ("secret/data/leadsd/", &["read"])]);
            world.admin.push_str("\napi_keys_secret = \"leadsd/admin-keys\"");
        },
    ),
    warns(
        "a port that is not of OTLP over gRPC",
        "trace.collector",
        &["does not accept spans", "4317", "spans are dropped"],
        |world| {
            // The fake Vault speaks HTTP, as a collector does at port 4318.
            let url = format!("http://{}", world.vault.address());
            world.sections = format!("[trace]\notlp_endpoint = \"{url}\"");
        },
    ),
    warns(
        "a collector that is away",
        "trace.collector",
        &["refused", "spans are dropped", "trace.otlp_endpoint"],
        |world| {
            world.sections = "[trace]\notlp_endpoint = \"http://127.0.0.1:1\"".into();
        },
    ),
    fails(
        "a port that another process has",
        "grpc.listen",
        &["another process listens on", "ss -ltnp", "another port in grpc.listen"],
        |world| {
            // That of the fake Vault.
            world.grpc = format!("listen = \"{}\"", world.vault.address());
        },
    ),
    fails("a store that is away", "quota.shared", &["is unavailable"], |world| {
        shares(world, "url = \"redis://127.0.0.1:1/0\"");
    }),
    fails("no file with its URL", "quota.shared", &["/nonexistent/url"], |world| {
        shares(world, "url_file = \"/nonexistent/url\"");
    }),
    fails("a file with something else", "quota.shared", &["not a Redis URL"], |world| {
        let file = world.file("url", "postgres://me:hush-password@127.0.0.1/0");
        shares(world, &format!("url_file = \"{}\"", file.display()));
    }),
];

fn hash(digit: u8) -> String {
    digit.to_string().repeat(64)
}

/// A key set with one key; only its form matters here.
fn jwks() -> String {
    let part = "A".repeat(342);
    json!({"keys": [{"kty": "RSA", "kid": "1", "alg": "RS256", "use": "sig", "n": part,
                     "e": "AQAB"}]})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_callers_and_replicas_fail_the_right_check() {
    each_is_named(SERVICE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_certificates_keys_and_hashes_pass() {
    let mut world = World::new().await;
    let authority = Authority::new();
    let (leaf, key) = authority.issue("leadsd.example");
    serves(&mut world, &format!("{leaf}{}", authority.pem()), &key);
    let keys = world.file("jwks.json", &jwks());
    knows(&mut world, &format!("jwks_file = \"{}\"", keys.display()));
    has_keys(&mut world, Some(json!({"shop": hash(1), "billing": hash(2)})));
    let double = "[policy.all]\ncallers = [\"*\"]\nportals = [\"*\"]\naccess = \"read\"\n";
    world.sections = world.sections.replacen(double, "", 1);
    world.grpc = "listen = \"0.0.0.0:0\"".into();
    let said = world.diagnose().await;
    assert_eq!(said.report["result"], "ok", "{:#}", said.report);
    assert_eq!(said.check_result("auth.jwks")["found"], "1 keys");
    assert_eq!(said.check_result("auth.api_keys")["found"], "2 callers");
    let callers = said.check_result("grpc.callers")["found"].as_str().unwrap();
    assert_eq!(callers, "callers authenticate by JWT, API key; 1 policies");
    assert!(said.check_result("grpc.certificate")["found"].as_str().unwrap().contains("valid for"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_primary_replica_and_password_are_distinguished() {
    let folder = tempfile::tempdir().unwrap();
    let start = |more: &[&str]| {
        let port = leadsd_testkit::unused_port();
        let mut server = std::process::Command::new(tool("LEADSD_TEST_REDIS", "redis-server"));
        server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
        server.args(more).current_dir(folder.path()).stdout(std::process::Stdio::null());
        (Killed(server.spawn().expect("redis starts")), port)
    };
    let (_primary, port) = start(&[]);
    let (_replica, other) = start(&["--replicaof", "127.0.0.1", &port.to_string()]);
    let (_locked, locked) = start(&["--requirepass", "hush-redis"]);
    for port in [port, other, locked] {
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(crate::harness::PATIENCE, up).await.expect("redis is up");
    }
    let found = async |keys: &str| {
        let mut world = World::new().await;
        if let Some(url) = keys.strip_prefix("file ") {
            let file = world.file("url", url);
            shares(&mut world, &format!("url_file = \"{}\"", file.display()));
        } else {
            shares(&mut world, &format!("url = \"{keys}\""));
        }
        world.diagnose().await.check_result("quota.shared").clone()
    };
    let good = found(&format!("redis://127.0.0.1:{port}/0")).await;
    assert!(good["found"].as_str().unwrap().starts_with("Redis 7"), "{good}");
    let replica = found(&format!("redis://127.0.0.1:{other}/0")).await;
    assert!(replica["cause"].as_str().unwrap().contains("read-only replica"), "{replica}");
    let unknown = found(&format!("redis://127.0.0.1:{locked}/0")).await;
    assert_eq!(unknown["result"], "fail", "{unknown}");
    let known = found(&format!("file redis://:hush-redis@127.0.0.1:{locked}/0")).await;
    assert_eq!(known["result"], "ok", "{known}");
}

/// A process that is killed with the test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The process may have exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
