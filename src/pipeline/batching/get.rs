//! Reads of single leads that share a batch: one batch read of the leads, and one read of associations
//! for each object type. `links` adds the associations to the leads as an individual read returns
//! them.

mod links;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::join_all;

use leadsd_quota::Permit;

use self::links::{LinkFailure, Linked, add_links, calibration_lead, failure};
use super::{
    batch_context::BatchContext,
    capabilities::PortalCapabilities,
    merged::{form, send_merged},
    op::BatchableOp,
    writes::is_record_id,
};
use crate::{
    hubspot::Operation,
    leads::{
        BatchRead, CallContext, Error, GetLead, Lead, LeadId, Reason, Request, Selection,
        batch::{self, ItemOutcome, LeadReference, ReadInput},
    },
    pipeline::{Dispatch, Layer},
};

/// Maximum total length of the property names of a batched read, in bytes: its leads may have to be read
/// individually, with the names in a URL.
const MAX_NAME_BYTES: usize = 2_000;

/// Maximum number of object types whose associations are read in batches. HubSpot has a separate limit
/// for such requests, three quarters of the burst limit: more could exhaust it.
const MAX_OBJECT_TYPES: usize = 3;

/// Maximum number of leads of a batch that are read individually to learn association labels.
const MAX_CALIBRATION_READS: usize = 4;

/// Reads of one selection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct GetBatch {
    id_property: Option<String>,
    selection: Selection,
    archived: bool,
}

// === impl GetBatch ===

impl GetBatch {
    /// The kind of a read, if a batch can read it with the same result.
    pub(super) fn batchable(request: &GetLead, capabilities: &PortalCapabilities) -> Option<Self> {
        let GetLead { id, id_property, selection, archived } = request;
        let Selection { properties, properties_with_history, associations } = selection;
        let names = properties.iter().chain(properties_with_history);
        let length: usize = names.map(|name| name.len() + 1).sum();
        let can_be_found = match id_property.as_deref() {
            None => is_record_id(id),
            // Only its value identifies the result. If it is selected with its history, or if nothing is
            // selected, the result would contain more than that of an individual read.
            Some(name) => {
                !properties.is_empty() && !properties_with_history.iter().any(|own| own == name)
            }
        };
        // Whether associations of archived leads can be read in batches is not documented.
        let can_read_associations = associations.is_empty()
            || !archived
                && associations.len() <= MAX_OBJECT_TYPES
                && associations.iter().all(|to| capabilities.association_labels.is_supported(to));
        (can_be_found && can_read_associations && length <= MAX_NAME_BYTES).then(|| Self {
            id_property: id_property.clone(),
            selection: selection.clone(),
            archived: *archived,
        })
    }

    /// The properties to request, and whether the unique one is among them only to match the
    /// result.
    fn properties(&self) -> (Vec<String>, bool) {
        let mut properties = self.selection.properties.clone();
        match &self.id_property {
            Some(id_property) if !properties.contains(id_property) => {
                properties.push(id_property.clone());
                (properties, true)
            }
            Some(_) | None => (properties, false),
        }
    }

    /// The request of one lead.
    fn request(&self, id: &LeadId) -> GetLead {
        GetLead {
            id: id.clone(),
            id_property: self.id_property.clone(),
            selection: self.selection.clone(),
            archived: self.archived,
        }
    }

