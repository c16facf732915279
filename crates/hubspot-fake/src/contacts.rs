//! Contacts by e-mail address: batch reads and creates.

use std::collections::{BTreeMap, HashMap};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    AccessToken, CONTACTS_READ, CONTACTS_WRITE, FakeAccount,
    batch::{BatchOutcome, all_traced, id_of, trace_of},
    errors::Failure,
    http::{FakeRequest, FakeResponse, strings},
};

/// Property with the address.
const EMAIL: &str = "email";

/// Property with further addresses, separated by semicolons.
const FURTHER: &str = "hs_additional_emails";

/// Properties that are shown by default.
const SHOWN: [&str; 4] = ["email", "firstname", "hs_object_id", "lastname"];

// === impl FakeAccount ===

impl FakeAccount {
    /// Serves the batches of contacts.
    pub(super) fn contacts_batch(
        &mut self,
        request: &FakeRequest,
        token: &AccessToken,
    ) -> Result<FakeResponse, Failure> {
        let is_read = request.path == "batch/read";
        let scope = if is_read { CONTACTS_READ } else { CONTACTS_WRITE };
        if !token.scopes.iter().any(|own| own == scope) {
            return Err(Failure::missing_scope(scope, self.behaviour.scopes_on_top));
        }
        let inputs = Self::batch_inputs(request)?;
        match request.path.as_str() {
            "batch/read" => self.read_contacts(&inputs, request),
            "batch/create" => self.create_contacts(&inputs),
            _ => Err(Failure::validation("no such batch")),
        }
    }

    fn read_contacts(
        &mut self,
        inputs: &[Value],
        request: &FakeRequest,
    ) -> Result<FakeResponse, Failure> {
        let by_email = match request.body["idProperty"].as_str() {
            None => None,
            Some(EMAIL) => Some(self.contacts_by_email()),
            Some(other) => {
                return Err(Failure::validation(format!("property {other} is not unique")));
            }
        };
        let shown = strings(&request.body["properties"]);
        let (mut done, mut missing) = (BatchOutcome::default(), Vec::new());
        for input in inputs {
            let given = id_of(input);
            let id = match &by_email {
                Some(ids) => ids.get(&given.trim().to_lowercase()).cloned(),
                None => Some(given.clone()),
            };
            let found = id.and_then(|id| Some((self.store.contacts.get(&id)?, id)));
            match found {
                Some((contact, id)) => done.succeed(show(&id, contact, &shown)),
                None => missing.push(given),
            }
        }
        if !missing.is_empty() && !self.behaviour.contacts_left_out {
            done.fail(missing.len(), Failure::items_not_found(&missing), None);
        }
        Ok(self.answer(done, StatusCode::OK))
    }

    fn create_contacts(&mut self, inputs: &[Value]) -> Result<FakeResponse, Failure> {
        let is_traced = all_traced(inputs);
        let per_item = is_traced && self.behaviour.property_errors_per_item;
        let before = self.store.contacts.clone();
        let mut done = BatchOutcome::default();
        for input in inputs {
            match self.create_contact(&input["properties"]) {
                Ok(id) => {
                    let mut item = show(&id, &self.store.contacts[&id], &[]);
                    if let (true, Some(trace)) = (self.behaviour.echo_trace_ids, trace_of(input)) {
                        item["objectWriteTraceId"] = json!(trace);
                    }
                    done.succeed(item);
                }
                Err(failure) if per_item || is_traced && failure.is_conflict() => {
                    let trace_id = trace_of(input).filter(|_| self.behaviour.name_failed_inputs);
                    done.fail(1, failure, trace_id);
                }
                Err(failure) => {
                    self.store.contacts = before;
                    return Err(failure);
                }
            }
        }
        Ok(self.answer(done, StatusCode::CREATED))
    }

    /// Creates a contact; returns its id. Addresses are stored in lower case, and are unique.
    pub(super) fn create_contact(&mut self, properties: &Value) -> Result<String, Failure> {
        let own = properties.as_object().into_iter().flatten();
        let mut own: BTreeMap<String, String> = own
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        if let Some(email) = own.get_mut(EMAIL) {
            *email = email.trim().to_lowercase();
            if !email.contains('@') {
                let text = format!("Email address {email} is invalid");
                return Err(Failure::properties(&[(EMAIL.to_owned(), text, "INVALID_EMAIL")]));
            }
            if let Some(id) = self.contacts_with_further_emails().get(email) {
                return Err(Failure::contact_exists(id));
            }
        }
        let id = self.store.next_id().to_string();
        self.store.contacts.insert(id.clone(), own);
        Ok(id)
    }

    /// Ids of the contacts by the addresses that a lookup finds.
    fn contacts_by_email(&self) -> HashMap<String, String> {
        match self.behaviour.further_addresses {
            true => self.contacts_with_further_emails(),
            false => self.by_address(false),
        }
    }

    /// Ids of the contacts by all of their addresses.
    fn contacts_with_further_emails(&self) -> HashMap<String, String> {
        self.by_address(true)
    }

    fn by_address(&self, with_further: bool) -> HashMap<String, String> {
        let mut ids = HashMap::new();
        for (id, contact) in &self.store.contacts {
            let further = contact.get(FURTHER).filter(|_| with_further);
            let further = further.map_or("", String::as_str).split(';');
            let all = contact.get(EMAIL).map(String::as_str).into_iter().chain(further);
            for address in all.map(str::trim).filter(|address| !address.is_empty()) {
                ids.insert(address.to_lowercase(), id.clone());
            }
        }
        ids
    }
}

/// Representation of a contact in responses: the default properties and those that were asked for.
fn show(id: &str, contact: &BTreeMap<String, String>, names: &[String]) -> Value {
    let names = SHOWN.into_iter().chain(names.iter().map(String::as_str));
    let properties: Map<String, Value> = names
        .map(|name| {
            let value = if name == "hs_object_id" { json!(id) } else { json!(contact.get(name)) };
            (name.to_owned(), value)
        })
        .collect();
    json!({"id": id, "properties": properties, "createdAt": "2026-11-01T08:00:00.000Z",
           "updatedAt": "2026-11-01T08:00:00.000Z", "archived": false})
}
