//! Converts request messages to domain types. Rejects every request that is invalid without a HubSpot
//! call, with the field in `google.rpc.BadRequest`.

use std::hash::Hash;

use super::{
    batch::{BatchCollector, BatchInputs, InputField, LeadName, lead_name, new_trace_id, traced},
    typed::{TypedNames, TypedWrite},
};
use crate::{
    grpc::{
        page_token::{Fingerprint, PagePosition, SearchTokens},
        pb,
        validate::{
            FieldFaults, IdPlace, MAX_PAGE_SIZE_WITH_HISTORY, NamedContact, Values,
            labelled_filters,
        },
    },
    leads::{
        BatchGet, CreateLead, Error, GetLead, Labelled, Labels, LeadId, ListLeads, PagedSearch,
        PortalName, RequestId, SearchLeads, Selection, Traced, UpdateLead, UpsertLead,
        export::ExportLeads,
    },
};

/// Maximum number of leads on a page of a list, and default of lists and searches.
const MAX_PAGE_SIZE: u32 = 100;

/// Maximum number of leads on a page of a search.
const MAX_SEARCH_PAGE_SIZE: u32 = 200;

pub(crate) fn get(request: pb::GetLeadRequest) -> Result<GetLead, Error> {
    let pb::GetLeadRequest {
        id,
        id_property,
        properties,
        properties_with_history,
        associations,
        archived,
        typed: _,
        display: _,
    } = request;
    let mut faults = FieldFaults::default();
    let id = faults.lead_id(IdPlace::Url, "id", &id);
    let id_property = faults.id_property(&id_property);
    let selection = faults.selection(properties, properties_with_history, associations);
    faults.finish(id.map(|id| GetLead { id, id_property, selection, archived }))
}

pub(crate) fn list(
    request: pb::ListLeadsRequest,
    portal: &PortalName,
) -> Result<(ListLeads, PagePosition), Error> {
    let pb::ListLeadsRequest {
        page_size,
        page_token,
        properties,
        properties_with_history,
        associations,
        archived,
        typed: _,
        display: _,
    } = request;
    let mut faults = FieldFaults::default();
    let selection = faults.selection(properties, properties_with_history, associations);
    let max = if selection.properties_with_history.is_empty() {
        MAX_PAGE_SIZE
    } else {
        MAX_PAGE_SIZE_WITH_HISTORY
    };
    let limit = faults.page_size(page_size, max, max);
    let mut list = faults.finish(Some(ListLeads { limit, after: None, selection, archived }))?;
    let fingerprint = fingerprint("list", portal, &ListLeads { limit: 0, ..list.clone() });
    let position = fingerprint.position(&page_token)?;
    list.after = position.after().map(str::to_owned);
    Ok((list, position))
}

pub(crate) fn search(
    request: pb::SearchLeadsRequest,
    portal: &PortalName,
) -> Result<(Labelled<PagedSearch>, Vec<String>, SearchTokens), Error> {
    let pb::SearchLeadsRequest {
        query,
        filter_groups,
        sorts,
        properties,
        page_size,
        page_token,
        associations,
        typed: _,
        display: _,
    } = request;
    let mut faults = FieldFaults::default();
    let associations = faults.object_types("associations", associations);
    faults.query(&query);
    let search = SearchLeads {
        filter_groups: faults.filter_groups(&filter_groups),
        sort: faults.sort(&sorts),
        properties: faults.names("properties", properties),
        limit: faults.page_size(page_size, MAX_PAGE_SIZE, MAX_SEARCH_PAGE_SIZE),
        after: None,
        query,
    };
    let search = faults.finish(Some(search))?;
    let filters = labelled_filters(&filter_groups);
    let content = (SearchLeads { limit: 0, ..search.clone() }, &associations);
    let fingerprint = match filters.is_empty() {
        true => fingerprint("search", portal, &content),
        false => fingerprint("search by labels", portal, &(content, &filters)),
    };
    let (position, tokens) = fingerprint.search_position(&page_token)?;
    let input = PagedSearch::new(search, position)?;
    let labels = Labels { filters, ..Labels::default() };
    Ok((Labelled { input, labels }, associations, tokens))
}

/// Converts the request of an export, and returns its resume token.
pub(crate) fn export(request: pb::ExportLeadsRequest) -> Result<(ExportLeads, String), Error> {
    let pb::ExportLeadsRequest {
        query,
        filter_groups,
        properties,
        properties_with_history,
        associations,
        resume_token,
        typed: _,
    } = request;
    let mut faults = FieldFaults::default();
    faults.query(&query);
    faults.no_labels(&filter_groups);
    let filter_groups = faults.filter_groups(&filter_groups);
    faults.room_for_window(&filter_groups);
    let selection = Selection {
        properties: faults.names("properties", properties),
        properties_with_history: faults.history(properties_with_history),
        associations: faults.object_types("associations", associations),
    };
    let export = faults.finish(Some(ExportLeads { query, filter_groups, selection }))?;
    Ok((export, resume_token))
}

