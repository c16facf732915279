//! Fields of a request from arguments: `id=112`, `properties.hs_lead_name=Ada`,
//! `filter_groups[0].filters[0].operator=EQ`, `sorts:=[{"property_name": "hs_object_id"}]`.
//!
//! `=` takes the rest of the argument as text, typed by the descriptor; `:=` takes JSON. A repeated field
//! without an index grows by one element for each argument.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};
use serde_json::Value as Json;

use super::{
    contract::find_field,
    from_json::{
        InvalidField, check_alternatives, element_value, field_value, map_entry, map_key,
        set_object,
    },
    scalar::{has_text_form, parse_scalar},
};

/// Sets fields of one request, each at most once.
#[derive(Debug)]
pub(super) struct Assignments<'a> {
    request: &'a mut DynamicMessage,
    /// Paths that were set.
    set: BTreeSet<String>,
}

/// Value of an argument.
#[derive(Debug)]
enum Given<'a> {
    /// Text after `=`.
    Text(&'a str),
    /// JSON after `:=`.
    Json(Json),
}

/// Part of an argument's path that is not resolved yet, and the path up to there.
#[derive(Debug, Clone, Copy)]
struct Rest<'a> {
    full: &'a str,
    at: usize,
}

// === impl Assignments ===

impl<'a> Assignments<'a> {
    pub(super) fn new(request: &'a mut DynamicMessage) -> Self {
        Self { request, set: BTreeSet::new() }
    }

    /// Sets the field of one argument.
    pub(super) fn assign(&mut self, argument: &str) -> Result<(), InvalidField> {
        let Some((path, text)) = argument.split_once('=') else {
            let what = "is no FIELD=VALUE, no JSON object, no @FILE and not `-`";
            return Err(InvalidField::new(format!("{argument:?}"), what));
        };
        let (path, given) = match path.strip_suffix(':') {
            Some(path) => {
                let json = serde_json::from_str(text).map_err(|error| {
                    InvalidField::new(path, format!("is no valid JSON after `:=`: {error}"))
                })?;
                (path, Given::Json(json))
            }
            None => (path, Given::Text(text)),
        };
        let grows = set_path(self.request, Rest { full: path, at: 0 }, given)?;
        if !grows && !self.set.insert(path.to_owned()) {
            return Err(InvalidField::new(path, "is set twice"));
        }
        Ok(())
    }
}

// === impl Rest ===

impl<'a> Rest<'a> {
    /// The unresolved part.
    fn text(self) -> &'a str {
        &self.full[self.at..]
    }

    /// The path before the unresolved part.
    fn done(self) -> &'a str {
        &self.full[..self.at]
    }

    fn is_empty(self) -> bool {
        self.text().is_empty()
    }

    /// Takes a name up to the next `.` or `[`.
    fn name(self) -> (&'a str, Self) {
        let text = self.text();
        let end = text.find(['.', '[']).unwrap_or(text.len());
        (&text[..end], Self { at: self.at + end, ..self })
    }

    /// Takes `.`.
    fn dot(self) -> Option<Self> {
        self.text().starts_with('.').then_some(Self { at: self.at + 1, ..self })
    }

    /// Takes `[...]`.
    fn bracket(self) -> Option<(&'a str, Self)> {
        let (inside, _) = self.text().strip_prefix('[')?.split_once(']')?;
        Some((inside, Self { at: self.at + inside.len() + 2, ..self }))
    }

    fn invalid(self, what: impl Into<String>) -> InvalidField {
        InvalidField::new(self.done(), what)
    }
}

/// Sets the field at a path below `message`. Returns true if a repeated field grew by an element.
fn set_path(
    message: &mut DynamicMessage,
    rest: Rest<'_>,
    given: Given<'_>,
) -> Result<bool, InvalidField> {
    let (name, after) = rest.name();
    let field = find_field(&message.descriptor(), name).map_err(|what| after.invalid(what))?;
    check_alternatives(message, &field, after.done())?;
    if field.is_map() {
        set_map(message, &field, after, given)
    } else if field.is_list() {
        set_list(message, &field, after, given)
    } else {
        let kind = field.kind();
        if let (Kind::Message(_), Some(inner)) = (&kind, after.dot()) {
            let value = message.get_field_mut(&field);
            let Some(nested) = value.as_message_mut() else { return Ok(false) };
            return set_path(nested, inner, given);
        }
        let value = leaf(&kind, after, given, None)?;
        message.set_field(&field, value);
        Ok(false)
    }
}

