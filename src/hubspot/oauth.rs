//! HubSpot's token endpoint: trades the refresh token for an access token. What it answers is read
//! or dropped; it is full of secrets and never passed on.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::Deserialize;
use url::Url;

use super::{endpoints, http_client};
use crate::config;
use leadsd_base::{
    net::{body, http::BuildError},
    secret::Secret,
};
use leadsd_credentials::{GrantError, RefreshRequest, TokenResponse, TokenSource};

/// Largest answer read; a token has some hundred characters.
const MAX_BYTES: usize = 64 * 1024;

/// Life of a token that does not say: HubSpot's documented half hour.
const DEFAULT_LIFE: Duration = Duration::from_secs(1_800);

/// OAuth codes that no repetition cures.
const PERMANENT: [&str; 4] =
    ["invalid_grant", "invalid_client", "access_denied", "unauthorized_client"];

/// HubSpot's own statuses with the same meaning, where `error` is missing.
const PERMANENT_STATUS: [&str; 5] =
    ["BAD_REFRESH_TOKEN", "BAD_AUTH_CODE", "BAD_CLIENT_ID", "BAD_HUB", "BAD_REDIRECT_URI"];

/// HubSpot's token endpoint.
#[derive(Clone)]
pub struct OAuth {
    http: reqwest::Client,
    url: Url,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Success {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    error: Option<String>,
    status: Option<String>,
}

// === impl OAuth ===

impl OAuth {
    /// The endpoint of the API version that the configuration names.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        let url = endpoints::url(&config.base_url, &endpoints::token(config.api_version));
        Ok(Self { http: http_client::build(config)?, url })
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenSource for OAuth {
    async fn refresh(&self, grant: &RefreshRequest) -> Result<TokenResponse, GrantError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &grant.client_id),
            ("client_secret", grant.client_secret.expose()),
            ("refresh_token", grant.refresh_token.expose()),
        ];
        let unavailable = |why: &str| GrantError::Unavailable(why.to_owned());
        let response = self.http.post(self.url.clone()).form(&form).send().await;
        let response = response.map_err(|error| {
            unavailable(if error.is_timeout() { "timed out" } else { "cannot be reached" })
        })?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(http::header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = body::read(response, MAX_BYTES).await.map_err(|_| unavailable("broke off"))?;
        if status == http::StatusCode::TOO_MANY_REQUESTS {
            return Err(GrantError::Throttled { retry_after });
        }
        if !status.is_success() {
            return Err(failure(status.as_u16(), &body));
        }
        let success: Success =
            serde_json::from_slice(&body).map_err(|_| unavailable("answers without a token"))?;
        let access_token = success.access_token.filter(|token| !token.is_empty());
        Ok(TokenResponse {
            access_token: access_token
                .map(Secret::new)
                .ok_or_else(|| unavailable("answers without a token"))?,
            expires_in: success.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs),
            refresh_token: success.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        })
    }
}

/// By `error` first, then by `status`; nothing else of the body is looked at.
fn failure(status: u16, body: &[u8]) -> GrantError {
    let failure: Failure = serde_json::from_slice(body).unwrap_or_default();
    let known = |code: &Option<String>, list: &[&'static str]| {
        list.iter().copied().find(|known| code.as_deref() == Some(known))
    };
    let code =
        known(&failure.error, &PERMANENT).or_else(|| known(&failure.status, &PERMANENT_STATUS));
    match code {
        Some(code) => GrantError::Rejected { code: code.to_owned() },
        None => GrantError::Unavailable(format!("answers with status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_codes_are_final() {
        let refused = failure(400, br#"{"status":"BAD_REFRESH_TOKEN","error":"invalid_grant"}"#);
        assert_eq!(refused, GrantError::Rejected { code: "invalid_grant".to_owned() });
        let by_status = failure(400, br#"{"status":"BAD_CLIENT_ID"}"#);
        assert_eq!(by_status, GrantError::Rejected { code: "BAD_CLIENT_ID".to_owned() });
        for body in [&b"<html>"[..], b"", b"{}", br#"{"error":"server_error"}"#, br#"{"error":3}"#]
        {
            assert!(matches!(failure(400, body), GrantError::Unavailable(_)));
        }
    }
}