pub(crate) fn create(
    request: pb::CreateLeadRequest,
) -> Result<(Labelled<CreateLead>, Option<RequestId>), Error> {
    let pb::CreateLeadRequest {
        properties,
        primary_contact_id,
        associations,
        request_id,
        object_write_trace_id,
        contact,
        validate_only: _,
        labels,
        typed_properties,
    } = request;
    let mut faults = FieldFaults::default();
    let properties = faults.typed_properties(properties, typed_properties);
    let request_id = faults.request_id(&request_id);
    let trace_id = faults.trace_id("object_write_trace_id", &object_write_trace_id);
    let contact = NamedContact { primary_contact_id, contact };
    let values = Values { properties, labels };
    let mut create = faults.create("", values, contact, &associations);
    create.iter_mut().for_each(|own| own.input.trace_id.clone_from(&trace_id));
    faults.finish(create.map(|create| (create, request_id)))
}

pub(crate) fn update(
    request: pb::UpdateLeadRequest,
) -> Result<(Labelled<UpdateLead>, Option<RequestId>), Error> {
    let pb::UpdateLeadRequest {
        id,
        id_property,
        properties,
        request_id,
        object_write_trace_id,
        validate_only: _,
        labels,
        typed_properties,
    } = request;
    let mut faults = FieldFaults::default();
    let properties = faults.typed_properties(properties, typed_properties);
    let request_id = faults.request_id(&request_id);
    let trace_id = faults.trace_id("object_write_trace_id", &object_write_trace_id);
    let values = Values { properties, labels };
    let mut update = faults.update(IdPlace::Url, "", &id, &id_property, values);
    update.iter_mut().for_each(|own| own.input.trace_id.clone_from(&trace_id));
    faults.finish(update.map(|update| (update, request_id)))
}

pub(crate) fn archive(
    request: &pb::ArchiveLeadRequest,
) -> Result<(LeadId, Option<RequestId>), Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request.request_id);
    let id = faults.lead_id(IdPlace::Url, "id", &request.id);
    faults.finish(id.map(|id| (id, request_id)))
}

pub(crate) fn upsert(
    request: pb::UpsertLeadRequest,
) -> Result<(Labelled<Traced<UpsertLead>>, Option<RequestId>), Error> {
    let pb::UpsertLeadRequest {
        id,
        id_property,
        properties,
        request_id,
        object_write_trace_id,
        primary_contact_id,
        associations,
        contact,
        validate_only: _,
        labels,
        typed_properties,
    } = request;
    let mut faults = FieldFaults::default();
    let properties = faults.typed_properties(properties, typed_properties);
    let request_id = faults.request_id(&request_id);
    let trace_id = faults.trace_id("object_write_trace_id", &object_write_trace_id);
    let contact = NamedContact { primary_contact_id, contact };
    let values = Values { properties, labels };
    let upsert = faults.upsert("", &id, &id_property, values, contact, &associations);
    let trace_id = trace_id.unwrap_or_else(new_trace_id);
    faults.finish(upsert.map(|upsert| (traced(upsert, trace_id), request_id)))
}

pub(crate) fn batch_get(
    request: pb::BatchGetLeadsRequest,
    cap: usize,
) -> Result<(BatchGet, BatchInputs<LeadId>), Error> {
    let pb::BatchGetLeadsRequest {
        ids,
        id_property,
        properties,
        properties_with_history,
        archived,
        associations,
        typed: _,
        display: _,
    } = request;
    let mut faults = FieldFaults::default();
    faults.inputs("ids", ids.len(), cap);
    if archived && !associations.is_empty() {
        let description = "cannot be read of archived leads in a batch; use GetLead or ListLeads with \
                           archived";
        faults.add("associations", description);
    }
    let batch = BatchGet {
        ids: Vec::new(),
        id_property: faults.id_property(&id_property),
        properties: faults.names("properties", properties),
        properties_with_history: faults.history(properties_with_history),
        associations: faults.object_types("associations", associations),
        archived,
    };
    let mut batch = faults.finish(Some(batch))?;
    let mut inputs = lead_ids(&ids);
    batch.ids = inputs.take_valid();
    Ok((batch, inputs))
}

/// Inputs of a batch write, and the request id of the batch.
type BatchWrite<T> = (BatchInputs<T>, Option<RequestId>);

