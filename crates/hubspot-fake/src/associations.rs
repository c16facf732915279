//! Association endpoints: of one lead, and batch reads.

use std::collections::{BTreeMap, BTreeSet};

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

/// Maximum number of inputs of a batch that makes associations, or removes types.
const MAX_CHANGES: usize = 2_000;

/// Maximum number of leads of a batch that removes associations.
const MAX_ARCHIVED: usize = 100;

/// Maximum number of records on a page of the associations of one lead, and its default.
const MAX_PAGE: usize = 500;

/// Association types of which a lead needs at least one: primary contact, company and deal.
const PRIMARY: [u64; 3] = [578, 580, 582];

/// Association labels that users have defined: object type and name, by association type id.
pub(super) type Labels = BTreeMap<u64, (&'static str, String)>;

/// Object types that leads may be associated with.
const OBJECTS: [&str; 11] = [
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
    "feedback_submissions",
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
        let (["default", to, _] | [to, ..]) = rest else {
            return Err(Failure::validation("no such call"));
        };
        check_object(to)?;
        match (request.method.as_str(), rest) {
            ("GET", [to]) => {
                let limit = request.query.get("limit").map_or(Ok(MAX_PAGE), |limit| limit.parse());
                let limit = limit.ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                let limit = limit.ok_or_else(|| Failure::validation("limit must be 1 to 500"))?;
                let after = request.query.get("after").map(String::as_str);
                let records = linked(&self.store.leads[&id], to, &self.store.labels);
                let (results, next) = page(records, after, limit)?;
                let mut body = json!({ "results": results });
                if let Some(next) = next {
                    body["paging"] = json!({"next": {"after": next, "link": ""}});
                }
                Ok((StatusCode::OK, body))
            }
            ("PUT", ["default", to, to_id]) => {
                let kind = unlabeled(to).ok_or_else(|| invalid_association(to_id))?;
                let kind =
                    json!({"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": kind});
                self.link(id, to_id, &[kind])?;
                Ok((StatusCode::OK, json!({"status": "COMPLETE", "results": []})))
            }
            ("PUT", [to, to_id]) => {
                let kinds = request.body.as_array().into_iter().flatten();
                let kinds: Vec<Value> = kinds.cloned().collect();
                self.link(id, to_id, &kinds)?;
                let body = json!({"fromObjectTypeId": "0-136", "fromObjectId": id,
                    "toObjectTypeId": plural(to), "toObjectId": to_id, "labels": []});
                Ok((StatusCode::CREATED, body))
            }
            ("DELETE", [to, to_id]) => {
                self.unlink(id, plural(to), to_id, None);
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
        check_object(to)?;
        match (request.method.as_str(), call) {
            ("GET", "labels") => {
                let kinds: &[u64] = match plural(to) {
                    "contacts" => &[578, 608],
                    "companies" => &[580, 610],
                    _ => &[],
                };
                let defined = self.store.labels.iter();
                let defined = defined.filter(|(_, (object, _))| *object == plural(to));
                let kinds = kinds.iter().chain(defined.map(|(id, _)| id));
                let labels: Vec<Value> = kinds.map(|id| label(*id, &self.store.labels)).collect();
                Ok((StatusCode::OK, json!({ "results": labels })))
            }
            ("POST", "batch/read") => self.read_associations(to, request),
            ("POST", "batch/create") => self.create_associations(to, request),
            ("POST", "batch/archive") => self.archive_associations(to, request),
            ("POST", "batch/labels/archive") => self.archive_types(to, request),
            _ => Err(Failure::validation("no such call")),
        }
    }

    fn read_associations(&self, to: &str, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        let inputs = request.body["inputs"].as_array().cloned().unwrap_or_default();
        if inputs.is_empty() || inputs.len() > MAX_INPUTS {
            return Err(Failure::validation(format!("1 to {MAX_INPUTS} inputs are allowed")));
        }
        let mut results = Vec::new();
        let mut missing = Vec::new();
        let mut unassociated = Vec::new();
        for input in &inputs {
            let id = input["id"].as_str().unwrap_or_default();
            let Some(lead) = self.store.find(id, None, false) else {
                missing.push(id.to_owned());
                continue;
            };
            if self.behaviour.report_missing_associations
                && linked(lead, to, &self.store.labels).is_empty()
            {
                unassociated.push(id.to_owned());
                continue;
            }
            let after = input["after"].as_str();
            let limit = self.behaviour.associations_page;
            let (records, next) = page(linked(lead, to, &self.store.labels), after, limit)?;
            let mut result = json!({"from": {"id": id}, "to": records});
            if let Some(next) = next {
                result["paging"] = json!({"next": {"after": next, "link": ""}});
            }
            results.push(result);
        }
        let mut body = json!({"status": "COMPLETE", "results": results});
        let mut errors: Vec<Value> = unassociated
            .iter()
            .map(|id| Failure::no_associations(id, to).into_item(None))
            .collect();
        if !missing.is_empty() {
            errors.push(Failure::items_not_found(&missing).into_item(None));
        }
        if errors.is_empty() {
            return Ok((StatusCode::OK, body));
        }
        body["numErrors"] = json!(errors.len());
        body["errors"] = json!(errors);
        Ok((StatusCode::MULTI_STATUS, body))
    }

    fn create_associations(
        &mut self,
        to: &str,
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        let mut valid = Vec::new();
        let mut failures = Vec::new();
        for input in inputs(request, MAX_CHANGES)? {
            let (lead, to_id, kinds) = change(input);
            let found = self.store.find(lead, None, false).map(|lead| lead.id);
            let is_known = |kind: &Value| {
                let object = association_type(kind, &self.store.labels).map(|(_, object)| object);
                let object = object.filter(|object| *object == plural(to));
                object.and_then(|object| self.store.associable(object, to_id)).is_some()
            };
            match found {
                None => failures.push(Failure::no_association_source(lead)),
                Some(_) if kinds.is_empty() || !kinds.iter().all(is_known) => {
                    failures.push(invalid_association(to_id));
                }
                Some(id) => valid.push((id, to_id, kinds)),
            }
        }
        if !self.behaviour.association_errors_per_item
            && let Some(failure) = failures.pop()
        {
            return Err(failure);
        }
        let mut results = Vec::new();
        for (id, to_id, kinds) in valid {
            self.link(id, to_id, kinds)?;
            results.push(json!({"fromObjectId": id.to_string(), "toObjectId": to_id}));
        }
        let mut body = json!({"status": "COMPLETE", "results": results});
        if failures.is_empty() {
            return Ok((StatusCode::CREATED, body));
        }
        body["numErrors"] = json!(failures.len());
        body["errors"] = failures.into_iter().map(|failure| failure.into_item(None)).collect();
        Ok((StatusCode::MULTI_STATUS, body))
    }

    /// Removes associations with all of their types. Unknown ones are ignored.
    fn archive_associations(
        &mut self,
        to: &str,
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        let inputs = inputs(request, MAX_ARCHIVED)?;
        let lead = |input: &Value| input["from"]["id"].as_str().unwrap_or_default().to_owned();
        let leads: Vec<String> = inputs.iter().map(lead).collect();
        let distinct: BTreeSet<&String> = leads.iter().collect();
        if distinct.len() < leads.len() {
            return Err(Failure::duplicate_ids(&leads));
        }
        for (lead, input) in leads.iter().zip(inputs) {
            let Some(id) = self.store.find(lead, None, false).map(|lead| lead.id) else { continue };
            for record in input["to"].as_array().into_iter().flatten() {
                self.unlink(id, plural(to), record["id"].as_str().unwrap_or_default(), None);
            }
        }
        Ok((StatusCode::NO_CONTENT, Value::Null))
    }

    /// Removes types of associations. Unknown ones are ignored.
    fn archive_types(&mut self, to: &str, request: &FakeRequest) -> Result<FakeResponse, Failure> {
        for input in inputs(request, MAX_CHANGES)? {
            let (lead, to_id, kinds) = change(input);
            let id = |kind: &Value| association_type(kind, &self.store.labels).map(|(id, _)| id);
            let kinds: Vec<u64> = kinds.iter().filter_map(id).collect();
            if let Some(id) = self.store.find(lead, None, false).map(|lead| lead.id) {
                self.unlink(id, plural(to), to_id, Some(&kinds));
            }
        }
        Ok((StatusCode::NO_CONTENT, Value::Null))
    }

    pub(super) fn link(&mut self, id: u64, to_id: &str, kinds: &[Value]) -> Result<(), Failure> {
        for kind in kinds {
            let kind = association_type(kind, &self.store.labels);
            let object = kind.and_then(|(_, object)| self.store.associable(object, to_id));
            let (Some((kind, _)), Some(object)) = (kind, object) else {
                return Err(invalid_association(to_id));
            };
            if let Some(lead) = self.store.leads.get_mut(&id) {
                let link = (object, to_id.to_owned(), kind);
                if !lead.associations.contains(&link) {
                    lead.associations.push(link);
                }
            }
        }
        Ok(())
    }

    /// Removes associations. A lead without a primary association moves to the recycle bin.
    fn unlink(&mut self, id: u64, object: &str, to_id: &str, kinds: Option<&[u64]>) {
        let now = self.clock.now();
        let Some(lead) = self.store.leads.get_mut(&id) else { return };
        let primary =
            |lead: &StoredLead| lead.associations.iter().any(|(.., kind)| PRIMARY.contains(kind));
        let had = primary(lead);
        lead.associations.retain(|(own, own_id, kind)| {
            let is_removed = kinds.is_none_or(|kinds| kinds.contains(kind));
            *own != object || own_id != to_id || !is_removed
        });
        if had && !primary(lead) {
            lead.archived.get_or_insert(now);
        }
    }
}

/// Errors if there is no such object type.
pub(super) fn check_object(name: &str) -> Result<(), Failure> {
    if OBJECTS.contains(&plural(name)) { Ok(()) } else { Err(Failure::unknown_object(name)) }
}

/// Id and object type of an association type in a request. A number means another type in each category.
pub(super) fn association_type(kind: &Value, labels: &Labels) -> Option<(u64, &'static str)> {
    let id = kind["associationTypeId"].as_u64()?;
    let object = match kind["associationCategory"].as_str()? {
        "HUBSPOT_DEFINED" => match id {
            578 | 608 => "contacts",
            580 | 610 => "companies",
            _ => return None,
        },
        "USER_DEFINED" => labels.get(&id)?.0,
        // Other apps and account types define those.
        _ => return None,
    };
    Some((id, object))
}

/// Association type without a label, to the objects that the fake stores.
fn unlabeled(to: &str) -> Option<u64> {
    match plural(to) {
        "contacts" => Some(608),
        "companies" => Some(610),
        _ => None,
    }
}

fn invalid_association(to_id: &str) -> Failure {
    Failure::association("One or more associations are invalid", to_id)
}

/// Inputs of a batch.
fn inputs(request: &FakeRequest, max: usize) -> Result<&[Value], Failure> {
    let inputs = request.body["inputs"].as_array().map(Vec::as_slice).unwrap_or_default();
    if inputs.is_empty() || inputs.len() > max {
        return Err(Failure::validation(format!("1 to {max} inputs are allowed")));
    }
    Ok(inputs)
}

/// Lead, record and association types of an input.
fn change(input: &Value) -> (&str, &str, &[Value]) {
    let id = |key: &str| input[key]["id"].as_str().unwrap_or_default();
    let kinds = input["types"].as_array().map(Vec::as_slice).unwrap_or_default();
    (id("from"), id("to"), kinds)
}

/// A page of records in the order of their ids, from the one that the cursor names, and the cursor of the
/// next page. A record that was removed since is no longer there; the page starts behind it.
fn page(
    mut records: Vec<Value>,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let number =
        |record: &Value| record["toObjectId"].as_str().and_then(|id| id.parse::<u64>().ok());
    records.sort_by_key(number);
    if let Some(after) = after {
        let after: u64 =
            after.parse().map_err(|_| Failure::validation("The cursor is not one of this list"))?;
        records.retain(|record| number(record) >= Some(after));
    }
    let next = records.get(limit).and_then(|record| record["toObjectId"].as_str());
    let next = next.map(str::to_owned);
    records.truncate(limit);
    Ok((records, next))
}

/// Records of this type that a lead is associated with, each with its association types.
fn linked(lead: &StoredLead, to: &str, labels: &Labels) -> Vec<Value> {
    let mut out: Vec<(String, Vec<Value>)> = Vec::new();
    for (_, id, kind) in lead.associations.iter().filter(|(own, ..)| *own == plural(to)) {
        let kind = label(*kind, labels);
        match out.iter_mut().find(|(known, _)| known == id) {
            Some((_, kinds)) => kinds.push(kind),
            None => out.push((id.clone(), vec![kind])),
        }
    }
    let show =
        |(id, kinds): (String, Vec<Value>)| json!({ "toObjectId": id, "associationTypes": kinds });
    out.into_iter().map(show).collect()
}

/// An association type as HubSpot shows it.
fn label(kind: u64, labels: &Labels) -> Value {
    if let Some((_, name)) = labels.get(&kind) {
        return json!({"category": "USER_DEFINED", "typeId": kind, "label": name});
    }
    let label = PRIMARY.contains(&kind).then_some("Primary");
    json!({"category": "HUBSPOT_DEFINED", "typeId": kind, "label": label})
}
