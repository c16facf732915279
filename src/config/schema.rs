//! JSON schema of the configuration file, generated from the default file and its comments. Allowed values
//! of enumerations are in [`CHOICES`].

use serde_json::{Map, Value as Json, json};
use toml::Value;

use super::{
    annotated_toml::{KeySpec, Section, SectionKind, range},
    units::{parse_duration, parse_size},
};

/// Keys with enumerated values.
pub(super) const CHOICES: [(&str, &[&str]); 7] = [
    ("grpc.tls.client_auth", &["require", "optional"]),
    (
        "vault.auth.method",
        &["kubernetes", "approle", "jwt", "token", "token_file", "userpass", "cert"],
    ),
    ("hubspot.api_version", &["2026-09", "2026-03", "v3"]),
    ("credentials.start", &["eager", "lazy"]),
    ("credentials.readiness", &["any", "all"]),
    ("policy.access", &["none", "read", "write"]),
    ("log.format", &["json", "pretty"]),
];

const DURATION: &str = "^[0-9]+(ms|s|m|h)$";
const SIZE: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

/// Generates the schema.
pub(super) fn schema(sections: &[Section]) -> Json {
    let mut root = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "leadsd configuration",
        "$comment": "Required keys may also be set by environment variables (LEADSD_<SECTION>__<KEY>): \
                     leadsd config check validates both together.",
        "type": "object",
        "properties": {},
        "additionalProperties": false,
    });
    for section in sections {
        let table = table(section);
        insert(&mut root, &section.path, table);
    }
    root
}

/// Inserts the schema of a table at its path; missing parents are created.
fn insert(root: &mut Json, path: &str, table: Json) {
    let mut at = root;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let properties = &mut at["properties"];
        if names.peek().is_none() {
            properties[name] = table;
            return;
        }
        if properties.get(name).is_none() {
            properties[name] = object(Map::new(), "");
        }
        at = &mut properties[name];
    }
}

fn table(section: &Section) -> Json {
    let about = [section.about.as_str(), section.note.as_str()].join(" ");
    if section.kind == SectionKind::Map {
        let of = section.keys.first().map(|key| typed(section, key)).unwrap_or_default();
        return json!({"type": "object", "description": about.trim(), "additionalProperties": of});
    }
    let keys = section.keys.iter().map(|key| (key.name.clone(), described(section, key)));
    let table = object(keys.collect(), about.trim());
    if section.kind == SectionKind::Named {
        return json!({"type": "object", "additionalProperties": table});
    }
    table
}

fn object(properties: Map<String, Json>, about: &str) -> Json {
    json!({
        "type": "object",
        "description": about,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn described(section: &Section, key: &KeySpec) -> Json {
    let mut schema = typed(section, key);
    schema["description"] = json!(key.about);
    if key.has_default {
        schema["default"] = as_json(&key.value);
    } else {
        schema["examples"] = json!([as_json(&key.value)]);
    }
    schema
}

/// Schema of the values of a key, from the type of its default or example and the range in its comment.
fn typed(section: &Section, key: &KeySpec) -> Json {
    let path = format!("{}.{}", section.path, key.name);
    if let Some((_, choices)) = CHOICES.iter().find(|(choice, _)| *choice == path) {
        return json!({"type": "string", "enum": choices});
    }
    match &key.value {
        Value::String(text) if parse_duration(text).is_some() => {
            json!({"type": "string", "pattern": DURATION})
        }
        Value::String(text) if parse_size(text).is_some() => {
            json!({"type": "string", "pattern": SIZE})
        }
        Value::Integer(_) => {
            // The range of a map is in the comment of the table.
            let about = if section.kind == SectionKind::Map { &section.about } else { &key.about };
            let number = |text: &str| text.parse::<u64>().ok();
            let ends = range(about, |end| number(end).is_some());
            match ends.and_then(|(min, max)| Some((number(min)?, number(max)?))) {
                Some((min, max)) => {
                    json!({"type": "integer", "minimum": min, "maximum": max})
                }
                None => json!({"type": "integer"}),
            }
        }
        Value::Float(_) => {
            let number = |text: &str| text.parse::<f64>().ok().filter(|_| text.contains('.'));
            let ends = range(&key.about, |end| number(end).is_some());
            match ends.and_then(|(min, max)| Some((number(min)?, number(max)?))) {
                Some((min, max)) => {
                    json!({"type": "number", "minimum": min, "maximum": max})
                }
                None => json!({"type": "number"}),
            }
        }
        Value::Boolean(_) => json!({"type": "boolean"}),
        Value::Array(_) => json!({"type": "array", "items": {"type": "string"}}),
        Value::String(_) | Value::Table(_) | Value::Datetime(_) => json!({"type": "string"}),
    }
}

fn as_json(value: &Value) -> Json {
    // Every value of the default file can be represented in JSON.
    serde_json::to_value(value).unwrap_or_default()
}
