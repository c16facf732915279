//! Requests that observe HubSpot's behaviour: a response with any status is a result.

use http::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::{DiagnosticsClient, leads_path};
use crate::{
    config::ApiVersion,
    hubspot::{endpoints, http_client::RawResponse, limits::RateLimits, operations::Operation},
};
use leadsd_base::{net::connect_error::ConnectError, secret::Secret};

/// Part of HubSpot's API that a path is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiArea {
    /// Leads in the configured version.
    Leads,
    /// Leads in the beta of 2026-09, the only version that merges leads.
    LeadsBeta,
    /// Companies.
    Companies,
    /// Contacts.
    Contacts,
    /// Deals.
    Deals,
    /// Owners.
    Owners,
    /// Definitions of the properties of leads.
    Properties,
    /// Batches of the associations of leads with contacts.
    ContactAssociations,
    /// Batches of the associations of leads with companies.
    CompanyAssociations,
}

/// Request that is sent unchanged.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// Method.
    pub method: Method,
    /// Part of the API.
    pub area: ApiArea,
    /// Path below the area, without slashes at its ends; may be empty.
    pub path: String,
    /// Query parameters.
    pub query: Vec<(&'static str, String)>,
    /// JSON body.
    pub body: Option<Value>,
}

/// Response with any status.
#[derive(Debug, Clone)]
pub struct JsonResponse {
    /// HTTP status.
    pub status: u16,
    /// JSON body; null if it is not JSON.
    pub body: Value,
    /// Rate limits in the headers.
    pub limits: RateLimits,
}

// === impl DiagnosticsClient ===

impl DiagnosticsClient {
    /// Sends a request with a token. Errors only without a complete response.
    pub async fn raw(
        &self,
        request: &RawRequest,
        token: &Secret,
        deadline: Instant,
    ) -> Result<JsonResponse, ConnectError> {
        let RawRequest { method, area, path, query, body } = request;
        let mut segments = area.path(self.version);
        segments.extend(path.split('/').filter(|segment| !segment.is_empty()));
        let url = endpoints::url(&self.base, &segments);
        let mut http = self.http.request(method.clone(), url).query(query);
        if let Some(body) = body {
            http = http.json(body);
        }
        let RawResponse { status, headers, body } =
            self.send(http.bearer_auth(token.expose()), deadline).await?;
        Ok(JsonResponse {
            status: status.as_u16(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            limits: RateLimits::from_headers(&headers),
        })
    }
}

// === impl ApiArea ===

impl ApiArea {
    fn path(self, version: ApiVersion) -> Vec<&'static str> {
        match (self, version) {
            (Self::Leads, _) => leads_path(version),
            (Self::LeadsBeta, _) => vec!["crm", "objects", "2026-09-beta", "leads"],
            (Self::Companies, _) => objects_path(version, "companies"),
            (Self::Contacts, _) => objects_path(version, "contacts"),
            (Self::Deals, _) => objects_path(version, "deals"),
            (Self::Owners, _) => Operation::ListOwners.spec().path(version).split('/').collect(),
            (Self::Properties, _) => endpoints::properties(version).to_vec(),
            (Self::ContactAssociations, _) => associations_path(version, "contacts"),
            (Self::CompanyAssociations, _) => associations_path(version, "companies"),
        }
    }
}

fn objects_path(version: ApiVersion, object: &'static str) -> Vec<&'static str> {
    match version {
        ApiVersion::V3 => vec!["crm", "v3", "objects", object],
        ApiVersion::V2026_03 => vec!["crm", "objects", "2026-03", object],
        ApiVersion::V2026_09 => vec!["crm", "objects", "2026-09", object],
    }
}

/// Path of the associations of leads with an object type, above its batches.
fn associations_path(version: ApiVersion, to: &'static str) -> Vec<&'static str> {
    let path = Operation::ReadAssociations.spec().path(version);
    let path = path.strip_suffix("/batch/read").unwrap_or(path);
    path.split('/').map(|segment| if segment == "{to}" { to } else { segment }).collect()
}
