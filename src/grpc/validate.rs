//! Validates the fields of requests.
//!
//! Each violation names its field by the path in the request. `associations` validates object types,
//! `search` filters and sorts, and `selection` what a read returns.

mod associations;
mod contacts;
mod labels;
mod search;
mod selection;
mod typed;

use self::labels::LabelledTypes;
pub(crate) use self::{contacts::NamedContact, labels::Values, search::labelled_filters};

use std::fmt;

use super::pb;
use crate::leads::{
    Association, AssociationCategory, AssociationLabel, AssociationType, CreateLead, Error,
    FieldFault, LEAD_NAME, Labelled, Labels, LeadId, RECORD_ID, RequestId, UpdateLead, UpsertLead,
    schema::object_type,
};

/// Maximum number of leads per page, or of ids per batch, with property history.
pub(crate) const MAX_PAGE_SIZE_WITH_HISTORY: u32 = 50;

/// Maximum length in characters of a property name or object type, as in HubSpot's API.
const MAX_NAME_CHARS: usize = 100;

/// Maximum length of a trace id in characters.
const MAX_TRACE_ID_CHARS: usize = 128;

/// Maximum number of violations of a request; after it, validation stops.
const MAX_VIOLATIONS: usize = 16;

/// Maximum number of violations of one input of a batch: those of all inputs are held at once.
const MAX_INPUT_VIOLATIONS: usize = 1;

/// Maximum length of a property name in the path of a field, in bytes.
const MAX_SHOWN_NAME: usize = 128;

/// Place of an id in a request to HubSpot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdPlace {
    /// Segment of the URL's path.
    Url,
    /// Body only.
    Body,
}

/// Collector of the field violations of a request, or of one input of a batch.
#[derive(Debug)]
pub(crate) struct FieldFaults {
    faults: Vec<FieldFault>,
    max: usize,
}

// === impl FieldFaults ===

impl Default for FieldFaults {
    fn default() -> Self {
        Self { faults: Vec::new(), max: MAX_VIOLATIONS }
    }
}

impl FieldFaults {
    /// Creates the collector of one input of a batch.
    pub(crate) fn for_input() -> Self {
        Self { faults: Vec::new(), max: MAX_INPUT_VIOLATIONS }
    }

