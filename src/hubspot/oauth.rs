//! Client of HubSpot's token endpoint: exchanges the refresh token for an access token.
//!
//! Responses contain secrets, so they are never logged or passed on.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use http::{StatusCode, header};
use serde::Deserialize;
use url::Url;

use super::{
    endpoints,
    http_client::{self, RawResponse, SendError, send_once},
    token_rejection::TokenRejection,
};
use crate::config;
use leadsd_base::{
    net::{connect_error::ConnectError, egress::Egress, http::BuildError},
    secret::Secret,
};
use leadsd_credentials::{GrantError, RefreshRequest, TokenResponse, TokenSource};

/// Maximum size of a response in bytes: tokens have some hundred characters.
const MAX_BYTES: usize = 64 * 1024;

/// Time to live of a token whose response has no `expires_in`: HubSpot documents 30 minutes.
const DEFAULT_TTL: Duration = Duration::from_secs(1_800);

/// Client of HubSpot's token endpoint.
#[derive(Clone)]
pub struct OAuth {
    http: reqwest::Client,
    egress: Egress,
    url: Url,
}

/// JSON of a successful token response.
#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenResponseBody {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<u64>,
}

// === impl OAuth ===

impl OAuth {
    /// Creates a client for the configured API version.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        let url = endpoints::url(&config.base_url, &endpoints::token(config.api_version));
        Ok(Self { http: http_client::build(config)?, egress: config.egress.clone(), url })
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
        let request = self.http.post(self.url.clone()).form(&form);
        let response = send_once(request, &self.egress, MAX_BYTES).await.map_err(|error| {
            unavailable(match &error {
                SendError::Connect(ConnectError::Timeout) => "the request timed out",
                SendError::Connect(ConnectError::Proxy { proxy, cause }) => {
                    return unavailable(&cause.advice(proxy));
                }
                SendError::Connect(_) => "cannot connect",
                SendError::Body { .. } => "the connection broke during the response",
            })
        })?;
        let RawResponse { status, headers, body } = response;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = headers.get(header::RETRY_AFTER);
            let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(GrantError::Throttled { retry_after: seconds.map(Duration::from_secs) });
        }
        if let Some(rejection) = TokenRejection::from_response(status, &body) {
            return Err(GrantError::Rejected { code: rejection.standard_code().to_owned() });
        }
        if !status.is_success() {
            return Err(unavailable(&format!("HTTP status {}", status.as_u16())));
        }
        let no_token = || unavailable("the response has no access token");
        let success: TokenResponseBody = serde_json::from_slice(&body).map_err(|_| no_token())?;
        let access_token = success.access_token.filter(|token| !token.is_empty());
        Ok(TokenResponse {
            access_token: access_token.map(Secret::new).ok_or_else(no_token)?,
            expires_in: success.expires_in.map_or(DEFAULT_TTL, Duration::from_secs),
            refresh_token: success.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        })
    }
}
