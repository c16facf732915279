//! Layers, origins and faults.

use std::io::Write as _;

use proptest::prelude::*;

use super::{
    check::{parse_duration, parse_size},
    *,
};

const GOOD: &str = r#"
[vault]
address = "https://vault.example:8200"
[vault.auth]
method = "token_file"
file = "/vault/token"
[portals.default]
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Faults> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let pairs = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Loaded::new(Some(file.path()), pairs)
}

fn faults(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let faults = load(text, environment).unwrap_err().0;
    faults.into_iter().map(|fault| format!("{}: {}", fault.key, fault.what)).collect()
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
fn the_environment_wins_over_the_file_and_kubernetes_names_are_left_alone() {
    let environment = [
        ("LEADSD_GRPC__LISTEN", "0.0.0.0:1"),
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
fn every_fault_is_named_at_once_with_its_origin() {
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
"#;
    let found = faults(text, &[("LEADSD_LOG__FORMAT", "xml")]);
    let wanted = [
        "grpc.lisen: is not a key; known here are: listen, max_request_size, max_batch_inputs, max_deadline, max_batch_deadline, shutdown_grace, error_catalogue",
        "grpc.max_batch_inputs: must be usize, is string \"many\"",
        "grpc.listen: must be an address such as 127.0.0.1:50051",
        "grpc.max_deadline: must be a whole number with a unit: ms, s, m or h",
        "vault.client_cert_file: needs client_key_file, and the other way round",
        "vault.address: must be an http or https URL without credentials, query or fragment",
        "vault.auth.file: does not go with method approle",
        "vault.auth.role_id_file: is required for method approle",
        "hubspot.api_version: must be 2026-09, 2026-03 or v3",
        "portals.a b: must have a name of 1 to 64 letters, digits, `_` or `-`",
        "portals.x.secret: `..` is no path segment",
        "log.format: must be json or pretty",
    ];
    for fault in wanted {
        assert!(found.iter().any(|found| found == fault), "missing {fault:?} in {found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    let all = load(text, &[("LEADSD_LOG__FORMAT", "xml")]).unwrap_err();
    let text = all.to_string();
    assert!(text.contains("(from environment variable LEADSD_LOG__FORMAT)"));
    assert!(!text.contains("secret@"), "a password in a URL is not repeated");
}

#[test]
fn what_is_required_is_asked_for() {
    let found = faults("", &[]);
    assert_eq!(
        found,
        [
            "vault.address: is required",
            "vault.auth.method: is required: kubernetes, approle, jwt, token, token_file, userpass, cert",
            "portals: needs at least one table such as [portals.default], or [portals_from]",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_a_fault() {
    assert_eq!(load("[grpc", &[]).unwrap_err().0.len(), 1);
    let missing =
        Loaded::new(Some(std::path::Path::new("/nonexistent/leadsd.toml")), []).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/leadsd.toml"));
}

#[test]
fn the_default_file_documents_every_key() {
    let loaded = load(GOOD, &[]).unwrap();
    let raw = toml::Value::try_from(&loaded.raw).unwrap();
    for (section, keys) in raw.as_table().unwrap() {
        assert!(load::DEFAULTS.contains(&format!("[{section}")), "{section}");
        for key in keys.as_table().unwrap().keys() {
            let documented =
                [format!("\n{key} = "), format!("\n# {key} = "), format!("[{section}.{key}]")];
            assert!(documented.iter().any(|text| load::DEFAULTS.contains(text)), "{section}.{key}");
        }
    }
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
