//! Single calls that leave together: no caller can tell, whatever HubSpot answers.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::{
    fake::hubspot::{Behaviour, Script},
    grpc::pb,
};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{TestApp, properties};

/// A single call.
#[derive(Debug, Clone)]
enum Ask {
    Get(pb::GetLeadRequest),
    Create(pb::CreateLeadRequest),
    Update(pb::UpdateLeadRequest),
    Archive(pb::ArchiveLeadRequest),
    Upsert(pb::UpsertLeadRequest),
}

/// What a caller sees of an answer, but for what differs from one lead to the next.
#[derive(Debug, PartialEq)]
enum Seen {
    Lead { id: Option<String>, values: Vec<(String, String)>, archived: bool, history: usize },
    Done,
    Failed { code: Code, reason: String, message: String, fields: Vec<String>, retry: bool },
}

/// Calls that may go in any second where permits are short.
const A_SECOND: usize = 3;

impl Ask {
    async fn send(&self, app: &TestApp) -> Seen {
        let mut leads = app.leads.clone();
        match self.clone() {
            Self::Get(request) => {
                seen(leads.get_lead(request).await.map(|answer| answer.into_inner().lead), true)
            }
            Self::Create(request) => {
                let answer = leads.create_lead(request).await;
                seen(answer.map(|answer| answer.into_inner().lead), false)
            }
            Self::Update(request) => {
                let answer = leads.update_lead(request).await;
                seen(answer.map(|answer| answer.into_inner().lead), true)
            }
            Self::Archive(request) => seen(leads.archive_lead(request).await.map(|_| None), true),
            Self::Upsert(request) => {
                let answer = leads.upsert_lead(request).await.map(tonic::Response::into_inner);
                let created = answer.as_ref().is_ok_and(|answer| answer.created);
                let mut seen = seen(answer.map(|answer| answer.lead), false);
                if let Seen::Lead { values, .. } = &mut seen {
                    values.push(("created".to_owned(), created.to_string()));
                }
                seen
            }
        }
    }
}

fn seen(answer: Result<Option<pb::Lead>, Status>, with_id: bool) -> Seen {
    let lead = match answer {
        Ok(Some(lead)) => lead,
        Ok(None) => return Seen::Done,
        Err(status) => {
            let details = status.get_error_details();
            let reason = details.error_info().expect("every failure has one").reason.clone();
            // HubSpot says this in different words, of one lead and of several.
            let is_missing = reason == "LEAD_NOT_FOUND";
            let message = if is_missing { "" } else { status.message() };
            let fields = details
                .bad_request()
                .map(|bad| bad.field_violations.iter().map(|fault| fault.field.clone()).collect());
            return Seen::Failed {
                code: status.code(),
                reason,
                message: message.to_owned(),
                fields: fields.unwrap_or_default(),
                retry: details.retry_info().is_some(),
            };
        }
    };
    let own = ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];
    let values = lead.properties.into_iter().filter(|(name, _)| !own.contains(&name.as_str()));
    Seen::Lead {
        id: with_id.then_some(lead.id),
        values: values.collect(),
        archived: lead.archived,
        history: lead.property_history.values().map(|history| history.versions.len()).sum(),
    }
}

/// A service whose calls go together, or alone, in front of an account in a known state.
async fn service(together: bool, behave: fn(&mut Behaviour)) -> TestApp {
    let mut builder = TestApp::builder().set("QUOTA__GROUP_COMMIT", &together.to_string());
    if together {
        builder = builder.set("QUOTA__BURST", &(A_SECOND * 10).to_string());
    }
    let app = builder.start().await;
    app.hubspot.behave(behave);
    if together {
        app.hubspot.limit(|limits| limits.burst = A_SECOND * 10);
    }
    app.hubspot.add_unique_property("crm_key");
    for number in 1..=6 {
        let values =
            json!({"hs_lead_name": format!("Lead {number}"), "crm_key": format!("K-{number}")});
        app.hubspot.add_lead(&app.contact, &values).expect("a good lead");
    }
    app
}

/// Leaves no call in this second, in which one was made if `made` says so.
async fn use_up(app: &TestApp, made: usize) {
    for _ in made..A_SECOND {
        app.leads.clone().list_leads(pb::ListLeadsRequest::default()).await.expect("a page");
    }
    app.hubspot.clear_log();
}

