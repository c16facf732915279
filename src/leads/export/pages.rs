//! Pages of an export: the engine without I/O.
//!
//! It decides which page to request next, and checks each response against what was read before. HubSpot may
//! return a page twice, go backwards, or ignore a filter. Then no lead is sent twice, none is left out, and every
//! export ends: a response that does not fit is an error, after which the same page is requested again.

use std::collections::VecDeque;

use super::{
    ExportLeads, PageSource,
    position::{ExportPosition, MAX_CURSOR, RequestDigest},
};
use crate::leads::{
    context::PortalName,
    error::{Error, Reason},
    lead::Lead,
    query::{
        Direction, Filter, FilterGroup, FilterOperator, ListLeads, SearchLeads, Selection, Sort,
    },
    request::Request,
    write::RECORD_ID,
};

/// Target of the memory of the leads on one page, in bytes. HubSpot's response takes about as much while it is
/// decoded, so that a stream takes less than 8 MiB.
const PAGE_BYTES: usize = 2 << 20;

/// Maximum number of list pages in a row without a new lead. HubSpot sends none.
const MAX_IDLE_PAGES: u32 = 8;

/// Divisor of the page size after a page that was too large.
const SHRINK: u32 = 4;

/// One page as HubSpot returned it.
#[derive(Debug, Default)]
pub(in crate::leads) struct FetchedPage {
    /// Record ids in HubSpot's order.
    pub(in crate::leads) ids: Vec<String>,
    /// Leads of these ids, without those that no longer exist.
    pub(in crate::leads) leads: Vec<Lead>,
    /// HubSpot's cursor of the next page.
    pub(in crate::leads) after: Option<String>,
    /// Number of matching leads from this page on; `None` for a list.
    pub(in crate::leads) total: Option<u64>,
}

/// Pages of one export.
#[derive(Debug)]
pub(in crate::leads) struct Pages {
    request: ExportLeads,
    digest: RequestDigest,
    /// Position after the leads that were taken.
    position: ExportPosition,
    /// Leads of the current page that were not taken.
    waiting: VecDeque<(u64, Lead)>,
    /// Highest record id of the pages that were read.
    read_to: u64,
    /// Cursor of the next page of a list.
    next: Option<String>,
    /// Record ids of the latest page of a list that had new leads, ascending.
    latest: Vec<u64>,
    /// True until the first page was read, if the position is in the middle of a page.
    is_resuming: bool,
    /// Number of list pages in a row without a new lead.
    idle_pages: u32,
    is_last: bool,
    page_size: u32,
    /// True if the next lead is too large to be read with its properties.
    id_only: bool,
}

// === impl Pages ===

impl Pages {
    /// Pages of a request from the position of a token on, or from the beginning without one.
    pub(in crate::leads) fn new(
        portal: &PortalName,
        request: ExportLeads,
        token: &str,
    ) -> Result<Self, Error> {
        let digest = RequestDigest::new(portal, &request);
        let position = ExportPosition::parse(token, digest, request.source())?;
        Ok(Self {
            waiting: VecDeque::new(),
            read_to: position.last,
            next: position.after.clone(),
            latest: Vec::new(),
            is_resuming: position.last > 0,
            idle_pages: 0,
            is_last: false,
            page_size: request.max_page(),
            id_only: false,
            request,
            digest,
            position,
        })
    }

    /// Token of the position after the leads that were taken.
    pub(in crate::leads) fn token(&self) -> String {
        self.position.token(self.digest, self.request.source())
    }

    /// Number of leads that were taken, also before the token.
    pub(in crate::leads) fn exported(&self) -> u64 {
        self.position.exported
    }

    /// True if the leads have a condition.
    pub(in crate::leads) fn is_filtered(&self) -> bool {
        self.request.source() == PageSource::Search
    }

    /// True if all leads were taken.
    pub(in crate::leads) fn is_complete(&self) -> bool {
        self.is_last && self.waiting.is_empty()
    }