pub(crate) fn batch_create(
    request: pb::BatchCreateLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<Labelled<Traced<CreateLead>>>, Error> {
    let pb::BatchCreateLeadsRequest { inputs, request_id, validate_only: _ } = request;
    writes(inputs, &request_id, cap, |faults, input| {
        let pb::LeadCreate {
            properties,
            primary_contact_id,
            associations,
            object_write_trace_id,
            contact,
            labels,
            typed_properties,
        } = input;
        let properties = faults.typed_properties(properties, typed_properties);
        let contact = NamedContact { primary_contact_id, contact };
        let create = faults.create("", Values { properties, labels }, contact, &associations);
        (create, None, object_write_trace_id)
    })
}

pub(crate) fn batch_update(
    request: pb::BatchUpdateLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<Labelled<Traced<UpdateLead>>>, Error> {
    let pb::BatchUpdateLeadsRequest { inputs, request_id, validate_only: _ } = request;
    writes(inputs, &request_id, cap, |faults, input| {
        let pb::LeadUpdate {
            id,
            id_property,
            properties,
            object_write_trace_id,
            labels,
            typed_properties,
        } = input;
        let properties = faults.typed_properties(properties, typed_properties);
        let values = Values { properties, labels };
        let update = faults.update(IdPlace::Body, "", &id, &id_property, values);
        let name = update
            .as_ref()
            .map(|Labelled { input, .. }| lead_name(&input.id, input.id_property.as_deref()));
        (update, name, object_write_trace_id)
    })
}

pub(crate) fn batch_upsert(
    request: pb::BatchUpsertLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<Labelled<Traced<UpsertLead>>>, Error> {
    let pb::BatchUpsertLeadsRequest { inputs, request_id, validate_only: _ } = request;
    writes(inputs, &request_id, cap, |faults, input| {
        let pb::LeadUpsert {
            id,
            id_property,
            properties,
            object_write_trace_id,
            primary_contact_id,
            associations,
            contact,
            labels,
            typed_properties,
        } = input;
        let properties = faults.typed_properties(properties, typed_properties);
        let contact = NamedContact { primary_contact_id, contact };
        let values = Values { properties, labels };
        let upsert = faults.upsert("", &id, &id_property, values, contact, &associations);
        let name = upsert
            .as_ref()
            .map(|Labelled { input, .. }| lead_name(&input.id, input.id_property.as_deref()));
        (upsert, name, object_write_trace_id)
    })
}

pub(crate) fn batch_archive(
    request: &pb::BatchArchiveLeadsRequest,
    cap: usize,
) -> Result<BatchWrite<LeadId>, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request.request_id);
    faults.inputs("ids", request.ids.len(), cap);
    faults.finish(Some(()))?;
    Ok((lead_ids(&request.ids), request_id))
}

fn lead_ids(ids: &[String]) -> BatchInputs<LeadId> {
    let mut inputs = BatchCollector::new(InputField::Ids);
    for id in ids {
        let mut faults = FieldFaults::for_input();
        let id = faults.lead_id(IdPlace::Body, "", id);
        inputs.push(faults.finish_input(id), String::new());
    }
    inputs.finish()
}

/// Converts and validates the inputs of a batch write. `convert` returns the input, the name of its lead
/// if it has one, and the trace id of the caller.
fn writes<In: TypedWrite, Out>(
    inputs: Vec<In>,
    request_id: &str,
    cap: usize,
    convert: impl Fn(&mut FieldFaults, In) -> (Option<Labelled<Out>>, Option<LeadName>, String),
) -> Result<BatchWrite<Labelled<Traced<Out>>>, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    faults.inputs("inputs", inputs.len(), cap);
    faults.finish(Some(()))?;
    let mut out = BatchCollector::new(InputField::Inputs);
    for input in inputs {
        let mut faults = FieldFaults::for_input();
        let typed = TypedNames::new(&input);
        let (input, name, given) = convert(&mut faults, input);
        let own = faults.trace_id("object_write_trace_id", &given);
        // Only a valid input excludes later ones.
        if let Some(trace_id) = own.as_ref().filter(|_| faults.is_empty()) {
            out.check_trace(&mut faults, trace_id);
        }
        if let Some(name) = name.filter(|_| faults.is_empty()) {
            out.check_lead(&mut faults, name);
        }
        match faults.finish_input(input) {
            Ok(input) => {
                let trace_id = own.unwrap_or_else(new_trace_id);
                out.push_typed(traced(input, trace_id), typed);
            }
            Err(fault) => out.push(Err(typed.rename_fault(fault)), own.unwrap_or_default()),
        }
    }
    Ok((out.finish(), request_id))
}

pub(super) fn fingerprint(kind: &str, portal: &PortalName, request: &impl Hash) -> Fingerprint {
    Fingerprint::new(&(kind, portal, request))
}
