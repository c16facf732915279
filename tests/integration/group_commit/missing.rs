//! Leads that are not there, and changes that an answer does not mention: what they cost besides.

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Script;
use serde_json::json;
use tonic::Code;

use super::{service, world::close};
use crate::harness::{TestApp, failure, properties};

/// Ids that no lead has.
const GONE: [&str; 3] = ["900001", "900002", "900003"];

/// Reads all of them together; the HubSpot calls that it takes.
async fn read(app: &TestApp, ids: &[String]) -> Vec<String> {
    let _closed = close(app, "default", ids.len()).await;
    app.hubspot.clear_log();
    for (answer, id) in join_all(ids.iter().map(|id| app.get(id))).await.into_iter().zip(ids) {
        if GONE.contains(&id.as_str()) {
            let (code, reason, _) = failure(answer);
            assert_eq!((code, reason.as_str()), (Code::NotFound, "LEAD_NOT_FOUND"));
        } else {
            answer.expect("it is there");
        }
    }
    app.hubspot_calls()
}

#[tokio::test]
async fn a_lead_that_is_not_there_is_looked_for_alone_once_and_one_that_was_merged_is_found() {
    let (app, mut ids) = service(&["A", "B", "C", "D"]).await;
    ids.extend(GONE.map(str::to_owned));
    app.hubspot.merge(&ids[0], &ids[1]);
    // One that was merged away may be found alone.
    let first = read(&app, &ids).await;
    assert_eq!(first.len(), 1 + 1 + GONE.len(), "{first:?}");
    let second = read(&app, &ids).await;
    assert_eq!(second.len(), 1 + 1, "{second:?}");
    assert!(second[1].ends_with(&ids[0]), "{second:?}");
}

#[tokio::test]
async fn a_change_that_an_answer_does_not_mention_is_made_alone_once() {
    // The lead that the answer shows, if any.
    for shown in [true, false] {
        let (app, ids) = service(&["A", "B", "C"]).await;
        let _closed = close(&app, "default", ids.len()).await;
        app.hubspot.clear_log();
        let now = "2026-04-01T10:00:00.000Z";
        let lead = json!({"id": ids[1], "properties": {"hs_lead_label": "HOT"}, "createdAt": now,
                          "updatedAt": now, "archived": false});
        let results = if shown { json!([lead]) } else { json!([]) };
        let answer = json!({"status": "COMPLETE", "results": results}).to_string();
        let script = Script::Answer(200, "application/json", answer);
        app.hubspot.script("POST", "/batch/update", script);
        let changes = ids.iter().map(|id| {
            let request = pb::UpdateLeadRequest {
                id: id.clone(),
                properties: properties(&[("hs_lead_label", "HOT")]),
                ..Default::default()
            };
            let mut leads = app.leads.clone();
            async move { leads.update_lead(request).await }
        });
        for (answer, id) in join_all(changes).await.into_iter().zip(&ids) {
            assert_eq!(answer.expect("changed").into_inner().lead.unwrap().id, *id);
        }
        let alone = ids.len() - usize::from(shown);
        assert_eq!(app.hubspot_calls().len(), 1 + alone, "{:?}", app.hubspot_calls());
    }
}
