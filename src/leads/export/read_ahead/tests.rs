//! Reading ahead against a portal in memory: responses in any order, concurrent writes, and kills.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::SmallRng};

use super::*;
use crate::leads::{
    PortalName,
    export::{
        Pages,
        testing::{HOT, SimulatedPortal, as_request, fetched, next_request, request},
    },
    request::{Request, Response},
};

/// Memory of a lead in these tests, in bytes.
const LEAD: usize = 500;

/// Memory for reading ahead, in bytes.
const MAX_BYTES: usize = 5 << 20;

/// Client of one export that is killed and resumed, and the requests of its stream.
struct Client {
    is_filtered: bool,
    pages: Pages,
    ahead: Option<ReadAhead>,
    is_first_page: bool,
    /// Requests in progress, with the response of the time at which they arrived.
    in_progress: Vec<(u64, Response)>,
    token: String,
    received: Vec<u64>,
    random: SmallRng,
    lists: usize,
    searches: usize,
    /// Largest memory of leads that wait for others.
    peak: usize,
}

// === impl Client ===

impl Client {
    fn new(is_filtered: bool, seed: u64) -> Self {
        Self {
            is_filtered,
            pages: open(is_filtered, ""),
            ahead: None,
            is_first_page: true,
            in_progress: Vec::new(),
            token: String::new(),
            received: Vec::new(),
            random: SmallRng::seed_from_u64(seed),
            lists: 0,
            searches: 0,
            peak: 0,
        }
    }

    /// Kills the stream and resumes it, at any replica.
    fn kill(&mut self) {
        self.pages = open(self.is_filtered, &self.token);
        self.in_progress.clear();
        (self.ahead, self.is_first_page) = (None, true);
    }

    fn ask(&mut self, portal: &SimulatedPortal, request: &Request) -> Response {
        let is_list = matches!(request, Request::List(_));
        self.lists += usize::from(is_list);
        self.searches += usize::from(!is_list);
        portal.respond(request)
    }

    /// Takes one step: a message, or a response.
    fn step(&mut self, portal: &SimulatedPortal) {
        if !self.pages.needs_page() {
            let max = self.random.random_range(1..200);
            let leads = self.pages.take(max, |_| 1);
            self.received.extend(leads.iter().map(|lead| lead.id.parse::<u64>().unwrap()));
            self.token = self.pages.token();
            return;
        }
        if self.ahead.is_none() && !self.is_first_page {
            let matches = |label: &String| !self.is_filtered || label == HOT;
            let last = self.received.last().copied().unwrap_or(0);
            let left = portal.index.range(last + 1..).filter(|(_, label)| matches(label)).count();
            self.ahead = self.pages.read_ahead(left as u64, LEAD, MAX_BYTES);
        }
        let Some(mut ahead) = self.ahead.take() else {
            let response = self.ask(portal, &next_request(&self.pages));
            self.pages.accept(fetched(response)).expect("an honest page");
            self.is_first_page = false;
            return;
        };
        if let Some(ready) = ahead.pop() {
            self.pages.accept_ready(ready, &ahead);
        } else {
            for (number, page) in ahead.requests(0) {
                let request = as_request(self.pages.planned_request(&page));
                let response = self.ask(portal, &request);
                self.in_progress.push((number, response));
            }
            assert!(!self.in_progress.is_empty(), "{ahead:?}");
            let next = self.random.random_range(0..self.in_progress.len());
            let (number, response) = self.in_progress.swap_remove(next);
            let page = fetched(response);
            let bytes = page.leads.len() * LEAD;
            ahead.accept(number, page, bytes).expect("an honest page");
            self.peak = self.peak.max(ahead.buffered_bytes());
        }
        self.ahead = Some(ahead);
    }
}

fn open(is_filtered: bool, token: &str) -> Pages {
    let portal = PortalName::parse("default").expect("a valid name");
    Pages::new(&portal, request(is_filtered), token).expect("a token of this request")
}

/// Ids of leads that match.
fn matching(leads: &BTreeMap<u64, String>, is_filtered: bool) -> BTreeSet<u64> {
    let matches = leads.iter().filter(|(_, label)| !is_filtered || *label == HOT);
    matches.map(|(id, _)| *id).collect()
}

/// True if `LEADSD_TEST_CASES` is `full`.
#[expect(clippy::disallowed_methods, reason = "the number of cases is no configuration")]
fn is_full() -> bool {
    std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full")
}

