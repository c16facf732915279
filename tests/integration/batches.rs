//! Batches: one result per input, in input order, for every HubSpot response.

use leadsd::grpc::pb;
use leadsd_hubspot_fake::ScriptedResponse;
use pb::{lead_read_result, lead_upsert_result, lead_write_result};
use tonic::Code;

use crate::harness::{TestApp, failure, properties};

fn update(id: &str, label: &str) -> pb::LeadUpdate {
    pb::LeadUpdate {
        id: id.to_owned(),
        properties: properties(&[("hs_lead_label", label)]),
        ..Default::default()
    }
}

/// Code of each result; 0 for a lead.
fn codes(results: &[pb::LeadWriteResult]) -> Vec<i32> {
    results
        .iter()
        .map(|result| match result.outcome.as_ref().unwrap() {
            lead_write_result::Outcome::Lead(_) => 0,
            lead_write_result::Outcome::Error(error) => error.code,
        })
        .collect()
}

#[tokio::test]
async fn batch_results_keep_input_order_with_three_kinds_of_failure() {
    for version in ["2026-09", "2026-03", "v3"] {
        for partial_status in [207, 200] {
            let app = TestApp::builder().api_version(version).start().await;
            app.hubspot.behave(|behaviour| {
                behaviour.partial_status = partial_status;
                behaviour.property_errors_per_item = true;
            });
            app.hubspot.add_unique_property("crm_key");
            let mut taken = app.create_request("taken");
            taken.properties.insert("crm_key".into(), "taken".into());
            app.leads.clone().create_lead(taken).await.unwrap();

            let inputs: Vec<_> = (0..250)
                .map(|i| match i % 50 {
                    7 => app.create_input(&format!("{i}"), &[("hs_lead_label", "BOILING")]),
                    8 => app.create_input(&format!("{i}"), &[("crm_key", "taken")]),
                    9 => pb::LeadCreate {
                        primary_contact_id: "424242".into(),
                        ..app.create_input(&format!("{i}"), &[])
                    },
                    _ => app.create_input(&format!("{i}"), &[]),
                })
                .collect();
            let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
            let answer = app.leads.clone().batch_create_leads(request).await.unwrap();
            let calls =
                answer.metadata().get("leadsd-quota-cost").unwrap().to_str().unwrap().to_owned();
            let results = answer.into_inner().results;
            assert_eq!(results.len(), 250);
            for (i, result) in results.iter().enumerate() {
                assert!(!result.object_write_trace_id.is_empty());
                match (i % 50, result.outcome.as_ref().unwrap()) {
                    (7, lead_write_result::Outcome::Error(error))
                    | (9, lead_write_result::Outcome::Error(error)) => {
                        assert_eq!(error.code, i32::from(Code::InvalidArgument), "{i}");
                    }
                    (8, lead_write_result::Outcome::Error(error)) => {
                        assert_eq!(error.code, i32::from(Code::AlreadyExists), "{i}");
                    }
                    (_, lead_write_result::Outcome::Lead(lead)) => {
                        assert_eq!(lead.properties["hs_lead_name"], i.to_string());
                    }
                    (_, outcome) => panic!("{version} input {i}: {outcome:?}"),
                }
            }
            assert_eq!(calls, "3", "250 inputs are three HubSpot calls");
            assert_eq!(app.hubspot.lead_names().len(), 250 - 15 + 1);
        }
    }
}

#[tokio::test]
async fn rejected_batch_succeeds_for_its_valid_inputs() {
    let app = TestApp::start().await;
    app.hubspot.behave(|behaviour| {
        behaviour.property_errors_per_item = false;
        behaviour.echo_trace_ids = false;
    });
    let inputs = (0..60)
        .map(|i| {
            let bad: &[(&str, &str)] = if i == 33 { &[("hs_lead_label", "BOILING")] } else { &[] };
            app.create_input(&format!("lead {i}"), bad)
        })
        .collect();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let results = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner().results;
    for (i, code) in codes(&results).into_iter().enumerate() {
        assert_eq!(code, if i == 33 { i32::from(Code::InvalidArgument) } else { 0 }, "{i}");
    }
    let mut names = app.hubspot.lead_names();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 59, "each good one exactly once");
}

