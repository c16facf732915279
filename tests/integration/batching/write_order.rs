//! Write order: writes to one lead run in order of arrival, single and batched, with a bounded
//! queue.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, ScriptedResponse};
use tokio::join;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::service;
use crate::harness::{TestApp, eventually, failure, properties};

fn named(name: &str) -> std::collections::BTreeMap<String, String> {
    properties(&[("hs_lead_name", name)])
}

async fn rename(app: &TestApp, id: &str, name: &str, time: Duration) -> Result<(), Status> {
    let mut request = Request::new(pb::UpdateLeadRequest {
        id: id.to_owned(),
        properties: named(name),
        ..Default::default()
    });
    request.set_timeout(time);
    app.leads.clone().update_lead(request).await.map(drop)
}

async fn rename_all(app: &TestApp, ids: &[String], name: &str) -> Vec<pb::LeadWriteResult> {
    let input = |id: &String| pb::LeadUpdate {
        id: id.clone(),
        properties: named(name),
        ..Default::default()
    };
    let request = pb::BatchUpdateLeadsRequest {
        inputs: ids.iter().map(input).collect(),
        ..Default::default()
    };
    app.leads.clone().batch_update_leads(request).await.unwrap().into_inner().results
}

async fn archive_all(app: &TestApp, ids: &[String]) {
    let request = pb::BatchArchiveLeadsRequest { ids: ids.to_vec(), ..Default::default() };
    app.leads.clone().batch_archive_leads(request).await.unwrap();
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn writes_over_the_queue_limit_of_one_lead_are_rejected() {
    let app = TestApp::builder().set("QUOTA__MAX_QUEUE", "30").start().await;
    let id = app.lead("Jane");
    let held = Gate::new();
    app.hubspot.script("PATCH", &format!("/{id}"), ScriptedResponse::Held(held.clone()));
    let writes = (0..8).map(|number| {
        let (app, id) = (&app, &id);
        async move { rename(app, id, &format!("Name {number}"), PATIENCE).await }
    });
    let full = r#"leadsd_quota_rejected_total{portal="default",bucket="lead",reason="queue_full"}"#;
    let control = async {
        app.queued("lead", 3).await;
        eventually("four are rejected", async || app.metric(full).await == Some(4.0)).await;
        held.open();
    };
    let (all, ()) = join!(join_all(writes), control);
    let (done, rejected): (Vec<_>, Vec<_>) = all.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), rejected.len()), (1 + 3, 4));
    for rejected in rejected {
        let status = rejected.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "lead");
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        let (code, reason, _) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    }
    assert_eq!(app.hubspot_calls().len(), 4, "the others were not sent");
}

#[tokio::test]
async fn a_batch_and_a_single_write_of_one_lead_keep_their_order() {
    join_all([false, true].map(|single_first| async move {
        let (app, ids) = service(&["A", "B", "C"]).await;
        let (method, path) = match single_first {
            true => ("PATCH", format!("/{}", ids[1])),
            false => ("POST", "/batch/update".to_owned()),
        };
        let held = Gate::new();
        app.hubspot.script(method, &path, ScriptedResponse::Held(held.clone()));
        let single = async {
            if !single_first {
                app.scripts_used().await;
            }
            rename(&app, &ids[1], "Single", PATIENCE).await.expect("changed");
        };
        let batch = async {
            if single_first {
                app.scripts_used().await;
            }
            rename_all(&app, &ids, "Batch").await
        };
        let control = async {
            app.queued("lead", 1).await;
            held.open();
        };
        join!(single, batch, control);
        let mut names = app.hubspot.lead_names();
        names.sort();
        let last = if single_first { "Batch" } else { "Single" };
        assert_eq!(names, ["Batch", "Batch", last]);
        let calls = app.hubspot_calls();
        assert!(calls.iter().any(|call| call.ends_with("/batch/update")), "{calls:?}");
        assert_eq!(calls.last().unwrap().starts_with("PATCH"), !single_first, "{calls:?}");
    }))
    .await;
}

#[tokio::test]
async fn retried_split_batch_is_not_overtaken_by_a_later_write() {
    let (app, ids) = service(&["A", "B", "C"]).await;
    // Rejected without naming an input; then it is split.
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"no"}"#.to_owned();
    let rejection = Box::new(ScriptedResponse::Reply(400, "application/json", body));
    let held = Gate::new();
    app.hubspot.script(
        "POST",
        "/batch/update",
        ScriptedResponse::HeldThen(held.clone(), rejection),
    );
    let single = async {
        app.scripts_used().await;
        rename(&app, &ids[2], "Single", PATIENCE).await.expect("changed");
    };
    let control = async {
        app.queued("lead", 1).await;
        held.open();
    };
    join!(rename_all(&app, &ids, "Batch"), single, control);
    let mut names = app.hubspot.lead_names();
    names.sort();
    assert_eq!(names, ["Batch", "Batch", "Single"], "{:?}", app.hubspot_calls());
}

#[tokio::test]
async fn batches_with_leads_in_common_are_sent_one_by_one_and_others_do_not_wait() {
    let (app, ids) = service(&["A", "B", "C", "D"]).await;
    // The first response reports external usage, and other calls wait for it.
    app.get(&ids[0]).await.expect("the lead");
    let held = Gate::new();
    app.hubspot.script("POST", "/batch/update", ScriptedResponse::Held(held.clone()));
    let first = rename_all(&app, &ids[..2], "First");
    let common = async {
        app.scripts_used().await;
        let mut common = ids[1..3].to_vec();
        common.reverse();
        archive_all(&app, &common).await;
    };
    let other = async {
        app.queued("lead", 1).await;
        rename_all(&app, &ids[3..], "Other").await;
        let archived = app.hubspot_calls().iter().any(|call| call.ends_with("/batch/archive"));
        assert!(!archived, "the batch with a lead in common waits");
        held.open();
    };
    join!(first, common, other);
    assert!(app.hubspot_calls().last().unwrap().ends_with("/batch/archive"));
}
