//! Encodes requests as HTTP requests: method, URL and JSON body.
//!
//! Method and path are in the table of operations; the types of JSON are here and in `wire`.

mod contacts;

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
        BatchRead, CreateLead, Direction, Error, FieldFault, Filter, LeadId, ListAssociations,
        Request, SearchLeads, Selection, UpdateLead, schema::SchemaRead,
    },
};

/// Maximum length of query and filters of a search in characters of JSON, by HubSpot's documentation.
/// Property names do not count.
const MAX_SEARCH_CHARS: usize = 3_000;

/// Maximum length of a URL in characters: HubSpot's gateways reject some URLs above 8,000 characters and
/// all above 16,000.
const MAX_URL_CHARS: usize = 8_000;

/// Total length of property names that cannot exceed [`MAX_URL_CHARS`] even if every character is
/// percent-encoded.
const SAFE_NAME_BYTES: usize = 2_000;

/// Number of owners per page: the most that HubSpot returns.
const OWNERS_PAGE: &str = "500";

/// Relation of a request to the maximum length of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFit {
    /// The request can be sent.
    Fits,
    /// The names of the selected properties do not fit in the URL. The body of a batch read takes them.
    LongSelection,
}

/// Placeholder behind the first one of a path.
const SECOND_PLACEHOLDER: &str = "{to}";

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
    /// The URL up to the first placeholder of its path.
    url: Url,
    /// The path behind that placeholder, which may have another one. `None` for a path without any.
    tail: Option<&'static str>,
}

// === impl RequestEncoder ===

impl RequestEncoder {
    /// Creates an encoder for the API at `base`.
    pub(super) fn new(base: &Url, version: ApiVersion) -> Self {
        Self { endpoints: OPERATIONS.map(|spec| Endpoint::new(base, spec.path(version))) }
    }

    /// Checks the request against HubSpot's limits on URLs and searches. Called before the request is
    /// queued for quota. Errors if it cannot be sent at all.
    pub(super) fn check(&self, request: &Request) -> Result<RequestFit, Error> {
        let selection = match request {
            Request::Search(search) => return check_search(search).map(|()| RequestFit::Fits),
            Request::Get(get) => &get.selection,
            Request::List(list) => &list.selection,
            Request::Create(_)
            | Request::Update(_)
            | Request::Archive(_)
            | Request::BatchRead(_)
            | Request::BatchCreate(_)
            | Request::BatchUpdate(_)
            | Request::Upsert { .. }
            | Request::BatchArchive(_)
            | Request::ReadAssociations { .. }
            | Request::ListAssociations(_)
            | Request::ChangeAssociations(_)
            | Request::ReadSchema(_)
            | Request::FindContacts(_)
            | Request::CreateContacts(_) => return Ok(RequestFit::Fits),
        };
        let Selection { properties, properties_with_history, associations } = selection;
        let length = |names: &[String]| names.iter().map(|name| name.len() + 1).sum::<usize>();
        let object_types = length(associations);
        if length(properties) + length(properties_with_history) + object_types <= SAFE_NAME_BYTES {
            return Ok(RequestFit::Fits);
        }
        // Exact check: percent-encoding triples commas and other characters.
        if self.encode(request).url.as_str().len() <= MAX_URL_CHARS {
            return Ok(RequestFit::Fits);
        }
        if object_types <= SAFE_NAME_BYTES {
            return Ok(RequestFit::LongSelection);
        }
        let description = "too many object types (limit: 2,000 bytes of names, or a URL of 8,000 \
                           characters with all properties); split them among several calls";
        Err(Error::invalid(vec![FieldFault::new("associations", description)]))
    }

    /// Encodes a request.
    pub(super) fn encode(&self, request: &Request) -> HttpRequest {
        let operation = Operation::from(request);
        let mut second_segment = "";
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
                (update.id.as_str(), query, Some(update_body(update)))
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
            Request::ChangeAssociations(change) => {
                (change.to.as_str(), Query::new(), Some(wire::association_changes(change)))
            }
            Request::ListAssociations(list) => {
                second_segment = &list.to;
                (list.lead.as_str(), association_page(list), None)
            }
            Request::ReadSchema(read) => schema_read(read),
            Request::FindContacts(emails) => contacts::lookup(emails),
            Request::CreateContacts(inputs) => contacts::creation(inputs),
        };
        HttpRequest {
            method: operation.spec().method.clone(),
            url: self.endpoints[operation as usize].url(segment, second_segment, &query),
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

    /// Builds the URL of a request; `segment` replaces the first placeholder, and `second` the other one.
    fn url(&self, segment: &str, second: &str, query: &[(&str, Cow<'_, str>)]) -> Url {
        let mut url = self.url.clone();
        if let Some(tail) = self.tail
            && let Ok(mut segments) = url.path_segments_mut()
        {
            let named = |part| if part == SECOND_PLACEHOLDER { second } else { part };
            segments.push(segment).extend(tail.split('/').skip(1).map(named));
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

/// Errors if query and filters are too long.
fn check_search(search: &SearchLeads) -> Result<(), Error> {
    let mut conditions = json!({});
    add_conditions(search, &mut conditions);
    if conditions.to_string().chars().count() <= MAX_SEARCH_CHARS {
        return Ok(());
    }
    let description = "query and filters exceed 3,000 characters of JSON; use fewer or shorter \
                       filters or values";
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
    add_trace_id(&mut body, request.trace_id.as_deref());
    body
}

fn update_body(request: &UpdateLead) -> Value {
    let mut body = json!({ "properties": request.properties });
    add_trace_id(&mut body, request.trace_id.as_deref());
    body
}

fn add_trace_id(body: &mut Value, trace_id: Option<&str>) {
    if let Some(trace_id) = trace_id {
        body["objectWriteTraceId"] = json!(trace_id);
    }
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
    add_conditions(request, &mut body);
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
    body
}

/// Adds query and filters to the body of a search.
fn add_conditions(request: &SearchLeads, body: &mut Value) {
    if !request.query.is_empty() {
        body["query"] = json!(request.query);
    }
    if !request.filter_groups.is_empty() {
        let groups = request.filter_groups.iter().map(|group| {
            let filters: Vec<Value> = group.filters.iter().map(filter_body).collect();
            json!({ "filters": filters })
        });
        body["filterGroups"] = Value::Array(groups.collect());
    }
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

fn association_page(list: &ListAssociations) -> Query<'_> {
    let after = list.after.as_deref().map(|after| ("after", after.into()));
    [("limit", list.limit.to_string().into())].into_iter().chain(after).collect()
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

/// Path segment and query of a read of the schema, which has no body.
fn schema_read(read: &SchemaRead) -> (&str, Query<'_>, Option<Value>) {
    match read {
        SchemaRead::Properties | SchemaRead::ValidationRules | SchemaRead::Pipelines => {
            ("", Query::new(), None)
        }
        SchemaRead::Owners { after } => {
            let mut query = vec![("limit", OWNERS_PAGE.into())];
            query.extend(after.as_deref().map(|after| ("after", after.into())));
            ("", query, None)
        }
        SchemaRead::AssociationTypes { to } => (to, Query::new(), None),
    }
}

fn id_property(name: Option<&str>) -> Option<(&'static str, Cow<'_, str>)> {
    name.map(|name| ("idProperty", name.into()))
}

fn flag(value: bool) -> Cow<'static, str> {
    if value { "true".into() } else { "false".into() }
}

#[cfg(test)]
mod tests;
