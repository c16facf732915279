//! The eleven lead operations and the associations that go with them, each as the call that HubSpot
//! takes.

use std::{borrow::Cow, collections::BTreeMap};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::{
    answer,
    client::{self, Client, Errand},
    endpoints::{self, Operation},
    wire::{self, Batch, LinkedBatch, Object, Results},
};
use crate::leads::{
    BatchAnswer, BatchRead, CallContext, CreateLead, Error, FieldFault, GetLead, ItemError, Lead,
    LeadId, Links, ListLeads, Page, Reason, SearchLeads, SearchPage, Selection, Traced, UpdateLead,
    UpsertLead, Upstream,
};

/// Longest search body HubSpot takes, in characters.
const MAX_SEARCH_CHARS: usize = 3_000;

/// Longest URL sent: HubSpot's gateways refuse some of 8 thousand characters and all of 16.
const MAX_URL_CHARS: usize = 8_000;

/// Query parameters.
type Query<'a> = Vec<(&'static str, Cow<'a, str>)>;

#[async_trait]
impl Upstream for Client {
    async fn get(&self, call: &CallContext, request: &GetLead) -> Result<Lead, Error> {
        let mut query = selection(&request.selection);
        query.push(("archived", flag(request.archived)));
        query.extend(id_property(request.id_property.as_deref()));
        let url = with_query(endpoints::lead(&self.collection, &request.id), &query);
        short_enough(&url)?;
        let send = || self.http.get(url.clone());
        let object: Object = self.json(call, Operation::Get, send).await?;
        named(Operation::Get, object)
    }

    async fn list(&self, call: &CallContext, request: &ListLeads) -> Result<Page, Error> {
        let mut query = selection(&request.selection);
        query.push(("limit", request.limit.to_string().into()));
        query.push(("archived", flag(request.archived)));
        query.extend(request.after.as_deref().map(|after| ("after", after.into())));
        let url = with_query(self.collection.clone(), &query);
        short_enough(&url)?;
        let send = || self.http.get(url.clone());
        let results: Results = self.json(call, Operation::List, send).await?;
        Ok(results.into_page())
    }

    async fn search(&self, call: &CallContext, request: &SearchLeads) -> Result<SearchPage, Error> {
        let body = search_body(request);
        if body.to_string().chars().count() > MAX_SEARCH_CHARS {
            let description = "the whole search must fit in 3,000 characters of JSON: use fewer \
                               or shorter filters, values or properties";
            return Err(Error::invalid(vec![FieldFault::new("filter_groups", description)]));
        }
        let results: Results = self.post(call, Operation::Search, "search", &[], &body).await?;
        Ok(results.into_search_page())
    }

    async fn create(&self, call: &CallContext, request: &CreateLead) -> Result<Lead, Error> {
        let body = create_body(request);
        let send = || self.http.post(self.collection.clone()).json(&body);
        let object: Object = self.json(call, Operation::Create, send).await?;
        named(Operation::Create, object)
    }

    async fn update(&self, call: &CallContext, request: &UpdateLead) -> Result<Lead, Error> {
        let query: Query<'_> = id_property(request.id_property.as_deref()).into_iter().collect();
        let url = with_query(endpoints::lead(&self.collection, &request.id), &query);
        let body = json!({ "properties": request.properties });
        let send = || self.http.patch(url.clone()).json(&body);
        let object: Object = self.json(call, Operation::Update, send).await?;
        named(Operation::Update, object)
    }

    async fn archive(&self, call: &CallContext, id: &LeadId) -> Result<(), Error> {
        let url = endpoints::lead(&self.collection, id);
        let done = self.execute(call, Operation::Archive, || self.http.delete(url.clone())).await;
        match done {
            // HubSpot answers 204 for unknown ids; a version that answers 404 means the same.
            Err(error) if error.reason() == Reason::LeadNotFound => Ok(()),
            done => done.map(drop),
        }
    }

    async fn batch_read(
        &self,
        call: &CallContext,
        request: &BatchRead,
    ) -> Result<BatchAnswer, Error> {
        let inputs: Vec<Value> =
            request.ids.iter().map(|id| json!({ "id": id.as_str() })).collect();
        let mut body = json!({
            "inputs": inputs,
            "properties": request.properties,
            "propertiesWithHistory": request.properties_with_history,
        });
        if let Some(id_property) = &request.id_property {
            body["idProperty"] = json!(id_property);
        }
        let query = [("archived", flag(request.archived))];
        let answered = self.post(call, Operation::BatchRead, "batch/read", &query, &body).await;
        match answered {
            Ok(Batch { results: None, errors: None }) => {
                let text = "HubSpot's answer to a read is empty";
                Err(client::unintelligible(Operation::BatchRead, text))
            }
            Ok(batch) => Ok(batch_answer(call, Operation::BatchRead, batch)),
            // A version that answers 404 when every id is missing.
            Err(error) if error.reason() == Reason::LeadNotFound => Ok(BatchAnswer::default()),
            Err(error) => Err(error),
        }
    }

