//! The recorded refusals of HubSpot that are about the content of a write.

use serde_json::Value;

use super::*;

/// Recorded responses of HubSpot, with the errors that leadsd makes of them.
const RECORDED: &str = include_str!("../../../../tests/fixtures/hubspot_errors.json");

/// Codes of refusals that follow from the schema.
const LOCAL: [&str; 6] = [
    "PROPERTY_DOESNT_EXIST",
    "INVALID_OPTION",
    "READ_ONLY_VALUE",
    "INVALID_LONG",
    "INVALID_INTEGER",
    "INVALID_DATE",
];

/// Parts of the names of refusals for which the schema has no cause: HubSpot does not tell which properties the
/// portal requires.
const NOT_IN_SCHEMA: [&str; 3] = [
    "MISSING_REQUIRED_PROPERTY",
    "MISSING_CONDITIONAL_REQUIRED_PROPERTY",
    "required properties in the context",
];

/// A property that has the fault of a code, and a value with which a write has the fault.
fn faulty(code: &str, name: &str) -> (Option<PropertyDefinition>, &'static str) {
    let own = PropertyDefinition { name: name.to_owned(), ..PropertyDefinition::default() };
    let of_type =
        |type_name: &str| PropertyDefinition { type_name: type_name.to_owned(), ..own.clone() };
    match code {
        "INVALID_OPTION" => {
            let option = |value: &str| PropertyOption {
                value: value.to_owned(),
                label: value.to_owned(),
                ..PropertyOption::default()
            };
            let options = ["HOT", "WARM", "COLD"].map(option).to_vec();
            (Some(PropertyDefinition { options, ..of_type("enumeration") }), "BOILING")
        }
        "READ_ONLY_VALUE" => {
            (Some(PropertyDefinition { is_read_only: true, ..of_type("string") }), "x")
        }
        "INVALID_LONG" | "INVALID_INTEGER" => (Some(of_type("number")), "x"),
        "INVALID_DATE" => (Some(of_type("date")), "x"),
        _ => (None, "x"),
    }
}

/// Codes and names of properties in HubSpot's response.
fn faults(recorded: &Value) -> Vec<(String, String)> {
    let body = recorded["given"]["body"].as_str().unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(errors) = body["errors"].as_array() {
        return errors
            .iter()
            .map(|own| (text(&own["code"]), text(&own["context"]["propertyName"][0])))
            .collect();
    }
    // Older responses have a list in the message.
    let message = body["message"].as_str().unwrap_or_default();
    let list: Value =
        message.find('[').map_or(Value::Null, |at| serde_json::from_str(&message[at..]).unwrap());
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().map(|own| (text(&own["error"]), text(&own["name"]))).collect()
}

/// Of the 105 recorded responses 20 are refusals of properties, 16 of which follow from the schema. The others are
/// about rights, limits, outages and routes, or about records that only HubSpot knows.
#[test]
fn recorded_refusals_of_properties_are_found_with_the_same_fields() {
    let all: Vec<Value> = serde_json::from_str(RECORDED).unwrap();
    let (mut found, mut left_to_hubspot) = (0, 0);
    for recorded in &all {
        let name = recorded["given"]["name"].as_str().unwrap();
        let fields: Vec<String> = recorded["expected"]["fields"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|field| field[0].as_str().unwrap().to_owned())
            .filter(|field| field.starts_with("properties["))
            .collect();
        if fields.is_empty() {
            continue;
        }
        if NOT_IN_SCHEMA.iter().any(|part| name.contains(part)) {
            left_to_hubspot += 1;
            continue;
        }
        let faults = faults(recorded);
        assert!(!faults.is_empty(), "{name}");
        assert!(
            faults.iter().all(|(code, _)| LOCAL.contains(&code.as_str())),
            "{name}: {faults:?}"
        );
        let own = faults.iter().map(|(code, property)| (property, faulty(code, property)));
        let (definitions, values): (Vec<_>, BTreeMap<_, _>) = own
            .map(|(name, (definition, value))| (definition, (name.clone(), value.to_owned())))
            .unzip();
        let definitions = definitions.into_iter().flatten().collect();
        let copy = PropertyCopy::new(Timestamp::UNIX_EPOCH, definitions);
        let schema = SchemaView { properties: Some(Arc::new(copy)), ..SchemaView::default() };
        let draft = Draft {
            kind: DraftKind::Update,
            properties: &values,
            identity: None,
            associations: &[],
        };
        let violations = check(&draft, &schema, &mut Hints::default(), 16);
        let own: Vec<String> = violations.into_iter().map(|own| own.fault.field).collect();
        assert_eq!(own, fields, "{name}");
        found += 1;
    }
    assert_eq!((all.len(), found, left_to_hubspot), (105, 16, 4));
}
