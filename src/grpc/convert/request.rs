//! Converts request messages to domain types. Rejects every request that is invalid without a HubSpot
//! call, with the field in `google.rpc.BadRequest`.

use std::hash::Hash;

use crate::{
    grpc::{
        page_token::{Fingerprint, PagePosition},
        pb,
        validate::{FieldFaults, MAX_PAGE_SIZE_WITH_HISTORY},
    },
    leads::{
        BatchGet, CreateLead, Error, FieldFault, GetLead, LeadId, ListLeads, PortalName, Reason,
        RequestId, SearchLeads, Traced, UpdateLead, UpsertLead,
    },
};

/// Maximum number of leads on a page of a list.
const MAX_PAGE_SIZE: u32 = 100;

/// Maximum number of leads on a page of a search.
const MAX_SEARCH_PAGE_SIZE: u32 = 200;

/// Maximum number of search results that HubSpot pages through.
const SEARCH_WINDOW: u64 = 10_000;

pub(crate) fn get(request: pb::GetLeadRequest) -> Result<GetLead, Error> {
    let pb::GetLeadRequest {
        id,
        id_property,
        properties,
        properties_with_history,
        associations,
        archived,
    } = request;
    let mut faults = FieldFaults::default();
    let id = faults.id("id", &id);
    let id_property = faults.optional_name("id_property", &id_property);
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
    } = request;
    let mut faults = FieldFaults::default();
    let selection = faults.selection(properties, properties_with_history, associations);
    let max = if selection.properties_with_history.is_empty() {
        MAX_PAGE_SIZE
    } else {
        MAX_PAGE_SIZE_WITH_HISTORY
    };
    let limit = faults.page_size(page_size, max);
    let mut list = faults.finish(Some(ListLeads { limit, after: None, selection, archived }))?;
    let fingerprint = fingerprint("list", portal, &ListLeads { limit: 0, ..list.clone() });
    let position = fingerprint.position(&page_token)?;
    list.after = position.after().map(str::to_owned);
    Ok((list, position))
}

pub(crate) fn search(
    request: pb::SearchLeadsRequest,
    portal: &PortalName,
) -> Result<(SearchLeads, PagePosition), Error> {
    let pb::SearchLeadsRequest { query, filter_groups, sorts, properties, page_size, page_token } =
        request;
    let mut faults = FieldFaults::default();
    faults.query(&query);
    let search = SearchLeads {
        filter_groups: faults.filter_groups(&filter_groups),
        sort: faults.sort(&sorts),
        properties: faults.names("properties", properties),
        limit: faults.page_size(page_size, MAX_SEARCH_PAGE_SIZE),
        after: None,
        query,
    };
    let mut search = faults.finish(Some(search))?;
    let fingerprint = fingerprint("search", portal, &SearchLeads { limit: 0, ..search.clone() });
    let position = fingerprint.position(&page_token)?;
    search.after = position.after().map(str::to_owned);
    let offset = search.after.as_deref().and_then(|after| after.parse::<u64>().ok()).unwrap_or(0);
    if offset >= SEARCH_WINDOW {
        let description = "a search returns at most its first 10,000 results; narrow the filters, \
                           for example to hs_object_id greater than that of the last result";
        return Err(Error::new(Reason::SearchWindowExceeded, format!("page_token: {description}"))
            .with_fields(vec![FieldFault::new("page_token", description)]));
    }
    // The window may shorten the last page.
    let left = u32::try_from(SEARCH_WINDOW - offset).unwrap_or(u32::MAX);
    search.limit = search.limit.min(left);
    Ok((search, position))
}

pub(crate) fn create(
    request: pb::CreateLeadRequest,
) -> Result<(CreateLead, Option<RequestId>), Error> {
    let pb::CreateLeadRequest { properties, primary_contact_id, associations, request_id } =
        request;
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request_id);
    let create = faults.create("", properties, &primary_contact_id, &associations);
    faults.finish(create.map(|create| (create, request_id)))
}

pub(crate) fn update(
    request: pb::UpdateLeadRequest,
) -> Result<(UpdateLead, Option<RequestId>), Error> {
    let pb::UpdateLeadRequest { id, id_property, properties, request_id } = request;
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request_id);
    let update = faults.update("", &id, &id_property, properties);
    faults.finish(update.map(|update| (update, request_id)))
}

pub(crate) fn archive(
    request: &pb::ArchiveLeadRequest,
) -> Result<(LeadId, Option<RequestId>), Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request.request_id);
    let id = faults.id("id", &request.id);
    faults.finish(id.map(|id| (id, request_id)))
}

pub(crate) fn upsert(
    request: pb::UpsertLeadRequest,
) -> Result<(Traced<UpsertLead>, Option<RequestId>), Error> {
    let pb::UpsertLeadRequest {
        id,
        id_property,
        properties,
        request_id,
        object_write_trace_id,
        primary_contact_id,
        associations,
    } = request;
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request_id);
    let trace_id = faults.trace_id("object_write_trace_id", &object_write_trace_id);
    let upsert =
        faults.upsert("", &id, &id_property, properties, &primary_contact_id, &associations);
    faults.finish(upsert.map(|input| (Traced { trace_id, input }, request_id)))
}