fn config() -> ProptestConfig {
    let cases = if is_full() { 500 } else { 32 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Changes a portal at random. Returns the id of a lead that may no longer exist or match.
fn change(portal: &mut SimulatedPortal, random: &mut SmallRng, max_id: u64) -> Option<u64> {
    let id = random.random_range(1..max_id);
    let existing = portal.leads.range(id..).next().map(|(id, _)| *id);
    match random.random_range(0..4) {
        0 => {
            portal.leads.entry(id).or_insert_with(|| HOT.to_owned());
            None
        }
        1 => {
            portal.leads.insert(existing?, "COLD".to_owned());
            existing
        }
        2 => {
            portal.leads.remove(&existing?);
            existing
        }
        _ => {
            // The index catches up, which takes long for a large portal.
            if random.random_range(0..8 + portal.leads.len() / 100) == 0 {
                portal.index_all();
            }
            None
        }
    }
}

/// Exports a portal that changes. Asserts that each lead that exists throughout is received once.
fn export(
    portal: &mut SimulatedPortal,
    is_filtered: bool,
    seed: u64,
    changes: usize,
    kills: usize,
) -> Client {
    let mut client = Client::new(is_filtered, seed);
    let mut random = SmallRng::seed_from_u64(!seed);
    let max_id = portal.leads.keys().last().copied().unwrap_or(0) + 500;
    let mut throughout = matching(&portal.leads, is_filtered);
    // Steps at which something happens, for an export of about this length.
    let steps = throughout.len() / 60 + 20;
    let per_step = changes.div_ceil(steps);
    let kill_at: BTreeSet<usize> = (0..kills).map(|_| random.random_range(0..steps)).collect();
    for step in 0.. {
        assert!(step < 100 * steps, "the export does not end");
        if client.pages.is_complete() {
            break;
        }
        client.step(portal);
        for _ in 0..random.random_range(0..=2 * per_step) {
            let is_match = |label: &String| !is_filtered || label == HOT;
            if let Some(id) = change(portal, &mut random, max_id)
                && !portal.leads.get(&id).is_some_and(is_match)
            {
                throughout.remove(&id);
            }
        }
        if kill_at.contains(&step) {
            client.kill();
        }
    }
    assert!(client.received.is_sorted_by(|a, b| a < b), "a lead twice or out of order");
    assert_eq!(client.pages.exported(), client.received.len() as u64);
    let received: BTreeSet<u64> = client.received.iter().copied().collect();
    let missing: Vec<_> = throughout.difference(&received).collect();
    assert!(
        missing.is_empty(),
        "{} are missing: {:?}",
        missing.len(),
        &missing[..missing.len().min(9)]
    );
    client
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_lead_that_exists_throughout_is_received_exactly_once(
        gaps in prop::collection::vec(1_u64..9, 0..7_000),
        is_filtered in any::<bool>(),
        seed in any::<u64>(),
        changes in 0_usize..1_500,
        kills in 0_usize..6,
    ) {
        let mut last = 0;
        let mut portal = SimulatedPortal::with_leads(gaps.iter().map(|gap| { last += gap; last }));
        export(&mut portal, is_filtered, seed, changes, kills);
    }
}

#[test]
fn a_large_portal_is_exported_while_it_changes_and_streams_are_killed() {
    let leads = if is_full() { 1_000_000 } else { 100_000 };
    for (is_filtered, seed) in [(false, 1), (true, 2)] {
        let mut portal = SimulatedPortal::with_leads((1..=leads).map(|number| number * 3));
        let client = export(&mut portal, is_filtered, seed, 20_000, 100);
        assert!(client.peak <= MAX_BYTES, "{}", client.peak);
    }
}

#[test]
fn pages_are_not_read_twice_if_nothing_changes() {
    for (is_filtered, leads) in [(false, 50_000), (true, 50_000)] {
        let mut portal = SimulatedPortal::with_leads((1..=leads).map(|number| number * 3));
        let client = export(&mut portal, is_filtered, 7, 0, 0);
        let capacity = client.lists * 100 + client.searches * 200;
        let received = client.received.len();
        assert!(capacity * 94 <= received * 100, "{capacity} places for {received} leads");
        assert_eq!(client.lists == 0, is_filtered);
        assert!(is_filtered || client.searches > 10, "{} searches", client.searches);
    }
}

#[test]
fn large_leads_are_read_with_fewer_requests_side_by_side() {
    let portal = SimulatedPortal::with_leads(1..=20_000);
    for (lead_bytes, least, most) in [(500, 4, 4), (10 << 10, 1, 2), (1 << 20, 1, 1)] {
        let mut client = Client::new(false, 1);
        client.pages.accept(fetched(portal.respond(&next_request(&client.pages)))).unwrap();
        let mut ahead = client.pages.read_ahead(20_000, lead_bytes, MAX_BYTES).unwrap();
        let requests = ahead.requests(0).len();
        assert!((least..=most).contains(&requests), "{lead_bytes}: {requests}");
    }
}

#[test]
fn exports_of_few_leads_or_with_other_cursors_are_not_read_ahead() {
    let portal = SimulatedPortal::with_leads(1..=20_000);
    let first = |after: Option<&str>| {
        let mut pages = open(false, "");
        assert!(pages.read_ahead(20_000, LEAD, MAX_BYTES).is_none(), "before the first page");
        let page = fetched(portal.respond(&next_request(&pages)));
        let after = after.map(str::to_owned).or_else(|| page.after.clone());
        pages.accept(FetchedPage { after, ..page }).unwrap();
        pages
    };
    assert!(first(None).read_ahead(20_000, LEAD, MAX_BYTES).is_some());
    assert!(first(None).read_ahead(1_999, LEAD, MAX_BYTES).is_none());
    assert!(first(Some("101")).read_ahead(20_000, LEAD, MAX_BYTES).is_some(), "id and one");
    for cursor in ["102", "99", "MTAw"] {
        assert!(first(Some(cursor)).read_ahead(20_000, LEAD, MAX_BYTES).is_none(), "{cursor}");
    }
}

#[test]
fn a_page_that_does_not_fit_stops_reading_ahead() {
    let portal = SimulatedPortal::with_leads(1..=20_000);
    type Change = fn(&mut FetchedPage);
    let changes: [Change; 4] = [
        |page| page.ids.reverse(),
        |page| page.ids[0] = "5".to_owned(),
        |page| page.ids[0] = "x".to_owned(),
        |page| page.after = Some("opaque".to_owned()),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut pages = open(false, "");
        pages.accept(fetched(portal.respond(&next_request(&pages)))).unwrap();
        let mut ahead = pages.read_ahead(20_000, LEAD, MAX_BYTES).unwrap();
        let (segment, page) = ahead.requests(0).remove(0);
        assert!(matches!(page, PlannedPage::List { .. }));
        let request = as_request(pages.planned_request(&page));
        let mut page = fetched(portal.respond(&request));
        change(&mut page);
        ahead.accept(segment, page, 0).expect_err(&number.to_string());
    }
}
