//! OAuth endpoints: token grants, introspection and revocation.

use leadsd_base::secret::SECRET_MARKER;
use std::collections::HashMap;

use axum::{body::Bytes, http::StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;
use uuid::Uuid;

use super::{AccessToken, App, FakeAccount, errors::Failure, http::FakeResponse};

/// Form fields of a request.
type Form = HashMap<String, String>;

// === impl FakeAccount ===

impl FakeAccount {
    pub(super) fn oauth(
        &mut self,
        method: &str,
        path: &str,
        bytes: &Bytes,
    ) -> Result<FakeResponse, Failure> {
        let form: Form = form_urlencoded::parse(bytes).into_owned().collect();
        let segments: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
        let current = |version: &str| ["v3", "2026-03", "2026-09"].contains(&version);
        match (method, segments.as_slice()) {
            ("POST", [version, "token"]) if *version == "v1" || current(version) => {
                self.grant(&form, version)
            }
            ("POST", [version, "token", "introspect"]) if current(version) => {
                self.client(&form)?;
                Ok((StatusCode::OK, self.introspect(field(&form, "token"))))
            }
            ("POST", [version, "token", "revoke"]) if current(version) => {
                self.client(&form)?;
                self.revoke(field(&form, "token"), self.behaviour.revoke_ends_access_tokens);
                Ok((StatusCode::OK, json!({})))
            }
            ("GET", ["v1", "access-tokens" | "refresh-tokens", token]) => {
                let known = self.introspect(token);
                if known["active"] == false {
                    return Err(Failure::not_found(true));
                }
                Ok((StatusCode::OK, known))
            }
            ("DELETE", ["v1", "refresh-tokens", token]) => {
                // Documented: its access tokens stay valid.
                self.revoke(token, false);
                Ok((StatusCode::NO_CONTENT, Value::Null))
            }
            ("POST", ["v2", "private-apps", "get", "access-token-info"]) => {
                let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
                let token = body["tokenKey"].as_str().unwrap_or_default();
                let known = self.tokens.get(token).filter(|token| !token.oauth);
                let known = known.ok_or_else(Failure::unauthenticated)?;
                let info =
                    json!({"userId": 1, "hubId": known.hub, "appId": 1, "scopes": known.scopes});
                Ok((StatusCode::OK, info))
            }
            _ => Err(Failure::not_found(true)),
        }
    }

    /// Index of the app that the form authenticates.
    fn client(&self, form: &Form) -> Result<usize, Failure> {
        let refused = |text| Failure::oauth("BAD_CLIENT_ID", "invalid_client", text);
        let index = self.apps.iter().position(|app| app.client_id == field(form, "client_id"));
        let index = index.ok_or_else(|| refused("unknown client"))?;
        if self.apps[index].client_secret != field(form, "client_secret") {
            return Err(refused("wrong client secret"));
        }
        Ok(index)
    }

    fn grant(&mut self, form: &Form, version: &str) -> Result<FakeResponse, Failure> {
        let app = self.client(form)?;
        let client_credentials =
            version != "2026-09" || self.behaviour.client_credentials_in_2026_09;
        match field(form, "grant_type") {
            "refresh_token" => {
                if self.apps[app].refresh_token != field(form, "refresh_token") {
                    let text = "missing or invalid refresh token";
                    return Err(Failure::oauth("BAD_REFRESH_TOKEN", "invalid_grant", text));
                }
                if self.behaviour.rotate_refresh_tokens {
                    self.apps[app].refresh_token = format!("{SECRET_MARKER}-{}", Uuid::new_v4());
                }
                let mut body = self.issue(app, "access_token");
                if !self.behaviour.omit_refresh_token {
                    body["refresh_token"] = json!(self.apps[app].refresh_token);
                }
                Ok((StatusCode::OK, body))
            }
            "authorization_code" => {
                self.install(app, field(form, "code"), field(form, "redirect_uri"))?;
                let mut body = self.issue(app, "access_token");
                body["refresh_token"] = json!(self.apps[app].refresh_token);
                Ok((StatusCode::OK, body))
            }
            "client_credentials" if client_credentials => {
                Ok((StatusCode::OK, self.issue(app, "client_credentials")))
            }
            _ => {
                let text = "the grant type is not supported";
                Err(Failure::oauth("BAD_GRANT_TYPE", "unsupported_grant_type", text))
            }
        }
    }

    fn issue(&mut self, app: usize, token_use: &str) -> Value {
        let access = format!("oauth-{SECRET_MARKER}-{}", Uuid::new_v4());
        let life = self.behaviour.token_life;
        let App { scopes, hub, .. } = &self.apps[app];
        let (scopes, hub) = (scopes.clone(), *hub);
        let body = json!({
            "access_token": access, "expires_in": life.as_secs(), "token_type": "bearer",
            "token_use": token_use, "hub_id": hub, "user_id": 1, "scopes": scopes,
        });
        let client_id = Some(self.apps[app].client_id.clone());
        let expires = Some(Instant::now() + life);
        self.tokens.insert(access, AccessToken { scopes, expires, oauth: true, client_id, hub });
        self.grants += 1;
        body
    }

    /// Introspection response; an unknown token is inactive.
    fn introspect(&self, token: &str) -> Value {
        let base = |client_id: &str, token_use: &str, hub: u64, scopes: &[String]| {
            json!({"active": true, "token": token, "token_type": "bearer", "token_use": token_use,
                   "client_id": client_id, "app_id": 1, "hub_id": hub, "user_id": 1,
                   "hub_domain": format!("account-{hub}.example.com"), "scopes": scopes})
        };
        if let Some(app) = self.apps.iter().find(|app| app.refresh_token == token) {
            return base(&app.client_id, "refresh_token", app.hub, &app.scopes);
        }
        let known = self.tokens.get(token).filter(|known| known.oauth);
        let left = known.and_then(|known| known.expires?.checked_duration_since(Instant::now()));
        match (known, left) {
            (Some(known), Some(left)) if !left.is_zero() => {
                let client_id = known.client_id.as_deref().unwrap_or_default();
                let mut body = base(client_id, "access_token", known.hub, &known.scopes);
                body["expires_in"] = json!(left.as_secs());
                body["is_private_distribution"] = json!(true);
                body
            }
            _ => json!({ "active": false }),
        }
    }

    fn revoke(&mut self, token: &str, ends_access_tokens: bool) {
        self.tokens.remove(token);
        let Some(app) = self.apps.iter_mut().find(|app| app.refresh_token == token) else { return };
        // The new refresh token is not returned, so the app must be installed again.
        app.refresh_token = format!("{SECRET_MARKER}-{}", Uuid::new_v4());
        let client_id = Some(app.client_id.clone());
        if ends_access_tokens {
            self.tokens.retain(|_, token| token.client_id != client_id);
        }
    }
}

fn field<'a>(form: &'a Form, name: &str) -> &'a str {
    form.get(name).map(String::as_str).unwrap_or_default()
}
