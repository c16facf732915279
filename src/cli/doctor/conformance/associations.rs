//! Facts about associations of leads.

use http::Method;
use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{NO_RECORD, TestAccount, Tried, list, summary},
};
use crate::hubspot::{ApiArea, JsonResponse, RawRequest};

/// Maximum number of inputs of a batch read of associations.
const MAX_INPUTS: usize = 1_000;

/// Maximum number of contacts that a lead is associated with: one more than the largest page.
const MAX_CONTACTS: usize = 501;

/// Tries associations of this lead, which has one contact and no company.
pub(super) async fn of_lead(account: &TestAccount, seen: &mut Observations, id: &str) -> Tried<()> {
    batch_reads(account, seen, id).await?;
    let contact = account.contact();
    let invalid = [link(id, contact), link(id, NO_RECORD)];
    let answer = change(account, "batch/create", &invalid).await?;
    let per_input = json!(answer.status < 300);
    seen.switch(Fact::AssociationErrors, answer.status >= 400, per_input, summary(&answer));

    // Beside the type of the primary contact.
    change(account, "batch/create", &[link(id, contact)]).await?;
    let lead = account.get(id, &[("associations", "contacts")]).await?;
    let entries = list(&lead.body["associations"]["contacts"]["results"]);
    let times = entries.filter(|entry| entry["id"].as_str() == Some(contact)).count();
    let text = format!("{times} times");
    if [1, 2].contains(&times) {
        seen.switch(Fact::AssociationTypes, times == 2, json!(times == 2), text);
    } else {
        seen.note(Fact::AssociationTypes, false, text);
    }
    pages(account, seen).await
}

/// Tries batch reads of associations.
async fn batch_reads(account: &TestAccount, seen: &mut Observations, id: &str) -> Tried<()> {
    let own = [json!({ "id": id })];
    let answer = change(account, "batch/read", &own).await?;
    let result = &answer.body["results"][0];
    let to = &result["to"][0]["toObjectId"];
    let to = to.as_str().map(str::to_owned).or_else(|| Some(to.as_u64()?.to_string()));
    let names_both =
        result["from"]["id"].as_str() == Some(id) && to.as_deref() == Some(account.contact());
    seen.note(Fact::AssociationRead, names_both, summary(&answer));
    let many: Vec<Value> =
        (0..=MAX_INPUTS).map(|n| json!({"id": format!("9999999{n:05}")})).collect();
    let answer = change(account, "batch/read", &many).await?;
    seen.note(Fact::AssociationBatchSize, answer.status == 400, summary(&answer));

    let answer = send(account, ApiArea::CompanyAssociations, "batch/read", &own).await?;
    let reports = list(&answer.body["errors"]).next().is_some();
    let is_empty = answer.body["results"][0]["to"].as_array().is_some_and(Vec::is_empty);
    let text = format!("{} error: {reports}, empty list: {is_empty}", answer.status);
    if reports || is_empty {
        seen.switch(Fact::MissingAssociations, reports, json!(reports), text);
    } else {
        seen.note(Fact::MissingAssociations, false, text);
    }
    Ok(())
}

/// Tries the pages of a lead that is associated with many contacts, if the account has them.
async fn pages(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let mut unknown = |reason: String| {
        for fact in [Fact::AssociationsShown, Fact::AssociationsPage] {
            seen.unknown(fact, reason.clone());
        }
        Ok(())
    };
    let contacts = match account.contacts(MAX_CONTACTS).await {
        Ok(contacts) => contacts,
        Err(reason) => return unknown(format!("contacts cannot be read: {reason}")),
    };
    let id = account.create("associations").await?;
    let ids = contacts.iter().filter_map(|contact| contact["id"].as_str());
    let others: Vec<Value> =
        ids.filter(|own| *own != account.contact()).map(|own| link(&id, own)).collect();
    if others.is_empty() {
        return unknown("the account has no further contact".to_owned());
    }
    let answer = change(account, "batch/create", &others).await?;
    if answer.status >= 300 || list(&answer.body["errors"]).next().is_some() {
        return unknown(format!("contacts cannot be associated: {}", summary(&answer)));
    }
    let lead = account.get(&id, &[("associations", "contacts")]).await?;
    let shown = &lead.body["associations"]["contacts"];
    page(seen, Fact::AssociationsShown, &shown["results"], &shown["paging"], 100);
    let read = change(account, "batch/read", &[json!({ "id": id })]).await?;
    let read = &read.body["results"][0];
    page(seen, Fact::AssociationsPage, &read["to"], &read["paging"], 500);
    Ok(())
}

/// Notes the size of a page. Without a cursor, the page may have had room for more.
pub(super) fn page(
    seen: &mut Observations,
    fact: Fact,
    records: &Value,
    paging: &Value,
    expected: usize,
) {
    let size = list(records).count();
    if paging["next"]["after"].is_string() {
        seen.switch(fact, size == expected, json!(size), format!("{size}, and a cursor"));
    } else if size > expected {
        // The largest page that was seen, which the fake can have as well.
        seen.switch(fact, false, json!(size), format!("at least {size}"));
    } else {
        seen.unknown(fact, format!("all {size} of the account are on one page"));
    }
}

/// Input that associates a lead with a contact.
fn link(id: &str, contact: &str) -> Value {
    let kind = json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 608});
    json!({"from": {"id": id}, "to": {"id": contact}, "types": [kind]})
}

/// Sends a batch of associations with contacts.
async fn change(account: &TestAccount, path: &str, inputs: &[Value]) -> Tried<JsonResponse> {
    send(account, ApiArea::ContactAssociations, path, inputs).await
}

async fn send(
    account: &TestAccount,
    area: ApiArea,
    path: &str,
    inputs: &[Value],
) -> Tried<JsonResponse> {
    let (path, body) = (path.to_owned(), Some(json!({ "inputs": inputs })));
    account.send(RawRequest { method: Method::POST, area, path, query: Vec::new(), body }).await
}
