//! Layers, origins and errors of the configuration.

mod documented;
mod egress;
mod renamed;

use std::{io::Write as _, time::Duration};

use proptest::prelude::*;

use super::{
    units::{parse_duration, parse_size},
    *,
};

use crate::leads::PortalName;

const GOOD: &str = r#"
[vault]
address = "https://vault.example:8200"
[vault.auth]
method = "token_file"
file = "/vault/token"
[portals.default]
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Loaded::new(Some(file.path()), pairs)
}

fn errors(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let errors = load(text, environment).unwrap_err().0;
    errors.into_iter().map(|error| format!("{}: {}", error.key, error.what)).collect()
}

#[test]
fn variables_with_escapes_and_other_letters_are_read_to_their_end() {
    let name = |value: &str| {
        let loaded = load(GOOD, &[("LEADSD_TRACE__SERVICE_NAME", value)]);
        loaded.unwrap().config.trace.service_name
    };
    assert_eq!(name(r#""caf\u{e9} \"Zoë\"""#.replace(r"\u{e9}", "é").as_str()), r#"café "Zoë""#);
    assert_eq!(name(r#""b€\\€*""#), r"b€\€*");
    // Without quotes there are no escapes.
    assert_eq!(name(r"é\n"), r"é\n");
    assert_eq!(name("\"é\\q\""), "\"é\\q\"");
    let key = "LEADSD_AUTH__JWT__ISSUER";
    for value in ["[".repeat(100_000), "{a=".repeat(100_000), "[".repeat(64)] {
        assert!(load(GOOD, &[(key, &value)]).is_err());
    }
    let list = r#"["é\t", "b*"]"#;
    let callers = [
        ("LEADSD_POLICY__A__CALLERS", list),
        ("LEADSD_POLICY__A__PORTALS", r#"["*"]"#),
        ("LEADSD_POLICY__A__ACCESS", "read"),
    ];
    let said = errors(GOOD, &callers).join("\n");
    assert!(said.contains("policy.a.callers"), "{said}");
}

#[test]
fn no_error_quotes_a_value() {
    for line in [
        "[grpc]\nlisten = pat-hunter2",
        "[grpc]\nlisten = \"pat-hunter2",
        "[grpc]\nmax_batch_inputs = \"pat-hunter2\"",
        "[grpc]\nlisten = \"pat-hunter2\"",
        "[grpc]\nmax_deadline = \"pat-hunter2\"",
        "[vault.auth]\nsecret_id_wrapped = \"pat-hunter2\"",
        "[quota.shared]\nurl = \"redis://:hunter2@[\"",
        "[quota.shared]\nurl = \"redis://:hunter2@redis:6379\"",
        "[hubspot]\nbase_url = \"https://u:hunter2@x\"",
        "[portals.x]\nbase_url = \"https://u:hunter2@x\"",
        "[grpc]\naccess_token = \"hunter2\"",
        "grpc = \"hunter2\"",
        "log = [\"hunter2\"]",
    ] {
        let error = load(line, &[]).expect_err(line).to_string();
        assert!(!error.contains("hunter2"), "{line}: {error}");
    }
    for (name, value) in [
        ("LEADSD_GRPC__MAX_BATCH_INPUTS", "hunter2"),
        ("LEADSD_GRPC__INSECURE", "hunter2"),
        ("LEADSD_GRPC__LISTEN", "\"hunter2"),
        ("LEADSD_GRPC__LISTEN", "{a = hunter2"),
    ] {
        let error = load(GOOD, &[(name, value)]).expect_err(name).to_string();
        assert!(error.contains(name) && !error.contains("hunter2"), "{name}: {error}");
    }
}

#[test]
fn a_short_file_is_enough() {
    let config = load(GOOD, &[]).unwrap().config;
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.grpc.max_request_bytes, 4 << 20);
    assert_eq!(config.hubspot.api_version, ApiVersion::V2026_09);
    let portal = &config.portals[&PortalName::parse("default").unwrap()];
    assert_eq!(portal.secret.as_str(), "hubspot/default");
}

#[test]
fn a_portal_has_the_base_url_of_the_others_unless_it_has_its_own() {
    let eu = ("LEADSD_PORTALS__eu__BASE_URL", "https://api-eu1.hubapi.com");
    let loaded = load(GOOD, &[eu]).unwrap();
    let url = |portal: &str| {
        loaded.config.hubspot_for(&PortalName::parse(portal).unwrap()).base_url.to_string()
    };
    assert_eq!(url("eu"), "https://api-eu1.hubapi.com/");
    assert_eq!(url("default"), "https://api.hubapi.com/");
    assert_eq!(url("discovered"), "https://api.hubapi.com/");
    let print = loaded.print();
    assert!(print.contains("base_url = \"https://api-eu1.hubapi.com\"  # environment"), "{print}");
}

#[test]
fn the_environment_overrides_the_file_and_kubernetes_variables_are_ignored() {
    let environment = [
        ("LEADSD_GRPC__LISTEN", "0.0.0.0:1"),
        ("LEADSD_GRPC__INSECURE", "true"),
        ("LEADSD_GRPC__MAX_BATCH_INPUTS", "7"),
        ("LEADSD_PORTALS__EU__SECRET", "hubspot/eu-1"),
        ("LEADSD_SERVICE_HOST", "10.0.0.1"),
        ("LEADSD_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("HOME", "/"),
    ];
    let loaded = load(GOOD, &environment).unwrap();
    assert_eq!(loaded.config.grpc.listen.to_string(), "0.0.0.0:1");
    assert_eq!(loaded.config.grpc.max_batch_inputs, 7);
    assert_eq!(loaded.config.portals.len(), 2);
    let print = loaded.print();
    assert!(
        print
            .contains("max_batch_inputs = 7  # environment variable LEADSD_GRPC__MAX_BATCH_INPUTS")
    );
    assert!(print.contains("poll_interval = \"30s\"  # default"), "{print}");
}

#[test]
fn all_errors_are_reported_with_their_origins() {
    let text = r#"
[grpc]
listen = "nonsense"
max_batch_inputs = "many"
max_deadline = "10"
lisen = "127.0.0.1:1"
[vault]
address = "ftp://user:secret@x"
client_cert_file = "/x"
[vault.auth]
method = "approle"
file = "/x"
[hubspot]
api_version = "v4"
[portals."a b"]
[portals.x]
secret = "../y"
base_url = "eu1"
"#;
    let found = errors(text, &[("LEADSD_LOG__FORMAT", "xml")]);
    let wanted = [
        "grpc.lisen: is not a known key; did you mean listen?; known keys: listen, max_request_size, max_batch_inputs, max_deadline, max_batch_deadline, max_connections, max_streams_per_connection, max_in_flight, max_request_memory, max_header_size, max_connection_age, max_connection_age_grace, keepalive_interval, keepalive_timeout, drain_delay, shutdown_grace, error_docs_url, insecure, memory_limit, max_caller_share, max_connections_per_address, max_connection_idle, max_response_size, tls",
        "grpc.max_batch_inputs: must be an integer of at least 0, is a string",
        "grpc.listen: must be HOST:PORT, such as 127.0.0.1:50051 or localhost:50051",
        "grpc.max_deadline: must be a whole number with a unit: ms, s, m or h",
        "vault.client_cert_file: and client_key_file must be set together",
        "vault.address: must be an http or https URL without credentials, query or fragment",
        "vault.auth.file: is not a key of method approle",
        "vault.auth.role_id_file: is required for method approle",
        "hubspot.api_version: must be 2026-09, 2026-03 or v3",
        "portals.a b: must have a name of 1 to 64 letters, digits, `_` or `-`",
        "portals.x.secret: `..` is not a path segment",
        "portals.x.base_url: must be an http or https URL without credentials, query or fragment",
        "log.format: must be json or pretty",
    ];
    for error in wanted {
        assert!(found.iter().any(|found| found == error), "missing {error:?} in {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    let all = load(text, &[("LEADSD_LOG__FORMAT", "xml")]).unwrap_err();
    let text = all.to_string();
    assert!(text.contains("(from environment variable LEADSD_LOG__FORMAT)"));
    let nothing = load("", &[]).unwrap_err().to_string();
    assert!(nothing.starts_with("vault.address: is required\n"), "{nothing}");
    assert!(!text.contains("secret@"), "a password in a URL is not repeated");
}

#[test]
fn bounds_that_contradict_each_other_are_errors() {
    let text = r#"
[grpc]
max_deadline = "2m"
max_batch_deadline = "10m"
max_connection_age_grace = "1m"
[hubspot]
breaker_min_wait = "3s"
breaker_max_wait = "2s"
"#;
    let found = errors(text, &[]);
    for error in [
        "grpc.max_connection_age_grace: 60s is less than grpc.max_deadline (120s)",
        "grpc.max_connection_age_grace: 60s is less than grpc.max_batch_deadline (600s)",
        "hubspot.breaker_max_wait: is less than hubspot.breaker_min_wait",
    ] {
        assert!(found.iter().any(|found| found == error), "missing {error:?} in {found:#?}");
    }
}

#[test]
fn urls_and_paths_of_an_api_are_errors() {
    for (key, value, expected) in [
        ("VAULT__ADDRESS", "https://vault.example/v1", "must not end in /v1, which leadsd adds"),
        ("VAULT__ADDRESS", "https://vault.example/V1/", "must not end in /v1, which leadsd adds"),
        (
            "VAULT__ADDRESS",
            "https://vault.example/v1/sys/health",
            "must be the base URL, without /v1 and what follows it, which leadsd adds",
        ),
        (
            "VAULT__ADDRESS",
            "https://vault.example/ui/vault/secrets",
            "must be the base URL, without /ui, which is the web interface",
        ),
        ("VAULT__MOUNT", "/secret", "must not begin or end with `/`, or contain `//`"),
        ("VAULT__AUTH__MOUNT", "approle/", "must not begin or end with `/`, or contain `//`"),
        ("VAULT__AUTH__MOUNT", "auth/approle", "must not begin with auth/, which leadsd adds"),
        (
            "HUBSPOT__BASE_URL",
            "https://api.hubapi.com/crm/v3",
            "must be the base URL, without /crm and what follows it, which leadsd adds",
        ),
        (
            "PORTALS__DEFAULT__BASE_URL",
            "https://api-eu1.hubapi.com/crm/objects/2026-09/leads",
            "must be the base URL, without /crm and what follows it, which leadsd adds",
        ),
        ("ADMIN__LISTEN", "127.0.0.1:50051", "must have another port than grpc.listen"),
        ("ADMIN__LISTEN", "localhost:50051", "must have another port than grpc.listen"),
    ] {
        let method = "\n[vault.auth]\nmethod = \"approle\"\nrole_id_file = \"/r\"\n";
        let text =
            GOOD.replace("[vault.auth]\nmethod = \"token_file\"\nfile = \"/vault/token\"", method);
        let variable = format!("LEADSD_{key}");
        let found = errors(&text, &[(variable.as_str(), value)]);
        let key = key.to_lowercase().replace("__", ".");
        assert_eq!(found, [format!("{key}: {expected}")], "{value}");
    }
    for (variable, value) in [
        ("LEADSD_VAULT__ADDRESS", "https://proxy.example/vault"),
        ("LEADSD_VAULT__ADDRESS", "https://vault.example/"),
        ("LEADSD_HUBSPOT__BASE_URL", "https://proxy.example/hubspot"),
        ("LEADSD_ADMIN__LISTEN", "127.0.0.1:0"),
    ] {
        assert!(load(GOOD, &[(variable, value)]).is_ok(), "{value}");
    }
}

#[test]
fn a_variable_with_one_underscore_after_the_section_is_an_error() {
    for (name, key, right) in [
        ("LEADSD_LOG_LEVEL", "log.level", "LEADSD_LOG__LEVEL"),
        ("LEADSD_GRPC_MAX_IN_FLIGHT", "grpc.max_in_flight", "LEADSD_GRPC__MAX_IN_FLIGHT"),
        ("LEADSD_VAULT_POLL_INTERVAL", "vault.poll_interval", "LEADSD_VAULT__POLL_INTERVAL"),
    ] {
        let error = load(GOOD, &[(name, "1")]).unwrap_err().to_string();
        let expected = format!(
            "{key}: has two underscores in its variable: {right} (from environment variable {name})"
        );
        assert_eq!(error, expected);
    }
    // As Kubernetes sets them for Services named leadsd and leadsd-grpc.
    let services = [
        ("LEADSD_PORT", "tcp://10.0.0.1:50051"),
        ("LEADSD_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("LEADSD_SERVICE_HOST", "10.0.0.1"),
        ("LEADSD_SERVICE_PORT_GRPC", "50051"),
        ("LEADSD_GRPC_PORT", "tcp://10.0.0.1:50051"),
        ("LEADSD_GRPC_SERVICE_HOST", "10.0.0.1"),
        ("LEADSD_ADMIN_PORT_9090_TCP", "tcp://10.0.0.1:9090"),
    ];
    assert!(load(GOOD, &services).is_ok());
}

#[test]
fn missing_required_keys_are_errors() {
    let found = errors("", &[]);
    assert_eq!(
        found,
        [
            "vault.address: is required",
            "vault.auth.method: is required: kubernetes, approle, jwt, token, token_file, userpass, cert",
            "portals: needs at least one table such as [portals.default], or [portal_discovery]",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml_is_an_error() {
    assert_eq!(load("[grpc", &[]).unwrap_err().0.len(), 1);
    let missing =
        Loaded::new(Some(std::path::Path::new("/nonexistent/leadsd.toml")), []).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/leadsd.toml"));
}

/// Configuration with all methods of authentication.
const IDENTIFIED: &str = r#"
[grpc]
listen = "0.0.0.0:50051"
[grpc.tls]
cert_file = "/tls/tls.crt"
key_file = "/tls/tls.key"
client_ca_file = "/tls/ca.crt"
[auth.jwt]
issuer = "https://issuer.example"
audience = "leadsd"
jwks_url = "https://issuer.example/jwks"
token_file = "/token"
[auth.api_keys]
secret = "leadsd/api-keys"
[policy.billing]
callers = ["spiffe://cluster.local/ns/shop/sa/billing", "billing"]
portals = ["default"]
access = "write"
export = true
import = true
create_contacts = true
weight = 3
[policy.everyone]
callers = ["*"]
portals = ["*"]
access = "none"
quota = true
"#;

#[test]
fn authentication_and_policies_are_parsed() {
    let config = load(&format!("{GOOD}{IDENTIFIED}"), &[]).unwrap().config;
    let tls = config.grpc.tls.unwrap();
    assert_eq!(tls.client_ca, Some(ClientCa { file: "/tls/ca.crt".into(), required: true }));
    let jwt = config.auth.jwt.unwrap();
    assert_eq!((jwt.audience.as_str(), jwt.caller_claim.as_str()), ("leadsd", "sub"));
    let Jwks::Url { refresh_interval, token_file, ca_file, .. } = jwt.jwks else {
        panic!("{:?}", jwt.jwks)
    };
    assert_eq!((refresh_interval, ca_file), (Duration::from_secs(300), None));
    assert_eq!(token_file, Some("/token".into()));
    assert_eq!(config.auth.api_keys.unwrap().secret.as_str(), "leadsd/api-keys");
    let billing = &config.policy["billing"];
    assert_eq!(billing.callers[1], CallerPattern::Exact("billing".to_owned()));
    assert_eq!((billing.access, billing.quota, billing.weight), (Access::Write, false, 3));
    assert!(billing.export && billing.import && billing.create_contacts);
    assert_eq!(billing.portals, Some(vec![PortalName::parse("default").unwrap()]));
    let everyone = &config.policy["everyone"];
    assert_eq!(everyone.callers, [CallerPattern::Prefix(String::new())]);
    assert_eq!((everyone.access, everyone.quota, everyone.weight), (Access::None, true, 1));
    assert!(!everyone.export && !everyone.import && !everyone.create_contacts);
    assert_eq!(everyone.portals, None);
}

#[test]
fn unauthenticated_calls_are_allowed_on_loopback_or_explicitly() {
    let jwt = "[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_file = \"/jwks\"\n\
               [policy.p]\ncallers = [\"*\"]\nportals = [\"*\"]\naccess = \"read\"\n";
    let tls = "[grpc.tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\n";
    let mtls = "[grpc.tls]\ncert_file = \"/c\"\nkey_file = \"/k\"\nclient_ca_file = \"/ca\"\n\
                [policy.p]\ncallers = [\"*\"]\nportals = [\"*\"]\naccess = \"read\"\n";
    for (sections, missing) in [
        ("", Some("without TLS and without authentication;")),
        (jwt, Some("without TLS;")),
        (tls, Some("without authentication;")),
        (mtls, None),
        (&format!("{tls}{jwt}"), None),
    ] {
        for listen in
            ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1", "leads.internal:1"]
        {
            let text = format!("{GOOD}{sections}");
            let address = ("LEADSD_GRPC__LISTEN", listen);
            match missing {
                None => assert!(load(&text, &[address]).is_ok(), "{sections}"),
                Some(missing) => {
                    let found = errors(&text, &[address]);
                    assert_eq!(found.len(), 1, "{found:?}");
                    let error = format!("grpc.listen: would serve {listen} {missing}");
                    assert!(found[0].starts_with(&error), "{found:?}");
                    let purpose = ("LEADSD_GRPC__INSECURE", "true");
                    assert!(load(&text, &[address, purpose]).is_ok());
                }
            }
        }
        for listen in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "unix:/run/l.sock",
        ] {
            let text = format!("{GOOD}{sections}");
            assert!(load(&text, &[("LEADSD_GRPC__LISTEN", listen)]).is_ok(), "{sections}");
        }
    }
}

#[test]
fn only_the_grpc_port_may_be_a_unix_socket() {
    let admin = errors(GOOD, &[("LEADSD_ADMIN__LISTEN", "unix:/run/a.sock")]);
    assert!(admin[0].contains("only grpc.listen may be a Unix socket"), "{admin:?}");
    for odd in ["unix:", "unix:relative", &format!("unix:/{}", "x".repeat(100))] {
        let found = errors(GOOD, &[("LEADSD_GRPC__LISTEN", odd)]);
        assert!(found[0].contains("an absolute path of at most 100 bytes"), "{found:?}");
    }
}

#[test]
fn contradictory_authentication_and_policies_are_errors() {
    let policy = "[policy.p]\ncallers = [\"a\"]\nportals = [\"default\"]\naccess = \"read\"\n";
    let keys = "[auth.api_keys]\nsecret = \"leadsd/api-keys\"\n";
    let with = |text: &str| errors(&format!("{GOOD}{text}"), &[]);
    let only = |text: &str, error: &str| {
        let found = with(text);
        assert!(found.len() == 1 && found[0].starts_with(error), "{text}\n{found:#?}");
    };
    only(keys, "policy: needs at least one table");
    only(policy, "policy: needs authentication");
    let both = format!("{keys}{policy}");
    for (line, error) in [
        ("callers = [\"a b\"]\nportals = [\"*\"]\naccess = \"read\"", "policy.q.callers: must be"),
        ("callers = [\"*a\"]\nportals = [\"*\"]\naccess = \"read\"", "policy.q.callers: must be"),
        ("callers = [\"a**\"]\nportals = [\"*\"]\naccess = \"read\"", "policy.q.callers: must be"),
        ("callers = [\"\"]\nportals = [\"*\"]\naccess = \"read\"", "policy.q.callers: must be"),
        ("portals = [\"*\"]\naccess = \"read\"", "policy.q.callers: must name"),
        ("callers = [\"b\"]\naccess = \"read\"", "policy.q.portals: must name"),
        (
            "callers = [\"b\"]\nportals = [\"*\", \"default\"]\naccess = \"read\"",
            "policy.q.portals: must be",
        ),
        (
            "callers = [\"b\"]\nportals = [\"eu\"]\naccess = \"read\"",
            "policy.q.portals: names the portal `eu`",
        ),
        ("callers = [\"b\"]\nportals = [\"*\"]", "policy.q.access: must be"),
        ("callers = [\"b\"]\nportals = [\"*\"]\naccess = \"all\"", "policy.q.access: must be"),
        (
            "callers = [\"b\"]\nportals = [\"*\"]\naccess = \"read\"\nweight = 0",
            "policy.q.weight: must be",
        ),
        (
            "callers = [\"a\"]\nportals = [\"default\"]\naccess = \"write\"",
            "policy.q.callers: has the same caller and portal as [policy.p]",
        ),
        (
            "callers = [\"b\", \"b\"]\nportals = [\"*\"]\naccess = \"read\"",
            "policy.q.callers: has the same caller and portal as [policy.q]",
        ),
    ] {
        only(&format!("{both}[policy.q]\n{line}\n"), error);
    }
    // The same caller in another portal, or in all portals, is not ambiguous.
    let wider = "[policy.q]\ncallers = [\"a\", \"a*\"]\nportals = [\"*\"]\naccess = \"none\"\n";
    assert!(load(&format!("{GOOD}{both}{wider}"), &[]).is_ok());
    let found = with(
        "[grpc.tls]\nclient_auth = \"maybe\"\n[auth.jwt]\njwks_url = \"http://issuer.example/jwks\"\njwks_file = \"/x\"\n[auth.api_keys]\n",
    );
    for error in [
        "grpc.tls.cert_file: is required",
        "grpc.tls.key_file: is required",
        "grpc.tls.client_auth: needs client_ca_file",
        "grpc.tls.client_auth: must be require or optional",
        "auth.jwt.issuer: is required",
        "auth.jwt.audience: is required",
        "auth.jwt.jwks_url: is not allowed together with jwks_file",
        "auth.api_keys.secret: is required",
    ] {
        assert!(found.iter().any(|found| found.starts_with(error)), "{error}\n{found:#?}");
    }
    let jwt =
        |more: &str| format!("[auth.jwt]\nissuer = \"i\"\naudience = \"a\"\n{more}\n{policy}");
    only(&jwt("jwks_url = \"http://issuer.example/jwks\""), "auth.jwt.jwks_url: must be https");
    only(
        &jwt("jwks_file = \"/x\"\nrefresh_interval = \"1m\""),
        "auth.jwt.refresh_interval: is allowed only with jwks_url",
    );
    only(&jwt(""), "auth.jwt: needs jwks_file or jwks_url");
    assert!(load(&format!("{GOOD}{}", jwt("jwks_url = \"http://127.0.0.1:1/jwks\"")), &[]).is_ok());
}

#[test]
fn the_memory_limit_is_that_of_the_cgroup_or_a_lower_one() {
    let limit = |value: &str| {
        let text = format!("{GOOD}[grpc]\nmemory_limit = \"{value}\"\n");
        load(&text, &[]).map(|loaded| loaded.config.grpc.memory_limit)
    };
    let mib = |mib: u64| mib << 20;
    let [cgroup, size, off] = ["cgroup", "256MiB", "off"].map(|value| limit(value).unwrap());
    assert_eq!(load(GOOD, &[]).unwrap().config.grpc.memory_limit, cgroup);
    assert_eq!((cgroup.bytes(Some(mib(100))), cgroup.bytes(None)), (Some(mib(100)), None));
    assert_eq!(size.bytes(Some(mib(100))), Some(mib(100)));
    assert_eq!((size.bytes(Some(mib(300))), size.bytes(None)), (Some(mib(256)), Some(mib(256))));
    assert_eq!(off.bytes(Some(mib(100))), None);
    for invalid in ["1MiB", "512", "auto"] {
        let error = limit(invalid).unwrap_err().to_string();
        assert!(error.contains("grpc.memory_limit"), "{error}");
    }
    let grpc = load(GOOD, &[]).unwrap().config.grpc;
    let third = |limit: u64| grpc.request_memory(Some(mib(limit))) >> 20;
    assert_eq!((third(300), third(3_000), third(6)), (100, 256, 4));
    assert_eq!(grpc.request_memory(None), grpc.max_request_memory);
}

proptest! {
    #[test]
    fn garbage_never_panics(text in "(\\[?[a-z.]{0,8}\\]?|[a-z_]{1,8} = [a-z0-9\"\\[{]{0,6})(\n[a-z_]{1,6} = \"?[0-9a-z]{0,5}\"?){0,3}") {
        let _ = load(&text, &[]);
    }

    #[test]
    fn durations_and_sizes_never_overflow(text in "[0-9]{0,25}(ms|s|m|h|B|KiB|GiB|x)?") {
        let _ = (parse_duration(&text), parse_size(&text));
    }
}
