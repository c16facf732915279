//! Context of HubSpot's errors, and ids in their texts. The keys differ between endpoints, in name, case and
//! separators.

use serde_json::{Map, Number, Value};

use super::words::is_uuid;
use crate::hubspot::wire::as_text;

/// Maximum number of keys of a context that are read, and of values of a key. HubSpot's have one for each
/// input of a batch at most.
const MAX_ENTRIES: usize = 1_000;

/// Context keys with trace ids of inputs.
pub(super) const TRACE_IDS: [&str; 3] = ["objectwritetraceid", "objectwritetraceids", "traceid"];

/// Context keys with ids of records.
pub(super) const OBJECT_IDS: [&str; 9] = [
    "id",
    "ids",
    "objectid",
    "objectids",
    "recordid",
    "recordids",
    "leadid",
    "leadids",
    "hsobjectid",
];

/// Keys of the value in an entry of a context that is an object.
const VALUES: [&str; 2] = ["value", "values"];

/// Context keys with ids that are invalid: of inputs, or of records to associate with.
pub(super) const INVALID_IDS: [&str; 3] = ["invalidobjectids", "invalidids", "invalidobjectid"];

/// Context keys with positions of inputs in the batch, from 0.
pub(super) const POSITIONS: [&str; 6] =
    ["index", "indexes", "indices", "inputindex", "inputindexes", "inputindices"];

/// Context keys with the id of the record that has a unique value already.
pub(super) const EXISTING_IDS: [&str; 16] = [
    "existingid",
    "existingids",
    "existingobjectid",
    "existingobjectids",
    "existingrecordid",
    "existingrecordids",
    "existingleadid",
    "existingcontactid",
    "conflictingid",
    "conflictingids",
    "conflictingobjectid",
    "conflictingrecordid",
    "duplicateid",
    "duplicateids",
    "duplicateobjectid",
    "duplicaterecordid",
];

/// Context key with the name of the data centre that serves the account.
pub(super) const CORRECT_HUBLET: [&str; 1] = ["correcthublet"];

/// Context key with the scopes that are missing.
pub(super) const REQUIRED_SCOPES: [&str; 1] = ["requiredgranularscopes"];

/// Context key with properties that have no value.
pub(super) const MISSING_PROPERTIES: [&str; 1] = ["properties"];

/// Context keys with names of properties.
const PROPERTY_NAMES: [&str; 3] = ["propertyname", "propertynames", "in"];

/// Context keys with the options of a property.
const OPTIONS: [&str; 4] = ["options", "validoptions", "allowedoptions", "allowedvalues"];

/// Other context keys whose values are certainly no ids of inputs.
const OTHER_KEYS: [&str; 16] = [
    "links",
    "expiretime",
    "propertyvalue",
    "rawvalue",
    "limit",
    "max",
    "portalid",
    "hubid",
    "accountid",
    "appid",
    "userid",
    "requestid",
    "plan",
    "feature",
    "tier",
    "subscription",
];

/// Beginning of a path to an input of a batch.
const INPUTS: &str = "inputs";

/// Beginning of a path to an association.
const ASSOCIATIONS: &str = "associations";

/// Separators in a path to an input of a batch.
const SEPARATORS: [char; 3] = ['[', '/', '.'];

/// Parts of the keys of objects beside a context whose `id` is that of an input.
const INPUT_OBJECTS: [&str; 5] = ["input", "object", "record", "lead", "item"];

/// Parts of the keys of objects that are the record which has a unique value already.
const EXISTING_OBJECTS: [&str; 3] = ["existing", "conflict", "duplicate"];

/// Maximum depth of objects in a context that are read.
const MAX_DEPTH: usize = 4;

/// Maximum length in bytes of the text between "existing" and its id.
const MAX_EXISTING_TEXT: usize = 40;

/// Words for records, which may be before "id" in the names of ids.
const ID_PREFIXES: [&str; 4] = ["object", "record", "contact", "lead"];

/// Entries of a context: the key in lower case without separators, and its values.
pub(super) type Context = Vec<(String, Vec<String>)>;

/// Reads a context: an object, or a list of objects and ids. Of the objects inside, only what names records
/// and properties is read.
pub(super) fn context(value: Option<Value>) -> Context {
    let mut entries = Vec::new();
    match value {
        Some(Value::Object(object)) => add_entries(&mut entries, object),
        Some(list @ Value::Array(_)) => add_entry(&mut entries, String::new(), list, MAX_DEPTH),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {}
    }
    entries
}

