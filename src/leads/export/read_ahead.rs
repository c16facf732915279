//! Reading ahead: the pages of an export that are requested side by side, and put in the order of record ids.
//! The engine without I/O.
//!
//! The ids of an export are divided into segments, which follow each other:
//!
//! - A *search segment* is one page of a search for the ids above an anchor, a record id whose place is known.
//!   Its offset from the anchor is its place, so that several are requested at the same time.
//! - A *list segment* is a chain of pages of HubSpot's list. It begins behind the last id of the search segment
//!   before it, and ends at the first id of the one behind it.
//!
//! An export without conditions alternates both, so that both of HubSpot's limits are used. Whatever a search
//! leaves out between two of its pages is in a list segment. An export with conditions has only search
//! segments, which overlap by some leads. If two do not touch, leads were archived between their
//! requests; then the segments from there on are requested again.
//!
//! A list segment begins with a cursor that leadsd makes from a record id. It does so only if HubSpot's own
//! cursors are made like that, which every page shows.

mod planning;
mod segment;

use std::collections::VecDeque;

use self::segment::{ListEnd, ListSegment, Segment};
use super::{
    MAX_LIST_PAGE,
    fetched::{FetchedPage, record_id, unusable},
};
use crate::leads::{error::Error, lead::Lead};

/// Number of pages of a list segment at the beginning: HubSpot allows about four pages for each search.
const FIRST_LENGTH: u64 = 4;

/// Number of leads by which the last page of a list segment exceeds the segment, so that it reaches the next one.
const SLACK: u64 = 2;

/// Request for the page of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::leads) enum PlannedPage {
    /// Page of the list behind a record id, by this cursor.
    List {
        /// HubSpot's cursor.
        after: String,
    },
    /// Page of a search for ids above `above`.
    Search {
        /// Record id.
        above: u64,
        /// Number of results before the page.
        offset: u64,
    },
}

/// Leads that follow those before.
#[derive(Debug, Default)]
pub(in crate::leads) struct ReadyLeads {
    /// The leads, in the order of their ids.
    pub(in crate::leads) leads: Vec<(u64, Lead)>,
    /// All leads up to this id are read.
    pub(in crate::leads) read_to: u64,
    /// Memory of the leads in bytes.
    pub(in crate::leads) bytes: usize,
}

/// Segments behind a position.
#[derive(Debug)]
pub(in crate::leads) struct ReadAhead {
    /// Difference between HubSpot's cursor of a page and the last id before it. `None` for an export with
    /// conditions.
    cursor: Option<u64>,
    segments: VecDeque<(u64, Segment)>,
    next_number: u64,
    /// Record id whose place is known, and the number of leads up to it.
    anchor: (u64, u64),
    /// Place of the next search segment.
    next_place: u64,
    /// Number of leads behind the first position, from HubSpot's index. No search begins behind them.
    total: u64,
    /// True if the last segment reaches the end.
    is_planned: bool,
    /// Ids up to this one were returned.
    read_to: u64,
    is_finished: bool,
    /// Memory of one lead in bytes, at most so far.
    lead_bytes: usize,
    max_bytes: usize,
}

// === impl ReadAhead ===

impl ReadAhead {
    /// Segments of `total` leads behind a record id, with at most about `max_bytes` of memory. `lead_bytes` is
    /// the memory of a lead.
    pub(in crate::leads) fn new(
        read_to: u64,
        total: u64,
        cursor: Option<u64>,
        lead_bytes: usize,
        max_bytes: usize,
    ) -> Self {
        let mut ahead = Self {
            cursor,
            segments: VecDeque::new(),
            next_number: 0,
            anchor: (read_to, 0),
            next_place: 0,
            total,
            is_planned: false,
            read_to,
            is_finished: false,
            lead_bytes,
            max_bytes,
        };
        if cursor.is_some() {
            ahead.push(Segment::List(ListSegment::new(Some((read_to, 0)), FIRST_LENGTH)));
            ahead.next_place = list_leads(FIRST_LENGTH);
        }
        ahead
    }

    /// True if all leads were returned.
    pub(in crate::leads) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Memory of the leads that wait for others before them, in bytes.
    pub(in crate::leads) fn buffered_bytes(&self) -> usize {
        self.segments.iter().map(|(_, segment)| segment.bytes()).sum()
    }

    /// Cursor of the list page behind a record id; `None` with conditions.
    pub(in crate::leads) fn cursor_behind(&self, id: u64) -> Option<String> {
        self.cursor.map(|difference| (id + difference).to_string())
    }

    fn push(&mut self, segment: Segment) {
        self.segments.push_back((self.next_number, segment));
        self.next_number += 1;
    }

