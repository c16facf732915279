//! Pages of associations, over an upstream that records requests.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use super::*;
use crate::leads::{
    lead::AssociatedObject,
    paged_search::{PagedSearch, SearchPosition},
    query::{SearchLeads, SearchPage},
    request::{BatchItem, Links},
    response_limit::ResponseLimit,
    service::{BatchGet, Settings},
    testing::RecordingUpstream,
    validator::ValidationSettings,
};

fn service() -> Service {
    Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes: 1 << 20, lead_size: |_| 0 },
        validation: ValidationSettings::default(),
        clock: std::sync::Arc::new(leadsd_base::time::SystemClock),
    })
}

fn list(lead: &str, after: Option<&str>) -> ListAssociations {
    let after = after.map(str::to_owned);
    let lead = LeadId::parse(lead).expect("a valid id");
    ListAssociations { lead, to: "contacts".to_owned(), limit: 10, after }
}

/// The leads 1 and 2, and lead 3, which was merged into lead 1.
fn hubspot() -> std::sync::Arc<RecordingUpstream> {
    RecordingUpstream::new(|_, request| match request {
        Request::ListAssociations(list) if ["1", "2"].contains(&list.lead.as_str()) => {
            let objects = vec![AssociatedObject::named(format!("9{}", list.lead), "")];
            Ok(Response::Associated(Associated { objects, next: list.after.clone() }.into()))
        }
        Request::Get(get) if ["1", "2", "3"].contains(&get.id.as_str()) => {
            let id = if get.id.as_str() == "3" { "1" } else { get.id.as_str() };
            Ok(Response::Lead(Lead { id: id.to_owned(), ..Lead::default() }.into()))
        }
        Request::ListAssociations(_) | Request::Get(_) => Err(Error::lead_not_found()),
        request => panic!("{request:?}"),
    })
}

#[tokio::test(start_paused = true)]
async fn a_page_takes_one_request() {
    let upstream = hubspot();
    let page = service().list_associations(&upstream.context(None), list("2", Some("c"))).await;
    assert_eq!(page.unwrap().objects, [AssociatedObject::named("92", "")]);
    assert_eq!(upstream.requests(), [Request::ListAssociations(list("2", Some("c")))]);
}

#[tokio::test(start_paused = true)]
async fn the_id_of_a_merged_lead_lists_the_associations_of_the_surviving_lead() {
    let upstream = hubspot();
    let page = service().list_associations(&upstream.context(None), list("3", Some("c"))).await;
    let expected =
        Associated { objects: vec![AssociatedObject::named("91", "")], next: Some("c".to_owned()) };
    assert_eq!(page, Ok(expected));
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert_eq!(requests[2], Request::ListAssociations(list("1", Some("c"))));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_lead_costs_one_more_request_and_is_not_found() {
    let upstream = hubspot();
    let page = service().list_associations(&upstream.context(None), list("7", None)).await;
    assert_eq!(page.unwrap_err().reason(), Reason::LeadNotFound);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_hubspot_finds_only_individually_is_not_asked_for_in_a_loop() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::Get(get) => {
            Ok(Response::Lead(Lead { id: get.id.to_string(), ..Lead::default() }.into()))
        }
        _ => Err(Error::lead_not_found()),
    });
    let page = service().list_associations(&upstream.context(None), list("7", None)).await;
    assert_eq!(page.unwrap_err().reason(), Reason::LeadNotFound);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_error_is_that_of_the_call() {
    let upstream = RecordingUpstream::new(|_, _| {
        Err(Error::new(Reason::MissingScopes, "the scope is missing"))
    });
    let page = service().list_associations(&upstream.context(None), list("7", None)).await;
    assert_eq!(page.unwrap_err().reason(), Reason::MissingScopes);
    assert_eq!(upstream.requests().len(), 1);
}

/// One contact of a lead: its id times ten.
fn contact_of(lead: &str) -> Links {
    let objects = vec![AssociatedObject::named(format!("{lead}0"), "")];
    Links { page: Associated { objects, next: None }, ..Links::none(lead.to_owned()) }
}

/// Leads with one contact each. `leaves_out` is true for leads that a read of associations does not mention,
/// by the number of the request.
fn with_contacts(
    leaves_out: impl Fn(usize, &str) -> bool + Send + Sync + 'static,
) -> Arc<RecordingUpstream> {
    RecordingUpstream::new(move |number, request| match request {
        Request::BatchRead(read) => {
            let item = |id: &LeadId| {
                let lead = Lead { id: id.to_string(), ..Lead::default() };
                Ok(Some(BatchItem { lead, trace_id: None, created: None }))
            };
            let outcomes = read.ids.iter().map(item).collect();
            Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
        }
        Request::Search(search) => {
            let lead = |id: u32| Lead { id: id.to_string(), ..Lead::default() };
            let leads = (1..=search.limit).map(lead).collect();
            Ok(Response::SearchPage(SearchPage { leads, after: None, total: 7 }.into()))
        }
        Request::ReadAssociations { leads, .. } => {
            let mentioned = leads.iter().filter(|id| !leaves_out(number, id.as_str()));
            let links = mentioned.map(|id| contact_of(id.as_str()));
            Ok(Response::Associations(links.collect()))
        }
        request => panic!("{request:?}"),
    })
}

