//! Associations as requests send them.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::leads::{Association, AssociationChangeKind, AssociationType, ChangeAssociations};

/// Association in a create request.
#[derive(Debug, Serialize)]
pub(in crate::hubspot) struct AssociationInput<'a> {
    to: AssociationTarget<'a>,
    types: Vec<AssociationTypeInput>,
}

#[derive(Debug, Serialize)]
struct AssociationTarget<'a> {
    id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AssociationTypeInput {
    association_category: &'static str,
    association_type_id: i32,
}

/// Converts associations for a create request.
pub(in crate::hubspot) fn associations(associations: &[Association]) -> Vec<AssociationInput<'_>> {
    associations
        .iter()
        .map(|association| AssociationInput {
            to: AssociationTarget { id: association.to_id.as_str() },
            types: types(&association.types),
        })
        .collect()
}

/// Converts changes of associations to the body of their request. A removal of all types lists each lead once,
/// with all of its records: HubSpot wants distinct leads.
pub(in crate::hubspot) fn association_changes(request: &ChangeAssociations) -> Value {
    let id = |id: &str| json!({ "id": id });
    let changes = request.changes.iter();
    let inputs: Vec<Value> = match request.kind {
        AssociationChangeKind::Create | AssociationChangeKind::RemoveTypes => changes
            .map(|change| {
                json!({
                    "from": id(change.lead.as_str()),
                    "to": id(change.to_id.as_str()),
                    "types": types(&change.types),
                })
            })
            .collect(),
        AssociationChangeKind::Remove => {
            let mut leads: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
            for change in changes {
                leads.entry(change.lead.as_str()).or_default().push(id(change.to_id.as_str()));
            }
            leads.into_iter().map(|(lead, to)| json!({ "from": id(lead), "to": to })).collect()
        }
    };
    json!({ "inputs": inputs })
}

fn types(types: &[AssociationType]) -> Vec<AssociationTypeInput> {
    let kind = |kind: &AssociationType| AssociationTypeInput {
        association_category: kind.category.as_str(),
        association_type_id: kind.type_id,
    };
    types.iter().map(kind).collect()
}