/// Names of inputs and records in an error itself, beside its context. Its `id` is its own.
pub(super) fn beside_context(mut error: Map<String, Value>) -> Context {
    error.retain(|key, value| match value {
        Value::Object(_) | Value::Array(_) => {
            let key = normalized(key);
            has_part(&key, &INPUT_OBJECTS) || has_part(&key, &EXISTING_OBJECTS) || is_name(&key)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    });
    error.retain(|key, _| normalized(key) != "id");
    let mut entries = Vec::new();
    add_entries(&mut entries, error);
    entries.retain(|(key, _)| is_name(key));
    entries
}

fn add_entries(entries: &mut Context, object: Map<String, Value>) {
    for (key, value) in object.into_iter().take(MAX_ENTRIES) {
        add_entry(entries, normalized(&key), value, MAX_DEPTH);
    }
}

/// Adds the values of a key, and the names in the objects among them.
fn add_entry(entries: &mut Context, key: String, value: Value, depth: usize) {
    let mut objects = Vec::new();
    let mut values =
        if is_list_of_ids(&key) { listed(value) } else { texts_and_objects(value, &mut objects) };
    values.truncate(MAX_ENTRIES);
    if entries.len() >= MAX_ENTRIES {
        return;
    }
    let is_read = depth > 0 && may_name_inputs(&key);
    entries.push((key.clone(), values));
    for object in objects.into_iter().filter(|_| is_read) {
        add_object(entries, &key, object, depth - 1);
    }
}

/// Texts of a value. Adds the objects in it to `objects`.
fn texts_and_objects(value: Value, objects: &mut Vec<Map<String, Value>>) -> Vec<String> {
    let mut texts = Vec::new();
    let mut add = |value: Value| match value {
        Value::Object(object) => objects.push(object),
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)) => texts.extend(as_text(value)),
    };
    match value {
        Value::Array(values) => values.into_iter().take(MAX_ENTRIES).for_each(add),
        value @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Object(_)) => add(value),
    }
    texts
}

/// Adds what names records and properties in an object that is the value of `parent`, or all entries of an
/// object in a list that is the context itself.
fn add_object(entries: &mut Context, parent: &str, object: Map<String, Value>, depth: usize) {
    let mut inner = Vec::new();
    match as_pair(object) {
        Ok((key, value)) => add_entry(&mut inner, key, value, depth),
        Err(object) => {
            for (key, value) in object.into_iter().take(MAX_ENTRIES) {
                add_entry(&mut inner, normalized(&key), value, depth);
            }
        }
    }
    let is_existing = has_part(parent, &EXISTING_OBJECTS);
    for (key, values) in inner {
        let is_record = OBJECT_IDS.contains(&key.as_str());
        if is_existing && is_record {
            entries.push((EXISTING_IDS[0].to_owned(), values));
        } else if parent.is_empty() || is_name(&key) || is_property_name(&key) {
            entries.push((key, values));
        }
    }
}

/// An object such as `{"key": "objectId", "value": "3"}` as an entry. A `name` may be that of a property.
fn as_pair(mut object: Map<String, Value>) -> Result<(String, Value), Map<String, Value>> {
    let text = |key: &str| Some(normalized(object.get(key)?.as_str()?));
    let is_known = |name: &String| is_name(name) || is_property_name(name);
    let Some(key) = text("key").or_else(|| text("name").filter(is_known)) else {
        return Err(object);
    };
    let value = VALUES.into_iter().find_map(|name| object.remove(name));
    value.map(|value| (key, value)).ok_or(object)
}

/// The key in lower case without separators.
fn normalized(key: &str) -> String {
    key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn has_part(key: &str, parts: &[&str]) -> bool {
    parts.iter().any(|part| key.contains(part))
}

/// True for keys whose values are ids or positions, which may be lists in one text.
fn is_list_of_ids(key: &str) -> bool {
    [&OBJECT_IDS[..], &INVALID_IDS, &TRACE_IDS, &POSITIONS]
        .into_iter()
        .any(|keys| keys.contains(&key))
}

/// True for keys that name inputs or records.
fn is_name(key: &str) -> bool {
    is_list_of_ids(key) || EXISTING_IDS.contains(&key)
}

fn is_property_name(key: &str) -> bool {
    PROPERTY_NAMES.contains(&key)
}

/// Ids in a value: texts, objects with an id or a value, lists of them, and lists in one text.
fn listed(value: Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.into_iter().take(MAX_ENTRIES).flat_map(listed).collect(),
        Value::Object(record) => id_of(record).map(listed).unwrap_or_default(),
        Value::Number(number) => vec![id_text(&number)],
        value @ (Value::Null | Value::Bool(_) | Value::String(_)) => parts(as_text(value)),
    }
}

/// The id of a record that may be listed as an object.
fn id_of(record: Map<String, Value>) -> Option<Value> {
    let is_id = |key: &str| OBJECT_IDS.contains(&key) || VALUES.contains(&key);
    record.into_iter().find(|(key, _)| is_id(&normalized(key))).map(|(_, id)| id)
}

/// Text of a number that is an id. `3.0` is `3`.
fn id_text(number: &Number) -> String {
    let text = number.to_string();
    let whole = text.split_once('.').filter(|(_, fraction)| fraction.bytes().all(|c| c == b'0'));
    whole.map_or_else(|| text.clone(), |(whole, _)| whole.to_owned())
}