    pub(crate) fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if self.faults.len() < self.max {
            self.faults.push(FieldFault::new(field, description));
        }
    }

    /// Reports whether there is no violation so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Returns the input of a batch. Errors with the violation if there is one.
    pub(crate) fn finish_input<T>(self, input: Option<T>) -> Result<T, FieldFault> {
        match (input, self.faults.into_iter().next()) {
            (Some(input), None) => Ok(input),
            (_, Some(fault)) => Err(fault),
            (None, None) => Err(FieldFault::new("", "is invalid")),
        }
    }

    /// Returns the value. Errors if there is a violation.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, Error> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            Some(_) | None => Err(Error::invalid(self.faults)),
        }
    }

    /// Validates an id by the place in which it is sent to HubSpot.
    pub(crate) fn lead_id(&mut self, place: IdPlace, field: &str, text: &str) -> Option<LeadId> {
        let id = match place {
            IdPlace::Url => LeadId::parse(text),
            IdPlace::Body => LeadId::parse_for_body(text),
        };
        id.map_err(|description| self.add(field, description)).ok()
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

    /// Validates the name of the property that identifies leads; `None` for record ids.
    pub(crate) fn id_property(&mut self, text: &str) -> Option<String> {
        self.optional_name("id_property", text).filter(|name| name != RECORD_ID)
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

    /// Validates the number of inputs of a batch; returns false if the inputs need no further validation.
    pub(crate) fn inputs(&mut self, field: &str, count: usize, cap: usize) -> bool {
        if count == 0 {
            self.add(field, "must not be empty");
        } else if count > cap {
            self.add(field, format!("must not exceed {cap} entries, has {count}"));
        }
        (1..=cap).contains(&count)
    }

    fn values(&mut self, prefix: &str, values: Values) -> Values {
        for name in values.properties.keys() {
            self.check_name(&format_args!("{prefix}properties[{:?}]", shown_name(name)), name);
        }
        self.labels(prefix, &values);
        values
    }

    /// Validates a lead to create; `prefix` is the path of the message with a trailing dot, or empty.
    pub(crate) fn create(
        &mut self,
        prefix: &str,
        values: Values,
        contact: NamedContact,
        associations: &[pb::Association],
    ) -> Option<Labelled<CreateLead>> {
        let before = self.faults.len();
        let Values { properties, labels } = self.values(prefix, values);
        if properties.get(LEAD_NAME).is_none_or(|name| name.trim().is_empty()) {
            self.add(format!("{prefix}properties[\"{LEAD_NAME}\"]"), "must not be empty");
        }
        let is_named = contact.is_named();
        let mut type_labels = Vec::new();
        let (associations, contact) =
            self.contact_and_associations(prefix, contact, associations, &mut type_labels);
        // An object type that is not valid may be that of contacts.
        let may_be_contact =
            |own: &AssociationLabel| own.to.is_empty() || object_type(&own.to) == "contacts";
        let is_labelled = type_labels.iter().any(may_be_contact);
        if !is_named && !is_labelled && !associations.iter().any(Association::may_name_contact) {
            let description = "is required, or contact, or an association with a contact: type 578 or \
                               608, or a label of the portal";
            self.add(format!("{prefix}primary_contact_id"), description);
        }
        let input = CreateLead { properties, associations, contact, trace_id: None };
        let labels = Labels { properties: labels, associations: type_labels, ..Labels::default() };
        (self.faults.len() == before).then_some(Labelled { input, labels })
    }

    fn association(
        &mut self,
        field: &str,
        index: usize,
        association: &pb::Association,
        labels: &mut Vec<AssociationLabel>,
    ) -> Option<Association> {
        let to_id = self.record_id(&format!("{field}.to_id"), &association.to_id);
        let pb::Association { type_labels, object_type, .. } = association;
        if association.types.is_empty() && type_labels.is_empty() {
            self.add(format!("{field}.types"), "must not be empty");
        }
        if !type_labels.is_empty() {
            let to = self.object_type(&format!("{field}.object_type"), object_type);
            let parent = format!("{field}.");
            let (parent, to) = (parent.as_str(), to.as_deref().unwrap_or_default());
            let types = LabelledTypes { parent, association: Some(index), to };
            labels.extend(self.type_labels(types, type_labels));
        }
        let mut types = Vec::with_capacity(association.types.len());
        for (index, kind) in association.types.iter().enumerate() {
            types.extend(self.association_type(&format!("{field}.types[{index}]"), kind));
        }
        Some(Association { to_id: to_id?, types, position: Some(index) })
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
        place: IdPlace,
        prefix: &str,
        id: &str,
        id_property: &str,
        values: Values,
    ) -> Option<Labelled<UpdateLead>> {
        let before = self.faults.len();
        let id = self.lead_id(place, &format!("{prefix}id"), id);
        let id_property = self.optional_name(&format!("{prefix}id_property"), id_property);
        if values.is_empty() {
            self.add(format!("{prefix}properties"), "must not be empty");
        }
        let Values { properties, labels } = self.values(prefix, values);
        let id_property = id_property.filter(|name| name != RECORD_ID);
        let input = UpdateLead { id: id?, id_property, properties, trace_id: None };
        let labels = Labels { properties: labels, ..Labels::default() };
        (self.faults.len() == before).then_some(Labelled { input, labels })
    }

    /// Validates a lead to upsert; `prefix` is the path of the message with a trailing dot, or empty.
    pub(crate) fn upsert(
        &mut self,
        prefix: &str,
        id: &str,
        id_property: &str,
        values: Values,
        contact: NamedContact,
        associations: &[pb::Association],
    ) -> Option<Labelled<UpsertLead>> {
        let before = self.faults.len();
        // An update by record id may have it in the URL.
        let place = if id_property == RECORD_ID { IdPlace::Url } else { IdPlace::Body };
        let id = self.lead_id(place, &format!("{prefix}id"), id);
        let name = self.name(&format_args!("{prefix}id_property"), id_property);
        let Values { properties, labels } = self.values(prefix, values);
        if let Some(name) = name.as_ref().filter(|name| labels.contains_key(*name)) {
            let description = "must not have a label: it identifies the lead";
            self.add(format!("{prefix}labels[{name:?}]"), description);
        }
        if let (Some(id), Some(name)) = (&id, &name)
            && let Some(value) = properties.get(name)
            && value.to_lowercase() != id.as_str().to_lowercase()
        {
            self.add(
                format!("{prefix}properties[{name:?}]"),
                format!("must equal {prefix}id or be absent: it identifies the lead"),
            );
        }
        let mut type_labels = Vec::new();
        let (associations, contact) =
            self.contact_and_associations(prefix, contact, associations, &mut type_labels);
        let id_property = name.filter(|name| name != RECORD_ID);
        let input = UpsertLead { id: id?, id_property, properties, associations, contact };
        let labels = Labels { properties: labels, associations: type_labels, ..Labels::default() };
        (self.faults.len() == before).then_some(Labelled { input, labels })
    }

    /// Validates a trace id; `None` if it is empty or invalid.
    pub(crate) fn trace_id(&mut self, field: &str, given: &str) -> Option<String> {
        if given.is_empty() {
            return None;
        }
        if given.len() > MAX_TRACE_ID_CHARS || !given.chars().all(|c| c.is_ascii_graphic()) {
            self.add(field, "must be 1 to 128 characters of printable ASCII without spaces");
            return None;
        }
        Some(given.to_owned())
    }
}

/// A property name as it is in the path of a field.
pub(crate) fn shown_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_SHOWN_NAME)]
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
