//! Decodes successful responses of HubSpot.

use http::StatusCode;
use serde_json::Value;

use super::{
    error_mapping::{self, invalid_response},
    operations::{Idempotency, Operation},
    wire::{
        self, UnreadableFields, WireAssociationBatch, WireAssociationChanges, WireAssociationPage,
        WireBatch, WireLabel, WireLead, WireOwner, WirePage, WirePipeline, WireProperty,
        WirePropertyRules, WireResults, without_byte_order_mark,
    },
};
use crate::leads::{BatchResponse, Error, Links, Reason, Response, schema::SchemaPage};

/// End of the subcategory of an error about leads without associations to an object type.
const NO_ASSOCIATIONS: &str = "NO_ASSOCIATIONS_FOUND";

/// Decodes the body of a successful response. A body without the results of its operation is an error:
/// the one that it carries, or an invalid response. Only an archive needs no body. Values that cannot be
/// read are left out and counted.
pub(super) fn decode(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Result<Response, Error> {
    let body = without_byte_order_mark(body);
    let decoded = decode_complete(operation, status, correlation_id, body, unreadable);
    decoded.or_else(|error| decode_truncated(operation, correlation_id, body).ok_or(error))
}

fn decode_complete(
    operation: Operation,
    status: StatusCode,
    correlation_id: Option<&str>,
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Result<Response, Error> {
    if !body.is_empty() && !is_object(body) {
        return Err(invalid_response(operation, "HubSpot's response is not a JSON object"));
    }
    let incomplete = || incomplete(operation, status, correlation_id, body);
    let carried = || error_mapping::carried_error(operation, status, correlation_id, body);
    match operation {
        Operation::Get | Operation::Create | Operation::Update => {
            lead(operation, body, unreadable, carried)?.ok_or_else(incomplete)
        }
        Operation::List => {
            let page = parse::<WirePage>(operation, body, unreadable)?.into_page();
            let page = page.ok_or_else(incomplete)?;
            if let Some(error) = page.leads.is_empty().then(carried).flatten() {
                return Err(error);
            }
            Ok(Response::Page(page.into()))
        }
        Operation::Search => {
            let page = parse::<WirePage>(operation, body, unreadable)?.into_search_page();
            let page = page.ok_or_else(incomplete)?;
            if let Some(error) = page.leads.is_empty().then(carried).flatten() {
                return Err(error);
            }
            Ok(Response::SearchPage(page.into()))
        }
        Operation::Archive => archived(operation, status, correlation_id, body),
        Operation::BatchRead
        | Operation::BatchCreate
        | Operation::BatchUpdate
        | Operation::FindContacts
        | Operation::CreateContacts => {
            batch(operation, correlation_id, body, unreadable, carried)?.ok_or_else(incomplete)
        }
        Operation::BatchArchive => {
            let batch: WireBatch = parse(operation, body, unreadable)?;
            changed(operation, correlation_id, batch, carried)
        }
        Operation::CreateAssociations
        | Operation::ArchiveAssociations
        | Operation::ArchiveAssociationTypes => {
            let batch = association_changes(operation, body, unreadable)?.ok_or_else(incomplete)?;
            changed(operation, correlation_id, batch, carried)
        }
        Operation::ReadAssociations | Operation::ListAssociations => {
            associations(operation, body, unreadable, carried)?.ok_or_else(incomplete)
        }
        // An error object has no list of results.
        Operation::ListProperties => {
            schema(operation, body, unreadable, WireResults::<WireProperty>::into_properties)?
                .ok_or_else(incomplete)
        }
        Operation::ListValidationRules => {
            schema(operation, body, unreadable, WireResults::<WirePropertyRules>::into_rules)?
                .ok_or_else(incomplete)
        }
        Operation::ListPipelines => {
            schema(operation, body, unreadable, WireResults::<WirePipeline>::into_pipelines)?
                .ok_or_else(incomplete)
        }
        Operation::ListOwners => {
            schema(operation, body, unreadable, WireResults::<WireOwner>::into_owners)?
                .ok_or_else(incomplete)
        }
        Operation::ListAssociationTypes => {
            schema(operation, body, unreadable, WireResults::<WireLabel>::into_association_types)?
                .ok_or_else(incomplete)
        }
    }
}

/// Decodes the response to a batch. `None` without results and errors. Errors with the error that the body is.
fn batch(
    operation: Operation,
    correlation_id: Option<&str>,
    body: &[u8],
    unreadable: &mut UnreadableFields,
    carried: impl FnOnce() -> Option<Error>,
) -> Result<Option<Response>, Error> {
    let batch: WireBatch = parse(operation, body, unreadable)?;
    if let Some(error) = carried_by_batch(&batch, carried) {
        return Err(error);
    }
    let is_complete = batch.results.is_some() || batch.errors.is_some();
    let response = is_complete.then(|| batch_response(operation, correlation_id, batch));
    Ok(response.map(Response::Batch))
}

/// Response to changes that return no records. What does not exist counts as removed, as in the individual
/// operation. Errors with the error that the body is.
fn changed(
    operation: Operation,
    correlation_id: Option<&str>,
    batch: WireBatch,
    carried: impl FnOnce() -> Option<Error>,
) -> Result<Response, Error> {
    if let Some(error) = carried_by_batch(&batch, carried) {
        return Err(error);
    }
    let mut response = batch_response(operation, correlation_id, batch);
    response.errors.retain(|error| error.reason() != Reason::LeadNotFound);
    Ok(Response::Batch(response))
}

/// Decodes a list of the schema. `None` without results.
fn schema<T>(
    operation: Operation,
    body: &[u8],
    unreadable: &mut UnreadableFields,
    into: impl FnOnce(WireResults<T>) -> Option<SchemaPage>,
) -> Result<Option<Response>, Error>
where
    WireResults<T>: wire::Body + Default,
{
    Ok(into(parse(operation, body, unreadable)?).map(Response::Schema))
}

/// Decodes the response to a change of associations. `None` without results, which only a removal may lack.
fn association_changes(
    operation: Operation,
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Result<Option<WireBatch>, Error> {
    let changes: WireAssociationChanges = parse(operation, body, unreadable)?;
    let is_complete = changes.results.is_some() || changes.errors.is_some();
    let batch = WireBatch { results: None, errors: changes.errors };
    Ok(Some(batch).filter(|_| is_complete || operation != Operation::CreateAssociations))
}

/// Decodes associations of one lead or of several. `None` without results.
fn associations(
    operation: Operation,
    body: &[u8],
    unreadable: &mut UnreadableFields,
    carried: impl FnOnce() -> Option<Error>,
) -> Result<Option<Response>, Error> {
    let (response, has_results) = if operation == Operation::ListAssociations {
        let page = parse::<WireAssociationPage>(operation, body, unreadable)?.into_domain();
        let has_results = page.as_ref().is_some_and(|page| !page.objects.is_empty());
        (page.map(|page| Response::Associated(page.into())), has_results)
    } else {
        let batch: WireAssociationBatch = parse(operation, body, unreadable)?;
        let has_results = !batch.is_without_results();
        let links = batch.into_links().map(|(mut links, errors)| {
            links.extend(
                errors.into_iter().flat_map(|error| without_associations(operation, error)),
            );
            links
        });
        (links.map(Response::Associations), has_results)
    };
    let error = if has_results { None } else { carried() };
    error.map_or(Ok(response), Err)
}

/// The leads of an error that says that they have no associations. Other errors are about unknown leads, and
/// are dropped.
fn without_associations(operation: Operation, error: Value) -> Vec<Links> {
    let error = error_mapping::item_error(operation, None, error);
    let kind = error.upstream().sub_category.as_deref().unwrap_or_default();
    if !kind.ends_with(NO_ASSOCIATIONS) {
        return Vec::new();
    }
    error.affected_inputs().ids.iter().cloned().map(Links::none).collect()
}

/// Reads a lead; `None` if the body has no id. Errors with the error that the body is.
fn lead(
    operation: Operation,
    body: &[u8],
    unreadable: &mut UnreadableFields,
    carried: impl FnOnce() -> Option<Error>,
) -> Result<Option<Response>, Error> {
    let lead = parse::<WireLead>(operation, body, unreadable)?.into_lead();
    if lead.id.is_empty() {
        return Ok(None);
    }
    // Error objects may have an id. A lead has properties and times.
    if lead.properties.is_empty()
        && lead.create_time.is_none()
        && let Some(error) = carried()
    {
        return Err(error);
    }
    Ok(Some(Response::Lead(lead.into())))
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
            | Operation::ReadAssociations
            | Operation::ListAssociations
            | Operation::CreateAssociations
            | Operation::ArchiveAssociations
            | Operation::ArchiveAssociationTypes
            | Operation::ListProperties
            | Operation::ListPipelines
            | Operation::ListOwners
            | Operation::ListAssociationTypes
            | Operation::ListValidationRules
            | Operation::FindContacts
            | Operation::CreateContacts => "HubSpot's response has no results",
        };
        invalid_response(operation, text)
    })
}

