//! Client of HubSpot's token endpoint: exchanges the refresh token for an access token. It also checks
//! static tokens, which no token endpoint issues.
//!
//! Responses contain secrets, so they are never logged or passed on.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::StatusCode;
use serde_json::Value;
use url::Url;

use super::{
    clients, endpoints,
    error_body::ErrorBody,
    http_client::{self, RawResponse, SendError, send_once},
    retry_after::retry_after,
    token_check::TokenChecker,
    token_rejection::TokenRejection,
    wire::parse_value,
};
use crate::{config, leads::PortalName};
use leadsd_base::{
    net::{connect_error::ConnectError, egress::Egress, http::BuildError},
    secret::Secret,
};
use leadsd_credentials::{GrantError, RefreshRequest, TokenCheck, TokenResponse, TokenSource};
use leadsd_quota::Quota;

/// Maximum size of a response in bytes: tokens have some hundred characters.
const MAX_BYTES: usize = 64 * 1024;

/// HTTP status of a request for an account in another data centre.
const WRONG_DATA_CENTER: u16 = 488;

/// Time to live of a token whose response has no `expires_in`: HubSpot documents 30 minutes.
const DEFAULT_TTL: Duration = Duration::from_secs(1_800);

/// Client of HubSpot's token endpoint.
#[derive(Clone)]
pub struct OAuth {
    egress: Egress,
    default: TokenEndpoint,
    /// Endpoints of the portals whose API has another base URL.
    by_portal: BTreeMap<PortalName, TokenEndpoint>,
    /// Accounts whose permits token checks take. Token requests do not count against a limit.
    quota: Arc<Quota>,
}

#[derive(Clone)]
struct TokenEndpoint {
    http: reqwest::Client,
    url: Url,
    checker: TokenChecker,
}

// === impl OAuth ===

impl OAuth {
    /// Creates a client for the configured API version. `base_urls` has the portals with a separate base
    /// URL. Token checks take permits of `quota`.
    pub fn new(
        config: &config::Hubspot,
        base_urls: &BTreeMap<PortalName, Url>,
        quota: Arc<Quota>,
    ) -> Result<Self, BuildError> {
        let (default, by_portal) = clients::build(config, base_urls, |config| {
            let url = endpoints::url(&config.base_url, &endpoints::token(config.api_version));
            Ok(TokenEndpoint {
                http: http_client::build(config)?,
                url,
                checker: TokenChecker::new(config),
            })
        })?;
        Ok(Self { egress: config.egress.clone(), default, by_portal, quota })
    }

    fn endpoint(&self, portal: &str) -> &TokenEndpoint {
        let own = PortalName::parse(portal).and_then(|portal| self.by_portal.get(&portal));
        own.unwrap_or(&self.default)
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth").field("url", &self.default.url.as_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl TokenSource for OAuth {
    async fn refresh(
        &self,
        portal: &str,
        grant: &RefreshRequest,
    ) -> Result<TokenResponse, GrantError> {
        let TokenEndpoint { http, url, checker: _ } = self.endpoint(portal);
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &grant.client_id),
            ("client_secret", grant.client_secret.expose()),
            ("refresh_token", grant.refresh_token.expose()),
        ];
        let unavailable = |why: &str| GrantError::Unavailable(why.to_owned());
        let request = http.post(url.clone()).form(&form);
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
        let pause = retry_after(&headers);
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(GrantError::Throttled { retry_after: pause });
        }
        if let Some(rejection) = TokenRejection::from_response(status, &body) {
            return Err(GrantError::Rejected { code: rejection.standard_code().to_owned() });
        }
        if status.as_u16() == WRONG_DATA_CENTER {
            let hublet = ErrorBody::parse(&body).correct_hublet(&headers);
            return Err(unavailable(&format!(
                "HTTP status 488: {} serves the account; set portals.<name>.base_url",
                hublet.map_or_else(
                    || "another data centre".to_owned(),
                    |name| format!("the data centre {name}")
                )
            )));
        }
        if !status.is_success() && pause.is_some() {
            return Err(GrantError::Throttled { retry_after: pause });
        }
        if !status.is_success() {
            return Err(unavailable(&format!("HTTP status {}", status.as_u16())));
        }
        token_response(&body).ok_or_else(|| unavailable("the response has no access token"))
    }

    async fn check(&self, portal: &str, token: &Secret) -> TokenCheck {
        let TokenEndpoint { http, url: _, checker } = self.endpoint(portal);
        checker.check(http, &self.egress, &self.quota.account(portal), token).await
    }
}

/// Reads a successful response field by field: an unreadable refresh token or lifetime is absent. `None`
/// without an access token.
fn token_response(body: &[u8]) -> Option<TokenResponse> {
    let body = parse_value(body)?;
    let token = |key: &str| {
        let text = body.get(key)?.as_str().filter(|text| !text.is_empty());
        text.map(Secret::new)
    };
    Some(TokenResponse {
        access_token: token("access_token")?,
        expires_in: body.get("expires_in").and_then(lifetime).unwrap_or(DEFAULT_TTL),
        refresh_token: token("refresh_token"),
    })
}

/// Lifetime in seconds, as a number or as text; `None` if it is neither.
fn lifetime(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    Duration::try_from_secs_f64(seconds?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lifetime_is_a_number_or_text() {
        for value in [json!(1800), json!(1800.0), json!("1800"), json!(" 1800.0 ")] {
            assert_eq!(lifetime(&value), Some(Duration::from_secs(1_800)), "{value}");
        }
        for value in [json!(null), json!(-1), json!("soon"), json!([1]), json!("NaN"), json!(true)]
        {
            assert_eq!(lifetime(&value), None, "{value}");
        }
    }

    #[test]
    fn an_unreadable_field_of_a_token_response_costs_no_other_field() {
        for (body, refresh_token, seconds) in [
            (r#"{"access_token":"hush","expires_in":"60"}"#, None, 60),
            (r#"{"access_token":"old","access_token":"hush","expires_in":60}"#, None, 60),
            (r#"{"access_token":"hush","refresh_token":1,"expires_in":60}"#, None, 60),
            (r#"{"access_token":"hush","expires_in":60,"hub_domain":"\ud800"}"#, None, 60),
            (r#"{"access_token":"hush","expires_in":60,"hub_id":NaN}"#, None, 60),
            ("\u{feff}{\"access_token\":\"hush\",\"refresh_token\":\"r\"}", Some("r"), 1_800),
            (r#"{"access_token":"hush","refresh_token":"","expires_in":{}}"#, None, 1_800),
        ] {
            let response = token_response(body.as_bytes()).unwrap();
            assert_eq!(response.access_token.expose(), "hush", "{body}");
            let got = response.refresh_token.as_ref().map(Secret::expose);
            assert_eq!(got, refresh_token, "{body}");
            assert_eq!(response.expires_in, Duration::from_secs(seconds), "{body}");
        }
        for body in ["", "<html>", "[]", "{}", r#"{"access_token":1}"#, r#"{"access_token":""}"#] {
            assert!(token_response(body.as_bytes()).is_none(), "{body}");
        }
    }
}
