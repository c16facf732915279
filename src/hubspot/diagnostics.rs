//! HubSpot client for the command line: individual requests without retries and quota.
//!
//! It shares HTTP settings, paths and error mapping with the service.

mod raw;
mod schema;
mod types;

use std::fmt;

use http::{HeaderMap, StatusCode, header};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::{
    raw::{ApiArea, JsonResponse, RawRequest},
    types::{
        AccountInfo, ApiProbe, DiagnosticsError, ExchangedTokens, LeadsProbe, OAuthApp,
        PropertyDefinition, TokenInfo,
    },
};
use super::{
    endpoints,
    error_body::{self, ErrorBody, Unauthorized},
    error_mapping::{self, RequestSize},
    http_client::{self, RawResponse, SendError, send_once},
    limits::RateLimits,
    operations::Operation,
    token_rejection::TokenRejection,
    wire::parse_value,
};
use crate::{
    config::{self, ApiVersion},
    leads,
};
use leadsd_base::{
    net::{connect_error::ConnectError, egress::Egress, http::BuildError},
    secret::Secret,
    time::http_date,
};

/// Maximum size of a response in bytes: the definitions of some hundred properties fit.
const MAX_BYTES: usize = 16 << 20;

/// Client for diagnostic requests to HubSpot.
#[derive(Clone)]
pub struct DiagnosticsClient {
    http: reqwest::Client,
    egress: Egress,
    base: Url,
    version: ApiVersion,
}

// === impl DiagnosticsClient ===

