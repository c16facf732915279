//! HubSpot's JSON, read tolerantly: unknown fields are ignored, every field may be missing or null,
//! ids may be numbers, and a time that cannot be read is no time.

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

/// A lead.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Object {
    #[serde(deserialize_with = "text")]
    id: String,
    properties: Texts,
    properties_with_history: Option<BTreeMap<String, Option<Vec<Version>>>>,
    associations: Option<BTreeMap<String, Option<Associations>>>,
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
struct Version {
    value: Value,
    timestamp: Value,
    source_type: Value,
    source_id: Value,
    source_label: Value,
    updated_by_user_id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Associations {
    results: Option<Vec<AssociationTo>>,
    paging: Option<Paging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AssociationTo {
    #[serde(deserialize_with = "text")]
    id: String,
    #[serde(rename = "type")]
    kind: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Paging {
    next: Option<Next>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Next {
    after: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WireWarning {
    category: Value,
    message: Value,
    context: Option<BTreeMap<String, Value>>,
}

/// A page of a list or a search.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Results {
    results: Option<Vec<Object>>,
    paging: Option<Paging>,
    total: Option<u64>,
}

/// The answer of a batch.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Batch {
    pub(super) results: Option<Vec<Object>>,
    pub(super) errors: Option<Vec<Value>>,
}

/// The associations of many leads to records of one type.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LinkedBatch {
    results: Option<Vec<Linked>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linked {
    from: From,
    to: Option<Vec<To>>,
    paging: Option<Paging>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct From {
    #[serde(deserialize_with = "text")]
    id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct To {
    #[serde(deserialize_with = "text")]
    to_object_id: String,
    association_types: Option<Vec<WireType>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireType {
    category: Value,
    type_id: Option<i32>,
}

/// An association in a create.
#[derive(Debug, Serialize)]
pub(super) struct AssociationBody<'a> {
    to: ToBody<'a>,
    types: Vec<TypeBody>,
}

#[derive(Debug, Serialize)]
struct ToBody<'a> {
    id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TypeBody {
    association_category: &'static str,
    association_type_id: i32,
}

// === impl Object ===

impl Object {
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
                    (name, versions.into_iter().map(Version::into_domain).collect())
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

// === impl Version ===

impl Version {
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

// === impl Associations ===

impl Associations {
    fn into_domain(self) -> Associated {
        let object = |to: AssociationTo| AssociatedObject {
            id: to.id,
            kind: as_text(to.kind).unwrap_or_default(),
        };
        let mut objects: Vec<_> =
            self.results.unwrap_or_default().into_iter().map(object).collect();
        // HubSpot promises no order.
        objects.sort_by(AssociatedObject::by_record);
        Associated { objects, next: next(self.paging) }
    }
}

// === impl LinkedBatch ===

impl LinkedBatch {
    pub(super) fn into_links(self) -> Vec<Links> {
        self.results.unwrap_or_default().into_iter().map(Linked::into_domain).collect()
    }
}

// === impl Linked ===

impl Linked {
    fn into_domain(self) -> Links {
        let records: Option<Vec<Link>> =
            self.to.unwrap_or_default().into_iter().map(To::into_domain).collect();
        let is_complete = records.is_some() && next(self.paging).is_none();
        Links { lead: self.from.id, records: records.unwrap_or_default(), is_complete }
    }
}

// === impl To ===

impl To {
    /// None if it is associated in a way that is not known here.
    fn into_domain(self) -> Option<Link> {
        let kind = |kind: WireType| {
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

// === impl Results ===

impl Results {
    pub(super) fn into_page(self) -> Page {
        let leads = self.results.unwrap_or_default();
        Page { leads: leads.into_iter().map(Object::into_lead).collect(), after: next(self.paging) }
    }

    pub(super) fn into_search_page(self) -> SearchPage {
        let total = self.total.unwrap_or(0);
        let Page { leads, after } = self.into_page();
        SearchPage { leads, after, total }
    }
}

/// Associations as a create sends them.
pub(super) fn associations(associations: &[Association]) -> Vec<AssociationBody<'_>> {
    let body = |association: &'_ Association| -> Vec<TypeBody> {
        let kind = |kind: &AssociationType| TypeBody {
            association_category: kind.category.as_str(),
            association_type_id: kind.type_id,
        };
        association.types.iter().map(kind).collect()
    };
    associations
        .iter()
        .map(|association| AssociationBody {
            to: ToBody { id: association.to_id.as_str() },
            types: body(association),
        })
        .collect()
}

fn next(paging: Option<Paging>) -> Option<String> {
    as_text(paging?.next?.after).filter(|after| !after.is_empty())
}

/// Text, number or bool as text; anything else, null first of all, is none.
pub(super) fn as_text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// One text or a list of them.
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

/// ISO 8601 with or without fraction, or milliseconds since 1970.
fn as_time(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => {
            text.parse().ok().or_else(|| Timestamp::from_millisecond(text.parse().ok()?).ok())
        }
        Value::Number(number) => Timestamp::from_millisecond(number.as_i64()?).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Values that are text, number or bool, by name, as text; what is anything else is left out. Most of
/// an answer is of this kind, so it is read without a detour.
#[derive(Debug, Default)]
struct Texts(BTreeMap<String, String>);

// === impl Texts ===

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = Texts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_unit<E>(self) -> Result<Texts, E> {
                Ok(Texts::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut texts = BTreeMap::new();
                while let Some((name, Text(value))) = map.next_entry()? {
                    // As in any map, the last one of a name counts.
                    match value {
                        Some(value) => texts.insert(name, value),
                        None => texts.remove(&name),
                    };
                }
                Ok(Texts(texts))
            }
        }

        deserializer.deserialize_any(Names)
    }
}

/// One such value, read as [`as_text`] does.
struct Text(Option<String>);

// === impl Text ===

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(Some(text.to_owned())))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text(Some(text)))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Text, E> {
                Ok(Text(as_text(Value::Bool(flag))))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(as_text(number.into())))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(as_text(number.into())))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
                Ok(Text(as_text(number.into())))
            }

            fn visit_unit<E>(self) -> Result<Text, E> {
                Ok(Text(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Text, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(as_text(Value::deserialize(deserializer)?).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(json: &str) -> Lead {
        serde_json::from_str::<Object>(json).unwrap().into_lead()
    }

    #[test]
    fn nulls_numbers_and_unknown_fields_are_taken_as_they_come() {
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
    fn properties_are_read_as_any_value_would_be() {
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
        assert!(serde_json::from_str::<Object>(r#"{"properties":[]}"#).is_err());
    }

    #[test]
    fn an_empty_object_is_an_empty_lead() {
        assert_eq!(lead("{}"), Lead::default());
    }
}
