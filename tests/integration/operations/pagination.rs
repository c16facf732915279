//! Paged reads: list and search.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use serde_json::{Value, json};
use tonic::Code;

use super::{Query, Scene, VERSIONS, associated, history};
use crate::harness::{TestApp, failure};

#[tokio::test]
async fn list_sends_every_parameter_and_parses_every_field() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let joan = scene.app.lead("Joan");
        let both = vec![scene.jane.clone(), joan];
        let live = ("archived", "false");
        let hundred = ("limit", "100");
        let request = pb::ListLeadsRequest::default;
        let table: [(pb::ListLeadsRequest, Query<'_>, Vec<String>); 6] = [
            (request(), &[live, hundred], both.clone()),
            (
                pb::ListLeadsRequest { page_size: 99, ..request() },
                &[live, ("limit", "99")],
                both.clone(),
            ),
            (
                pb::ListLeadsRequest { properties: vec!["hs_lead_name".into()], ..request() },
                &[live, hundred, ("properties", "hs_lead_name")],
                both.clone(),
            ),
            (
                pb::ListLeadsRequest {
                    properties_with_history: vec!["hs_lead_label".into()],
                    ..request()
                },
                &[live, ("limit", "50"), ("propertiesWithHistory", "hs_lead_label")],
                both.clone(),
            ),
            (
                pb::ListLeadsRequest { associations: vec!["contacts".into()], ..request() },
                &[live, ("associations", "contacts"), hundred],
                both,
            ),
            (
                pb::ListLeadsRequest { archived: true, ..request() },
                &[("archived", "true"), hundred],
                vec![scene.gone.clone()],
            ),
        ];
        for (request, query, wanted) in table {
            let asked = request.clone();
            let mut query = query.to_vec();
            query.sort_unstable();
            let page = scene.app.leads.clone().list_leads(request).await.unwrap().into_inner();
            let ids: Vec<String> = page.leads.iter().map(|lead| lead.id.clone()).collect();
            assert_eq!((ids, page.next_page_token.as_str()), (wanted, ""));
            let first = &page.leads[0];
            let named = !asked.properties.is_empty();
            assert_eq!(first.properties.contains_key("hs_lead_name"), named);
            assert_eq!(first.archived, asked.archived);
            let past: &[&str] =
                if asked.properties_with_history.is_empty() { &[] } else { &["HOT", "COLD"] };
            assert_eq!(history(first, "hs_lead_label"), past);
            assert_eq!(associated(first, "contacts").len(), asked.associations.len());
            scene.saw("GET", "", &query, &Value::Null, 200);
        }
    }
}

#[tokio::test]
async fn list_sends_hubspots_cursor_back_for_the_next_page() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        let joan = scene.app.lead("Joan");
        let mut request = pb::ListLeadsRequest { page_size: 1, ..Default::default() };
        let mut leads = scene.app.leads.clone();
        let first = leads.list_leads(request.clone()).await.unwrap().into_inner();
        scene.saw("GET", "", &[("archived", "false"), ("limit", "1")], &Value::Null, 200);
        assert_eq!(first.leads[0].id, scene.jane);
        request.page_token = first.next_page_token;
        let second = leads.list_leads(request).await.unwrap().into_inner();
        assert_eq!((second.leads[0].id.clone(), second.next_page_token.as_str()), (joan, ""));
        let query = [("after", scene.jane.as_str()), ("archived", "false"), ("limit", "1")];
        scene.saw("GET", "", &query, &Value::Null, 200);
    }
}

