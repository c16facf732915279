//! Contacts and companies, reduced to what leads need.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    FakeAccount,
    errors::Failure,
    http::{FakeRequest, FakeResponse},
};

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
                let results: Vec<Value> =
                    records.iter().map(|(id, own)| show(id, &json!(own))).collect();
                Ok((StatusCode::OK, json!({ "results": results })))
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
