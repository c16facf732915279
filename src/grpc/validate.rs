//! Validates the fields of requests.
//!
//! Each violation names its field by the path in the request. `search` validates filters and sorts.

mod search;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
};

use uuid::Uuid;

use super::pb;
use crate::leads::{
    Association, AssociationCategory, AssociationType, CreateLead, Error, FieldFault, LEAD_NAME,
    LeadId, RequestId, Selection, UpdateLead, UpsertLead,
};

/// Default page size, as in HubSpot's API.
const DEFAULT_PAGE_SIZE: u32 = 10;

/// Maximum number of leads per page, or of ids per batch, with property history.
pub(crate) const MAX_PAGE_SIZE_WITH_HISTORY: u32 = 50;

/// Maximum length in characters of a property name or object type, as in HubSpot's API.
const MAX_NAME_CHARS: usize = 100;

/// Maximum length of a trace id in characters.
const MAX_TRACE_ID_CHARS: usize = 128;

/// Property that holds the record id. HubSpot rejects it as an `idProperty`.
const RECORD_ID: &str = "hs_object_id";

/// Number of names above which duplicates are found by hashing.
const LONG_LIST: usize = 64;

/// Maximum number of violations; after it, validation stops.
const MAX_VIOLATIONS: usize = 16;

/// Collector of the field violations of a request.
#[derive(Debug, Default)]
pub(crate) struct FieldFaults(Vec<FieldFault>);

// === impl FieldFaults ===