pub(crate) fn batch_get(request: pb::BatchGetLeadsRequest, cap: usize) -> Result<BatchGet, Error> {
    let pb::BatchGetLeadsRequest {
        ids,
        id_property,
        properties,
        properties_with_history,
        archived,
    } = request;
    let mut faults = FieldFaults::default();
    let ids = if faults.inputs("ids", ids.len(), cap) { faults.ids(&ids) } else { Vec::new() };
    let batch = BatchGet {
        ids,
        id_property: faults.optional_name("id_property", &id_property),
        properties: faults.names("properties", properties),
        properties_with_history: faults.names("properties_with_history", properties_with_history),
        archived,
    };
    faults.finish(Some(batch))
}

/// Inputs of a batch write, and the request id of the batch.
type BatchInputs<T> = (Vec<Traced<T>>, Option<RequestId>);

pub(crate) fn batch_create(
    request: pb::BatchCreateLeadsRequest,
    cap: usize,
) -> Result<BatchInputs<CreateLead>, Error> {
    let pb::BatchCreateLeadsRequest { inputs, request_id } = request;
    writes(inputs, &request_id, cap, |faults, prefix, input| {
        let pb::LeadCreate { properties, primary_contact_id, associations, object_write_trace_id } =
            input;
        let create = faults.create(prefix, properties, &primary_contact_id, &associations);
        (create, object_write_trace_id)
    })
}

pub(crate) fn batch_update(
    request: pb::BatchUpdateLeadsRequest,
    cap: usize,
) -> Result<BatchInputs<UpdateLead>, Error> {
    let pb::BatchUpdateLeadsRequest { inputs, request_id } = request;
    let ids = inputs.iter().map(|input| (input.id_property.clone(), input.id.clone()));
    unique_ids(ids, inputs.len(), cap)?;
    writes(inputs, &request_id, cap, |faults, prefix, input| {
        let pb::LeadUpdate { id, id_property, properties, object_write_trace_id } = input;
        (faults.update(prefix, &id, &id_property, properties), object_write_trace_id)
    })
}

pub(crate) fn batch_upsert(
    request: pb::BatchUpsertLeadsRequest,
    cap: usize,
) -> Result<BatchInputs<UpsertLead>, Error> {
    let pb::BatchUpsertLeadsRequest { inputs, request_id } = request;
    let ids = inputs.iter().map(|input| (input.id_property.clone(), input.id.to_lowercase()));
    unique_ids(ids, inputs.len(), cap)?;
    writes(inputs, &request_id, cap, |faults, prefix, input| {
        let pb::LeadUpsert {
            id,
            id_property,
            properties,
            object_write_trace_id,
            primary_contact_id,
            associations,
        } = input;
        let upsert = faults.upsert(
            prefix,
            &id,
            &id_property,
            properties,
            &primary_contact_id,
            &associations,
        );
        (upsert, object_write_trace_id)
    })
}

pub(crate) fn batch_archive(
    request: &pb::BatchArchiveLeadsRequest,
    cap: usize,
) -> Result<(Vec<LeadId>, Option<RequestId>), Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(&request.request_id);
    let counted = faults.inputs("ids", request.ids.len(), cap);
    let ids = if counted { faults.ids(&request.ids) } else { Vec::new() };
    faults.finish(Some((ids, request_id)))
}

/// Converts and validates the inputs of a batch write: number of inputs, each input, unique trace ids.
fn writes<In, Out>(
    inputs: Vec<In>,
    request_id: &str,
    cap: usize,
    convert: impl Fn(&mut FieldFaults, &str, In) -> (Option<Out>, String),
) -> Result<BatchInputs<Out>, Error> {
    let mut faults = FieldFaults::default();
    let request_id = faults.request_id(request_id);
    if !faults.inputs("inputs", inputs.len(), cap) {
        return faults.finish(None);
    }
    let mut out = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let (input, given) = convert(&mut faults, &format!("inputs[{index}]."), input);
        let field = format!("inputs[{index}].object_write_trace_id");
        let trace_id = faults.trace_id(&field, &given);
        out.extend(input.map(|input| Traced { trace_id, input }));
    }
    let traces = out.iter().enumerate().map(|(index, traced)| {
        (format!("inputs[{index}].object_write_trace_id"), traced.trace_id.clone())
    });
    faults.unique(traces);
    faults.finish(Some((out, request_id)))
}

fn unique_ids(
    ids: impl Iterator<Item = (String, String)>,
    count: usize,
    cap: usize,
) -> Result<(), Error> {
    let mut faults = FieldFaults::default();
    if count <= cap {
        let named = |(index, key): (usize, (String, String))| (format!("inputs[{index}].id"), key);
        faults.unique(ids.enumerate().filter(|(_, (_, id))| !id.is_empty()).map(named));
    }
    faults.finish(Some(()))
}

fn fingerprint(kind: &str, portal: &PortalName, request: &impl Hash) -> Fingerprint {
    Fingerprint::new(&(kind, portal, request))
}
