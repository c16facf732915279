//! Encodes requests as HTTP requests: method, URL and JSON body.

use std::{borrow::Cow, collections::BTreeMap};

use http::Method;
use serde_json::{Value, json};
use url::Url;

use super::{
    operations::{COUNT, OPERATIONS, Operation},
    wire,
};
use crate::{
    config::ApiVersion,
    leads::{
        BatchRead, CreateLead, Direction, Error, FieldFault, Filter, LeadId, Request, SearchLeads,
        Selection,
    },
};

/// Maximum length of a search body in characters, by HubSpot's documentation.
const MAX_SEARCH_CHARS: usize = 3_000;

/// Maximum length of a URL in characters: HubSpot's gateways reject some URLs above 8,000 characters and
/// all above 16,000.
const MAX_URL_CHARS: usize = 8_000;

/// Total length of property names that cannot exceed [`MAX_URL_CHARS`] even if every character is
/// percent-encoded.
const SAFE_NAME_BYTES: usize = 2_000;

/// Query parameters.
type Query<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// Encoded HTTP request.
#[derive(Debug)]
pub(super) struct HttpRequest {
    /// HTTP method.
    pub(super) method: Method,
    /// URL with query.
    pub(super) url: Url,
    /// JSON body; `None` for requests without one.
    pub(super) body: Option<Vec<u8>>,
}

/// Encoder for one API version.
#[derive(Debug, Clone)]
pub(super) struct RequestEncoder {
    endpoints: [Endpoint; COUNT],
}

/// The URL of one operation. All that requests have in common is built once.
#[derive(Debug, Clone)]
struct Endpoint {
    /// The URL up to the placeholder of its path.
    url: Url,
    /// The path behind the placeholder. `None` for a path without one.
    tail: Option<&'static str>,
}

// === impl RequestEncoder ===

impl RequestEncoder {
    /// Creates an encoder for the API at `base`.
    pub(super) fn new(base: &Url, version: ApiVersion) -> Self {
        Self { endpoints: OPERATIONS.map(|spec| Endpoint::new(base, spec.path(version))) }
    }

