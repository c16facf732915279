//! HTTP client for HubSpot.

use leadsd_base::net::http::{BuildError, ClientBuilder, Protocols};

use crate::config;

/// Builds the client for HubSpot's API and token endpoint. HTTP/1.1: a connection that breaks then
/// loses one request, whose outcome may be unknown, and not all that share it.
pub(super) fn build(config: &config::Hubspot) -> Result<reqwest::Client, BuildError> {
    ClientBuilder::new(config.request_timeout)
        .connect_timeout(config.connect_timeout)
        .protocols(Protocols::Http1)
        .build()
}
