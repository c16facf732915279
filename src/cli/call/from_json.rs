//! Messages from JSON, by the JSON mapping of protobuf. Errors name the field by its path, such as
//! `filter_groups[0].filters[1].operator`.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};
use serde_json::{Map, Value as Json};

use super::{
    contract::find_field,
    scalar::{has_text_form, parse_scalar},
};

/// Error of one field of a request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {what}")]
pub(super) struct InvalidField {
    /// Path of the field in the request.
    pub(super) path: String,
    /// Error, as a predicate of the field.
    pub(super) what: String,
}

// === impl InvalidField ===

impl InvalidField {
    pub(super) fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

/// Sets the fields of a JSON object in `message`, whose path is `path`; empty for the request.
pub(super) fn set_object(
    message: &mut DynamicMessage,
    object: &Map<String, Json>,
    path: &str,
) -> Result<(), InvalidField> {
    let descriptor = message.descriptor();
    for (name, json) in object {
        let field = find_field(&descriptor, name)
            .map_err(|what| InvalidField::new(join(path, name), what))?;
        if json.is_null() {
            continue;
        }
        let path = join(path, field.name());
        check_alternatives(message, &field, &path)?;
        let value = field_value(&field, json, &path)?;
        message.set_field(&field, value);
    }
    Ok(())
}

/// Errors if another field of the oneof of `field` is set.
pub(super) fn check_alternatives(
    message: &DynamicMessage,
    field: &FieldDescriptor,
    path: &str,
) -> Result<(), InvalidField> {
    let Some(oneof) = field.containing_oneof() else { return Ok(()) };
    let other = oneof.fields().find(|other| other != field && message.has_field(other));
    match other {
        Some(other) => {
            let what = format!("is an alternative to {}: set only one of them", other.name());
            Err(InvalidField::new(path, what))
        }
        None => Ok(()),
    }
}

/// Value of a field, whether singular, repeated or a map.
pub(super) fn field_value(
    field: &FieldDescriptor,
    json: &Json,
    path: &str,
) -> Result<Value, InvalidField> {
    if field.is_map() {
        let Json::Object(entries) = json else { return Err(mismatch(path, "an object", json)) };
        let entry = map_entry(field);
        let mut map = std::collections::HashMap::with_capacity(entries.len());
        for (key, json) in entries {
            let path = format!("{path}.{key}");
            let key = map_key(&entry.0, key).map_err(|what| InvalidField::new(&*path, what))?;
            map.insert(key, element_value(&entry.1, json, &path)?);
        }
        return Ok(Value::Map(map));
    }
    if field.is_list() {
        let Json::Array(elements) = json else { return Err(mismatch(path, "an array", json)) };
        let elements = elements.iter().enumerate();
        let list: Result<Vec<_>, _> = elements
            .map(|(index, json)| element_value(&field.kind(), json, &format!("{path}[{index}]")))
            .collect();
        return list.map(Value::List);
    }
    element_value(&field.kind(), json, path)
}

/// Kinds of the keys and values of a map.
pub(super) fn map_entry(field: &FieldDescriptor) -> (Kind, Kind) {
    let kind = field.kind();
    match kind.as_message() {
        Some(entry) => (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind()),
        // Only maps have an entry type; the caller has checked it.
        None => (Kind::String, kind),
    }
}

/// Key of a map from text.
pub(super) fn map_key(kind: &Kind, text: &str) -> Result<MapKey, String> {
    let key = parse_scalar(kind, text)?.into_map_key();
    key.ok_or_else(|| format!("{text:?} is not a key"))
}

/// Value of a singular field, or of an element of a repeated field or map.
pub(super) fn element_value(kind: &Kind, json: &Json, path: &str) -> Result<Value, InvalidField> {
    let invalid = |what| InvalidField::new(path, what);
    if let Kind::Message(descriptor) = kind
        && !has_text_form(descriptor)
    {
        let Json::Object(object) = json else { return Err(mismatch(path, "an object", json)) };
        let mut message = DynamicMessage::new(descriptor.clone());
        set_object(&mut message, object, path)?;
        return Ok(Value::Message(message));
    }
    match (kind, json) {
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Kind::Bool, _) => Err(mismatch(path, "true or false", json)),
        (Kind::String | Kind::Bytes | Kind::Message(_), Json::String(text)) => {
            parse_scalar(kind, text).map_err(invalid)
        }
        (Kind::String | Kind::Bytes | Kind::Message(_), _) => Err(mismatch(path, "text", json)),
        (_, Json::Number(number)) => parse_scalar(kind, &integral(number)).map_err(invalid),
        (_, Json::String(text)) => parse_scalar(kind, text).map_err(invalid),
        (Kind::Enum(_), _) => Err(mismatch(path, "the name of a value", json)),
        (_, _) => Err(mismatch(path, "a number", json)),
    }
}