    /// Errors if the request exceeds HubSpot's limits on URLs or search bodies. Called before the request
    /// is queued for quota.
    pub(super) fn check(&self, request: &Request) -> Result<(), Error> {
        let (selection, hint) = match request {
            Request::Search(search) => return check_search(search),
            Request::Get(get) => (&get.selection, "properties"),
            Request::List(list) => (&list.selection, "properties"),
            Request::Create(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::BatchRead(_)
            | Request::BatchCreate(_)
            | Request::BatchUpdate(_)
            | Request::Upsert { .. }
            | Request::BatchArchive(_)
            | Request::ReadAssociations { .. } => return Ok(()),
        };
        let Selection { properties, properties_with_history, associations } = selection;
        let names = properties.iter().chain(properties_with_history).chain(associations);
        if names.map(|name| name.len() + 1).sum::<usize>() <= SAFE_NAME_BYTES {
            return Ok(());
        }
        // Exact check: percent-encoding triples commas and other characters.
        if self.encode(request).url.as_str().len() <= MAX_URL_CHARS {
            return Ok(());
        }
        let description = "too many property names (limit: a URL of 8,000 characters); use \
                           BatchGetLeads";
        Err(Error::invalid(vec![FieldFault::new(hint, description)]))
    }

    /// Encodes a request.
    pub(super) fn encode(&self, request: &Request) -> HttpRequest {
        let operation = Operation::from(request);
        let (segment, query, body) = match request {
            Request::Get(get) => {
                let mut query = selection(&get.selection);
                query.push(("archived", flag(get.archived)));
                query.extend(id_property(get.id_property.as_deref()));
                (get.id.as_str(), query, None)
            }
            Request::List(list) => {
                let mut query = selection(&list.selection);
                query.push(("limit", list.limit.to_string().into()));
                query.push(("archived", flag(list.archived)));
                query.extend(list.after.as_deref().map(|after| ("after", after.into())));
                ("", query, None)
            }
            Request::Search(search) => ("", Query::new(), Some(search_body(search))),
            Request::Create(create) => ("", Query::new(), Some(create_body(create))),
            Request::Update(update) => {
                let query = id_property(update.id_property.as_deref()).into_iter().collect();
                let body = json!({ "properties": update.properties });
                (update.id.as_str(), query, Some(body))
            }
            Request::Archive(id) => (id.as_str(), Query::new(), None),
            Request::BatchRead(read) => {
                ("", vec![("archived", flag(read.archived))], Some(read_body(read)))
            }
            Request::BatchCreate(inputs) => {
                let inputs = inputs.iter().map(|traced| {
                    let mut body = create_body(&traced.input);
                    body["objectWriteTraceId"] = json!(traced.trace_id);
                    body
                });
                ("", Query::new(), Some(inputs_body(inputs)))
            }
            Request::BatchUpdate(inputs) => {
                let inputs = inputs.iter().map(|traced| {
                    let input = &traced.input;
                    let id_property = input.id_property.as_deref();
                    keyed_body(&traced.trace_id, &input.id, id_property, &input.properties)
                });
                ("", Query::new(), Some(inputs_body(inputs)))
            }
            // Only the leads that exist: the pipeline sends an upsert in parts.
            Request::Upsert { inputs, .. } => {
                let inputs = inputs.iter().map(|traced| {
                    let input = &traced.input;
                    let id_property = input.id_property.as_deref();
                    keyed_body(&traced.trace_id, &input.id, id_property, &input.properties)
                });
                ("", Query::new(), Some(inputs_body(inputs)))
            }
            Request::BatchArchive(ids) => ("", Query::new(), Some(ids_body(ids))),
            Request::ReadAssociations { leads, to } => {
                (to.as_str(), Query::new(), Some(ids_body(leads)))
            }
        };
        HttpRequest {
            method: operation.spec().method.clone(),
            url: self.endpoints[operation as usize].url(segment, &query),
            body: body.map(|body| body.to_string().into_bytes()),
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    fn new(base: &Url, path: &'static str) -> Self {
        let placeholder = path.split_once('{').and_then(|(head, rest)| {
            let (_, tail) = rest.split_once('}')?;
            Some((head, tail))
        });
        let (head, tail) = placeholder.map_or((path, None), |(head, tail)| (head, Some(tail)));
        let mut url = base.clone();
        // The configuration accepts only http and https URLs, which have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(head.trim_end_matches('/').split('/'));
        }
        Self { url, tail }
    }

    /// Builds the URL of a request; `segment` replaces the placeholder.
    fn url(&self, segment: &str, query: &[(&str, Cow<'_, str>)]) -> Url {
        let mut url = self.url.clone();
        if let Some(tail) = self.tail
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.push(segment).extend(tail.split('/').skip(1));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

fn check_search(search: &SearchLeads) -> Result<(), Error> {
    if search_body(search).to_string().chars().count() <= MAX_SEARCH_CHARS {
        return Ok(());
    }
    let description = "the search exceeds 3,000 characters of JSON; use fewer or shorter filters, \
                       values or properties";
    Err(Error::invalid(vec![FieldFault::new("filter_groups", description)]))
}

fn read_body(request: &BatchRead) -> Value {
    let inputs: Vec<Value> = request.ids.iter().map(|id| json!({ "id": id.as_str() })).collect();
    let mut body = json!({
        "inputs": inputs,
        "properties": request.properties,
        "propertiesWithHistory": request.properties_with_history,
    });
    if let Some(id_property) = &request.id_property {
        body["idProperty"] = json!(id_property);
    }
    body
}

fn inputs_body(inputs: impl Iterator<Item = Value>) -> Value {
    json!({ "inputs": inputs.collect::<Vec<_>>() })
}

fn ids_body(ids: &[LeadId]) -> Value {
    inputs_body(ids.iter().map(|id| json!({ "id": id.as_str() })))
}

fn create_body(request: &CreateLead) -> Value {
    let mut body = json!({ "properties": request.properties });
    if !request.associations.is_empty() {
        body["associations"] = json!(wire::associations(&request.associations));
    }
    body
}

fn keyed_body(
    trace_id: &str,
    id: &LeadId,
    id_property: Option<&str>,
    properties: &BTreeMap<String, String>,
) -> Value {
    let mut body = json!({
        "id": id.as_str(),
        "properties": properties,
        "objectWriteTraceId": trace_id,
    });
    if let Some(id_property) = id_property {
        body["idProperty"] = json!(id_property);
    }
    body
}

fn search_body(request: &SearchLeads) -> Value {
    let mut body = json!({ "limit": request.limit });
    if !request.query.is_empty() {
        body["query"] = json!(request.query);
    }
    if !request.properties.is_empty() {
        body["properties"] = json!(request.properties);
    }
    if let Some(after) = &request.after {
        body["after"] = json!(after);
    }
    if let Some(sort) = &request.sort {
        let direction = match sort.direction {
            Direction::Ascending => "ASCENDING",
            Direction::Descending => "DESCENDING",
        };
        body["sorts"] = json!([{ "propertyName": sort.property_name, "direction": direction }]);
    }
    if !request.filter_groups.is_empty() {
        let groups = request.filter_groups.iter().map(|group| {
            let filters: Vec<Value> = group.filters.iter().map(filter_body).collect();
            json!({ "filters": filters })
        });
        body["filterGroups"] = Value::Array(groups.collect());
    }
    body
}

fn filter_body(filter: &Filter) -> Value {
    let mut body =
        json!({ "propertyName": filter.property_name, "operator": filter.operator.as_str() });
    if let Some(value) = &filter.value {
        body["value"] = json!(value);
    }
    if let Some(high_value) = &filter.high_value {
        body["highValue"] = json!(high_value);
    }
    if !filter.values.is_empty() {
        body["values"] = json!(filter.values);
    }
    body
}

fn selection(selection: &Selection) -> Query<'_> {
    [
        ("properties", &selection.properties),
        ("propertiesWithHistory", &selection.properties_with_history),
        ("associations", &selection.associations),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(key, names)| (key, names.join(",").into()))
    .collect()
}

fn id_property(name: Option<&str>) -> Option<(&'static str, Cow<'_, str>)> {
    name.map(|name| ("idProperty", name.into()))
}

fn flag(value: bool) -> Cow<'static, str> {
    if value { "true".into() } else { "false".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leads::GetLead;

    fn encoder(version: ApiVersion) -> RequestEncoder {
        RequestEncoder::new(&Url::parse("https://api.hubapi.com").unwrap(), version)
    }

    fn get(id: &str, properties: Vec<String>) -> Request {
        let selection = Selection { properties, ..Selection::default() };
        let id = LeadId::parse(id).unwrap();
        Request::Get(GetLead { id, id_property: None, selection, archived: false })
    }

    #[test]
    fn an_id_cannot_change_the_path() {
        for (id, encoded) in [("a b%2f", "a%20b%252f"), ("ä&x=1", "%C3%A4&x=1"), ("...", "...")] {
            let request = encoder(ApiVersion::V3).encode(&get(id, Vec::new()));
            assert_eq!(request.url.path(), format!("/crm/v3/objects/leads/{encoded}"));
            assert_eq!(request.url.query(), Some("archived=false"));
        }
    }

    #[test]
    fn every_api_version_has_its_path() {
        for (version, path) in [
            (ApiVersion::V2026_09, "/crm/associations/2026-09/leads/contacts/batch/read"),
            (ApiVersion::V2026_03, "/crm/associations/2026-03/leads/contacts/batch/read"),
            (ApiVersion::V3, "/crm/v4/associations/leads/contacts/batch/read"),
        ] {
            let request =
                Request::ReadAssociations { leads: Vec::new(), to: "contacts".to_owned() };
            assert_eq!(encoder(version).encode(&request).url.path(), path);
        }
    }

    #[test]
    fn a_url_above_the_maximum_is_rejected() {
        let names = |count: usize| (0..count).map(|n| format!("property_{n:05}")).collect();
        let encoder = encoder(ApiVersion::V3);
        assert_eq!(encoder.check(&get("1", names(10))), Ok(()));
        assert_eq!(encoder.check(&get("1", names(400))), Ok(()));
        let error = encoder.check(&get("1", names(1_000))).unwrap_err();
        assert_eq!(error.fields()[0].field, "properties");
    }
}