fn batch_get(ids: u32, associations: &[&str]) -> BatchGet {
    BatchGet {
        ids: (1..=ids).map(|id| LeadId::parse(&id.to_string()).expect("a valid id")).collect(),
        id_property: None,
        properties: Vec::new(),
        properties_with_history: Vec::new(),
        associations: associations.iter().map(|&to| to.to_owned()).collect(),
        archived: false,
    }
}

fn search(limit: u32) -> PagedSearch {
    let search = SearchLeads {
        query: String::new(),
        filter_groups: Vec::new(),
        sort: None,
        properties: Vec::new(),
        limit,
        after: None,
    };
    PagedSearch::new(search, SearchPosition::Offset(None)).expect("the first page")
}

/// Number of requests of leads, and of associations.
fn counts(upstream: &RecordingUpstream) -> (usize, usize) {
    let requests = upstream.requests();
    let is_links = |request: &&Request| matches!(request, Request::ReadAssociations { .. });
    let links = requests.iter().filter(is_links).count();
    (requests.len() - links, links)
}

fn contacts(lead: &Lead) -> Vec<&str> {
    lead.associations["contacts"].objects.iter().map(|object| object.id.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_leads_with_contacts_take_one_more_request_per_hundred() {
    let upstream = with_contacts(|_, _| false);
    let service = service();
    let ctx = upstream.context(None);
    let leads = service.batch_get(&ctx, batch_get(10_000, &["contacts"])).await.expect("results");
    assert_eq!(counts(&upstream), (100, 100));
    for lead in leads {
        let lead = lead.expect("a lead");
        assert_eq!(contacts(&lead), [format!("{}0", lead.id)]);
    }
    let (plain, both) = (with_contacts(|_, _| false), with_contacts(|_, _| false));
    service.batch_get(&plain.context(None), batch_get(1_000, &[])).await.expect("results");
    assert_eq!(counts(&plain), (10, 0));
    let types = batch_get(1_000, &["contacts", "companies"]);
    service.batch_get(&both.context(None), types).await.expect("results");
    assert_eq!(counts(&both), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn a_page_of_a_search_takes_one_more_request_and_an_empty_page_none() {
    let upstream = with_contacts(|_, _| false);
    let (service, ctx) = (service(), upstream.context(None));
    let types = vec!["contacts".to_owned()];
    let page = service.search_page(&ctx, search(200), types.clone()).await.expect("a page");
    assert_eq!(counts(&upstream), (1, 1));
    assert!(page.leads.iter().all(|lead| contacts(lead) == [format!("{}0", lead.id)]));
    service.search_page(&ctx, search(0), types).await.expect("a page");
    assert_eq!(counts(&upstream), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_hubspot_leaves_out_is_asked_for_once_more() {
    // The second request is the first one of associations.
    let upstream = with_contacts(|number, id| number == 1 && id == "2");
    let leads = service().batch_get(&upstream.context(None), batch_get(3, &["contacts"])).await;
    let leads = leads.expect("results");
    assert!(leads.iter().all(|lead| contacts(lead.as_ref().expect("a lead")).len() == 1));
    assert_eq!(counts(&upstream), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_hubspot_always_leaves_out_fails_alone_in_a_batch_and_has_no_entry_in_a_search()
{
    let upstream = with_contacts(|_, id| id == "2");
    let (service, ctx) = (service(), upstream.context(None));
    let leads = service.batch_get(&ctx, batch_get(3, &["contacts"])).await.expect("results");
    let reasons: Vec<_> = leads.iter().map(|lead| lead.as_ref().err().map(Error::reason)).collect();
    assert_eq!(reasons, [None, Some(Reason::UpstreamInvalidResponse), None]);
    assert_eq!(counts(&upstream), (1, 2));
    let page =
        service.search_page(&ctx, search(3), vec!["contacts".to_owned()]).await.expect("a page");
    let has: Vec<_> = page.leads.iter().map(|lead| lead.associations.len()).collect();
    assert_eq!(has, [1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_hostile_response_that_mentions_no_lead_costs_one_more_request_per_batch() {
    let upstream = with_contacts(|_, _| true);
    let leads = service().batch_get(&upstream.context(None), batch_get(100, &["contacts"])).await;
    assert!(leads.expect("results").iter().all(Result::is_err));
    assert_eq!(counts(&upstream), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_portal_ends_a_batch_and_another_one_fails_its_part() {
    for (reason, parts) in [(Reason::MissingScopes, 1..=2), (Reason::RateLimited, 4..=4)] {
        let upstream = RecordingUpstream::new(move |_, request| match request {
            Request::BatchRead(read) => {
                let item = |id: &LeadId| {
                    let lead = Lead { id: id.to_string(), ..Lead::default() };
                    Ok(Some(BatchItem { lead, trace_id: None, created: None }))
                };
                let outcomes = read.ids.iter().map(item).collect();
                Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
            }
            _ => Err(Error::new(reason, "no associations")),
        });
        let leads =
            service().batch_get(&upstream.context(None), batch_get(400, &["contacts"])).await;
        let reasons: BTreeSet<_> = match &leads {
            Ok(leads) => {
                leads.iter().map(|lead| lead.as_ref().unwrap_err().reason().as_str()).collect()
            }
            Err(error) => BTreeSet::from([error.reason().as_str()]),
        };
        assert_eq!(reasons, BTreeSet::from([reason.as_str()]));
        let (reads, _) = counts(&upstream);
        assert!(parts.contains(&reads), "{reason:?}: {reads}");
    }
}
