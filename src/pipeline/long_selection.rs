//! Sends reads that select more properties than fit in a URL: a batch read has their names in its body.
//!
//! A lead without associations takes one batch read. A page, or a lead with associations, takes one
//! request with a short URL, and one or two batch reads of its leads by record id. Splitting the names
//! among several URLs would take more requests.

use std::{collections::HashMap, sync::Arc};

use super::{Dispatch, Layer};
use crate::leads::{
    BatchRead, CallContext, DEFAULT_PROPERTIES, Error, GetLead, Lead, LeadId, ListLeads, Outcome,
    Page, RECORD_ID, Reason, Request, Response, Selection,
    batch::{MAX_CHUNK, MAX_CHUNK_WITH_HISTORY},
};

/// Sends a read of one lead or one page in requests whose URLs are short.
pub(super) async fn send<L: Layer>(
    stack: &L,
    ctx: &CallContext,
    request: Request,
) -> Result<Response, Error> {
    match request {
        Request::Get(get) => Ok(Response::Lead(get_lead(stack, ctx, get).await?.into())),
        Request::List(list) => Ok(Response::Page(list_leads(stack, ctx, list).await?.into())),
        request @ (Request::Search(_)
        | Request::Create(_)
        | Request::Update(_)
        | Request::Archive(_)
        | Request::BatchRead(_)
        | Request::BatchCreate(_)
        | Request::BatchUpdate(_)
        | Request::BatchArchive(_)
        | Request::Upsert { .. }
        | Request::ReadAssociations { .. }
        | Request::ListAssociations(_)
        | Request::ChangeAssociations(_)
        | Request::ReadSchema(_)
        | Request::FindContacts(_)
        | Request::CreateContacts(_)) => call(stack, ctx, request).await,
    }
}

async fn get_lead<L: Layer>(stack: &L, ctx: &CallContext, get: GetLead) -> Result<Lead, Error> {
    let GetLead { id, id_property, selection, archived } = get;
    let Selection { mut properties, properties_with_history, associations } = selection;
    if associations.is_empty() {
        let id_property = id_property.filter(|name| name != RECORD_ID);
        // Its value identifies the result.
        let added = id_property.clone().filter(|name| !properties.contains(name));
        if added.is_some() && properties.is_empty() {
            properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
        }
        properties.extend(added.clone());
        let read =
            BatchRead { ids: vec![id], id_property, properties, properties_with_history, archived };
        let mut lead = read_batch(stack, ctx, read).await?.pop().unwrap_or_else(no_outcome)?;
        if let Some(added) = added {
            lead.remove_property(&added);
        }
        return Ok(lead);
    }
    let short = Request::Get(GetLead { id, id_property, selection: short(associations), archived });
    let linked = Arc::unwrap_or_clone(call(stack, ctx, short).await?.into_lead()?);
    let read = BatchRead {
        ids: record_ids([&linked])?,
        id_property: None,
        properties,
        properties_with_history,
        archived,
    };
    let lead = read_batch(stack, ctx, read).await?.pop().unwrap_or_else(no_outcome)?;
    Ok(Lead { associations: linked.associations, ..lead })
}

async fn list_leads<L: Layer>(
    stack: &L,
    ctx: &CallContext,
    list: ListLeads,
) -> Result<Page, Error> {
    let ListLeads { limit, after, selection, archived } = list;
    let Selection { properties, properties_with_history, associations } = selection;
    let short = Request::List(ListLeads { limit, after, selection: short(associations), archived });
    let Page { leads, after } = Arc::unwrap_or_clone(call(stack, ctx, short).await?.into_page()?);
    let ids = record_ids(&leads)?;
    let chunk = if properties_with_history.is_empty() { MAX_CHUNK } else { MAX_CHUNK_WITH_HISTORY };
    let mut found: HashMap<String, Lead> = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(chunk) {
        let read = BatchRead {
            ids: ids.to_vec(),
            id_property: None,
            properties: properties.clone(),
            properties_with_history: properties_with_history.clone(),
            archived,
        };
        for lead in read_batch(stack, ctx, read).await? {
            match lead {
                Ok(lead) => drop(found.insert(lead.id.clone(), lead)),
                // It was archived or restored after the page was read.
                Err(error) if error.reason() == Reason::LeadNotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    let leads = leads.into_iter().filter_map(|linked| {
        // Absent as well if it was merged after the page was read.
        let lead = found.remove(&linked.id)?;
        Some(Lead { associations: linked.associations, ..lead })
    });
    Ok(Page { leads: leads.collect(), after })
}

/// A selection whose properties are read separately.
fn short(associations: Vec<String>) -> Selection {
    let properties = vec![RECORD_ID.to_owned()];
    Selection { properties, properties_with_history: Vec::new(), associations }
}

fn record_ids<'a>(leads: impl IntoIterator<Item = &'a Lead>) -> Result<Vec<LeadId>, Error> {
    let parse = |lead: &Lead| {
        LeadId::parse(&lead.id).map_err(|_| {
            let text = "HubSpot's response has a lead without a valid id";
            Error::new(Reason::UpstreamInvalidResponse, text)
        })
    };
    leads.into_iter().map(parse).collect()
}

/// Reads the leads of a batch, in the order of its ids.
async fn read_batch<L: Layer>(
    stack: &L,
    ctx: &CallContext,
    read: BatchRead,
) -> Result<Vec<Result<Lead, Error>>, Error> {
    if read.ids.is_empty() {
        return Ok(Vec::new());
    }
    let chunk = call(stack, ctx, Request::BatchRead(read)).await?.into_outcomes()?;
    let lead = |outcome: Outcome| outcome?.map_or_else(no_outcome, |item| Ok(item.lead));
    Ok(chunk.outcomes.into_iter().map(lead).collect())
}

async fn call<L: Layer>(stack: &L, ctx: &CallContext, request: Request) -> Result<Response, Error> {
    stack.call(ctx, Arc::new(request), Dispatch::new(ctx)).await
}

fn no_outcome() -> Result<Lead, Error> {
    Err(Error::new(Reason::Internal, "internal error: an id has no outcome"))
}

#[cfg(test)]
mod tests;