/// Parts of a list in one text, such as `[a, b]` or `1,2`. Without brackets only numbers are a list: a unique
/// value may contain commas.
fn parts(text: Option<String>) -> Vec<String> {
    let Some(text) = text else { return Vec::new() };
    let inner = text.trim().strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    let parts = inner.unwrap_or(&text).split(',').map(|part| part.trim().trim_matches('"'));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    if inner.is_none() && !parts.clone().all(is_number) {
        return vec![text];
    }
    parts.take(MAX_ENTRIES).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// Reports whether the values of a key may be ids of inputs although the key is unknown.
pub(super) fn may_name_inputs(key: &str) -> bool {
    let known = [
        &PROPERTY_NAMES[..],
        &MISSING_PROPERTIES,
        &OPTIONS,
        &EXISTING_IDS,
        &REQUIRED_SCOPES,
        &CORRECT_HUBLET,
        &OTHER_KEYS,
    ];
    !known.into_iter().any(|keys| keys.contains(&key))
}

/// Names of the properties in a context. A path such as `inputs[2].properties.hs_lead_label` ends with one.
pub(super) fn property_names(context: &Context) -> impl Iterator<Item = &str> {
    let named = context.iter().filter(|(key, _)| PROPERTY_NAMES.contains(&key.as_str()));
    named.flat_map(|(_, values)| values).filter_map(|name| match input_path(name) {
        Some((_, path)) => path.split_once("properties")?.1.strip_prefix(SEPARATORS),
        None => Some(name.as_str()).filter(|name| !is_uuid(name) && !is_association_path(name)),
    })
}

/// Reports whether a text is a path to an association of an input, such as `associations[0].to.id`.
pub(super) fn is_association_path(text: &str) -> bool {
    text.strip_prefix(ASSOCIATIONS).is_some_and(|rest| rest.starts_with(SEPARATORS))
}

/// Position of the input that a path in a text names, such as `inputs[2].id` or `/inputs/2/id`.
pub(super) fn position_in(text: &str) -> Option<usize> {
    input_path(text)?.0.parse().ok()
}

/// Position in a path to an input, and the rest of the path.
fn input_path(text: &str) -> Option<(&str, &str)> {
    let (_, path) = text.split_once(INPUTS)?;
    let path = path.strip_prefix(SEPARATORS)?;
    let digits = path.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| path.split_at(digits))
}

/// A description with the options of its property, if the context has them and the text does not.
pub(super) fn with_options(description: &str, context: &Context) -> String {
    let options = context.iter().filter(|(key, _)| OPTIONS.contains(&key.as_str()));
    let options: Vec<&str> = options.flat_map(|(_, values)| values).map(String::as_str).collect();
    if options.iter().all(|option| description.contains(option)) {
        return description.to_owned();
    }
    format!("{description} (options: {})", options.join(", "))
}

/// Reports whether a text contains an id as a word.
pub(super) fn names(text: &str, id: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(id).any(|(start, _)| {
        !text[..start].ends_with(is_word) && !text[start + id.len()..].starts_with(is_word)
    })
}

/// Id of the existing record in a message: the number after "existing ... id", "existing record", the name of
/// another kind of record or "existing:", or the one before "already has that value".
pub(super) fn existing_id_in(message: &str) -> Option<String> {
    let lower = message.to_ascii_lowercase();
    for (start, word) in lower.match_indices("existing") {
        let rest = &lower[start + word.len()..];
        let near = &rest[..rest.floor_char_boundary(MAX_EXISTING_TEXT)];
        let ids = near.match_indices("id").filter(|(at, _)| is_id_name(&near[..*at]));
        let ids = ids.map(|(at, id)| at + id.len());
        let records = ID_PREFIXES.iter().flat_map(|name| near.match_indices(name));
        let records = records.map(|(at, name)| at + name.len());
        let direct = near.starts_with([':', '=']).then_some(0);
        let mut places = ids.chain(records).chain(direct);
        if let Some(id) = places.find_map(|at| number_at(&rest[at..])) {
            return Some(id);
        }
    }
    let (before, _) = lower.split_once(" already has that value")?;
    let id = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next()?;
    let is_id = !id.is_empty() && id.bytes().all(|c| c.is_ascii_digit());
    is_id.then(|| id.to_owned())
}

/// Reports whether "id" after this text is a word, or the end of the name of an id.
fn is_id_name(before: &str) -> bool {
    !before.ends_with(|c: char| c.is_alphanumeric())
        || ID_PREFIXES.iter().any(|prefix| before.ends_with(prefix))
}

/// Number at the start of a text, after separators and "is".
fn number_at(text: &str) -> Option<String> {
    let words = text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let words = words.strip_prefix("is ").unwrap_or(words);
    let digits: String = words.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some(digits)
}
