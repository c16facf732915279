//! Converts domain results to response messages.

use prost_types::Timestamp as PbTimestamp;

use crate::{
    grpc::{page_token::Fingerprint, pb, status},
    leads::{Associated, Error, Lead, Page, PropertyVersion, SearchPage, Upserted, Warning},
};
use leadsd_base::time::Timestamp;

pub(crate) fn list_response(page: Page, fingerprint: Fingerprint) -> pb::ListLeadsResponse {
    pb::ListLeadsResponse {
        leads: page.leads.into_iter().map(lead).collect(),
        next_page_token: page.after.map(|after| fingerprint.token(&after)).unwrap_or_default(),
    }
}

pub(crate) fn search_response(
    page: SearchPage,
    fingerprint: Fingerprint,
) -> pb::SearchLeadsResponse {
    pb::SearchLeadsResponse {
        leads: page.leads.into_iter().map(lead).collect(),
        next_page_token: page.after.map(|after| fingerprint.token(&after)).unwrap_or_default(),
        total: i64::try_from(page.total).unwrap_or(i64::MAX),
    }
}

pub(crate) fn read_result(result: Result<Lead, Error>) -> pb::LeadReadResult {
    use pb::lead_read_result::Outcome;
    let outcome = match result {
        Ok(found) => Outcome::Lead(lead(found)),
        Err(error) => Outcome::Error(status::for_item(&error)),
    };
    pb::LeadReadResult { outcome: Some(outcome) }
}

pub(crate) fn write_result(
    result: Result<Lead, Error>,
    object_write_trace_id: String,
) -> pb::LeadWriteResult {
    use pb::lead_write_result::Outcome;
    let outcome = match result {
        Ok(written) => Outcome::Lead(lead(written)),
        Err(error) => Outcome::Error(status::for_item(&error)),
    };
    pb::LeadWriteResult { outcome: Some(outcome), object_write_trace_id }
}

pub(crate) fn upsert_result(
    result: Result<Upserted, Error>,
    object_write_trace_id: String,
) -> pb::LeadUpsertResult {
    use pb::lead_upsert_result::Outcome;
    let (outcome, created) = match result {
        Ok(upserted) => (Outcome::Lead(lead(upserted.lead)), upserted.created),
        Err(error) => (Outcome::Error(status::for_item(&error)), false),
    };
    pb::LeadUpsertResult { outcome: Some(outcome), created, object_write_trace_id }
}

pub(crate) fn archive_result(result: &Result<(), Error>) -> pb::LeadArchiveResult {
    let status = match result {
        Ok(()) => status::ok(),
        Err(error) => status::for_item(error),
    };
    pb::LeadArchiveResult { status: Some(status) }
}

pub(crate) fn lead(lead: Lead) -> pb::Lead {
    let Lead {
        id,
        properties,
        property_history,
        associations,
        create_time,
        update_time,
        archived,
        archive_time,
        url,
        warnings,
    } = lead;
    pb::Lead {
        id,
        properties,
        property_history: property_history
            .into_iter()
            .map(|(name, versions)| (name, history(versions)))
            .collect(),
        associations: associations
            .into_iter()
            .map(|(kind, associated)| (kind, associated_objects(associated)))
            .collect(),
        create_time: create_time.map(timestamp),
        update_time: update_time.map(timestamp),
        archived,
        archive_time: archive_time.map(timestamp),
        url: url.unwrap_or_default(),
        warnings: warnings.into_iter().map(warning).collect(),
    }
}

fn history(versions: Vec<PropertyVersion>) -> pb::PropertyHistory {
    let version = |version: PropertyVersion| {
        let PropertyVersion {
            value,
            time,
            source_type,
            source_id,
            source_label,
            updated_by_user_id,
        } = version;
        pb::PropertyVersion {
            value,
            time: time.map(timestamp),
            source_type: source_type.unwrap_or_default(),
            source_id: source_id.unwrap_or_default(),
            source_label: source_label.unwrap_or_default(),
            updated_by_user_id,
        }
    };
    pb::PropertyHistory { versions: versions.into_iter().map(version).collect() }
}

fn associated_objects(associated: Associated) -> pb::AssociatedObjects {
    pb::AssociatedObjects {
        objects: associated
            .objects
            .into_iter()
            .map(|object| pb::AssociatedObject { id: object.id, r#type: object.kind })
            .collect(),
        next_cursor: associated.next.unwrap_or_default(),
    }
}

fn warning(warning: Warning) -> pb::LeadWarning {
    let Warning { category, message, context } = warning;
    pb::LeadWarning {
        category: category.unwrap_or_default(),
        message: message.unwrap_or_default(),
        context: context
            .into_iter()
            .map(|(name, values)| (name, pb::WarningContext { values }))
            .collect(),
    }
}

fn timestamp(time: Timestamp) -> PbTimestamp {
    // The nanoseconds of a protobuf timestamp are never negative, even before 1970.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    PbTimestamp { seconds, nanos }
}
