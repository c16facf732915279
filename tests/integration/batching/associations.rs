//! Batched reads with associations: one read of the leads and one read of associations per object
//! type, if that uses fewer calls.

use futures_util::future::join_all;
use leadsd::grpc::pb;

use super::{calls::cost, world::close};
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

/// Reads all of them at once while no permit is free; returns the leads and their total cost.
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
async fn batched_reads_with_associations_use_one_call_per_type() {
    join_all(VERSIONS.map(|(version, _)| count_calls(version))).await;
}

async fn count_calls(version: &'static str) {
    let (app, ids) = service(30, version).await;
    let types = ["contacts", "companies"];
    let single = app.leads.clone().get_lead(request(&ids[0], &types)).await.unwrap();
    let single = single.into_inner().lead.unwrap();
    assert_eq!(single.associations.len(), 2);
    for (types, calls) in [
        // One lead is read through both endpoints to learn the labels.
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
