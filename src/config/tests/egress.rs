//! `[egress]` and the variables of the environment.

use super::{GOOD, errors, load};
use crate::config::Loaded;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn loaded(egress: &str, variables: Variables<'_>) -> Loaded {
    load(&format!("{GOOD}[egress]\n{egress}"), variables).unwrap()
}

fn route(egress: &str, variables: Variables<'_>, url: &str) -> String {
    loaded(egress, variables).config.egress.policy.route(&url.parse().unwrap()).to_string()
}

#[test]
fn the_key_wins_then_the_lower_case_variable_then_the_upper_case_one_then_all_proxy() {
    let key = "proxy = \"http://key:1\"";
    let upper = ("HTTPS_PROXY", "http://upper:2");
    let lower = ("https_proxy", "http://lower:3");
    let all = ("ALL_PROXY", "all:4");
    let lower_all = ("all_proxy", "http://lower-all/");
    let cases: &[(&str, Variables<'_>, &str)] = &[
        ("", &[], "direct"),
        (key, &[lower, upper, all], "proxy key:1 (egress.proxy)"),
        ("", &[upper, lower, all], "proxy lower:3 (https_proxy)"),
        ("", &[upper, all], "proxy upper:2 (HTTPS_PROXY)"),
        ("", &[all], "proxy all:4 (ALL_PROXY)"),
        ("", &[all, lower_all], "proxy lower-all:80 (all_proxy)"),
        ("", &[("HTTP_PROXY", "http://plain:5")], "direct"),
        // An empty value means that there is no proxy.
        ("", &[("https_proxy", ""), upper, all], "direct"),
        ("", &[("HTTPS_PROXY", " "), all], "direct"),
        // Variables are ignored on request, and exceptions of the environment with the key.
        ("from_environment = false", &[lower, upper, all], "direct"),
        (key, &[("NO_PROXY", "*")], "proxy key:1 (egress.proxy)"),
        ("proxy = \"http://key:1\"\nno_proxy = [\".example\"]", &[], "direct (egress.no_proxy)"),
        ("", &[upper, ("NO_PROXY", "a.test,.example")], "direct (NO_PROXY)"),
        ("", &[upper, ("NO_PROXY", "*"), ("no_proxy", "")], "proxy upper:2 (HTTPS_PROXY)"),
        ("no_proxy = [\"api.example:443\"]", &[upper], "direct (egress.no_proxy)"),
        ("from_environment = false\nproxy = \"https://key\"", &[], "proxy key:443 (egress.proxy)"),
    ];
    for (egress, variables, expected) in cases {
        assert_eq!(
            route(egress, variables, "https://api.example"),
            *expected,
            "{egress} {variables:?}"
        );
    }
}

#[test]
fn http_proxy_is_for_plain_http_and_ignored_in_a_cgi_program() {
    let upper = ("HTTP_PROXY", "http://upper:1");
    let lower = ("http_proxy", "http://lower:2");
    let cgi = ("REQUEST_METHOD", "GET");
    let url = "http://vault.example:8200";
    assert_eq!(route("", &[upper], url), "proxy upper:1 (HTTP_PROXY)");
    assert_eq!(route("", &[upper, cgi], url), "direct");
    assert_eq!(route("", &[upper, lower, cgi], url), "proxy lower:2 (http_proxy)");
    assert_eq!(route("", &[upper, ("ALL_PROXY", "all:3"), cgi], url), "proxy all:3 (ALL_PROXY)");
    assert_eq!(route("", &[("HTTPS_PROXY", "http://x:1")], url), "direct");
    assert_eq!(route("", &[upper], "http://127.0.0.1:8200"), "direct (loopback)");
}

#[test]
fn invalid_proxies_are_errors_that_name_the_key_or_variable_and_quote_nothing() {
    let wanted = "must be an http or https URL of a proxy, such as http://proxy.example:3128";
    let credentials = "must not contain credentials: store username and password in Vault, and set \
                       egress.credentials_secret";
    let socks = "must be an HTTP proxy: SOCKS is not supported; set egress.proxy to an HTTP proxy, or \
                 egress.from_environment to false";
    for (value, what) in [
        ("ftp://proxy", wanted),
        ("http://", wanted),
        ("http://proxy/path", wanted),
        ("http://proxy?hush", wanted),
        ("http://a b", wanted),
        ("http://user:hush@proxy:3128", credentials),
        ("user:hush@proxy:3128", credentials),
        ("http://hush@proxy", credentials),
        ("socks5://proxy:1080", socks),
        ("socks5h://user:hush@proxy:1080", credentials),
    ] {
        let key = format!("{GOOD}[egress]\nproxy = \"{value}\"");
        assert_eq!(errors(&key, &[]), [format!("egress.proxy: {what}")], "{value}");
        for name in ["HTTPS_PROXY", "https_proxy"] {
            let found = load(GOOD, &[(name, value)]).unwrap_err().0;
            let said: Vec<_> = found.iter().map(ToString::to_string).collect();
            assert_eq!(said, [format!("{name}: {what} (from environment variable {name})")]);
        }
        // What is not used is not judged.
        let other = format!("{GOOD}[egress]\nproxy = \"http://proxy:1\"");
        load(&other, &[("HTTPS_PROXY", value)]).unwrap();
        load(&format!("{GOOD}[egress]\nfrom_environment = false"), &[("ALL_PROXY", value)])
            .unwrap();
        let both = [("HTTPS_PROXY", "p:1"), ("HTTP_PROXY", "p:1"), ("ALL_PROXY", value)];
        load(GOOD, &both).unwrap();
    }
    let list = format!("{GOOD}[egress]\nno_proxy = [\"ok\", \"10.0.0.0/33\"]");
    assert!(errors(&list, &[])[0].starts_with("egress.no_proxy: must be a list of"), "{list}");
}

#[test]
fn credentials_need_a_proxy_and_a_valid_path() {
    let secret = "credentials_secret = \"leadsd/egress-proxy\"";
    let alone = format!("{GOOD}[egress]\n{secret}");
    let what = "egress.credentials_secret: needs a proxy: set egress.proxy or HTTPS_PROXY";
    assert_eq!(errors(&alone, &[]), [what]);
    let config = load(&alone, &[("https_proxy", "p:1")]).unwrap().config;
    assert!(config.egress.policy.settings().has_credentials);
    assert_eq!(config.egress.credentials_secret.unwrap().to_string(), "leadsd/egress-proxy");
    let bad = format!("{GOOD}[egress]\nproxy = \"http://p\"\ncredentials_secret = \"../x\"");
    assert!(errors(&bad, &[])[0].starts_with("egress.credentials_secret: "));
}

#[test]
fn ca_files_are_checked_at_start_and_errors_name_their_key() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let (empty, missing) = (empty.display().to_string(), folder.path().join("missing"));
    let (missing, directory) = (missing.display().to_string(), folder.path().display().to_string());
    let text = GOOD.replace("[vault]\n", &format!("[vault]\nca_file = \"{missing}\"\n"));
    let text = format!("{text}[egress]\nca_files = [\"{empty}\"]\n[trace]\nca_file = \"{empty}\"");
    let variables = [("SSL_CERT_FILE", &*missing), ("SSL_CERT_DIR", &*directory)];
    let loaded = load(&text, &variables).unwrap();
    let found = loaded.check_files().unwrap_err();
    let said: Vec<_> =
        found.0.iter().map(|error| format!("{}: {}", error.key, error.what)).collect();
    let none = "contains no certificates";
    assert_eq!(
        said,
        [
            format!("egress.ca_files: {empty} {none}"),
            format!("SSL_CERT_FILE: {missing} cannot be read: the file does not exist"),
            format!("SSL_CERT_DIR: {directory} {none}"),
            format!("vault.ca_file: {missing} cannot be read: the file does not exist"),
            format!("trace.ca_file: {empty} {none}"),
        ]
    );
    let ignored = format!("{GOOD}[egress]\nfrom_environment = false");
    load(&ignored, &variables).unwrap().check_files().unwrap();
    load(GOOD, &[("SSL_CERT_FILE", ""), ("SSL_CERT_DIR", ":")]).unwrap().check_files().unwrap();
}
