//! Loads the key set of a token issuer from a file or a URL.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;

use super::{
    key_set::KeySet,
    refreshing::{Load, LoadError, RefreshingValue, Source},
};
use crate::config::Jwks;
use leadsd_base::{
    net::{
        body::{self, BodyError},
        http::{self, ClientBuilder, InvalidPem},
    },
    secret::Secret,
};

/// Name of the source.
const NAME: &str = "auth:jwks";

/// Interval between reads of a file.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout for one load.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum time between requests that tokens with unknown keys cause: a caller that invents key ids must
/// not flood the issuer.
const PAUSE: Duration = Duration::from_secs(10);

/// Maximum size of a key set. Real ones have a few keys.
const MAX_BYTES: usize = 1 << 20;

/// URL of a key set, with the files that a request needs.
struct Endpoint {
    url: url::Url,
    ca_file: Option<Box<Path>>,
    token_file: Option<Box<Path>>,
}

/// Starts to load the key set.
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
            let from = file.display().to_string();
            let file: Arc<Path> = file.into();
            let load = Box::new(move || -> Load<Vec<u8>> {
                let file = Arc::clone(&file);
                Box::pin(async move { read(&file).await })
            });
            let (interval, pause) = (FILE_INTERVAL, FILE_INTERVAL);
            Source { name: NAME, from, interval, timeout: TIMEOUT, pause, load, parse }
        }
        Jwks::Url { url, ca_file, token_file, refresh } => {
            let from = url.to_string();
            let endpoint = Arc::new(Endpoint {
                url,
                ca_file: ca_file.map(Into::into),
                token_file: token_file.map(Into::into),
            });
            let load = Box::new(move || -> Load<Vec<u8>> {
                let endpoint = Arc::clone(&endpoint);
                Box::pin(async move { endpoint.fetch().await })
            });
            Source {
                name: NAME,
                from,
                interval: refresh,
                timeout: TIMEOUT,
                pause: PAUSE,
                load,
                parse,
            }
        }
    };
    RefreshingValue::start(source, missing)
}

/// Loads the keys once, as the service does; returns how many can be used.
pub async fn load_once(jwks: &Jwks) -> Result<usize, LoadError> {
    let bytes = match jwks {
        Jwks::File(file) => read(file).await?,
        Jwks::Url { url, ca_file, token_file, refresh: _ } => {
            let endpoint = Endpoint {
                url: url.clone(),
                ca_file: ca_file.as_deref().map(Into::into),
                token_file: token_file.as_deref().map(Into::into),
            };
            endpoint.fetch().await?
        }
    };
    KeySet::parse(&bytes).map(|keys| keys.0.len())
}

// === impl Endpoint ===

impl Endpoint {
    /// Fetches the key set. CA and token are read every time: both may be replaced at any time, and a load
    /// is rare.
    async fn fetch(&self) -> Result<Vec<u8>, LoadError> {
        let mut builder = ClientBuilder::new(TIMEOUT);
        if let Some(file) = &self.ca_file {
            let roots = http::certificates(&read(file).await?);
            let invalid =
                |InvalidPem| LoadError(format!("{} holds no certificates", file.display()));
            builder = builder.extra_roots(roots.map_err(invalid)?);
        }
        let client = builder.build().map_err(|error| LoadError(error.to_string()))?;
        let mut request = client.get(self.url.clone());
        if let Some(file) = &self.token_file {
            let token = Secret::new(String::from_utf8_lossy(&read(file).await?));
            request = request.bearer_auth(token.expose().trim());
        }
        let unreachable = |error: reqwest::Error| LoadError(root_cause(&error.without_url()));
        let response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            return Err(LoadError(format!("status {}", response.status().as_u16())));
        }
        body::read(response, MAX_BYTES).await.map_err(|error| match error {
            BodyError::TooLarge { .. } => LoadError("the answer is too large".to_owned()),
            BodyError::Broken(error) => unreachable(error),
        })
    }
}

/// Text of the root cause; the errors around it only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

async fn read(file: &Path) -> Result<Vec<u8>, LoadError> {
    let bytes = tokio::fs::read(file).await;
    let bytes =
        bytes.map_err(|error| LoadError(format!("{}: {}", file.display(), error.kind())))?;
    if bytes.len() > MAX_BYTES {
        return Err(LoadError(format!("{} is too large", file.display())));
    }
    Ok(bytes)
}
