//! Callers who leave, and callers with less time than others, in calls that are shared.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Gate, Refusal, Script};
use serde_json::Value;
use tokio::{join, select};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    service,
    world::{Closed, close, close_for_steps, close_without_retry},
};
use crate::{
    deadlines::patient,
    harness::{PATIENCE, TestApp, eventually, failure, properties},
};

const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];

fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let millis = format!("{}m", time.as_millis());
    request.metadata_mut().insert("grpc-timeout", millis.parse().unwrap());
    request
}

async fn read(
    app: &TestApp,
    id: &str,
    time: Duration,
) -> Result<Response<pb::GetLeadResponse>, Status> {
    let request = pb::GetLeadRequest {
        id: id.to_owned(),
        properties: vec!["hs_lead_name".to_owned()],
        ..Default::default()
    };
    patient(app).get_lead(within(time, request)).await
}

async fn rename(
    app: &TestApp,
    id: &str,
    name: &str,
    time: Duration,
) -> Result<Response<pb::UpdateLeadResponse>, Status> {
    let request = pb::UpdateLeadRequest {
        id: id.to_owned(),
        properties: properties(&[("hs_lead_name", name)]),
        ..Default::default()
    };
    patient(app).update_lead(within(time, request)).await
}

/// The inputs of the calls of many, by the ids they name.
fn batches(app: &TestApp) -> Vec<Vec<String>> {
    let ids = |inputs: &Value| {
        let all = inputs.as_array().into_iter().flatten();
        all.filter_map(|input| input["id"].as_str().map(str::to_owned)).collect()
    };
    let log = app.hubspot.log();
    let of_many = log.iter().filter(|call| call.path.contains("/batch/"));
    of_many.map(|call| ids(&call.body["inputs"])).collect()
}

/// Waits until the leads have these names.
async fn names_are(app: &TestApp, expected: &[&str]) {
    eventually(&format!("the leads are {expected:?}"), async || {
        let mut names = app.hubspot.lead_names();
        names.sort();
        names == expected
    })
    .await;
}

#[tokio::test]
async fn a_read_that_is_cancelled_in_the_queue_is_left_out_of_the_batch() {
    let (app, ids) = service(&NAMES).await;
    let _closed = close_for_steps(&app, "default", NAMES.len()).await;
    app.hubspot.clear_log();
    let leave = Gate::new();
    let reads = ids.iter().enumerate().map(|(number, id)| {
        let (app, leave) = (&app, &leave);
        async move {
            select! {
                response = read(app, id, PATIENCE) => Some(response),
                () = leave.passed(), if number % 2 == 1 => None,
            }
        }
    });
    let control = async {
        app.queued("burst", NAMES.len()).await;
        leave.open();
        app.dequeued("burst", 3).await;
    };
    let (responses, ()) = join!(join_all(reads), control);
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(response.is_some_and(|response| response.is_ok()), number % 2 == 0);
    }
    let mut sent = batches(&app);
    sent.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(sent, [[&*ids[0], &*ids[2], &*ids[4]]]);
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn a_batch_whose_reads_are_all_cancelled_is_not_sent_and_leaves_its_permit() {
    let (app, ids) = service(&NAMES).await;
    let _closed = close_for_steps(&app, "default", NAMES.len()).await;
    app.hubspot.clear_log();
    let leave = Gate::new();
    let reads = ids.iter().map(|id| async {
        select! {
            response = read(&app, id, PATIENCE) => panic!("the portal is closed: {response:?}"),
            () = leave.passed() => {}
        }
    });
    let control = async {
        app.queued("burst", NAMES.len()).await;
        leave.open();
        app.dequeued("burst", 0).await;
    };
    join!(join_all(reads), control);
    read(&app, &ids[0], PATIENCE).await.expect("the lead");
    let calls = app.hubspot_calls();
    assert!(calls.len() == 1 && calls[0].starts_with("GET "), "{calls:?}");
}

#[tokio::test]
async fn a_write_goes_on_after_its_caller_has_cancelled_be_it_queued_or_sent() {
    join_all([false, true].map(|is_sent| async move {
        let (app, ids) = service(&NAMES[..3]).await;
        let _closed = close_for_steps(&app, "default", NAMES.len()).await;
        app.hubspot.clear_log();
        let (leave, held) = (Gate::new(), Gate::new());
        app.hubspot.script("POST", "/batch/update", Script::Held(held.clone()));
        let renames = ids.iter().map(|id| async {
            select! {
                response = rename(&app, id, "Renamed", PATIENCE) => panic!("{response:?}"),
                () = leave.passed() => {}
            }
        });
        let control = async {
            if is_sent {
                app.scripts_used().await;
            } else {
                app.queued("burst", 3).await;
            }
            leave.open();
        };
        join!(join_all(renames), control);
        held.open();
        names_are(&app, &["Renamed"; 3]).await;
        assert_eq!(batches(&app).len(), 1, "sent: {is_sent}");
    }))
    .await;
}