/// Text of a number. `1e3` and `5.0` are integers in JSON.
fn integral(number: &serde_json::Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

fn mismatch(path: &str, expected: &str, json: &Json) -> InvalidField {
    let found = match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    };
    InvalidField::new(path, format!("must be {expected}, and is {found}"))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use serde_json::json;

    use super::*;
    use crate::{cli::call::contract::find_message, grpc::pb};

    fn parsed(message: &str, json: &Json) -> Result<DynamicMessage, String> {
        let descriptor = find_message(&format!("leadsd.v1.{message}")).unwrap();
        let mut message = DynamicMessage::new(descriptor);
        let object = json.as_object().unwrap();
        set_object(&mut message, object, "").map_err(|error| error.to_string())?;
        Ok(message)
    }

    #[test]
    fn json_with_either_name_equals_the_generated_message() {
        for json in [
            json!({
                "query": "x", "filter_groups": [{"filters": [
                    {"property_name": "a", "operator": "FILTER_OPERATOR_IN", "values": ["1", "2"]},
                    {"propertyName": "b", "operator": 1, "highValue": "9"},
                ]}],
                "sorts": [{"property_name": "c", "direction": "DESCENDING"}],
                "page_size": "5", "page_token": null,
            }),
            json!({
                "query": "x", "filterGroups": [{"filters": [
                    {"propertyName": "a", "operator": "IN", "values": ["1", "2"]},
                    {"propertyName": "b", "operator": "EQ", "high_value": "9"},
                ]}],
                "sorts": [{"propertyName": "c", "direction": 2}], "pageSize": 5.0,
            }),
        ] {
            let bytes = parsed("SearchLeadsRequest", &json).unwrap().encode_to_vec();
            let found = pb::SearchLeadsRequest::decode(&*bytes).unwrap();
            let filter = |name: &str, operator, values: &[&str], high: &str| pb::Filter {
                property_name: name.into(),
                operator,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                high_value: high.into(),
                ..Default::default()
            };
            let expected = pb::SearchLeadsRequest {
                query: "x".into(),
                filter_groups: vec![pb::FilterGroup {
                    filters: vec![filter("a", 8, &["1", "2"], ""), filter("b", 1, &[], "9")],
                }],
                sorts: vec![pb::Sort { property_name: "c".into(), direction: 2 }],
                page_size: 5,
                ..Default::default()
            };
            assert_eq!(found, expected);
        }
        let create = json!({"properties": {"a.b": "1", "c": ""}, "primaryContactId": "7"});
        let bytes = parsed("CreateLeadRequest", &create).unwrap().encode_to_vec();
        let found = pb::CreateLeadRequest::decode(&*bytes).unwrap();
        assert_eq!((found.properties["a.b"].as_str(), found.properties.len()), ("1", 2));
    }

    #[test]
    fn errors_name_the_path_and_the_nearest_field() {
        for (message, json, expected) in [
            (
                "SearchLeadsRequest",
                json!({"filterGroups": [{"filters": [{}, {"operater": "EQ"}]}]}),
                "filter_groups[0].filters[1].operater: is no field of Filter; did you mean \
                 \"operator\"?",
            ),
            (
                "SearchLeadsRequest",
                json!({"filterGroups": [{"filters": [{"operator": "?"}]}]}),
                "filter_groups[0].filters[0].operator: \"?\" is no value of FilterOperator; it \
                 has",
            ),
            (
                "SearchLeadsRequest",
                json!({"filterGroups": {}}),
                "filter_groups: must be an array, and is an object",
            ),
            ("SearchLeadsRequest", json!({"sorts": ["x"]}), "sorts[0]: must be an object"),
            ("GetLeadRequest", json!({"id": 112}), "id: must be text, and is a number"),
            ("GetLeadRequest", json!({"archived": "true"}), "archived: must be true or false"),
            ("GetLeadRequest", json!({"properties": ["a", 1]}), "properties[1]: must be text"),
            ("ListLeadsRequest", json!({"page_size": 1.5}), "page_size: \"1.5\" is not a 32-bit"),
            ("ListLeadsRequest", json!({"page_size": true}), "page_size: must be a number"),
            (
                "CreateLeadRequest",
                json!({"properties": {"a": null}}),
                "properties.a: must be text, and is null",
            ),
            ("CreateLeadRequest", json!({"properties": []}), "properties: must be an object"),
            ("WatchQuotaRequest", json!({"interval": 1}), "interval: must be text"),
            ("WatchQuotaRequest", json!({"interval": "1"}), "interval: \"1\" is not a duration"),
            (
                "LeadWriteResult",
                json!({"lead": {}, "error": {}}),
                "lead: is an alternative to error: set only one of them",
            ),
        ] {
            let error = parsed(message, &json).unwrap_err();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }
}