    /// Adds the page of a segment. `bytes` is the memory of its leads. Errors if the page does not fit; then
    /// the segments are of no more use.
    pub(in crate::leads) fn accept(
        &mut self,
        number: u64,
        page: FetchedPage,
        bytes: usize,
    ) -> Result<(), Error> {
        // Its segment may have been dropped meanwhile.
        let Some(index) = self.segments.iter().position(|(own, _)| *own == number) else {
            return Ok(());
        };
        if let Some(each) = bytes.checked_div(page.leads.len()) {
            self.lead_bytes = self.lead_bytes.max(each);
        }
        match &mut self.segments[index].1 {
            Segment::List(list) => list.accept(page, bytes, self.cursor.unwrap_or_default()),
            Segment::Search(search) => {
                search.accept(page, bytes)?;
                self.is_planned |= self.cursor.is_none() && !search.has_more;
                if self.cursor.is_some() {
                    self.join_lists(index);
                }
                Ok(())
            }
        }
    }

    /// Sets the ends of the list segments around a search segment.
    fn join_lists(&mut self, index: usize) {
        let Segment::Search(search) = &self.segments[index].1 else { return };
        let place = search.place;
        let ends = search.first().zip(search.last());
        let (has_more, len) = (search.has_more, search.len());
        let read_to = self.read_to;
        let before = index.checked_sub(1);
        let Some((first, last)) = ends else {
            // The end of the index is before this segment. The list goes on to its own end.
            self.end_list(before, ListEnd::Open);
            self.segments.truncate(index);
            self.is_planned = true;
            return;
        };
        self.end_list(before, ListEnd::Before(first));
        if let Some((_, Segment::List(list))) = self.segments.get_mut(index + 1) {
            list.begin(last.max(read_to), place + len);
        }
        if place + len > self.anchor.1 {
            self.anchor = (last, place + len);
        }
        if !has_more {
            self.end_list(Some(index + 1), ListEnd::Open);
            self.segments.truncate(index + 2);
            self.is_planned = true;
        }
    }

    fn end_list(&mut self, index: Option<usize>, end: ListEnd) {
        let segment = index.and_then(|index| self.segments.get_mut(index));
        if let Some((_, Segment::List(list))) = segment {
            list.end_at(end);
        }
    }

    /// The next leads, as far as they are read.
    pub(in crate::leads) fn pop(&mut self) -> Option<ReadyLeads> {
        while let Some((_, segment)) = self.segments.front_mut() {
            let ready = match segment {
                Segment::List(list) => {
                    let ready = list.take();
                    if list.is_done {
                        self.is_finished = list.end == ListEnd::Open;
                        self.segments.pop_front();
                    } else if ready.leads.is_empty() {
                        return None;
                    }
                    ready
                }
                Segment::Search(search) if search.is_done => {
                    if self.cursor.is_none() && !search.follows(self.read_to) {
                        self.restart();
                        return None;
                    }
                    let ready = search.take();
                    if self.cursor.is_none() {
                        self.is_finished = !search.has_more;
                        let end = search.place + search.len();
                        if end > self.anchor.1 {
                            self.anchor = (ready.read_to.max(self.read_to), end);
                        }
                    }
                    self.segments.pop_front();
                    ready
                }
                Segment::Search(_) => return None,
            };
            if self.is_finished {
                self.segments.clear();
                self.is_planned = true;
            }
            let ready = self.without_earlier(ready);
            if !ready.leads.is_empty() || self.is_finished {
                return Some(ready);
            }
        }
        None
    }

    fn without_earlier(&mut self, mut ready: ReadyLeads) -> ReadyLeads {
        let before = self.read_to;
        ready.leads.retain(|(id, _)| *id > before);
        self.read_to = before.max(ready.read_to);
        ready.read_to = self.read_to;
        ready
    }

    /// Requests all segments again behind what was returned.
    fn restart(&mut self) {
        self.segments.clear();
        self.anchor = (self.read_to, 0);
        self.next_place = 0;
        self.total = u64::MAX;
        self.is_planned = false;
    }
}

/// Number of leads of a list segment between two search segments.
fn list_leads(pages: u64) -> u64 {
    pages * u64::from(MAX_LIST_PAGE) - SLACK
}

/// Record ids of a page, and its leads with their ids.
type CheckedPage = (Vec<u64>, Vec<(u64, Lead)>);

/// Record ids and leads of a page. Errors unless the ids are ascending and above `above`.
fn check(page: FetchedPage, above: u64) -> Result<CheckedPage, Error> {
    let ids = page.ids.iter().map(|id| record_id(id)).collect::<Result<Vec<_>, _>>()?;
    if !ids.is_sorted_by(|a, b| a < b) || ids.first().is_some_and(|id| *id <= above) {
        return Err(unusable("HubSpot's page is not in the order of record ids"));
    }
    let leads = page.leads.into_iter().map(|lead| Ok((record_id(&lead.id)?, lead)));
    Ok((ids, leads.collect::<Result<_, Error>>()?))
}

#[cfg(test)]
mod tests;
