//! HubSpot's REST API: the one place that knows its paths, its JSON and its errors.
//!
//! [`Client`] implements [`crate::leads::Upstream`], [`OAuth`] implements
//! [`leadsd_credentials::TokenSource`]. A HubSpot body is parsed or dropped, never passed on whole.

mod answer;
mod breaker;
mod client;
mod endpoints;
mod http_client;
mod inquiry;
mod limits;
mod oauth;
mod operations;
mod portals;
mod sending;
mod wire;

pub use client::{Client, Resolve};
pub use inquiry::{
    AccountFacts, Answered, App, Fault, Greeting, Inquiry, PropertyFacts, TokenFacts, Traded,
};
pub use leadsd_base::net::http::BuildError;
pub use limits::RateLimits;
pub use oauth::OAuth;
pub use portals::{Outcome, Sent, Timing, Traffic};
