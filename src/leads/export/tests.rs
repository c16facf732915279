//! The pages of an export against a portal in memory: concurrent writes, kills, and responses that lie.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    testing::{HOT, SimulatedPortal, fetched, ids, next_request, request},
    *,
};
use crate::leads::{PortalName, error::Reason, request::Request};

/// Maximum number of requests of one export in these tests.
const MAX_REQUESTS: usize = 2_000;

/// Event between two messages.
#[derive(Debug, Clone, Copy)]
enum Event {
    Create(u64),
    Update(u64),
    Archive(u64),
    /// The index catches up.
    Index,
    /// The stream is killed after the client has received the message.
    Kill,
    /// The stream is killed before.
    KillUnread,
}

/// Response that does not fit to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// The first page again.
    First,
    /// The page before.
    Previous,
    /// The cursor of the page itself.
    SameCursor,
    /// Each lead twice.
    Twice,
    /// The leads in reverse order.
    Reversed,
    /// No leads, but more to come.
    Empty,
    /// An id that is not a number.
    BadId,
}

fn pages(is_filtered: bool, token: &str) -> Pages {
    let portal = PortalName::parse("default").expect("a valid name");
    Pages::new(&portal, request(is_filtered), token).expect("a token of this request")
}

/// Number of random cases: more if `LEADSD_TEST_CASES` is `full`.
#[expect(clippy::disallowed_methods, reason = "the number of cases is no configuration")]
fn config() -> ProptestConfig {
    let is_full = std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full");
    let cases = if is_full { 1_000 } else { 64 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1_u64..20_000).prop_map(Event::Create),
        2 => any::<u64>().prop_map(Event::Update),
        2 => any::<u64>().prop_map(Event::Archive),
        2 => Just(Event::Index),
        1 => Just(Event::Kill),
        1 => Just(Event::KillUnread),
    ]
}

/// Ids of leads that match.
fn matching(leads: &BTreeMap<u64, String>, is_filtered: bool) -> BTreeSet<u64> {
    let matches = leads.iter().filter(|(_, label)| !is_filtered || *label == HOT);
    matches.map(|(id, _)| *id).collect()
}

