//! Reads of the associations of leads: the records of other object types to which a lead belongs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::future::try_join_all;

use super::Service;
use crate::leads::{
    context::{CallContext, Portal, Upstream},
    error::{Error, Reason},
    lead::{Associated, Lead},
    query::{GetLead, LeadId, ListAssociations, Selection},
    request::{ChunkOutcomes, Outcome, Request, Response},
    write::RECORD_ID,
};

// === impl Service ===

impl Service {
    /// Reads one page of the records that a lead is associated with. The id of a lead that was merged into
    /// another reads the associations of that lead, which takes two more HubSpot calls.
    pub async fn list_associations(
        &self,
        ctx: &CallContext,
        request: ListAssociations,
    ) -> Result<Associated, Error> {
        let error = match send(ctx, request.clone()).await {
            Err(error) if error.reason() == Reason::LeadNotFound => error,
            result => return result,
        };
        let survivor = survivor(ctx, &request.lead).await?.ok_or(error)?;
        send(ctx, ListAssociations { lead: survivor, ..request }).await
    }
}

/// Upstream that adds associations to the leads of batch reads, with one more HubSpot call for each object type
/// and request.
#[derive(Debug)]
pub(super) struct WithAssociations {
    inner: Arc<dyn Upstream>,
    object_types: Vec<String>,
}

// === impl WithAssociations ===

impl WithAssociations {
    /// The context of a call whose batch reads return associations to these object types.
    pub(super) fn context(ctx: &CallContext, object_types: Vec<String>) -> CallContext {
        if object_types.is_empty() {
            return ctx.clone();
        }
        let Portal { name, upstream, settings } = &*ctx.portal;
        let upstream = Arc::new(Self { inner: Arc::clone(upstream), object_types });
        let (name, settings) = (name.clone(), settings.clone());
        let portal = Arc::new(Portal { name, upstream, settings });
        CallContext { portal, ..ctx.clone() }
    }

    /// Adds the associations to the leads that were found. If they cannot be read, these leads have the error.
    async fn add(&self, ctx: &CallContext, chunk: ChunkOutcomes) -> ChunkOutcomes {
        let ChunkOutcomes { mut outcomes, mut evaluated } = chunk;
        let found = |outcome: &Outcome| Some(outcome.as_ref().ok()?.as_ref()?.lead.id.clone());
        let ids: BTreeSet<String> = outcomes.iter().filter_map(found).collect();
        let all = associations_of(&*self.inner, ctx, ids, &self.object_types).await;
        // Further requests would get an error of the portal as well.
        evaluated &= !all.as_ref().is_err_and(|error| error.reason().is_about_portal());
        for outcome in &mut outcomes {
            let Ok(Some(item)) = outcome else { continue };
            let added = match &all {
                Ok(all) => add_to(&mut item.lead, all),
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = added {
                *outcome = Err(error);
            }
        }
        ChunkOutcomes { outcomes, evaluated }
    }
}

#[async_trait]
impl Upstream for WithAssociations {
    async fn call(&self, ctx: &CallContext, request: Request) -> Result<Response, Error> {
        let response = self.inner.call(ctx, request).await?;
        let Response::Outcomes(chunk) = response else { return Ok(response) };
        Ok(Response::Outcomes(self.add(ctx, chunk).await))
    }
}

/// Adds the associations to the leads of a page of a search. A lead that HubSpot no longer finds, because the
/// index lags behind, keeps no entry for the object type.
pub(super) async fn add_to_page(
    ctx: &CallContext,
    leads: &mut [Lead],
    object_types: &[String],
) -> Result<(), Error> {
    let ids = leads.iter().map(|lead| lead.id.clone()).collect();
    let all = associations_of(&*ctx.portal.upstream, ctx, ids, object_types).await?;
    for lead in leads {
        // The error is about this lead, which was archived since.
        let _ = add_to(lead, &all);
    }
    Ok(())
}

/// Associations of leads, by object type and lead.
type AssociationsOf<'a> = Vec<(&'a str, BTreeMap<String, Associated>)>;

/// Reads the associations of these leads.
async fn associations_of<'a>(
    upstream: &dyn Upstream,
    ctx: &CallContext,
    ids: BTreeSet<String>,
    object_types: &'a [String],
) -> Result<AssociationsOf<'a>, Error> {
    let ids: Vec<LeadId> = ids.iter().filter_map(|id| LeadId::parse(id).ok()).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = &ids;
    let reads = object_types.iter().map(|to| async move {
        let mut found = read(upstream, ctx, ids.clone(), to).await?;
        let open = ids.iter().filter(|id| !found.contains_key(id.as_str()));
        let open: Vec<LeadId> = open.cloned().collect();
        // HubSpot mentions leads without associations. It may leave out others once.
        if !open.is_empty() {
            found.extend(read(upstream, ctx, open, to).await?);
        }
        Ok((to.as_str(), found))
    });
    try_join_all(reads).await
}

async fn read(
    upstream: &dyn Upstream,
    ctx: &CallContext,
    leads: Vec<LeadId>,
    to: &str,
) -> Result<BTreeMap<String, Associated>, Error> {
    let request = Request::ReadAssociations { leads, to: to.to_owned() };
    let links = upstream.call(ctx, request).await?.into_associations()?;
    // A list with gaps does not count.
    let whole = links.into_iter().filter(|links| links.is_whole);
    Ok(whole.map(|links| (links.lead, links.page)).collect())
}

/// Adds its associations to a lead. Errors if HubSpot did not return them.
fn add_to(lead: &mut Lead, all: &AssociationsOf<'_>) -> Result<(), Error> {
    for (to, by_lead) in all {
        let Some(page) = by_lead.get(&lead.id) else {
            let text = format!(
                "HubSpot did not return the associations of this lead to {to}; it may have been archived \
                 since; read it with GetLead"
            );
            return Err(Error::new(Reason::UpstreamInvalidResponse, text));
        };
        lead.associations.insert((*to).to_owned(), page.clone());
    }
    Ok(())
}

async fn send(ctx: &CallContext, request: ListAssociations) -> Result<Associated, Error> {
    let response = ctx.portal.upstream.call(ctx, Request::ListAssociations(request)).await;
    response?.into_associated()
}

/// The lead into which this one was merged; `None` if it was not merged. Errors if it does not exist.
async fn survivor(ctx: &CallContext, id: &LeadId) -> Result<Option<LeadId>, Error> {
    let selection = Selection { properties: vec![RECORD_ID.to_owned()], ..Selection::default() };
    let get = GetLead { id: id.clone(), id_property: None, selection, archived: false };
    let lead = ctx.portal.upstream.call(ctx, Request::Get(get)).await?.into_lead()?;
    Ok(LeadId::parse(&lead.id).ok().filter(|survivor| survivor != id))
}

#[cfg(test)]
mod tests;
