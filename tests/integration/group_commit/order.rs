//! Writes to one lead: in the order they came, single ones and batches alike, and not without bound.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Script;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{service, world::close};
use crate::harness::{TestApp, failure, properties};

/// How long the first write takes.
const LATE: Duration = Duration::from_millis(500);

/// How long after the first write the second one comes.
const NEXT: Duration = Duration::from_millis(150);

/// How soon an answer is there that HubSpot was not asked for, on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(200);

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

/// The value of a metric with these labels.
async fn metric(app: &TestApp, name: &str) -> f64 {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let text =
        http.get(format!("{}/metrics", app.admin)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
}

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn no_more_than_so_many_writes_wait_for_one_lead() {
    let app = TestApp::builder().set("QUOTA__MAX_WAITING", "30").start().await;
    let id = app.lead("Jane");
    app.hubspot.script("PATCH", &format!("/{id}"), Script::Late(LATE));
    let since = Instant::now();
    let look = async {
        tokio::time::sleep(NEXT).await;
        metric(&app, r#"leadsd_quota_waiting{portal="default",bucket="lead"}"#).await
    };
    let writes = (0..8).map(|number| {
        let (app, id) = (&app, &id);
        async move {
            let done = rename(app, id, &format!("Name {number}"), PATIENCE).await;
            (done, since.elapsed())
        }
    });
    let (all, waiting) = tokio::join!(join_all(writes), look);
    let (done, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|(done, _)| done.is_ok());
    assert_eq!((done.len(), refused.len()), (1 + 3, 4));
    for (refused, took) in refused {
        let status = refused.unwrap_err();
        let details = status.get_error_details();
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "lead");
        assert!(details.retry_info().unwrap().retry_delay.is_some());
        let (code, reason, _) = failure(Err::<(), _>(status));
        assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        assert!(took < AT_ONCE, "{took:?}");
    }
    assert_eq!(waiting, 3.0);
    assert_eq!(app.hubspot_calls().len(), 4, "the others were not sent");
    let full = r#"leadsd_quota_refusals_total{portal="default",bucket="lead",cause="full"}"#;
    assert_eq!(metric(&app, full).await, 4.0);
}

#[tokio::test]
async fn a_write_whose_turn_would_come_too_late_is_refused_at_once() {
    let (app, ids) = service(&["Jane"]).await;
    let id = &ids[0];
    app.hubspot.script_times(4, "PATCH", &format!("/{id}"), Script::Late(LATE));
    rename(&app, id, "First", PATIENCE).await.expect("changed");
    let writes = (0..3).map(|number| {
        let app = &app;
        async move { rename(app, id, &format!("Name {number}"), PATIENCE).await }
    });
    let late = async {
        tokio::time::sleep(NEXT).await;
        let since = Instant::now();
        let refused = rename(&app, id, "Late", LATE * 2).await.expect_err("three are before it");
        (failure(Err::<(), _>(refused)), since.elapsed())
    };
    let (done, (late, took)) = tokio::join!(join_all(writes), late);
    assert!(done.iter().all(Result::is_ok));
    assert_eq!((late.0, late.1.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(app.hubspot_calls().len(), 4);
}

#[tokio::test]
async fn a_write_behind_another_that_no_permit_comes_for_in_time_is_refused_at_once() {
    let (app, ids) = service(&["Jane"]).await;
    close(&app, "default").await;
    app.hubspot.clear_log();
    let late = async {
        tokio::time::sleep(NEXT).await;
        let since = Instant::now();
        let refused = rename(&app, &ids[0], "Late", LATE).await.expect_err("it is closed");
        (failure(Err::<(), _>(refused)), since.elapsed())
    };
    let (first, (late, took)) = tokio::join!(rename(&app, &ids[0], "First", PATIENCE), late);
    first.expect("there is time");
    assert_eq!((late.0, late.1.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn a_batch_and_a_single_write_of_one_lead_keep_their_order() {
    let late = [("POST", "/batch/update", false), ("PATCH", "", true)];
    join_all(late.map(|(method, path, single_first)| async move {
        let (app, ids) = service(&["A", "B", "C"]).await;
        let path = if path.is_empty() { format!("/{}", ids[1]) } else { path.to_owned() };
        app.hubspot.script(method, &path, Script::Late(LATE));
        let first = Duration::ZERO;
        let [single, batch] = if single_first { [first, NEXT] } else { [NEXT, first] };
        let single = async {
            tokio::time::sleep(single).await;
            rename(&app, &ids[1], "Single", PATIENCE).await.expect("changed");
        };
        let batch = async {
            tokio::time::sleep(batch).await;
            rename_all(&app, &ids, "Batch").await
        };
        tokio::join!(single, batch);
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
async fn a_batch_that_is_sent_again_in_parts_is_not_overtaken_by_a_write_that_came_later() {
    let (app, ids) = service(&["A", "B", "C"]).await;
    // Refused as a whole, and nobody is named; then it is divided.
    let body = r#"{"status":"error","category":"VALIDATION_ERROR","message":"no"}"#.to_owned();
    let refusal = Script::Answer(400, "application/json", body);
    app.hubspot.script("POST", "/batch/update", Script::After(LATE, Box::new(refusal)));
    let single = async {
        tokio::time::sleep(NEXT).await;
        rename(&app, &ids[2], "Single", PATIENCE).await.expect("changed");
    };
    tokio::join!(rename_all(&app, &ids, "Batch"), single);
    let mut names = app.hubspot.lead_names();
    names.sort();
    assert_eq!(names, ["Batch", "Batch", "Single"], "{:?}", app.hubspot_calls());
}

#[tokio::test]
async fn batches_with_leads_in_common_go_one_by_one_and_others_do_not_wait() {
    let (app, ids) = service(&["A", "B", "C", "D"]).await;
    // The first answer of all tells what others use, and is waited for.
    app.get(&ids[0]).await.expect("the lead");
    app.hubspot.script("POST", "/batch/update", Script::Late(LATE));
    let since = Instant::now();
    let first = rename_all(&app, &ids[..2], "First");
    let common = async {
        tokio::time::sleep(NEXT).await;
        let mut common = ids[1..3].to_vec();
        common.reverse();
        archive_all(&app, &common).await;
        since.elapsed()
    };
    let other = async {
        tokio::time::sleep(NEXT).await;
        rename_all(&app, &ids[3..], "Other").await;
        since.elapsed()
    };
    let (_, common, other) = tokio::join!(first, common, other);
    assert!(common >= LATE, "{common:?}");
    assert!(other < LATE, "{other:?}");
}
