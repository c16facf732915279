//! What the command line learns from HubSpot.

use crate::{hubspot::RateLimits, leads};
use leadsd_base::{net::connect_error::ConnectError, secret::Secret, time::Timestamp};

/// An OAuth app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthApp {
    /// Its public id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
}

/// Tokens that an authorization code or a refresh token was exchanged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangedTokens {
    /// New access token.
    pub access_token: Secret,
    /// Refresh token, if the response has one.
    pub refresh_token: Option<Secret>,
    /// Id of the account, if the response names it.
    pub hub_id: Option<u64>,
    /// Granted scopes, if the response names them.
    pub scopes: Option<Vec<String>>,
}

/// Properties of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenInfo {
    /// False if the token is unknown or has expired.
    pub active: bool,
    /// Id of its account.
    pub hub_id: Option<u64>,
    /// Domain of its account.
    pub hub_domain: Option<String>,
    /// Its scopes.
    pub scopes: Option<Vec<String>>,
}

/// Properties of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountInfo {
    /// Its id.
    pub hub_id: Option<u64>,
    /// Such as `STANDARD` or `SANDBOX`.
    pub kind: Option<String>,
    /// IANA name of its time zone.
    pub time_zone: Option<String>,
    /// Host of its user interface, such as `app-eu1.hubspot.com`.
    pub ui_domain: Option<String>,
}

/// Definition of a lead property, as far as it matters for request ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyDefinition {
    /// Such as `string`.
    pub kind: String,
    /// Field type in forms, such as `text`.
    pub field: String,
    /// Whether values are unique.
    pub unique: bool,
}

/// Outcome of reading one page of leads.
#[derive(Debug, Clone)]
pub struct LeadsProbe {
    /// Number of leads on the page, which has at most one.
    pub count: usize,
    /// Rate limits in the headers of the response.
    pub limits: RateLimits,
}

/// Outcome of a request without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiProbe {
    /// Status of the response.
    pub status: u16,
    /// Whether the response is one of HubSpot's API: status 401 with a JSON object.
    pub is_hubspot: bool,
    /// Clock of the server, if the response has a date.
    pub date: Option<Timestamp>,
}

/// Failure of a diagnostic request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosticsError {
    /// No complete response arrived.
    #[error("HubSpot {0}")]
    Connect(ConnectError),
    /// Status 401: the token has expired.
    #[error("the access token has expired")]
    TokenExpired,
    /// Status 401 for another reason.
    #[error("HubSpot does not know the access token")]
    Unauthorized,
    /// An OAuth endpoint rejected the request with this code, one of those that are known.
    #[error("HubSpot refuses the credential: {0}")]
    Rejected(&'static str),
    /// Any other error response, as the service would report it.
    #[error("{0}")]
    Api(leads::Error),
    /// A success whose body cannot be understood.
    #[error("HubSpot's answer cannot be understood")]
    InvalidResponse,
}
