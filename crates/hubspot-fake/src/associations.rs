//! Association endpoints: of one lead, and batch reads.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    AccessToken, FakeAccount, READ, WRITE,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
    lead::StoredLead,
    schema::plural,
};

/// Maximum number of inputs of a batch read.
const MAX_INPUTS: usize = 1_000;

/// Association types of which a lead needs at least one: primary contact, company and deal.
const PRIMARY: [u64; 3] = [578, 580, 582];

/// Object types that leads may be associated with.
const OBJECTS: [&str; 10] = [
    "contacts",
    "companies",
    "deals",
    "tickets",
    "calls",
    "emails",
    "meetings",
    "notes",
    "tasks",
    "communications",
];

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves `{id}/associations/{toType}` and paths below.
    pub(super) fn lead_associations(
        &mut self,
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        let segments: Vec<&str> = request.path.split('/').collect();
        let [id, "associations", rest @ ..] = segments.as_slice() else {
            return Err(Failure::validation("no such call"));
        };
        let id = self.store.find(id, None, false).map(|lead| lead.id);
        let id = id.ok_or_else(|| self.not_found())?;
        match (request.method.as_str(), rest) {
            ("GET", [to]) => {
                let results = linked(&self.store.leads[&id], to);
                Ok((StatusCode::OK, json!({ "results": results })))
            }
            ("PUT", ["default", to, to_id]) => {
                let kind = if plural(to) == "contacts" { 608 } else { 610 };
                self.link(id, to_id, &[kind])?;
                Ok((StatusCode::OK, json!({"status": "COMPLETE", "results": []})))
            }
            ("PUT", [to, to_id]) => {
                let kinds = request.body.as_array().into_iter().flatten();
                let kinds: Vec<u64> =
                    kinds.filter_map(|kind| kind["associationTypeId"].as_u64()).collect();
                self.link(id, to_id, &kinds)?;
                let body = json!({"fromObjectTypeId": "0-136", "fromObjectId": id,
                    "toObjectTypeId": plural(to), "toObjectId": to_id, "labels": []});
                Ok((StatusCode::CREATED, body))
            }
            ("DELETE", [to, to_id]) => {
                self.unlink(id, plural(to), to_id);
                Ok((StatusCode::NO_CONTENT, Value::Null))
            }
            _ => Err(Failure::validation("no such call")),
        }
    }

    /// Serves `leads/{toType}/...` of the associations API.
    pub(super) fn associations(
        &mut self,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        let (to, call) = request.path.split_once('/').unwrap_or_default();
        let scope = if request.method == "GET" || call == "batch/read" { READ } else { WRITE };
        if !token.scopes.iter().any(|own| own == scope) {
            return Err(Failure::missing_scope(scope, self.behaviour.scopes_on_top));
        }
        match (request.method.as_str(), call) {
            ("GET", "labels") => {
                let kinds: &[(u64, &str)] = match plural(to) {
                    "contacts" => &[(578, "Primary"), (608, "")],
                    _ => &[(580, "Primary"), (610, "")],
                };
                let labels: Vec<Value> = kinds.iter().map(|(id, name)| label(*id, name)).collect();
                Ok((StatusCode::OK, json!({ "results": labels })))
            }
            ("POST", "batch/read") => self.read_associations(to, request),
            _ => Err(Failure::validation("no such call")),
        }
    }

    fn read_associations(&self, to: &str, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        if !OBJECTS.contains(&plural(to)) {
            return Err(Failure::unknown_object(to));
        }
        let inputs = request.body["inputs"].as_array().cloned().unwrap_or_default();
        if inputs.is_empty() || inputs.len() > MAX_INPUTS {
            return Err(Failure::validation(format!("1 to {MAX_INPUTS} inputs are allowed")));
        }
        let mut results = Vec::new();
        let mut missing = Vec::new();
        for input in &inputs {
            let id = input["id"].as_str().unwrap_or_default();
            let Some(lead) = self.store.find(id, None, false) else {
                missing.push(id.to_owned());
                continue;
            };
            // The cursor is the number of records returned so far.
            let after: usize =
                input["after"].as_str().and_then(|after| after.parse().ok()).unwrap_or(0);
            let all = linked(lead, to);
            let end = after.saturating_add(self.behaviour.associations_page);
            let mut result = json!({"from": {"id": id}});
            result["to"] = all.iter().take(end).skip(after).cloned().collect();
            if end < all.len() {
                result["paging"] = json!({"next": {"after": end.to_string(), "link": ""}});
            }
            results.push(result);
        }
        let mut body = json!({"status": "COMPLETE", "results": results});
        if missing.is_empty() {
            return Ok((StatusCode::OK, body));
        }
        body["numErrors"] = json!(1);
        body["errors"] = json!([Failure::items_not_found(&missing).into_item(None)]);
        Ok((StatusCode::MULTI_STATUS, body))
    }

    pub(super) fn link(&mut self, id: u64, to_id: &str, kinds: &[u64]) -> Result<(), Failure> {
        for kind in kinds {
            let object = self.store.associable(*kind, to_id);
            let Some(object) = object else {
                return Err(Failure::association("One or more associations are invalid", to_id));
            };
            if let Some(lead) = self.store.leads.get_mut(&id) {
                let link = (object, to_id.to_owned(), *kind);
                if !lead.associations.contains(&link) {
                    lead.associations.push(link);
                }
            }
        }
        Ok(())
    }

    /// Removes associations. A lead without a primary association moves to the recycle bin.
    fn unlink(&mut self, id: u64, object: &str, to_id: &str) {
        let now = self.clock.now();
        let Some(lead) = self.store.leads.get_mut(&id) else { return };
        let primary =
            |lead: &StoredLead| lead.associations.iter().any(|(.., kind)| PRIMARY.contains(kind));
        let had = primary(lead);
        lead.associations.retain(|(own, own_id, _)| *own != object || own_id != to_id);
        if had && !primary(lead) {
            lead.archived.get_or_insert(now);
        }
    }
}

/// Records of this type that a lead is associated with, each with its association types.
fn linked(lead: &StoredLead, to: &str) -> Vec<Value> {
    let mut out: Vec<(String, Vec<Value>)> = Vec::new();
    for (_, id, kind) in lead.associations.iter().filter(|(own, ..)| *own == plural(to)) {
        let kind = label(*kind, if PRIMARY.contains(kind) { "Primary" } else { "" });
        match out.iter_mut().find(|(known, _)| known == id) {
            Some((_, kinds)) => kinds.push(kind),
            None => out.push((id.clone(), vec![kind])),
        }
    }
    let show =
        |(id, kinds): (String, Vec<Value>)| json!({ "toObjectId": id, "associationTypes": kinds });
    out.into_iter().map(show).collect()
}

fn label(kind: u64, name: &str) -> Value {
    let label = (!name.is_empty()).then_some(name);
    json!({"category": "HUBSPOT_DEFINED", "typeId": kind, "label": label})
}
