//! Resolves the updates of a batch that HubSpot's response does not mention: one read of all of them
//! shows which have taken effect.

use std::sync::Arc;

use super::batch_context::BatchContext;
use crate::{
    leads::{
        BatchRead, Lead, LeadId, Request, Traced, UpdateLead,
        batch::{ItemOutcome, LeadReference},
    },
    pipeline::Layer,
};

/// Minimum number of open outcomes that are worth a read. A single open one costs as much to send again.
const MIN_OPEN: usize = 2;

/// Resolves the open outcomes whose leads have the written values. Returns the inputs that stay open.
pub(super) async fn resolve_unmatched<L: Layer>(
    inner: &L,
    ctx: &BatchContext,
    inputs: &[Traced<UpdateLead>],
    outcomes: &mut [ItemOutcome<Lead>],
) -> Vec<usize> {
    let mut open: Vec<usize> = (0..inputs.len())
        .filter(|&index| matches!(outcomes[index], ItemOutcome::RetryAlone))
        .collect();
    // After an error the open ones are those that it may concern, and not those that a response omits.
    let is_worthwhile = open.len() >= MIN_OPEN && !ctx.has_errors();
    let Some(&first) = open.first().filter(|_| is_worthwhile) else { return Vec::new() };
    let id_property = inputs[first].input.id_property.clone();
    let mut properties: Vec<String> =
        open.iter().flat_map(|&index| inputs[index].input.properties.keys().cloned()).collect();
    properties.extend(id_property.clone());
    properties.sort();
    properties.dedup();
    let ids: Vec<LeadId> = open.iter().map(|&index| inputs[index].input.id.clone()).collect();
    let request = Request::BatchRead(BatchRead {
        ids,
        id_property,
        properties,
        properties_with_history: Vec::new(),
        archived: false,
    });
    let response = inner.call(&ctx.part(first), Arc::new(request), ctx.dispatch(None)).await;
    let Ok(found) = response.and_then(|response| response.into_batch()) else { return Vec::new() };
    open.retain(|&index| {
        let input = &inputs[index].input;
        let reference = LeadReference { id: &input.id, id_property: input.id_property.as_deref() };
        // Compares the exact text: the old value may differ from it in case only. A cleared value is absent.
        let is_written = |lead: &Lead| {
            let shown = |name: &String| lead.properties.get(name).map_or("", String::as_str);
            input.properties.iter().all(|(name, value)| shown(name) == value)
        };
        let mut leads = found.results.iter().map(|item| &item.lead);
        let lead = leads.find(|lead| reference.identifies(lead) == Some(true) && is_written(lead));
        if let Some(lead) = lead {
            outcomes[index] = ItemOutcome::Resolved(Ok(lead.clone()));
        }
        lead.is_none()
    });
    open
}