    /// True if a page has to be read before leads can be taken.
    pub(in crate::leads) fn needs_page(&self) -> bool {
        self.waiting.is_empty() && !self.is_last
    }

    /// Selection of the leads of the next page.
    pub(in crate::leads) fn selection(&self) -> &Selection {
        &self.request.selection
    }

    /// True if only the ids of the next page are read.
    pub(in crate::leads) fn is_id_only(&self) -> bool {
        self.id_only
    }

    /// True if the leads of the next page have to be read by their ids, because a search has no history.
    pub(in crate::leads) fn reads_by_id(&self) -> bool {
        self.is_filtered()
            && !self.id_only
            && !self.request.selection.properties_with_history.is_empty()
    }

    /// Request for the next page of an export without conditions.
    pub(in crate::leads) fn list_request(&self) -> ListLeads {
        let Selection { properties_with_history, .. } = &self.request.selection;
        ListLeads {
            limit: self.page_size,
            after: self.next.clone(),
            selection: Selection {
                properties: self.properties(),
                properties_with_history: match self.id_only {
                    true => Vec::new(),
                    false => properties_with_history.clone(),
                },
                associations: Vec::new(),
            },
            archived: false,
        }
    }

    /// Request for the next page of an export with conditions.
    pub(in crate::leads) fn search_request(&self) -> SearchLeads {
        self.search(self.properties(), self.page_size)
    }

    /// Properties to read with the next page.
    fn properties(&self) -> Vec<String> {
        match self.id_only || self.reads_by_id() {
            true => vec![RECORD_ID.to_owned()],
            false => self.request.selection.properties.clone(),
        }
    }

    /// Request for the number of leads after the position.
    pub(in crate::leads) fn count_request(&self) -> Request {
        Request::Search(self.search(vec![RECORD_ID.to_owned()], 1))
    }

    fn search(&self, properties: Vec<String>, limit: u32) -> SearchLeads {
        let sort = Sort { property_name: RECORD_ID.to_owned(), direction: Direction::Ascending };
        let above = Filter {
            property_name: RECORD_ID.to_owned(),
            operator: FilterOperator::Gt,
            value: Some(self.read_to.to_string()),
            high_value: None,
            values: Vec::new(),
        };
        let mut filter_groups = self.request.filter_groups.clone();
        if filter_groups.is_empty() {
            filter_groups.push(FilterGroup { filters: Vec::new() });
        }
        for group in &mut filter_groups {
            group.filters.push(above.clone());
        }
        let query = self.request.query.clone();
        SearchLeads { query, filter_groups, sort: Some(sort), properties, limit, after: None }
    }

    /// Adds a page. Errors if it does not follow the pages before it; then nothing has changed.
    pub(in crate::leads) fn accept(&mut self, page: FetchedPage) -> Result<(), Error> {
        let FetchedPage { ids, leads, after, total } = page;
        let ids = ids.iter().map(|id| record_id(id)).collect::<Result<Vec<_>, _>>()?;
        let leads = leads.into_iter().map(|lead| Ok((record_id(&lead.id)?, lead)));
        let mut leads = leads.collect::<Result<Vec<_>, Error>>()?;
        let is_new = ids.iter().any(|id| *id > self.read_to);
        match self.request.source() {
            PageSource::List => {
                self.check_list(&ids, after.as_deref())?;
                self.idle_pages = if is_new { 0 } else { self.idle_pages + 1 };
                self.is_last = after.is_none();
                // The token of the last page leads to it again, where later leads may be.
                self.position.after = self.next.take();
                self.next = after;
            }
            PageSource::Search => {
                let has_more = after.is_some() || total.unwrap_or(0) > ids.len() as u64;
                self.check_search(&ids, has_more)?;
                self.is_last = !has_more;
            }
        }
        leads.retain(|(id, _)| *id > self.read_to);
        leads.sort_by_key(|(id, _)| *id);
        leads.dedup_by_key(|(id, _)| *id);
        if self.id_only {
            leads.iter_mut().for_each(|(_, lead)| *lead = lead.id_only());
            self.id_only = false;
        }
        if is_new {
            self.latest = ids;
            self.latest.sort_unstable();
            self.read_to = self.latest.last().copied().unwrap_or(self.read_to);
        }
        self.is_resuming = false;
        self.waiting = leads.into();
        if self.waiting.is_empty() {
            self.end_page();
        }
        Ok(())
    }

