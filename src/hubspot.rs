//! HubSpot's REST API: the one place that knows its paths, its JSON and its errors.
//!
//! [`Client`] sends one request and reads its response; [`OPERATIONS`] says how operations differ.
//! [`OAuth`] implements [`leadsd_credentials::TokenSource`]. A HubSpot body is parsed or dropped,
//! never passed on whole.

mod client;
mod decode;
mod diagnostics;
mod encode;
mod endpoints;
mod error_body;
mod error_mapping;
mod http_client;
mod limits;
mod oauth;
mod operations;
mod token_rejection;
mod wire;

pub use client::{Client, ResponseHead};
pub use diagnostics::{
    AccountInfo, ApiProbe, DiagnosticsClient, DiagnosticsError, ExchangedTokens, LeadsProbe,
    OAuthApp, PropertyDefinition, TokenInfo,
};
pub use leadsd_base::net::http::BuildError;
pub use limits::RateLimits;
pub use oauth::OAuth;
pub use operations::{
    Access, BatchForm, COUNT, Idempotency, OPERATIONS, Operation, OperationSpec, RateLimit,
};
