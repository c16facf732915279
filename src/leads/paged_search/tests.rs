//! Pages of searches against leads in memory: ties, changes between pages, and responses that do not fit.

use std::collections::{BTreeMap, BTreeSet};

use leadsd_base::time::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::leads::query::{Direction, Filter, FilterGroup, FilterOperator, Sort};

/// Maximum number of pages of one search in these tests.
const MAX_PAGES: usize = 4_000;

/// Lead of the simulated search.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    created: i64,
    updated: i64,
    is_hot: bool,
}

/// HubSpot's search over leads by id. The order of leads of one time differs from request to request.
#[derive(Debug, Default)]
struct SimulatedSearch {
    leads: BTreeMap<u64, Indexed>,
    requests: u64,
}

// === impl SimulatedSearch ===

impl SimulatedSearch {
    fn respond(&mut self, search: &SearchLeads) -> SearchPage {
        let SearchLeads { filter_groups, sort, limit, after, .. } = search;
        assert!((1..=MAX_PAGE).contains(limit), "{limit}");
        assert!(filter_groups.iter().all(|group| group.filters.len() <= 6));
        let offset: usize = after.as_ref().map_or(0, |after| after.parse().unwrap());
        let limit = *limit as usize;
        assert!(offset + limit <= 10_000, "HubSpot rejects offset {offset}");
        self.requests += 1;
        // A mix of the bits of id and request number.
        let noise =
            |id: u64| (id ^ self.requests).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
        let sort = sort.as_ref().expect("leadsd names the order");
        let mut found: Vec<_> = self
            .leads
            .iter()
            .filter(|lead| {
                filter_groups.is_empty()
                    || filter_groups
                        .iter()
                        .any(|group| group.filters.iter().all(|it| passes(it, lead)))
            })
            .map(|(id, lead)| (value(&sort.property_name, *id, lead), noise(*id), *id, *lead))
            .collect();
        found.sort_unstable_by_key(|(value, noise, ..)| (*value, *noise));
        if sort.direction == Direction::Descending {
            found.reverse();
        }
        let total = found.len() as u64;
        let next = offset + limit;
        let after = (found.len() > next).then(|| next.to_string());
        let leads = found.into_iter().skip(offset).take(limit);
        let leads = leads.map(|(.., id, lead)| show(id, lead, &search.properties)).collect();
        SearchPage { leads, after, total }
    }
}

fn value(property: &str, id: u64, lead: &Indexed) -> i64 {
    match property {
        "hs_object_id" => id.try_into().unwrap(),
        "hs_createdate" => lead.created,
        "hs_lastmodifieddate" => lead.updated,
        other => panic!("{other}"),
    }
}

fn passes(filter: &Filter, (id, lead): &(&u64, &Indexed)) -> bool {
    let Filter { property_name, operator, value: operand, high_value, .. } = filter;
    let operand = operand.as_deref().unwrap();
    if property_name == "hs_lead_label" {
        return (operand == "HOT") == lead.is_hot;
    }
    let (own, operand) = (value(property_name, **id, lead), operand.parse::<i64>().unwrap());
    match operator {
        FilterOperator::Gt => own > operand,
        FilterOperator::Gte => own >= operand,
        FilterOperator::Lt => own < operand,
        FilterOperator::Lte => own <= operand,
        FilterOperator::Between => {
            let high: i64 = high_value.as_deref().unwrap().parse().unwrap();
            own >= operand && own <= high
        }
        FilterOperator::Eq
        | FilterOperator::Neq
        | FilterOperator::In
        | FilterOperator::NotIn
        | FilterOperator::HasProperty
        | FilterOperator::NotHasProperty
        | FilterOperator::ContainsToken
        | FilterOperator::NotContainsToken => panic!("{operator:?}"),
    }
}

fn show(id: u64, lead: Indexed, selected: &[String]) -> Lead {
    let time = |millis: i64| Timestamp::from_millisecond(millis).unwrap().to_string();
    let all = [("hs_createdate", lead.created), ("hs_lastmodifieddate", lead.updated)];
    let is_selected = |name: &str| selected.is_empty() || selected.iter().any(|own| own == name);
    let own = all.into_iter().filter(|(name, _)| is_selected(name));
    let properties = own.map(|(name, millis)| (name.to_owned(), time(millis))).collect();
    Lead { id: id.to_string(), properties, ..Lead::default() }
}

fn sort(name: &str, direction: Direction) -> Option<Sort> {
    Some(Sort { property_name: name.to_owned(), direction })
}

fn label(filters: usize) -> FilterGroup {
    let filter = order::filter("hs_lead_label", FilterOperator::Eq, "HOT");
    FilterGroup { filters: vec![filter; filters] }
}