impl FieldFaults {
    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.0.len() < MAX_VIOLATIONS {
            self.0.push(FieldFault::new(field, description));
        }
    }

    /// Reports whether no more violations are collected.
    fn is_full(&self) -> bool {
        self.0.len() >= MAX_VIOLATIONS
    }

    /// Returns the value. Errors if there is a violation.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            Some(_) | None => Err(Error::invalid(self.0)),
        }
    }

    pub(crate) fn id(&mut self, field: &str, text: &str) -> Option<LeadId> {
        LeadId::parse(text).map_err(|description| self.add(field, description)).ok()
    }

    pub(crate) fn request_id(&mut self, text: &str) -> Option<RequestId> {
        if text.is_empty() {
            return None;
        }
        RequestId::parse(text).map_err(|description| self.add("request_id", description)).ok()
    }

    /// Validates an optional property name or object type.
    pub(crate) fn optional_name(&mut self, field: &str, text: &str) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        self.name(&field, text)
    }

    /// Validates a property name or object type. `field` is formatted only for a violation.
    fn check_name(&mut self, field: &dyn fmt::Display, text: &str) -> bool {
        if is_plain_name(text) {
            return true;
        }
        let violation = if text.is_empty() {
            "must not be empty"
        } else if text.chars().count() > MAX_NAME_CHARS {
            "must not be longer than 100 characters"
        } else if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ',') {
            // Requests to HubSpot join names with commas.
            "must not contain spaces, commas or control characters"
        } else {
            return true;
        };
        self.add(field.to_string(), violation);
        false
    }

    pub(super) fn name(&mut self, field: &dyn fmt::Display, text: &str) -> Option<String> {
        self.check_name(field, text).then(|| text.to_owned())
    }

    pub(crate) fn names(&mut self, field: &str, names: Vec<String>) -> Vec<String> {
        // Comparing each name with each other is quadratic.
        let mut seen = HashSet::new();
        let is_long = names.len() > LONG_LIST;
        let mut out: Vec<String> = Vec::with_capacity(names.len());
        for (index, name) in names.into_iter().enumerate() {
            let is_valid = self.check_name(&format_args!("{field}[{index}]"), &name);
            let is_new = match is_long {
                true => seen.insert(name.clone()),
                false => !out.contains(&name),
            };
            if is_valid && is_new {
                out.push(name);
            }
        }
        out
    }

    pub(crate) fn selection(
        &mut self,
        properties: Vec<String>,
        properties_with_history: Vec<String>,
        associations: Vec<String>,
    ) -> Selection {
        Selection {
            properties: self.names("properties", properties),
            properties_with_history: self.names("properties_with_history", properties_with_history),
            associations: self.names("associations", associations),
        }
    }

    pub(crate) fn page_size(&mut self, size: i32, max: u32) -> u32 {
        match u32::try_from(size) {
            Ok(0) => DEFAULT_PAGE_SIZE,
            Ok(size) if size <= max => size,
            Ok(_) => {
                self.add("page_size", format!("must not exceed {max}, is {size}"));
                max
            }
            Err(_) => {
                self.add("page_size", "must not be negative");
                max
            }
        }
    }

    /// Validates the number of inputs of a batch; returns false if the inputs need no further validation.
    pub(crate) fn inputs(&mut self, field: &str, count: usize, cap: usize) -> bool {
        if count == 0 {
            self.add(field, "must not be empty");
        } else if count > cap {
            self.add(field, format!("must not exceed {cap} entries, has {count}"));
        }
        (1..=cap).contains(&count)
    }

    pub(crate) fn ids(&mut self, ids: &[String]) -> Vec<LeadId> {
        let mut out = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            if self.is_full() {
                break;
            }
            out.extend(self.id(&format!("ids[{index}]"), id));
        }
        out
    }

    fn properties(
        &mut self,
        prefix: &str,
        properties: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        for name in properties.keys() {
            self.name(&format_args!("{prefix}properties[{name:?}]"), name);
        }
        properties
    }

    /// Validates a lead to create; `prefix` is the path of the message with a trailing dot, or empty.
    pub(crate) fn create(
        &mut self,
        prefix: &str,
        properties: BTreeMap<String, String>,
        primary_contact_id: &str,
        associations: &[pb::Association],
    ) -> Option<CreateLead> {
        let before = self.0.len();
        let properties = self.properties(prefix, properties);
        if properties.get(LEAD_NAME).is_none_or(|name| name.trim().is_empty()) {
            self.add(format!("{prefix}properties[\"{LEAD_NAME}\"]"), "must not be empty");
        }
        if primary_contact_id.is_empty() && associations.is_empty() {
            self.add(
                format!("{prefix}primary_contact_id"),
                "is required unless associations name a contact",
            );
        }
        let associations = self.associations(prefix, primary_contact_id, associations);
        (self.0.len() == before).then_some(CreateLead { properties, associations })
    }

    /// Validates the associations of a new lead.
    fn associations(
        &mut self,
        prefix: &str,
        primary_contact_id: &str,
        associations: &[pb::Association],
    ) -> Vec<Association> {
        let mut out = Vec::with_capacity(associations.len() + 1);
        if !primary_contact_id.is_empty() {
            let to_id = self.id(&format!("{prefix}primary_contact_id"), primary_contact_id);
            let types = vec![AssociationType::PRIMARY_CONTACT];
            out.extend(to_id.map(|to_id| Association { to_id, types }));
        }
        for (index, association) in associations.iter().enumerate() {
            out.extend(self.association(&format!("{prefix}associations[{index}]"), association));
        }
        out
    }

    fn association(&mut self, field: &str, association: &pb::Association) -> Option<Association> {
        let to_id = self.id(&format!("{field}.to_id"), &association.to_id);
        if association.types.is_empty() {
            self.add(format!("{field}.types"), "must not be empty");
        }
        let mut types = Vec::with_capacity(association.types.len());
        for (index, kind) in association.types.iter().enumerate() {
            types.extend(self.association_type(&format!("{field}.types[{index}]"), kind));
        }
        Some(Association { to_id: to_id?, types })
    }

    fn association_type(
        &mut self,
        field: &str,
        kind: &pb::AssociationType,
    ) -> Option<AssociationType> {
        use pb::AssociationCategory as Pb;
        let category = match Pb::try_from(kind.category) {
            Ok(Pb::Unspecified | Pb::HubspotDefined) => AssociationCategory::HubspotDefined,
            Ok(Pb::UserDefined) => AssociationCategory::UserDefined,
            Ok(Pb::IntegratorDefined) => AssociationCategory::IntegratorDefined,
            Ok(Pb::Work) => AssociationCategory::Work,
            Err(_) => {
                self.add(format!("{field}.category"), "is not a known category");
                return None;
            }
        };
        if kind.type_id < 1 {
            self.add(format!("{field}.type_id"), "must be greater than 0");
            return None;
        }
        Some(AssociationType { category, type_id: kind.type_id })
    }

    pub(crate) fn update(
        &mut self,
        prefix: &str,
        id: &str,
        id_property: &str,
        properties: BTreeMap<String, String>,
    ) -> Option<UpdateLead> {
        let before = self.0.len();
        let id = self.id(&format!("{prefix}id"), id);
        let id_property = self.optional_name(&format!("{prefix}id_property"), id_property);
        if properties.is_empty() {
            self.add(format!("{prefix}properties"), "must not be empty");
        }
        let properties = self.properties(prefix, properties);
        let update = UpdateLead { id: id?, id_property, properties };
        (self.0.len() == before).then_some(update)
    }

    /// Validates a lead to upsert; `prefix` is the path of the message with a trailing dot, or empty.
    pub(crate) fn upsert(
        &mut self,
        prefix: &str,
        id: &str,
        id_property: &str,
        properties: BTreeMap<String, String>,
        primary_contact_id: &str,
        associations: &[pb::Association],
    ) -> Option<UpsertLead> {
        let before = self.0.len();
        let id = self.id(&format!("{prefix}id"), id);
        let name = self.name(&format_args!("{prefix}id_property"), id_property);
        let properties = self.properties(prefix, properties);
        if let (Some(id), Some(name)) = (&id, &name)
            && let Some(value) = properties.get(name)
            && value.to_lowercase() != id.as_str().to_lowercase()
        {
            self.add(
                format!("{prefix}properties[{name:?}]"),
                format!("must equal {prefix}id or be absent: it identifies the lead"),
            );
        }
        let associations = self.associations(prefix, primary_contact_id, associations);
        let id_property = name.filter(|name| name != RECORD_ID);
        let upsert = UpsertLead { id: id?, id_property, properties, associations };
        (self.0.len() == before).then_some(upsert)
    }

    /// Validates a trace id; generates one if it is empty.
    pub(crate) fn trace_id(&mut self, field: &str, given: &str) -> String {
        if given.is_empty() {
            return Uuid::new_v4().to_string();
        }
        if given.len() > MAX_TRACE_ID_CHARS || !given.chars().all(|c| c.is_ascii_graphic()) {
            self.add(field, "must be 1 to 128 characters of printable ASCII without spaces");
        }
        given.to_owned()
    }

    /// Adds a violation for each repeated key. Each key comes with its field.
    pub(crate) fn unique<K: std::hash::Hash + Eq>(
        &mut self,
        keys: impl IntoIterator<Item = (String, K)>,
    ) {
        let mut seen: HashMap<K, String> = HashMap::new();
        for (field, key) in keys {
            if self.is_full() {
                return;
            }
            match seen.get(&key) {
                Some(first) => self.add(field, format!("is a duplicate of {first}")),
                None => {
                    seen.insert(key, field);
                }
            }
        }
    }
}

/// Reports whether a name consists of visible ASCII without commas, as nearly all valid names do. There is no
/// early exit, so that the compiler checks many bytes at a time.
fn is_plain_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() & (byte != b',');
    (1..=MAX_NAME_CHARS).contains(&text.len())
        && text.bytes().fold(true, |all, byte| all & plain(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_plain_are_checked_by_their_characters() {
        let (longest, long) = ("x".repeat(100), "x".repeat(101));
        let (umlauts, more) = ("ä".repeat(100), "ä".repeat(101));
        for (name, is_plain, is_valid) in [
            ("hs_lead_name", true, true),
            ("~!", true, true),
            (&*longest, true, true),
            (&*long, false, false),
            ("größe", false, true),
            (&*umlauts, false, true),
            (&*more, false, false),
            ("", false, false),
            ("a b", false, false),
            ("a,b", false, false),
            ("a\u{7f}", false, false),
            ("a\u{a0}b", false, false),
        ] {
            assert_eq!(is_plain_name(name), is_plain, "{name}");
            assert_eq!(FieldFaults::default().name(&"field", name).is_some(), is_valid, "{name}");
        }
    }
}
