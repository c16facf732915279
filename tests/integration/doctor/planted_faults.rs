//! Table of faults and the check that reports each.

use std::{sync::Arc, time::Duration};

use leadsd_base::time::{SystemClock, Timestamp, WallClock};
use leadsd_hubspot_fake::{ApiError, READ, ScriptedResponse};
use leadsd_vault_fake::Fault;
use serde_json::json;

use super::{POLICY, World};
use crate::{
    openbao::Authority,
    tls_front::{self, Certificate},
};

/// One fault.
pub(super) struct Planted {
    name: &'static str,
    plant: fn(&mut World),
    /// Name of the first failed check.
    check: &'static str,
    /// Result of the check.
    result: &'static str,
    /// Expected parts of cause and fix.
    says: &'static [&'static str],
}

pub(super) const fn fails(
    name: &'static str,
    check: &'static str,
    says: &'static [&'static str],
    plant: fn(&mut World),
) -> Planted {
    Planted { name, plant, check, result: "fail", says }
}

pub(super) const fn warns(
    name: &'static str,
    check: &'static str,
    says: &'static [&'static str],
    plant: fn(&mut World),
) -> Planted {
    Planted { name, plant, check, result: "warn", says }
}

/// Certificate fault of a peer; the configuration trusts its authority.
fn front(world: &mut World, certificate: Certificate) {
    let authority = Authority::new();
    world.vault_url = tls_front::start(&authority, certificate, world.vault.address());
    let ca = world.file("ca.pem", authority.pem());
    world.vault_keys = format!("ca_file = \"{}\"", ca.display());
}

