//! Converts the requests of reads and archives to domain types. Rejects every request that is invalid without a HubSpot
//! call, with the field in `google.rpc.BadRequest`.

use std::hash::Hash;

use super::batch::{BatchCollector, BatchInputs, InputField};
use crate::{
    grpc::{
        page_token::{Fingerprint, PagePosition, SearchTokens},
        pb,
        validate::{FieldFaults, IdPlace, MAX_PAGE_SIZE_WITH_HISTORY, labelled_filters},
    },
    leads::{
        BatchGet, Error, GetLead, Labelled, Labels, LeadId, ListLeads, PagedSearch, PortalName,
        RequestId, SearchLeads, Selection, export::ExportLeads,
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
pub(crate) fn export(
    request: pb::ExportLeadsRequest,
) -> Result<(Labelled<ExportLeads>, String), Error> {
    let pb::ExportLeadsRequest {
        query,
        filter_groups,
        properties,
        properties_with_history,
        associations,
        resume_token,
        typed: _,
        display: _,
    } = request;
    let mut faults = FieldFaults::default();
    faults.query(&query);
    let filters = labelled_filters(&filter_groups);
    let filter_groups = faults.filter_groups(&filter_groups);
    faults.room_for_window(&filter_groups);
    let selection = Selection {
        properties: faults.names("properties", properties),
        properties_with_history: faults.history(properties_with_history),
        associations: faults.object_types("associations", associations),
    };
    let input = faults.finish(Some(ExportLeads { query, filter_groups, selection }))?;
    let labels = Labels { filters, ..Labels::default() };
    Ok((Labelled { input, labels }, resume_token))
}

pub(crate) fn archive(
    request: &pb::ArchiveLeadRequest,
) -> Result<(LeadId, Option<RequestId>), Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request.request_id);
    let id = faults.lead_id(IdPlace::Url, "id", &request.id);
    faults.finish(id.map(|id| (id, request_id)))
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

pub(crate) fn batch_archive(
    request: &pb::BatchArchiveLeadsRequest,
    cap: usize,
) -> Result<(BatchInputs<LeadId>, Option<RequestId>), Error> {
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

pub(super) fn fingerprint(kind: &str, portal: &PortalName, request: &impl Hash) -> Fingerprint {
    Fingerprint::new(&(kind, portal, request))
}
