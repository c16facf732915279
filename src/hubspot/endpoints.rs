//! Paths of the endpoints of diagnostics and OAuth, per API version.

use crate::config::ApiVersion;

/// API version of the account information endpoint. v3 has no such endpoint and uses the latest dated
/// version.
pub(super) fn account_info_version(version: ApiVersion) -> &'static str {
    match version {
        ApiVersion::V2026_09 | ApiVersion::V3 => "2026-09",
        ApiVersion::V2026_03 => "2026-03",
    }
}

/// Path segments of the lead properties.
pub(super) fn properties(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "properties", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "properties", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "properties", "leads"],
    }
}

/// Path segments of the lead pipelines.
pub(super) fn pipelines(version: ApiVersion) -> [&'static str; 4] {
    match version {
        ApiVersion::V2026_09 => ["crm", "pipelines", "2026-09", "leads"],
        ApiVersion::V2026_03 => ["crm", "pipelines", "2026-03", "leads"],
        ApiVersion::V3 => ["crm", "v3", "pipelines", "leads"],
    }
}

/// Path segments of the token endpoint. v1 is not used: it takes secrets in the URL and ends in February
/// 2027.
pub(super) fn token(version: ApiVersion) -> [&'static str; 3] {
    match version {
        ApiVersion::V2026_09 => ["oauth", "2026-09", "token"],
        ApiVersion::V2026_03 => ["oauth", "2026-03", "token"],
        ApiVersion::V3 => ["oauth", "v3", "token"],
    }
}

/// Appends percent-encoded path segments to a base URL.
pub(super) fn url(base: &url::Url, segments: &[&str]) -> url::Url {
    let mut url = base.clone();
    // The configuration accepts only http and https URLs, which have a path.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(segments);
    }
    url
}
