//! Sends one HTTP request to HubSpot and decodes its response. Retries, rate limits and credentials are
//! layers of the pipeline.

use std::{fmt, time::Duration};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::{
    decode,
    encode::{RequestEncoder, RequestFit},
    error_body,
    error_mapping::{self, RequestSize, outcome_unknown},
    http_client,
    limits::RateLimits,
    operations::Operation,
    wire::UnreadableFields,
};
use crate::{
    config,
    leads::{Error, Lead, MemoryCharge, Reason, Request, Response},
};
use leadsd_base::{
    net::{
        body::{self, BodyError, MeteredError},
        connect_error::ConnectError,
        egress::Egress,
        http::BuildError,
    },
    secret::Secret,
};

/// Maximum size of an error body in bytes. It has some hundred bytes for each input of a batch, and takes
/// a multiple in memory once it is parsed.
const MAX_ERROR_BODY: usize = 1 << 20;

/// Memory of a response while it is decoded, in multiples of its body: the body, and the decoded objects
/// of small leads.
const DECODING_FACTOR: usize = 3;

/// Maximum length of a record id: record ids are 64-bit integers.
const MAX_ID_DIGITS: usize = 20;

/// HTTP client for HubSpot's lead operations, with one connection pool for all portals.
#[derive(Clone)]
pub struct HubspotClient {
    http: reqwest::Client,
    egress: Egress,
    encoder: RequestEncoder,
    request_timeout: Duration,
    max_response_bytes: usize,
}

/// Response whose headers have arrived and whose body is unread.
#[derive(Debug)]
pub struct ResponseHead {
    operation: Operation,
    request_size: RequestSize,
    response: reqwest::Response,
    /// Token of the request, which no error text may repeat.
    token: Secret,
    max_response_bytes: usize,
    unreadable: UnreadableFields,
    /// Body of a success, as far as it has arrived.
    body: Vec<u8>,
}

// === impl HubspotClient ===

impl HubspotClient {
    /// Creates a client for the configured API.
    pub fn new(config: &config::Hubspot) -> Result<Self, BuildError> {
        Ok(Self {
            http: http_client::build_without_timeout(config)?,
            egress: config.egress.clone(),
            encoder: RequestEncoder::new(&config.base_url, config.api_version),
            request_timeout: config.request_timeout,
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// Maximum duration of an exchange, from connecting to the last byte of the response. The caller
    /// of [`send`](Self::send) and [`ResponseHead::read`] enforces it.
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Maximum size of a response in bytes.
    pub fn max_response_bytes(&self) -> usize {
        self.max_response_bytes
    }

    /// Checks the request against HubSpot's limits on URLs and searches. Errors if it cannot be sent at all.
    pub fn check(&self, request: &Request) -> Result<RequestFit, Error> {
        self.encoder.check(request)
    }

    /// Sends a request and waits for the headers of its response, without a timeout.
    pub fn send(
        &self,
        request: &Request,
        token: &Secret,
        trace_headers: HeaderMap,
    ) -> impl Future<Output = Result<ResponseHead, Error>> + Send + use<> {
        let operation = Operation::from(request);
        let encoded = self.encoder.encode(request);
        let request_size = RequestSize {
            url: encoded.url.as_str().len(),
            body: encoded.body.as_ref().map_or(0, |body| body.len()),
        };
        let mut http = self
            .http
            .request(encoded.method, encoded.url)
            .headers(trace_headers)
            .bearer_auth(token.expose());
        if let Some(body) = encoded.body {
            let json = HeaderValue::from_static("application/json");
            http = http.header(header::CONTENT_TYPE, json).body(body);
        }
        // Not an async function: it would keep all of the above while it waits.
        let (sent, token, max_response_bytes) =
            (http.send(), token.clone(), self.max_response_bytes);
        let egress = self.egress.clone();
        sent.map(move |sent| match sent {
            Ok(response) => match egress.check(&response) {
                Ok(()) => Ok(ResponseHead {
                    operation,
                    request_size,
                    response,
                    token,
                    max_response_bytes,
                    unreadable: UnreadableFields::default(),
                    body: Vec::new(),
                }),
                Err(error) => Err(no_connection(&error)),
            },
            Err(error) => Err(no_response(operation, &error, &egress)),
        })
    }
}

impl fmt::Debug for HubspotClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubspotClient").field("encoder", &self.encoder).finish_non_exhaustive()
    }
}

// === impl ResponseHead ===

impl ResponseHead {
    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Correlation id that HubSpot assigned to the request.
    pub fn correlation_id(&self) -> Option<&str> {
        let id = error_body::correlation_id(self.response.headers());
        id.filter(|id| !id.contains(self.token.expose()))
    }

    /// Rate limits in the headers, for the operation's bucket. Empty for an operation with a separate
    /// limit, since the headers may describe that one.
    pub fn rate_limits(&self) -> RateLimits {
        if self.operation.spec().has_own_limit() {
            return RateLimits::default();
        }
        RateLimits::from_headers(self.response.headers())
    }

    /// Values of the body that could not be read.
    pub fn unreadable(&self) -> &UnreadableFields {
        &self.unreadable
    }