#[tokio::test]
async fn a_caller_that_cancels_a_batch_in_flight_leaves_it_to_the_others() {
    let (app, ids) = service(&NAMES).await;
    let _closed = close_for_steps(&app, "default", NAMES.len()).await;
    app.hubspot.clear_log();
    let (leave, held) = (Gate::new(), Gate::new());
    app.hubspot.script("POST", "/batch/read", Script::Held(held.clone()));
    let reads = ids.iter().enumerate().map(|(number, id)| {
        let (app, leave) = (&app, &leave);
        async move {
            select! {
                response = read(app, id, PATIENCE) => response.is_ok(),
                () = leave.passed(), if number == 0 => false,
            }
        }
    });
    let control = async {
        app.scripts_used().await;
        leave.open();
        app.in_flight("GetLead", NAMES.len() - 1).await;
        held.open();
    };
    let (read, ()) = join!(join_all(reads), control);
    assert_eq!(read, [false, true, true, true, true]);
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn a_call_of_a_batch_ends_at_its_own_deadline_and_ends_no_other() {
    join_all([false, true].map(|writes| async move {
        let (app, ids) = service(&NAMES).await;
        let Closed { time, .. } = close(&app, "default", NAMES.len()).await;
        let (path, held) = (if writes { "/batch/update" } else { "/batch/read" }, Gate::new());
        app.hubspot.script("POST", path, Script::Held(held.clone()));
        // Ends while HubSpot holds the response.
        let short = time + Duration::from_secs(2);
        let calls = ids.iter().enumerate().map(|(number, id)| {
            let (app, held) = (&app, &held);
            async move {
                let time = if number == 1 { short } else { PATIENCE };
                let result = if writes {
                    rename(app, id, "Renamed", time).await.map(drop)
                } else {
                    read(app, id, time).await.map(drop)
                };
                if number == 1 {
                    held.open();
                }
                result
            }
        });
        for (number, result) in join_all(calls).await.into_iter().enumerate() {
            if number == 1 {
                assert_eq!(result.unwrap_err().code(), Code::DeadlineExceeded);
            } else {
                result.expect("there is time");
            }
        }
        if writes {
            names_are(&app, &["Renamed"; 5]).await;
        }
        assert_eq!(app.hubspot.scripts_left(), 0, "they were sent together");
    }))
    .await;
}

/// A service that retries, with its portal closed.
async fn retrying() -> (TestApp, Vec<String>, Closed) {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let ids = NAMES.iter().map(|name| app.lead(name)).collect();
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    let closed = close_without_retry(&app, "default", NAMES.len()).await;
    app.hubspot.clear_log();
    (app, ids, closed)
}

/// A caller without time for another attempt receives the error of the first one.
fn assert_not_retried(result: Result<(), Status>, reason: &str) {
    let status = result.unwrap_err();
    assert!(status.get_error_details().retry_info().is_some());
    let (code, got, _) = failure(Err::<(), _>(status));
    assert_eq!((code, got.as_str()), (Code::Unavailable, reason));
}

#[tokio::test]
async fn a_read_is_retried_for_the_callers_that_have_the_time() {
    let (app, ids, closed) = retrying().await;
    app.hubspot.script("POST", "/batch/read", Script::html(503));
    let reads = ids.iter().enumerate().map(|(number, id)| {
        // The backoff after a 503 is three seconds.
        let short = closed.time + Duration::from_millis(2_500);
        let time = if number < 2 { short } else { PATIENCE };
        let app = &app;
        async move { read(app, id, time).await.map(drop) }
    });
    for (number, result) in join_all(reads).await.into_iter().enumerate() {
        if number < 2 {
            assert_not_retried(result, "UPSTREAM_UNAVAILABLE");
        } else {
            result.expect("the second attempt succeeds");
        }
    }
    let sent: Vec<usize> = batches(&app).iter().map(Vec::len).collect();
    assert_eq!(sent, [5, 3], "calls that have ended are not retried");
}

#[tokio::test]
async fn a_create_is_never_retried_for_a_caller_that_has_received_the_error() {
    let (app, _, closed) = retrying().await;
    let locked = Script::Refuse(Refusal::Locked { body: true });
    app.hubspot.script("POST", "/batch/create", locked);
    let creates = (0..4).map(|number| {
        // The backoff while the account is locked is two seconds.
        let short = closed.time + Duration::from_millis(1_500);
        let time = if number < 2 { short } else { PATIENCE };
        let request = app.create_request(&format!("New {number}"));
        let app = &app;
        async move { patient(app).create_lead(within(time, request)).await.map(drop) }
    });
    for (number, result) in join_all(creates).await.into_iter().enumerate() {
        if number < 2 {
            assert_not_retried(result, "ACCOUNT_LOCKED");
        } else {
            result.expect("the second attempt succeeds");
        }
    }
    names_are(&app, &["A", "B", "C", "D", "E", "First", "New 2", "New 3"]).await;
}

#[tokio::test]
async fn callers_that_share_an_identical_read_are_retried_by_their_own_deadlines() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let id = app.lead("A");
    // All join while the call is in flight; then it fails.
    let held = Gate::new();
    let fails = Script::HeldThen(held.clone(), Box::new(Script::html(503)));
    app.hubspot.script("GET", &format!("/{id}"), fails);
    let reads = (0..6).map(|number| {
        let time = if number % 2 == 0 { Duration::from_secs(2) } else { PATIENCE };
        let (app, id) = (&app, &id);
        async move { read(app, id, time).await.map(drop) }
    });
    let control = async {
        app.scripts_used().await;
        app.in_flight("GetLead", 6).await;
        held.open();
    };
    let (results, ()) = join!(join_all(reads), control);
    for (number, result) in results.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_not_retried(result, "UPSTREAM_UNAVAILABLE");
        } else {
            result.expect("a later attempt succeeds");
        }
    }
    // Each caller with time may have had an attempt of its own, as alone, and no more.
    let calls = app.hubspot_calls().len();
    assert!((2..=1 + 3).contains(&calls), "{calls}");
}