/// Searches, the expected body of each, and the found ids.
fn search_rows(jane: &str, joan: &str) -> [(pb::SearchLeadsRequest, Value, Vec<String>); 6] {
    let just = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>();
    let request = pb::SearchLeadsRequest::default;
    let sorted = |direction: pb::SortDirection| {
        let property_name = "hs_lead_name".to_owned();
        let sorts = vec![pb::Sort { property_name, direction: direction.into() }];
        pb::SearchLeadsRequest { sorts, ..request() }
    };
    let order = |direction: &str| {
        json!({"limit": 100,
               "sorts": [{"propertyName": "hs_lead_name", "direction": direction}]})
    };
    let (filter_groups, sent_groups) = filter_groups();
    let named = vec!["hs_lead_name".to_owned()];
    let by_default = json!(["hs_createdate", "hs_lastmodifieddate", "hs_object_id"]);
    [
        (
            request(),
            json!({"limit": 100, "properties": by_default, "sorts": by_creation()}),
            just(&[jane, joan]),
        ),
        (
            pb::SearchLeadsRequest { query: "joan".into(), ..request() },
            json!({"limit": 100, "query": "joan", "properties": by_default,
                   "sorts": by_creation()}),
            just(&[joan]),
        ),
        (
            pb::SearchLeadsRequest { properties: named, page_size: 200, ..request() },
            // The property of the order is read as well, and not returned.
            json!({"limit": 200, "properties": ["hs_lead_name", "hs_createdate"],
                   "sorts": by_creation()}),
            just(&[jane, joan]),
        ),
        (sorted(pb::SortDirection::Ascending), order("ASCENDING"), just(&[jane, joan])),
        (sorted(pb::SortDirection::Descending), order("DESCENDING"), just(&[joan, jane])),
        (
            pb::SearchLeadsRequest { filter_groups, ..request() },
            json!({"limit": 100, "filterGroups": sent_groups, "properties": by_default,
                   "sorts": by_creation()}),
            just(&[jane, joan]),
        ),
    ]
}

/// The sort that leadsd names if the caller does not.
fn by_creation() -> Value {
    json!([{"propertyName": "hs_createdate", "direction": "ASCENDING"}])
}

/// Three filter groups with different kinds of values, and their wire form.
fn filter_groups() -> (Vec<pb::FilterGroup>, Value) {
    use pb::FilterOperator as Op;
    let filter = |operator: Op, value: &str| pb::Filter {
        property_name: "hs_lead_name".to_owned(),
        operator: operator.into(),
        value: value.to_owned(),
        ..Default::default()
    };
    let values = vec!["none".to_owned(), "nothing".to_owned()];
    let groups = [
        vec![filter(Op::Eq, "joan"), filter(Op::HasProperty, "")],
        vec![pb::Filter { values, ..filter(Op::In, "") }],
        vec![pb::Filter { high_value: "jb".into(), ..filter(Op::Between, "ja") }],
    ];
    let sent = json!([
        {"filters": [
            {"propertyName": "hs_lead_name", "operator": "EQ", "value": "joan"},
            {"propertyName": "hs_lead_name", "operator": "HAS_PROPERTY"}]},
        {"filters": [{"propertyName": "hs_lead_name", "operator": "IN",
                      "values": ["none", "nothing"]}]},
        {"filters": [{"propertyName": "hs_lead_name", "operator": "BETWEEN",
                      "value": "ja", "highValue": "jb"}]}]);
    (groups.map(|filters| pb::FilterGroup { filters }).to_vec(), sent)
}

#[tokio::test]
async fn search_sends_every_parameter_and_parses_every_field() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        scene.app.hubspot.limit(|limits| limits.search_per_second = 100);
        let joan = scene.app.lead("Joan");
        for (request, body, wanted) in search_rows(&scene.jane, &joan) {
            let named = !request.properties.is_empty();
            let has_time = request.sorts.is_empty() && !named;
            let page = scene.app.leads.clone().search_leads(request).await.unwrap().into_inner();
            let ids: Vec<String> = page.leads.iter().map(|lead| lead.id.clone()).collect();
            assert_eq!(page.total, i64::try_from(wanted.len()).unwrap());
            assert_eq!((ids, page.next_page_token.as_str()), (wanted, ""), "{body}");
            assert_eq!(page.leads[0].properties.contains_key("hs_lead_name"), named);
            assert_eq!(page.leads[0].properties.contains_key("hs_createdate"), has_time);
            scene.saw("POST", "/search", &[], &body, 200);
        }
    }
}

#[tokio::test]
async fn search_sends_hubspots_cursor_back_for_the_next_page_of_another_sort() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        scene.app.lead("Joan");
        let name = "hs_lead_name".to_owned();
        let sorts = vec![pb::Sort { property_name: name, ..Default::default() }];
        let mut request = pb::SearchLeadsRequest { page_size: 1, sorts, ..Default::default() };
        let sent = json!([{"propertyName": "hs_lead_name", "direction": "ASCENDING"}]);
        let mut leads = scene.app.leads.clone();
        let first = leads.search_leads(request.clone()).await.unwrap().into_inner();
        scene.saw("POST", "/search", &[], &json!({"limit": 1, "sorts": sent}), 200);
        assert_eq!((first.total, first.leads.len()), (2, 1));
        request.page_token = first.next_page_token;
        let second = leads.search_leads(request).await.unwrap().into_inner();
        assert_eq!((second.leads.len(), second.next_page_token.as_str()), (1, ""));
        let body = json!({"limit": 1, "after": "1", "sorts": sent});
        scene.saw("POST", "/search", &[], &body, 200);
    }
}

