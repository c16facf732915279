//! Routes, exceptions and credentials.

use super::*;
use crate::secret::Secret;

fn egress(no_proxy: &str) -> Egress {
    let proxy = |url: &str, origin: &str| Some(Proxy::new(url.parse().unwrap(), origin));
    Egress::new(Settings {
        https: proxy("http://proxy.example:3128", "HTTPS_PROXY"),
        http: proxy("http://other.example", "http_proxy"),
        no_proxy: vec![NoProxy::parse(no_proxy, "NO_PROXY")],
        ..Settings::default()
    })
}

fn route(no_proxy: &str, url: &str) -> String {
    egress(no_proxy).route(&url.parse().unwrap()).to_string()
}

#[test]
fn exceptions_match_names_addresses_blocks_and_ports() {
    let cases = [
        // Names match with their subdomains, whatever the case, dots and marks.
        ("example.com", "https://example.com", true),
        ("example.com", "https://api.example.com", true),
        ("example.com", "https://API.Example.COM.", true),
        ("EXAMPLE.com.", "https://api.example.com", true),
        (".example.com", "https://api.example.com", true),
        (".example.com", "https://example.com", true),
        ("*.example.com", "https://api.example.com", true),
        ("example.com", "https://notexample.com", false),
        ("example.com", "https://example.com.evil.test", false),
        ("api.example.com", "https://example.com", false),
        ("com", "https://example.com", true),
        ("vault", "https://vault:8200", true),
        ("bücher.example", "https://xn--bcher-kva.example", true),
        // Ports.
        ("example.com:8443", "https://example.com:8443", true),
        ("example.com:8443", "https://example.com", false),
        ("example.com:443", "https://api.example.com", true),
        ("example.com:80", "http://example.com", true),
        ("*:443", "https://example.com", true),
        ("*:443", "https://example.com:8443", false),
        // Addresses.
        ("192.0.2.7", "https://192.0.2.7", true),
        ("192.0.2.7", "https://192.0.2.70", false),
        ("192.0.2.7:8200", "https://192.0.2.7:8200", true),
        ("192.0.2.7:8200", "https://192.0.2.7:8201", false),
        ("2001:db8::7", "https://[2001:db8::7]:8200", true),
        ("[2001:db8::7]", "https://[2001:DB8:0::7]", true),
        ("[2001:db8::7]:8200", "https://[2001:db8::7]:8200", true),
        ("[2001:db8::7]:8200", "https://[2001:db8::7]", false),
        ("192.0.2.7", "https://[::ffff:192.0.2.7]", true),
        ("::ffff:192.0.2.7", "https://192.0.2.7", true),
        ("192.0.2.7", "https://192.0.2.7.example.com", false),
        // Blocks.
        ("10.0.0.0/8", "https://10.255.0.1", true),
        ("10.0.0.0/8", "https://11.0.0.1", false),
        ("10.1.2.3/8", "https://10.255.0.1", true),
        ("0.0.0.0/0", "https://192.0.2.7", true),
        ("0.0.0.0/0", "https://example.com", false),
        ("fd00::/8", "https://[fd12::1]", true),
        ("fd00::/8", "https://[fe12::1]", false),
        // Lists, and everything.
        ("*", "https://example.com", true),
        (" a.test ,, .b.test\tc.test ", "https://x.c.test", true),
        (" a.test ,, .b.test\tc.test ", "https://d.test", false),
        ("10.0.0.0/33, <local>, x:99999, b.test", "https://b.test", true),
        ("", "https://example.com", false),
    ];
    for (list, url, is_direct) in cases {
        let found = route(list, url);
        let expected = if is_direct { "direct (NO_PROXY)" } else { "proxy " };
        assert!(found.starts_with(expected), "{list:?} and {url}: {found}");
    }
}