/// The error object that a batch without results is. An error object has details under the key that
/// batches use for the errors of their inputs.
fn carried_by_batch(batch: &WireBatch, carried: impl FnOnce() -> Option<Error>) -> Option<Error> {
    if batch.results.as_ref().is_some_and(|results| !results.is_empty()) {
        return None;
    }
    let mut items = batch.errors.iter().flatten();
    let has_input_errors = items.any(|item| item.get("category").is_some());
    // Details have no category. The errors of inputs do, and say more than the status of their batch.
    carried().filter(|error| error.upstream().category.is_some() || !has_input_errors)
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

/// Decodes the part of a response to a create that has arrived. `None` if it shows no lead, and for
/// operations that can be repeated.
pub(super) fn decode_arrived(
    operation: Operation,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Option<Response> {
    match operation.spec().idempotency {
        Idempotency::Idempotent => None,
        Idempotency::NotIdempotent => {
            decode_truncated(operation, correlation_id, without_byte_order_mark(body))
        }
    }
}

/// Decodes the beginning of a response to a write whose rest is missing or malformed: what it shows has
/// taken effect. `None` if it shows no lead, or if nothing is missing.
fn decode_truncated(
    operation: Operation,
    correlation_id: Option<&str>,
    body: &[u8],
) -> Option<Response> {
    if wire::is_complete_object(body) || wire::may_be_error(body) {
        return None;
    }
    let mut unreadable = UnreadableFields::default();
    match operation {
        Operation::Create | Operation::Update => {
            let lead = wire::parse_truncated::<WireLead>(body, &mut unreadable)?.into_lead();
            is_record_id(&lead.id).then(|| Response::Lead(lead.id_only().into()))
        }
        Operation::BatchCreate | Operation::BatchUpdate => {
            let batch = wire::parse_truncated(body, &mut unreadable)?;
            let mut response = batch_response(operation, correlation_id, batch);
            response.results.retain(|item| is_record_id(&item.lead.id));
            // A part of the last one may be missing.
            let last = response.results.last_mut()?;
            last.lead = last.lead.id_only();
            Some(Response::Batch(response))
        }
        Operation::Get
        | Operation::List
        | Operation::Search
        | Operation::Archive
        | Operation::BatchRead
        | Operation::BatchArchive
        | Operation::ReadAssociations
        | Operation::ListAssociations
        | Operation::CreateAssociations
        | Operation::ArchiveAssociations
        | Operation::ArchiveAssociationTypes
        | Operation::ListProperties
        | Operation::ListPipelines
        | Operation::ListOwners
        | Operation::ListAssociationTypes
        | Operation::ListValidationRules
        | Operation::FindContacts
        | Operation::CreateContacts => None,
    }
}

/// True if the id is a number. The ids of error objects are not.
fn is_record_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|digit| digit.is_ascii_digit())
}

/// Evaluates the error of a response with an error status. HubSpot returns 204 for the archive of an
/// unknown id; some API versions return 404.
pub(super) fn error_response(operation: Operation, error: Error) -> Result<Response, Error> {
    if operation == Operation::Archive && error.reason() == Reason::LeadNotFound {
        return Ok(Response::Archived);
    }
    Err(error)
}

fn parse<T: wire::Body + Default>(
    operation: Operation,
    body: &[u8],
    unreadable: &mut UnreadableFields,
) -> Result<T, Error> {
    if body.is_empty() {
        return Ok(T::default());
    }
    wire::parse(body, unreadable).map_err(|error| {
        let text = "HubSpot's response does not have the expected fields";
        invalid_response(operation, text).with_internal(error)
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
