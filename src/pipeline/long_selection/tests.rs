//! Long selections against a HubSpot in memory that takes only short URLs.
#![expect(clippy::wildcard_enum_match_arm, reason = "the upstream of a test answers reads only")]

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    leads::{Associated, AssociatedObject, BatchItem, BatchResponse},
    pipeline::{
        isolation::Isolation,
        scripted::{Scripted, ScriptedUpstream},
        tests::{context, lead_id, unavailable},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Names that do not fit in a URL.
fn names() -> Vec<String> {
    (0..1_000).map(|number| format!("property_{number}")).collect()
}

fn contacts() -> BTreeMap<String, Associated> {
    let object = AssociatedObject::named("101", "lead_to_contact");
    BTreeMap::from([("contacts".to_owned(), Associated { objects: vec![object], next: None })])
}

/// The lead as HubSpot returns it for these properties. Batch reads have no associations.
fn shown(id: &str, properties: &[String], has_links: bool) -> Lead {
    let value = |name: &String| (name.clone(), if name == "key" { "k-7" } else { id }.to_owned());
    Lead {
        id: id.to_owned(),
        properties: properties.iter().map(value).collect(),
        associations: if has_links { contacts() } else { BTreeMap::new() },
        ..Lead::default()
    }
}

/// HubSpot with the leads 0 to 99. Those in `gone` disappear after they were listed.
fn hubspot(gone: &'static [&'static str]) -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(move |call| {
        Scripted::now(match &*call.request {
            Request::Get(get) if gone.contains(&get.id.as_str()) => Err(Error::lead_not_found()),
            request => Ok(respond(request, gone)),
        })
    })
}

fn respond(request: &Request, gone: &[&str]) -> Response {
    let has_links = |selection: &Selection| !selection.associations.is_empty();
    let is_short = |selection: &Selection| selection.properties == [RECORD_ID];
    match request {
        Request::Get(get) => {
            assert!(is_short(&get.selection));
            let linked = has_links(&get.selection);
            Response::Lead(shown("7", &get.selection.properties, linked).into())
        }
        Request::List(list) => {
            assert!(is_short(&list.selection));
            let lead = |number: u32| {
                let linked = has_links(&list.selection);
                shown(&number.to_string(), &list.selection.properties, linked)
            };
            let leads = (0..list.limit).map(lead).collect();
            Response::Page(Page { leads, after: Some("next".to_owned()) }.into())
        }
        Request::BatchRead(read) => {
            let limit = if read.properties_with_history.is_empty() { 100 } else { 50 };
            assert!(read.ids.len() <= limit);
            let (missing, present): (Vec<_>, Vec<_>) =
                read.ids.iter().partition(|id| gone.contains(&id.as_str()));
            let item = |id: &&LeadId| {
                let id = if id.as_str() == "K-7" { "7" } else { id.as_str() };
                let lead = shown(id, &read.properties, false);
                BatchItem { lead, trace_id: None, created: None }
            };
            let missing = missing.into_iter().map(|id| {
                let ids = vec![id.to_string()];
                let affected = crate::leads::AffectedInputs { ids, ..Default::default() };
                Error::lead_not_found().with_affected_inputs(affected)
            });
            Response::Batch(BatchResponse {
                results: present.iter().map(item).rev().collect(),
                errors: missing.collect(),
            })
        }
        other => panic!("no test sends {other:?}"),
    }
}

async fn sent(upstream: &Arc<ScriptedUpstream>, request: Request) -> Result<Response, Error> {
    let ctx = context(MINUTE);
    send(&Isolation::new(Arc::clone(upstream), Arc::default()), &ctx, request).await
}

fn get(id: &str, id_property: Option<&str>, selection: Selection) -> Request {
    let id_property = id_property.map(str::to_owned);
    Request::Get(GetLead { id: lead_id(id), id_property, selection, archived: false })
}

#[tokio::test(start_paused = true)]
async fn a_lead_takes_one_batch_read_and_one_more_request_for_associations() {
    let selected = || Selection { properties: names(), ..Selection::default() };
    let linked = || Selection { associations: vec!["contacts".to_owned()], ..selected() };
    for (id, id_property, selection, requests) in [
        ("7", None, selected(), 1),
        ("7", Some(RECORD_ID), selected(), 1),
        ("K-7", Some("key"), selected(), 1),
        ("7", None, linked(), 2),
        ("K-7", Some("key"), linked(), 2),
    ] {
        let upstream = hubspot(&[]);
        let has_links = !selection.associations.is_empty();
        let response = sent(&upstream, get(id, id_property, selection)).await;
        let lead = response.unwrap().into_lead().unwrap();
        assert_eq!(*lead, shown("7", &names(), has_links), "{id} {id_property:?}");
        assert_eq!(upstream.count(), requests, "{id} {id_property:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_does_not_exist_is_not_found() {
    let selection = Selection { properties: names(), ..Selection::default() };
    let error = sent(&hubspot(&["7"]), get("7", None, selection)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::LeadNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_merged_by_id_in_its_order() {
    let selected = || Selection { properties: names(), ..Selection::default() };
    let history = || Selection { properties_with_history: names(), ..Selection::default() };
    let linked = || Selection { associations: vec!["contacts".to_owned()], ..selected() };
    for (selection, limit, requests) in
        [(selected(), 100, 2), (linked(), 100, 2), (history(), 50, 2), (selected(), 0, 1)]
    {
        let upstream = hubspot(&[]);
        let list = ListLeads { limit, after: None, selection: selection.clone(), archived: false };
        let page = sent(&upstream, Request::List(list)).await.unwrap().into_page().unwrap();
        let has_links = !selection.associations.is_empty();
        let lead = |number: u32| shown(&number.to_string(), &selection.properties, has_links);
        assert_eq!(page.leads, (0..limit).map(lead).collect::<Vec<_>>());
        assert_eq!(page.after.as_deref(), Some("next"));
        assert_eq!(upstream.count(), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_disappears_after_it_was_listed_is_left_out() {
    let selection = Selection { properties: names(), ..Selection::default() };
    let list = ListLeads { limit: 4, after: None, selection, archived: false };
    let response = sent(&hubspot(&["1", "3"]), Request::List(list)).await;
    let page = response.unwrap().into_page().unwrap();
    let ids: Vec<_> = page.leads.iter().map(|lead| lead.id.as_str()).collect();
    assert_eq!(ids, ["0", "2"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_either_request_is_the_error_of_the_read() {
    for failing in [0, 1] {
        let upstream = ScriptedUpstream::new(move |call| {
            let is_failing = call.number == failing;
            Scripted::now(if is_failing {
                Err(unavailable())
            } else {
                Ok(respond(&call.request, &[]))
            })
        });
        let selection = Selection { properties: names(), ..Selection::default() };
        let list = ListLeads { limit: 4, after: None, selection, archived: false };
        let error = sent(&upstream, Request::List(list)).await.unwrap_err();
        assert_eq!(error, unavailable());
        assert_eq!(upstream.count(), failing + 1);
    }
}