const VAULT: &[Planted] = &[
    fails("an unknown key", "config", &["hubspot.base_uri", "is not a known key"], |world| {
        world.hubspot_keys = "base_uri = \"https://api.hubapi.com\"".into();
    }),
    fails(
        "a misspelt section",
        "config",
        &["hubspto", "did you mean hubspot?", "docs/CONFIG.md"],
        |world| {
            world.sections = "[hubspto]\nmax_attempts = 2".into();
        },
    ),
    fails("a misspelt key", "config", &["vault.adress", "did you mean address?"], |world| {
        world.vault_keys = "adress = \"http://127.0.0.1:8200\"".into();
    }),
    fails("an address of the API", "config", &["vault.address", "must not end in /v1"], |world| {
        world.vault_url.push_str("/v1/");
    }),
    fails(
        "an address of the API with a path",
        "config",
        &["vault.address", "without /v1 and what follows it"],
        |world| world.vault_url.push_str("/v1/secret/data/hubspot"),
    ),
    fails("an address of the interface", "config", &["vault.address", "without /ui"], |world| {
        world.vault_url.push_str("/ui/");
    }),
    fails(
        "an address with another path",
        "vault.health",
        &["does not respond like", "remove /vault from vault.address"],
        |world| world.vault_url.push_str("/vault"),
    ),
    fails(
        "a load balancer that redirects to https",
        "vault.health",
        &["redirects (HTTP status 301)", "set vault.address to the URL"],
        |world| world.vault.fail(Some(Fault::Status(301))),
    ),
    fails(
        "a mount with a slash",
        "config",
        &["vault.mount", "not begin or end with `/`"],
        |world| {
            world.vault_keys = "mount = \"secret/\"".into();
        },
    ),
    fails("a value where a section is", "config", &["grpc.tls: must be a table"], |world| {
        world.grpc.push_str("\ntls = 1");
    }),
    fails(
        "one port for both servers",
        "config",
        &["admin.listen", "another port than grpc.listen"],
        |world| {
            world.grpc = "listen = \"localhost:50051\"".into();
            world.admin = "listen = \"127.0.0.1:50051\"".into();
        },
    ),
    fails(
        "a log filter without the service",
        "config",
        &["log.level", "no log level for leadsd"],
        |world| world.sections = "[log]\nlevel = \"h2=debug\"".into(),
    ),
    fails("a name without an address", "vault.dns", &["the name has no address"], |world| {
        world.vault_url = "http://vault.invalid:8200".into();
    }),
    fails("a closed port", "vault.tcp", &["connection is refused", "vault.address"], |world| {
        world.vault_url = "http://127.0.0.1:1".into();
    }),
    fails("an unknown authority", "vault.tls", &["not trusted", "vault.ca_file"], |world| {
        world.vault_url =
            tls_front::start(&Authority::new(), Certificate::Good, world.vault.address());
    }),
    fails("an expired certificate", "vault.tls", &["has expired", "renew"], |world| {
        front(world, Certificate::Expired);
    }),
    fails("a certificate of the future", "vault.tls", &["not valid yet", "clock"], |world| {
        front(world, Certificate::Early);
    }),
    fails("a certificate of another name", "vault.tls", &["for another name"], |world| {
        front(world, Certificate::OfAnotherName);
    }),
    fails(
        "TLS to a port without",
        "vault.tls",
        &["responds without TLS", "set vault.address to http://"],
        |world| {
            world.vault_url = format!("https://{}", world.vault.address());
        },
    ),
    fails(
        "no TLS to a port with it",
        "vault.health",
        &["begin vault.address with https"],
        |world| {
            // The response of Go's server to a request without TLS.
            world.vault.fail(Some(Fault::Status(400)));
        },
    ),
    fails(
        "a namespace that does not exist",
        "vault.login",
        &["check that auth method and engine are in the namespace nope", "vault.namespace"],
        |world| {
            world.vault_keys = "namespace = \"nope\"".into();
        },
    ),
    fails("no CA file", "vault.tls", &["/nonexistent/ca.pem", "does not exist"], |world| {
        world.vault_keys = "ca_file = \"/nonexistent/ca.pem\"".into();
    }),
    fails("a sealed Vault", "vault.health", &["sealed", "unseal"], |world| {
        world.vault.set_sealed(true);
    }),
    fails("a Vault that is silent", "vault.health", &["did not answer in time"], |world| {
        world.vault_keys = "timeout = \"200ms\"".into();
        world.vault.fail(Some(Fault::Silence));
    }),
    fails(
        "something that is no Vault",
        "vault.health",
        &["not respond like a working Vault"],
        |world| {
            world.vault.fail(Some(Fault::Garbage));
        },
    ),
    fails("a Vault with a fault", "vault.health", &["status 500"], |world| {
        world.vault.fail(Some(Fault::Status(500)));
    }),
    fails("a wrong secret id", "vault.login", &["status 400", "new secret id"], |world| {
        world.file("secret-id", "wrong");
    }),
    fails("no secret id", "vault.login", &["secret-id", "readable"], |world| {
        std::fs::remove_file(world.folder.path().join("secret-id")).unwrap();
    }),
    fails("a token that Vault has forgotten", "vault.login", &["create a new one"], |world| {
        let file = world.file("vault-token", "hvs.forgotten");
        world.auth = format!("method = \"token\"\nfile = \"{}\"", file.display());
    }),
    warns("the root token", "vault.token", &["policy root"], |world| {
        let file = world.file("vault-token", world.vault.root_token().expose());
        world.auth = format!("method = \"token\"\nfile = \"{}\"", file.display());
    }),
    warns(
        "a token whose renewals end",
        "vault.token",
        &["maximum time to live", "-period=24h"],
        |world| {
            let token = world.vault.create_token(&json!({"ttl": 864_000}));
            let file = world.file("vault-token", token.expose());
            world.auth = format!("method = \"token\"\nfile = \"{}\"", file.display());
        },
    ),
    warns(
        "a token with a last day",
        "vault.token",
        &["maximum time to live", "-period=24h"],
        |world| {
            let details = json!({"ttl": 864_000, "period": 86_400, "explicit_max_ttl": 864_000});
            let file = world.file("vault-token", world.vault.create_token(&details).expose());
            world.auth = format!("method = \"token\"\nfile = \"{}\"", file.display());
        },
    ),
    fails(
        "a token with a use limit",
        "vault.token",
        &["3 further requests", "without -use-limit"],
        |world| {
            let token = world.vault.create_token(&json!({"ttl": 864_000, "num_uses": 3}));
            let file = world.file("vault-token", token.expose());
            world.auth = format!("method = \"token\"\nfile = \"{}\"", file.display());
        },
    ),
    warns(
        "a secret id that ends soon",
        "vault.token",
        &["secret id of the AppRole expires in 23 hours", "vault.auth.secret_id_file"],
        |world| {
            let soon = SystemClock.now().as_second() + 24 * 3_600 - 60;
            world.vault.set_secret_id_expiry(&Timestamp::from_second(soon).unwrap().to_string());
        },
    ),
    fails("KV version 1", "vault.engine", &["version 1", "enable-versioning"], |world| {
        world.vault.set_kv_version(1);
    }),
    fails("another mount", "vault.engine", &["an engine at kv", "vault.mount"], |world| {
        world.vault_keys = "mount = \"kv\"".into();
    }),
    fails("a policy without the secret", "vault.policy", &["secret/data/hubspot/"], |world| {
        world.allow(&[("secret/data/other/", &["read"]), POLICY[1]]);
    }),
    warns("a policy without metadata", "vault.policy", &["secret/metadata/hubspot/"], |world| {
        world.allow(&[POLICY[0]]);
    }),
    warns(
        "a grant that cannot be written back",
        "vault.policy",
        &["\"update\"", "lost"],
        |world| {
            world.allow(&[("secret/data/hubspot/", &["read"]), POLICY[1]]);
            world.oauth();
        },
    ),
    fails(
        "a path of the API",
        "vault.policy",
        &["path of Vault's API", "portals.default.secret to \"hubspot/default\""],
        |world| {
            world.portal_keys = "secret = \"secret/data/hubspot/default\"".into();
        },
    ),
    fails(
        "a path of the API's metadata",
        "vault.policy",
        &["path of Vault's API", "portals.default.secret to \"hubspot/default\""],
        |world| {
            world.portal_keys = "secret = \"secret/metadata/hubspot/default\"".into();
        },
    ),
    fails(
        "a path of a request",
        "vault.policy",
        &["path of Vault's API", "portals.default.secret to \"hubspot/default\""],
        |world| {
            world.portal_keys = "secret = \"v1/secret/data/hubspot/default\"".into();
        },
    ),
    fails(
        "a path with the mount",
        "vault.policy",
        &["path of Vault's API", "portals.default.secret to \"hubspot/default\""],
        |world| {
            world.portal_keys = "secret = \"secret/hubspot/default\"".into();
        },
    ),
    fails("no secret", "vault.secret", &["no secret", "leadsd login --portal"], |world| {
        world.vault.remove("hubspot/default");
    }),
    fails("a deleted secret", "vault.secret", &["is deleted", "undelete"], |world| {
        world.vault.delete("hubspot/default");
    }),
    fails("a key that is missing", "vault.secret", &["lacks refresh_token"], |world| {
        let keys = json!({"client_id": "c", "client_secret": "hush"});
        world.vault.put("hubspot/default", keys);
    }),
    fails("keys of something else", "vault.secret", &["no credential", "api_key"], |world| {
        world.vault.put("hubspot/default", json!({"api_key": "hush"}));
    }),
    fails("both kinds of keys", "vault.secret", &["both kinds"], |world| {
        let keys = json!({"access_token": world.token.expose(), "client_secret": "hush"});
        world.vault.put("hubspot/default", keys);
    }),
    fails("a blank in the token", "vault.secret", &["access_token contains whitespace"], |world| {
        let keys = json!({"access_token": format!("Bearer {}", world.token.expose())});
        world.vault.put("hubspot/default", keys);
    }),
    warns(
        "a line end after the token",
        "vault.secret",
        &["surrounding whitespace", "printf"],
        |world| {
            let keys = json!({"access_token": format!("{}\n", world.token.expose())});
            world.vault.put("hubspot/default", keys);
        },
    ),
    fails("a token that is no text", "vault.secret", &["access_token is empty"], |world| {
        world.vault.put("hubspot/default", json!({"access_token": 3}));
    }),
];