/// The n-th of the six leads that every account has.
fn lead(app: &TestApp, number: u64) -> String {
    let first: u64 = app.hubspot.first_lead().expect("a lead").parse().expect("a number");
    (first + number - 1).to_string()
}

/// Asks both services the same, and compares what their callers see. `path` is of the batch call that
/// must be among those made together.
async fn compare(behave: fn(&mut Behaviour), asks: fn(&TestApp) -> Vec<Ask>, path: Option<&str>) {
    let alone = service(false, behave).await;
    let mut expected = Vec::new();
    for ask in asks(&alone) {
        expected.push(ask.send(&alone).await);
    }
    let together = service(true, behave).await;
    use_up(&together, 0).await;
    let asks = asks(&together);
    let got = join_all(asks.iter().map(|ask| ask.send(&together))).await;
    for ((ask, got), expected) in asks.iter().zip(&got).zip(&expected) {
        assert_eq!(got, expected, "{ask:?}");
    }
    let calls = together.hubspot_calls();
    if let Some(path) = path {
        assert!(calls.iter().any(|call| call.ends_with(path)), "{calls:?}");
    }
    assert_eq!(together.hubspot.rate_limited(), 0);
    let names = |app: &TestApp| {
        let mut names = app.hubspot.lead_names();
        names.sort();
        names
    };
    assert_eq!(names(&together), names(&alone), "the accounts are in the same state");
}

/// HubSpot as it is thought to be, and the other way in everything that matters here.
const BEHAVIOURS: [fn(&mut Behaviour); 2] = [
    |_| {},
    |behaviour| {
        behaviour.echo_trace_ids = !behaviour.echo_trace_ids;
        behaviour.property_errors_per_item = !behaviour.property_errors_per_item;
        behaviour.partial_status = 200;
        behaviour.unique_clash_status = 400;
        behaviour.missing_contact_status = 404;
        behaviour.batch_archive_reports_unknown = !behaviour.batch_archive_reports_unknown;
        behaviour.archive_unknown_status = 404;
        behaviour.not_found_category = !behaviour.not_found_category;
    },
];

#[tokio::test]
async fn reads_give_the_same_alone_and_together() {
    fn get(id: String) -> Ask {
        let properties = vec!["hs_lead_name".to_owned()];
        Ask::Get(pb::GetLeadRequest { id, properties, ..Default::default() })
    }
    fn asks(app: &TestApp) -> Vec<Ask> {
        let ids = (1..=6).map(|number| get(lead(app, number)));
        let bad = ["999999", "no number", "K-1"].map(|id| get(id.to_owned()));
        ids.chain([get(lead(app, 1))]).chain(bad).collect()
    }
    for behave in BEHAVIOURS {
        compare(behave, asks, Some("/batch/read")).await;
    }
}

#[tokio::test]
async fn reads_by_a_unique_property_give_the_same_alone_and_together() {
    fn asks(app: &TestApp) -> Vec<Ask> {
        let _ = app;
        let get = |id: &str, properties: &[&str]| {
            Ask::Get(pb::GetLeadRequest {
                id: id.to_owned(),
                id_property: "crm_key".to_owned(),
                properties: properties.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            })
        };
        let name = &["hs_lead_name"][..];
        vec![
            get("K-1", name),
            get("K-2", name),
            get("k-2", name),
            get("K-77", name),
            get("K-3", &["hs_lead_name", "crm_key"]),
            get("K-4", &["hs_lead_name", "crm_key"]),
            get("K-5", &[]),
            get("K-6", &[]),
        ]
    }
    for behave in BEHAVIOURS {
        compare(behave, asks, Some("/batch/read")).await;
    }
}

#[tokio::test]
async fn reads_of_archived_leads_of_history_and_of_merged_leads_give_the_same() {
    fn asks(app: &TestApp) -> Vec<Ask> {
        app.hubspot.merge(&lead(app, 5), &lead(app, 6));
        let get = |number, archived, history: &[&str]| {
            Ask::Get(pb::GetLeadRequest {
                id: lead(app, number),
                archived,
                properties: vec!["hs_lead_name".to_owned()],
                properties_with_history: history.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            })
        };
        let name = &["hs_lead_name"][..];
        vec![
            get(1, true, &[]),
            get(2, true, &[]),
            get(3, false, name),
            get(4, false, name),
            get(5, false, &[]),
            get(6, false, &[]),
            get(1, false, &[]),
        ]
    }
    for behave in BEHAVIOURS {
        compare(behave, asks, Some("/batch/read")).await;
    }
}

