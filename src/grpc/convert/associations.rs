//! Converts requests about associations to domain types.

use super::{
    batch::{BatchCollector, BatchInputs, InputField},
    request::fingerprint,
};
use crate::{
    grpc::{
        page_token::PagePosition,
        pb,
        validate::{FieldFaults, IdPlace},
    },
    leads::{
        AssociationAction, AssociationChange, Error, Labelled, ListAssociations, PortalName,
        RequestId,
    },
};

/// Maximum number of records on a page of associations, as in HubSpot's API.
const MAX_PAGE_SIZE: u32 = 500;

/// Default number of records on a page of associations.
const DEFAULT_PAGE_SIZE: u32 = 100;

/// Maximum length of a cursor in bytes. HubSpot's cursors are far shorter.
const MAX_CURSOR_BYTES: usize = 512;

pub(crate) fn list_associations(
    request: pb::ListLeadAssociationsRequest,
    portal: &PortalName,
) -> Result<(ListAssociations, PagePosition), Error> {
    let pb::ListLeadAssociationsRequest { lead_id, object_type, page_size, page_token, cursor } =
        request;
    let mut faults = FieldFaults::default();
    let lead = faults.lead_id(IdPlace::Url, "lead_id", &lead_id);
    let to = faults.object_type("object_type", &object_type);
    let limit = faults.page_size(page_size, DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE);
    if cursor.len() > MAX_CURSOR_BYTES || cursor.chars().any(char::is_control) {
        let limits =
            "must have at most 512 bytes and no control characters; use next_cursor of a lead";
        faults.add("cursor", limits);
    }
    let list = lead.zip(to).map(|(lead, to)| ListAssociations { lead, to, limit, after: None });
    let mut list = faults.finish(list)?;
    let content = (&list.lead, &list.to, &cursor);
    let position = fingerprint("associations", portal, &content).position(&page_token)?;
    let start = Some(cursor).filter(|cursor| !cursor.is_empty());
    list.after = position.after().map(str::to_owned).or(start);
    Ok((list, position))
}

/// Object type, change and request id of a single change.
type SingleChange = (String, Labelled<AssociationChange>, Option<RequestId>);

/// Object type, changes and request id of a batch.
type BatchChange = (String, BatchInputs<Labelled<AssociationChange>>, Option<RequestId>);

pub(crate) fn associate(request: pb::AssociateLeadRequest) -> Result<SingleChange, Error> {
    let pb::AssociateLeadRequest {
        lead_id,
        object_type,
        to_id,
        types,
        request_id,
        validate_only: _,
        type_labels,
    } = request;
    let change = pb::LeadAssociation { lead_id, to_id, types, type_labels };
    single(AssociationAction::Associate, &request_id, &object_type, &change)
}

pub(crate) fn dissociate(request: pb::DissociateLeadRequest) -> Result<SingleChange, Error> {
    let pb::DissociateLeadRequest {
        lead_id,
        object_type,
        to_id,
        types,
        request_id,
        validate_only: _,
        type_labels,
    } = request;
    let change = pb::LeadAssociation { lead_id, to_id, types, type_labels };
    single(AssociationAction::Dissociate, &request_id, &object_type, &change)
}

fn single(
    action: AssociationAction,
    request_id: &str,
    object_type: &str,
    change: &pb::LeadAssociation,
) -> Result<SingleChange, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    let change = faults.association_change(action, object_type, change);
    let to = faults.object_type("object_type", object_type);
    faults.finish(to.zip(change).map(|(to, change)| (to, change, request_id)))
}

pub(crate) fn batch_associate(
    request: &pb::BatchAssociateLeadsRequest,
    cap: usize,
) -> Result<BatchChange, Error> {
    let pb::BatchAssociateLeadsRequest { object_type, inputs, request_id, validate_only: _ } =
        request;
    batch(AssociationAction::Associate, object_type, inputs, request_id, cap)
}

pub(crate) fn batch_dissociate(
    request: &pb::BatchDissociateLeadsRequest,
    cap: usize,
) -> Result<BatchChange, Error> {
    let pb::BatchDissociateLeadsRequest { object_type, inputs, request_id, validate_only: _ } =
        request;
    batch(AssociationAction::Dissociate, object_type, inputs, request_id, cap)
}

fn batch(
    action: AssociationAction,
    object_type: &str,
    inputs: &[pb::LeadAssociation],
    request_id: &str,
    cap: usize,
) -> Result<BatchChange, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    let to = faults.object_type("object_type", object_type);
    faults.inputs("inputs", inputs.len(), cap);
    let to = faults.finish(to)?;
    let mut changes = BatchCollector::new(InputField::Inputs);
    for input in inputs {
        let mut faults = FieldFaults::for_input();
        let change = faults.association_change(action, &to, input);
        changes.push(faults.finish_input(change), String::new());
    }
    Ok((to, changes.finish(), request_id))
}