#[test]
fn entries_that_are_no_hosts_are_invalid() {
    for entry in ["", ":443", "a b", "10.0.0.0/33", "x:99999", "http://x", "a*.test", "[::1", "x:"]
    {
        assert!(NoProxy::check(entry).is_err(), "{entry:?}");
    }
    for entry in ["*", "*:443", "x", ".x", "x:1", "::1", "[::1]:1", "10.0.0.0/8", "fd00::/8"] {
        assert!(NoProxy::check(entry).is_ok(), "{entry:?}");
    }
}

#[test]
fn the_scheme_chooses_the_proxy_and_plain_loopback_is_direct() {
    assert_eq!(route("", "https://api.example"), "proxy proxy.example:3128 (HTTPS_PROXY)");
    assert_eq!(route("", "http://api.example"), "proxy other.example:80 (http_proxy)");
    assert_eq!(route("", "https://127.0.0.1:1"), "proxy proxy.example:3128 (HTTPS_PROXY)");
    for host in
        ["127.0.0.1", "127.8.8.8:8200", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.localhost"]
    {
        assert_eq!(route("", &format!("http://{host}/x")), "direct (loopback)", "{host}");
    }
    assert_eq!(route("", "http://localhost.example"), "proxy other.example:80 (http_proxy)");
    let none = Egress::default();
    assert_eq!(none.route(&"https://api.example".parse().unwrap()).to_string(), "direct");
}

#[test]
fn credentials_are_encoded_for_the_url_and_never_shown() {
    let secret = |text: &str| Secret::new(text);
    let (name, password) = ("team/ä%41", "hush:@/?#[]%2F \"\\é");
    let credentials = ProxyCredentials::new(secret(name), secret(password)).unwrap();
    let egress = egress("");
    assert!(egress.set_credentials(credentials.clone()));
    assert!(!egress.set_credentials(credentials.clone()), "they are the same");
    let target = "https://api.example".parse().unwrap();
    let url = egress.proxy_url(&target).unwrap();
    let decoded =
        |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    assert_eq!(decoded(url.username()), name);
    assert_eq!(decoded(url.password().unwrap()), password);
    assert_eq!(url.host_str(), Some("proxy.example"));
    assert!(credentials.header().is_sensitive());
    let anonymous = egress.anonymous();
    assert_eq!(anonymous.proxy_url(&target).unwrap().username(), "");
    let shown = format!("{egress:?} {credentials:?} {:?}", credentials.header());
    assert!(!shown.contains("hush") && !shown.contains("team"), "{shown}");
}

#[test]
fn credentials_that_basic_authentication_cannot_send_are_rejected_without_their_text() {
    let secret = |text: &str| Secret::new(text);
    for (name, password) in [("", "p"), ("hush:a", "p"), ("hush\n", "p"), ("u", "hush\r\nx: y")] {
        let error = ProxyCredentials::new(secret(name), secret(password)).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    assert!(ProxyCredentials::new(secret("u"), secret("")).is_ok());
}

#[tokio::test(start_paused = true)]
async fn connections_wait_for_the_first_credentials_only_where_they_are_sent() {
    let proxy = Proxy::new("http://proxy.example:3128".parse().unwrap(), "egress.proxy");
    let egress = Egress::new(Settings {
        https: Some(proxy),
        no_proxy: vec![NoProxy::parse("internal", "egress.no_proxy")],
        has_credentials: true,
        ..Settings::default()
    });
    let awaits = |egress: &Egress, url: &str| egress.awaits_credentials(&url.parse().unwrap());
    assert!(awaits(&egress, "https://api.example"));
    assert!(!awaits(&egress, "https://vault.internal"));
    assert!(!awaits(&egress.anonymous(), "https://api.example"));
    let wait = Duration::from_secs(4);
    assert_eq!(egress.await_credentials(wait).await, Err(CredentialsMissing));
    assert_eq!(egress.anonymous().await_credentials(wait).await, Ok(()));
    let credentials = ProxyCredentials::new(Secret::new("u"), Secret::new("p")).unwrap();
    let (waited, _) =
        tokio::join!(egress.await_credentials(wait), async { egress.set_credentials(credentials) });
    assert_eq!(waited, Ok(()));
}
