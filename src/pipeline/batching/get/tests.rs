//! Batched reads: eligibility, by record id and by unique value, and with associations.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::time::Duration;

use tokio::time::sleep;

use super::*;
use crate::{
    leads::{
        AffectedInputs, Associated, AssociatedObject, AssociationCategory, AssociationType,
        BatchItem, BatchResponse, Link, Response,
    },
    pipeline::{
        batching::tests::{Fixture, SECOND},
        scripted::{Recorded, Scripted},
        tests::{lead, lead_id, lead_in, ordinary, unavailable},
    },
};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn by_id(id: &str, associations: &[&str]) -> GetLead {
    let selection = Selection {
        properties: names(&["hs_lead_name"]),
        properties_with_history: Vec::new(),
        associations: names(associations),
    };
    GetLead { id: lead_id(id), id_property: None, selection, archived: false }
}

fn by_email(email: &str, properties: &[&str]) -> GetLead {
    let selection = Selection { properties: names(properties), ..Selection::default() };
    let id_property = Some("email".to_owned());
    GetLead { id: lead_id(email), id_property, selection, archived: false }
}

fn requests<const N: usize>(gets: [GetLead; N]) -> [Arc<Request>; N] {
    gets.map(|get| Arc::new(Request::Get(get)))
}

/// One contact of every lead, with or without a label.
fn contact(labels: &[&str]) -> Associated {
    let object = |label: &&str| AssociatedObject::named("7", *label);
    Associated { objects: labels.iter().map(object).collect(), next: None }
}

/// Responds with one contact for every lead, and to reads of associations with `failure` if any.
fn with_contacts(failure: Option<Error>) -> impl Fn(&Recorded) -> Scripted + Send + Sync {
    move |sent| {
        let result = match &*sent.request {
            Request::ReadAssociations { leads, .. } => {
                let category = AssociationCategory::HubspotDefined;
                let types = vec![AssociationType { category, type_id: 608 }];
                let record = Link { id: "7".to_owned(), types };
                let links = leads.iter().map(|id| {
                    crate::leads::testing::links(id.as_str(), std::slice::from_ref(&record))
                });
                match &failure {
                    Some(error) => Err(error.clone()),
                    None => Ok(Response::Associations(links.collect())),
                }
            }
            Request::Get(get) => Ok(Response::Lead(lead_with_contact(get.id.as_str()).into())),
            request => ordinary(request),
        };
        Scripted::now(result)
    }
}

fn lead_with_contact(id: &str) -> Lead {
    let mut lead = lead(id);
    lead.associations.insert("contacts".to_owned(), contact(&["lead_to_contact"]));
    lead
}

/// The leads of `ids` with their contact.
fn with_contact<const N: usize>(ids: [&str; N]) -> Vec<Result<Lead, Error>> {
    ids.iter().map(|id| Ok(lead_with_contact(id))).collect()
}

