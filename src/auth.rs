//! Authentication and authorization of callers.
//!
//! A caller proves its name with a client certificate, a bearer token (JWT) or an API key. Policies say
//! what a name may do in which portal; what no policy allows is denied. Only names leave this module: it
//! knows neither gRPC nor HubSpot.
//!
//! | Module | Does |
//! |---|---|
//! | `authenticator` | [`Auth`]: one request, its identity and its rights |
//! | `presented`, `identity` | what a request presents, and what it proves |
//! | `jwt`, `token_cache`, `jwks`, `key_set` | bearer tokens and the keys of their issuer |
//! | `api_keys` | hashes of API keys |
//! | [`certificate`] | names and expiry of client certificates |
//! | `policy` | rights |
//! | `refreshing` | a value that is loaded again and again |

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
    api_keys::owners as owners_of_api_keys,
    authenticator::{Auth, Settings, Status},
    identity::{AuthMethod, Identity},
    jwks::load_once as load_keys_once,
    policy::{Policies, Rights},
    presented::{AuthError, HeaderValue, PresentedCredentials},
    refreshing::{LoadError, SourceStatus},
};
pub use crate::config::Access;
