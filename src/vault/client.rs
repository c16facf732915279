//! HTTP client for Vault, shared by the service and the command line.
//!
//! `vaultrs` defines paths and bodies of endpoints; this client sends them. The client of `vaultrs`
//! does not fit: it reads unbounded responses, holds one token per instance, and panics on a token that
//! is not a valid header value.

use std::sync::Arc;

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};
use rustify::endpoint::Endpoint;

use super::{error::Error, pool::ConnectionPool, redirect, response::VaultResponse};
use crate::config;
use leadsd_base::{
    net::{
        body::{self, BodyError},
        egress::Egress,
        json_size,
    },
    secret::Secret,
    time::Timestamp,
};

/// Maximum size of a response in bytes: Vault limits a secret to 1 MiB by default.
const MAX_RESPONSE: usize = 4 << 20;

/// Header that Vault Agent and Vault Proxy require as protection against request forgery.
const REQUEST_HEADER: &str = "x-vault-request";

/// Header with the token.
const TOKEN_HEADER: &str = "x-vault-token";

/// Header with the namespace.
const NAMESPACE_HEADER: &str = "x-vault-namespace";

/// Path of the health endpoint. It exists in the root namespace only: with the header, OpenBao responds with
/// status 400.
pub(super) const HEALTH_PATH: &str = "sys/health";

/// Client for requests with any token. Cheap to clone.
#[derive(Clone)]
pub(super) struct VaultClient(Arc<Server>);

/// Address, namespace and connections of a server.
struct Server {
    pool: ConnectionPool,
    egress: Egress,
    address: url::Url,
    namespace: Option<String>,
}

// === impl VaultClient ===

impl VaultClient {
    /// Creates a client for the configured server.
    pub(super) fn new(config: &config::Vault) -> Result<Self, Error> {
        Ok(Self(Arc::new(Server {
            pool: ConnectionPool::new(config)?,
            egress: config.egress.clone(),
            address: config.address.clone(),
            namespace: config.namespace.as_deref().map(|text| text.trim().to_owned()),
        })))
    }

    /// Expiry of the client certificate in use; `None` without one.
    pub(super) fn certificate_expires(&self) -> Option<Timestamp> {
        self.0.pool.certificate_expires()
    }

    /// Calls an endpoint that `vaultrs` defines.
    pub(super) async fn call(
        &self,
        token: Option<&Secret>,
        endpoint: &impl Endpoint,
    ) -> Result<VaultResponse, Error> {
        let invalid = |_| Error::Setup("cannot encode the request".to_owned());
        let body = endpoint.body().map_err(invalid)?;
        let method: Method = endpoint.method().into();
        self.send(token, method, &endpoint.path(), body).await
    }

    /// Sends a request to a path below `/v1/`. A body is JSON. One redirect of a standby node is followed.
    pub(super) async fn send(
        &self,
        token: Option<&Secret>,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<VaultResponse, Error> {
        let Server { pool, egress, address: _, namespace } = &*self.0;
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_HEADER, HeaderValue::from_static("true"));
        if let Some(namespace) = namespace
            && path != HEALTH_PATH
        {
            let value = HeaderValue::from_str(namespace);
            let invalid = |_| Error::Setup("the namespace contains invalid characters".to_owned());
            headers.insert(NAMESPACE_HEADER, value.map_err(invalid)?);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(token.expose());
            let invalid = |_| Error::Setup("the token contains invalid characters".to_owned());
            let mut value = value.map_err(invalid)?;
            value.set_sensitive(true);
            headers.insert(TOKEN_HEADER, value);
        }
        let body = body.filter(|body| !body.is_empty());
        if body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let client = pool.client();
        let exchange = async |url: url::Url| {
            let mut request = client.request(method.clone(), url).headers(headers.clone());
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let unreachable = |error: reqwest::Error| Error::Connect(egress.cause(&error));
            let response = request.send().await.map_err(unreachable)?;
            egress.check(&response).map_err(Error::Connect)?;
            pool.observe(response.status().as_u16());
            Ok(response)
        };
        let url = self.url(path);
        let mut response = exchange(url.clone()).await?;
        if redirect::is_redirect(&response) {
            response = exchange(redirect::target(&url, &response)?).await?;
            if redirect::is_redirect(&response) {
                return Err(redirect::repeated());
            }
        }
        let status = response.status().as_u16();
        let body = body::read(response, MAX_RESPONSE).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => {
                Error::Unavailable(format!("the response exceeds {MAX_RESPONSE} bytes"))
            }
            BodyError::Broken(error) => Error::Connect(egress.cause(&error)),
        })?;
        if !json_size::has_at_most(&body, json_size::MAX_VALUES) {
            let text = format!("the response has more than {} values", json_size::MAX_VALUES);
            return Err(Error::Unavailable(text));
        }
        Ok(VaultResponse::new(status, body))
    }

    /// Builds the URL of a path, with percent-encoded segments.
    fn url(&self, path: &str) -> url::Url {
        let mut url = self.0.address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            let path = path.trim().trim_start_matches('/');
            segments.pop_if_empty().push("v1").extend(path.split('/'));
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::config;

    #[test]
    fn paths_are_below_v1_of_the_address_and_escaped() {
        for (address, path, expected) in [
            ("http://vault:8200", "auth/token/lookup-self", "/v1/auth/token/lookup-self"),
            ("http://vault:8200/", "\t/auth/token/renew-self", "/v1/auth/token/renew-self"),
            ("http://vault:8200/team/", "sys/health", "/team/v1/sys/health"),
            ("http://vault:8200", "auth/userpass/login/a?b", "/v1/auth/userpass/login/a%3Fb"),
        ] {
            let client = VaultClient::new(&config(address)).unwrap();
            assert_eq!(client.url(path).path(), expected);
            assert_eq!(client.url(path).query(), None);
        }
    }
}
