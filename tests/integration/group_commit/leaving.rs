//! Callers who leave, and callers with less time than others, in calls that are shared.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::{Refusal, Script};
use serde_json::Value;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    service,
    world::{close, close_at_once},
};
use crate::{
    deadlines::patient,
    harness::{PATIENCE, TestApp, failure, properties},
};

const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];

/// How long a portal that was closed stays so at the most.
const CLOSED: Duration = Duration::from_secs(1);

/// How much later than expected an answer may be on a busy machine.
const LATE: Duration = Duration::from_millis(700);

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
    let all = async {
        loop {
            let mut names = app.hubspot.lead_names();
            names.sort();
            if names == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, all).await;
    assert!(found.is_ok(), "{:?}", app.hubspot.lead_names());
}

#[tokio::test]
async fn whoever_leaves_while_it_waits_is_not_asked_for() {
    let (app, ids) = service(&NAMES).await;
    close(&app, "default").await;
    app.hubspot.clear_log();
    let reads = ids.iter().enumerate().map(|(number, id)| {
        let app = &app;
        async move {
            let read = read(app, id, PATIENCE);
            if number % 2 == 0 {
                return Some(read.await);
            }
            // Gone before its turn.
            tokio::time::timeout(CLOSED / 4, read).await.ok()
        }
    });
    let answers = join_all(reads).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_some_and(|answer| answer.is_ok()), number % 2 == 0);
    }
    let mut asked = batches(&app);
    asked.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(asked, [[&*ids[0], &*ids[2], &*ids[4]]]);
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn where_all_have_left_nobody_is_asked_and_the_permit_is_there_for_the_next() {
    let (app, ids) = service(&NAMES).await;
    close(&app, "default").await;
    app.hubspot.clear_log();
    let gone = ids.iter().map(|id| tokio::time::timeout(CLOSED / 4, read(&app, id, PATIENCE)));
    assert!(join_all(gone).await.iter().all(Result::is_err));
    tokio::time::sleep(CLOSED).await;
    assert_eq!(app.hubspot_calls(), Vec::<String>::new());
    read(&app, &ids[0], PATIENCE).await.expect("the lead");
}

#[tokio::test]
async fn a_write_whose_caller_leaves_goes_on_be_it_waiting_or_under_way() {
    let late = [Duration::ZERO, Duration::from_millis(600)];
    join_all(late.map(|late| async move {
        let (app, ids) = service(&NAMES[..3]).await;
        close(&app, "default").await;
        app.hubspot.clear_log();
        app.hubspot.script("POST", "/batch/update", Script::Late(late));
        let patience = if late.is_zero() { CLOSED / 4 } else { CLOSED + late / 2 };
        let renames = ids
            .iter()
            .map(|id| tokio::time::timeout(patience, rename(&app, id, "Renamed", PATIENCE)));
        assert!(join_all(renames).await.iter().all(Result::is_err), "all have left");
        names_are(&app, &["Renamed"; 3]).await;
        assert_eq!(batches(&app).len(), 1, "{late:?}");
    }))
    .await;
}

#[tokio::test]
async fn whoever_leaves_a_read_that_is_under_way_leaves_it_to_the_others() {
    let (app, ids) = service(&NAMES).await;
    close(&app, "default").await;
    app.hubspot.clear_log();
    let late = Duration::from_millis(600);
    app.hubspot.script("POST", "/batch/read", Script::Late(late));
    let reads = ids.iter().enumerate().map(|(number, id)| {
        let app = &app;
        let patience = if number == 0 { CLOSED + late / 2 } else { PATIENCE };
        async move { tokio::time::timeout(patience, read(app, id, PATIENCE)).await }
    });
    let answers = join_all(reads).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_ok_and(|answer| answer.is_ok()), number > 0);
    }
    assert_eq!(app.hubspot_calls().len(), 1);
}

#[tokio::test]
async fn nobody_is_held_past_its_deadline_or_cut_for_anothers() {
    let late = Duration::from_millis(1_500);
    let short = CLOSED + late / 2;
    join_all([false, true].map(|writes| async move {
        let (app, ids) = service(&NAMES).await;
        close(&app, "default").await;
        let path = if writes { "/batch/update" } else { "/batch/read" };
        app.hubspot.script("POST", path, Script::Late(late));
        let begin = Instant::now();
        let calls = ids.iter().enumerate().map(|(number, id)| {
            let app = &app;
            async move {
                let time = if number == 1 { short } else { PATIENCE };
                let answer = if writes {
                    rename(app, id, "Renamed", time).await.map(drop)
                } else {
                    read(app, id, time).await.map(drop)
                };
                (answer, begin.elapsed())
            }
        });
        let answers = join_all(calls).await;
        for (number, (answer, took)) in answers.into_iter().enumerate() {
            if number == 1 {
                assert_eq!(answer.unwrap_err().code(), Code::DeadlineExceeded);
                assert!(took >= short - LATE && took <= short + LATE, "{took:?}");
            } else {
                answer.expect("there is time");
                assert!(took >= late, "{took:?}");
            }
        }
        if writes {
            names_are(&app, &["Renamed"; 5]).await;
        }
        assert_eq!(app.hubspot.scripts_left(), 0, "they went together");
    }))
    .await;
}

