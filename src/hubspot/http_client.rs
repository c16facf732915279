//! HTTP client settings for HubSpot, and sending without retries.

use http::{HeaderMap, StatusCode};
use leadsd_base::net::{
    body::{self, BodyError},
    connect_error::ConnectError,
    egress::Egress,
    http::{BuildError, ClientBuilder, Protocols},
};
use reqwest::RequestBuilder;

use crate::config;

/// Complete response of HubSpot. It has no `Debug`, since the body may contain tokens.
pub(super) struct RawResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Error of a request without a complete response.
#[derive(Debug)]
pub(super) enum SendError {
    /// No response arrived.
    Connect(ConnectError),
    /// The head of a response arrived, but not its body.
    Body { status: StatusCode, headers: HeaderMap, error: BodyError },
}

/// Builds the HTTP client for HubSpot's token endpoint and for diagnostics.
pub(super) fn build(config: &config::Hubspot) -> Result<reqwest::Client, BuildError> {
    build_with(ClientBuilder::new(config.request_timeout), config)
}

/// Builds the HTTP client for the pipeline, which bounds each exchange.
pub(super) fn build_without_timeout(
    config: &config::Hubspot,
) -> Result<reqwest::Client, BuildError> {
    build_with(ClientBuilder::without_timeout(), config)
}

/// Sets the options of all clients. They use HTTP/1.1, so that a broken connection affects one request
/// and not all that are multiplexed on it.
fn build_with(
    builder: ClientBuilder,
    config: &config::Hubspot,
) -> Result<reqwest::Client, BuildError> {
    let builder = builder.egress(&config.egress, &config.base_url);
    builder.connect_timeout(config.connect_timeout).protocols(Protocols::Http1).build()
}

/// Sends a request without retries and reads the response body up to `max_body` bytes. A complete
/// response of HubSpot with any status is `Ok`. The timeouts of the client apply.
pub(super) async fn send_once(
    request: RequestBuilder,
    egress: &Egress,
    max_body: usize,
) -> Result<RawResponse, SendError> {
    let response = request.send().await;
    let response = response.map_err(|error| SendError::Connect(egress.cause(&error)))?;
    egress.check(&response).map_err(SendError::Connect)?;
    let (status, headers) = (response.status(), response.headers().clone());
    match body::read(response, max_body).await {
        Ok(body) => Ok(RawResponse { status, headers, body }),
        Err(error) => Err(SendError::Body { status, headers, error }),
    }
}

// === impl SendError ===

impl From<SendError> for ConnectError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Connect(error) => error,
            SendError::Body { error: BodyError::TooLarge { .. }, .. } => {
                Self::Io("sent a response that is too large".to_owned())
            }
            SendError::Body { error: BodyError::Broken(_), .. } => {
                Self::Io("closed the connection during its response".to_owned())
            }
        }
    }
}
