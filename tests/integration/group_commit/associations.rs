//! Reads with associations that leave together: as one read of the leads and one of their associations
//! for each type of record, where that takes fewer calls.

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Behaviour;

use super::{ask::cost, world::close};
use crate::{harness::TestApp, operations::VERSIONS};

/// A service, and leads with a contact and a company each.
async fn service(leads: usize, version: &'static str) -> (TestApp, Vec<String>) {
    let app = TestApp::builder().api_version(version).start().await;
    let company = app.hubspot.add_company("Example Ltd");
    let ids: Vec<String> = (0..leads).map(|number| app.lead(&format!("Lead {number}"))).collect();
    ids.iter().for_each(|id| app.hubspot.associate(id, &company, 580));
    (app, ids)
}

fn request(id: &str, associations: &[&str]) -> pb::GetLeadRequest {
    pb::GetLeadRequest {
        id: id.to_owned(),
        properties: vec!["hs_lead_name".to_owned()],
        associations: associations.iter().map(|&to| to.to_owned()).collect(),
        ..Default::default()
    }
}

/// Reads all of them at once while nothing may go; gives the leads and what they cost in all.
async fn read(app: &TestApp, ids: &[String], associations: &[&str]) -> (Vec<pb::Lead>, f64) {
    let _closed = close(app, "default", ids.len()).await;
    app.hubspot.clear_log();
    let reads = ids.iter().map(|id| {
        let mut leads = app.leads.clone();
        async move { leads.get_lead(request(id, associations)).await.expect("a lead") }
    });
    let mut costs = 0.0;
    let answers = join_all(reads).await.into_iter().map(|answer| {
        costs += cost(answer.metadata());
        answer.into_inner().lead.unwrap()
    });
    (answers.collect(), costs)
}

#[tokio::test]
async fn many_take_one_call_and_one_more_for_each_type_once_their_names_are_known() {
    join_all(VERSIONS.map(|(version, _)| count_calls(version))).await;
}

async fn count_calls(version: &'static str) {
    let (app, ids) = service(30, version).await;
    let types = ["contacts", "companies"];
    let single = app.leads.clone().get_lead(request(&ids[0], &types)).await.unwrap();
    let single = single.into_inner().lead.unwrap();
    assert_eq!(single.associations.len(), 2);
    for (types, calls) in [
        // One is read both ways to find out.
        (&types[..1], 1 + 1 + 1),
        (&types[..1], 1 + 1),
        (&types[..], 1 + 2 + 1),
        (&types[..], 1 + 2),
    ] {
        let (leads, costs) = read(&app, &ids, types).await;
        assert_eq!(app.hubspot_calls().len(), calls, "{version} {types:?}");
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let spent = calls as f64;
        assert!((costs - spent).abs() < 0.01, "{costs} of {calls}");
        for (id, lead) in ids.iter().zip(leads) {
            assert_eq!(lead.id, *id);
            assert_eq!(lead.associations.len(), types.len());
            assert_eq!(lead.associations["contacts"], single.associations["contacts"]);
        }
    }
    let log = app.hubspot.log();
    let paths: Vec<&str> = log.iter().map(|call| call.path.as_str()).collect();
    let base = if version == "v3" {
        "/crm/v4/associations/leads".to_owned()
    } else {
        format!("/crm/associations/{version}/leads")
    };
    for to in types {
        let path = format!("{base}/{to}/batch/read");
        assert!(paths.contains(&path.as_str()), "{path} in {paths:?}");
    }
}

#[tokio::test]
async fn as_many_as_it_would_take_calls_go_alone() {
    let cases = [
        (2, &["contacts"][..], true),
        (3, &["contacts"], false),
        (3, &["contacts", "companies"], true),
        // There is no use in reading so many types.
        (3, &["contacts", "companies", "deals", "notes"], true),
    ];
    let read = cases.map(|(count, types, alone)| async move {
        let (app, ids) = service(count, "2026-09").await;
        let (leads, _) = read(&app, &ids, types).await;
        assert!(leads.iter().all(|lead| lead.associations.contains_key("contacts")));
        let calls = app.hubspot_calls();
        let all_alone = calls.iter().all(|call| call.starts_with("GET "));
        assert_eq!(all_alone, alone, "{count} {types:?}: {calls:?}");
        assert!(calls.len() <= count, "{calls:?}");
    });
    join_all(read).await;
}

type Change = fn(&mut Behaviour);

#[tokio::test]
async fn what_cannot_be_told_as_a_single_read_would_is_read_alone() {
    let changes: [(Change, usize); 4] = [
        (|_| {}, 0),
        // Cut where many are read, cut where one is read, and shown otherwise.
        (|behaviour| behaviour.associations_page = 1, 1),
        (|behaviour| behaviour.associations_shown = 1, 1),
        (|behaviour| behaviour.associations_per_kind = true, 0),
    ];
    join_all(changes.map(|(change, alone)| read_alone(change, alone))).await;
}

async fn read_alone(change: Change, alone: usize) {
    let (app, ids) = service(12, "2026-09").await;
    app.hubspot.behave(change);
    let more = app.hubspot.add_contact("grace@example.com");
    app.hubspot.associate(&ids[3], &more, 608);
    app.hubspot.associate(&ids[4], &app.contact, 608);
    let mut expected = Vec::new();
    for id in &ids {
        let answer = app.leads.clone().get_lead(request(id, &["contacts"])).await.unwrap();
        expected.push(answer.into_inner().lead.unwrap().associations);
    }
    for round in 0..3 {
        let (leads, costs) = read(&app, &ids, &["contacts"]).await;
        let got: Vec<_> = leads.into_iter().map(|lead| lead.associations).collect();
        assert_eq!(got, expected);
        let calls = app.hubspot_calls();
        let gets = calls.iter().filter(|call| call.starts_with("GET ")).count();
        assert!(round < 2 || gets == alone, "{calls:?}");
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let spent = calls.len() as f64;
        assert!((costs - spent).abs() < 0.01, "{costs} of {calls:?}");
    }
}
