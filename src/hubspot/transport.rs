//! The one place that builds HTTP clients and reads bodies: explicit timeouts, no redirects, a CA
//! store that is always there, and a bound on what is read.

use std::time::Duration;

use reqwest::{Client, Response, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use tokio::time::{Instant, timeout_at};

use crate::config;

/// Shorter than the keep-alive of servers that close idle connections early.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Most bytes reserved for a body before they are there.
const MAX_RESERVED: usize = 64 * 1024;

/// Why the HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct BuildError(String);

/// Why a body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is larger than the bound.
    TooLarge,
    /// The connection broke.
    Broken,
}

/// The HTTP client for HubSpot.
pub(super) fn client(config: &config::Hubspot) -> Result<Client, BuildError> {
    let mut roots = RootCertStore::empty();
    // The public roots are compiled in: an image without a CA store starts all the same.
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("leadsd/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(config.connect_timeout)
        .timeout(config.request_timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // A token must not follow a redirect to another host.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| BuildError(error.to_string()))
}

/// Reads a body up to `max` bytes, counted after decompression.
pub(super) async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, BodyError> {
    let length = response.content_length().and_then(|length| usize::try_from(length).ok());
    // A length that is told is not believed past this: nothing of it may come.
    let mut body = Vec::with_capacity(length.unwrap_or(0).min(max).min(MAX_RESERVED));
    while let Some(chunk) = response.chunk().await.map_err(|_| BodyError::Broken)? {
        if body.len() + chunk.len() > max {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads the body of an answer that is no success, up to `max` bytes and `until`. What matters is in its
/// head: a body that is cut, too large or late counts as none, unless it can be seen that it would not
/// have been a JSON object, which tells who has answered.
pub(super) async fn read_refusal(mut response: Response, max: usize, until: Instant) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(chunk)) = timeout_at(until, response.chunk()).await {
        let Some(chunk) = chunk else { return body };
        let fits = chunk.len().min(max - body.len());
        body.extend_from_slice(&chunk[..fits]);
        if fits < chunk.len() {
            break;
        }
    }
    let is_json = body.trim_ascii_start().first().is_none_or(|first| *first == b'{');
    if is_json { Vec::new() } else { body }
}
