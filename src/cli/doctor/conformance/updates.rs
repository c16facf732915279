//! Facts about updates and archives of single leads, and about merged leads.

use http::Method;
use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{NO_RECORD, TestAccount, Tried, summary},
};
use crate::hubspot::{ApiArea, RawRequest};

/// Tries updates of this lead.
pub(super) async fn of_lead(account: &TestAccount, seen: &mut Observations, id: &str) -> Tried<()> {
    let renamed = |what: &str| json!({"properties": {"hs_lead_name": account.name(what)}});
    let by_record = [("idProperty", "hs_object_id")];
    let answer = account.patch(id, &by_record, renamed("by record id")).await?;
    let is_accepted = json!(answer.status < 300);
    seen.switch(Fact::RecordIdProperty, answer.status == 400, is_accepted, summary(&answer));

    let answer = account.patch(id, &[], json!({"properties": {}})).await?;
    seen.note(Fact::EmptyUpdate, answer.status == 400, summary(&answer));
    let answer = account.patch(id, &[], json!({"properties": {"hs_object_id": "1"}})).await?;
    let code = &answer.body["errors"][0]["code"];
    let text = format!("{} {code}", answer.status);
    seen.note(Fact::ReadOnlyProperty, code == "READ_ONLY_VALUE", text);

    let mut traced = renamed("traced update");
    traced["objectWriteTraceId"] = json!("leadsd-2");
    let answer = account.patch(id, &[], traced).await?;
    seen.note(Fact::UpdateTraceId, answer.status < 300, summary(&answer));
    Ok(())
}

/// Archives this lead, and tries reads of it.
pub(super) async fn archive(account: &TestAccount, seen: &mut Observations, id: &str) -> Tried<()> {
    let unknown = account.delete(NO_RECORD).await?;
    let status = unknown.status;
    seen.switch(Fact::ArchiveOfUnknown, status == 204, json!(status), summary(&unknown));

    let modified = |body: &Value| body["properties"]["hs_lastmodifieddate"].clone();
    let selection = ("properties", "hs_lastmodifieddate");
    let before = account.get(id, &[selection]).await?;
    account.delete(id).await?;
    let live = account.get(id, &[selection]).await?;
    let archived = account.get(id, &[selection, ("archived", "true")]).await?;
    let text = format!("{} and {}", live.status, archived.status);
    seen.note(Fact::ArchivedRead, (live.status, archived.status) == (404, 200), text);
    let (before, after) = (modified(&before.body), modified(&archived.body));
    seen.note(Fact::ArchivedTime, before == after, format!("{before} and {after}"));
    Ok(())
}

/// Merges two leads if the API supports it, and tries the id of the merged one.
pub(super) async fn merge(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let (kept, lost) = (account.create("kept").await?, account.create("merged").await?);
    let body = json!({"primaryObjectId": kept, "objectIdToMerge": lost});
    let (method, area, path) = (Method::POST, ApiArea::LeadsBeta, "merge".to_owned());
    let request = RawRequest { method, area, path, query: Vec::new(), body: Some(body) };
    let merged = account.send(request).await;
    let reason = match merged {
        Ok(answer) if answer.status < 300 => None,
        Ok(answer) => Some(summary(&answer)),
        Err(reason) => Some(reason),
    };
    if let Some(reason) = reason {
        let reason = format!("2026-09-beta does not merge leads: {reason}");
        for fact in [Fact::MergedRead, Fact::MergedUpdate, Fact::MergedBatchRead] {
            seen.unknown(fact, reason.clone());
        }
        return Ok(());
    }
    let read = account.get(&lost, &[]).await?;
    let follows = read.body["id"].as_str() == Some(&*kept);
    seen.note(Fact::MergedRead, follows, format!("{} {}", read.status, read.body["id"]));
    let renamed = json!({"properties": {"hs_lead_name": account.name("merged update")}});
    let answer = account.patch(&lost, &[], renamed).await?;
    let follows = answer.status < 300;
    seen.switch(Fact::MergedUpdate, !follows, json!(follows), summary(&answer));
    let answer = account.post("batch/read", json!({"inputs": [{ "id": lost }]})).await?;
    let follows = answer.body["results"][0]["id"].as_str() == Some(&*kept);
    seen.switch(Fact::MergedBatchRead, follows, json!(follows), summary(&answer));
    Ok(())
}
