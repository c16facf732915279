//! Pages of SearchLeads, also beyond HubSpot's limit of 10,000 results: the engine without I/O.
//!
//! HubSpot pages through the first 10,000 results of a search, by their number. leadsd uses these numbers
//! only if it has to. If the order of the search allows it, each page is instead the first one of a search
//! for the leads behind the last one. Such a page is a keyset window: there is no limit, and an archive
//! between two pages moves no lead over their boundary.
//!
//! Orders with keyset windows are `hs_object_id`, `hs_createdate`, `hs_lastmodifieddate`, and no sort, which
//! is by creation. Several leads may have the same time, in an order that HubSpot does not define. So:
//!
//! 1. A window begins at the time of the last lead, inclusive, and the position names the leads of that time
//!    that were returned. They are left out.
//! 2. If they are more than [`MAX_TIES`], the leads of that time are read in the order of their ids instead,
//!    and the next window begins behind that time.

mod keyset;
mod order;

use self::keyset::Window;
pub use self::keyset::{Keyset, KeysetBound, MAX_TIES};
use self::order::{OrderKey, SearchOrder};
use super::{
    DEFAULT_PROPERTIES,
    error::{Error, FieldFault, Reason},
    lead::Lead,
    query::{SearchLeads, SearchPage},
    write::RECORD_ID,
};

/// Maximum number of search results that HubSpot pages through.
const MAX_OFFSET: u64 = 10_000;

/// Maximum number of leads on a page of a search.
const MAX_PAGE: u32 = 200;

/// Position of a page in the results of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchPosition {
    /// HubSpot's cursor, which is the number of results before the page; `None` for the first page.
    Offset(Option<String>),
    /// The results before the page, by their ids or times.
    Keyset(Keyset),
}

/// Search from a position on.
#[derive(Debug, Clone)]
pub struct PagedSearch {
    /// The search; its limit is the page size.
    search: SearchLeads,
    position: SearchPosition,
    /// Order of the results, if it allows keyset windows and the filter groups have room for them.
    order: Option<SearchOrder>,
}

/// Page of a search and the position of the next one.
#[derive(Debug, Clone, PartialEq)]
pub struct PositionedPage {
    /// Leads of the page.
    pub leads: Vec<Lead>,
    /// Number of all leads that match.
    pub total: u64,
    /// Position of the next page; `None` on the last page.
    pub next: Option<SearchPosition>,
}

// === impl PagedSearch ===

impl PagedSearch {
    /// A search from a position on. Errors if HubSpot returns no results from there.
    pub fn new(search: SearchLeads, position: SearchPosition) -> Result<Self, Error> {
        let order = match (&position, &search.sort) {
            // Tokens of versions without keyset windows continue in HubSpot's order.
            (SearchPosition::Offset(Some(_)), None) => None,
            (SearchPosition::Offset(_) | SearchPosition::Keyset(_), sort) => {
                SearchOrder::from_sort(sort.as_ref())
            }
        };
        let order = order.filter(|order| order.has_room(&search));
        if let SearchPosition::Keyset(keyset) = &position
            && !order.is_some_and(|order| keyset.bound.belongs_to(&order))
        {
            return Err(token_error(Reason::InvalidPageToken, "belongs to another request"));
        }
        let paged = Self { search, position, order };
        match paged.offset() >= MAX_OFFSET {
            true => Err(paged.beyond_limit()),
            false => Ok(paged),
        }
    }

    /// The search, without its position.
    pub(super) fn search(&self) -> &SearchLeads {
        &self.search
    }

    /// The search, to set its operands.
    pub(super) fn search_mut(&mut self) -> &mut SearchLeads {
        &mut self.search
    }

    /// Properties to return of each lead.
    pub(super) fn properties_mut(&mut self) -> &mut Vec<String> {
        &mut self.search.properties
    }

    /// Continues at another position of the same search.
    pub(super) fn move_to(&mut self, position: SearchPosition) {
        self.position = position;
    }

    /// Number of results before the page; 0 if the position is not one.
    fn offset(&self) -> u64 {
        match &self.position {
            SearchPosition::Offset(Some(cursor)) => cursor.parse().unwrap_or(0),
            SearchPosition::Offset(None) | SearchPosition::Keyset(_) => 0,
        }
    }

