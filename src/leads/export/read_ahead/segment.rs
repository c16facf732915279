//! Segments of an export: one page of a search, or a chain of list pages.

use super::{ReadyLeads, check};
use crate::leads::{
    error::Error,
    export::fetched::{FetchedPage, unusable},
    lead::Lead,
};

/// Part of the ids of an export.
#[derive(Debug)]
pub(super) enum Segment {
    List(ListSegment),
    Search(SearchSegment),
}

/// End of a list segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// The search segment behind it has no response yet.
    Unknown,
    /// Ends before this id.
    Before(u64),
    /// Goes on to the end of the list.
    Open,
}

/// Chain of list pages.
#[derive(Debug)]
pub(super) struct ListSegment {
    /// Ids up to this one are read; `None` until the segment before it has a response.
    read_to: Option<u64>,
    /// Number of leads up to `read_to`.
    place: u64,
    pub(super) end: ListEnd,
    /// Number of pages after which it waits for its end.
    length: u64,
    pages: u64,
    leads: Vec<(u64, Lead)>,
    bytes: usize,
    /// True if the list has no leads behind `read_to`.
    is_list_end: bool,
    pub(super) is_requested: bool,
    pub(super) is_done: bool,
}

/// One page of a search.
#[derive(Debug)]
pub(super) struct SearchSegment {
    /// The search is for ids above this one.
    pub(super) above: u64,
    offset: u64,
    /// Number of leads before the page.
    pub(super) place: u64,
    ids: Vec<u64>,
    leads: Vec<(u64, Lead)>,
    bytes: usize,
    /// True if HubSpot has more leads behind the page.
    pub(super) has_more: bool,
    pub(super) is_done: bool,
}

// === impl Segment ===

impl Segment {
    /// Memory of the leads in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::List(list) => list.bytes,
            Self::Search(search) => search.bytes,
        }
    }
}

// === impl ListSegment ===

impl ListSegment {
    /// `begin` is the last id before the segment, and its place.
    pub(super) fn new(begin: Option<(u64, u64)>, length: u64) -> Self {
        Self {
            read_to: begin.map(|(id, _)| id),
            place: begin.map_or(0, |(_, place)| place),
            end: ListEnd::Unknown,
            length,
            pages: 0,
            leads: Vec::new(),
            bytes: 0,
            is_list_end: false,
            is_requested: false,
            is_done: false,
        }
    }

    pub(super) fn begin(&mut self, id: u64, place: u64) {
        (self.read_to, self.place) = (Some(id), place);
        self.update();
    }

    /// Number of its pages that are not read.
    pub(super) fn pages_left(&self) -> u64 {
        if self.is_done { 0 } else { self.length.saturating_sub(self.pages) }
    }

    /// Last id that was read, and its place.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        self.read_to.map(|id| (id, self.place))
    }

    /// True if the list has no leads behind those that were read.
    pub(super) fn is_list_end(&self) -> bool {
        self.is_list_end
    }

    pub(super) fn end_at(&mut self, end: ListEnd) {
        self.end = end;
        if let ListEnd::Before(end) = end {
            self.leads.retain(|(id, _)| *id < end);
        }
        self.update();
    }

    fn update(&mut self) {
        self.is_done = match self.end {
            ListEnd::Unknown => false,
            ListEnd::Before(end) => {
                self.is_list_end || self.read_to.is_some_and(|id| id.saturating_add(1) >= end)
            }
            ListEnd::Open => self.is_list_end,
        };
    }

    /// Record id behind which the next page begins. `None` if there is none to request now. The first segment
    /// does not wait for its end.
    pub(super) fn next_page(&self, is_first: bool) -> Option<u64> {
        let waits = self.end == ListEnd::Unknown && self.pages >= self.length && !is_first;
        let is_ready = !self.is_done && !self.is_requested && !self.is_list_end && !waits;
        self.read_to.filter(|_| is_ready)
    }

    /// `cursor` is the difference between a cursor and the last id before it.
    pub(super) fn accept(
        &mut self,
        page: FetchedPage,
        bytes: usize,
        cursor: u64,
    ) -> Result<(), Error> {
        let read_to = self.read_to.unwrap_or_default();
        let after = page.after.clone();
        let (ids, mut leads) = check(page, read_to)?;
        let last = ids.last().copied();
        match after {
            None => self.is_list_end = true,
            Some(after) => {
                if last.map(|last| last + cursor) != after.parse().ok() {
                    return Err(unusable("HubSpot's cursor is not made from a record id"));
                }
            }
        }
        if let ListEnd::Before(end) = self.end {
            leads.retain(|(id, _)| *id < end);
        }
        self.leads.append(&mut leads);
        self.bytes += bytes;
        self.read_to = Some(last.unwrap_or(read_to));
        self.place += ids.len() as u64;
        self.pages += 1;
        self.is_requested = false;
        self.update();
        Ok(())
    }

    /// The leads that were read.
    pub(super) fn take(&mut self) -> ReadyLeads {
        let read_to = self.leads.last().map_or(0, |(id, _)| *id);
        let bytes = std::mem::take(&mut self.bytes);
        ReadyLeads { leads: std::mem::take(&mut self.leads), read_to, bytes }
    }
}

// === impl SearchSegment ===

impl SearchSegment {
    pub(super) fn new(above: u64, offset: u64, place: u64) -> Self {
        Self {
            above,
            offset,
            place,
            ids: Vec::new(),
            leads: Vec::new(),
            bytes: 0,
            has_more: false,
            is_done: false,
        }
    }

    pub(super) fn accept(&mut self, page: FetchedPage, bytes: usize) -> Result<(), Error> {
        let read = self.offset + page.ids.len() as u64;
        self.has_more = page.after.is_some() || page.total.unwrap_or(0) > read;
        (self.ids, self.leads) = check(page, self.above)?;
        self.bytes = bytes;
        self.is_done = true;
        Ok(())
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.ids.first().copied()
    }

    pub(super) fn last(&self) -> Option<u64> {
        self.ids.last().copied()
    }

    pub(super) fn len(&self) -> u64 {
        self.ids.len() as u64
    }

    /// True if no lead is between those up to `read_to` and this page.
    pub(super) fn follows(&self, read_to: u64) -> bool {
        let begins_there = self.offset == 0 && self.above <= read_to;
        begins_there || self.first().is_some_and(|first| first <= read_to)
    }

    pub(super) fn take(&mut self) -> ReadyLeads {
        let read_to = self.last().unwrap_or(0);
        let bytes = std::mem::take(&mut self.bytes);
        ReadyLeads { leads: std::mem::take(&mut self.leads), read_to, bytes }
    }
}
