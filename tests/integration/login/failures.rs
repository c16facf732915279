//! Failures of the login: each message has cause and remedy.

use leadsd_hubspot_fake::{READ, ScriptedResponse};
use serde_json::json;

use super::{Setting, clicked, shown};

#[tokio::test(flavor = "multi_thread")]
async fn denied_consent_stores_nothing() {
    let setting = Setting::new().await;
    let (running, url) = setting.asking(&[]).await;
    let (status, page) = shown(&clicked(&url, "cancel").await).await;
    assert_eq!(status, 200);
    assert!(page.contains("Access was not granted"), "{page}");
    running.ended().await.failed_with(1, &["access was denied", "Remedy: "]);
    assert_eq!(setting.stored(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_of_another_login_is_rejected() {
    let setting = Setting::new().await;
    let (running, url) = setting.asking(&[]).await;
    let right = clicked(&url, "connect").await;
    let mut foreign = url::Url::parse(&right).unwrap();
    foreign.set_query(Some("code=abc&state=of-another-login"));
    let (status, page) = shown(foreign.as_str()).await;
    assert_eq!(status, 400);
    assert!(page.contains("Redirect of another login"), "{page}");
    foreign.set_path("/favicon.ico");
    assert_eq!(shown(foreign.as_str()).await.0, 400);
    let grants = setting.hubspot.grants();
    assert_eq!(shown(&right).await.0, 200);
    let ended = running.ended().await;
    ended.succeeded();
    assert!(ended.err.contains("a redirect of another login"), "{ended:?}");
    assert_eq!(setting.hubspot.grants(), grants + 1, "no other code was traded");
}

#[tokio::test(flavor = "multi_thread")]
async fn consent_errors_and_invalid_codes_are_distinguished() {
    let setting = Setting::new().await;
    // HubSpot redirects with an error.
    let (running, url) = setting.asking(&[]).await;
    let mut back = url::Url::parse(&clicked(&url, "cancel").await).unwrap();
    let query = back.query().unwrap().replace("access_denied", "invalid_scope");
    back.set_query(Some(&query));
    assert_eq!(shown(back.as_str()).await.0, 400);
    running.ended().await.failed_with(1, &["HubSpot returned an error", "invalid_scope"]);
    // The redirect has no parameters.
    let (running, url) = setting.asking(&[]).await;
    let mut back = url::Url::parse(&clicked(&url, "connect").await).unwrap();
    let state = back.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    back.set_query(Some(&format!("state={state}")));
    shown(back.as_str()).await;
    running.ended().await.failed_with(1, &["the redirect contains no code"]);
    // The code has expired.
    setting.hubspot.behave(|behaviour| behaviour.code_lifetime = std::time::Duration::ZERO);
    let (running, url) = setting.asking(&[]).await;
    let (status, page) = shown(&clicked(&url, "connect").await).await;
    assert_eq!(status, 400);
    assert!(page.contains("used before or expired"), "{page}");
    running.ended().await.failed_with(1, &["BAD_AUTH_CODE", "used before or expired"]);
    // HubSpot reports it, or uses a status that leadsd does not know.
    for (status, expected) in [
        ("EXPIRED_AUTH_CODE", &["the code has expired", "run leadsd login again"]),
        ("BAD_CLIENT_SECRET", &["client secret", "Auth page"]),
        ("APP_NOT_LISTED", &["APP_NOT_LISTED", "Auth page"]),
        // Another data centre serves the account.
        ("error", &["portals.default.base_url", "https://api-eu1.hubapi.com"]),
    ] {
        let code = if status == "error" { 488 } else { 400 };
        let body = format!(r#"{{"status":"{status}","message":"no","correctHublet":"eu1"}}"#);
        let rejection = ScriptedResponse::Reply(code, "application/json", body);
        setting.hubspot.script("POST", "/token", rejection);
        let (running, url) = setting.asking(&[]).await;
        shown(&clicked(&url, "connect").await).await;
        running.ended().await.failed_with(1, expected);
    }
    // The client secret is another app's.
    let (id, _) = setting.hubspot.register_app(&[]);
    let (_, other) = setting.hubspot.register_app(&[]);
    let (running, url) = setting.asking_as(&id, &other, &[]).await;
    shown(&clicked(&url, "connect").await).await;
    running.ended().await.failed_with(1, &["client secret", "BAD_CLIENT_ID", "Auth page"]);
    assert_eq!(setting.stored(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn used_or_foreign_code_is_rejected() {
    let setting = Setting::new().await;
    let (mine, other) = ("https://a.example.com/back", "https://b.example.com/back");
    let (id, secret) = setting.hubspot.register_app(&[mine, other]);
    let consent = format!(
        "http://{}/oauth/authorize?client_id={id}&redirect_uri={other}&scope={READ}",
        setting.hubspot.address()
    );
    let code = async || {
        let back = url::Url::parse(&clicked(&consent, "connect").await).unwrap();
        back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
    };
    let paste = async |redirect: &str, code: &str| {
        let arguments = ["--no-browser", "--new-app", "--redirect-url", redirect];
        setting.start(&arguments, &[&id, secret.expose(), code]).ended().await
    };
    let first = code().await;
    let fault = paste(mine, &first).await;
    fault.failed_with(1, &["BAD_REDIRECT_URI", mine, "register exactly this URL"]);
    paste(other, &first).await.succeeded();
    paste(other, &first).await.failed_with(1, &["BAD_AUTH_CODE"]);
    let foreign = format!("{mine}?code=abc&state=of-another-login");
    paste(mine, &foreign).await.failed_with(1, &["belongs to another login"]);
    let hint = paste(mine, "").await;
    hint.failed_with(1, &["empty"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn occupied_port_is_reported_with_remedies() {
    let setting = Setting::new().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let running = setting.start(&["--redirect-port", &port], &["id", "secret"]);
    running.ended().await.failed_with(1, &[&port, "--redirect-port", "--no-browser"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_vault_fails_before_the_browser_opens() {
    let setting = Setting::new().await;
    setting.as_approle(&[("secret/data/hubspot/", &["read"])]);
    let path = "secret/data/hubspot/default";
    let refused = ["does not allow", path, "capabilities = [\"read\", \"create\", \"update\"]"];
    setting.start(&[], &["id", "secret"]).ended().await.failed_with(1, &refused);
    setting.as_approle(&[("secret/metadata/", &["read"])]);
    setting.start(&[], &["id", "secret"]).ended().await.failed_with(1, &["does not allow", path]);
    assert!(setting.hubspot.log().is_empty(), "HubSpot was not asked");
    setting.as_approle(&[("secret/data/hubspot/", &["read", "create", "update"])]);
    let token = setting.hubspot.static_token(&[READ]);
    setting.start(&["--static"], &[token.expose()]).ended().await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_unreachable_and_denying_vault_are_distinguished() {
    let setting = Setting::new().await;
    setting.vault.set_sealed(true);
    setting.start(&["--static"], &["x"]).ended().await.failed_with(1, &["sealed"]);
    setting.vault.set_sealed(false);
    setting.file("vault-token", "hvs.unknown");
    let refused = setting.start(&["--static"], &["x"]).ended().await;
    refused.failed_with(1, &["rejected the login", "create a new one"]);
    setting.configure("http://127.0.0.1:1", "method = \"token\"\nfile = \"/nonexistent\"");
    setting.start(&["--static"], &["x"]).ended().await.failed_with(1, &["/nonexistent"]);
    let token = setting.folder.path().join("vault-token");
    let auth = format!("method = \"token\"\nfile = \"{}\"", token.display());
    setting.configure("http://127.0.0.1:1", &auth);
    let away = setting.start(&["--static"], &["x"]).ended().await;
    away.failed_with(1, &["the connection is refused", "vault.address"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_static_token_is_not_stored() {
    let setting = Setting::new().await;
    let wrong = setting.start(&["--static"], &["pat-na1-unknown"]).ended().await;
    wrong.failed_with(1, &["rejected the access token", "--static"]);
    let broken = setting.start(&["--static"], &["pat na1"]).ended().await;
    broken.failed_with(1, &["contains whitespace"]);
    setting.start(&["--static"], &[""]).ended().await.failed_with(1, &["empty"]);
    assert_eq!(setting.stored(), None);
    setting.hubspot.script("GET", "/details", ScriptedResponse::html(502));
    let token = setting.hubspot.static_token(&[READ]);
    let down = setting.start(&["--static"], &[token.expose()]).ended().await;
    down.failed_with(1, &["status 502"]);
    // A token without a scope is still stored, with a warning.
    let token = setting.hubspot.static_token(&[]);
    let ended = setting.start(&["--static"], &[token.expose()]).ended().await;
    ended.succeeded();
    assert!(ended.err.contains("it cannot read leads") && ended.err.contains(READ), "{ended:?}");
    assert!(ended.out.contains(&format!("Missing   {READ}")), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unidentifiable_credential_is_not_overwritten() {
    let setting = Setting::new().await;
    let token = setting.hubspot.static_token(&[READ]);
    let dead = json!({"access_token": "pat-dead"});
    setting.vault.put("hubspot/default", dead.clone());
    let ended = setting.start(&["--static"], &[token.expose()]).ended().await;
    ended.failed_with(1, &["account cannot be compared", "--replace"]);
    assert_eq!(setting.stored(), Some((dead, 1)));
    // The remedy that doctor gives.
    setting.start(&["--static", "--replace"], &[token.expose()]).ended().await.succeeded();
    let stored = setting.stored().unwrap();
    assert_eq!(stored, (json!({"access_token": token.expose(), "hub_id": "1"}), 2));
    // Metadata that login stored.
    let dead = json!({"access_token": "pat-dead", "hub_id": "1"});
    setting.vault.put("hubspot/default", dead);
    setting.start(&["--static"], &[token.expose()]).ended().await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_change_is_not_overwritten() {
    let setting = Setting::new().await;
    let (running, url) = setting.asking(&[]).await;
    let theirs = json!({"access_token": "pat-theirs"});
    setting.vault.put("hubspot/default", theirs.clone());
    let (status, page) = shown(&clicked(&url, "connect").await).await;
    assert_eq!(status, 400, "{page}");
    running.ended().await.failed_with(1, &["was changed concurrently"]);
    assert_eq!(setting.stored(), Some((theirs, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn unverified_write_is_reported() {
    let setting = Setting::new().await;
    setting.vault.set_stale(true);
    let token = setting.hubspot.static_token(&[READ]);
    let ended = setting.start(&["--static"], &[token.expose()]).ended().await;
    ended.failed_with(
        1,
        &["secret/data/hubspot/default does not contain the secret", "login again"],
    );
    assert!(!ended.out.contains("Stored"), "{ended:?}");
    setting.vault.set_stale(false);
    setting.start(&["--static"], &[token.expose()]).ended().await.succeeded();
}

#[tokio::test(flavor = "multi_thread")]
async fn login_without_a_redirect_times_out() {
    let setting = Setting::new().await;
    let (running, _) = setting.asking(&["--wait", "200ms"]).await;
    running
        .ended()
        .await
        .failed_with(1, &["no redirect from HubSpot", "redirect URL http://localhost:"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_login_options_exit_with_64() {
    let setting = Setting::new().await;
    let unknown = setting.start(&["--portal", "eu"], &[]).ended().await;
    unknown.failed_with(64, &["portal eu is not configured", "[portals.eu]", "default"]);
    let wait = setting.start(&["--wait", "soon"], &[]).ended().await;
    wait.failed_with(64, &["must be a whole number above 0 with a unit"]);
    setting.start(&["--redirect-url", "https://x"], &[]).ended().await.failed_with(64, &[]);
    let output = setting.command(&["--help"]).output().unwrap();
    assert!(output.status.success());
}
