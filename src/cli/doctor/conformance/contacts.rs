//! Facts about contacts and owners, and about missing scopes.

use http::Method;
use serde_json::{Value, json};

use super::{
    Fact, Observations,
    account::{TestAccount, Tried, list, summary},
    associations::page,
};
use crate::hubspot::{ApiArea, JsonResponse, RawRequest};

/// Maximum number of contacts that are searched for one with further addresses.
const MAX_CONTACTS: usize = 100;

/// Tries batch reads of contacts by e-mail address. Without the scope, the facts stay unknown.
pub(super) async fn by_address(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    let address = format!("unknown-{}@example.com", account.mark());
    match find(account, &address).await {
        Ok(answer) if answer.status < 300 => {
            let is_left_out = list(&answer.body["errors"]).next().is_none();
            let text = format!("{} error: {}", answer.status, !is_left_out);
            seen.switch(Fact::UnknownAddress, !is_left_out, json!(is_left_out), text);
        }
        Ok(answer) => seen.note(Fact::UnknownAddress, false, summary(&answer)),
        Err(reason) => {
            for fact in [Fact::UnknownAddress, Fact::FurtherAddress] {
                seen.unknown(fact, format!("contacts cannot be read: {reason}"));
            }
            return Ok(());
        }
    }
    let contacts = account.contacts(MAX_CONTACTS).await?;
    let further = contacts.iter().find_map(|contact| {
        let addresses = contact["properties"]["hs_additional_emails"].as_str()?;
        let address = addresses.split(';').map(str::trim).find(|address| !address.is_empty())?;
        Some((contact["id"].as_str()?, address))
    });
    let Some((id, address)) = further else {
        let reason = format!("none of {} contacts has a further address", contacts.len());
        seen.unknown(Fact::FurtherAddress, reason);
        return Ok(());
    };
    let answer = find(account, address).await?;
    let is_found = answer.body["results"][0]["id"].as_str() == Some(id);
    let text = format!("{} found: {is_found}", answer.status);
    seen.switch(Fact::FurtherAddress, !is_found, json!(is_found), text);
    Ok(())
}

/// Tries a page of owners.
pub(super) async fn owners(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    match read(account, ApiArea::Owners, "500").await {
        Ok(answer) if answer.status < 300 => {
            page(seen, Fact::OwnersPage, &answer.body["results"], &answer.body["paging"], 500);
        }
        Ok(answer) => seen.note(Fact::OwnersPage, false, summary(&answer)),
        Err(reason) => {
            seen.unknown(Fact::OwnersPage, format!("owners cannot be read: {reason}"));
        }
    }
    Ok(())
}

/// Tries a read that needs a scope which leadsd does not use.
pub(super) async fn scopes(account: &TestAccount, seen: &mut Observations) -> Tried<()> {
    // An error is the expected response.
    let _ = read(account, ApiArea::Deals, "1").await;
    match account.names_scopes_on_top() {
        Some(on_top) => {
            let text = if on_top { "at the top level" } else { "in errors" };
            seen.switch(Fact::ScopeErrors, !on_top, json!(on_top), text);
        }
        None => seen.unknown(Fact::ScopeErrors, "no call failed for a missing scope"),
    }
    Ok(())
}

async fn read(account: &TestAccount, area: ApiArea, limit: &str) -> Tried<JsonResponse> {
    let query = vec![("limit", limit.to_owned())];
    let request = RawRequest { method: Method::GET, area, path: String::new(), query, body: None };
    account.send(request).await
}

/// Reads a contact by e-mail address.
async fn find(account: &TestAccount, address: &str) -> Tried<JsonResponse> {
    let body: Value = json!({"inputs": [{"id": address}], "idProperty": "email",
                             "properties": ["email", "hs_additional_emails"]});
    let (area, path) = (ApiArea::Contacts, "batch/read".to_owned());
    let (method, query) = (Method::POST, Vec::new());
    account.send(RawRequest { method, area, path, query, body: Some(body) }).await
}
