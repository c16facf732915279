//! The only place that builds `vaultrs` clients and reads the files a login needs.

use std::path::Path;

use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use vaultrs::{
    api::{AuthInfo, EndpointMiddleware},
    client::{VaultClient, VaultClientSettings},
};

use super::error::Error;
use crate::config;
use leadsd_base::{
    net::http::{self, ClientBuilder, Identity, InvalidPem},
    secret::Secret,
};

/// Largest answer to [`Connection::ask`]: a secret has at most 1 MiB by Vault's default.
const MAX_ANSWER: usize = 4 << 20;

/// How Vault is reached: one pool of connections for all tokens.
#[derive(Clone)]
pub(super) struct Connection {
    address: url::Url,
    namespace: Option<String>,
    http: reqwest::Client,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(config: &config::Vault) -> Result<Self, Error> {
        let mut builder = ClientBuilder::new(config.timeout);
        if let Some(file) = &config.ca_file {
            let roots = http::certificates(&read(file)?).map_err(|InvalidPem| Error::File {
                file: file.display().to_string(),
                what: "is no PEM file with certificates".to_owned(),
            })?;
            builder = builder.extra_roots(roots);
        }
        if let (Some(cert), Some(key)) = (&config.client_cert_file, &config.client_key_file) {
            let identity = Identity::from_pem(&read(cert)?, &read(key)?);
            builder = builder.identity(identity.map_err(|InvalidPem| Error::File {
                file: cert.display().to_string(),
                what: "is no certificate with the key of client_key_file".to_owned(),
            })?);
        }
        Ok(Self {
            address: config.address.clone(),
            namespace: config.namespace.as_deref().map(|text| text.trim().to_owned()),
            http: builder.build().map_err(|error| Error::Setup(error.to_string()))?,
        })
    }

    /// Logs in at an auth method's own endpoint.
    pub(super) async fn log_in(&self, mount: &str, body: &Value) -> Result<AuthInfo, Error> {
        #[derive(Deserialize)]
        struct Answer {
            auth: AuthInfo,
        }
        let nonsense = || Error::Unavailable("answers nonsense".to_owned());
        let address = self.address.as_str().trim_end_matches('/');
        let mut request = self.http.post(format!("{address}/v1/auth/{mount}/login")).json(body);
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let answer = request.send().await.map_err(|error| Error::unreachable(&error))?;
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(Error::of_login_status(status));
        }
        let bytes = answer.bytes().await.map_err(|_| nonsense())?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| nonsense())?;
        Ok(answer.auth)
    }

    /// Makes a request that `vaultrs` has none for; gives the status and the JSON, null if it is none.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&Secret>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), Error> {
        let address = self.address.as_str().trim_end_matches('/');
        let mut request = self.http.request(method, format!("{address}/v1/{path}"));
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            request = request.header("x-vault-token", token.expose());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut answer = request.send().await.map_err(|error| Error::unreachable(&error))?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|error| Error::unreachable(&error))? {
            if bytes.len() + part.len() > MAX_ANSWER {
                return Err(Error::Unavailable("answers too much".to_owned()));
            }
            bytes.extend_from_slice(&part);
        }
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// A client that sends `token`; an empty one sends none that Vault knows.
    ///
    /// Every setting is given: `vaultrs` would fill gaps from the environment.
    pub(super) fn with_token(&self, token: &Secret) -> VaultClient {
        let settings = VaultClientSettings {
            address: self.address.clone(),
            ca_certs: Vec::new(),
            identity: None,
            timeout: None,
            token: token.expose().to_owned(),
            verify: true,
            version: 1,
            wrapping: false,
            namespace: self.namespace.clone(),
            proxy: None,
        };
        let middle = EndpointMiddleware {
            token: token.expose().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.namespace.clone(),
        };
        let address = self.address.as_str().trim_end_matches('/');
        let http = rustify::clients::reqwest::Client::new(address, self.http.clone());
        VaultClient { http, middle, settings }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| Error::File {
        file: file.display().to_string(),
        what: error.kind().to_string(),
    })
}

/// Reads a file that holds one secret text; a line end after it is not part of it.
pub(super) async fn read_secret(file: &Path) -> Result<Secret, Error> {
    let fault =
        |what: &str| Error::File { file: file.display().to_string(), what: what.to_owned() };
    let text = tokio::fs::read_to_string(file).await;
    let text = Secret::new(text.map_err(|error| fault(&error.kind().to_string()))?);
    let secret = Secret::new(text.expose().trim());
    // vaultrs puts it into a header and panics on what no header may hold.
    if secret.is_empty() || !secret.expose().chars().all(|c| c.is_ascii_graphic()) {
        return Err(fault("does not hold one line of printable ASCII"));
    }
    Ok(secret)
}
