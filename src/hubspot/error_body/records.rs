//! Records that HubSpot's errors name: inputs of a batch, records to associate with, and existing records.

use std::collections::HashSet;

use super::{
    ErrorBody, MAX_MESSAGE, MAX_SHOWN_IDS,
    context::{
        EXISTING_IDS, INVALID_IDS, OBJECT_IDS, POSITIONS, TRACE_IDS, existing_id_in,
        is_association_path, may_name_inputs, position_in, property_names,
    },
    words::{is_uuid, uuids_in},
};
use crate::leads::{AffectedInputs, FieldFault};

/// Minimum number of digits in a message that may be a record id.
const MIN_ID_IN_MESSAGE: usize = 6;

/// Words before a number that is the id of an account, an app or a user.
const OWNERS: [&str; 7] = ["account", "portal", "hub", "hubid", "app", "application", "user"];

/// Number of words before a number that may say whose id it is, such as in "portal with id 123456".
const OWNER_DISTANCE: usize = 3;

/// Maximum number of digits of a record id.
const MAX_RECORD_ID: usize = 20;

// === impl ErrorBody ===

impl ErrorBody {
    /// Inputs of a batch that the error names. HubSpot names them by trace id, id or position. Under an
    /// unknown key, every value may be an id. A UUID anywhere may be a trace id.
    pub(in crate::hubspot) fn affected_inputs(&self) -> AffectedInputs {
        let trace_ids: Vec<String> =
            self.values(&TRACE_IDS).into_iter().flat_map(trace_ids_in).collect();
        let mut ids = self.values(&OBJECT_IDS);
        ids.extend(self.values(&INVALID_IDS));
        let mut positions: Vec<usize> =
            self.values(&POSITIONS).iter().filter_map(|at| at.parse().ok()).collect();
        let paths = self.entries().flat_map(|(_, values)| values);
        positions.extend(paths.filter_map(|text| position_in(text)));
        if trace_ids.is_empty() && ids.is_empty() && positions.is_empty() {
            let unknown = self.entries().filter(|(key, _)| may_name_inputs(key));
            ids = unknown.flat_map(|(_, values)| values.clone()).collect();
        }
        let mut unknown_properties: Vec<String> = self
            .errors
            .iter()
            .filter(|detail| detail.code.as_deref() == Some("PROPERTY_DOESNT_EXIST"))
            .flat_map(|detail| property_names(&detail.context).map(str::to_owned))
            .collect();
        let listed = self.message_list().into_iter();
        unknown_properties.extend(
            listed.filter(|(_, _, code)| code == "PROPERTY_DOESNT_EXIST").map(|(name, ..)| name),
        );
        AffectedInputs { trace_ids, ids, positions, uuids: self.uuids.clone(), unknown_properties }
    }

    /// True if the error names an input, or has what may be one. A UUID may be the id of a request.
    pub(in crate::hubspot) fn names_inputs(&self) -> bool {
        let affected = AffectedInputs { uuids: Vec::new(), ..self.affected_inputs() };
        affected != AffectedInputs::default()
    }

    /// True if the error has something of the request: a property, or what may be an input or a record.
    pub(in crate::hubspot) fn names_content(&self) -> bool {
        self.names_inputs()
            || !self.fields().is_empty()
            || self.message.as_deref().is_some_and(names_record)
    }

    /// Violation of the associations of a create, if the error names a record to associate with.
    pub(in crate::hubspot) fn association_fault(&self) -> Option<FieldFault> {
        let mut ids = self.values(&INVALID_IDS);
        if ids.is_empty() && self.is_about_associations() {
            ids = self.values(&OBJECT_IDS);
        }
        if ids.is_empty() {
            return self.fault_at_association();
        }
        let shown = &ids[..ids.len().min(MAX_SHOWN_IDS)];
        let text = format!("HubSpot rejected the associated record {}", shown.join(", "));
        Some(FieldFault::new("associations", text.chars().take(MAX_MESSAGE).collect::<String>()))
    }

    /// Violation of an association that a detail names by its path.
    fn fault_at_association(&self) -> Option<FieldFault> {
        let mut details = self.errors.iter();
        let detail = details.find(|detail| {
            let mut texts = detail.context.iter().flat_map(|(_, values)| values);
            texts.any(|text| is_association_path(text))
        })?;
        let text = detail.message.as_deref().unwrap_or("HubSpot rejected an association");
        let clean = text.chars().filter(|c| !c.is_control());
        Some(FieldFault::new("associations", clean.take(MAX_MESSAGE).collect::<String>()))
    }

    fn is_about_associations(&self) -> bool {
        let texts = [&self.sub_category, &self.message].into_iter().flatten();
        texts.map(|text| text.to_ascii_lowercase()).any(|text| text.contains("association"))
    }

    /// Record ids that the error names, each once. Unique values are not shown: they may be personal data.
    /// Neither are the ids of several inputs, which may be those of different callers.
    pub(super) fn record_ids(&self) -> Vec<String> {
        let mut ids = self.values(&OBJECT_IDS);
        if ids.len() > 1 && !self.is_about_associations() {
            ids.clear();
        }
        ids.extend(self.values(&INVALID_IDS));
        let is_id = |id: &str| id.len() <= MAX_RECORD_ID && id.bytes().all(|c| c.is_ascii_digit());
        let mut seen = HashSet::new();
        ids.retain(|id| is_id(id) && seen.insert(id.clone()));
        ids
    }

    /// Id of the existing record: from the context, else from the message.
    pub(super) fn existing_id(&self) -> Option<String> {
        let named = self.values(&EXISTING_IDS).into_iter().next();
        named.or_else(|| existing_id_in(self.message.as_deref()?)).or_else(|| {
            self.errors.iter().find_map(|detail| existing_id_in(detail.message.as_deref()?))
        })
    }
}

/// Reports whether a message has a number that may be the id of a record: a long one that is not said to be
/// that of an account, an app or a user.
fn names_record(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let words = message.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    words.iter().enumerate().any(|(index, word)| {
        let before = &words[index.saturating_sub(OWNER_DISTANCE)..index];
        word.len() >= MIN_ID_IN_MESSAGE
            && word.bytes().all(|c| c.is_ascii_digit())
            && !before.iter().any(|word| OWNERS.contains(word))
    })
}

/// Trace ids in the value of a key for them: the UUIDs in it, or else the text.
fn trace_ids_in(text: String) -> Vec<String> {
    if is_uuid(&text) {
        return vec![text];
    }
    let uuids: Vec<String> = uuids_in(&text).map(str::to_owned).collect();
    if uuids.is_empty() { vec![text] } else { uuids }
}
