//! Contacts and companies, reduced to what leads need.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    FakeAccount,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
};

/// Maximum number of records on a page.
const MAX_PAGE: usize = 100;

fn show(id: &str, properties: &Value) -> Value {
    json!({"id": id, "properties": properties, "createdAt": "2026-11-01T08:00:00.000Z",
           "updatedAt": "2026-11-01T08:00:00.000Z", "archived": false})
}

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves the object API of contacts and companies.
    pub(super) fn others(
        &mut self,
        object: &str,
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        if (object, request.method.as_str(), request.path.as_str()) == ("contacts", "POST", "") {
            let id = self.create_contact(&request.body["properties"])?;
            let own = json!(self.store.contacts[&id]);
            return Ok((StatusCode::CREATED, show(&id, &own)));
        }
        let id =
            if request.method == "POST" { self.store.next_id().to_string() } else { String::new() };
        let records =
            if object == "contacts" { &mut self.store.contacts } else { &mut self.store.companies };
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "") => {
                let limit = request.query.get("limit").map_or(Ok(10), |limit| limit.parse());
                let limit = limit.ok().filter(|limit| (1..=MAX_PAGE).contains(limit));
                let limit = limit.ok_or_else(|| Failure::validation("limit must be 1 to 100"))?;
                let after = request.query.get("after").and_then(|after| after.parse().ok());
                let number = |id: &String| id.parse::<u64>().unwrap_or(0);
                let mut rest: Vec<_> =
                    records.iter().filter(|(id, _)| number(id) > after.unwrap_or(0)).collect();
                rest.sort_by_key(|(id, _)| number(id));
                let next = rest.get(limit - 1).filter(|_| rest.len() > limit);
                let next = next.map(|(id, _)| (*id).clone());
                rest.truncate(limit);
                let results: Vec<Value> =
                    rest.into_iter().map(|(id, own)| show(id, &json!(own))).collect();
                let mut body = json!({ "results": results });
                if let Some(next) = next {
                    body["paging"] = json!({"next": {"after": next, "link": ""}});
                }
                Ok((StatusCode::OK, body))
            }
            ("GET", id) => {
                let own = records.get(id).ok_or_else(|| Failure::not_found(true))?;
                Ok((StatusCode::OK, show(id, &json!(own))))
            }
            ("POST", "") => {
                let properties =
                    request.body["properties"].as_object().cloned().unwrap_or_default();
                let texts = properties.iter().map(|(name, value)| {
                    (name.clone(), value.as_str().unwrap_or_default().to_owned())
                });
                records.insert(id.clone(), texts.collect());
                Ok((StatusCode::CREATED, show(&id, &Value::Object(properties))))
            }
            _ => Err(Failure::validation("no such call")),
        }
    }
}
