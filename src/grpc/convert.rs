//! From request messages to the domain, and from the domain to answers.

use std::hash::Hash;

use prost_types::Timestamp as PbTimestamp;

use super::{
    page_token::Fingerprint,
    pb, status,
    validate::{Faults, MAX_PAGE_SIZE_WITH_HISTORY},
};
use crate::leads::{
    Associated, BatchGet, CreateLead, Error, FieldFault, GetLead, Lead, LeadId, ListLeads, Page,
    PortalName, PropertyVersion, Reason, RequestId, SearchLeads, SearchPage, Traced, UpdateLead,
    UpsertLead, Upserted, Warning,
};
use leadsd_base::time::Timestamp;

/// Most leads on a page of a list.
const MAX_PAGE_SIZE: u32 = 100;

/// Most leads on a page of a search.
const MAX_SEARCH_PAGE_SIZE: u32 = 200;

/// HubSpot pages this many results of a search and no more.
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
    let mut faults = Faults::default();
    let id = faults.id("id", &id);
    let id_property = faults.optional_name("id_property", &id_property);
    let selection = faults.selection(properties, properties_with_history, associations);
    faults.finish(id.map(|id| GetLead { id, id_property, selection, archived }))
}

pub(crate) fn list(
    request: pb::ListLeadsRequest,
    portal: &PortalName,
) -> Result<(ListLeads, Fingerprint), Error> {
    let pb::ListLeadsRequest {
        page_size,
        page_token,
        properties,
        properties_with_history,
        associations,
        archived,
    } = request;
    let mut faults = Faults::default();
    let selection = faults.selection(properties, properties_with_history, associations);
    let max = if selection.properties_with_history.is_empty() {
        MAX_PAGE_SIZE
    } else {
        MAX_PAGE_SIZE_WITH_HISTORY
    };
    let limit = faults.page_size(page_size, max);
    let mut list = faults.finish(Some(ListLeads { limit, after: None, selection, archived }))?;
    let fingerprint = fingerprint("list", portal, &ListLeads { limit: 0, ..list.clone() });
    list.after = fingerprint.after(&page_token)?;
    Ok((list, fingerprint))
}

pub(crate) fn search(
    request: pb::SearchLeadsRequest,
    portal: &PortalName,
) -> Result<(SearchLeads, Fingerprint), Error> {
    let pb::SearchLeadsRequest { query, filter_groups, sorts, properties, page_size, page_token } =
        request;
    let mut faults = Faults::default();
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
    search.after = fingerprint.after(&page_token)?;
    let offset = search.after.as_deref().and_then(|after| after.parse::<u64>().ok()).unwrap_or(0);
    if offset >= SEARCH_WINDOW {
        let description = "a search pages its first 10,000 results only; narrow the filters, for \
                           example to hs_object_id greater than the last one seen";
        return Err(Error::new(Reason::SearchWindowExceeded, format!("page_token: {description}"))
            .with_fields(vec![FieldFault::new("page_token", description)]));
    }
    // The last page may be cut by the window.
    let left = u32::try_from(SEARCH_WINDOW - offset).unwrap_or(u32::MAX);
    search.limit = search.limit.min(left);
    Ok((search, fingerprint))
}

pub(crate) fn create(
    request: pb::CreateLeadRequest,
) -> Result<(CreateLead, Option<RequestId>), Error> {
    let pb::CreateLeadRequest { properties, primary_contact_id, associations, request_id } =
        request;
    let mut faults = Faults::default();
    let request_id = faults.request_id(&request_id);
    let create = faults.create("", properties, &primary_contact_id, &associations);
    faults.finish(create.map(|create| (create, request_id)))
}

pub(crate) fn update(
    request: pb::UpdateLeadRequest,
) -> Result<(UpdateLead, Option<RequestId>), Error> {
    let pb::UpdateLeadRequest { id, id_property, properties, request_id } = request;
    let mut faults = Faults::default();
    let request_id = faults.request_id(&request_id);
    let update = faults.update("", &id, &id_property, properties);
    faults.finish(update.map(|update| (update, request_id)))
}

