//! Loads the JSON Web Key Set (JWKS) of a token issuer from a file or a URL.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    key_set::KeySet,
    refreshing::{Load, LoadError, RefreshingValue, Source},
};
use crate::config::Jwks;
use leadsd_base::{
    file_error,
    net::{
        body::{self, BodyError},
        connect_error::ConnectError,
        egress::Egress,
        http::ClientBuilder,
    },
    secret::Secret,
};

/// Name of the auth source.
const NAME: &str = "auth:jwks";

/// Interval between reads of a file.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout for one load.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum time between requests triggered by unknown key ids: a caller with invented key ids must not
/// flood the issuer.
const MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum size of a key set in bytes. Real key sets have a few keys.
const MAX_BYTES: usize = 1 << 20;

/// URL of a key set, and the files for its requests.
struct JwksEndpoint {
    url: url::Url,
    ca_file: Option<Box<Path>>,
    token_file: Option<Box<Path>>,
    egress: Egress,
}

/// Starts loading the key set.
pub(super) fn start(
    jwks: Jwks,
    missing: watch::Sender<BTreeSet<&'static str>>,
) -> RefreshingValue<KeySet> {
    let parse = |bytes: &Vec<u8>| {
        let keys = KeySet::parse(bytes)?;
        let entries = keys.0.len();
        Ok((keys, entries))
    };
    let source = match jwks {
        Jwks::File(file) => {
            let location = file.display().to_string();
            let file: Arc<Path> = file.into();
            let load = Box::new(move || -> Load<Vec<u8>> {
                let file = Arc::clone(&file);
                Box::pin(async move { read(&file).await })
            });
            let (interval, min_interval) = (FILE_INTERVAL, FILE_INTERVAL);
            Source { name: NAME, location, interval, timeout: TIMEOUT, min_interval, load, parse }
        }
        Jwks::Url { url, ca_file, token_file, refresh_interval, egress } => {
            let location = url.to_string();
            let endpoint = Arc::new(JwksEndpoint {
                url,
                ca_file: ca_file.map(Into::into),
                token_file: token_file.map(Into::into),
                egress,
            });
            let load = Box::new(move || -> Load<Vec<u8>> {
                let endpoint = Arc::clone(&endpoint);
                Box::pin(async move { endpoint.fetch().await })
            });
            Source {
                name: NAME,
                location,
                interval: refresh_interval,
                timeout: TIMEOUT,
                min_interval: MIN_INTERVAL,
                load,
                parse,
            }
        }
    };
    RefreshingValue::start(source, missing)
}

/// Loads the key set once, as the service does; returns the number of usable keys.
pub async fn load_jwks(jwks: &Jwks) -> Result<usize, LoadError> {
    let bytes = match jwks {
        Jwks::File(file) => read(file).await?,
        Jwks::Url { url, ca_file, token_file, refresh_interval: _, egress } => {
            let endpoint = JwksEndpoint {
                url: url.clone(),
                ca_file: ca_file.as_deref().map(Into::into),
                token_file: token_file.as_deref().map(Into::into),
                egress: egress.clone(),
            };
            endpoint.fetch().await?
        }
    };
    KeySet::parse(&bytes).map(|keys| keys.0.len())
}

// === impl JwksEndpoint ===

impl JwksEndpoint {
    /// Fetches the key set. CA and bearer token are read on each fetch, since they may be rotated.
    async fn fetch(&self) -> Result<Vec<u8>, LoadError> {
        let Self { url, ca_file, token_file, egress } = self;
        let mut builder = ClientBuilder::new(TIMEOUT).egress(egress, url);
        if let Some(file) = ca_file {
            builder = builder.ca_file("auth.jwt.ca_file", &**file);
        }
        let client = builder.build().map_err(|error| LoadError(error.to_string()))?;
        let mut request = client.get(url.clone());
        if let Some(file) = token_file {
            let token = Secret::new(String::from_utf8_lossy(&read(file).await?));
            request = request.bearer_auth(token.expose().trim());
        }
        let unreachable = |error: reqwest::Error| match egress.cause(&error) {
            ConnectError::Proxy { proxy, cause } => LoadError(cause.advice(&proxy)),
            ConnectError::Dns
            | ConnectError::Refused
            | ConnectError::Timeout
            | ConnectError::Certificate(_)
            | ConnectError::Tls(_)
            | ConnectError::Io(_) => LoadError(root_cause(&error.without_url())),
        };
        let response = request.send().await.map_err(unreachable)?;
        egress.check(&response).map_err(|error| LoadError(error.to_string()))?;
        if !response.status().is_success() {
            return Err(LoadError(format!("HTTP status {}", response.status().as_u16())));
        }
        body::read(response, MAX_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => {
                LoadError(format!("the response exceeds {MAX_BYTES} bytes"))
            }
            BodyError::Broken(error) => unreachable(error),
        })
    }
}

/// Text of the root cause. The outer errors only state that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

async fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = tokio::fs::read(file).await;
    let described =
        |error| LoadError(format!("{}: {}", file.display(), file_error::describe(&error)));
    let bytes = bytes.map_err(described)?;
    if bytes.len() > MAX_BYTES {
        return Err(LoadError(format!("{} exceeds {MAX_BYTES} bytes", file.display())));
    }
    Ok(bytes)
}
