//! Tokens: grants, lifetime, scopes, and account information.

use std::time::Duration;

use leadsd_hubspot_fake::READ;
use reqwest::Method;
use serde_json::{Value, json};

use super::Hub;

/// Requests a token with a refresh token.
async fn refresh(hub: &Hub, path: &str, id: &str, secret: &str, token: &str) -> super::FakeReply {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", id),
        ("client_secret", secret),
        ("refresh_token", token),
    ];
    hub.form(path, &form).await
}

#[tokio::test]
async fn token_endpoint_issues_expiring_tokens() {
    let hub = Hub::start().await;
    hub.fake.behave(|behaviour| behaviour.token_life = Duration::from_secs(60));
    let (id, secret, token) = hub.fake.oauth_app();
    for version in ["v1", "v3", "2026-03", "2026-09"] {
        let path = format!("/oauth/{version}/token");
        let response = refresh(&hub, &path, &id, secret.expose(), token.expose()).await;
        assert_eq!(response.status, 200);
        assert_eq!(response.body["expires_in"], 60);
        assert_eq!(response.body["token_type"], "bearer");
        assert_eq!(response.body["refresh_token"], token.expose());
        let access = response.body["access_token"].as_str().unwrap().to_owned();
        let list = || hub.ask_as(&access, Method::GET, hub.base, &Value::Null);
        assert_eq!(list().await.status, 200);
        hub.fake.advance(Duration::from_secs(61));
        let response = list().await;
        response.is_error(401, "EXPIRED_AUTHENTICATION");
        assert!(response.body["context"]["expire time"].is_array());
    }
    let response = hub.ask_as("nonsense", Method::GET, hub.base, &Value::Null).await;
    response.is_error(401, "INVALID_AUTHENTICATION");
}

#[tokio::test]
async fn token_endpoint_errors_name_the_cause() {
    let hub = Hub::start().await;
    let (id, secret, token) = hub.fake.oauth_app();
    let (secret, token) = (secret.expose(), token.expose());
    for (id, secret, token, status, error) in [
        ("unknown", secret, token, "BAD_CLIENT_ID", "invalid_client"),
        (id.as_str(), "wrong", token, "BAD_CLIENT_ID", "invalid_client"),
        (id.as_str(), secret, "wrong", "BAD_REFRESH_TOKEN", "invalid_grant"),
    ] {
        let response = refresh(&hub, "/oauth/2026-09/token", id, secret, token).await;
        assert_eq!(response.status, 400);
        assert_eq!(
            (&response.body["status"], &response.body["error"]),
            (&json!(status), &json!(error))
        );
        assert!(response.body["correlationId"].is_string());
    }
}

#[tokio::test]
async fn refresh_tokens_rotate_if_configured_and_can_be_revoked() {
    for (rotate, ends) in [(true, true), (false, false)] {
        let hub = Hub::start().await;
        hub.fake.behave(|behaviour| {
            behaviour.rotate_refresh_tokens = rotate;
            behaviour.revoke_ends_access_tokens = ends;
        });
        let (id, secret, token) = hub.fake.oauth_app();
        let (secret, token) = (secret.expose(), token.expose());
        let path = "/oauth/2026-09/token";
        let first = refresh(&hub, path, &id, secret, token).await;
        assert_eq!(first.body["refresh_token"] != token, rotate);
        let again = refresh(&hub, path, &id, secret, token).await;
        assert_eq!(again.status, if rotate { 400 } else { 200 }, "the old one is forgotten");
        let now = first.body["refresh_token"].as_str().unwrap();
        let access = first.body["access_token"].as_str().unwrap();
        let known = [("client_id", id.as_str()), ("client_secret", secret), ("token", now)];
        assert_eq!(hub.form(&format!("{path}/revoke"), &known).await.status, 200);
        assert_eq!(refresh(&hub, path, &id, secret, now).await.status, 400);
        let response = hub.ask_as(access, Method::GET, hub.base, &Value::Null).await;
        assert_eq!(response.status, if ends { 401 } else { 200 });
    }
}