    /// Request for the page.
    pub(super) fn request(&self) -> SearchLeads {
        let mut search = self.search.clone();
        if let Some(order) = &self.order {
            search.sort = Some(order.sort());
            // HubSpot may return other properties by default than the one of the order.
            if search.properties.is_empty() && order.key != OrderKey::RecordId {
                search.properties.extend(DEFAULT_PROPERTIES.map(str::to_owned));
            }
            search.properties.extend(self.added_property().map(str::to_owned));
        }
        match (&self.position, &self.order) {
            (SearchPosition::Keyset(keyset), Some(order)) => {
                keyset.narrow(order, &mut search);
                let skipped = u32::try_from(keyset.bound.returned().len()).unwrap_or(MAX_PAGE);
                search.limit = (search.limit + skipped).min(MAX_PAGE);
            }
            (SearchPosition::Offset(cursor), _) => {
                search.after.clone_from(cursor);
                // The limit on offsets may shorten the last page.
                let left = u32::try_from(MAX_OFFSET - self.offset()).unwrap_or(u32::MAX);
                search.limit = search.limit.min(left);
            }
            // `new` rejects such a position.
            (SearchPosition::Keyset(_), None) => {}
        }
        search
    }

    /// Property of the order that the caller did not select.
    fn added_property(&self) -> Option<&'static str> {
        match self.order.as_ref()?.key {
            OrderKey::RecordId => None,
            OrderKey::Time(name) => {
                let selected = &self.search.properties;
                let is_returned = selected.is_empty() || selected.iter().any(|own| own == name);
                (!is_returned).then_some(name)
            }
        }
    }

    /// The page of HubSpot's response to the request. Errors if the response does not fit.
    pub(super) fn accept(&self, page: SearchPage) -> Result<PositionedPage, Error> {
        let mut page = match (&self.position, &self.order) {
            (SearchPosition::Keyset(keyset), Some(order)) => {
                let max = usize::try_from(self.search.limit).unwrap_or(usize::MAX);
                Window { keyset, order, max }.accept(page)?
            }
            (SearchPosition::Offset(_), Some(order)) => self.accept_offset(order, page),
            (SearchPosition::Offset(_) | SearchPosition::Keyset(_), None) => continued(page),
        };
        if let Some(name) = self.added_property() {
            for lead in &mut page.leads {
                lead.properties.remove(name);
                lead.unset_properties.retain(|unset| unset != name);
            }
        }
        Ok(page)
    }

    /// Continues behind the last lead of the page. If its place in the order is not known, such as that of a
    /// lead without a time, then HubSpot's cursor continues.
    fn accept_offset(&self, order: &SearchOrder, page: SearchPage) -> PositionedPage {
        let sent = self.offset();
        let is_first = self.position == SearchPosition::Offset(None);
        match page.after.is_some() && !page.leads.is_empty() {
            true => Window::split_first(order, sent, is_first, page),
            false => Err(page),
        }
        .unwrap_or_else(continued)
    }

    fn beyond_limit(&self) -> Error {
        let reason = match (&self.order, &self.search.sort) {
            (None, Some(sort)) if SearchOrder::from_sort(Some(sort)).is_none() => {
                "unless it is sorted by hs_object_id, hs_createdate or hs_lastmodifieddate, or not at all"
            }
            (None, Some(_)) => {
                "if its filter groups have no room for the filter of a page: one more in each group for \
                 hs_object_id, two for a time (limits: 6 in a group, 18 in all groups, 3,000 characters of \
                 JSON)"
            }
            (Some(_), _) | (None, None) => "from a token of this kind; restart from the first page",
        };
        let description = format!(
            "a search returns at most its first 10,000 results {reason}; ExportLeads returns all leads that \
             match, in the order of their ids"
        );
        token_error(Reason::SearchWindowExceeded, &description)
    }
}

/// A page that HubSpot's cursor continues.
fn continued(page: SearchPage) -> PositionedPage {
    let SearchPage { leads, after, total } = page;
    PositionedPage { leads, total, next: after.map(|cursor| SearchPosition::Offset(Some(cursor))) }
}

fn token_error(reason: Reason, description: &str) -> Error {
    Error::new(reason, format!("page_token: {description}"))
        .with_fields(vec![FieldFault::new("page_token", description)])
}

fn unusable(text: &str) -> Error {
    let text = format!("{text}; restart from the first page, and report it if it persists");
    Error::new(Reason::UpstreamInvalidResponse, text)
}

#[cfg(test)]
mod tests;
