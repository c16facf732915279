//! Contacts as requests send them.

use serde_json::{Value, json};

use crate::leads::contacts::{ADDITIONAL_EMAILS, ContactEmail, EMAIL};

/// Body of a lookup of contacts. The properties show which address a result belongs to.
pub(in crate::hubspot) fn contact_lookup(emails: &[ContactEmail]) -> Value {
    let inputs: Vec<Value> = emails.iter().map(|email| json!({ "id": email.as_str() })).collect();
    json!({ "inputs": inputs, "idProperty": EMAIL, "properties": [EMAIL, ADDITIONAL_EMAILS] })
}
