//! Terminal input: secrets are not echoed.

use std::io::Write as _;

use leadsd_base::secret::SECRET_MARKER;
use leadsd_hubspot_fake::READ;
use leadsd_testkit::send_signal;

use super::{Setting, clicked};
use crate::pseudo_terminal::AtTerminal;

#[tokio::test(flavor = "multi_thread")]
async fn typed_token_is_not_echoed_and_echo_is_restored() {
    let setting = Setting::new().await;
    let token = setting.hubspot.static_token(&[READ]);
    let mut login = AtTerminal::start(setting.command(&["--static"]));
    login.sees("Enter the access token (not shown): ");
    assert!(!login.shows());
    writeln!(login.keys, "{}", token.expose()).unwrap();
    login.sees("Stored    secret/data/hubspot/default, version 1");
    assert!(login.child.wait().unwrap().success(), "{}", login.seen);
    assert!(!login.seen.contains(SECRET_MARKER), "the token was shown: {}", login.seen);
    assert!(login.shows());
    writeln!(login.keys, "seen again").unwrap();
    login.sees("seen again");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_prompt_restores_echo() {
    let setting = Setting::new().await;
    for signal in ["INT", "TERM", "HUP"] {
        let mut login = AtTerminal::start(setting.command(&["--static"]));
        login.sees("Enter the access token (not shown): ");
        send_signal(&login.child, signal);
        assert_eq!(login.child.wait().unwrap().code(), Some(1), "{signal} {}", login.seen);
        login.sees("interrupted; nothing was stored");
        assert!(login.shows(), "{signal}");
    }
    assert_eq!(setting.stored(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn client_secret_and_code_are_not_echoed() {
    let setting = Setting::new().await;
    let redirect = "https://app.example.com/oauth/callback";
    let (id, secret) = setting.hubspot.register_app(&[redirect]);
    let mut login =
        AtTerminal::start(setting.command(&["--no-browser", "--redirect-url", redirect]));
    login.sees("Enter the client id of the app: ");
    assert!(login.shows());
    writeln!(login.keys, "{id}").unwrap();
    login.sees("Enter the client secret of the app (not shown): ");
    assert!(!login.shows() && login.seen.contains(&id), "{}", login.seen);
    writeln!(login.keys, "{}", secret.expose()).unwrap();
    login.sees("Enter the URL that the browser was redirected to, or its code (not shown): ");
    assert!(!login.shows());
    let url = login.seen.lines().find(|line| line.starts_with("  http")).unwrap();
    let back = clicked(url.trim(), "connect").await;
    writeln!(login.keys, "{back}").unwrap();
    login.sees("Stored    secret/data/hubspot/default, version 1");
    assert!(login.child.wait().unwrap().success(), "{}", login.seen);
    let seen = &login.seen;
    assert!(!seen.contains(SECRET_MARKER) && !seen.contains(&back), "a secret was shown: {seen}");
}
