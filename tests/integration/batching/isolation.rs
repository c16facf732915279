//! Isolation of invalid inputs: rejected calls fail individually, isolation uses a bounded number
//! of calls, and successful writes are not repeated.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use leadsd::grpc::pb;
use leadsd_hubspot_fake::Behaviour;
use serde_json::Value;
use tonic::{Code, Status};

use super::{calls::cost, world::close};
use crate::{
    admission::buckets,
    harness::{TestApp, failure, properties},
};

/// Number of batched single calls.
const CALLS: usize = 100;

/// Indices of rejected calls, by their number.
fn is_bad(number: usize, bad: usize) -> bool {
    bad > 0 && number % (CALLS / bad) == CALLS / bad / 2
}

fn values(number: usize, bad: usize) -> BTreeMap<String, String> {
    let label = if is_bad(number, bad) { "NO_SUCH_LABEL" } else { "HOT" };
    properties(&[("hs_lead_name", &format!("Lead {number}")), ("hs_lead_label", label)])
}

async fn service(behave: fn(&mut Behaviour)) -> TestApp {
    // Permits are tested elsewhere.
    let app = TestApp::builder().set("QUOTA__BURST", "10000").start().await;
    app.hubspot.behave(behave);
    app.hubspot.limit(|limits| limits.burst = 10_000);
    let inputs = vec![app.create_input("First", &[])];
    let request = pb::BatchCreateLeadsRequest { inputs, ..Default::default() };
    app.leads.clone().batch_create_leads(request).await.expect("created");
    app
}

/// Number of successful writes per lead, and number of HubSpot calls.
fn written(
    app: &TestApp,
    mut name: impl FnMut(&Value) -> Option<String>,
) -> (BTreeMap<String, u32>, usize) {
    let mut written = BTreeMap::new();
    let log = app.hubspot.log();
    let calls = log.iter().filter(|call| !call.path.starts_with("/oauth/"));
    for call in calls.clone().filter(|call| (200..300).contains(&call.status)) {
        let inputs = call.body["inputs"].as_array().cloned();
        for input in inputs.unwrap_or_else(|| vec![call.body.clone()]) {
            name(&input).into_iter().for_each(|name| *written.entry(name).or_default() += 1);
        }
    }
    (written, calls.count())
}

/// Asserts that invalid calls fail for their label and others succeed; returns the total cost.
fn check<T: std::fmt::Debug>(answers: Vec<Result<tonic::Response<T>, Status>>, bad: usize) -> f64 {
    let mut costs = 0.0;
    for (number, answer) in answers.into_iter().enumerate() {
        costs += match &answer {
            Ok(answer) => cost(answer.metadata()),
            Err(status) => cost(status.metadata()),
        };
        if is_bad(number, bad) {
            let (code, reason, fields) = failure(answer);
            assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "VALIDATION_FAILED"));
            assert_eq!(fields, [r#"properties["hs_lead_label"]"#]);
        } else {
            answer.expect("nothing is wrong with it");
        }
    }
    costs
}

/// HubSpot rejects the batch for one input without naming it, and written values identify the results.
fn strict(_: &mut Behaviour) {}

/// HubSpot rejects the batch for one input without naming it.
fn all_or_nothing(behaviour: &mut Behaviour) {
    behaviour.echo_trace_ids = true;
}

/// Errors and results have the trace ids of their inputs.
fn traced(behaviour: &mut Behaviour) {
    behaviour.property_errors_per_item = true;
    behaviour.echo_trace_ids = true;
}

/// Errors have the trace ids of their inputs, and written values identify the results.
fn untraced(behaviour: &mut Behaviour) {
    behaviour.property_errors_per_item = true;
}

#[tokio::test]
async fn invalid_input_is_isolated_with_a_bounded_number_of_calls() {
    let cases = [
        (strict as fn(&mut Behaviour), 3, 24 + 3 * 7),
        (all_or_nothing, 3, 24 + 3 * 7),
        (traced, 10, 1),
        (untraced, 10, 1),
    ];
    join_all(cases.map(|(behave, bad, most)| create(behave, bad, most))).await;
}

/// Creates leads, some of them invalid, in at most this many HubSpot calls.
async fn create(behave: fn(&mut Behaviour), bad: usize, most: usize) {
    let app = service(behave).await;
    let _closed = close(&app, "default", CALLS).await;
    app.hubspot.clear_log();
    let creates = (0..CALLS).map(|number| {
        let request = pb::CreateLeadRequest {
            properties: values(number, bad),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        let mut leads = app.leads.clone();
        async move { leads.create_lead(request).await }
    });
    let costs = check(join_all(creates).await, bad);
    let name = |input: &Value| input["properties"]["hs_lead_name"].as_str().map(str::to_owned);
    let (written, calls) = written(&app, name);
    assert!(calls <= most, "{bad}: {calls} of {most}");
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let spent = calls as f64;
    assert!((costs - spent).abs() < 0.01, "{costs} of {calls}");
    let mut names = app.hubspot.lead_names();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1 + CALLS - bad, "every good one is there");
    assert_eq!(app.hubspot.leads().len(), names.len(), "and none twice");
    // The invalid inputs may be in a batch of which only they fail.
    let twice = (0..CALLS).filter(|number| {
        !is_bad(*number, bad) && written.get(&format!("Lead {number}")) != Some(&1)
    });
    assert_eq!(twice.collect::<Vec<_>>(), Vec::<usize>::new(), "sent once with success");
}

#[tokio::test]
async fn isolation_cost_is_charged_to_the_inputs_of_each_part() {
    let app = service(all_or_nothing).await;
    let _closed = close(&app, "default", CALLS).await;
    let creates = (0..CALLS).map(|number| {
        let mut request = tonic::Request::new(pb::CreateLeadRequest {
            properties: values(number, 1),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        });
        // The first call is unrelated to the invalid one.
        let (caller, priority) =
            if number == 0 { ("web", "interactive") } else { ("import", "bulk") };
        request.metadata_mut().insert("leadsd-caller", caller.parse().unwrap());
        request.metadata_mut().insert("leadsd-priority", priority.parse().unwrap());
        let mut leads = app.leads.clone();
        async move { leads.create_lead(request).await }
    });
    check(join_all(creates).await, 1);
    let burst = buckets(&app, "default").await.remove(0);
    let used = |name: &str| {
        let own = burst.callers.iter().filter(|caller| caller.caller == name);
        own.map(|caller| caller.used).sum::<f64>()
    };
    assert!(used("web") < 2.0, "{} of {}", used("web"), used("import"));
    assert!(used("import") > 7.0, "{}", used("import"));
}