#[tokio::test]
async fn updates_give_the_same_alone_and_together() {
    fn asks(app: &TestApp) -> Vec<Ask> {
        let update = |id: String, values: &[(&str, &str)]| {
            Ask::Update(pb::UpdateLeadRequest {
                id,
                properties: properties(values),
                ..Default::default()
            })
        };
        vec![
            update(lead(app, 1), &[("hs_lead_name", "Renamed 1")]),
            update(lead(app, 2), &[("hs_lead_name", "Renamed 2")]),
            update(lead(app, 3), &[("no_such_property", "x")]),
            update(lead(app, 4), &[("hs_lead_label", "NO_SUCH_LABEL")]),
            update(lead(app, 5), &[("crm_key", "K-6")]),
            update("999999".to_owned(), &[("hs_lead_name", "Nobody")]),
            update(lead(app, 6), &[("hs_lead_label", "HOT"), ("hs_lead_name", "Renamed 6")]),
        ]
    }
    for behave in BEHAVIOURS {
        compare(behave, asks, Some("/batch/update")).await;
    }
}

#[tokio::test]
async fn creates_give_the_same_alone_and_together() {
    fn asks(app: &TestApp) -> Vec<Ask> {
        let create = |contact: &str, values: &[(&str, &str)]| {
            Ask::Create(pb::CreateLeadRequest {
                properties: properties(values),
                primary_contact_id: contact.to_owned(),
                ..Default::default()
            })
        };
        let contact = &app.contact;
        vec![
            create(contact, &[("hs_lead_name", "New 1")]),
            create(contact, &[("hs_lead_name", "New 2"), ("crm_key", "N-2")]),
            create(contact, &[("hs_lead_name", "Same")]),
            create(contact, &[("hs_lead_name", "Same")]),
            create(contact, &[("hs_lead_name", "Clash"), ("crm_key", "K-1")]),
            create(contact, &[("hs_lead_name", "Bad"), ("no_such_property", "x")]),
            create("987654", &[("hs_lead_name", "Of nobody")]),
        ]
    }
    for (index, behave) in BEHAVIOURS.into_iter().enumerate() {
        // Without trace ids that come back creates go alone.
        compare(behave, asks, (index == 0).then_some("/batch/create")).await;
    }
}

#[tokio::test]
async fn archives_and_upserts_give_the_same_alone_and_together() {
    fn archives(app: &TestApp) -> Vec<Ask> {
        let archive =
            |id: String| Ask::Archive(pb::ArchiveLeadRequest { id, ..Default::default() });
        vec![
            archive(lead(app, 1)),
            archive(lead(app, 2)),
            archive("999999".to_owned()),
            archive(lead(app, 3)),
        ]
    }
    fn upserts(app: &TestApp) -> Vec<Ask> {
        let _ = app;
        let upsert = |id: &str, values: &[(&str, &str)]| {
            Ask::Upsert(pb::UpsertLeadRequest {
                id: id.to_owned(),
                id_property: "crm_key".to_owned(),
                properties: properties(values),
                ..Default::default()
            })
        };
        vec![
            upsert("K-1", &[("hs_lead_name", "Changed 1")]),
            upsert("K-2", &[("hs_lead_name", "Changed 2")]),
            upsert("K-3", &[("no_such_property", "x")]),
            upsert("K-4", &[("hs_lead_label", "HOT")]),
        ]
    }
    for behave in BEHAVIOURS {
        compare(behave, archives, Some("/batch/archive")).await;
        compare(behave, upserts, Some("/batch/upsert")).await;
    }
}

