//! Facts about unique properties and upserts.

use http::Method;
use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{TestAccount, Tried, summary},
};

/// Tries unique values. Without a property for them, the facts stay unknown.
pub(super) async fn values(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let Some(property) = unique_property(account, seen).await? else { return Ok(()) };
    let value = format!("Key-{}", account.mark());
    let with_value = |what: &str| {
        let mut lead = account.lead(what);
        lead["properties"][&property] = json!(value);
        lead
    };
    let first = account.post("", with_value("unique")).await?;
    let Some(id) = first.body["id"].as_str() else {
        return Err(format!("cannot create a lead with a unique value: {}", summary(&first)));
    };
    let clash = account.post("", with_value("clash")).await?;
    let status = clash.status;
    if [400, 409].contains(&status) {
        seen.switch(Fact::UniqueClash, status == 400, json!(status), summary(&clash));
    } else {
        seen.note(Fact::UniqueClash, false, summary(&clash));
    }
    let names_it = clash.body.to_string().contains(id);
    seen.note(Fact::ExistingId, names_it, summary(&clash));
    let read = json!({"inputs": [{"id": value.to_uppercase()}], "idProperty": property,
                      "properties": [property]});
    let read = account.post("batch/read", read).await?;
    let finds = read.body["results"][0]["id"].as_str() == Some(id);
    seen.note(Fact::UniqueCase, finds, summary(&read));
    upserts(account, seen, &property, (id, &value)).await
}

/// Tries HubSpot's upsert with a new value and with that of `existing`.
async fn upserts(
    account: &TestAccount,
    seen: &mut Observations,
    property: &str,
    (id, value): (&str, &str),
) -> Tried<()> {
    let input = |key: &str, id_property: Option<&str>| {
        let properties = json!({"hs_lead_name": account.name("upsert")});
        let mut input =
            json!({"id": key, "properties": properties, "objectWriteTraceId": "upsert-1"});
        if let Some(name) = id_property {
            input["idProperty"] = json!(name);
        }
        json!({ "inputs": [input] })
    };
    let new = format!("New-{}", account.mark());
    let answer = account.post("batch/upsert", input(&new, Some(property))).await?;
    let created = answer.body["results"][0]["id"].is_string();
    seen.switch(Fact::UpsertOfNew, !created, json!(created), summary(&answer));

    let answer = account.post("batch/upsert", input(value, Some(property))).await?;
    let result = &answer.body["results"][0];
    let updated = result["id"].as_str() == Some(id) && result["new"] == Value::Bool(false);
    seen.note(Fact::UpsertOfExisting, updated, format!("{} {}", answer.status, result["new"]));

    let answer = account.post("batch/upsert", input(id, None)).await?;
    let is_accepted = json!(answer.status < 300);
    seen.switch(Fact::UpsertWithoutProperty, answer.status == 400, is_accepted, summary(&answer));
    Ok(())
}

/// A property of leads with unique values: one that exists, or else a new one.
async fn unique_property(account: &TestAccount, seen: &mut Observations) -> Tried<Option<String>> {
    let all = account.properties(Method::GET, "", None).await?;
    let all = all.body["results"].as_array().cloned().unwrap_or_default();
    let is_usable = |property: &&Value| {
        property["hasUniqueValue"] == true
            && property["type"] == "string"
            && property["modificationMetadata"]["readOnlyValue"] != true
    };
    if let Some(name) = all.iter().find(is_usable).and_then(|property| property["name"].as_str()) {
        seen.note(Fact::UniqueProperty, true, format!("{name} has unique values"));
        return Ok(Some(name.to_owned()));
    }
    let name = format!("leadsd_conformance_{}", account.mark());
    let group = all.iter().find_map(|property| property["groupName"].as_str());
    let definition = json!({"name": name, "label": "leadsd conformance", "type": "string",
        "fieldType": "text", "groupName": group, "hasUniqueValue": true});
    let created = match account.properties(Method::POST, "", Some(definition)).await {
        Ok(created) => created,
        Err(reason) => {
            let text = format!("no unique property exists, and creating one failed: {reason}");
            seen.unknown(Fact::UniqueProperty, text);
            return Ok(None);
        }
    };
    if created.status < 300 {
        account.remember_property(&name);
    }
    let is_unique = created.status < 300 && created.body["hasUniqueValue"] == true;
    seen.note(Fact::UniqueProperty, is_unique, summary(&created));
    Ok(is_unique.then_some(name))
}