impl DiagnosticsClient {
    /// Creates a client for the configured API.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        Ok(Self {
            http: http_client::build(config)?,
            egress: config.egress.clone(),
            base: config.base_url.clone(),
            version: config.api_version,
        })
    }

    /// Sends a request without a token, to identify the server and read its clock.
    pub async fn probe(&self, deadline: Instant) -> Result<ApiProbe, ConnectError> {
        let url = endpoints::url(&self.base, &leads_path(self.version));
        let request = self.http.get(url).query(&[("limit", "1")]);
        let response = timeout_at(deadline, send_once(request, &self.egress, MAX_BYTES)).await;
        let (status, headers, body) = match response {
            Ok(Ok(RawResponse { status, headers, body })) => (status, headers, body),
            // The head is enough; a response with an incomplete body is not from HubSpot.
            Ok(Err(SendError::Body { status, headers, .. })) => (status, headers, Vec::new()),
            Ok(Err(SendError::Connect(error))) => return Err(error),
            Err(_) => return Err(ConnectError::Timeout),
        };
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let is_object = parse_value(&body).is_some_and(|body| body.is_object());
        Ok(ApiProbe {
            status: status.as_u16(),
            is_hubspot: status == StatusCode::UNAUTHORIZED && is_object,
            date: date.and_then(http_date),
            correct_hublet: ErrorBody::parse(&body).correct_hublet(&headers),
        })
    }

    /// Exchanges an authorization code for tokens. `redirect` is the redirect URL of the authorization
    /// request.
    pub async fn exchange_code(
        &self,
        app: &OAuthApp,
        code: &Secret,
        redirect: &str,
        deadline: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("redirect_uri", redirect),
            ("code", code.expose()),
        ];
        self.exchange(&form, &[&app.client_secret, code], deadline).await
    }

    /// Exchanges a refresh token for an access token, as the service does.
    pub async fn exchange_refresh_token(
        &self,
        app: &OAuthApp,
        refresh_token: &Secret,
        deadline: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("refresh_token", refresh_token.expose()),
        ];
        self.exchange(&form, &[&app.client_secret, refresh_token], deadline).await
    }

    /// Requests the properties of an access or refresh token of an app.
    pub async fn introspect(
        &self,
        app: &OAuthApp,
        token: &Secret,
        deadline: Instant,
    ) -> Result<TokenInfo, DiagnosticsError> {
        let [area, version, token_path] = endpoints::token(self.version);
        let url = endpoints::url(&self.base, &[area, version, token_path, "introspect"]);
        let form = [
            ("client_id", app.client_id.as_str()),
            ("client_secret", app.client_secret.expose()),
            ("token", token.expose()),
        ];
        let secrets = [&app.client_secret, token];
        let body = self.oauth(self.http.post(url).form(&form), &secrets, deadline).await?;
        Ok(TokenInfo {
            active: body["active"].as_bool().unwrap_or(true),
            hub_id: body["hub_id"].as_u64(),
            hub_domain: body["hub_domain"].as_str().map(str::to_owned),
            scopes: texts(&body["scopes"]),
        })
    }

    /// Requests the properties of a static token. HubSpot does not document whether this endpoint knows
    /// service keys.
    pub async fn static_token(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<TokenInfo, DiagnosticsError> {
        let path = ["oauth", "v2", "private-apps", "get", "access-token-info"];
        let url = endpoints::url(&self.base, &path);
        let body = json!({ "tokenKey": token.expose() });
        let (body, _) = self.authorized(self.http.post(url).json(&body), token, deadline).await?;
        Ok(TokenInfo {
            active: true,
            hub_id: body["hubId"].as_u64(),
            hub_domain: None,
            scopes: texts(&body["scopes"]),
        })
    }

    /// Requests the properties of the account; needs no scope.
    pub async fn account(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<AccountInfo, DiagnosticsError> {
        let path = ["account-info", endpoints::account_info_version(self.version), "details"];
        let body = self.get(&path, token, deadline).await?;
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        Ok(AccountInfo {
            hub_id: body["portalId"].as_u64(),
            kind: text("accountType"),
            time_zone: text("timeZone"),
            ui_domain: text("uiDomain"),
        })
    }

    /// Reads a page of at most one lead; needs the read scope and an account with leads enabled.
    pub async fn leads(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<LeadsProbe, DiagnosticsError> {
        let url = endpoints::url(&self.base, &leads_path(self.version));
        let request = self.http.get(url).query(&[("limit", "1")]);
        let (body, limits) = self.authorized(request, token, deadline).await?;
        Ok(LeadsProbe { count: results(&body)?.len(), limits })
    }

    /// Reads the labels of the lead pipelines, with their number of stages.
    pub async fn pipelines(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<Vec<(String, usize)>, DiagnosticsError> {
        let body = self.get(&endpoints::pipelines(self.version), token, deadline).await?;
        let all = results(&body)?;
        let one = |pipeline: &Value| {
            let stages = pipeline["stages"].as_array().map_or(0, Vec::len);
            Some((pipeline["label"].as_str()?.to_owned(), stages))
        };
        Ok(all.iter().filter_map(one).collect())
    }

    /// Reads the number of lead properties.
    pub async fn properties(
        &self,
        token: &Secret,
        deadline: Instant,
    ) -> Result<usize, DiagnosticsError> {
        let body = self.get(&endpoints::properties(self.version), token, deadline).await?;
        Ok(results(&body)?.len())
    }

    /// Reads the definition of a lead property; `None` if it does not exist.
    pub async fn property(
        &self,
        token: &Secret,
        name: &str,
        deadline: Instant,
    ) -> Result<Option<PropertyDefinition>, DiagnosticsError> {
        let path = [&endpoints::properties(self.version)[..], &[name]].concat();
        let body = match self.get(&path, token, deadline).await {
            Ok(body) => body,
            Err(DiagnosticsError::Api(error)) if error.reason() == leads::Reason::LeadNotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        Ok(Some(PropertyDefinition {
            kind: text("type"),
            field: text("fieldType"),
            unique: body["hasUniqueValue"].as_bool().unwrap_or(false),
        }))
    }

    /// Sends a form with these secrets to the token endpoint.
    async fn exchange(
        &self,
        form: &[(&str, &str)],
        secrets: &[&Secret],
        deadline: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let url = endpoints::url(&self.base, &endpoints::token(self.version));
        let body = self.oauth(self.http.post(url).form(form), secrets, deadline).await?;
        let secret = |key: &str| {
            let text = body[key].as_str().filter(|text| !text.is_empty());
            text.map(Secret::new)
        };
        Ok(ExchangedTokens {
            access_token: secret("access_token").ok_or(DiagnosticsError::InvalidResponse)?,
            refresh_token: secret("refresh_token"),
            hub_id: body["hub_id"].as_u64(),
            scopes: texts(&body["scopes"]),
        })
    }

    async fn get(
        &self,
        path: &[&str],
        token: &Secret,
        deadline: Instant,
    ) -> Result<Value, DiagnosticsError> {
        let request = self.http.get(endpoints::url(&self.base, path));
        Ok(self.authorized(request, token, deadline).await?.0)
    }

    /// Sends a request with a token. Returns the JSON body, `null` if the body is empty.
    async fn authorized(
        &self,
        request: RequestBuilder,
        token: &Secret,
        deadline: Instant,
    ) -> Result<(Value, RateLimits), DiagnosticsError> {
        let response = self.send(request.bearer_auth(token.expose()), deadline).await;
        let RawResponse { status, headers, body } = response.map_err(DiagnosticsError::Connect)?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(match ErrorBody::parse(&body).unauthorized() {
                Unauthorized::Expired => DiagnosticsError::TokenExpired,
                Unauthorized::Rejected => DiagnosticsError::Unauthorized,
            });
        }
        if !status.is_success() {
            return Err(api_error(status, &headers, body, &[token]));
        }
        let json = match parse_value(&body) {
            Some(json @ Value::Object(_)) => json,
            None if body.is_empty() => Value::Null,
            Some(_) | None => return Err(DiagnosticsError::InvalidResponse),
        };
        Ok((json, RateLimits::from_headers(&headers)))
    }

    /// Sends a request to an OAuth endpoint, whose rejections have OAuth error codes.
    async fn oauth(
        &self,
        request: RequestBuilder,
        secrets: &[&Secret],
        deadline: Instant,
    ) -> Result<Value, DiagnosticsError> {
        let response = self.send(request, deadline).await;
        let RawResponse { status, headers, body } = response.map_err(DiagnosticsError::Connect)?;
        let rejection = TokenRejection::from_response(status, &body);
        if status.is_success() && rejection.is_none() {
            let json = parse_value(&body).unwrap_or_default();
            return if json.is_object() {
                Ok(json)
            } else {
                Err(DiagnosticsError::InvalidResponse)
            };
        }
        Err(match rejection {
            Some(rejection) => DiagnosticsError::Rejected(rejection.specific_code().to_owned()),
            None => api_error(status, &headers, body, secrets),
        })
    }

    async fn send(
        &self,
        request: RequestBuilder,
        deadline: Instant,
    ) -> Result<RawResponse, ConnectError> {
        match timeout_at(deadline, send_once(request, &self.egress, MAX_BYTES)).await {
            Ok(response) => response.map_err(ConnectError::from),
            Err(_) => Err(ConnectError::Timeout),
        }
    }
}

/// Maps an error response to an error that does not repeat the secrets of its request.
fn api_error(
    status: StatusCode,
    headers: &HeaderMap,
    body: Vec<u8>,
    secrets: &[&Secret],
) -> DiagnosticsError {
    let body = secrets.iter().fold(body, |body, secret| error_body::redacted(body, secret));
    let size = RequestSize::default();
    let error = error_mapping::error(Operation::Get, size, status, headers, &body);
    DiagnosticsError::Api(
        secrets.iter().fold(error, |error, secret| error.redacted(secret.expose())),
    )
}

/// Path segments of the list of leads, from the operations table.
fn leads_path(version: ApiVersion) -> Vec<&'static str> {
    Operation::List.spec().path(version).split('/').collect()
}

impl fmt::Debug for DiagnosticsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiagnosticsClient")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Results of a page. A success without them does not mean that there are none.
fn results(body: &Value) -> Result<&Vec<Value>, DiagnosticsError> {
    body["results"].as_array().ok_or(DiagnosticsError::InvalidResponse)
}

/// Strings of a JSON array; `None` if the value is not an array.
fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?.iter();
    Some(list.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_empty_only_if_its_results_are() {
        assert_eq!(results(&json!({"results": []})).unwrap().len(), 0);
        assert_eq!(results(&json!({"results": [{"id": "1"}]})).unwrap().len(), 1);
        for body in [
            Value::Null,
            json!({}),
            json!({"results": null}),
            json!({"results": {}}),
            json!({"status": "error", "category": "MISSING_SCOPES"}),
        ] {
            assert_eq!(results(&body), Err(DiagnosticsError::InvalidResponse), "{body}");
        }
    }
}
