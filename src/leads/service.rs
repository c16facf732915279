//! Use cases of the domain, one per RPC. Reads are here. Writes are in `writes`, because each of
//! them runs in a separate task, is audited and can be idempotent. The use cases know neither gRPC
//! nor the pipeline: they send requests to the upstream of the call's portal.

mod association_writes;
mod associations;
mod export;
mod import;
mod labels;
mod outcome;
mod record;
mod selection;
mod types;
mod validation;
mod writes;

use std::{collections::HashMap, hash::Hash, sync::Arc};

use futures_util::{FutureExt as _, future::Either};
use leadsd_base::time::WallClock;
use tokio::time::timeout_at;

pub use self::{
    association_writes::AssociationAction,
    export::{Export, ExportMessage},
    import::{Import, ImportResult},
    selection::ALL_PROPERTIES,
    validation::Validated,
};
use self::{
    associations::WithAssociations,
    outcome::{WriteResponse, lead},
    selection::{select_default, selects_all},
};
use super::{
    DEFAULT_PROPERTIES,
    batch::{self, BatchLimits, BatchProgress, LeadReference, ReadInput},
    context::CallContext,
    create::CreateRecovery,
    error::{Error, SideEffect},
    export::ExportStats,
    idempotency::{IdempotencyStore, RequestIdStats, RequestIdStore},
    import::ImportStats,
    labels::{LabelResolver, Labelled},
    lead::Lead,
    paged_search::{PagedSearch, PositionedPage, SearchPosition},
    query::{BatchRead, GetLead, LeadId, ListLeads, Page, SearchLeads, SearchPage},
    request::Request,
    response_limit::ResponseLimit,
    schema::Schemas,
    validator::{ValidationSettings, ValidationSnapshot, Validator},
};

/// Maximum number of keyset windows of one call without a new lead. Then the page is empty.
const MAX_EMPTY_WINDOWS: u32 = 3;

/// Any number of leads by id.
#[derive(Debug, Clone)]
pub struct BatchGet {
    /// The ids. Duplicates are allowed.
    pub ids: Vec<LeadId>,
    /// The unique property that the ids are values of. `None` for record ids.
    pub id_property: Option<String>,
    /// Property names. Empty selects the portal's default set.
    pub properties: Vec<String>,
    /// Properties to return with their history.
    pub properties_with_history: Vec<String>,
    /// Object types whose associated records to return.
    pub associations: Vec<String>,
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
    /// Validation of writes before they are sent.
    pub validation: ValidationSettings,
    /// Clock of the times at which schemas were read.
    pub clock: Arc<dyn WallClock>,
}

/// The use cases. The upstream of each call is that of its portal.
#[derive(Debug, Clone)]
pub struct Service {
    idempotency: Arc<IdempotencyStore<WriteResponse>>,
    validator: Arc<Validator>,
    schemas: Schemas,
    labels: LabelResolver,
    recovery: CreateRecovery,
    exports: Arc<ExportStats>,
    imports: Arc<ImportStats>,
    limits: BatchLimits,
}

// === impl Service ===

impl Service {
    /// Creates the use cases.
    pub fn new(settings: &Settings) -> Self {
        let Settings { batch_concurrency, response, ref validation, ref clock } = *settings;
        let schemas = Schemas::new(Arc::clone(clock));
        Self {
            idempotency: Arc::default(),
            validator: Arc::new(Validator::new(validation.clone(), schemas.clone())),
            labels: LabelResolver::new(schemas.clone()),
            schemas,
            recovery: CreateRecovery::default(),
            exports: Arc::default(),
            imports: Arc::default(),
            limits: BatchLimits { concurrency: batch_concurrency, response },
        }
    }

    /// The use cases, with request ids that all replicas know through `store`.
    #[must_use]
    pub fn sharing_request_ids(self, store: Arc<dyn RequestIdStore>) -> Self {
        Self { idempotency: Arc::new(IdempotencyStore::shared_through(store)), ..self }
    }

    /// Statistics of request ids.
    pub fn request_id_stats(&self) -> RequestIdStats {
        self.idempotency.stats()
    }

    /// Memory of the results kept for request ids, in bytes.
    pub fn kept_result_bytes(&self) -> usize {
        self.idempotency.kept_bytes()
    }

    /// Counts of validated writes.
    pub fn validation(&self) -> ValidationSnapshot {
        self.validator.snapshot()
    }

