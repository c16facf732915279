//! A portal in memory whose search index lags behind its writes, for tests of exports.

use std::collections::BTreeMap;

use super::{ExportLeads, FetchedPage, MAX_LIST_PAGE, MAX_SEARCH_PAGE, PageRequest, Pages};
use crate::leads::{
    lead::Lead,
    query::{
        Filter, FilterGroup, FilterOperator, ListLeads, Page, SearchLeads, SearchPage, Selection,
    },
    request::{Request, Response},
};

/// Property of the condition of the tests.
const LABEL: &str = "hs_lead_label";

/// Value that the condition of the tests selects.
pub(in crate::leads) const HOT: &str = "HOT";

/// Leads by id with their labels, and the index that searches see.
#[derive(Debug, Clone, Default)]
pub(in crate::leads) struct SimulatedPortal {
    pub(in crate::leads) leads: BTreeMap<u64, String>,
    pub(in crate::leads) index: BTreeMap<u64, String>,
    /// Text that each lead has beside its label.
    pub(in crate::leads) filler: String,
}

// === impl SimulatedPortal ===

impl SimulatedPortal {
    /// A portal with leads of these ids; every second one is hot.
    pub(in crate::leads) fn with_leads(ids: impl Iterator<Item = u64>) -> Self {
        let label = |number| if number % 2 == 0 { HOT } else { "COLD" };
        let leads: BTreeMap<_, _> =
            ids.enumerate().map(|(number, id)| (id, label(number).to_owned())).collect();
        Self { index: leads.clone(), leads, filler: String::new() }
    }

    /// The index catches up with the writes.
    pub(in crate::leads) fn index_all(&mut self) {
        self.index = self.leads.clone();
    }

    pub(in crate::leads) fn respond(&self, request: &Request) -> Response {
        if let Request::List(list) = request {
            return Response::Page(self.list(list).into());
        }
        if let Request::Search(search) = request {
            return Response::SearchPage(self.search(search).into());
        }
        panic!("{request:?}")
    }

    fn list(&self, list: &ListLeads) -> Page {
        assert!((1..=MAX_LIST_PAGE).contains(&list.limit), "{}", list.limit);
        let after = list.after.as_ref().map_or(0, |after| after.parse().expect("an id"));
        let mut rest = self.leads.range(after + 1..);
        let leads: Vec<Lead> =
            rest.by_ref().take(list.limit as usize).map(|lead| self.show(lead)).collect();
        let is_last = rest.next().is_none();
        let after = leads.last().filter(|_| !is_last).map(|lead| lead.id.clone());
        Page { leads, after }
    }

    fn search(&self, search: &SearchLeads) -> SearchPage {
        let SearchLeads { filter_groups, limit, after, sort, .. } = search;
        let offset: usize = after.as_ref().map_or(0, |after| after.parse().expect("an offset"));
        assert!((1..=MAX_SEARCH_PAGE).contains(limit) && offset + *limit as usize <= 10_000);
        assert_eq!(sort.as_ref().map(|sort| &*sort.property_name), Some("hs_object_id"));
        let filters = || filter_groups.iter().flat_map(|group| &group.filters);
        let above = filters().filter(|filter| filter.property_name == "hs_object_id");
        let above =
            above.map(|filter| filter.value.as_deref().unwrap_or_default().parse().unwrap());
        let above: u64 = above.max().expect("each search has a bound");
        // The label that each group selects, if it selects one.
        let labels = filter_groups.iter().map(|group| {
            let mut conditions = group.filters.iter();
            conditions.find_map(|filter| match (&*filter.property_name, filter.operator) {
                ("hs_object_id", FilterOperator::Gt) => None,
                (LABEL, FilterOperator::Eq) => Some(filter.value.as_deref().unwrap_or_default()),
                other => panic!("{other:?}"),
            })
        });
        let labels: Vec<Option<&str>> = labels.collect();
        let matches = |(_, label): &(&u64, &String)| {
            labels.iter().any(|selected| selected.is_none_or(|selected| *label == selected))
        };
        let found: Vec<_> = self.index.range(above + 1..).filter(matches).collect();
        let (total, next) = (found.len() as u64, offset + *limit as usize);
        let after = (found.len() > next).then(|| next.to_string());
        let leads = found
            .into_iter()
            .skip(offset)
            .take(*limit as usize)
            .map(|lead| self.show(lead))
            .collect();
        SearchPage { leads, after, total }
    }

    fn show(&self, (id, label): (&u64, &String)) -> Lead {
        let properties = [(LABEL, label), ("filler", &self.filler)];
        let properties = properties.map(|(name, value)| (name.to_owned(), value.clone())).into();
        Lead { id: id.to_string(), properties, ..Lead::default() }
    }
}

/// Export of all leads, or of the hot ones.
pub(in crate::leads) fn request(is_filtered: bool) -> ExportLeads {
    let filter = Filter {
        property_name: LABEL.to_owned(),
        operator: FilterOperator::Eq,
        value: Some(HOT.to_owned()),
        high_value: None,
        values: Vec::new(),
    };
    let group = FilterGroup { filters: vec![filter] };
    ExportLeads {
        query: String::new(),
        filter_groups: if is_filtered { vec![group] } else { Vec::new() },
        selection: Selection::default(),
    }
}

/// Request for the next page.
pub(in crate::leads) fn next_request(pages: &Pages) -> Request {
    as_request(pages.request())
}

/// The request of a page.
pub(in crate::leads) fn as_request(page: PageRequest) -> Request {
    match page {
        PageRequest::Search(search) => Request::Search(search),
        PageRequest::List(list) => Request::List(list),
    }
}

/// The page of a response.
pub(in crate::leads) fn fetched(response: Response) -> FetchedPage {
    let ids = |leads: &[Lead]| leads.iter().map(|lead| lead.id.clone()).collect();
    match response.clone().into_page() {
        Ok(page) => FetchedPage {
            ids: ids(&page.leads),
            leads: page.leads.clone(),
            after: page.after.clone(),
            total: None,
        },
        Err(_) => {
            let page = response.into_search_page().expect("a page");
            let (leads, total) = (page.leads.clone(), Some(page.total));
            FetchedPage { ids: ids(&leads), leads, after: page.after.clone(), total }
        }
    }
}

/// The ids of leads as numbers.
pub(in crate::leads) fn ids(leads: &[Lead]) -> Vec<u64> {
    leads.iter().map(|lead| lead.id.parse().expect("a number")).collect()
}