#[tokio::test]
async fn search_selects_the_next_page_by_record_id() {
    for (version, base) in VERSIONS {
        let scene = Scene::start(version, base).await;
        scene.app.lead("Joan");
        let sort = pb::Sort { property_name: "hs_object_id".to_owned(), ..Default::default() };
        let mut request =
            pb::SearchLeadsRequest { page_size: 1, sorts: vec![sort], ..Default::default() };
        let mut leads = scene.app.leads.clone();
        let first = leads.search_leads(request.clone()).await.unwrap().into_inner();
        let sent = json!([{"propertyName": "hs_object_id", "direction": "ASCENDING"}]);
        scene.saw("POST", "/search", &[], &json!({"limit": 1, "sorts": sent}), 200);
        request.page_token = first.next_page_token;
        let second = leads.search_leads(request).await.unwrap().into_inner();
        assert_eq!((second.leads.len(), second.next_page_token.as_str()), (1, ""));
        assert_eq!((first.total, second.total), (2, 2));
        let body = json!({
            "limit": 1,
            "sorts": sent,
            "filterGroups": [{"filters": [{"propertyName": "hs_object_id", "operator": "GT",
                                           "value": first.leads[0].id}]}],
        });
        scene.saw("POST", "/search", &[], &body, 200);
    }
}

/// All ids of a search, and the number of its pages.
async fn search_all(app: &TestApp, mut request: pb::SearchLeadsRequest) -> (Vec<u64>, usize) {
    let (mut ids, mut pages) = (Vec::new(), 0);
    loop {
        let page = app.leads.clone().search_leads(request.clone()).await.unwrap().into_inner();
        assert!(page.leads.len() <= 200);
        ids.extend(page.leads.iter().map(|lead| lead.id.parse::<u64>().unwrap()));
        pages += 1;
        if page.next_page_token.is_empty() {
            return (ids, pages);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn a_search_goes_on_beyond_ten_thousand_results() {
    const LEADS: usize = 10_250;
    let app = TestApp::builder().set("QUOTA__SEARCH_PER_SECOND", "10000").start().await;
    app.hubspot.limit(|limits| limits.search_per_second = 100_000);
    // Many leads have the same time.
    for number in 0..LEADS {
        app.lead(&format!("Lead {number}"));
    }
    let orders = [
        (None, pb::SortDirection::Ascending),
        (Some("hs_object_id"), pb::SortDirection::Descending),
        (Some("hs_lastmodifieddate"), pb::SortDirection::Descending),
    ];
    let app = &app;
    join_all(orders.map(|(name, direction)| async move {
        let sort =
            |name: &str| pb::Sort { property_name: name.to_owned(), direction: direction.into() };
        let sorts = name.map(sort).into_iter().collect();
        let request = pb::SearchLeadsRequest {
            page_size: 200,
            sorts,
            properties: vec!["hs_lead_name".to_owned()],
            ..Default::default()
        };
        let (ids, pages) = search_all(app, request).await;
        let distinct: BTreeSet<u64> = ids.iter().copied().collect();
        assert_eq!((ids.len(), distinct.len()), (LEADS, LEADS), "{name:?} in {pages} pages");
    }))
    .await;
    let sort = pb::Sort { property_name: "hs_lead_name".to_owned(), ..Default::default() };
    let mut request =
        pb::SearchLeadsRequest { page_size: 200, sorts: vec![sort], ..Default::default() };
    let error = loop {
        match app.leads.clone().search_leads(request.clone()).await {
            Ok(page) => request.page_token = page.into_inner().next_page_token,
            Err(error) => break failure::<()>(Err(error)),
        }
    };
    assert_eq!((error.0, error.1.as_str()), (Code::OutOfRange, "SEARCH_WINDOW_EXCEEDED"));
}
