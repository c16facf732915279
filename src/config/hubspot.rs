//! `[hubspot]`: settings of HubSpot calls.

use std::time::Duration;

use leadsd_base::net::egress::Egress;

use super::{check::Checker, raw};
use crate::leads::ValidationMode;

/// `[hubspot]`: settings of HubSpot calls.
#[derive(Debug, Clone)]
pub struct Hubspot {
    /// Base URL of the API for portals without their own. Default `https://api.hubapi.com`.
    pub base_url: url::Url,
    /// Consent URL of `leadsd login`. Default `https://app.hubspot.com/oauth/authorize`.
    pub authorize_url: url::Url,
    /// API version, which determines the paths. Default 2026-09.
    pub api_version: ApiVersion,
    /// Timeout for a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// Timeout for an HTTP request. Default 20 s.
    pub request_timeout: Duration,
    /// Maximum size of a response in bytes, after decompression. Default 32 MiB.
    pub max_response_bytes: usize,
    /// Maximum number of attempts of a HubSpot call; 1 disables retries. Default 4.
    pub max_attempts: u32,
    /// Minimum time after which an unanswered HubSpot call counts as a failure of HubSpot. Default 1 s.
    pub breaker_min_wait: Duration,
    /// Maximum of that time. Default 10 s.
    pub breaker_max_wait: Duration,
    /// Properties of reads that select none, for portals without their own. Empty: those that HubSpot
    /// returns by itself.
    pub default_properties: Vec<String>,
    /// Validation of the writes of portals without their own setting. Default off.
    pub validate: ValidationMode,
    /// Maximum number of concurrent HubSpot batches of one call. Default 4.
    pub batch_concurrency: usize,
    /// Way to the API and the token endpoint.
    pub egress: Egress,
}

/// Version of HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// `/crm/objects/2026-09/...`
    V2026_09,
    /// `/crm/objects/2026-03/...`
    V2026_03,
    /// `/crm/v3/objects/...`
    V3,
}

// === impl Hubspot ===

impl Hubspot {
    /// The same settings for an API with another base URL.
    pub fn with_base_url(&self, base_url: &url::Url) -> Self {
        Self { base_url: base_url.clone(), ..self.clone() }
    }
}

// === impl ApiVersion ===

impl ApiVersion {
    /// Text in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2026_09 => "2026-09",
            Self::V2026_03 => "2026-03",
            Self::V3 => "v3",
        }
    }
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn hubspot(&mut self, raw: &raw::Hubspot, egress: &Egress) -> Option<Hubspot> {
        let raw::Hubspot {
            base_url,
            authorize_url,
            api_version,
            connect_timeout,
            request_timeout,
            max_response_size,
            max_attempts,
            breaker_min_wait,
            breaker_max_wait,
            default_properties,
            validate,
            batch_concurrency,
        } = raw;
        let base_url = self.hubspot_url("hubspot.base_url", base_url);
        let authorize_url = self.url("hubspot.authorize_url", authorize_url);
        let api_version = match api_version.as_str() {
            "2026-09" => Some(ApiVersion::V2026_09),
            "2026-03" => Some(ApiVersion::V2026_03),
            "v3" => Some(ApiVersion::V3),
            _ => {
                self.add_error("hubspot.api_version", "must be 2026-09, 2026-03 or v3");
                None
            }
        };
        let connect = self.duration("hubspot.connect_timeout", connect_timeout, 100, 60_000);
        let request = self.duration("hubspot.request_timeout", request_timeout, 100, 600_000);
        let size = self.size("hubspot.max_response_size", max_response_size, 64 << 10, 1 << 30);
        let attempts = self.number("hubspot.max_attempts", *max_attempts, 1, 10);
        let (min_wait, max_wait) = self.breaker_waits(breaker_min_wait, breaker_max_wait);
        let default_properties =
            self.default_properties("hubspot.default_properties", default_properties);
        let validate = self.validation_mode("hubspot.validate", validate);
        let concurrency = self.number("hubspot.batch_concurrency", *batch_concurrency, 1, 32);
        Some(Hubspot {
            base_url: base_url?,
            authorize_url: authorize_url?,
            api_version: api_version?,
            connect_timeout: connect?,
            request_timeout: request?,
            max_response_bytes: size?,
            max_attempts: u32::try_from(attempts?).unwrap_or(1),
            breaker_min_wait: min_wait?,
            breaker_max_wait: max_wait?,
            default_properties,
            validate: validate?,
            batch_concurrency: concurrency?,
            egress: egress.clone(),
        })
    }

    pub(super) fn validation_mode(&mut self, key: &str, text: &str) -> Option<ValidationMode> {
        match text {
            "off" => Some(ValidationMode::Off),
            "warn" => Some(ValidationMode::Warn),
            "enforce" => Some(ValidationMode::Enforce),
            _ => {
                self.add_error(key, "must be off, warn or enforce");
                None
            }
        }
    }

    fn breaker_waits(&mut self, min: &str, max: &str) -> (Option<Duration>, Option<Duration>) {
        let min = self.duration("hubspot.breaker_min_wait", min, 100, 600_000);
        let max = self.duration("hubspot.breaker_max_wait", max, 100, 600_000);
        if min > max && max.is_some() {
            let text = "is less than hubspot.breaker_min_wait";
            self.add_error("hubspot.breaker_max_wait", text);
        }
        (min, max)
    }
}
