//! Pages of an export: the engine without I/O.
//!
//! It decides which page to request next, and checks each response against what was read before. HubSpot may
//! return a page twice, go backwards, or ignore a filter. Then no lead is sent twice, none is left out, and every
//! export ends: a response that does not fit is an error, after which the same page is requested again.

mod requests;

use std::collections::VecDeque;

pub(in crate::leads) use self::requests::PageRequest;
use super::{
    ExportLeads, PageSource,
    fetched::{FetchedPage, record_id, unusable},
    position::{ExportPosition, MAX_CURSOR, RequestDigest},
    read_ahead::{ReadAhead, ReadyLeads},
};
use crate::leads::{context::PortalName, error::Error, lead::Lead, query::Selection};

/// Target of the memory of the leads on one page, in bytes. HubSpot's response takes about as much while it is
/// decoded, so that a stream takes less than 8 MiB.
const PAGE_BYTES: usize = 2 << 20;

/// Maximum difference between a cursor and the last id before it: the id itself, or the one behind it.
const MAX_CURSOR_DIFFERENCE: u64 = 1;

/// Maximum number of list pages in a row without a new lead. HubSpot sends none.
const MAX_IDLE_PAGES: u32 = 8;

/// Divisor of the page size after a page that was too large.
const SHRINK: u32 = 4;

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
    /// Difference between HubSpot's cursor of the latest page and the last id before it. `None` if cursors are
    /// not made from ids.
    cursor: Option<u64>,
    /// True if the waiting leads were read ahead: more than a list page may be between them and their cursor.
    is_ahead: bool,
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
            cursor: None,
            is_ahead: false,
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
        self.is_filtered() && !self.id_only && self.has_history()
    }

    /// Adds leads that were read ahead.
    pub(in crate::leads) fn accept_ready(&mut self, ready: ReadyLeads, ahead: &ReadAhead) {
        self.position.after = ahead.cursor_behind(self.read_to);
        self.read_to = ready.read_to;
        self.next = ahead.cursor_behind(self.read_to);
        self.latest = ready.leads.iter().map(|(id, _)| *id).collect();
        self.is_last = ahead.is_finished();
        self.is_ahead = true;
        self.waiting = ready.leads.into();
        if self.waiting.is_empty() {
            self.end_page();
        }
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
                let cursor = after.as_ref().and_then(|after| after.parse::<u64>().ok());
                let difference =
                    cursor.zip(ids.last()).and_then(|(after, id)| after.checked_sub(*id));
                self.cursor = difference.filter(|it| *it <= MAX_CURSOR_DIFFERENCE);
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
        // Leads that were created behind the position may fill the first page after a resume.
        (self.is_resuming, self.is_ahead) = (self.is_resuming && !is_new, false);
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
        if let Some(difference) = self.cursor.filter(|_| self.is_ahead) {
            self.position.after = Some((self.position.last + difference).to_string());
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