pub(crate) fn archive(
    request: &pb::ArchiveLeadRequest,
) -> Result<(LeadId, Option<RequestId>), Error> {
    let mut faults = Faults::default();
    let request_id = faults.request_id(&request.request_id);
    let id = faults.id("id", &request.id);
    faults.finish(id.map(|id| (id, request_id)))
}

pub(crate) fn upsert(
    request: pb::UpsertLeadRequest,
) -> Result<(Traced<UpsertLead>, Option<RequestId>), Error> {
    let pb::UpsertLeadRequest { id, id_property, properties, request_id, object_write_trace_id } =
        request;
    let mut faults = Faults::default();
    let request_id = faults.request_id(&request_id);
    let trace_id = faults.trace_id("object_write_trace_id", &object_write_trace_id);
    let upsert = faults.upsert("", &id, &id_property, properties);
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
    let mut faults = Faults::default();
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

/// Inputs of a batch write with the request id of the whole.
type Writes<T> = (Vec<Traced<T>>, Option<RequestId>);

pub(crate) fn batch_create(
    request: pb::BatchCreateLeadsRequest,
    cap: usize,
) -> Result<Writes<CreateLead>, Error> {
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
) -> Result<Writes<UpdateLead>, Error> {
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
) -> Result<Writes<UpsertLead>, Error> {
    let pb::BatchUpsertLeadsRequest { inputs, request_id } = request;
    let ids = inputs.iter().map(|input| (input.id_property.clone(), input.id.clone()));
    unique_ids(ids, inputs.len(), cap)?;
    writes(inputs, &request_id, cap, |faults, prefix, input| {
        let pb::LeadUpsert { id, id_property, properties, object_write_trace_id } = input;
        (faults.upsert(prefix, &id, &id_property, properties), object_write_trace_id)
    })
}

pub(crate) fn batch_archive(
    request: &pb::BatchArchiveLeadsRequest,
    cap: usize,
) -> Result<(Vec<LeadId>, Option<RequestId>), Error> {
    let mut faults = Faults::default();
    let request_id = faults.request_id(&request.request_id);
    let counted = faults.inputs("ids", request.ids.len(), cap);
    let ids = if counted { faults.ids(&request.ids) } else { Vec::new() };
    faults.finish(Some((ids, request_id)))
}

/// The steps that all batch writes share: count, each input, trace ids.
fn writes<In, Out>(
    inputs: Vec<In>,
    request_id: &str,
    cap: usize,
    convert: impl Fn(&mut Faults, &str, In) -> (Option<Out>, String),
) -> Result<Writes<Out>, Error> {
    let mut faults = Faults::default();
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
    let mut faults = Faults::default();
    if count <= cap {
        let named = |(index, key): (usize, (String, String))| (format!("inputs[{index}].id"), key);
        faults.unique(ids.enumerate().filter(|(_, (_, id))| !id.is_empty()).map(named));
    }
    faults.finish(Some(()))
}

fn fingerprint(kind: &str, portal: &PortalName, request: &impl Hash) -> Fingerprint {
    Fingerprint::of(&(kind, portal, request))
}

pub(crate) fn list_answer(page: Page, fingerprint: Fingerprint) -> pb::ListLeadsResponse {
    pb::ListLeadsResponse {
        leads: page.leads.into_iter().map(lead).collect(),
        next_page_token: page.after.map(|after| fingerprint.token(&after)).unwrap_or_default(),
    }
}

pub(crate) fn search_answer(page: SearchPage, fingerprint: Fingerprint) -> pb::SearchLeadsResponse {
    pb::SearchLeadsResponse {
        leads: page.leads.into_iter().map(lead).collect(),
        next_page_token: page.after.map(|after| fingerprint.token(&after)).unwrap_or_default(),
        total: i64::try_from(page.total).unwrap_or(i64::MAX),
    }
}

pub(crate) fn read_result(result: Result<Lead, Error>) -> pb::LeadReadResult {
    use pb::lead_read_result::Outcome;
    let outcome = match result {
        Ok(found) => Outcome::Lead(lead(found)),
        Err(error) => Outcome::Error(status::of_item(&error)),
    };
    pb::LeadReadResult { outcome: Some(outcome) }
}

pub(crate) fn write_result(
    result: Result<Lead, Error>,
    object_write_trace_id: String,
) -> pb::LeadWriteResult {
    use pb::lead_write_result::Outcome;
    let outcome = match result {
        Ok(written) => Outcome::Lead(lead(written)),
        Err(error) => Outcome::Error(status::of_item(&error)),
    };
    pb::LeadWriteResult { outcome: Some(outcome), object_write_trace_id }
}

pub(crate) fn upsert_result(
    result: Result<Upserted, Error>,
    object_write_trace_id: String,
) -> pb::LeadUpsertResult {
    use pb::lead_upsert_result::Outcome;
    let (outcome, created) = match result {
        Ok(upserted) => (Outcome::Lead(lead(upserted.lead)), upserted.created),
        Err(error) => (Outcome::Error(status::of_item(&error)), false),
    };
    pb::LeadUpsertResult { outcome: Some(outcome), created, object_write_trace_id }
}

pub(crate) fn archive_result(result: &Result<(), Error>) -> pb::LeadArchiveResult {
    let status = match result {
        Ok(()) => status::ok(),
        Err(error) => status::of_item(error),
    };
    pb::LeadArchiveResult { status: Some(status) }
}

pub(crate) fn lead(lead: Lead) -> pb::Lead {
    let Lead {
        id,
        properties,
        property_history,
        associations,
        create_time,
        update_time,
        archived,
        archive_time,
        url,
        warnings,
    } = lead;
    pb::Lead {
        id,
        properties,
        property_history: property_history
            .into_iter()
            .map(|(name, versions)| (name, history(versions)))
            .collect(),
        associations: associations
            .into_iter()
            .map(|(kind, associated)| (kind, associated_objects(associated)))
            .collect(),
        create_time: create_time.map(timestamp),
        update_time: update_time.map(timestamp),
        archived,
        archive_time: archive_time.map(timestamp),
        url: url.unwrap_or_default(),
        warnings: warnings.into_iter().map(warning).collect(),
    }
}

fn history(versions: Vec<PropertyVersion>) -> pb::PropertyHistory {
    let version = |version: PropertyVersion| {
        let PropertyVersion {
            value,
            time,
            source_type,
            source_id,
            source_label,
            updated_by_user_id,
        } = version;
        pb::PropertyVersion {
            value,
            time: time.map(timestamp),
            source_type: source_type.unwrap_or_default(),
            source_id: source_id.unwrap_or_default(),
            source_label: source_label.unwrap_or_default(),
            updated_by_user_id,
        }
    };
    pb::PropertyHistory { versions: versions.into_iter().map(version).collect() }
}

fn associated_objects(associated: Associated) -> pb::AssociatedObjects {
    pb::AssociatedObjects {
        objects: associated
            .objects
            .into_iter()
            .map(|object| pb::AssociatedObject { id: object.id, r#type: object.kind })
            .collect(),
        next_cursor: associated.next.unwrap_or_default(),
    }
}

fn warning(warning: Warning) -> pb::LeadWarning {
    let Warning { category, message, context } = warning;
    pb::LeadWarning {
        category: category.unwrap_or_default(),
        message: message.unwrap_or_default(),
        context: context
            .into_iter()
            .map(|(name, values)| (name, pb::WarningContext { values }))
            .collect(),
    }
}

fn timestamp(time: Timestamp) -> PbTimestamp {
    // A proto timestamp counts nanoseconds forward, also before 1970.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    PbTimestamp { seconds, nanos }
}