#[tokio::test]
async fn tokens_can_be_introspected() {
    let hub = Hub::start().await;
    let (id, secret, token) = hub.fake.oauth_app();
    let secret = secret.expose();
    let path = "/oauth/2026-09/token";
    let response = refresh(&hub, path, &id, secret, token.expose()).await;
    let access = response.body["access_token"].as_str().unwrap();
    for (token, kind) in [(access, "access_token"), (token.expose(), "refresh_token")] {
        let form = [("client_id", id.as_str()), ("client_secret", secret), ("token", token)];
        let response = hub.form(&format!("{path}/introspect"), &form).await;
        assert_eq!((response.status, response.body["active"].as_bool()), (200, Some(true)));
        assert_eq!(
            (&response.body["token_use"], &response.body["hub_id"]),
            (&json!(kind), &json!(1))
        );
    }
    let form = [("client_id", id.as_str()), ("client_secret", secret), ("token", "nonsense")];
    let response = hub.form(&format!("{path}/introspect"), &form).await;
    assert_eq!(response.body["active"], false);
    let info = "/oauth/v2/private-apps/get/access-token-info";
    let response = hub.send(Method::POST, info, &json!({"tokenKey": hub.token})).await;
    assert_eq!((response.status, &response.body["hubId"]), (200, &json!(1)));
}

#[tokio::test]
async fn client_credentials_grant_depends_on_the_switch() {
    for taken in [true, false] {
        let hub = Hub::start().await;
        hub.fake.behave(|behaviour| behaviour.client_credentials_in_2026_09 = taken);
        let (id, secret, _) = hub.fake.oauth_app();
        for (version, works) in [("v3", true), ("2026-03", true), ("2026-09", taken)] {
            let form = [
                ("grant_type", "client_credentials"),
                ("client_id", id.as_str()),
                ("client_secret", secret.expose()),
            ];
            let response = hub.form(&format!("/oauth/{version}/token"), &form).await;
            assert_eq!(response.status, if works { 200 } else { 400 }, "{version}");
            assert!(response.body.get("refresh_token").is_none());
        }
    }
}

#[tokio::test]
async fn missing_scopes_are_reported_in_both_shapes() {
    let hub = Hub::start().await;
    let token = hub.fake.static_token(&[READ]).expose().to_owned();
    let response = hub.ask_as(&token, Method::GET, hub.base, &Value::Null).await;
    assert_eq!(response.status, 200);
    let search = format!("{}/search", hub.base);
    assert_eq!(hub.ask_as(&token, Method::POST, &search, &json!({})).await.status, 200);
    let lead = hub.lead(json!({"hs_lead_name": "Jane"}));
    let wanted = json!(["crm.objects.leads.write"]);
    for on_top in [true, false] {
        hub.fake.behave(|behaviour| behaviour.scopes_on_top = on_top);
        let response = hub.ask_as(&token, Method::POST, hub.base, &lead).await;
        response.is_error(403, "MISSING_SCOPES");
        let context = if on_top { &response.body } else { &response.body["errors"][0] };
        assert_eq!(context["context"]["requiredGranularScopes"], wanted);
    }
}

#[tokio::test]
async fn account_information_has_portal_id_and_usage() {
    let hub = Hub::start().await;
    hub.fake.limit(|limits| limits.utc_offset_minutes = -300);
    for path in ["/account-info/2026-09/details", "/account-info/v3/details", "/integrations/v1/me"]
    {
        let response = hub.send(Method::GET, path, &Value::Null).await;
        assert_eq!((response.status, &response.body["portalId"]), (200, &json!(1)), "{path}");
        assert_eq!(response.body["utcOffset"], "-05:00");
    }
    let usage = "/account-info/2026-09/api-usage/daily/private-apps";
    let response = hub.send(Method::GET, usage, &Value::Null).await;
    let usage = &response.body["results"][0];
    assert_eq!((&usage["currentUsage"], &usage["usageLimit"]), (&json!(4), &json!(625_000)));
    assert!(usage["resetsAt"].as_str().unwrap().ends_with("T05:00:00.000Z"), "{usage}");
}
