//! Associations as a create request sends them.

use serde::Serialize;

use crate::leads::{Association, AssociationType};

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
    let body = |association: &'_ Association| -> Vec<AssociationTypeInput> {
        let kind = |kind: &AssociationType| AssociationTypeInput {
            association_category: kind.category.as_str(),
            association_type_id: kind.type_id,
        };
        association.types.iter().map(kind).collect()
    };
    associations
        .iter()
        .map(|association| AssociationInput {
            to: AssociationTarget { id: association.to_id.as_str() },
            types: body(association),
        })
        .collect()
}
