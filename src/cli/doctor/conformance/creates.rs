//! Facts about creates of single leads.

use http::Method;
use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{NO_RECORD, TestAccount, Tried, summary},
};
use crate::hubspot::{ApiArea, JsonResponse, RawRequest};

/// Tries creates that HubSpot accepts; returns the id of the lead.
pub(super) async fn accepted(account: &TestAccount, seen: &mut Observations) -> Tried<String> {
    let created = account.post("", account.lead("first")).await?;
    seen.note(Fact::CreateStatus, created.status == 201, summary(&created));
    let id = created.body["id"].as_str().map(str::to_owned);
    let id = id.ok_or_else(|| format!("cannot create a lead: {}", summary(&created)))?;

    let mut traced = account.lead("traced");
    traced["objectWriteTraceId"] = json!("leadsd-1");
    let created = account.post("", traced).await?;
    seen.note(Fact::CreateTraceId, created.status < 300, summary(&created));
    Ok(id)
}

/// Tries creates that HubSpot rejects.
pub(super) async fn rejected(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let mut bare = account.lead("without a contact");
    bare["associations"] = Value::Null;
    let answer = account.post("", bare).await?;
    accepts(seen, Fact::ContactRequired, &answer);
    company_only(account, seen).await?;

    let stranger = account.lead_of("of an unknown contact", NO_RECORD, 578);
    let answer = account.post("", stranger).await?;
    if [400, 404].contains(&answer.status) {
        let is_expected = answer.status == 400;
        seen.switch(Fact::UnknownContact, is_expected, json!(answer.status), summary(&answer));
    } else {
        seen.note(Fact::UnknownContact, false, summary(&answer));
    }

    let mut nameless = account.lead("");
    nameless["properties"] = json!({});
    let answer = account.post("", nameless).await?;
    // The older versions have a special shape; 2026-09 names all required properties alike.
    let in_context = answer.body["context"]["properties"].is_array();
    let in_errors = answer.body["errors"].is_array();
    let text = format!("{} in context: {in_context}, in errors: {in_errors}", answer.status);
    match (in_context, in_errors) {
        (false, false) => seen.note(Fact::MissingName, false, text),
        _ if account.is_modern() => seen.note(Fact::MissingName, in_errors, text),
        _ => seen.switch(Fact::MissingName, in_context, json!(in_context), text),
    }

    let answer = account.post("", with(account, "leadsd_no_such_property", "x")).await?;
    let error = &answer.body["errors"][0];
    let names_it = error["context"]["propertyName"][0] == "leadsd_no_such_property";
    let text = format!("{} {}", answer.status, error["code"]);
    seen.note(Fact::UnknownProperty, answer.status == 400 && names_it, text);

    let answer = account.post("", with(account, "hubspot_owner_id", NO_RECORD)).await?;
    accepts(seen, Fact::UnknownOwner, &answer);
    let odd = account.lead_of("with an unknown association type", account.contact(), 99_999);
    let answer = account.post("", odd).await?;
    seen.note(Fact::UnknownAssociationType, answer.status == 400, summary(&answer));
    Ok(())
}

/// Tries a create with a company alone, if the account has a company.
async fn company_only(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let (method, area, query) = (Method::GET, ApiArea::Companies, vec![("limit", "1".to_owned())]);
    let request = RawRequest { method, area, path: String::new(), query, body: None };
    let companies = match account.send(request).await {
        Ok(companies) => companies,
        Err(reason) => {
            seen.unknown(Fact::CompanyOnly, format!("companies cannot be read: {reason}"));
            return Ok(());
        }
    };
    let Some(company) = companies.body["results"][0]["id"].as_str() else {
        seen.unknown(Fact::CompanyOnly, "the account has no company");
        return Ok(());
    };
    let answer = account.post("", account.lead_of("of a company", company, 580)).await?;
    accepts(seen, Fact::CompanyOnly, &answer);
    Ok(())
}

/// Notes whether HubSpot accepts a request for which leadsd expects a 400.
fn accepts(seen: &mut Observations, fact: Fact, answer: &JsonResponse) {
    let is_accepted = json!(answer.status < 300);
    seen.switch(fact, answer.status == 400, is_accepted, summary(answer));
}

fn with(account: &TestAccount, property: &str, value: &str) -> Value {
    let mut lead = account.lead("invalid");
    lead["properties"][property] = json!(value);
    lead
}