/// The nth lead of a portal.
fn nth(portal: &SimulatedPortal, number: u64) -> Option<u64> {
    let count = portal.leads.len() as u64;
    let position = usize::try_from(number.checked_rem(count)?).ok()?;
    portal.leads.keys().nth(position).copied()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_lead_that_exists_throughout_is_received_exactly_once(
        gaps in prop::collection::vec(1_u64..12, 0..1_200),
        events in prop::collection::vec((event(), 1_usize..60), 0..120),
        is_filtered in any::<bool>(),
    ) {
        let mut last = 0;
        let mut portal = SimulatedPortal::with_leads(gaps.iter().map(|gap| { last += gap; last }));
        let mut throughout = matching(&portal.leads, is_filtered);
        let mut export = pages(is_filtered, "");
        let (mut received, mut token) = (Vec::new(), String::new());
        let mut events = events.into_iter();
        let mut requests = 0;
        while !export.is_complete() {
            if export.needs_page() {
                requests += 1;
                prop_assert!(requests < MAX_REQUESTS);
                let response = portal.respond(&next_request(&export));
                export.accept(fetched(response)).expect("an honest page");
                continue;
            }
            let (event, size) = events.next().unwrap_or((Event::Index, 100));
            let message = ids(&export.take(size, |_| 1));
            if !matches!(event, Event::KillUnread) {
                received.extend(message);
                token = export.token();
                prop_assert_eq!(export.exported(), received.len() as u64);
            }
            match event {
                Event::Create(id) => {
                    portal.leads.entry(id).or_insert_with(|| HOT.to_owned());
                }
                Event::Update(number) => {
                    if let Some(label) = nth(&portal, number).and_then(|id| portal.leads.get_mut(&id)) {
                        *label = if label == HOT { "COLD".to_owned() } else { HOT.to_owned() };
                    }
                }
                Event::Archive(number) => {
                    let id = nth(&portal, number);
                    id.map(|id| portal.leads.remove(&id));
                }
                Event::Index => portal.index_all(),
                Event::Kill | Event::KillUnread => export = pages(is_filtered, &token),
            }
            throughout = &throughout & &matching(&portal.leads, is_filtered);
        }
        prop_assert!(received.is_sorted_by(|a, b| a < b), "a lead twice or out of order");
        let received: BTreeSet<u64> = received.into_iter().collect();
        let missing: Vec<_> = throughout.difference(&received).collect();
        prop_assert!(missing.is_empty(), "{:?}", missing);
    }

    #[test]
    fn a_response_that_lies_neither_repeats_nor_loses_a_lead_nor_goes_on_without_end(
        leads in 0_u64..1_000,
        lies in prop::collection::btree_map(0_usize..12, prop::sample::select(vec![
            Lie::First, Lie::Previous, Lie::SameCursor, Lie::Twice, Lie::Reversed, Lie::Empty, Lie::BadId,
        ]), 0..8),
        is_filtered in any::<bool>(),
    ) {
        let portal = SimulatedPortal::with_leads((1..=leads).map(|number| number * 3));
        let mut export = pages(is_filtered, "");
        let first = portal.respond(&next_request(&export));
        let (mut previous, mut received) = (first.clone(), Vec::new());
        for number in 0.. {
            prop_assert!(number < MAX_REQUESTS);
            if export.is_complete() {
                break;
            }
            let honest = portal.respond(&next_request(&export));
            let mut page = fetched(honest.clone());
            match lies.get(&number) {
                None => {}
                Some(Lie::First) => page = fetched(first.clone()),
                Some(Lie::Previous) => page = fetched(previous.clone()),
                Some(Lie::SameCursor) => page.after = fetched(previous.clone()).after,
                Some(Lie::Twice) => {
                    page.ids = page.ids.iter().flat_map(|id| [id.clone(), id.clone()]).collect();
                    page.leads.extend(page.leads.clone());
                }
                Some(Lie::Reversed) => {
                    page.ids.reverse();
                    page.leads.reverse();
                }
                Some(Lie::Empty) => {
                    page.ids.clear();
                    page.leads.clear();
                    page.after = Some("7000000".to_owned()).filter(|_| is_filtered).or(page.after);
                }
                Some(Lie::BadId) => page.ids.push("x".to_owned()),
            }
            if lies.get(&number) == Some(&Lie::Empty) && !is_filtered {
                // An empty page of a list with an honest cursor cannot be distinguished from an honest one.
                page = FetchedPage { after: Some("c".repeat(10_000)), ..FetchedPage::default() };
            }
            match export.accept(page) {
                Ok(()) => previous = honest,
                Err(error) => {
                    prop_assert_eq!(error.reason(), Reason::UpstreamInvalidResponse);
                    prop_assert!(lies.contains_key(&number), "{}", error);
                }
            }
            while !export.needs_page() && !export.is_complete() {
                received.extend(ids(&export.take(50, |_| 1)));
            }
        }
        let expected: Vec<u64> = matching(&portal.leads, is_filtered).into_iter().collect();
        prop_assert_eq!(received, expected);
    }
}

#[test]
fn a_list_that_never_ends_is_an_error() {
    let portal = SimulatedPortal::with_leads(1..=250);
    let mut export = pages(false, "");
    let page = || fetched(portal.respond(&next_request(&pages(false, ""))));
    export.accept(page()).unwrap();
    export.take(usize::MAX, |_| 0);
    let mut accepted = 0;
    let error = (0..100).find_map(|number| {
        // The same leads, with another cursor each time.
        let after = Some(format!("c{number}"));
        let result = export.accept(FetchedPage { after, ..page() });
        accepted += usize::from(result.is_ok());
        result.err()
    });
    assert!(error.unwrap().message().contains("without an end"));
    assert_eq!(accepted, 8);
}

#[test]
fn a_page_has_the_size_that_fits_in_memory() {
    let mut export = pages(true, "");
    let size = |export: &Pages| {
        let Request::Search(search) = next_request(export) else { panic!("a search") };
        search.limit
    };
    assert_eq!(size(&export), MAX_SEARCH_PAGE);
    for (leads, bytes, expected) in [
        (200, 200 * 1_000, 200),
        (200, 200 * (20 << 10), 102),
        (102, 102 * (1 << 20), 2),
        (2, 2 * (9 << 20), 1),
        (0, 0, 1),
        (1, 1_000, 2),
        (2, 2_000, 4),
    ] {
        export.adapt(leads, bytes);
        assert_eq!(size(&export), expected, "{leads} leads of {bytes} bytes");
    }
    let mut export = pages(true, "");
    let reduced: Vec<u32> = (0..5)
        .map(|_| {
            assert!(export.reduce());
            size(&export)
        })
        .collect();
    assert_eq!(reduced, [50, 12, 3, 1, 1]);
    assert!(export.is_id_only());
    assert!(!export.reduce(), "not even the id fits");
}
