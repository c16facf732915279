//! Decodes successful responses of HubSpot.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    error_mapping::{self, invalid_response},
    operations::Operation,
    wire::{Batch, LinkedBatch, Object, Results},
};
use crate::leads::{BatchResponse, Error, Lead, Reason, Response};

/// Decodes the body of a success. An empty body is an empty response.
pub(super) fn decode(
    operation: Operation,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Result<Response, Error> {
    if !body.is_empty() && !is_object(body) {
        return Err(invalid_response(operation, "HubSpot's answer is no JSON object"));
    }
    match operation {
        Operation::Get | Operation::Create | Operation::Update => {
            Ok(Response::Lead(named_lead(operation, parse(operation, body)?)?))
        }
        Operation::List => Ok(Response::Page(parse::<Results>(operation, body)?.into_page())),
        Operation::Search => {
            Ok(Response::SearchPage(parse::<Results>(operation, body)?.into_search_page()))
        }
        Operation::Archive => Ok(Response::Archived),
        Operation::BatchRead => {
            let batch: Batch = parse(operation, body)?;
            if batch.results.is_none() && batch.errors.is_none() {
                return Err(invalid_response(operation, "HubSpot's answer to a read is empty"));
            }
            Ok(Response::Batch(batch_response(operation, correlation_id, batch)))
        }
        Operation::BatchCreate | Operation::BatchUpdate | Operation::BatchUpsert => {
            let batch = parse(operation, body)?;
            Ok(Response::Batch(batch_response(operation, correlation_id, batch)))
        }
        Operation::BatchArchive => {
            let batch = parse(operation, body)?;
            let mut response = batch_response(operation, correlation_id, batch);
            // An id that does not exist counts as archived, as in the single operation.
            response.errors.retain(|error| error.reason() != Reason::LeadNotFound);
            Ok(Response::Batch(response))
        }
        Operation::ReadAssociations => {
            // Leads that do not exist are among its errors and are left out.
            Ok(Response::Associations(parse::<LinkedBatch>(operation, body)?.into_links()))
        }
    }
}

/// The response of an operation that HubSpot answers with 404 if the leads do not exist. `None` if
/// that is an error.
pub(super) fn not_found(operation: Operation) -> Option<Response> {
    match operation {
        // HubSpot answers 204 for unknown ids; a version that answers 404 means the same.
        Operation::Archive => Some(Response::Archived),
        // A version that answers 404 if every id is unknown.
        Operation::BatchRead => Some(Response::Batch(BatchResponse::default())),
        Operation::Get
        | Operation::List
        | Operation::Create
        | Operation::Update
        | Operation::Search
        | Operation::BatchCreate
        | Operation::BatchUpdate
        | Operation::BatchUpsert
        | Operation::BatchArchive
        | Operation::ReadAssociations => None,
    }
}

fn parse<T: DeserializeOwned + Default>(operation: Operation, body: &[u8]) -> Result<T, Error> {
    if body.is_empty() {
        return Ok(T::default());
    }
    // A body that the type rejects may still be read more tolerantly, for example one with
    // duplicate keys.
    let tolerant = |_| serde_json::from_slice::<Value>(body).and_then(serde_json::from_value);
    serde_json::from_slice(body).or_else(tolerant).map_err(|error| {
        let text = "HubSpot's answer does not have the expected shape";
        invalid_response(operation, text).with_internal(error.to_string())
    })
}

/// Whether the body looks like one JSON object. The parser checks what is between the braces.
fn is_object(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), [b'{', .., b'}'])
}

fn named_lead(operation: Operation, object: Object) -> Result<Lead, Error> {
    let lead = object.into_lead();
    if lead.id.is_empty() {
        return Err(invalid_response(operation, "HubSpot's answer does not name the lead"));
    }
    Ok(lead)
}

fn batch_response(
    operation: Operation,
    correlation_id: Option<&str>,
    batch: Batch,
) -> BatchResponse {
    let errors = batch.errors.unwrap_or_default();
    BatchResponse {
        results: batch.results.unwrap_or_default().into_iter().map(Object::into_item).collect(),
        errors: errors
            .into_iter()
            .map(|error| error_mapping::item_error(operation, correlation_id, error))
            .collect(),
    }
}