#[test]
fn unique_values_that_differ_in_case_are_one() {
    for (ids, id_property, sent, positions) in [
        (["A", "a", "b"], Some("email"), &["A", "b"][..], [0, 0, 1]),
        (["\u{c4}", "\u{e4}", "b"], Some("email"), &["\u{c4}", "\u{e4}", "b"], [0, 1, 2]),
        (["A", "a", "b"], None, &["A", "a", "b"], [0, 1, 2]),
    ] {
        let ids = ids.map(lead_id);
        let expected: Vec<_> = sent.iter().map(|id| lead_id(id)).collect();
        assert_eq!(distinct(&ids, id_property), (expected, positions.to_vec()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_batched_only_if_its_result_is_the_same() {
    let capabilities = PortalCapabilities::default();
    capabilities.association_labels.suspend("tasks", None);
    let long = |length: usize| {
        let mut get = by_id("1", &[]);
        get.selection.properties = vec!["p".repeat(length - 2)];
        get.selection.properties_with_history = names(&[""]);
        get
    };
    let with_history = |property: &str| {
        let mut get = by_email("a@x", &["hs_lead_name"]);
        get.selection.properties_with_history = names(&[property]);
        get
    };
    let cases = [
        (by_id("1", &[]), true),
        (by_id("01", &[]), false),
        (by_id("a", &[]), false),
        (by_email("a@x", &["hs_lead_name"]), true),
        (by_email("a@x", &[]), false),
        (with_history("hs_lead_type"), true),
        (with_history("email"), false),
        (by_id("1", &["a", "b", "c"]), true),
        (by_id("1", &["a", "b", "c", "d"]), false),
        (by_id("1", &["contacts", "tasks"]), false),
        (GetLead { archived: true, ..by_id("1", &[]) }, true),
        (GetLead { archived: true, ..by_id("1", &["contacts"]) }, false),
        (long(MAX_NAME_BYTES), true),
        (long(MAX_NAME_BYTES + 1), false),
    ];
    for (get, expected) in cases {
        assert_eq!(GetBatch::batchable(&get, &capabilities).is_some(), expected, "{get:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn leads_are_matched_by_a_unique_value_that_only_its_selector_gets() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(read) => {
            assert!(read.properties.contains(&"email".to_owned()));
            let item = |id: &LeadId| {
                let mut lead = lead("1");
                lead.properties.insert("email".to_owned(), id.as_str().to_lowercase());
                BatchItem { lead, trace_id: None, created: None }
            };
            let found = read.ids.iter().filter(|id| id.as_str() != "gone@x");
            let results = found.map(item).collect();
            let ids = AffectedInputs { ids: vec!["gone@x".into()], ..AffectedInputs::default() };
            let errors = vec![Error::lead_not_found().with_affected_inputs(ids)];
            Scripted::now(Ok(Response::Batch(BatchResponse { results, errors })))
        }
        request => panic!("{request:?} is not expected"),
    });
    let emails = async |properties: &[&str], values: [&str; 3]| {
        let gets = values.map(|email| by_email(email, properties));
        let results = fixture.queued(requests(gets)).await.into_iter();
        results.map(|result| lead_in(result).map(|lead| lead.properties)).collect::<Vec<_>>()
    };
    let mut hidden = emails(&["hs_lead_name"], ["A@x", "b@x", "gone@x"]).await;
    let gone = hidden.pop().unwrap().unwrap_err();
    assert_eq!(gone.reason(), Reason::LeadNotFound);
    assert_eq!(hidden, [Ok(BTreeMap::new()), Ok(BTreeMap::new())]);
    sleep(2 * SECOND).await;
    let email = |value: &str| Ok(BTreeMap::from([("email".to_owned(), value.to_owned())]));
    let selected = emails(&["email"], ["A@x", "a@x", "b@x"]).await;
    assert_eq!(selected, [email("a@x"), email("a@x"), email("b@x")]);
    assert_eq!(fixture.sent(), ["read 3", "read 2"]);
}

#[tokio::test(start_paused = true)]
async fn associations_are_read_in_a_batch_after_one_lead_showed_their_labels() {
    let fixture = Fixture::new(with_contacts(None));
    for _ in 0..2 {
        let gets = ["1", "2", "3"].map(|id| by_id(id, &["contacts"]));
        let results = fixture.queued(requests(gets)).await;
        let results: Vec<_> = results.into_iter().map(lead_in).collect();
        assert_eq!(results, with_contact(["1", "2", "3"]));
        sleep(2 * SECOND).await;
    }
    let sent = ["read 3", "contacts of 3", "get 3", "read 3", "contacts of 3"];
    assert_eq!(fixture.sent(), sent);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false, false, true, false]);
}

#[tokio::test(start_paused = true)]
async fn leads_are_read_individually_while_reads_of_associations_are_rejected() {
    let limited = Error::new(Reason::RateLimited, "too many requests");
    let cases = [
        (Error::new(Reason::ValidationFailed, "no such type"), Duration::from_secs(600)),
        (limited.clone().with_retry_after(30 * SECOND), 30 * SECOND),
        (limited, 10 * SECOND),
    ];
    for (error, pause) in cases {
        let fixture = Fixture::new(with_contacts(Some(error.clone())));
        let read = async || {
            let gets = ["1", "2", "3"].map(|id| by_id(id, &["contacts"]));
            let results = fixture.queued(requests(gets)).await;
            let results: Vec<_> = results.into_iter().map(lead_in).collect();
            assert_eq!(results, with_contact(["1", "2", "3"]), "{error}");
        };
        let individual = ["get 1", "get 2", "get 3"];
        read().await;
        assert_eq!(fixture.sent()[..2], ["read 3", "contacts of 3"]);
        assert_eq!(fixture.sent()[2..], individual);
        sleep(pause - SECOND).await;
        read().await;
        assert_eq!(fixture.sent()[5..], individual, "no batch before {pause:?} have passed");
        sleep(2 * SECOND).await;
        read().await;
        assert_eq!(fixture.sent()[8..10], ["read 3", "contacts of 3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_hubspot_while_associations_are_read_goes_to_all_callers() {
    let fixture = Fixture::new(with_contacts(Some(unavailable())));
    let gets = ["1", "2", "3"].map(|id| by_id(id, &["contacts"]));
    let results = fixture.queued(requests(gets)).await;
    assert!(results.into_iter().map(lead_in).all(|result| result == Err(unavailable())));
    assert_eq!(fixture.sent(), ["read 3", "contacts of 3"]);
}
