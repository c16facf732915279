//! Decides which pages to request, and at which places of the index the searches are.

use super::{
    PlannedPage, ReadAhead, list_leads,
    segment::{ListEnd, ListSegment, SearchSegment, Segment},
};
use crate::leads::export::{MAX_LIST_PAGE, MAX_SEARCH_PAGE};

/// Maximum number of list requests in progress: twice what HubSpot's limit needs at 200 ms per response.
const MAX_LISTS: usize = 8;

/// Maximum number of search requests in progress.
const MAX_SEARCHES: usize = 3;

/// Maximum number of segments that are not sent.
const MAX_SEGMENTS: usize = 32;

/// Number of list pages that are planned and not read. If the last ones are read in another time than the next
/// search takes, the next list segment is shorter or longer. So neither waits for the other.
const BACKLOG: u64 = 28;

/// Bounds of the number of pages of a list segment.
const MIN_LENGTH: u64 = 1;
const MAX_LENGTH: u64 = 8;

/// Number of leads that two search segments share in an export with conditions. As many may be archived
/// between their requests.
const OVERLAP: u64 = 4;

/// Maximum number of results of a search that HubSpot pages through.
const MAX_OFFSET: u64 = 10_000;

// === impl ReadAhead ===

impl ReadAhead {
    /// Requests to send now, each with the number of its segment. `used` is other memory in bytes.
    pub(in crate::leads) fn requests(&mut self, used: usize) -> Vec<(u64, PlannedPage)> {
        let (mut lists, mut searches, mut bytes) = (0, 0, used + self.buffered_bytes());
        for (_, segment) in &self.segments {
            match segment {
                Segment::List(list) => lists += usize::from(list.is_requested),
                Segment::Search(search) => searches += usize::from(!search.is_done),
            }
        }
        bytes +=
            lists * self.page_bytes(MAX_LIST_PAGE) + searches * self.page_bytes(MAX_SEARCH_PAGE);
        let mut requests = Vec::new();
        for index in 0..self.segments.len() {
            // The leads of the first segment are what the stream waits for.
            let is_first = index == 0;
            let has_room = bytes + self.page_bytes(MAX_LIST_PAGE) <= self.max_bytes;
            if !is_first && (!has_room || lists >= MAX_LISTS) {
                break;
            }
            let (number, Segment::List(list)) = &mut self.segments[index] else { continue };
            if let Some(id) = list.next_page(is_first) {
                let number = *number;
                list.is_requested = true;
                requests.extend(
                    self.cursor_behind(id).map(|after| (number, PlannedPage::List { after })),
                );
                lists += 1;
                bytes += self.page_bytes(MAX_LIST_PAGE);
            }
        }
        self.move_anchor();
        while searches < MAX_SEARCHES && self.can_search(bytes) {
            requests.push(self.plan_search());
            searches += 1;
            bytes += self.page_bytes(MAX_SEARCH_PAGE);
        }
        requests
    }

    /// Memory of a page in bytes, and that of HubSpot's response while it is decoded.
    fn page_bytes(&self, leads: u32) -> usize {
        2 * self.lead_bytes * leads as usize
    }

    /// Moves the anchor to the last lead of the last list segment, which goes on while it is the first one.
    fn move_anchor(&mut self) {
        if let Some((_, Segment::List(list))) = self.segments.back()
            && let Some((id, place)) = list.position()
        {
            if place > self.anchor.1 {
                self.anchor = (id, place);
            }
            self.next_place = self.next_place.max(place + 2 * list_leads(1));
            if self.next_place >= self.total || list.is_list_end() {
                self.end_list(self.segments.len().checked_sub(1), ListEnd::Open);
                self.is_planned = true;
            }
        }
    }

    fn can_search(&self, bytes: usize) -> bool {
        // The first search of an export with conditions finds its end, whatever the index had before.
        let is_alone = self.segments.is_empty();
        let is_behind_end = self.next_place >= self.total && !is_alone;
        let offset = self.next_place.saturating_sub(self.anchor.1);
        let has_room = bytes + self.page_bytes(MAX_SEARCH_PAGE) <= self.max_bytes;
        !self.is_planned
            && !is_behind_end
            && self.segments.len() < MAX_SEGMENTS
            && offset + u64::from(MAX_SEARCH_PAGE) <= MAX_OFFSET
            && (has_room || is_alone)
    }

    /// Adds a search segment, and the list segment behind it.
    fn plan_search(&mut self) -> (u64, PlannedPage) {
        let (above, place) = self.anchor;
        let own = self.next_place.max(place);
        let number = self.next_number;
        self.push(Segment::Search(SearchSegment::new(above, own - place, own)));
        self.next_place = own + u64::from(MAX_SEARCH_PAGE);
        if self.cursor.is_some() {
            let length = self.next_length();
            self.push(Segment::List(ListSegment::new(None, length)));
            self.next_place += list_leads(length);
        } else {
            self.next_place -= OVERLAP;
        }
        (number, PlannedPage::Search { above, offset: own - place })
    }

    /// Number of pages of the next list segment.
    fn next_length(&self) -> u64 {
        let left = |segment: &Segment| match segment {
            Segment::List(list) => list.pages_left(),
            Segment::Search(_) => 0,
        };
        let backlog = self.segments.iter().map(|(_, segment)| left(segment)).sum();
        BACKLOG.saturating_sub(backlog).clamp(MIN_LENGTH, MAX_LENGTH)
    }
}
