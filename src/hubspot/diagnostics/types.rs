//! Results and errors of diagnostic requests.

use crate::{hubspot::RateLimits, leads};
use leadsd_base::{net::connect_error::ConnectError, secret::Secret, time::Timestamp};

/// Client id and secret of an OAuth app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthApp {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: Secret,
}

/// Token response for an authorization code or a refresh token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangedTokens {
    /// New access token.
    pub access_token: Secret,
    /// Refresh token; `None` if the response has none.
    pub refresh_token: Option<Secret>,
    /// Account id; `None` if the response has none.
    pub hub_id: Option<u64>,
    /// Granted scopes; `None` if the response has none.
    pub scopes: Option<Vec<String>>,
}

/// Properties of a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TokenInfo {
    /// False if the token is unknown or has expired.
    pub active: bool,
    /// Account id.
    pub hub_id: Option<u64>,
    /// Domain of the account.
    pub hub_domain: Option<String>,
    /// Granted scopes.
    pub scopes: Option<Vec<String>>,
}

/// Properties of an account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccountInfo {
    /// Account id.
    pub hub_id: Option<u64>,
    /// Type of account, such as `STANDARD` or `SANDBOX`.
    pub kind: Option<String>,
    /// IANA name of the time zone.
    pub time_zone: Option<String>,
    /// Host of the user interface, such as `app-eu1.hubspot.com`.
    pub ui_domain: Option<String>,
}

/// Definition of a lead property: the fields that matter for request ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyDefinition {
    /// Type, such as `string`.
    pub kind: String,
    /// Field type in forms, such as `text`.
    pub field: String,
    /// True if values must be unique.
    pub unique: bool,
}

/// Result of reading a page of at most one lead.
#[derive(Debug, Clone)]
pub struct LeadsProbe {
    /// Number of leads on the page.
    pub count: usize,
    /// Rate limits in the headers of the response.
    pub limits: RateLimits,
}

/// Result of a request without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiProbe {
    /// HTTP status.
    pub status: u16,
    /// True for a response of HubSpot's API: status 401 with a JSON object.
    pub is_hubspot: bool,
    /// Time in the `Date` header.
    pub date: Option<Timestamp>,
    /// Data centre that serves the account, for example `eu1`, if HubSpot names it.
    pub correct_hublet: Option<String>,
}

/// Error of a diagnostic request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosticsError {
    /// No complete response arrived.
    #[error("HubSpot {0}")]
    Connect(ConnectError),
    /// Status 401: the token has expired.
    #[error("the access token has expired")]
    TokenExpired,
    /// Status 401 for any other cause.
    #[error("HubSpot rejected the access token as unknown")]
    Unauthorized,
    /// An OAuth endpoint rejected the request with this code.
    #[error("HubSpot rejected the credential: {0}")]
    Rejected(String),
    /// Any other error response, as the service would report it.
    #[error("{0}")]
    Api(leads::Error),
    /// The body of a successful response is invalid.
    #[error("HubSpot's response is not the expected JSON")]
    InvalidResponse,
}
