//! Logins and tokens.

use leadsd_base::{
    secret::{SECRET_MARKER, Secret},
    time::{SystemClock, Timestamp, WallClock as _},
};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{FakePolicy, FakeVault, VaultResponse, VaultState, errors, result};

/// A token with its permissions.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// `None` if it never expires.
    pub(super) expires: Option<Instant>,
    /// Maximum expiry; renewals do not extend beyond it.
    pub(super) last: Option<Instant>,
    /// Permissions; `None` permits everything.
    pub(super) policy: Option<FakePolicy>,
    /// True if the token may look up, renew and revoke itself.
    pub(super) has_default_policy: bool,
    pub(super) issued: Timestamp,
    /// Fields that replace those of the lookup.
    pub(super) details: Map<String, Value>,
}

/// Lifetimes of login tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenLifetimes {
    pub(super) ttl: Duration,
    pub(super) max: Duration,
}

// === impl Token ===

impl Token {
    /// Token without a policy, which permits everything.
    pub(super) fn new(expires: Option<Instant>) -> Self {
        Self {
            expires,
            last: None,
            policy: None,
            has_default_policy: true,
            issued: SystemClock.now(),
            details: Map::new(),
        }
    }

    /// Reports whether the token has a capability below the mount `secret`.
    pub(super) fn has_mount_access(&self) -> bool {
        let grants = |(prefix, may): &(String, Vec<String>)| {
            (prefix.starts_with("secret/") || "secret/".starts_with(prefix.as_str()))
                && may.iter().any(|may| may != "deny")
        };
        self.policy.as_ref().is_none_or(|policy| policy.iter().any(grants))
    }

    /// Capabilities at a path.
    fn capabilities(&self, path: &str) -> Vec<String> {
        let Some(policy) = &self.policy else { return vec!["root".to_owned()] };
        let fits = policy.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        let rule = fits.max_by_key(|(prefix, _)| prefix.len());
        rule.map_or_else(|| vec!["deny".to_owned()], |(_, may)| may.clone())
    }

    pub(super) fn may(&self, path: &str, what: &str) -> bool {
        self.capabilities(path).iter().any(|may| may == what || may == "root")
    }
}

// === impl FakeVault ===

impl FakeVault {
    /// Creates an AppRole; returns its role id and secret id.
    pub fn approle(&self) -> (Secret, Secret) {
        let role = Uuid::new_v4().to_string();
        let secret = format!("{SECRET_MARKER}-{}", Uuid::new_v4());
        self.vault.lock().roles.insert(role.clone(), secret.clone());
        (Secret::new(role), Secret::new(secret))
    }

    /// Creates a token with the policy of logins. `details` are fields of its lookup, such as `ttl`,
    /// `renewable`, `period` and `num_uses`; the number of uses is not enforced.
    pub fn create_token(&self, details: &Value) -> Secret {
        let mut vault = self.vault.lock();
        let ttl = details["ttl"].as_u64().map(Duration::from_secs);
        let token = Token {
            policy: vault.policy.clone(),
            has_default_policy: vault.has_default_policy,
            details: details.as_object().cloned().unwrap_or_default(),
            ..Token::new(ttl.map(|ttl| Instant::now() + ttl))
        };
        let text = format!("hvs.{SECRET_MARKER}-{}", Uuid::new_v4());
        vault.tokens.insert(text.clone(), token);
        Secret::new(text)
    }

    /// Sets whether later tokens have the policy `default`, which lets a token look up, renew and revoke
    /// itself and request its capabilities.
    pub fn set_default_policy(&self, has_default_policy: bool) {
        self.vault.lock().has_default_policy = has_default_policy;
    }

    /// Sets the expiry of all secret ids, as the lookup shows it (RFC 3339).
    pub fn set_secret_id_expiry(&self, expiry: &str) {
        expiry.clone_into(&mut self.vault.lock().secret_id_expiry);
    }
}

// === impl VaultState ===