/// A service that tries again, and has closed its portal.
async fn retrying() -> (TestApp, Vec<String>) {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let ids = NAMES.iter().map(|name| app.lead(name)).collect();
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    close_at_once(CLOSED, &app, "default").await;
    app.hubspot.clear_log();
    (app, ids)
}

/// Whoever has no time for another attempt is told of the failure at once, as it would be alone.
fn assert_told(answer: Result<(), Status>, reason: &str, took: Duration) {
    let status = answer.unwrap_err();
    assert!(status.get_error_details().retry_info().is_some());
    let (code, got, _) = failure(Err::<(), _>(status));
    assert_eq!((code, got.as_str()), (Code::Unavailable, reason));
    assert!(took <= CLOSED + LATE, "{took:?}");
}

#[tokio::test]
async fn a_read_is_tried_again_for_those_who_have_the_time() {
    let (app, ids) = retrying().await;
    app.hubspot.script("POST", "/batch/read", Script::html(503));
    let begin = Instant::now();
    let reads = ids.iter().enumerate().map(|(number, id)| {
        let app = &app;
        async move {
            // The pause after a 503 is three seconds.
            let time = if number < 2 { Duration::from_millis(2_500) } else { PATIENCE };
            (read(app, id, time).await.map(drop), begin.elapsed())
        }
    });
    for (number, (answer, took)) in join_all(reads).await.into_iter().enumerate() {
        if number < 2 {
            assert_told(answer, "UPSTREAM_UNAVAILABLE", took);
        } else {
            answer.expect("the second attempt succeeds");
        }
    }
    let asked: Vec<usize> = batches(&app).iter().map(Vec::len).collect();
    assert_eq!(asked, [5, 3], "those who were told are not asked for again");
}

#[tokio::test]
async fn a_create_is_never_made_for_somebody_who_was_told_that_it_was_not() {
    let (app, _) = retrying().await;
    let locked = Script::Refuse(Refusal::Locked { body: true });
    app.hubspot.script("POST", "/batch/create", locked);
    let begin = Instant::now();
    let creates = (0..4).map(|number| {
        let app = &app;
        async move {
            // The pause while the account is locked is two seconds.
            let time = if number < 2 { Duration::from_millis(1_900) } else { PATIENCE };
            let request = app.create_request(&format!("New {number}"));
            let answer = patient(app).create_lead(within(time, request)).await;
            (answer.map(drop), begin.elapsed())
        }
    });
    for (number, (answer, took)) in join_all(creates).await.into_iter().enumerate() {
        if number < 2 {
            assert_told(answer, "ACCOUNT_LOCKED", took);
        } else {
            answer.expect("the second attempt succeeds");
        }
    }
    names_are(&app, &["A", "B", "C", "D", "E", "First", "New 2", "New 3"]).await;
}

#[tokio::test]
async fn those_who_share_an_identical_read_are_told_the_same_way() {
    let app = TestApp::builder().set("HUBSPOT__MAX_ATTEMPTS", "3").start().await;
    let id = app.lead("A");
    // All join while the call is under way, and then it fails.
    let fails = Script::After(Duration::from_millis(500), Box::new(Script::html(503)));
    app.hubspot.script("GET", &format!("/{id}"), fails);
    let begin = Instant::now();
    let reads = (0..6).map(|number| {
        let (app, id) = (&app, &id);
        async move {
            let time = if number % 2 == 0 { Duration::from_secs(2) } else { PATIENCE };
            (read(app, id, time).await.map(drop), begin.elapsed())
        }
    });
    let mut told = 0;
    for (number, (answer, took)) in join_all(reads).await.into_iter().enumerate() {
        match answer {
            Err(status) => {
                assert_eq!(number % 2, 0, "{status:?}");
                assert_told(Err(status), "UPSTREAM_UNAVAILABLE", took);
                told += 1;
            }
            Ok(()) => assert_eq!(number % 2, 1),
        }
    }
    assert_eq!(told, 3);
    // Each of the others may have had an attempt of its own, as alone, but no more.
    let calls = app.hubspot_calls().len();
    assert!((2..=1 + 3).contains(&calls), "{calls}");
}
