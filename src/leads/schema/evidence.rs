//! Finds copies that HubSpot's errors contradict. An error that agrees with the copy is no reason to read
//! it again: callers may send invalid names as often as they like.

use std::collections::HashMap;

use super::{
    copies::PropertyCopy,
    part::{PartCopy, PartKey, PartState},
};
use crate::leads::Error;

/// Properties whose values are ids of another part.
const REFERENCES: [(&str, PartKey); 3] = [
    ("hs_pipeline", PartKey::Pipelines),
    ("hs_pipeline_stage", PartKey::Pipelines),
    ("hubspot_owner_id", PartKey::Owners),
];

/// Marks the copies that the error of a write contradicts.
pub(super) fn observe(parts: &mut HashMap<PartKey, PartState>, error: &Error) {
    let mut suspects = Vec::new();
    {
        let part = parts.get(&PartKey::Properties);
        let copy = part.and_then(|part| match &part.copy {
            Some((PartCopy::Properties(copy), _)) => Some(copy),
            Some(_) | None => None,
        });
        let unknown = &error.affected_inputs().unknown_properties;
        for name in error.fields().iter().filter_map(|fault| fault.property()) {
            if let Some((_, part)) = REFERENCES.iter().find(|(property, _)| *property == name) {
                suspects.push(part.clone());
            }
            let is_unknown = unknown.iter().any(|other| other == name);
            if copy.is_some_and(|copy| contradicts(copy, name, is_unknown)) {
                suspects.push(PartKey::Properties);
            }
        }
    }
    for key in suspects {
        if let Some(part) = parts.get_mut(&key)
            && part.copy.is_some()
        {
            part.is_suspect = true;
        }
    }
}

/// True if the copy has a property that HubSpot does not know, or the reverse, or if HubSpot rejects a value
/// of an enumeration, whose options may have changed.
fn contradicts(copy: &PropertyCopy, name: &str, is_unknown: bool) -> bool {
    let property = copy.get(name);
    if is_unknown {
        return property.is_some();
    }
    property.is_none_or(|property| !property.options.is_empty())
}
