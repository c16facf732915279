//! Decodes successful responses of HubSpot.

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    error_mapping::{self, invalid_response},
    operations::Operation,
    wire::{WireAssociationBatch, WireBatch, WireLead, WirePage},
};
use crate::leads::{BatchResponse, Error, Lead, Reason, Response};

/// Decodes the body of a successful response. A body without the results of its operation is an error:
/// the one that it carries, or an invalid response. Only an archive needs no body.
pub(super) fn decode(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Result<Response, Error> {
    if !body.is_empty() && !is_object(body) {
        return Err(invalid_response(operation, "HubSpot's response is not a JSON object"));
    }
    let incomplete = || incomplete(operation, status, correlation_id, body);
    match operation {
        Operation::Get | Operation::Create | Operation::Update => {
            let lead = parse::<WireLead>(operation, body)?.into_lead();
            if lead.id.is_empty() { Err(incomplete()) } else { Ok(Response::Lead(lead.into())) }
        }
        Operation::List => {
            let page = parse::<WirePage>(operation, body)?.into_page();
            let page = page.filter(|page| have_ids(&page.leads));
            page.map(|page| Response::Page(page.into())).ok_or_else(incomplete)
        }
        Operation::Search => {
            let page = parse::<WirePage>(operation, body)?.into_search_page();
            let page = page.filter(|page| have_ids(&page.leads));
            page.map(|page| Response::SearchPage(page.into())).ok_or_else(incomplete)
        }
        Operation::Archive => archived(operation, status, correlation_id, body),
        Operation::BatchRead | Operation::BatchCreate | Operation::BatchUpdate => {
            let batch: WireBatch = parse(operation, body)?;
            if batch.results.is_none() && batch.errors.is_none() {
                return Err(incomplete());
            }
            Ok(Response::Batch(batch_response(operation, correlation_id, batch)))
        }
        Operation::BatchArchive => {
            let batch: WireBatch = parse(operation, body)?;
            if batch.results.is_none() && batch.errors.is_none() {
                archived(operation, status, correlation_id, body)?;
            }
            let mut response = batch_response(operation, correlation_id, batch);
            // An unknown id counts as archived, as in the individual operation.
            response.errors.retain(|error| error.reason() != Reason::LeadNotFound);
            Ok(Response::Batch(response))
        }
        Operation::ReadAssociations => {
            // Unknown leads are listed as errors, which are dropped.
            let links = parse::<WireAssociationBatch>(operation, body)?.into_links();
            links.map(Response::Associations).ok_or_else(incomplete)
        }
    }
}

/// Error of a success without the results of its operation.
fn incomplete(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Error {
    let carried = error_mapping::carried_error(operation, status, correlation_id, body);
    carried.unwrap_or_else(|| {
        let text = match operation {
            Operation::Get | Operation::Create | Operation::Update => {
                "HubSpot's response has no lead id"
            }
            Operation::List | Operation::Search => {
                "HubSpot's response has no list of leads with ids"
            }
            Operation::Archive
            | Operation::BatchRead
            | Operation::BatchCreate
            | Operation::BatchUpdate
            | Operation::BatchArchive
            | Operation::ReadAssociations => "HubSpot's response has no results",
        };
        invalid_response(operation, text)
    })
}

/// Success of an archive, whose response needs no body, but may carry an error.
fn archived(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Result<Response, Error> {
    match error_mapping::carried_error(operation, status, correlation_id, body) {
        Some(error) if error.reason() != Reason::LeadNotFound => Err(error),
        Some(_) | None => Ok(Response::Archived),
    }
}

fn have_ids(leads: &[Lead]) -> bool {
    leads.iter().all(|lead| !lead.id.is_empty())
}

/// Response for status 404 of an operation on unknown leads. `None` if 404 is an error.
pub(super) fn not_found(operation: Operation) -> Option<Response> {
    match operation {
        // HubSpot returns 204 for unknown ids; some API versions return 404.
        Operation::Archive => Some(Response::Archived),
        // Some API versions return 404 if every id is unknown.
        Operation::BatchRead => Some(Response::Batch(BatchResponse {
            results: Vec::new(),
            errors: vec![Error::lead_not_found()],
        })),
        Operation::Get
        | Operation::List
        | Operation::Create
        | Operation::Update
        | Operation::Search
        | Operation::BatchCreate
        | Operation::BatchUpdate
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

#[cfg(test)]
mod tests;