    /// Reads the leads without their associations.
    async fn read<L: Layer>(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        ids: &[LeadId],
        mut permit: Option<Permit>,
    ) -> Vec<ItemOutcome<Lead>> {
        let (properties, is_added) = self.properties();
        let (distinct, positions) = distinct(ids, self.id_property.as_deref());
        let inputs: Vec<ReadInput> = distinct
            .into_iter()
            .map(|id| ReadInput { id, id_property: self.id_property.clone() })
            .collect();
        let send = |first: usize, inputs: Vec<ReadInput>| {
            let first = positions.iter().position(|position| *position == first);
            let ctx_of_part = ctx.part(first.unwrap_or_default());
            let dispatch = ctx.dispatch(permit.take());
            let request = Arc::new(Request::BatchRead(BatchRead {
                ids: inputs.into_iter().map(|input| input.id).collect(),
                id_property: self.id_property.clone(),
                properties: properties.clone(),
                properties_with_history: self.selection.properties_with_history.clone(),
                archived: self.archived,
            }));
            async move { inner.call(&ctx_of_part, request, dispatch).await?.into_batch() }
        };
        // An id that occurs several times belongs to the caller of its first use.
        let mut owners = vec![0; inputs.len()];
        for (&position, &owner) in positions.iter().zip(ctx.owners()).rev() {
            owners[position] = owner;
        }
        let form = form(Operation::BatchRead);
        let mut found = send_merged(ctx, &owners, &inputs, form, send).await;
        let mut uses = vec![0_usize; found.len()];
        positions.iter().for_each(|&position| uses[position] += 1);
        // The last use takes the lead: a copy is made only for ids that occur several times.
        let mut take = |position: usize| {
            uses[position] -= 1;
            match uses[position] {
                0 => std::mem::replace(&mut found[position], ItemOutcome::RetryAlone),
                _ => found[position].clone(),
            }
        };
        let outcome = |position: usize| match take(position) {
            ItemOutcome::Resolved(Ok(Some(mut item))) => {
                if is_added && let Some(id_property) = &self.id_property {
                    item.lead.properties.remove(id_property);
                }
                ItemOutcome::Resolved(Ok(item.lead))
            }
            // The result of a merged lead has the id of its successor, or is missing: an individual
            // read of its record id finds it, unless it did not do so before.
            ItemOutcome::Resolved(Err(error))
                if error.reason() != Reason::LeadNotFound
                    || self.id_property.is_some()
                    || capabilities.not_found.contains(self.archived, &inputs[position].id) =>
            {
                ItemOutcome::Resolved(Err(error))
            }
            ItemOutcome::Resolved(Ok(None) | Err(_)) | ItemOutcome::RetryAlone => {
                ItemOutcome::RetryAlone
            }
            ItemOutcome::RetryApart => ItemOutcome::RetryApart,
        };
        positions.into_iter().map(outcome).collect()
    }

    /// Adds the associations to the leads that were found.
    async fn link<L: Layer>(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        inputs: &[LeadId],
        mut outcomes: Vec<ItemOutcome<Lead>>,
    ) -> Vec<ItemOutcome<Lead>> {
        let labels = &capabilities.association_labels;
        let mut found = BTreeMap::new();
        for (index, outcome) in outcomes.iter_mut().enumerate() {
            if let ItemOutcome::Resolved(Ok(lead)) = outcome {
                found.insert(index, std::mem::take(lead));
                *outcome = ItemOutcome::RetryAlone;
            }
        }
        let linked = match self.linked(inner, ctx, &found).await {
            Ok(linked) => linked,
            Err((to, error)) => {
                match failure(&error) {
                    LinkFailure::Unsupported => labels.suspend(to, None),
                    LinkFailure::RateLimited(pause) => labels.suspend(to, Some(pause)),
                    LinkFailure::Other => {
                        for &index in found.keys() {
                            outcomes[index] = ItemOutcome::Resolved(Err(error.clone()));
                        }
                    }
                }
                return outcomes;
            }
        };
        for _ in 0..MAX_CALIBRATION_READS {
            let Some(index) = calibration_lead(capabilities, &found, &linked) else { break };
            let single = self.calibrate(inner, ctx, index, &inputs[index]).await;
            if let Ok(lead) = &single {
                for (to, by_lead) in &linked {
                    if let Some(links) = by_lead.get(&lead.id) {
                        labels.observe(to, links, lead.associations.get(*to));
                    }
                }
            }
            found.remove(&index);
            outcomes[index] = ItemOutcome::Resolved(single);
        }
        for (index, mut lead) in found {
            let mut all = linked.iter();
            if all.all(|(to, by_lead)| add_links(capabilities, to, by_lead, &mut lead).is_ok()) {
                outcomes[index] = ItemOutcome::Resolved(Ok(lead));
            }
        }
        outcomes
    }