impl VaultState {
    /// Handles a login; `None` if the path is not a login path.
    pub(super) fn login(&mut self, path: &str, body: &Value) -> Option<VaultResponse> {
        let text = |key: &str| body[key].as_str().unwrap_or_default();
        let known = match path.strip_prefix("auth/")?.split_once("/login")? {
            ("approle", "") => {
                self.roles.get(text("role_id")).is_some_and(|id| id == text("secret_id"))
            }
            ("userpass", user) => {
                let password = self.users.get(user.trim_start_matches('/'));
                password.is_some_and(|password| password == text("password"))
            }
            (mount, "") => {
                let wanted = (mount.to_owned(), text("role").to_owned(), text("jwt").to_owned());
                self.jwts.contains(&wanted)
            }
            _ => return None,
        };
        if !known {
            return Some(errors(StatusCode::BAD_REQUEST, &["invalid credentials"]));
        }
        self.logins += 1;
        let token = format!("hvs.{SECRET_MARKER}-{}", Uuid::new_v4());
        let (now, TokenLifetimes { ttl, max }) = (Instant::now(), self.token_lifetimes);
        let made = Token {
            expires: Some(now + ttl.min(max)),
            last: Some(now + max),
            policy: self.policy.clone(),
            has_default_policy: self.has_default_policy,
            ..Token::new(None)
        };
        self.tokens.insert(token.clone(), made);
        Some(result(Value::Null, self.auth(&token)))
    }

    /// Handles the lookup of a secret id; `None` for other paths.
    pub(super) fn secret_id(&self, path: &str, body: &Value) -> Option<VaultResponse> {
        if path != "auth/approle/role/leadsd/secret-id/lookup" {
            return None;
        }
        let secret_id = body["secret_id"].as_str().unwrap_or_default();
        if !self.roles.values().any(|known| known == secret_id) {
            return Some((StatusCode::NO_CONTENT, Value::Null));
        }
        let found = json!({
            "creation_time": "2026-01-01T00:00:00Z", "expiration_time": self.secret_id_expiry,
            "secret_id_accessor": "accessor", "secret_id_num_uses": 0, "secret_id_ttl": 0,
        });
        Some(result(found, Value::Null))
    }

    /// Returns the content of a wrapping token, once.
    pub(super) fn unwrap(&mut self, token: &str, body: &Value) -> VaultResponse {
        let token = body["token"].as_str().unwrap_or(token);
        match self.wrapped.remove(token) {
            Some(content) => result(content, Value::Null),
            None => {
                errors(StatusCode::BAD_REQUEST, &["wrapping token is not valid or does not exist"])
            }
        }
    }

    pub(super) fn lookup(&self, token: &str) -> VaultResponse {
        let Token { expires, policy, issued, details, .. } = &self.tokens[token];
        let (expires, policies) =
            (*expires, if policy.is_none() && expires.is_none() { ["root"] } else { ["default"] });
        let left = expires.map(|expires| expires - Instant::now());
        let ttl = left.map_or(0, |left| left.as_secs());
        let expire_time = left.map(|left| (SystemClock.now() + left).to_string());
        let mut data = json!({
            "accessor": "accessor", "creation_time": issued.as_second(), "creation_ttl": ttl,
            "display_name": "token", "entity_id": "", "expire_time": expire_time,
            "explicit_max_ttl": 0, "id": token, "identity_policies": null,
            "issue_time": issued.to_string(), "meta": null, "num_uses": 0, "orphan": true,
            "path": "auth/token/create", "policies": policies,
            "renewable": expires.is_some(), "role": null, "ttl": ttl,
        });
        if let Some(data) = data.as_object_mut() {
            data.extend(details.clone());
        }
        result(data, Value::Null)
    }

    pub(super) fn renew(&mut self, token: &str) -> VaultResponse {
        let longer = Instant::now() + self.token_lifetimes.ttl;
        if let Some(found) = self.tokens.get_mut(token) {
            let Some(expires) = &mut found.expires else {
                return errors(StatusCode::BAD_REQUEST, &["lease is not renewable"]);
            };
            *expires = found.last.map_or(longer, |last| longer.min(last));
        }
        result(Value::Null, self.auth(token))
    }

    /// Capabilities of a token at the requested paths.
    pub(super) fn capabilities(&self, token: &str, body: &Value) -> VaultResponse {
        let mut answer = json!({});
        for path in body["paths"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            answer[path] = json!(self.tokens[token].capabilities(path));
        }
        result(answer, Value::Null)
    }

    fn auth(&self, token: &str) -> Value {
        let expires = self.tokens.get(token).and_then(|token| token.expires);
        // Whole seconds, rounded up as Vault does.
        let left = expires.map_or(0, |at| {
            at.saturating_duration_since(Instant::now()).as_millis().div_ceil(1_000)
        });
        json!({
            "client_token": token, "accessor": "accessor", "policies": ["default"],
            "token_policies": ["default"], "metadata": {"role_name": "leadsd"}, "lease_duration": left,
            "renewable": true, "entity_id": "", "token_type": "service", "orphan": true,
        })
    }
}
