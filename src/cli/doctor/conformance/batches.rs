//! Facts about batches of leads.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{NO_RECORD, TestAccount, Tried, summary},
};
use crate::hubspot::JsonResponse;

/// Another id of no record.
const NO_OTHER_RECORD: &str = "999999999998";

/// Maximum number of inputs of a batch.
const MAX_INPUTS: usize = 100;

/// Tries batch creates; returns the ids of two leads.
pub(super) async fn create(account: &TestAccount, seen: &mut Observations) -> Tried<[String; 2]> {
    let traced = |what: &str| {
        let mut input = account.lead(what);
        input["objectWriteTraceId"] = json!(what);
        input
    };
    let inputs = json!({"inputs": [traced("batch-1"), traced("batch-2")]});
    let made = account.post("batch/create", inputs).await?;
    let status = made.status;
    seen.switch(Fact::BatchCreateStatus, status == 201, json!(status), summary(&made));
    let results = results(&made);
    let traces: BTreeSet<&str> =
        results.iter().filter_map(|lead| lead["objectWriteTraceId"].as_str()).collect();
    let echoes = traces == BTreeSet::from(["batch-1", "batch-2"]);
    seen.switch(Fact::EchoedTraceIds, traces.is_empty(), json!(echoes), format!("{traces:?}"));
    let shows = |lead: &Value| lead["properties"]["hs_lead_name"].is_string();
    let shows = !results.is_empty() && results.iter().all(shows);
    seen.switch(Fact::ShownProperties, shows, json!(shows), format!("with the name: {shows}"));
    let ids: Vec<String> =
        results.iter().filter_map(|lead| lead["id"].as_str().map(str::to_owned)).collect();
    let ids = <[String; 2]>::try_from(ids);
    let ids = ids.map_err(|_| format!("a batch create failed: {}", summary(&made)))?;

    let mut bad = traced("batch-4");
    bad["properties"]["leadsd_no_such_property"] = json!("x");
    let partial = json!({"inputs": [traced("batch-3"), bad.clone()]});
    let answer = account.post("batch/create", partial).await?;
    let per_input = answer.status < 300;
    let text = summary(&answer);
    seen.switch(Fact::PropertyErrors, !per_input, json!(per_input), text);

    bad["objectWriteTraceId"] = Value::Null;
    let untraced = json!({"inputs": [account.lead("batch-5"), bad]});
    let answer = account.post("batch/create", untraced).await?;
    seen.note(Fact::AtomicBatch, answer.status >= 400, summary(&answer));
    Ok(ids)
}

/// Tries batch reads, updates and archives of these leads.
pub(super) async fn of_leads(
    account: &TestAccount,
    seen: &mut Observations,
    [first, second]: &[String; 2],
) -> Tried<()> {
    let ids = |ids: &[&str]| -> Value {
        let inputs: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        json!({ "inputs": inputs })
    };
    let read = account.post("batch/read", ids(&[first, NO_RECORD, NO_OTHER_RECORD])).await?;
    partial(seen, &read);
    let many: Vec<String> = (0..=MAX_INPUTS).map(|n| format!("9999999{n:05}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answer = account.post("batch/read", ids(&many)).await?;
    seen.note(Fact::BatchSize, answer.status == 400, summary(&answer));

    let renamed = |id: &str, trace: &str| {
        json!({"id": id, "objectWriteTraceId": trace,
               "properties": {"hs_lead_name": account.name("batch update")}})
    };
    let inputs = json!({"inputs": [renamed(first, "a"), renamed(NO_RECORD, "b")]});
    let answer = account.post("batch/update", inputs).await?;
    let updated = results(&answer).iter().any(|lead| lead["id"].as_str() == Some(first));
    seen.note(Fact::UpdateOfUnknown, answer.status < 300 && updated, summary(&answer));
    let inputs = json!({"inputs": [renamed(second, "a"), renamed(second, "b")]});
    let answer = account.post("batch/update", inputs).await?;
    seen.note(Fact::DuplicateIds, answer.status == 400, summary(&answer));

    let answer = account.post("batch/archive", ids(&[NO_RECORD])).await?;
    let reports = answer.body["errors"].as_array().is_some_and(|errors| !errors.is_empty())
        || answer.status >= 400;
    seen.switch(Fact::BatchArchiveOfUnknown, !reports, json!(reports), summary(&answer));
    Ok(())
}

/// Notes the shape of a batch response with errors of two inputs.
fn partial(seen: &mut Observations, read: &JsonResponse) {
    let errors = read.body["errors"].as_array().cloned().unwrap_or_default();
    if errors.is_empty() {
        for fact in [Fact::PartialStatus, Fact::NumErrors, Fact::NamedInputs] {
            seen.note(fact, false, format!("no errors: {}", summary(read)));
        }
        return;
    }
    let status = read.status;
    seen.switch(Fact::PartialStatus, status == 207, json!(status), status.to_string());
    let count = read.body["numErrors"].as_u64();
    let entries = u64::try_from(errors.len()).ok();
    let text = format!("{count:?} with {} entries for 2 inputs", errors.len());
    let value = match count {
        None => "absent",
        Some(_) if count == entries => "entries",
        Some(_) => "inputs",
    };
    seen.switch(Fact::NumErrors, value == "entries", json!(value), text);
    let named = errors.iter().flat_map(|error| error["context"]["ids"].as_array()).flatten();
    let named: Vec<&str> = named.filter_map(Value::as_str).collect();
    let names_all = [NO_RECORD, NO_OTHER_RECORD].iter().all(|id| named.contains(id));
    seen.switch(Fact::NamedInputs, names_all, json!(names_all), format!("{named:?}"));
}

fn results(answer: &JsonResponse) -> Vec<Value> {
    answer.body["results"].as_array().cloned().unwrap_or_default()
}