    /// Reads one lead of the batch individually.
    async fn calibrate<L: Layer>(
        &self,
        inner: &L,
        ctx: &BatchContext,
        index: usize,
        id: &LeadId,
    ) -> Result<Lead, Error> {
        let request = Arc::new(Request::Get(self.request(id)));
        inner
            .call(&ctx.part(index), request, ctx.dispatch(None))
            .await?
            .into_lead()
            .map(Arc::unwrap_or_clone)
    }

    /// Reads the associations of the leads. Errors with the object type that could not be read.
    async fn linked<L: Layer>(
        &self,
        inner: &L,
        ctx: &BatchContext,
        leads: &BTreeMap<usize, Lead>,
    ) -> Result<Vec<Linked<'_>>, (&str, Error)> {
        let mut ids: Vec<LeadId> =
            leads.values().filter_map(|lead| LeadId::parse(&lead.id).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = &ids;
        let reads = self.selection.associations.iter().map(|to| async move {
            let request = Request::ReadAssociations { leads: ids.clone(), to: to.clone() };
            let response = inner.call(ctx.whole(), Arc::new(request), ctx.dispatch(None)).await;
            let links = match response {
                Ok(response) => response.into_associations(),
                Err(error) => Err(error),
            };
            let links = links.map_err(|error| (to.as_str(), error))?;
            let by_lead = links.into_iter().map(|links| (links.lead.clone(), links)).collect();
            Ok((to.as_str(), by_lead))
        });
        join_all(reads).await.into_iter().collect()
    }
}

impl<L: Layer> BatchableOp<L> for GetBatch {
    type Input = LeadId;
    type Output = Lead;

    fn max_size(&self) -> usize {
        match self.selection.properties_with_history.is_empty() {
            true => batch::MAX_CHUNK,
            false => batch::MAX_CHUNK_WITH_HISTORY,
        }
    }

    /// One request for the leads, and one for each object type.
    fn min_size(&self) -> usize {
        self.selection.associations.len() + 2
    }

    async fn send_one(
        &self,
        inner: &L,
        ctx: &CallContext,
        id: &LeadId,
        dispatch: Dispatch,
    ) -> Result<Lead, Error> {
        inner
            .call(ctx, Arc::new(Request::Get(self.request(id))), dispatch)
            .await?
            .into_lead()
            .map(Arc::unwrap_or_clone)
    }

    fn observe(
        &self,
        capabilities: &PortalCapabilities,
        id: &LeadId,
        result: &Result<Lead, Error>,
    ) {
        if self.id_property.is_none() {
            capabilities.not_found.observe(self.archived, id, result);
        }
    }

    async fn send_batch(
        &self,
        inner: &L,
        capabilities: &PortalCapabilities,
        ctx: &BatchContext,
        ids: &[LeadId],
        permit: Option<Permit>,
    ) -> Vec<ItemOutcome<Lead>> {
        let outcomes = self.read(inner, capabilities, ctx, ids, permit).await;
        if self.selection.associations.is_empty() {
            return outcomes;
        }
        self.link(inner, capabilities, ctx, ids, outcomes).await
    }
}

/// The distinct ids, and for each given id its index among them. Unique values are compared without
/// regard to ASCII case.
fn distinct(ids: &[LeadId], id_property: Option<&str>) -> (Vec<LeadId>, Vec<usize>) {
    let mut seen: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let key = LeadReference { id, id_property }.normalized();
        let position = *seen.entry(key).or_insert_with(|| {
            distinct.push(id.clone());
            distinct.len() - 1
        });
        positions.push(position);
    }
    (distinct, positions)
}

#[cfg(test)]
mod tests;