/// Value of a field or element whose path ends here. JSON is added to the fields of `old`.
fn leaf(
    kind: &Kind,
    after: Rest<'_>,
    given: Given<'_>,
    old: Option<&DynamicMessage>,
) -> Result<Value, InvalidField> {
    if !after.is_empty() {
        let what = match kind.as_message() {
            Some(_) => format!("has an invalid path after it: {:?}", after.text()),
            None => format!("is no message, and has no {:?}", after.text()),
        };
        return Err(after.invalid(what));
    }
    match (given, kind) {
        (Given::Json(json), Kind::Message(descriptor)) if !has_text_form(descriptor) => {
            let mut value = old.cloned().unwrap_or_else(|| DynamicMessage::new(descriptor.clone()));
            let Json::Object(object) = &json else {
                return element_value(kind, &json, after.done());
            };
            set_object(&mut value, object, after.done())?;
            Ok(Value::Message(value))
        }
        (Given::Json(json), _) => element_value(kind, &json, after.done()),
        (Given::Text(_), Kind::Message(descriptor)) if !has_text_form(descriptor) => {
            let what = match descriptor.fields().next() {
                Some(field) => format!(
                    "is a message: set its fields, such as {}.{}",
                    after.done(),
                    field.name()
                ),
                None => format!("is a message without fields: use {}:={{}}", after.done()),
            };
            Err(after.invalid(what))
        }
        (Given::Text(text), _) => parse_scalar(kind, text).map_err(|what| after.invalid(what)),
    }
}

fn set_list(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    after: Rest<'_>,
    given: Given<'_>,
) -> Result<bool, InvalidField> {
    let kind = field.kind();
    let value = message.get_field_mut(field);
    let Some(list) = value.as_list_mut() else { return Ok(false) };
    if after.is_empty() {
        if let Given::Json(json @ Json::Array(_)) = &given {
            if let Value::List(more) = field_value(field, json, after.done())? {
                list.extend(more);
            }
            return Ok(true);
        }
        if matches!((&given, &kind), (Given::Text(_), Kind::Message(message)) if !has_text_form(message))
        {
            return Err(needs_index(after));
        }
        list.push(leaf(&kind, after, given, None)?);
        return Ok(true);
    }
    let Some((index, inner)) = after.bracket() else { return Err(needs_index(after)) };
    let max = list.len();
    let Some(index) = index.parse().ok().filter(|index: &usize| *index <= max) else {
        let what = format!("has {max} elements so far: the next index is {max}, not {index:?}");
        return Err(after.invalid(what));
    };
    if index == max {
        list.push(Value::default_value(&kind));
    }
    let element = &mut list[index];
    match (inner.dot(), element.as_message_mut()) {
        (Some(inner), Some(nested)) => set_path(nested, inner, given),
        (_, old) => {
            let new = leaf(&kind, inner, given, old.as_deref())?;
            *element = new;
            Ok(false)
        }
    }
}

fn needs_index(after: Rest<'_>) -> InvalidField {
    let path = after.done();
    after.invalid(format!("is repeated: name an element, such as {path}[0]"))
}

fn set_map(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    after: Rest<'_>,
    given: Given<'_>,
) -> Result<bool, InvalidField> {
    let (key_kind, value_kind) = map_entry(field);
    let value = message.get_field_mut(field);
    let Some(map) = value.as_map_mut() else { return Ok(false) };
    if after.is_empty() {
        return match given {
            Given::Json(json) => {
                if let Value::Map(more) = field_value(field, &json, after.done())? {
                    map.extend(more);
                }
                Ok(false)
            }
            Given::Text(_) => Err(after
                .invalid(format!("is a map: set an entry, such as {}.NAME=VALUE", after.done()))),
        };
    }
    let has_messages = matches!(value_kind, Kind::Message(_));
    let (key, inner) = match (after.bracket(), after.dot()) {
        (Some(found), _) => found,
        (None, Some(key)) if has_messages => key.name(),
        // Keys of properties may contain any character.
        (None, Some(key)) => (key.text(), Rest { at: key.full.len(), ..key }),
        (None, None) => return Err(after.invalid("has an invalid path after it")),
    };
    if key.is_empty() {
        return Err(after.invalid("needs a key after the dot"));
    }
    let key: MapKey = map_key(&key_kind, key).map_err(|what| inner.invalid(what))?;
    let entry = map.entry(key).or_insert_with(|| Value::default_value(&value_kind));
    match (inner.dot(), entry.as_message_mut()) {
        (Some(inner), Some(nested)) => set_path(nested, inner, given),
        (_, old) => {
            let new = leaf(&value_kind, inner, given, old.as_deref())?;
            *entry = new;
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests;
