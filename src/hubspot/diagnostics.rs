//! HubSpot for the command line: single requests, without retries and without a quota.
//!
//! Requests are sent as the service sends them, and their errors are read by the same code, so that
//! what works here works there.

mod types;

use std::fmt;

use http::{StatusCode, header};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::types::{
    AccountInfo, ApiProbe, DiagnosticsError, ExchangedTokens, LeadsProbe, OAuthApp,
    PropertyDefinition, TokenInfo,
};
use super::{
    endpoints,
    error_body::{ErrorBody, Unauthorized},
    error_mapping,
    http_client::{self, RawResponse, SendError, send_once},
    limits::RateLimits,
    operations::Operation,
    token_rejection::TokenRejection,
};
use crate::{
    config::{self, ApiVersion},
    leads,
};
use leadsd_base::{
    net::{connect_error::ConnectError, http::BuildError},
    secret::Secret,
    time::http_date,
};

/// Maximum size of a response: leads have some hundred properties.
const MAX_BYTES: usize = 16 << 20;

/// Sends diagnostic requests to HubSpot.
#[derive(Clone)]
pub struct DiagnosticsClient {
    http: reqwest::Client,
    base: Url,
    version: ApiVersion,
}

// === impl DiagnosticsClient ===

impl DiagnosticsClient {
    /// A client for the API that the configuration names.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        Ok(Self {
            http: http_client::build(config)?,
            base: config.base_url.clone(),
            version: config.api_version,
        })
    }

    /// Sends a request without a token: shows which server responds, and its clock.
    pub async fn probe(&self, until: Instant) -> Result<ApiProbe, ConnectError> {
        let url = endpoints::url(&self.base, &leads_path(self.version));
        let request = self.http.get(url).query(&[("limit", "1")]);
        let response = timeout_at(until, send_once(request, MAX_BYTES)).await;
        let (status, headers, body) = match response {
            Ok(Ok(RawResponse { status, headers, body })) => (status, headers, body),
            // The head says enough: a body that does not arrive is none of HubSpot's.
            Ok(Err(SendError::Body { status, headers, .. })) => (status, headers, Vec::new()),
            Ok(Err(SendError::Connect(error))) => return Err(error),
            Err(_) => return Err(ConnectError::Timeout),
        };
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let is_object = serde_json::from_slice::<Value>(&body).is_ok_and(|body| body.is_object());
        Ok(ApiProbe {
            status: status.as_u16(),
            is_hubspot: status == StatusCode::UNAUTHORIZED && is_object,
            date: date.and_then(http_date),
        })
    }

    /// Exchanges an authorization code. `redirect` is the redirect URL of the authorization request.
    pub async fn exchange_code(
        &self,
        app: &OAuthApp,
        code: &Secret,
        redirect: &str,
        until: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("redirect_uri", redirect),
            ("code", code.expose()),
        ];
        self.exchange(&form, until).await
    }

    /// Exchanges a refresh token, as the service does.
    pub async fn exchange_refresh_token(
        &self,
        app: &OAuthApp,
        refresh_token: &Secret,
        until: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &app.client_id),
            ("client_secret", app.client_secret.expose()),
            ("refresh_token", refresh_token.expose()),
        ];
        self.exchange(&form, until).await
    }

    /// Properties of an access or refresh token of an app.
    pub async fn introspect(
        &self,
        app: &OAuthApp,
        token: &Secret,
        until: Instant,
    ) -> Result<TokenInfo, DiagnosticsError> {
        let [area, version, token_path] = endpoints::token(self.version);
        let url = endpoints::url(&self.base, &[area, version, token_path, "introspect"]);
        let form = [
            ("client_id", app.client_id.as_str()),
            ("client_secret", app.client_secret.expose()),
            ("token", token.expose()),
        ];
        let body = self.oauth(self.http.post(url).form(&form), until).await?;
        Ok(TokenInfo {
            active: body["active"].as_bool().unwrap_or(true),
            hub_id: body["hub_id"].as_u64(),
            hub_domain: body["hub_domain"].as_str().map(str::to_owned),
            scopes: texts(&body["scopes"]),
        })
    }

    /// Properties of a static token. It is not established whether HubSpot knows service keys here.
    pub async fn static_token(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<TokenInfo, DiagnosticsError> {
        let path = ["oauth", "v2", "private-apps", "get", "access-token-info"];
        let url = endpoints::url(&self.base, &path);
        let body = json!({ "tokenKey": token.expose() });
        let (body, _) = self.authorized(self.http.post(url).json(&body), token, until).await?;
        Ok(TokenInfo {
            active: true,
            hub_id: body["hubId"].as_u64(),
            hub_domain: None,
            scopes: texts(&body["scopes"]),
        })
    }

    /// Properties of the account; no scope is needed.
    pub async fn account(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<AccountInfo, DiagnosticsError> {
        let path = ["account-info", endpoints::dated(self.version), "details"];
        let body = self.get(&path, token, until).await?;
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        Ok(AccountInfo {
            hub_id: body["portalId"].as_u64(),
            kind: text("accountType"),
            time_zone: text("timeZone"),
            ui_domain: text("uiDomain"),
        })
    }

    /// Reads a page of at most one lead: it needs the read scope and an account that has leads.
    pub async fn leads(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<LeadsProbe, DiagnosticsError> {
        let url = endpoints::url(&self.base, &leads_path(self.version));
        let request = self.http.get(url).query(&[("limit", "1")]);
        let (body, limits) = self.authorized(request, token, until).await?;
        Ok(LeadsProbe { count: body["results"].as_array().map_or(0, Vec::len), limits })
    }

    /// Labels of the pipelines of leads with the number of their stages.
    pub async fn pipelines(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<Vec<(String, usize)>, DiagnosticsError> {
        let body = self.get(&endpoints::pipelines(self.version), token, until).await?;
        let all = body["results"].as_array().ok_or(DiagnosticsError::InvalidResponse)?;
        let one = |pipeline: &Value| {
            let stages = pipeline["stages"].as_array().map_or(0, Vec::len);
            Some((pipeline["label"].as_str()?.to_owned(), stages))
        };
        Ok(all.iter().filter_map(one).collect())
    }

    /// Number of properties of leads.
    pub async fn properties(
        &self,
        token: &Secret,
        until: Instant,
    ) -> Result<usize, DiagnosticsError> {
        let body = self.get(&endpoints::properties(self.version), token, until).await?;
        body["results"].as_array().map(Vec::len).ok_or(DiagnosticsError::InvalidResponse)
    }

    /// Definition of one property of leads; `None` if there is none of that name.
    pub async fn property(
        &self,
        token: &Secret,
        name: &str,
        until: Instant,
    ) -> Result<Option<PropertyDefinition>, DiagnosticsError> {
        let path = [&endpoints::properties(self.version)[..], &[name]].concat();
        let body = match self.get(&path, token, until).await {
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

    /// Sends a form to the token endpoint.
    async fn exchange(
        &self,
        form: &[(&str, &str)],
        until: Instant,
    ) -> Result<ExchangedTokens, DiagnosticsError> {
        let url = endpoints::url(&self.base, &endpoints::token(self.version));
        let body = self.oauth(self.http.post(url).form(form), until).await?;
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
        until: Instant,
    ) -> Result<Value, DiagnosticsError> {
        let request = self.http.get(endpoints::url(&self.base, path));
        Ok(self.authorized(request, token, until).await?.0)
    }

    /// Sends a request with a token; returns its JSON, `null` if the body is empty.
    async fn authorized(
        &self,
        request: RequestBuilder,
        token: &Secret,
        until: Instant,
    ) -> Result<(Value, RateLimits), DiagnosticsError> {
        let response = send(request.bearer_auth(token.expose()), until).await;
        let RawResponse { status, headers, body } = response.map_err(DiagnosticsError::Connect)?;
        if status == StatusCode::UNAUTHORIZED {
            return Err(match ErrorBody::parse(&body).unauthorized() {
                Unauthorized::Expired => DiagnosticsError::TokenExpired,
                Unauthorized::Refused => DiagnosticsError::Unauthorized,
            });
        }
        if !status.is_success() {
            let error = error_mapping::error(Operation::Get, status, &headers, &body);
            return Err(DiagnosticsError::Api(error));
        }
        let json = match serde_json::from_slice(&body) {
            Ok(json @ Value::Object(_)) => json,
            Err(_) if body.is_empty() => Value::Null,
            Ok(_) | Err(_) => return Err(DiagnosticsError::InvalidResponse),
        };
        Ok((json, RateLimits::from_headers(&headers)))
    }

    /// Sends a request to an OAuth endpoint, whose rejections have codes of their own.
    async fn oauth(
        &self,
        request: RequestBuilder,
        until: Instant,
    ) -> Result<Value, DiagnosticsError> {
        let response = send(request, until).await;
        let RawResponse { status, headers, body } = response.map_err(DiagnosticsError::Connect)?;
        if status.is_success() {
            let json: Value = serde_json::from_slice(&body).unwrap_or_default();
            return if json.is_object() {
                Ok(json)
            } else {
                Err(DiagnosticsError::InvalidResponse)
            };
        }
        Err(match TokenRejection::from_response(status, &body) {
            Some(rejection) => DiagnosticsError::Rejected(rejection.specific_code()),
            None => {
                DiagnosticsError::Api(error_mapping::error(Operation::Get, status, &headers, &body))
            }
        })
    }
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

async fn send(request: RequestBuilder, until: Instant) -> Result<RawResponse, ConnectError> {
    match timeout_at(until, send_once(request, MAX_BYTES)).await {
        Ok(response) => response.map_err(ConnectError::from),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// Texts of a list; `None` if it is no list.
fn texts(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array()?.iter();
    Some(list.filter_map(|text| text.as_str().map(str::to_owned)).collect())
}
