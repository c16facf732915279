//! Completes the results of batch creates, where HubSpot returns neither written values nor trace ids.
//!
//! Results that show none of the written values are completed by a read of their leads, so that they equal
//! those of individual creates. Results without trace ids are matched by their values. If creates with the
//! same values are left, the contacts of their leads are read: creates that agree in these as well are
//! interchangeable. So a batch costs at most two more requests, and each result gets the trace id of its
//! create.
//!
//! If a read fails, a result that is known to be that of a create has only its id. The others stay
//! unidentified: the leads exist, and the layers above say so.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::Either;
use tokio::time::Instant;

use super::{Dispatch, Layer};
use crate::leads::{
    BatchRead, BatchResponse, CallContext, CreateLead, Error, Lead, LeadId, Links, Request,
    Response, Traced, batch::CreatedLeads,
};

/// Object type of contacts.
const CONTACTS: &str = "contacts";

/// Minimum time for the reads, even if the deadline of the call has passed.
const READ_TIME: Duration = Duration::from_secs(10);

/// The layer that identifies created leads.
#[derive(Debug)]
pub(super) struct IdentifyCreated<L> {
    inner: L,
}

// === impl IdentifyCreated ===

impl<L: Layer> IdentifyCreated<L> {
    /// Identifies the leads of batch creates that are sent to `inner`.
    pub(super) fn new(inner: L) -> Self {
        Self { inner }
    }

    async fn create(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        let response = self.inner.call(ctx, Arc::clone(&request), dispatch).await?;
        match (&*request, response) {
            (Request::BatchCreate(inputs), Response::Batch(batch)) => {
                Ok(Response::Batch(self.identify(ctx, inputs, batch).await))
            }
            (_, response) => Ok(response),
        }
    }

    async fn identify(
        &self,
        ctx: &CallContext,
        inputs: &[Traced<CreateLead>],
        mut batch: BatchResponse,
    ) -> BatchResponse {
        let shows_values = shows_values(inputs, &batch);
        let has_trace_ids = batch.results.iter().all(|item| item.trace_id.is_some());
        if batch.results.is_empty() || shows_values && (has_trace_ids || inputs.len() == 1) {
            return batch;
        }
        // The leads exist, so the time of the call does not bound the reads that say whose they are.
        let deadline = ctx.deadline.max(Instant::now() + READ_TIME);
        let ctx = &CallContext { deadline, ..ctx.clone() };
        let mut read = batch.clone();
        let is_read = shows_values || self.read_values(ctx, inputs, &mut read).await;
        let mut created = CreatedLeads::by_values(inputs, &read);
        let is_open = |lead: &String| created.input(lead).is_none();
        let open: BTreeSet<String> =
            batch.results.iter().map(|item| item.lead.id.clone()).filter(is_open).collect();
        if is_read && !open.is_empty() {
            let contacts = self.read_contacts(ctx, &open).await;
            created.add_by_contacts(&read, &contacts);
        }
        for (item, read) in batch.results.iter_mut().zip(read.results) {
            let Some(input) = created.input(&item.lead.id) else { continue };
            // Results that show their values need no trace id, and the layers above observe who sends it.
            if !shows_values || open.contains(&item.lead.id) {
                item.trace_id.get_or_insert_with(|| input.trace_id.clone());
            }
            if !is_read {
                item.lead.is_id_only = true;
            } else if !shows_values {
                add_written(&mut item.lead, read.lead, &input.input);
            }
        }
        batch
    }

    /// Adds the properties that any of the creates writes to the leads of a response. False if they cannot be
    /// read.
    async fn read_values(
        &self,
        ctx: &CallContext,
        inputs: &[Traced<CreateLead>],
        batch: &mut BatchResponse,
    ) -> bool {
        let ids = batch.results.iter().map(|item| LeadId::parse(&item.lead.id));
        let Ok(ids) = ids.collect::<Result<Vec<LeadId>, _>>() else { return false };
        let read = BatchRead {
            ids,
            id_property: None,
            properties: written(inputs).into_iter().map(str::to_owned).collect(),
            properties_with_history: Vec::new(),
            archived: false,
        };
        let request = Arc::new(Request::BatchRead(read));
        let response = self.inner.call(ctx, request, Dispatch::new(ctx)).await;
        let Ok(read) = response.and_then(Response::into_batch) else { return false };
        let leads = read.results.into_iter().map(|item| (item.lead.id.clone(), item.lead));
        let mut leads: HashMap<String, Lead> = leads.collect();
        for item in &mut batch.results {
            let Some(read) = leads.remove(&item.lead.id) else { return false };
            item.lead.properties.extend(read.properties);
            item.lead.unset_properties.extend(read.unset_properties);
        }
        true
    }

    /// Ids of the contacts of leads, by record id of the lead. Leads whose contacts are not all known are
    /// left out.
    async fn read_contacts(
        &self,
        ctx: &CallContext,
        leads: &BTreeSet<String>,
    ) -> HashMap<String, BTreeSet<String>> {
        let leads = leads.iter().filter_map(|id| LeadId::parse(id).ok()).collect();
        let request = Request::ReadAssociations { leads, to: CONTACTS.to_owned() };
        let response = self.inner.call(ctx, Arc::new(request), Dispatch::new(ctx)).await;
        let links = response.and_then(Response::into_associations).unwrap_or_default();
        let contacts = |links: Links| {
            let is_complete = links.is_complete();
            let ids = links.page.objects.into_iter().map(|object| object.id).collect();
            is_complete.then_some((links.lead, ids))
        };
        links.into_iter().filter_map(contacts).collect()
    }
}

impl<L: Layer> Layer for IdentifyCreated<L> {
    fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> impl Future<Output = Result<Response, Error>> + Send {
        if !matches!(*request, Request::BatchCreate(_)) {
            return Either::Left(self.inner.call(ctx, request, dispatch));
        }
        // Boxed: it is large, and every other request would carry its size.
        Either::Right(Box::pin(self.create(ctx, request, dispatch)))
    }
}

/// Adds the properties that a create writes, as they were read.
fn add_written(lead: &mut Lead, read: Lead, create: &CreateLead) {
    let is_own = |name: &String| create.properties.contains_key(name);
    lead.properties.extend(read.properties.into_iter().filter(|(name, _)| is_own(name)));
    let unset = read.unset_properties.into_iter().filter(is_own);
    lead.unset_properties.extend(unset);
    lead.unset_properties.sort();
    lead.unset_properties.dedup();
}

/// Names of the properties that creates write.
fn written(inputs: &[Traced<CreateLead>]) -> BTreeSet<&str> {
    inputs.iter().flat_map(|input| input.input.properties.keys()).map(String::as_str).collect()
}

/// True if a response shows a value that a create has written.
fn shows_values(inputs: &[Traced<CreateLead>], batch: &BatchResponse) -> bool {
    let written = written(inputs);
    let mut shown = batch.results.iter().flat_map(|item| item.lead.properties.keys());
    shown.any(|name| written.contains(name.as_str()))
}

#[cfg(test)]
mod tests;
