//! Association types: those of a new lead, and those of a change of associations.

use super::{
    hints::{Candidate, Hints, shown},
    violation::{Violation, ViolationKind},
};
use crate::leads::{
    association_change::AssociationChange,
    association_type::{AssociationCategory, AssociationType},
    schema::{AssociationTypeCopy, HUBSPOT_DEFINED, HubspotDefined, object_type},
    write::Association,
};

/// Checks the associations of a new lead by what HubSpot defines for every portal. The object type of a
/// label of the portal is known to HubSpot only.
pub(super) fn violations(associations: &[Association]) -> Vec<Violation> {
    let mut found = Vec::new();
    for Association { types, position, .. } in associations {
        // The primary contact has a separate field and one type.
        let Some(position) = position else { continue };
        let mut first: Option<&HubspotDefined> = None;
        for (index, kind) in types.iter().enumerate() {
            let field = format!("associations[{position}].types[{index}].type_id");
            let text = match (forward(*kind), first) {
                (Some(known), None) => {
                    first = Some(known);
                    continue;
                }
                (Some(known), Some(first)) if known.to != first.to => format!(
                    "is a type of {}, but type {} of the same association is one of {}; a record has \
                     one object type",
                    known.to, first.type_id, first.to
                ),
                (Some(_), Some(_)) => continue,
                (None, _) => match reversed(*kind) {
                    Some(text) => text,
                    None => continue,
                },
            };
            let value = kind.type_id.to_string();
            let violation = Violation::new(
                ViolationKind::AssociationType,
                field,
                ("associations", &value),
                text,
            );
            found.push(violation.universal());
        }
    }
    found
}

/// Checks the types of a change of associations with records of the object type `to`. `copy` has those that
/// the portal knows.
pub(in crate::leads) fn check_change(
    to: &str,
    change: &AssociationChange,
    copy: Option<&AssociationTypeCopy>,
    hints: &mut Hints,
    max: usize,
) -> Vec<Violation> {
    let to = object_type(to);
    let copy = copy.filter(|copy| copy.is_complete && copy.fetch_time.is_some());
    let mut found = Vec::new();
    for (index, kind) in change.types.iter().enumerate() {
        let (text, is_universal) = match copy {
            Some(copy) if copy.all().iter().any(|own| own.association_type == *kind) => continue,
            Some(copy) => (unknown(to, *kind, copy, hints), false),
            None => match (forward(*kind), reversed(*kind)) {
                (Some(known), _) if known.to != to => {
                    (format!("is a type of {}, not of {}", known.to, shown(to)), true)
                }
                (None, Some(text)) => (text, true),
                (Some(_) | None, _) => continue,
            },
        };
        let (field, value) = (format!("types[{index}].type_id"), type_text(*kind));
        let violation =
            Violation::new(ViolationKind::AssociationType, field, ("types", &value), text);
        let violation = violation.with_object_type(to);
        found.push(if is_universal { violation.universal() } else { violation });
        if found.len() == max {
            break;
        }
    }
    found
}

/// Description of a type that the portal does not have for the object type.
fn unknown(
    to: &str,
    kind: AssociationType,
    copy: &AssociationTypeCopy,
    hints: &mut Hints,
) -> String {
    let same_id = copy.all().iter().find(|own| own.association_type.type_id == kind.type_id);
    if let Some(own) = same_id {
        let category = own.association_type.category.as_str();
        return format!("is a type of {} with category {category}", shown(to));
    }
    let names: Vec<String> = copy.all().iter().map(|own| type_text(own.association_type)).collect();
    let allowed = hints.allowed(names.iter().map(|name| Candidate::plain(name)));
    format!("is not a type of associations from leads to {}{allowed}", shown(to))
}

/// The type that HubSpot defines for every portal, from leads; `None` for others.
fn forward(kind: AssociationType) -> Option<&'static HubspotDefined> {
    let is_defined = kind.category == AssociationCategory::HubspotDefined;
    HUBSPOT_DEFINED.iter().find(|known| is_defined && known.type_id == kind.type_id)
}

/// Description of a type that leads from a record to a lead.
fn reversed(kind: AssociationType) -> Option<String> {
    let is_defined = kind.category == AssociationCategory::HubspotDefined;
    let known = HUBSPOT_DEFINED
        .iter()
        .find(|known| is_defined && known.inverse_type_id == Some(kind.type_id))?;
    Some(format!(
        "is the type from {} to leads; the type from leads is {}",
        known.to, known.type_id
    ))
}

fn type_text(kind: AssociationType) -> String {
    match kind.category {
        AssociationCategory::HubspotDefined => kind.type_id.to_string(),
        AssociationCategory::UserDefined
        | AssociationCategory::IntegratorDefined
        | AssociationCategory::Work => format!("{} {}", kind.category.as_str(), kind.type_id),
    }
}
