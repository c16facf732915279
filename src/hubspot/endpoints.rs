//! Paths of the endpoints that the diagnostics and the token client use, in the three API versions.

use crate::config::ApiVersion;

/// The dated version whose account information goes with it; v3 has none of its own.
pub(super) fn dated(version: ApiVersion) -> &'static str {
    match version {
        ApiVersion::V2026_09 | ApiVersion::V3 => "2026-09",
        ApiVersion::V2026_03 => "2026-03",
    }
}

/// Path segments of the properties of leads.
pub(super) fn properties(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "properties", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "properties", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "properties", "leads"],
    }
}

/// Path segments of the pipelines of leads.
pub(super) fn pipelines(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "pipelines", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "pipelines", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "pipelines", "leads"],
    }
}

/// Path of the token endpoint. Only v3 and the dated ones take everything in the body; v1 ends in
/// February 2027.
pub(super) fn token(version: ApiVersion) -> [&'static str; 3] {
    match version {
        ApiVersion::V2026_09 => ["oauth", "2026-09", "token"],
        ApiVersion::V2026_03 => ["oauth", "2026-03", "token"],
        ApiVersion::V3 => ["oauth", "v3", "token"],
    }
}

/// Appends path segments to a base URL; each is percent-encoded.
pub(super) fn url(base: &url::Url, segments: &[&str]) -> url::Url {
    let mut url = base.clone();
    // The configuration takes http and https URLs only, and those have a path.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