fn search(sort: Option<Sort>, limit: u32, filter_groups: Vec<FilterGroup>) -> SearchLeads {
    let properties = vec!["hs_lead_name".to_owned()];
    SearchLeads { query: String::new(), filter_groups, sort, properties, limit, after: None }
}

fn ids(page: &PositionedPage) -> Vec<u64> {
    page.leads.iter().map(|lead| lead.id.parse().unwrap()).collect()
}

/// All pages of a search. `change` is called between two pages.
fn read_all(
    hubspot: &mut SimulatedSearch,
    search: &SearchLeads,
    mut change: impl FnMut(&mut SimulatedSearch, &PositionedPage),
) -> Vec<PositionedPage> {
    let (mut pages, mut position) = (Vec::new(), SearchPosition::Offset(None));
    loop {
        assert!(pages.len() < MAX_PAGES);
        let paged = PagedSearch::new(search.clone(), position).expect("a position of this search");
        let page = paged.accept(hubspot.respond(&paged.request())).expect("an honest page");
        assert!(page.leads.len() <= search.limit as usize);
        assert!(page.leads.iter().all(|lead| lead.properties.is_empty()), "only what is selected");
        change(hubspot, &page);
        pages.push(page.clone());
        let Some(next) = page.next else { return pages };
        position = next;
    }
}

