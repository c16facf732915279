//! HTTP client for Vault, shared by the service and the command line.
//!
//! `vaultrs` defines paths and bodies of endpoints; this client sends them. The client of `vaultrs`
//! does not fit: it reads unbounded responses, holds one token per instance, and panics on a token that
//! is not a valid header value.

use std::{path::Path, sync::Arc};

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use rustify::endpoint::Endpoint;

use super::{error::Error, response::VaultResponse, secret_file};
use crate::config;
use leadsd_base::{
    net::{
        body::{self, BodyError},
        egress::Egress,
        http::{ClientBuilder, Identity, InvalidPem},
        json_size,
    },
    secret::Secret,
};

/// Maximum size of a response in bytes: Vault limits a secret to 1 MiB by default.
const MAX_RESPONSE: usize = 4 << 20;

/// Header that Vault Agent and Vault Proxy require as protection against request forgery.
const REQUEST_HEADER: &str = "x-vault-request";

/// Header with the token.
const TOKEN_HEADER: &str = "x-vault-token";

/// Header with the namespace.
const NAMESPACE_HEADER: &str = "x-vault-namespace";

/// Client with one connection pool for requests with any token. Cheap to clone.
#[derive(Clone)]
pub(super) struct VaultClient(Arc<Server>);

/// Address, namespace and connection pool of a server.
struct Server {
    http: reqwest::Client,
    egress: Egress,
    address: url::Url,
    namespace: Option<String>,
}

// === impl VaultClient ===

impl VaultClient {
    /// Creates a client for the configured server.
    pub(super) fn new(config: &config::Vault) -> Result<Self, Error> {
        let builder = ClientBuilder::new(config.timeout);
        let mut builder = builder.egress(&config.egress, &config.address);
        if let Some(file) = &config.ca_file {
            builder = builder.ca_file("vault.ca_file", file);
        }
        if let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
            let (chain, key) = (secret_file::read_bytes(cert)?, secret_file::read_bytes(key)?);
            let what = "not a PEM certificate that matches the key in client_key_file";
            let identity = Identity::from_pem(&chain, &key).map_err(pem_error(cert, what))?;
            builder = builder.identity(identity);
        }
        Ok(Self(Arc::new(Server {
            http: builder.build().map_err(|error| Error::Setup(error.to_string()))?,
            egress: config.egress.clone(),
            address: config.address.clone(),
            namespace: config.namespace.as_deref().map(|text| text.trim().to_owned()),
        })))
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

    /// Sends a request to a path below `/v1/`. A body is JSON.
    pub(super) async fn send(
        &self,
        token: Option<&Secret>,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<VaultResponse, Error> {
        let Server { http: client, egress, address: _, namespace } = &*self.0;
        let mut request = client
            .request(method, self.url(path))
            .header(REQUEST_HEADER, HeaderValue::from_static("true"));
        if let Some(namespace) = namespace {
            request = request.header(NAMESPACE_HEADER, namespace);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(token.expose());
            let invalid = |_| Error::Setup("the token contains invalid characters".to_owned());
            let mut value = value.map_err(invalid)?;
            value.set_sensitive(true);
            request = request.header(TOKEN_HEADER, value);
        }
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(body);
        }
        let unreachable = |error| Error::Connect(egress.cause(&error));
        let response = request.send().await.map_err(unreachable)?;
        egress.check(&response).map_err(Error::Connect)?;
        let status = response.status().as_u16();
        let body = body::read(response, MAX_RESPONSE).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => {
                Error::Unavailable(format!("the response exceeds {MAX_RESPONSE} bytes"))
            }
            BodyError::Broken(error) => unreachable(error),
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

fn pem_error<'a>(file: &'a Path, what: &'a str) -> impl FnOnce(InvalidPem) -> Error + 'a {
    move |InvalidPem| Error::File { file: file.display().to_string(), what: what.to_owned() }
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