#[tokio::test]
async fn failures_of_the_whole_call_are_the_same_alone_and_together() {
    for (status, code) in [(403, Code::PermissionDenied), (500, Code::Unavailable)] {
        let app = service(true, |_| {}).await;
        use_up(&app, 0).await;
        let html = Script::html(status);
        app.hubspot.script_times(1, "POST", "/batch/read", html);
        let ids: Vec<String> = (1..=3).map(|number| lead(&app, number)).collect();
        let answers = join_all(ids.iter().map(|id| app.get(id))).await;
        for answer in answers {
            assert_eq!(answer.expect_err("a failure").code(), code);
        }
        assert_eq!(app.hubspot_calls().len(), 1);
    }
}

#[tokio::test]
async fn a_batch_create_whose_answer_got_lost_is_unknown_to_each_and_sent_once() {
    let app = service(true, |_| {}).await;
    // So that it is known that trace ids come back.
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    use_up(&app, 1).await;
    app.hubspot.script("POST", "/batch/create", Script::DropAfter);
    let creates = (0..4).map(|number| {
        let (mut leads, request) = (app.leads.clone(), app.create_request(&format!("L{number}")));
        async move { leads.create_lead(request).await }
    });
    for answer in join_all(creates).await {
        let status = answer.expect_err("nobody knows");
        assert_eq!(status.code(), Code::Unknown);
    }
    assert_eq!(app.hubspot_calls().len(), 1);
    assert_eq!(app.hubspot.lead_names().len(), 6 + 1 + 4, "all four are there, once");
}

#[tokio::test]
async fn two_writes_to_one_lead_keep_their_order_and_never_share_a_call() {
    let app = service(true, |_| {}).await;
    use_up(&app, 0).await;
    let id = lead(&app, 1);
    let writes = (0..4).map(|number| {
        let mut leads = app.leads.clone();
        let request = pb::UpdateLeadRequest {
            id: id.clone(),
            properties: properties(&[("hs_lead_name", &format!("Name {number}"))]),
            ..Default::default()
        };
        async move {
            // Each is sent once the one before is on its way.
            tokio::time::sleep(Duration::from_millis(40 * number)).await;
            let lead = leads.update_lead(request).await.unwrap().into_inner().lead.unwrap();
            lead.properties["hs_lead_name"].clone()
        }
    });
    let names = join_all(writes).await;
    assert_eq!(names, ["Name 0", "Name 1", "Name 2", "Name 3"]);
    assert!(app.hubspot.lead_names().contains(&"Name 3".to_owned()));
    let calls = app.hubspot_calls();
    assert_eq!(calls.len(), 4, "{calls:?}");
}

#[tokio::test]
async fn identical_reads_and_searches_under_way_share_one_call_and_its_cost() {
    let app = TestApp::start().await;
    let id = app.lead("Jane");
    app.hubspot.script("GET", &format!("/{id}"), Script::Late(Duration::from_millis(300)));
    let answers = join_all((0..10).map(|_| app.get(&id))).await;
    let mut cost = 0.0;
    for answer in answers {
        let answer = answer.expect("the lead");
        let part = answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap();
        cost += part.parse::<f64>().unwrap();
    }
    assert!((0.99..1.01).contains(&cost), "{cost}");
    assert_eq!(app.hubspot_calls().len(), 1);
    app.hubspot.clear_log();
    app.hubspot.script("POST", "/search", Script::Late(Duration::from_millis(300)));
    let searches = (0..10).map(|_| {
        let mut leads = app.leads.clone();
        async move { leads.search_leads(pb::SearchLeadsRequest::default()).await }
    });
    assert!(join_all(searches).await.iter().all(Result::is_ok));
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn a_read_after_a_write_does_not_join_one_from_before() {
    let app = TestApp::start().await;
    let id = app.lead("Before");
    app.hubspot.script("GET", &format!("/{id}"), Script::Late(Duration::from_millis(600)));
    let early = app.get(&id);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let request = pb::UpdateLeadRequest {
            id: id.clone(),
            properties: properties(&[("hs_lead_name", "After")]),
            ..Default::default()
        };
        app.leads.clone().update_lead(request).await.unwrap();
        app.get(&id).await.unwrap().into_inner().lead.unwrap().properties["hs_lead_name"].clone()
    };
    let (early, late) = tokio::join!(early, late);
    assert!(early.is_ok());
    assert_eq!(late, "After");
    assert_eq!(app.hubspot_calls().len(), 3);
}