    /// Schemas of the portals.
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }

    /// Reads one lead.
    // Not an async function, which would store the request while it waits.
    pub fn get(
        &self,
        ctx: &CallContext,
        mut request: GetLead,
    ) -> impl Future<Output = Result<Arc<Lead>, Error>> + Send {
        if selects_all(&request.selection.properties) {
            return Either::Left(Box::pin(self.get_with_all_properties(ctx, request)));
        }
        select_default(&ctx.portal, &mut request.selection.properties);
        let response = ctx.portal.upstream.call(ctx, Request::Get(request));
        Either::Right(response.map(|response| response?.into_lead()))
    }

    async fn get_with_all_properties(
        &self,
        ctx: &CallContext,
        mut request: GetLead,
    ) -> Result<Arc<Lead>, Error> {
        let ctx = &self.select(ctx, &mut request.selection.properties).await?;
        ctx.portal.upstream.call(ctx, Request::Get(request)).await?.into_lead()
    }

    /// Reads one page of all leads.
    pub async fn list(
        &self,
        ctx: &CallContext,
        mut request: ListLeads,
    ) -> Result<Arc<Page>, Error> {
        let ctx = &self.select(ctx, &mut request.selection.properties).await?;
        ctx.portal.upstream.call(ctx, Request::List(request)).await?.into_page()
    }

    /// Reads one page of matching leads.
    pub async fn search(
        &self,
        ctx: &CallContext,
        mut request: SearchLeads,
    ) -> Result<Arc<SearchPage>, Error> {
        let ctx = &self.select(ctx, &mut request.properties).await?;
        ctx.portal.upstream.call(ctx, Request::Search(request)).await?.into_search_page()
    }

    /// Reads one page of matching leads at any position, with their associations to these object types.
    pub async fn search_page(
        &self,
        ctx: &CallContext,
        search: impl Into<Labelled<PagedSearch>>,
        associations: Vec<String>,
    ) -> Result<PositionedPage, Error> {
        let mut search = self.labels.resolve_one(ctx, search.into()).await?;
        let ctx = &self.select(ctx, search.properties_mut()).await?;
        let mut empty_pages = 0;
        let mut page = loop {
            let request = Request::Search(search.request());
            let page = ctx.portal.upstream.call(ctx, request).await?.into_search_page()?;
            let page = search.accept(Arc::unwrap_or_clone(page))?;
            // Windows of leads of one time may have none that is new.
            match &page.next {
                Some(next @ SearchPosition::Keyset(_))
                    if page.leads.is_empty() && empty_pages < MAX_EMPTY_WINDOWS =>
                {
                    search.move_to(next.clone());
                    empty_pages += 1;
                }
                Some(_) | None => break page,
            }
        };
        if !associations.is_empty() && !page.leads.is_empty() {
            associations::add_to_page(ctx, &mut page.leads, &associations).await?;
        }
        Ok(page)
    }

    /// Reads many leads. Returns one result per id, in the order of the ids. Equal ids share one lead, and so do
    /// unique values that differ only in ASCII case.
    pub async fn batch_get(
        &self,
        ctx: &CallContext,
        request: BatchGet,
    ) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        let BatchGet {
            ids,
            id_property,
            mut properties,
            properties_with_history,
            associations,
            archived,
        } = request;
        let ctx = &self.select(&ctx.ending_early(), &mut properties).await?;
        if let Some(id_property) = &id_property {
            if properties.is_empty() {
                properties = DEFAULT_PROPERTIES.map(str::to_owned).to_vec();
            }
            if !properties.contains(id_property) {
                properties.push(id_property.clone());
            }
        }
        let unique = id_property.as_deref();
        let (distinct, positions) =
            distinct_by(&ids, |id| LeadReference { id, id_property: unique }.normalized());
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
        let ctx = &WithAssociations::context(ctx, associations);
        let progress = BatchProgress::new(inputs.len(), SideEffect::None, lead);
        let run =
            batch::run_into(ctx, &inputs, self.limits.read_plan(chunk_size), request, &progress);
        // At the deadline the results so far are the response.
        let _ = timeout_at(ctx.deadline, run).await;
        let results = progress.results()?;
        Ok(positions.into_iter().map(|position| results[position].clone()).collect())
    }
}

/// The distinct inputs, and for each given input its index among them.
fn distinct<T: Clone + Eq + Hash>(ids: &[T]) -> (Vec<T>, Vec<usize>) {
    distinct_by(ids, |id| id)
}

/// The inputs with distinct keys, and for each given input the index of its key among them.
fn distinct_by<'a, T: Clone, K: Eq + Hash>(
    ids: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> (Vec<T>, Vec<usize>) {
    let mut seen = HashMap::with_capacity(ids.len());
    let mut distinct = Vec::with_capacity(ids.len());
    let mut positions = Vec::with_capacity(ids.len());
    for id in ids {
        let next = distinct.len();
        let position = *seen.entry(key(id)).or_insert(next);
        if position == next {
            distinct.push(id.clone());
        }
        positions.push(position);
    }
    (distinct, positions)
}

#[cfg(test)]
mod tests;
