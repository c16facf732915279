//! Requests of the pages of an export.

use super::Pages;
use crate::leads::{
    export::{
        MAX_SEARCH_PAGE, PageSource,
        read_ahead::{PlannedPage, ReadAhead},
    },
    query::{
        Direction, Filter, FilterGroup, FilterOperator, ListLeads, SearchLeads, Selection, Sort,
    },
    request::Request,
    write::RECORD_ID,
};

/// Minimum number of leads that are left for list pages and searches to be requested side by side.
const MIN_AHEAD: u64 = 2_000;

/// Request for one page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leads) enum PageRequest {
    /// Page of the list of all leads.
    List(ListLeads),
    /// Page of a search.
    Search(SearchLeads),
}

// === impl Pages ===

impl Pages {
    /// Request for the next page.
    pub(in crate::leads) fn request(&self) -> PageRequest {
        match self.request.source() {
            PageSource::List => PageRequest::List(self.list_request()),
            PageSource::Search => PageRequest::Search(self.search_request()),
        }
    }

    /// Request for a page that is read ahead.
    pub(in crate::leads) fn planned_request(&self, page: &PlannedPage) -> PageRequest {
        match page {
            PlannedPage::List { after } => {
                let limit = self.request.max_page();
                let after = Some(after.clone());
                PageRequest::List(ListLeads { after, limit, ..self.list_request() })
            }
            PlannedPage::Search { above, offset } => {
                let search = self.search(*above, self.properties(), MAX_SEARCH_PAGE);
                let after = (*offset > 0).then(|| offset.to_string());
                PageRequest::Search(SearchLeads { after, ..search })
            }
        }
    }

    /// Reads ahead from here on. `None` if pages are requested one after the other: leads are large, few are
    /// left, or HubSpot's cursors are not made from ids. `total` is the number of leads that are left.
    pub(in crate::leads) fn read_ahead(
        &self,
        total: u64,
        lead_bytes: usize,
        max_bytes: usize,
    ) -> Option<ReadAhead> {
        let is_small = !self.id_only && self.page_size == self.request.max_page();
        if !is_small || self.is_last || self.read_to == 0 {
            return None;
        }
        let cursor = match self.request.source() {
            PageSource::Search => None,
            PageSource::List if total < MIN_AHEAD || self.has_history() => return None,
            PageSource::List => Some(self.cursor?),
        };
        Some(ReadAhead::new(self.read_to, total, cursor, lead_bytes, max_bytes))
    }

    pub(super) fn has_history(&self) -> bool {
        !self.request.selection.properties_with_history.is_empty()
    }

    /// Request for the next page of an export without conditions.
    fn list_request(&self) -> ListLeads {
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
    fn search_request(&self) -> SearchLeads {
        self.search(self.read_to, self.properties(), self.page_size)
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
        Request::Search(self.search(self.read_to, vec![RECORD_ID.to_owned()], 1))
    }

    fn search(&self, above: u64, properties: Vec<String>, limit: u32) -> SearchLeads {
        let sort = Sort { property_name: RECORD_ID.to_owned(), direction: Direction::Ascending };
        let above = Filter {
            property_name: RECORD_ID.to_owned(),
            operator: FilterOperator::Gt,
            value: Some(above.to_string()),
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
}