/// Number of random cases: more if `LEADSD_TEST_CASES` is `full`.
#[expect(clippy::disallowed_methods, reason = "the number of cases is no configuration")]
fn config() -> ProptestConfig {
    let is_full = std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full");
    let cases = if is_full { 2_000 } else { 128 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn sorts() -> impl Strategy<Value = Option<Sort>> {
    let names = vec!["hs_object_id", "hs_createdate", "hs_lastmodifieddate"];
    let directions = vec![Direction::Ascending, Direction::Descending];
    let named = (prop::sample::select(names), prop::sample::select(directions));
    prop_oneof![1 => Just(None), 6 => named.prop_map(|(name, direction)| sort(name, direction))]
}

/// Leads with times of which many are equal: `spread` is the number of different times.
fn leads() -> impl Strategy<Value = BTreeMap<u64, Indexed>> {
    let lead = |spread: i64| {
        let times = (0..spread, 0..spread);
        (1_u64..5_000, times, any::<bool>()).prop_map(|(id, (created, updated), is_hot)| {
            let lead = Indexed { created: 1_000 + created, updated: 2_000 + updated, is_hot };
            (id, lead)
        })
    };
    prop_oneof![Just(1_i64), 2_i64..6, 20_i64..200, Just(100_000_i64)].prop_flat_map(
        move |spread| {
            prop::collection::vec(lead(spread), 0..700)
                .prop_map(|leads| leads.into_iter().collect())
        },
    )
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_lead_is_on_exactly_one_page(
        leads in leads(),
        sort in sorts(),
        limit in prop_oneof![1_u32..8, 50_u32..=200],
        is_filtered in any::<bool>(),
    ) {
        let groups = if is_filtered { vec![label(1), label(4)] } else { Vec::new() };
        let matches = |lead: &Indexed| !is_filtered || lead.is_hot;
        let expected: Vec<u64> =
            leads.iter().filter(|(_, lead)| matches(lead)).map(|(id, _)| *id).collect();
        let mut hubspot = SimulatedSearch { leads, requests: 0 };
        let search = search(sort.clone(), limit, groups);
        let pages = read_all(&mut hubspot, &search, |_, _| {});
        let mut received: Vec<u64> = pages.iter().flat_map(ids).collect();
        // The order is that of the sort; leads of one time have any order.
        let order = SearchOrder::from_sort(sort.as_ref()).unwrap();
        let name = order.sort().property_name;
        let values: Vec<i64> =
            received.iter().map(|id| value(&name, *id, &hubspot.leads[id])).collect();
        prop_assert!(values.is_sorted_by(|a, b| order.is_sorted(*a, *b)));
        prop_assert!(pages.iter().all(|page| page.total == expected.len() as u64));
        received.sort_unstable();
        prop_assert_eq!(&received, &expected);
        // Requests: a page, and at most two more where a run of equal times begins.
        let full_pages = expected.len().div_ceil(limit as usize);
        prop_assert!(pages.len() <= 3 * full_pages + 2, "{} pages", pages.len());
    }

    #[test]
    fn a_lead_that_exists_throughout_is_returned_once_by_id_and_by_creation(
        leads in leads(),
        name in prop::sample::select(vec!["hs_object_id", "hs_createdate"]),
        is_descending in any::<bool>(),
        limit in 1_u32..100,
        changes in prop::collection::vec((any::<bool>(), 1_u64..5_000, 0_i64..200), 0..400),
    ) {
        let mut throughout: BTreeSet<u64> = leads.keys().copied().collect();
        let mut hubspot = SimulatedSearch { leads, requests: 0 };
        let direction = if is_descending { Direction::Descending } else { Direction::Ascending };
        let search = search(sort(name, direction), limit, Vec::new());
        let mut changes = changes.into_iter();
        let pages = read_all(&mut hubspot, &search, |hubspot, _| {
            for (is_new, id, created) in changes.by_ref().take(3) {
                if is_new {
                    let lead = Indexed { created: 1_000 + created, updated: 0, is_hot: true };
                    hubspot.leads.entry(id).or_insert(lead);
                } else {
                    hubspot.leads.remove(&id);
                    throughout.remove(&id);
                }
            }
        });
        let received: Vec<u64> = pages.iter().flat_map(ids).collect();
        for id in throughout {
            let times = received.iter().filter(|own| **own == id).count();
            prop_assert_eq!(times, 1, "lead {}", id);
        }
    }
}

#[test]
fn a_search_goes_on_beyond_ten_thousand_results_also_of_one_time() {
    for (spread, name) in [
        (i64::MAX, "hs_object_id"),
        (i64::MAX, "hs_createdate"),
        (100, "hs_createdate"),
        (1, "hs_createdate"),
        (1, "hs_lastmodifieddate"),
    ] {
        let lead = |number: i64| Indexed { created: number % spread, updated: 7, is_hot: true };
        let leads = (1..=12_345).map(|id| (id, lead(id.try_into().unwrap()))).collect();
        let mut hubspot = SimulatedSearch { leads, requests: 0 };
        let search = search(sort(name, Direction::Descending), 200, vec![label(1)]);
        let pages = read_all(&mut hubspot, &search, |_, _| {});
        let received: BTreeSet<u64> = pages.iter().flat_map(ids).collect();
        let count: usize = pages.iter().map(|page| page.leads.len()).sum();
        assert_eq!((received.len(), count), (12_345, 12_345), "{name} {spread}");
        assert!(pages.iter().all(|page| page.total == 12_345));
        assert!(hubspot.requests <= 270, "{name} {spread}: {} requests", hubspot.requests);
    }
}

#[test]
fn a_search_without_room_or_with_another_sort_ends_at_ten_thousand() {
    let by_name = sort("hs_lead_name", Direction::Ascending);
    let by_id = sort("hs_object_id", Direction::Ascending);
    let by_time = sort("hs_createdate", Direction::Ascending);
    let long = FilterGroup {
        filters: vec![order::filter("hs_lead_name", FilterOperator::Eq, "\"".repeat(1_400))],
    };
    for (sort, groups, expected) in [
        (by_name, Vec::new(), Some("unless it is sorted by hs_object_id")),
        (by_id.clone(), vec![label(6)], Some("no room")),
        (by_id.clone(), vec![label(5), label(5), label(5)], None),
        (by_id.clone(), vec![label(4); 4], Some("no room")),
        (by_id.clone(), vec![label(5)], None),
        (by_id, vec![long], Some("no room")),
        (by_time.clone(), vec![label(5)], Some("no room")),
        (by_time, vec![label(4)], None),
        (None, vec![label(5)], Some("restart")),
    ] {
        let search = search(sort, 150, groups);
        let at = |offset: u64| {
            let cursor = Some(offset.to_string()).filter(|_| offset > 0);
            PagedSearch::new(search.clone(), SearchPosition::Offset(cursor))
        };
        let first = at(0).unwrap();
        assert_eq!(first.order.is_some(), expected.is_none(), "{search:?}");
        // The last page ends at the limit.
        let last = at(9_900).unwrap();
        assert_eq!((last.request().limit, last.request().after.as_deref()), (100, Some("9900")));
        let error = at(10_000).unwrap_err();
        assert_eq!(error.reason(), Reason::SearchWindowExceeded);
        assert!(error.message().contains("ExportLeads"), "{error}");
        assert!(error.message().contains(expected.unwrap_or("restart")), "{error}");
    }
}

#[test]
fn an_offset_of_an_earlier_version_continues_by_keyset_where_the_order_is_known() {
    let lead = |number: i64| Indexed { created: number / 10, updated: 0, is_hot: true };
    let leads: BTreeMap<_, _> = (1..=500).map(|id| (id, lead(id.try_into().unwrap()))).collect();
    for (name, limit, is_keyset) in [
        ("hs_object_id", 5, true),
        ("hs_createdate", 40, true),
        // All leads of the page have one time, and so may those before.
        ("hs_createdate", 5, false),
    ] {
        let mut hubspot = SimulatedSearch { leads: leads.clone(), requests: 0 };
        let search = search(sort(name, Direction::Ascending), limit, Vec::new());
        let position = SearchPosition::Offset(Some("12".to_owned()));
        let paged = PagedSearch::new(search, position).unwrap();
        let request = paged.request();
        assert_eq!(request.after.as_deref(), Some("12"));
        let page = paged.accept(hubspot.respond(&request)).unwrap();
        let next = page.next.unwrap();
        assert_eq!(matches!(next, SearchPosition::Keyset(_)), is_keyset, "{name}: {next:?}");
        assert_eq!(page.total, 500);
    }
    // Without a sort, the order of the pages before is HubSpot's.
    let position = SearchPosition::Offset(Some("12".to_owned()));
    let paged = PagedSearch::new(search(None, 5, Vec::new()), position).unwrap();
    assert_eq!(paged.request().sort, None);
    let first = SearchPosition::Offset(None);
    let paged = PagedSearch::new(search(None, 5, Vec::new()), first).unwrap();
    assert_eq!(paged.request().sort, sort("hs_createdate", Direction::Ascending));
}

#[test]
fn a_first_page_without_times_continues_by_hubspots_cursor() {
    let search = search(None, 2, Vec::new());
    let paged = PagedSearch::new(search, SearchPosition::Offset(None)).unwrap();
    for (leads, after) in [(["1", "2"], Some("2")), (["x", "2"], Some("2")), (["1", "2"], None)] {
        let leads: Vec<_> =
            leads.map(|id| Lead { id: id.to_owned(), ..Lead::default() }).into_iter().collect();
        let after = after.map(str::to_owned);
        let page = SearchPage { leads: leads.clone(), after: after.clone(), total: 9 };
        let accepted = paged.accept(page).unwrap();
        assert_eq!((accepted.leads, accepted.total), (leads, 9));
        assert_eq!(accepted.next, after.map(|it| SearchPosition::Offset(Some(it))));
    }
}

#[test]
fn a_response_that_does_not_fit_its_window_is_an_error() {
    let lead = |id: u64, created: i64| {
        let lead = Indexed { created, updated: 0, is_hot: true };
        show(id, lead, &[])
    };
    let without_time = Lead { id: "9".to_owned(), ..Lead::default() };
    let time = || KeysetBound::Time { millis: 50, returned: vec![3] };
    let tie = || KeysetBound::Tie { millis: 50, id: 5, returned: Vec::new() };
    for (bound, leads, total) in [
        (KeysetBound::Id(5), vec![lead(5, 0), lead(6, 0)], 2),
        (KeysetBound::Id(5), vec![lead(7, 0), lead(6, 0)], 2),
        (KeysetBound::Id(5), vec![lead(7, 0), lead(7, 0)], 2),
        (KeysetBound::Id(5), vec![], 1),
        (time(), vec![lead(7, 49)], 1),
        (time(), vec![lead(7, 51), lead(8, 50)], 2),
        (time(), vec![without_time], 1),
        (time(), vec![], 3),
        (KeysetBound::BehindTime(50), vec![lead(7, 50)], 1),
        (tie(), vec![lead(5, 50)], 1),
        (tie(), vec![lead(8, 50), lead(7, 50)], 2),
    ] {
        let name =
            if matches!(bound, KeysetBound::Id(_)) { "hs_object_id" } else { "hs_createdate" };
        let keyset = Keyset { sent: 1, total: 9, bound };
        let search = search(sort(name, Direction::Ascending), 10, Vec::new());
        let paged = PagedSearch::new(search, SearchPosition::Keyset(keyset.clone())).unwrap();
        let error = paged.accept(SearchPage { leads, after: None, total }).unwrap_err();
        assert_eq!(error.reason(), Reason::UpstreamInvalidResponse, "{keyset:?}");
    }
}

#[test]
fn a_position_of_another_order_is_rejected() {
    for (name, bound) in [
        ("hs_createdate", KeysetBound::Id(5)),
        ("hs_object_id", KeysetBound::BehindTime(5)),
        ("hs_lead_name", KeysetBound::Id(5)),
    ] {
        let search = search(sort(name, Direction::Ascending), 10, Vec::new());
        let position = SearchPosition::Keyset(Keyset { sent: 1, total: 9, bound });
        let error = PagedSearch::new(search, position).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidPageToken, "{name}");
    }
}
