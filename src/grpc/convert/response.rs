//! Converts domain results to response messages.

use super::{encoding::timestamp, typed::PropertyForm};
use crate::{
    grpc::pb,
    leads::{
        Associated, AssociatedObject, AssociationCategory, AssociationType, Lead, PropertyVersion,
        Warning,
    },
};

pub(super) fn list_response(
    leads: Vec<Lead>,
    token: Option<String>,
    form: &PropertyForm,
) -> pb::ListLeadsResponse {
    pb::ListLeadsResponse {
        leads: leads.into_iter().map(|lead| lead_in(lead, form)).collect(),
        next_page_token: token.unwrap_or_default(),
        labels_error: None,
    }
}

pub(super) fn search_response(
    leads: Vec<Lead>,
    token: Option<String>,
    total: u64,
    form: &PropertyForm,
) -> pb::SearchLeadsResponse {
    pb::SearchLeadsResponse {
        leads: leads.into_iter().map(|lead| lead_in(lead, form)).collect(),
        next_page_token: token.unwrap_or_default(),
        total: i64::try_from(total).unwrap_or(i64::MAX),
        labels_error: None,
    }
}

pub(super) fn read_result(found: Lead, form: &PropertyForm) -> pb::LeadReadResult {
    let outcome = pb::lead_read_result::Outcome::Lead(lead_in(found, form));
    pb::LeadReadResult { outcome: Some(outcome) }
}

pub(super) fn write_result(written: Lead, object_write_trace_id: String) -> pb::LeadWriteResult {
    let outcome = pb::lead_write_result::Outcome::Lead(lead(written));
    pb::LeadWriteResult { outcome: Some(outcome), object_write_trace_id }
}

pub(super) fn upsert_result(
    written: Lead,
    created: Option<bool>,
    object_write_trace_id: String,
) -> pb::LeadUpsertResult {
    let outcome = pb::lead_upsert_result::Outcome::Lead(lead(written));
    pb::LeadUpsertResult {
        outcome: Some(outcome),
        created: created == Some(true),
        object_write_trace_id,
        created_unknown: created.is_none(),
    }
}

/// Message of a lead whose properties are text.
pub(super) fn lead(lead: Lead) -> pb::Lead {
    lead_in(lead, &PropertyForm::Text)
}

pub(super) fn lead_in(lead: Lead, form: &PropertyForm) -> pb::Lead {
    let Lead {
        id,
        properties,
        labels,
        unset_properties,
        property_history,
        associations,
        create_time,
        update_time,
        archived,
        archive_time,
        url,
        warnings,
        is_id_only,
    } = lead;
    let (properties, typed_properties) = form.split(properties);
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
        id_only: is_id_only,
        unset_properties,
        typed_properties,
        labels,
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
        objects: associated.objects.into_iter().map(associated_object).collect(),
        next_cursor: associated.next.unwrap_or_default(),
    }
}

pub(super) fn association_page(
    page: Associated,
    token: Option<String>,
) -> pb::ListLeadAssociationsResponse {
    pb::ListLeadAssociationsResponse {
        objects: page.objects.into_iter().map(associated_object).collect(),
        next_page_token: token.unwrap_or_default(),
    }
}

fn associated_object(object: AssociatedObject) -> pb::AssociatedObject {
    let AssociatedObject { id, kind, association_type, label } = object;
    pb::AssociatedObject {
        id,
        r#type: kind,
        association_type: association_type.map(pb_association_type),
        label: label.unwrap_or_default(),
    }
}

pub(super) fn pb_association_type(kind: AssociationType) -> pb::AssociationType {
    let category = match kind.category {
        AssociationCategory::HubspotDefined => pb::AssociationCategory::HubspotDefined,
        AssociationCategory::UserDefined => pb::AssociationCategory::UserDefined,
        AssociationCategory::IntegratorDefined => pb::AssociationCategory::IntegratorDefined,
        AssociationCategory::Work => pb::AssociationCategory::Work,
    };
    pb::AssociationType { category: category.into(), type_id: kind.type_id }
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
