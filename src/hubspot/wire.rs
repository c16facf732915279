//! JSON types of HubSpot.
//!
//! Unknown fields are ignored, every field may be missing or null, and ids may be numbers. A body with
//! anything else is read a second time by `tolerant`, field by field, so that only the field of an
//! unreadable value is lost.

mod association_input;
mod association_page;
mod contacts;
mod field;
mod scan;
mod schema;
mod tolerant;
mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use self::association_page::WirePageRecord;
pub use self::field::{FIELD_COUNT, RESPONSE_FIELDS, ResponseField, UnreadableFields};
use self::value::{PropertyValues, Text, Texts, Time, object, required};
pub(super) use self::{
    association_input::{association_changes, associations},
    association_page::WireAssociationPage,
    contacts::{contact_creation, contact_lookup},
    scan::is_complete_object,
    schema::{WireLabel, WireOwner, WirePipeline, WireProperty, WirePropertyRules, WireResults},
    tolerant::{Body, may_be_error, parse, parse_truncated, parse_value, without_byte_order_mark},
    value::as_text,
};
use crate::leads::{
    Associated, AssociatedObject, BatchItem, Lead, Links, Page, PropertyVersion, RECORD_ID,
    SearchPage, Warning,
};

/// Lead.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireLead {
    id: Text,
    properties: PropertyValues,
    properties_with_history: Option<BTreeMap<String, Option<Vec<WirePropertyVersion>>>>,
    associations: Option<BTreeMap<String, Option<WireAssociations>>>,
    created_at: Time,
    updated_at: Time,
    archived: Option<bool>,
    archived_at: Time,
    url: Text,
    warnings: Option<Vec<WireWarning>>,
    object_write_trace_id: Text,
    new: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePropertyVersion {
    value: Text,
    timestamp: Time,
    source_type: Text,
    source_id: Text,
    source_label: Text,
    updated_by_user_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociations {
    results: Option<Vec<WireAssociatedRecord>>,
    #[serde(deserialize_with = "object")]
    paging: Option<WirePaging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociatedRecord {
    id: Text,
    #[serde(rename = "type")]
    kind: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WirePaging {
    #[serde(deserialize_with = "object")]
    next: Option<WireNextPage>,
}

/// A next page without a cursor is an error: the list would end early.
#[derive(Debug, Default, Deserialize)]
struct WireNextPage {
    #[serde(deserialize_with = "required")]
    after: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireWarning {
    category: Text,
    message: Text,
    context: Option<BTreeMap<String, Texts>>,
}

/// Page of a list or a search.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WirePage {
    results: Option<Vec<WireLead>>,
    #[serde(deserialize_with = "object")]
    paging: Option<WirePaging>,
    total: Option<u64>,
}

/// Response to a batch operation.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireBatch {
    pub(super) results: Option<Vec<WireLead>>,
    pub(super) errors: Option<Vec<Value>>,
}

/// Response to a change of associations. Its results repeat the inputs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireAssociationChanges {
    pub(super) results: Option<IgnoredAny>,
    pub(super) errors: Option<Vec<Value>>,
}

/// Response to a read of associations of leads to one object type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireAssociationBatch {
    results: Option<Vec<WireAssociationResult>>,
    errors: Option<Vec<Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociationResult {
    from: WireAssociationSource,
    to: Option<Vec<WirePageRecord>>,
    #[serde(deserialize_with = "object")]
    paging: Option<WirePaging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociationSource {
    id: Text,
}

// === impl WireLead ===

impl WireLead {
    /// True if the record id is known: HubSpot repeats it among the properties.
    fn has_id(&self) -> bool {
        let is_set = |id: &String| !id.is_empty();
        self.id.0.as_ref().is_some_and(is_set) || self.properties.get(RECORD_ID).is_some_and(is_set)
    }

    pub(super) fn into_lead(self) -> Lead {
        let Self {
            id,
            properties,
            properties_with_history,
            associations,
            created_at,
            updated_at,
            archived,
            archived_at,
            url,
            warnings,
            object_write_trace_id: _,
            new: _,
        } = self;
        let (properties, unset_properties) = properties.into_parts();
        let id = id.0.filter(|id| !id.is_empty()).map(whole_number);
        Lead {
            id: id.or_else(|| properties.get(RECORD_ID).cloned()).unwrap_or_default(),
            properties,
            labels: BTreeMap::new(),
            unset_properties,
            property_history: properties_with_history
                .unwrap_or_default()
                .into_iter()
                .map(|(name, versions)| {
                    let versions = versions.unwrap_or_default();
                    (name, versions.into_iter().map(WirePropertyVersion::into_domain).collect())
                })
                .collect(),
            associations: associations
                .unwrap_or_default()
                .into_iter()
                .filter_map(|(kind, list)| Some((kind, list?.into_domain())))
                .collect(),
            create_time: created_at.0,
            update_time: updated_at.0,
            archived: archived.unwrap_or(false),
            archive_time: archived_at.0,
            url: url.0,
            is_id_only: false,
            warnings: warnings
                .unwrap_or_default()
                .into_iter()
                .map(WireWarning::into_domain)
                .collect(),
        }
    }

    pub(super) fn into_item(mut self) -> BatchItem {
        let trace_id = self.object_write_trace_id.0.take();
        let created = self.new;
        BatchItem { lead: self.into_lead(), trace_id, created }
    }
}

// === impl WirePropertyVersion ===

impl WirePropertyVersion {
    fn into_domain(self) -> PropertyVersion {
        PropertyVersion {
            value: self.value.0.filter(|value| !value.is_empty()),
            time: self.timestamp.0,
            source_type: self.source_type.0,
            source_id: self.source_id.0,
            source_label: self.source_label.0,
            updated_by_user_id: self.updated_by_user_id,
        }
    }
}

// === impl WireAssociations ===

impl WireAssociations {
    fn into_domain(self) -> Associated {
        let object = |to: WireAssociatedRecord| {
            AssociatedObject::named(to.id.0.unwrap_or_default(), to.kind.0.unwrap_or_default())
        };
        let mut objects: Vec<_> =
            self.results.unwrap_or_default().into_iter().map(object).collect();
        // HubSpot does not guarantee an order.
        objects.sort_by(AssociatedObject::by_record);
        Associated { objects, next: next(self.paging) }
    }
}

// === impl WireAssociationBatch ===

impl WireAssociationBatch {
    /// True if the response has no result, whether or not it has errors.
    pub(super) fn is_without_results(&self) -> bool {
        self.results.as_ref().is_none_or(Vec::is_empty)
    }

    /// Converts to the domain type, and returns the errors of single leads; `None` if there are neither
    /// results nor errors.
    pub(super) fn into_links(self) -> Option<(Vec<Links>, Vec<Value>)> {
        let Self { results, errors } = self;
        if results.is_none() && errors.is_none() {
            return None;
        }
        let results = results.unwrap_or_default().into_iter();
        let links = results.map(WireAssociationResult::into_domain).collect();
        Some((links, errors.unwrap_or_default()))
    }
}

// === impl WireAssociationResult ===

impl WireAssociationResult {
    fn into_domain(self) -> Links {
        let records = self.to.unwrap_or_default();
        let is_whole = records.iter().all(WirePageRecord::has_id);
        let page = association_page::page(records, self.paging);
        Links { lead: self.from.id.0.unwrap_or_default(), page, is_whole }
    }
}

// === impl WireWarning ===

impl WireWarning {
    fn into_domain(self) -> Warning {
        Warning {
            category: self.category.0,
            message: self.message.0,
            context: self
                .context
                .unwrap_or_default()
                .into_iter()
                .map(|(name, Texts(texts))| (name, texts))
                .collect(),
        }
    }
}

// === impl WirePage ===

impl WirePage {
    /// Converts to the domain type; `None` without results. An empty list has empty results.
    pub(super) fn into_page(self) -> Option<Page> {
        let leads = self.results?.into_iter().map(WireLead::into_lead).collect();
        Some(Page { leads, after: next(self.paging) })
    }

    /// Converts to the domain type; `None` without results.
    pub(super) fn into_search_page(self) -> Option<SearchPage> {
        let total = self.total.unwrap_or(0);
        let Page { leads, after } = self.into_page()?;
        let total = total.max(leads.len() as u64);
        Some(SearchPage { leads, after, total })
    }
}

fn next(paging: Option<WirePaging>) -> Option<String> {
    paging?.next?.after.0
}

/// An id that is a number without a fraction, as an integer.
fn whole_number(id: String) -> String {
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    id.strip_suffix(".0").filter(is_number).map(str::to_owned).unwrap_or(id)
}

#[cfg(test)]
mod tests;
