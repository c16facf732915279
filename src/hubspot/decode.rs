//! Decodes successful responses of HubSpot.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    error_mapping::{self, invalid_response},
    operations::Operation,
    wire::{WireAssociationBatch, WireBatch, WireLead, WirePage},
};
use crate::leads::{BatchResponse, Error, Lead, Reason, Response};

/// Decodes the body of a successful response. An empty body is an empty response.
pub(super) fn decode(
    operation: Operation,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Result<Response, Error> {
    if !body.is_empty() && !is_object(body) {
        return Err(invalid_response(operation, "HubSpot's response is not a JSON object"));
    }
    match operation {
        Operation::Get | Operation::Create | Operation::Update => {
            Ok(Response::Lead(named_lead(operation, parse(operation, body)?)?.into()))
        }
        Operation::List => {
            Ok(Response::Page(parse::<WirePage>(operation, body)?.into_page().into()))
        }
        Operation::Search => {
            Ok(Response::SearchPage(parse::<WirePage>(operation, body)?.into_search_page().into()))
        }
        Operation::Archive => Ok(Response::Archived),
        Operation::BatchRead => {
            let batch: WireBatch = parse(operation, body)?;
            if batch.results.is_none() && batch.errors.is_none() {
                return Err(invalid_response(
                    operation,
                    "HubSpot's response to a batch read is empty",
                ));
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
            // An unknown id counts as archived, as in the individual operation.
            response.errors.retain(|error| error.reason() != Reason::LeadNotFound);
            Ok(Response::Batch(response))
        }
        Operation::ReadAssociations => {
            // Unknown leads are listed as errors, which are dropped.
            Ok(Response::Associations(parse::<WireAssociationBatch>(operation, body)?.into_links()))
        }
    }
}

/// Response for status 404 of an operation on unknown leads. `None` if 404 is an error.
pub(super) fn not_found(operation: Operation) -> Option<Response> {
    match operation {
        // HubSpot returns 204 for unknown ids; some API versions return 404.
        Operation::Archive => Some(Response::Archived),
        // Some API versions return 404 if every id is unknown.
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
    // Text is validated as a whole, which is faster than each string of it. Invalid bytes may be in a
    // field that is ignored.
    let parsed = match str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    };
    // Via `Value`, bodies with duplicate keys are accepted as well.
    let tolerant = |_| serde_json::from_slice::<Value>(body).and_then(serde_json::from_value);
    parsed.or_else(tolerant).map_err(|error| {
        let text = "HubSpot's response does not have the expected fields";
        invalid_response(operation, text).with_internal(error.to_string())
    })
}

/// Reports whether the body starts and ends like a JSON object. The parser checks the rest.
fn is_object(body: &[u8]) -> bool {
    matches!(body.trim_ascii(), [b'{', .., b'}'])
}

fn named_lead(operation: Operation, object: WireLead) -> Result<Lead, Error> {
    let lead = object.into_lead();
    if lead.id.is_empty() {
        return Err(invalid_response(operation, "HubSpot's response has no lead id"));
    }
    Ok(lead)
}

fn batch_response(
    operation: Operation,
    correlation_id: Option<&str>,
    batch: WireBatch,
) -> BatchResponse {
    let errors = batch.errors.unwrap_or_default();
    BatchResponse {
        results: batch.results.unwrap_or_default().into_iter().map(WireLead::into_item).collect(),
        errors: errors
            .into_iter()
            .map(|error| error_mapping::item_error(operation, correlation_id, error))
            .collect(),
    }
}
