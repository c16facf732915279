//! HubSpot's REST API: the one place that knows its paths, its JSON and its errors.
//!
//! [`Client`] implements [`crate::leads::Upstream`], [`OAuth`] implements
//! [`leadsd_credentials::TokenSource`]. A HubSpot body is parsed or dropped, never passed on whole.

mod answer;
mod breaker;
mod client;
mod diagnostics;
mod endpoints;
mod http_client;
mod limits;
mod oauth;
mod operations;
mod portals;
mod sending;
mod token_rejection;
mod wire;

pub use client::{Client, Resolve};
pub use diagnostics::{
    AccountInfo, ApiProbe, DiagnosticsClient, DiagnosticsError, ExchangedTokens, LeadsProbe,
    OAuthApp, PropertyDefinition, TokenInfo,
};
pub use leadsd_base::net::http::BuildError;
pub use limits::RateLimits;
pub use oauth::OAuth;
pub use portals::{Outcome, Sent, Timing, Traffic};
