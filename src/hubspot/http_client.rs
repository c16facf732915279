//! HTTP client for HubSpot, and how one request is sent once.

use http::{HeaderMap, StatusCode};
use leadsd_base::net::{
    body::{self, BodyError},
    connect_error::{self, ConnectError},
    http::{BuildError, ClientBuilder, Protocols},
};
use reqwest::RequestBuilder;

use crate::config;

/// Response of HubSpot, read to its end. Its body may hold tokens, so there is no `Debug`.
pub(super) struct RawResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Reason why there is no complete response.
#[derive(Debug)]
pub(super) enum SendError {
    /// No response arrived.
    Connect(ConnectError),
    /// The head of a response arrived, and its body did not.
    Body { status: StatusCode, headers: HeaderMap, error: BodyError },
}

/// Builds the client for HubSpot's API and token endpoint. HTTP/1.1: a connection that breaks then
/// loses one request, whose outcome may be unknown, and not all that share it.
pub(super) fn build(config: &config::Hubspot) -> Result<reqwest::Client, BuildError> {
    ClientBuilder::new(config.request_timeout)
        .connect_timeout(config.connect_timeout)
        .protocols(Protocols::Http1)
        .build()
}

/// Sends a request once, without retries, and reads the response body up to `max_body` bytes. Whatever
/// the status, a complete response is a success here. The client's timeouts bound the time.
pub(super) async fn send_once(
    request: RequestBuilder,
    max_body: usize,
) -> Result<RawResponse, SendError> {
    let response = request.send().await;
    let response = response.map_err(|error| SendError::Connect(connect_error::cause(&error)))?;
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
                Self::Io("the answer is too large".to_owned())
            }
            SendError::Body { error: BodyError::Broken(_), .. } => {
                Self::Io("the answer broke off".to_owned())
            }
        }
    }
}
