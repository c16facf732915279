//! Authentication and authorization of callers.
//!
//! Callers authenticate with a client certificate, a bearer token (JWT) or an API key. Policies grant
//! rights to caller names per portal; access without a matching policy is denied. Credentials stay inside
//! this module; it knows neither gRPC nor HubSpot.
//!
//! | Module | Does |
//! |---|---|
//! | `authenticator` | [`Authenticator`]: authenticates requests and looks up rights |
//! | `presented`, `identity` | credentials of a request, and the identity they prove |
//! | `jwt`, `token_cache`, `jwks`, `key_set` | verify bearer tokens with the keys of their issuer |
//! | `api_keys` | compare API keys with stored hashes |
//! | [`certificate`] | read names and expiry of client certificates |
//! | `policy` | evaluate policies |
//! | `refreshing` | load a value periodically |

mod api_keys;
mod authenticator;
pub mod certificate;
mod identity;
mod jwks;
mod jwt;
mod key_set;
mod policy;
mod presented;
mod refreshing;
mod token_cache;

#[cfg(test)]
mod tests;

pub use self::{
    api_keys::{ApiKeyVerifier, api_key_owners},
    authenticator::{AuthStatus, Authenticator, Settings},
    identity::{AuthMethod, Identity},
    jwks::load_jwks,
    policy::{Policies, Rights},
    presented::{AuthError, HeaderValue, PresentedCredentials},
    refreshing::{LoadError, SourceStatus},
};
pub use crate::config::Access;