    /// Checks the ids and the next cursor of a list page, which is in the order of ids.
    fn check_list(&self, ids: &[u64], after: Option<&str>) -> Result<(), Error> {
        let is_known = |id: &u64| *id > self.read_to || self.latest.binary_search(id).is_ok();
        if !self.is_resuming && !ids.iter().all(is_known) {
            return Err(unusable("HubSpot's list is not in the order of record ids"));
        }
        let Some(after) = after else { return Ok(()) };
        if after.is_empty() || Some(after) == self.next.as_deref() {
            return Err(unusable("HubSpot's cursor of the next page is that of the same page"));
        }
        if after.len() > MAX_CURSOR {
            return Err(unusable("HubSpot's cursor of the next page is too long"));
        }
        if self.idle_pages >= MAX_IDLE_PAGES && !ids.iter().any(|id| *id > self.read_to) {
            return Err(unusable("HubSpot sends pages without new leads, without an end"));
        }
        Ok(())
    }

    /// Checks the ids of a search for those above the last one, in their order.
    fn check_search(&self, ids: &[u64], has_more: bool) -> Result<(), Error> {
        if !ids.is_sorted() {
            return Err(unusable("HubSpot's search is not in the order of record ids"));
        }
        if ids.iter().any(|id| *id <= self.read_to) {
            return Err(unusable("HubSpot's search ignored the filter on record ids"));
        }
        if ids.is_empty() && has_more {
            return Err(unusable("HubSpot's search counts further leads and returns none"));
        }
        Ok(())
    }

    /// Takes leads for one message, until `size` of them exceeds `max`; at least one, if there is any.
    pub(in crate::leads) fn take(
        &mut self,
        max: usize,
        size: impl Fn(&Lead) -> usize,
    ) -> Vec<Lead> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((id, lead)) = self.waiting.front() {
            bytes += size(lead);
            if bytes > max && !taken.is_empty() {
                break;
            }
            self.position.last = *id;
            self.position.exported += 1;
            taken.extend(self.waiting.pop_front().map(|(_, lead)| lead));
        }
        if self.waiting.is_empty() {
            self.end_page();
        }
        taken
    }

    /// Moves the position to the end of the page that was read.
    fn end_page(&mut self) {
        self.position.last = self.read_to;
        if !self.is_last {
            self.position.after = self.next.clone();
        }
    }

    /// Adapts the page size to the memory of the leads of a page. It at most doubles.
    pub(in crate::leads) fn adapt(&mut self, leads: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(leads) {
            let fitting = u32::try_from(PAGE_BYTES / each.max(1)).unwrap_or(u32::MAX);
            let max = self.request.max_page().min(self.page_size * 2);
            self.page_size = fitting.clamp(1, max);
        }
    }

    /// Reduces the page size, since a page was too large. Of a single lead that is too large only the id is
    /// read. Returns false if that was too large as well.
    pub(in crate::leads) fn reduce(&mut self) -> bool {
        match self.page_size {
            1 if self.id_only => return false,
            1 => self.id_only = true,
            size => self.page_size = (size / SHRINK).max(1),
        }
        true
    }
}

fn record_id(text: &str) -> Result<u64, Error> {
    text.parse()
        .ok()
        .filter(|id| *id > 0)
        .ok_or_else(|| unusable("HubSpot returned a lead whose record id is not a positive number"))
}

fn unusable(text: &str) -> Error {
    let text = format!("{text}; resume the export, and report it if it persists");
    Error::new(Reason::UpstreamInvalidResponse, text)
}