const HUBSPOT: &[Planted] = &[
    fails("a name without an address", "hubspot.dns", &["hubspot.base_url"], |world| {
        world.hubspot_url = "http://api.hubapi.invalid".into();
    }),
    fails("a closed port", "hubspot.tcp", &["connection is refused"], |world| {
        world.hubspot_url = "http://127.0.0.1:1".into();
    }),
    fails("a proxy that opens TLS", "hubspot.tls", &["not trusted", "proxy"], |world| {
        world.hubspot_url =
            tls_front::start(&Authority::new(), Certificate::Good, world.hubspot.address());
    }),
    fails(
        "a portal's API at a closed port",
        "hubspot.tcp",
        &["portals.<name>.base_url"],
        |world| {
            world.portal_keys = "base_url = \"http://127.0.0.1:1\"".into();
        },
    ),
    fails(
        "an account in another data centre",
        "hubspot.token",
        &["eu1", "portals.default.base_url", "https://api-eu1.hubapi.com"],
        |world| {
            let body = r#"{"status":"error","message":"elsewhere","correctHublet":"eu1"}"#;
            let elsewhere = ScriptedResponse::Reply(488, "application/json", body.to_owned());
            world.hubspot.script("GET", "/details", elsewhere);
        },
    ),
    fails("HubSpot is down", "hubspot.api", &["HubSpot is unavailable", "503"], |world| {
        world.hubspot.script_times(100, "", "", ScriptedResponse::html(503));
    }),
    fails("a page in HubSpot's place", "hubspot.api", &["not HubSpot's API", "proxy"], |world| {
        world.hubspot.script_times(100, "", "", ScriptedResponse::html(200));
    }),
    fails("a connection that breaks", "hubspot.api", &["HubSpot at http"], |world| {
        world.hubspot.script_times(100, "", "", ScriptedResponse::DropBefore);
    }),
    fails(
        "a wrong static token",
        "hubspot.token",
        &["rejected the access token", "--static"],
        |world| {
            world.vault.put("hubspot/default", json!({"access_token": "pat-na1-wrong"}));
        },
    ),
    fails(
        "a token that was revoked",
        "hubspot.token",
        &["rejected the access token", "leadsd login --static --portal default --replace"],
        |world| {
            world.hubspot.revoke_tokens();
        },
    ),
    fails(
        "Cloudflare's response to a malformed token",
        "hubspot.token",
        &["status 530", "copy the token again as one piece", "status page"],
        |world| {
            world.hubspot.script("GET", "/details", ScriptedResponse::html(530));
        },
    ),
    fails("a token that has expired", "hubspot.token", &["has expired"], |world| {
        world.hubspot.script("GET", "/details", ScriptedResponse::Reject(ApiError::Expired));
    }),
    fails("a grant that was revoked", "hubspot.token", &["BAD_REFRESH_TOKEN", "login"], |world| {
        let (id, secret, _) = world.oauth();
        let keys = json!({"client_id": id, "client_secret": secret.expose(),
                          "refresh_token": "revoked"});
        world.vault.put("hubspot/default", keys);
    }),
    fails("another app's secret", "hubspot.token", &["BAD_CLIENT_ID", "--new-app"], |world| {
        let (id, _, token) = world.oauth();
        let keys = json!({"client_id": id, "client_secret": "hush-another",
                          "refresh_token": token.expose()});
        world.vault.put("hubspot/default", keys);
    }),
    fails("a token endpoint that is down", "hubspot.token", &["status 502"], |world| {
        world.oauth();
        world.hubspot.script("POST", "/token", ScriptedResponse::html(502));
    }),
    warns("an old static token", "hubspot.token", &["184 days ago", "rotate it"], |world| {
        world.vault.age("hubspot/default", Duration::from_secs(184 * 24 * 3_600));
    }),
    warns("a credential of another account", "hubspot.account", &["account 1", "7"], |world| {
        let keys = json!({"access_token": world.token.expose(), "hub_id": "7"});
        world.vault.put("hubspot/default", keys);
    }),
    warns(
        "another time zone",
        "hubspot.account",
        &["US/Eastern", "set portals.default.time_zone to \"US/Eastern\""],
        |world| {
            world.time_zone = "Europe/Berlin";
        },
    ),
    fails("no scope to read", "hubspot.scopes", &["crm.objects.leads.read"], |world| {
        let token = world.hubspot.static_token(&["crm.objects.contacts.read"]);
        world.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    }),
    warns("no scope to write", "hubspot.scopes", &["crm.objects.leads.write"], |world| {
        let token = world.hubspot.static_token(&[READ]);
        world.vault.put("hubspot/default", json!({"access_token": token.expose()}));
    }),
    fails("an account without leads", "hubspot.leads", &["Sales Hub Professional"], |world| {
        // The first request has no token.
        world.hubspot.script("GET", "/leads", ScriptedResponse::Reject(ApiError::Unauthenticated));
        world.hubspot.script("GET", "/leads", ScriptedResponse::Reject(ApiError::Forbidden));
    }),
    fails("a day that is used up", "hubspot.token", &["daily limit", "midnight"], |world| {
        world.hubspot.limit(|limits| limits.daily = 0);
    }),
    fails("a window that is used up", "hubspot.leads", &["ten_secondly", "ten seconds"], |world| {
        world.oauth();
        world.hubspot.use_up(189);
    }),
    warns("no pipeline", "hubspot.pipelines", &["no pipeline", "Settings"], |world| {
        let none = r#"{"results": []}"#.to_owned();
        world.hubspot.script("GET", "/pipelines/2026-09/leads", json_answer(none));
    }),
    fails("properties that fail", "hubspot.properties", &["status 500"], |world| {
        world.hubspot.script("GET", "/properties/2026-09/leads", ScriptedResponse::empty(500));
    }),
    warns("association types that fail", "hubspot.schema", &["status 500"], |world| {
        world.hubspot.script("GET", "/contacts/labels", ScriptedResponse::empty(500));
    }),
    warns("owners that fail", "hubspot.schema", &["status 502"], |world| {
        world.hubspot.script("GET", "/owners/2026-09", ScriptedResponse::html(502));
    }),
    fails("no request id property", "hubspot.request_id_property", &["no property"], |world| {
        world.portal_keys = "request_id_property = \"leadsd_request_id\"".into();
    }),
    fails("one that is not unique", "hubspot.request_id_property", &["unique values"], |world| {
        world.hubspot.add_text_property("request_key");
        world.portal_keys = "request_id_property = \"request_key\"".into();
    }),
    fails("one that is a number", "hubspot.request_id_property", &["type number"], |world| {
        world.portal_keys = "request_id_property = \"hs_lead_pipeline_value\"".into();
    }),
    warns("a day that is nearly used up", "hubspot.quota", &["of 1000", "midnight"], |world| {
        world.hubspot.limit(|limits| (limits.burst, limits.daily) = (5_000, 1_000));
        world.hubspot.use_up(920);
    }),
    warns("a window that is nearly used up", "hubspot.quota", &["of 190"], |world| {
        world.hubspot.use_up(180);
    }),
];

