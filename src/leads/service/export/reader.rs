//! Reads the pages of an export, with the parts of leads that HubSpot's lists and searches leave out.

use std::{sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::time::{Instant, sleep};

use crate::leads::{
    DEFAULT_PROPERTIES,
    context::CallContext,
    cost::CostMeter,
    error::{Error, Reason},
    export::{FetchedPage, PageRequest, PageRetries, PageRetry},
    lead::Lead,
    query::{LeadId, Page, SearchPage, Selection},
    rejection_search::RejectionSearch,
    request::Request,
    service::{BatchGet, Service, associations},
};

/// Timeout for one page, with all attempts of the pipeline.
const PAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout for the number of leads, without which the export begins as well.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// Reader of the pages of one export.
#[derive(Debug, Clone)]
pub(super) struct PageReader {
    pub(super) service: Service,
    pub(super) ctx: CallContext,
    pub(super) selection: Selection,
    /// True if leads are read by their ids, because a search has no history.
    pub(super) reads_by_id: bool,
}

// === impl PageReader ===

impl PageReader {
    /// Context of one request of the export.
    fn context(&self, timeout: Duration) -> CallContext {
        let deadline = self.ctx.deadline.min(Instant::now() + timeout);
        CallContext { deadline, search: RejectionSearch::default(), ..self.ctx.clone() }
    }

    /// Reads a page until it succeeds or an error is final. Its memory is charged while it is read.
    pub(super) async fn read_again(self, mut request: PageRequest) -> Result<FetchedPage, Error> {
        let properties = match &mut request {
            PageRequest::List(list) => &mut list.selection.properties,
            PageRequest::Search(search) => &mut search.properties,
        };
        // Lists and searches return the same properties.
        if properties.is_empty() && self.ctx.portal.settings.default_properties.is_empty() {
            properties.extend(DEFAULT_PROPERTIES.map(str::to_owned));
        }
        let mut retries = PageRetries::default();
        loop {
            // Pages that are read side by side do not share what they hold.
            let cost = CostMeter::shared_by(vec![Arc::clone(&self.ctx.cost)]);
            let ctx = CallContext { cost: Arc::new(cost), ..self.context(PAGE_TIMEOUT) };
            let error = match self.read_in(&ctx, request.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => error,
            };
            match retries.decide(&error, Instant::now(), rand::random()) {
                PageRetry::After(pause) => sleep(pause).await,
                PageRetry::Smaller | PageRetry::Stop => return Err(error),
            }
        }
    }

    /// Reads a page, and with a request for it, the number of leads from there on. That is unset if HubSpot
    /// does not tell it in time.
    pub(super) async fn read(
        &self,
        request: PageRequest,
        count: Option<Request>,
    ) -> Result<FetchedPage, Error> {
        let ctx = self.context(PAGE_TIMEOUT);
        let page = self.read_in(&ctx, request);
        let Some(count) = count else { return page.await };
        let (page, total) = join(page, self.count(count)).await;
        Ok(FetchedPage { total, ..page? })
    }

    async fn count(&self, request: Request) -> Option<u64> {
        let ctx = self.context(COUNT_TIMEOUT);
        let response = ctx.portal.upstream.call(&ctx, request).await;
        Some(response.ok()?.into_search_page().ok()?.total)
    }

    async fn read_in(&self, ctx: &CallContext, request: PageRequest) -> Result<FetchedPage, Error> {
        let mut page = match request {
            PageRequest::Search(search) => {
                let page = self.service.search(ctx, search).await?;
                let SearchPage { leads, after, total } = Arc::unwrap_or_clone(page);
                FetchedPage { leads, after, total: Some(total), ..FetchedPage::default() }
            }
            PageRequest::List(list) => {
                let page = self.service.list(ctx, list).await?;
                let Page { leads, after } = Arc::unwrap_or_clone(page);
                FetchedPage { leads, after, ..FetchedPage::default() }
            }
        };
        page.ids = page.leads.iter().map(|lead| lead.id.clone()).collect();
        if self.reads_by_id {
            page.leads = self.read_by_id(ctx, &page.ids).await?;
        }
        if !self.selection.associations.is_empty() && !page.leads.is_empty() {
            associations::add_to_page(ctx, &mut page.leads, &self.selection.associations).await?;
        }
        Ok(page)
    }

    /// Reads leads with their history. Leads that were archived or merged since they were found are left out.
    async fn read_by_id(&self, ctx: &CallContext, ids: &[String]) -> Result<Vec<Lead>, Error> {
        let ids: Vec<LeadId> = ids.iter().filter_map(|id| LeadId::parse(id).ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let request = BatchGet {
            ids: ids.clone(),
            id_property: None,
            properties: self.selection.properties.clone(),
            properties_with_history: self.selection.properties_with_history.clone(),
            associations: Vec::new(),
            archived: false,
        };
        let mut leads = Vec::with_capacity(ids.len());
        for (id, result) in ids.iter().zip(self.service.batch_get(ctx, request).await?) {
            match result {
                Ok(lead) if lead.id == id.as_str() => leads.push(Arc::unwrap_or_clone(lead)),
                // Its own id, which is another, is exported in its place.
                Ok(_survivor) => {}
                Err(error) if error.reason() == Reason::LeadNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(leads)
    }
}
