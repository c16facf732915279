//! Export of all leads of a portal, or of all that match, in the order of their record ids.
//!
//! - `position` is the place in the export after which it goes on. Its text form is the resume token.
//! - `pages` is the engine without I/O: which page to request next, and what to make of HubSpot's response.
//! - `fetched` is a page as HubSpot returned it.
//! - `read_ahead` divides the ids among requests side by side, and puts their leads in order.
//! - `retry` decides whether a page that failed is requested again.
//!
//! `service::export` requests the pages, and divides them into messages.
//!
//! Without a condition, the pages are those of HubSpot's list, which does not lag behind writes. With a
//! condition, each page is the first of a search for record ids above the last one. Such a search has no
//! limit of 10,000 results, and no ties.
//!
//! After the first page, the following ones are read ahead. If that is not possible, or a response does not
//! fit, they are requested one after the other.

mod fetched;
mod pages;
mod position;
mod read_ahead;
mod retry;
mod stats;

pub use self::stats::{ExportCounts, ExportEnd, ExportStats};
pub(super) use self::{
    fetched::FetchedPage,
    pages::{PageRequest, Pages},
    read_ahead::ReadAhead,
    retry::{PageRetries, PageRetry},
};
use super::query::{FilterGroup, Selection};

/// Maximum number of leads on a page of a list.
const MAX_LIST_PAGE: u32 = 100;

/// Maximum number of leads on a page of a list with property history.
const MAX_LIST_PAGE_WITH_HISTORY: u32 = 50;

/// Maximum number of leads on a page of a search.
const MAX_SEARCH_PAGE: u32 = 200;

/// Leads to export, and their parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportLeads {
    /// Text condition; empty for none.
    pub query: String,
    /// Filter groups; alternatives. Each has room for one more filter.
    pub filter_groups: Vec<FilterGroup>,
    /// Parts to return of each lead.
    pub selection: Selection,
}

/// Kind of the pages of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageSource {
    /// Pages of HubSpot's list of all leads.
    List,
    /// Searches for the record ids above the last one.
    Search,
}

// === impl ExportLeads ===

impl ExportLeads {
    fn source(&self) -> PageSource {
        match self.query.is_empty() && self.filter_groups.is_empty() {
            true => PageSource::List,
            false => PageSource::Search,
        }
    }

    fn max_page(&self) -> u32 {
        match self.source() {
            PageSource::Search => MAX_SEARCH_PAGE,
            PageSource::List if self.selection.properties_with_history.is_empty() => MAX_LIST_PAGE,
            PageSource::List => MAX_LIST_PAGE_WITH_HISTORY,
        }
    }
}

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