fn json_answer(body: String) -> ScriptedResponse {
    ScriptedResponse::Reply(200, "application/json", body)
}

#[test]
fn check_names_are_unique_and_at_least_25() {
    let mut names: Vec<_> = VAULT.iter().chain(HUBSPOT).map(|p| (p.check, p.name)).collect();
    assert!(names.len() >= 25);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), VAULT.len() + HUBSPOT.len());
}

pub(super) async fn each_is_named(table: &[Planted]) {
    let mut missed = Vec::new();
    for planted in table {
        let mut world = World::new().await;
        (planted.plant)(&mut world);
        missed.extend(missed_in(&world.diagnose().await, planted));
    }
    assert!(
        missed.is_empty(),
        "{} are not named as they should:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

/// Difference between the report and the expectation.
fn missed_in(said: &super::Said, planted: &Planted) -> Option<String> {
    let Planted { name, check, result, says, .. } = planted;
    let Some(first) = said.checks().iter().find(|found| found["result"] != "ok") else {
        return Some(format!("{name}: all is ok"));
    };
    let text = format!("{} {}", first["cause"], first["fix"]).replace("\\\"", "\"");
    let named = (first["check"].as_str(), first["result"].as_str()) == (Some(check), Some(result));
    let told = says.iter().all(|part| text.contains(part));
    (!named || !told).then(|| format!("{name}: wants {check} {result} {says:?}, has {first}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_file_that_cannot_be_read_is_named() {
    let world = World::new().await;
    let folder = world.folder.path();
    let missing = folder.join("missing.toml");
    let malformed = world.file("malformed.toml", "[vault");
    for (file, cause) in [
        (missing.as_path(), "does not exist"),
        (folder, "is a directory"),
        (malformed.as_path(), "not valid TOML at line 1"),
    ] {
        let mut command = std::process::Command::new(crate::harness::LEADSD);
        command.args(["doctor", "--json", "--config"]).arg(file).env_clear();
        let output = command.output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let config = &report["checks"][0];
        assert_eq!((&config["check"], &config["result"]), (&json!("config"), &json!("fail")));
        let text = config["cause"].as_str().unwrap();
        assert!(text.contains(cause) && text.contains(file.to_str().unwrap()), "{text}");
        let fix = config["fix"].as_str().unwrap();
        let expected: &[&str] = match file == malformed {
            true => &["correct the file"],
            false => &["--config", "LEADSD_"],
        };
        assert!(expected.iter().all(|part| fix.contains(part)), "{fix}");
        assert_eq!(output.status.code(), Some(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_vault_and_the_secret_fail_the_right_check() {
    each_is_named(VAULT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_hubspot_and_the_credential_fail_the_right_check() {
    each_is_named(HUBSPOT).await;
}

/// A clock with this offset in seconds.
#[derive(Debug)]
struct Ahead(i64);

impl WallClock for Ahead {
    fn now(&self) -> Timestamp {
        let second = SystemClock.now().as_second() + self.0;
        Timestamp::from_second(second).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_offset_is_reported_with_its_direction() {
    for (ahead, result, says) in [(60, "warn", "behind"), (-3_600, "fail", "ahead of")] {
        let world = World::with_clock(Arc::new(Ahead(ahead))).await;
        let said = world.diagnose().await;
        let found = said.check_result("hubspot.clock");
        assert_eq!(found["result"], result, "{found}");
        assert!(found["cause"].as_str().unwrap().contains(says), "{found}");
        // The text output has the same content.
        assert_eq!(said.check_result("hubspot.leads")["result"], "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unresponsive_peer_does_not_block_doctor() {
    let world = World::new().await;
    world.hubspot.script_times(100, "", "", ScriptedResponse::Delayed(Duration::from_secs(600)));
    let mut slow = world;
    slow.hubspot_keys = "request_timeout = \"300ms\"".to_owned();
    let said =
        tokio::time::timeout(crate::harness::PATIENCE, slow.diagnose()).await.expect("it ends");
    assert_eq!(said.check_result("hubspot.api")["result"], "fail");
}