    /// Reads and decodes the body, whose memory is charged to `charge`. A read errors if that exceeds a
    /// limit; the outcome of a write is read whatever the limits.
    ///
    /// An error body is read at most until `error_body_deadline`; without it, the error is mapped from the
    /// status.
    pub async fn read(
        &mut self,
        error_body_deadline: Instant,
        charge: &mut MemoryCharge,
    ) -> Result<Response, Error> {
        let result = self.read_unredacted(error_body_deadline, charge).await;
        self.redacted(result)
    }

    /// The result of a response that could not be read as a whole: the leads of a successful create that
    /// have arrived, or the one that the `Location` header names. Errors with `error` otherwise.
    pub fn incomplete(&self, error: Error) -> Result<Response, Error> {
        self.redacted(self.arrived().ok_or(error))
    }

    fn arrived(&self) -> Option<Response> {
        if !self.status().is_success() {
            return None;
        }
        let headers = self.response.headers();
        let correlation_id = error_body::correlation_id(headers);
        let arrived = decode::decode_arrived(self.operation, correlation_id, &self.body);
        arrived.or_else(|| {
            let lead = (self.operation == Operation::Create).then(|| created_lead(headers))??;
            Some(Response::Lead(lead.into()))
        })
    }

    fn redacted(&self, result: Result<Response, Error>) -> Result<Response, Error> {
        match result {
            Ok(Response::Batch(mut batch)) => {
                let errors = batch.errors.into_iter();
                batch.errors = errors.map(|error| error.redacted(self.token.expose())).collect();
                Ok(Response::Batch(batch))
            }
            Ok(response) => Ok(response),
            Err(error) => Err(error.redacted(self.token.expose())),
        }
    }

    async fn read_unredacted(
        &mut self,
        error_body_deadline: Instant,
        charge: &mut MemoryCharge,
    ) -> Result<Response, Error> {
        let Self { operation, request_size, response, token, max_response_bytes, unreadable, body } =
            self;
        let (operation, size, max_response_bytes) =
            (*operation, *request_size, *max_response_bytes);
        let status = response.status();
        if status.is_success() {
            let is_write = operation.writes();
            let reserve = |bytes: usize| {
                let bytes = bytes.saturating_mul(DECODING_FACTOR);
                if is_write {
                    charge.set(bytes);
                    return Ok(());
                }
                charge.try_set(bytes)
            };
            let read = body::read_metered(response, body, max_response_bytes, reserve);
            let decoded = match read.await {
                Ok(()) => {
                    let correlation_id = error_body::correlation_id(response.headers());
                    decode::decode(operation, status, correlation_id, body, unreadable)
                }
                Err(MeteredError::Rejected(error)) => Err(error),
                Err(MeteredError::Body(BodyError::TooLarge { .. })) => {
                    Err(error_mapping::too_large(operation))
                }
                Err(MeteredError::Body(BodyError::Broken(_))) => Err(outcome_unknown(
                    operation,
                    "the connection broke during HubSpot's response",
                )),
            };
            return decoded.or_else(|error| self.arrived().ok_or(error));
        }
        let headers = response.headers().clone();
        // Boxed: successes would carry its size.
        let max = max_response_bytes.min(MAX_ERROR_BODY);
        let reserve = |bytes| charge.set(bytes);
        let body = Box::pin(body::read_error(response, max, error_body_deadline, reserve)).await;
        let error = match body {
            // Before texts are cut: a part of a token is not recognized.
            Some(body) => {
                let body = error_body::redacted(body, token);
                error_mapping::error(operation, size, status, &headers, &body)
            }
            None => error_mapping::incomplete_error(operation, size, status, &headers),
        };
        decode::error_response(operation, error)
    }
}

/// Lead that the `Location` header names; `None` without a record id.
fn created_lead(headers: &HeaderMap) -> Option<Lead> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let id = location.rsplit('/').next()?;
    let is_id = (1..=MAX_ID_DIGITS).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_digit());
    is_id.then(|| Lead { id: id.to_owned(), is_id_only: true, ..Lead::default() })
}

/// Maps a request without a response in time.
pub fn timed_out(operation: Operation) -> Error {
    outcome_unknown(operation, "HubSpot did not respond in time")
}

/// Maps a request without a response. A request that was not sent has no side effects.
fn no_response(operation: Operation, error: &reqwest::Error, egress: &Egress) -> Error {
    // The root cause is the informative part; the outer errors repeat the URL.
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let cause = cause.to_string();
    if error.is_builder() {
        return Error::new(Reason::Internal, "internal error: the HubSpot request is invalid")
            .with_internal(cause);
    }
    if error.is_connect() {
        return no_connection(&egress.cause(error)).with_internal(cause);
    }
    let text = if error.is_timeout() {
        "HubSpot did not respond in time"
    } else {
        "the connection to HubSpot broke"
    };
    outcome_unknown(operation, text).with_internal(cause)
}

/// Maps a request that did not reach HubSpot. A failure of the proxy is one that the operators of leadsd
/// correct, so its text names the proxy.
fn no_connection(error: &ConnectError) -> Error {
    let text = match error {
        ConnectError::Proxy { proxy, cause } => {
            format!("cannot connect to HubSpot: {}", cause.advice(proxy))
        }
        ConnectError::Dns
        | ConnectError::Refused
        | ConnectError::Timeout
        | ConnectError::Certificate(_)
        | ConnectError::Tls(_)
        | ConnectError::Io(_) => "cannot connect to HubSpot".to_owned(),
    };
    Error::new(Reason::UpstreamUnavailable, text)
}