    async fn batch_create(
        &self,
        call: &CallContext,
        inputs: &[Traced<CreateLead>],
    ) -> Result<BatchAnswer, Error> {
        let inputs: Vec<Value> = inputs
            .iter()
            .map(|traced| {
                let mut body = create_body(&traced.input);
                body["objectWriteTraceId"] = json!(traced.trace_id);
                body
            })
            .collect();
        let body = json!({ "inputs": inputs });
        let batch: Batch =
            self.post(call, Operation::BatchCreate, "batch/create", &[], &body).await?;
        Ok(batch_answer(call, Operation::BatchCreate, batch))
    }

    async fn batch_update(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpdateLead>],
    ) -> Result<BatchAnswer, Error> {
        let body = json!({ "inputs": inputs.iter().map(|traced| keyed_body(
            &traced.trace_id,
            &traced.input.id,
            traced.input.id_property.as_deref(),
            &traced.input.properties,
        )).collect::<Vec<_>>() });
        let batch: Batch =
            self.post(call, Operation::BatchUpdate, "batch/update", &[], &body).await?;
        Ok(batch_answer(call, Operation::BatchUpdate, batch))
    }

    async fn batch_upsert(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpsertLead>],
    ) -> Result<BatchAnswer, Error> {
        let body = json!({ "inputs": inputs.iter().map(|traced| keyed_body(
            &traced.trace_id,
            &traced.input.id,
            traced.input.id_property.as_deref(),
            &traced.input.properties,
        )).collect::<Vec<_>>() });
        let batch: Batch =
            self.post(call, Operation::BatchUpsert, "batch/upsert", &[], &body).await?;
        Ok(batch_answer(call, Operation::BatchUpsert, batch))
    }

    async fn batch_archive(
        &self,
        call: &CallContext,
        ids: &[LeadId],
    ) -> Result<BatchAnswer, Error> {
        let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id.as_str() })).collect();
        let body = json!({ "inputs": inputs });
        let batch: Batch =
            self.post(call, Operation::BatchArchive, "batch/archive", &[], &body).await?;
        let mut answer = batch_answer(call, Operation::BatchArchive, batch);
        // An id that is not there is archived, as in the single call.
        answer.errors.retain(|item| item.error.reason() != Reason::LeadNotFound);
        Ok(answer)
    }

    async fn associations(
        &self,
        call: &CallContext,
        leads: &[LeadId],
        to: &str,
    ) -> Result<Vec<Links>, Error> {
        let url = endpoints::url(&self.associations, &[to, "batch", "read"]);
        let inputs: Vec<Value> = leads.iter().map(|id| json!({ "id": id.as_str() })).collect();
        let body = json!({ "inputs": inputs });
        let send = || self.http.post(url.clone()).json(&body);
        // Leads that are not there are among its errors, and of no interest here.
        let linked: LinkedBatch = self.json(call, Operation::ReadAssociations, send).await?;
        Ok(linked.into_links())
    }
}

// === impl Client ===

impl Client {
    /// Posts to a path below the collection.
    async fn post<T: serde::de::DeserializeOwned + Default>(
        &self,
        call: &CallContext,
        operation: Operation,
        path: &str,
        query: &[(&'static str, Cow<'_, str>)],
        body: &Value,
    ) -> Result<T, Error> {
        let segments: Vec<&str> = path.split('/').collect();
        let url = with_query(endpoints::url(&self.collection, &segments), query);
        let send = || self.http.post(url.clone()).json(body);
        let leads = body["inputs"].as_array().map_or(1, Vec::len);
        self.json(call, Errand { operation, leads }, send).await
    }
}

/// The lead of an answer that must name it.
fn named(operation: Operation, object: Object) -> Result<Lead, Error> {
    let lead = object.into_lead();
    if lead.id.is_empty() {
        let text = "HubSpot's answer does not name the lead";
        return Err(client::unintelligible(operation, text));
    }
    Ok(lead)
}

fn batch_answer(call: &CallContext, operation: Operation, batch: Batch) -> BatchAnswer {
    let errors = batch.errors.unwrap_or_default();
    let id = call.cost.correlation_id();
    BatchAnswer {
        results: batch.results.unwrap_or_default().into_iter().map(Object::into_item).collect(),
        errors: errors
            .into_iter()
            .map(|error| ItemError { error: answer::item_error(operation, id.as_deref(), error) })
            .collect(),
    }
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
            crate::leads::Direction::Ascending => "ASCENDING",
            crate::leads::Direction::Descending => "DESCENDING",
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

fn filter_body(filter: &crate::leads::Filter) -> Value {
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

fn with_query(mut url: url::Url, query: &[(&'static str, Cow<'_, str>)]) -> url::Url {
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// Refuses a read whose URL HubSpot's gateways would not take: encoded, a comma alone takes three
/// characters.
fn short_enough(url: &url::Url) -> Result<(), Error> {
    if url.as_str().len() <= MAX_URL_CHARS {
        return Ok(());
    }
    let description = "names too many properties for one call, about 8,000 characters; \
                       BatchGetLeads takes any number";
    Err(Error::invalid(vec![FieldFault::new("properties", description)]))
}
