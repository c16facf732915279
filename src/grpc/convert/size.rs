//! Sizes of response messages, computed from domain types before the messages are built.

use prost::{Message as _, length_delimiter_len};

use super::{
    encoding::{field, nested, text, timestamp},
    response::pb_association_type,
    typed::PropertyForm,
};
use crate::leads::{Associated, AssociatedObject, Lead, PropertyVersion, Warning};
use leadsd_base::time::Timestamp;

/// Memory of a lead in a message besides its encoded bytes: its fixed fields.
const LEAD_OVERHEAD: usize = 512;

/// Memory of an entry of a map or list in a message besides its encoded bytes.
const ENTRY_OVERHEAD: usize = 128;

/// Encoded size of a lead with properties as text in bytes, without the length in front of it.
pub(crate) fn lead_size(lead: &Lead) -> usize {
    lead_size_in(lead, &PropertyForm::Text)
}

/// Encoded size of a lead in bytes, without the length in front of it.
pub(super) fn lead_size_in(lead: &Lead, form: &PropertyForm) -> usize {
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
    let history = |(name, versions): (&String, &Vec<PropertyVersion>)| {
        field(text(name) + nested(versions.iter().map(version_size).sum()))
    };
    let association = |(kind, associated): (&String, &Associated)| {
        field(text(kind) + nested(associated_size(associated)))
    };
    text(id)
        + form.size(properties)
        + PropertyForm::Text.size(labels)
        + unset_properties.iter().map(|name| field(name.len())).sum::<usize>()
        + property_history.iter().map(history).sum::<usize>()
        + associations.iter().map(association).sum::<usize>()
        + [create_time, update_time, archive_time].map(time_size).iter().sum::<usize>()
        + flag(*archived)
        + text(url.as_deref().unwrap_or_default())
        + warnings.iter().map(warning_size).sum::<usize>()
        + flag(*is_id_only)
}

/// Memory of the message of a lead in bytes; `encoded` is its encoded size.
pub(super) fn lead_memory(lead: &Lead, encoded: usize, form: &PropertyForm) -> usize {
    let versions = lead.property_history.values().map(|versions| 1 + versions.len());
    let objects = lead.associations.values().map(|associated| 1 + associated.objects.len());
    let entries = lead.properties.len()
        + lead.labels.len()
        + lead.unset_properties.len()
        + versions.sum::<usize>()
        + objects.sum::<usize>()
        + lead.warnings.len();
    encoded + LEAD_OVERHEAD + entries * ENTRY_OVERHEAD + form.list_memory(&lead.properties)
}

fn flag(is_set: bool) -> usize {
    if is_set { 2 } else { 0 }
}

fn time_size(time: &Option<Timestamp>) -> usize {
    time.map_or(0, |time| field(timestamp(time).encoded_len()))
}

fn version_size(version: &PropertyVersion) -> usize {
    let PropertyVersion { value, time, source_type, source_id, source_label, updated_by_user_id } =
        version;
    let sources = [source_type, source_id, source_label];
    field(
        value.as_ref().map_or(0, |value| field(value.len()))
            + time_size(time)
            + sources
                .map(|source| text(source.as_deref().unwrap_or_default()))
                .iter()
                .sum::<usize>()
            + updated_by_user_id.map_or(0, |id| 1 + varint_size(id)),
    )
}

fn associated_size(associated: &Associated) -> usize {
    associated.objects.iter().map(object_size).sum::<usize>()
        + text(associated.next.as_deref().unwrap_or_default())
}

/// Encoded size of a page of associations in bytes.
pub(super) fn association_page_size(page: &Associated, token: &str) -> usize {
    page.objects.iter().map(object_size).sum::<usize>() + text(token)
}

/// Memory of the message of a page of associations in bytes; `encoded` is its encoded size.
pub(super) fn association_page_memory(page: &Associated, encoded: usize) -> usize {
    encoded + LEAD_OVERHEAD + page.objects.len() * ENTRY_OVERHEAD
}

fn object_size(object: &AssociatedObject) -> usize {
    let AssociatedObject { id, kind, association_type, label } = object;
    let kind_size =
        association_type.map_or(0, |kind| field(pb_association_type(kind).encoded_len()));
    field(text(id) + text(kind) + kind_size + text(label.as_deref().unwrap_or_default()))
}

fn warning_size(warning: &Warning) -> usize {
    let Warning { category, message, context } = warning;
    let entry = |(name, values): (&String, &Vec<String>)| {
        field(text(name) + nested(values.iter().map(|value| field(value.len())).sum()))
    };
    field(
        text(category.as_deref().unwrap_or_default())
            + text(message.as_deref().unwrap_or_default())
            + context.iter().map(entry).sum::<usize>(),
    )
}

/// Encoded size of a number; negative ones take ten bytes.
fn varint_size(number: i64) -> usize {
    usize::try_from(number).map_or(10, length_delimiter_len)
}
