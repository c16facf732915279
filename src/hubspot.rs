//! Client of HubSpot's REST API. No other module knows its paths, JSON and errors.
//!
//! - [`HubspotClient`] sends one request and decodes its response. [`PortalClients`] has that of each
//!   portal.
//! - [`OPERATIONS`] is the table of operations.
//! - [`OAuth`] implements [`leadsd_credentials::TokenSource`].
//! - [`DiagnosticsClient`] serves `leadsd login` and `leadsd doctor`.
//!
//! A HubSpot body is parsed or dropped, never passed on as a whole.

mod client;
mod clients;
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
mod retry_after;
mod token_check;
mod token_rejection;
mod wire;

pub use client::{HubspotClient, ResponseHead, timed_out};
pub use clients::PortalClients;
pub use diagnostics::{
    AccountInfo, ApiArea, ApiProbe, DiagnosticsClient, DiagnosticsError, ExchangedTokens,
    JsonResponse, LeadsProbe, OAuthApp, PropertyDefinition, RawRequest, TokenInfo,
};
pub use encode::RequestFit;
pub use leadsd_base::net::http::BuildError;
pub use limits::RateLimits;
pub use oauth::OAuth;
pub use operations::{
    AccessKind, BatchForm, COUNT, Idempotency, OPERATIONS, Operation, OperationSpec, RateLimitKind,
};
pub use wire::{FIELD_COUNT, RESPONSE_FIELDS, ResponseField, UnreadableFields};
