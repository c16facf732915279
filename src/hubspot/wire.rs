//! JSON types of HubSpot, parsed leniently: unknown fields are ignored, every field may be missing or
//! null, ids may be numbers, and an invalid time is treated as missing.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::leads::{
    Associated, AssociatedObject, Association, AssociationCategory, AssociationType, BatchItem,
    Lead, Link, Links, Page, PropertyVersion, SearchPage, Warning,
};
use leadsd_base::time::Timestamp;

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

/// Association in a create request.
#[derive(Debug, Serialize)]
pub(super) struct AssociationInput<'a> {
    to: AssociationTarget<'a>,
    types: Vec<AssociationTypeInput>,
}

#[derive(Debug, Serialize)]
struct AssociationTarget<'a> {
    id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AssociationTypeInput {
    association_category: &'static str,
    association_type_id: i32,
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
    pub(super) fn into_links(self) -> Vec<Links> {
        self.results
            .unwrap_or_default()
            .into_iter()
            .map(WireAssociationResult::into_domain)
            .collect()
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
    pub(super) fn into_page(self) -> Page {
        let leads = self.results.unwrap_or_default();
        Page {
            leads: leads.into_iter().map(WireLead::into_lead).collect(),
            after: next(self.paging),
        }
    }

    pub(super) fn into_search_page(self) -> SearchPage {
        let total = self.total.unwrap_or(0);
        let Page { leads, after } = self.into_page();
        SearchPage { leads, after, total }
    }
}

/// Converts associations for a create request.
pub(super) fn associations(associations: &[Association]) -> Vec<AssociationInput<'_>> {
    let body = |association: &'_ Association| -> Vec<AssociationTypeInput> {
        let kind = |kind: &AssociationType| AssociationTypeInput {
            association_category: kind.category.as_str(),
            association_type_id: kind.type_id,
        };
        association.types.iter().map(kind).collect()
    };
    associations
        .iter()
        .map(|association| AssociationInput {
            to: AssociationTarget { id: association.to_id.as_str() },
            types: body(association),
        })
        .collect()
}

fn next(paging: Option<WirePaging>) -> Option<String> {
    as_text(paging?.next?.after).filter(|after| !after.is_empty())
}

/// Converts a string, number or boolean to text; `None` for other values.
pub(super) fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Converts one value or an array of values to texts.
pub(super) fn as_texts(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().filter_map(as_text).collect(),
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => as_text(value).into_iter().collect(),
    }
}

/// Parses ISO 8601 with or without a fraction, or milliseconds since 1970.
fn as_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            text.parse().ok().or_else(|| Timestamp::from_millisecond(text.parse().ok()?).ok())
        }
        Value::Number(number) => Timestamp::from_millisecond(number.as_i64()?).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Property values by name, converted like [`as_text`]; other values are dropped. Most of a response
/// consists of properties, so they are parsed without an intermediate [`Value`].
#[derive(Debug, Default)]
struct PropertyValues(BTreeMap<String, String>);

// === impl PropertyValues ===

impl<'de> Deserialize<'de> for PropertyValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertyValuesVisitor;

        impl<'de> Visitor<'de> for PropertyValuesVisitor {
            type Value = PropertyValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E>(self) -> Result<PropertyValues, E> {
                Ok(PropertyValues::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PropertyValues, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, PropertyValue(value))) = map.next_entry()? {
                    // The last value of a duplicate name wins.
                    match value {
                        Some(value) => texts.insert(name, value),
                        None => texts.remove(&name),
                    };
                }
                Ok(PropertyValues(texts))
            }
        }

        deserializer.deserialize_any(PropertyValuesVisitor)
    }
}

/// Property value, converted like [`as_text`].
struct PropertyValue(Option<String>);

// === impl PropertyValue ===

impl<'de> Deserialize<'de> for PropertyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertyValueVisitor;

        impl<'de> Visitor<'de> for PropertyValueVisitor {
            type Value = PropertyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<PropertyValue, E> {
                Ok(PropertyValue(Some(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<PropertyValue, E> {
                Ok(PropertyValue(Some(text)))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(Value::Bool(flag))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<PropertyValue, E> {
                Ok(PropertyValue(as_text(number.into())))
            }

            fn visit_unit<E>(self) -> Result<PropertyValue, E> {
                Ok(PropertyValue(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PropertyValue, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(PropertyValue(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PropertyValue, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(PropertyValue(None))
            }
        }

        deserializer.deserialize_any(PropertyValueVisitor)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(as_text(Value::deserialize(deserializer)?).unwrap_or_default())
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