#[tokio::test]
async fn batch_updates_reads_and_archives_return_one_result_per_input() {
    for numbered in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.behave(|behaviour| {
            behaviour.echo_trace_ids = numbered;
            behaviour.batch_archive_reports_unknown = numbered;
        });
        let ids: Vec<String> = (0..130).map(|i| app.lead(&format!("lead {i}"))).collect();
        let mut inputs: Vec<_> = ids.iter().map(|id| update(id, "HOT")).collect();
        inputs[3] = update("999999", "HOT");
        inputs[120].properties = properties(&[("nope", "x")]);
        let request = pb::BatchUpdateLeadsRequest { inputs, ..Default::default() };
        let results =
            app.leads.clone().batch_update_leads(request).await.unwrap().into_inner().results;
        let codes = codes(&results);
        assert_eq!(codes[3], i32::from(Code::NotFound));
        assert_eq!(codes[120], i32::from(Code::InvalidArgument));
        assert_eq!(codes.iter().filter(|code| **code != 0).count(), 2);

        let mut wanted = ids.clone();
        wanted.insert(5, "999999".to_owned());
        wanted.push(ids[0].clone());
        let request = pb::BatchGetLeadsRequest {
            ids: wanted.clone(),
            properties: vec!["hs_lead_name".into()],
            ..Default::default()
        };
        let results =
            app.leads.clone().batch_get_leads(request).await.unwrap().into_inner().results;
        assert_eq!(results.len(), wanted.len());
        for (id, result) in wanted.iter().zip(results) {
            match result.outcome.unwrap() {
                lead_read_result::Outcome::Lead(lead) => assert_eq!(lead.id, *id),
                lead_read_result::Outcome::Error(error) => {
                    assert_eq!((id.as_str(), error.code), ("999999", i32::from(Code::NotFound)));
                }
            }
        }

        let request = pb::BatchArchiveLeadsRequest { ids: wanted.clone(), ..Default::default() };
        let results =
            app.leads.clone().batch_archive_leads(request).await.unwrap().into_inner().results;
        assert_eq!(results.len(), wanted.len());
        assert!(results.iter().all(|result| result.status.as_ref().unwrap().code == 0));
        assert!(app.hubspot.lead_names().is_empty());
    }
}

#[tokio::test]
async fn upserts_report_created_leads() {
    for echo in [true, false] {
        let app = TestApp::start().await;
        app.hubspot.add_unique_property("crm_key");
        app.hubspot.behave(|behaviour| behaviour.echo_trace_ids = echo);
        let upsert = |key: usize| pb::LeadUpsert {
            id: format!("key-{key}"),
            id_property: "crm_key".to_owned(),
            properties: properties(&[("hs_lead_name", &format!("lead {key}"))]),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        let mut leads = app.leads.clone();
        let inputs = (0..10).map(upsert).collect();
        let first = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
        leads.batch_upsert_leads(first).await.unwrap();
        let inputs = (5..15).map(upsert).collect();
        let second = pb::BatchUpsertLeadsRequest { inputs, ..Default::default() };
        let results = leads.batch_upsert_leads(second).await.unwrap().into_inner().results;
        for (i, result) in results.into_iter().enumerate() {
            assert_eq!(result.created, i >= 5, "{i}");
            let Some(lead_upsert_result::Outcome::Lead(lead)) = result.outcome else {
                panic!("input {i} failed")
            };
            assert_eq!(lead.properties["hs_lead_name"], format!("lead {}", i + 5));
        }
    }
}

#[tokio::test]
async fn lost_chunk_fails_only_its_inputs() {
    let app = TestApp::builder().set("HUBSPOT__BATCH_CONCURRENCY", "1").start().await;
    app.hubspot.script("POST", "/batch/create", ScriptedResponse::ExecutedWithStatus(504));
    let inputs = (0..150).map(|i| app.create_input(&format!("lead {i}"), &[])).collect();
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    let results = app.leads.clone().batch_create_leads(request).await.unwrap().into_inner().results;
    let codes = codes(&results);
    assert!(codes[..100].iter().all(|code| *code == i32::from(Code::Unknown)));
    assert!(codes[100..].iter().all(|code| *code == 0));
    assert_eq!(app.hubspot.lead_names().len(), 150, "nothing was sent twice");
}

#[tokio::test]
async fn outage_before_the_first_chunk_fails_the_call() {
    let app = TestApp::start().await;
    let ids = vec![app.lead("Jane")];
    app.hubspot.script(
        "POST",
        "/batch/read",
        ScriptedResponse::Reply(503, "text/html", "<html>".into()),
    );
    let request = pb::BatchGetLeadsRequest { ids, ..Default::default() };
    let (code, reason, _) = failure(app.leads.clone().batch_get_leads(request).await);
    assert_eq!((code, reason.as_str()), (Code::Unavailable, "UPSTREAM_UNAVAILABLE"));
}
