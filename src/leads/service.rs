//! Use cases of the domain, one per RPC. Reads are here. Writes are in `writes`, because each of
//! them runs in a separate task, is audited and can be idempotent. The use cases know neither gRPC
//! nor the pipeline: they send requests to the upstream of the call's portal.

mod outcome;
mod writes;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::timeout_at;

use self::outcome::{WriteResponse, lead};
use super::{
    DEFAULT_PROPERTIES,
    batch::{self, BatchLimits, BatchProgress, ReadInput},
    context::CallContext,
    create::CreateRecovery,
    error::{Error, SideEffect},
    idempotency::IdempotencyStore,
    lead::Lead,
    query::{BatchRead, GetLead, LeadId, ListLeads, Page, SearchLeads, SearchPage},
    rejection_cache::RejectionCache,
    request::Request,
    response_limit::ResponseLimit,
};

/// Any number of leads by id.
#[derive(Debug, Clone)]
pub struct BatchGet {
    /// The ids. Duplicates are allowed.
    pub ids: Vec<LeadId>,
    /// The unique property that the ids are values of. `None` for record ids.
    pub id_property: Option<String>,
    /// Property names. Empty selects HubSpot's default set.
    pub properties: Vec<String>,
    /// Properties to return with their history.
    pub properties_with_history: Vec<String>,
    /// True if to read archived leads.
    pub archived: bool,
}

/// Settings of the use cases.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Maximum number of batch requests of one call that run concurrently.
    pub batch_concurrency: usize,
    /// Maximum size of one response.
    pub response: ResponseLimit,
    /// Time for which a single write that HubSpot rejected for its content is rejected without a
    /// request. Zero disables the cache.
    pub rejection_cache_ttl: Duration,
}

/// The use cases. The upstream of each call is that of its portal.
#[derive(Debug, Clone)]
pub struct Service {
    idempotency: Arc<IdempotencyStore<WriteResponse>>,
    rejections: Arc<RejectionCache>,
    recovery: CreateRecovery,
    limits: BatchLimits,
}

// === impl Service ===

impl Service {
    /// Creates the use cases.
    pub fn new(settings: &Settings) -> Self {
        let Settings { batch_concurrency, response, rejection_cache_ttl } = *settings;
        Self {
            idempotency: Arc::default(),
            rejections: Arc::new(RejectionCache::new(rejection_cache_ttl)),
            recovery: CreateRecovery::default(),
            limits: BatchLimits { concurrency: batch_concurrency, response },
        }
    }

    /// Memory of the results kept for request ids, in bytes.
    pub fn kept_result_bytes(&self) -> usize {
        self.idempotency.kept_bytes()
    }

    /// Reads one lead.
    // Not an async function, which would store the request while it waits.
    pub fn get(
        &self,
        ctx: &CallContext,
        request: GetLead,
    ) -> impl Future<Output = Result<Arc<Lead>, Error>> + Send {
        let response = ctx.portal.upstream.call(ctx, Request::Get(request));
        response.map(|response| response?.into_lead())
    }

    /// Reads one page of all leads.
    pub async fn list(&self, ctx: &CallContext, request: ListLeads) -> Result<Arc<Page>, Error> {
        ctx.portal.upstream.call(ctx, Request::List(request)).await?.into_page()
    }

    /// Reads one page of matching leads.
    pub async fn search(
        &self,
        ctx: &CallContext,
        request: SearchLeads,
    ) -> Result<Arc<SearchPage>, Error> {
        ctx.portal.upstream.call(ctx, Request::Search(request)).await?.into_search_page()
    }

    /// Reads many leads. Returns one result per id, in the order of the ids. Equal ids share one lead.
    pub async fn batch_get(
        &self,
        ctx: &CallContext,
        request: BatchGet,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let BatchGet { ids, id_property, mut properties, properties_with_history, archived } =
            request;
        if let Some(id_property) = &id_property {
            if properties.is_empty() {
                properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
            }
            if !properties.contains(id_property) {
                properties.push(id_property.clone());
            }
        }
        let (distinct, positions) = distinct(&ids);
        let inputs: Vec<ReadInput> = distinct
            .into_iter()
            .map(|id| ReadInput { id, id_property: id_property.clone() })
            .collect();
        let chunk_size = if properties_with_history.is_empty() {
            batch::MAX_CHUNK
        } else {
            batch::MAX_CHUNK_WITH_HISTORY
        };
        let request = |inputs: Vec<ReadInput>| {
            Request::BatchRead(BatchRead {
                ids: inputs.into_iter().map(|input| input.id).collect(),
                id_property: id_property.clone(),
                properties: properties.clone(),
                properties_with_history: properties_with_history.clone(),
                archived,
            })
        };
        let ctx = &ctx.ending_early();
        let progress = BatchProgress::new(inputs.len(), SideEffect::None, lead);
        let run =
            batch::run_into(ctx, &inputs, self.limits.read_plan(chunk_size), request, &progress);
        // At the deadline the results so far are the response.
        let _ = timeout_at(ctx.deadline, run).await;
        let results = progress.results()?;
        Ok(positions.into_iter().map(|position| results[position].clone()).collect())
    }
}

/// The distinct ids, and for each given id its index among them.
fn distinct(ids: &[LeadId]) -> (Vec<LeadId>, Vec<usize>) {
    let mut seen = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let next = distinct.len();
        let position = *seen.entry(id).or_insert(next);
        if position == next {
            distinct.push(id.clone());
        }
        positions.push(position);
    }
    (distinct, positions)
}

#[cfg(test)]
mod tests;
