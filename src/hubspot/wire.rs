//! JSON types of HubSpot, parsed leniently.
//!
//! Unknown fields are ignored, every field may be missing or null, ids may be numbers, and an invalid
//! time is treated as missing.

mod association_input;
mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use self::value::{PropertyValues, as_time, text};
pub(super) use self::{
    association_input::associations,
    value::{as_text, as_texts},
};
use crate::leads::{
    Associated, AssociatedObject, AssociationCategory, AssociationType, BatchItem, Lead, Link,
    Links, Page, PropertyVersion, SearchPage, Warning,
};

/// Lead.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireLead {
    #[serde(deserialize_with = "text")]
    id: String,
    properties: PropertyValues,
    properties_with_history: Option<BTreeMap<String, Option<Vec<WirePropertyVersion>>>>,
    associations: Option<BTreeMap<String, Option<WireAssociations>>>,
    created_at: Value,
    updated_at: Value,
    archived: Option<bool>,
    archived_at: Value,
    url: Option<String>,
    warnings: Option<Vec<WireWarning>>,
    object_write_trace_id: Value,
    new: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePropertyVersion {
    value: Value,
    timestamp: Value,
    source_type: Value,
    source_id: Value,
    source_label: Value,
    updated_by_user_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociations {
    results: Option<Vec<WireAssociatedRecord>>,
    paging: Option<WirePaging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociatedRecord {
    #[serde(deserialize_with = "text")]
    id: String,
    #[serde(rename = "type")]
    kind: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WirePaging {
    next: Option<WireNextPage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireNextPage {
    after: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireWarning {
    category: Value,
    message: Value,
    context: Option<BTreeMap<String, Value>>,
}

/// Page of a list or a search.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WirePage {
    results: Option<Vec<WireLead>>,
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

/// Response to a read of associations of leads to one object type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct WireAssociationBatch {
    results: Option<Vec<WireAssociationResult>>,
    errors: Option<Vec<IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociationResult {
    from: WireAssociationSource,
    to: Option<Vec<WireAssociationTarget>>,
    paging: Option<WirePaging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireAssociationSource {
    #[serde(deserialize_with = "text")]
    id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireAssociationTarget {
    #[serde(deserialize_with = "text")]
    to_object_id: String,
    association_types: Option<Vec<WireAssociationType>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireAssociationType {
    category: Value,
    type_id: Option<i32>,
}

// === impl WireLead ===

impl WireLead {
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
        Lead {
            id,
            properties: properties.0,
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
            create_time: as_time(&created_at),
            update_time: as_time(&updated_at),
            archived: archived.unwrap_or(false),
            archive_time: as_time(&archived_at),
            url,
            is_id_only: false,
            warnings: warnings
                .unwrap_or_default()
                .into_iter()
                .map(WireWarning::into_domain)
                .collect(),
        }
    }

    pub(super) fn into_item(mut self) -> BatchItem {
        let trace_id = as_text(std::mem::take(&mut self.object_write_trace_id));
        let created = self.new;
        BatchItem { lead: self.into_lead(), trace_id, created }
    }
}

// === impl WirePropertyVersion ===

impl WirePropertyVersion {
    fn into_domain(self) -> PropertyVersion {
        PropertyVersion {
            value: as_text(self.value).filter(|value| !value.is_empty()),
            time: as_time(&self.timestamp),
            source_type: as_text(self.source_type),
            source_id: as_text(self.source_id),
            source_label: as_text(self.source_label),
            updated_by_user_id: self.updated_by_user_id,
        }
    }
}

// === impl WireAssociations ===

impl WireAssociations {
    fn into_domain(self) -> Associated {
        let object = |to: WireAssociatedRecord| AssociatedObject {
            id: to.id,
            kind: as_text(to.kind).unwrap_or_default(),
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
    /// Converts to the domain type; `None` if there are neither results nor errors.
    pub(super) fn into_links(self) -> Option<Vec<Links>> {
        let Self { results, errors } = self;
        if results.is_none() && errors.is_none() {
            return None;
        }
        let results = results.unwrap_or_default().into_iter();
        Some(results.map(WireAssociationResult::into_domain).collect())
    }
}

// === impl WireAssociationResult ===

impl WireAssociationResult {
    fn into_domain(self) -> Links {
        let records: Option<Vec<Link>> = self
            .to
            .unwrap_or_default()
            .into_iter()
            .map(WireAssociationTarget::into_domain)
            .collect();
        let is_complete = records.is_some() && next(self.paging).is_none();
        Links { lead: self.from.id, records: records.unwrap_or_default(), is_complete }
    }
}

// === impl WireAssociationTarget ===

impl WireAssociationTarget {
    /// Converts to the domain type; `None` if an association category is unknown.
    fn into_domain(self) -> Option<Link> {
        let kind = |kind: WireAssociationType| {
            let category = AssociationCategory::parse(&as_text(kind.category)?)?;
            Some(AssociationType { category, type_id: kind.type_id? })
        };
        let types = self.association_types.unwrap_or_default().into_iter().map(kind);
        Some(Link { id: self.to_object_id, types: types.collect::<Option<Vec<_>>>()? })
    }
}

// === impl WireWarning ===

impl WireWarning {
    fn into_domain(self) -> Warning {
        Warning {
            category: as_text(self.category),
            message: as_text(self.message),
            context: self
                .context
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name, as_texts(value)))
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
        Some(SearchPage { leads, after, total })
    }
}

fn next(paging: Option<WirePaging>) -> Option<String> {
    as_text(paging?.next?.after).filter(|after| !after.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(json: &str) -> Lead {
        serde_json::from_str::<WireLead>(json).unwrap().into_lead()
    }

    #[test]
    fn nulls_numbers_and_unknown_fields_are_accepted() {
        let lead = lead(
            r#"{"id":512,"properties":{"a":null,"b":3,"c":true,"d":"x"},"createdAt":"2026-04-01T10:00:00.000Z",
                "updatedAt":"2026-04-02T08:00:00Z","archivedAt":1775030400000,"archived":null,
                "associations":{"contacts":{"results":[{"id":4001,"type":"lead_to_contact"}],
                "paging":{"next":{"after":"7","link":"x"}}},"deals":null},
                "warnings":[{"category":"PROPERTY_VALUE_NORMALIZED","context":{"propertyName":"a","rawValue":["1"]}}],
                "propertiesWithHistory":{"d":[{"value":"x","timestamp":"bad","updatedByUserId":1},{"value":""}]},
                "new_thing":{"deep":[1]}}"#,
        );
        assert_eq!(lead.id, "512");
        assert_eq!(lead.properties.len(), 3);
        assert_eq!(lead.properties["b"], "3");
        assert_eq!(lead.create_time.unwrap().to_string(), "2026-04-01T10:00:00Z");
        assert_eq!(lead.archive_time.unwrap().as_second(), 1_775_030_400);
        assert_eq!(lead.associations["contacts"].objects[0].id, "4001");
        assert_eq!(lead.associations["contacts"].next.as_deref(), Some("7"));
        assert_eq!(lead.warnings[0].context["rawValue"], ["1"]);
        assert_eq!(lead.property_history["d"][0].value.as_deref(), Some("x"));
        assert_eq!(lead.property_history["d"][0].time, None);
        assert_eq!(lead.property_history["d"][1].value, None);
    }

    #[test]
    fn properties_are_parsed_like_as_text() {
        for value in [
            r#""x""#,
            r#""""#,
            r#""\u00e4\n""#,
            "0",
            "-7",
            "18446744073709551615",
            "-9223372036854775808",
            "1.0",
            "0.1",
            "-2.5e-9",
            "1e300",
            "true",
            "false",
            "null",
            "[]",
            r#"[1,["a"],{"b":null}]"#,
            "{}",
            r#"{"a":[{}],"b":"c"}"#,
        ] {
            let expected = as_text(serde_json::from_str(value).unwrap());
            let json = format!(r#"{{"properties":{{"a":{value},"z":"after it"}}}}"#);
            let lead = lead(&json);
            assert_eq!(lead.properties.get("a"), expected.as_ref(), "{value}");
            assert_eq!(lead.properties["z"], "after it", "{value}");
        }
        let twice = lead(r#"{"properties":{"a":"1","b":"1","a":"2","b":null}}"#);
        assert_eq!(twice.properties, BTreeMap::from([("a".to_owned(), "2".to_owned())]));
        assert_eq!(lead(r#"{"properties":null}"#), Lead::default());
        assert!(serde_json::from_str::<WireLead>(r#"{"properties":[]}"#).is_err());
    }

    #[test]
    fn an_empty_object_is_an_empty_lead() {
        assert_eq!(lead("{}"), Lead::default());
    }
}
