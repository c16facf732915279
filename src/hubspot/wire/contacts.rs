//! Contacts as requests send them.

use serde_json::{Value, json};

use crate::leads::{
    Traced,
    contacts::{ADDITIONAL_EMAILS, ContactEmail, ContactProperties, EMAIL, NewContact},
};

/// Body of a lookup of contacts. The properties show which address a result belongs to.
pub(in crate::hubspot) fn contact_lookup(emails: &[ContactEmail]) -> Value {
    let inputs: Vec<Value> = emails.iter().map(|email| json!({ "id": email.as_str() })).collect();
    json!({ "inputs": inputs, "idProperty": EMAIL, "properties": [EMAIL, ADDITIONAL_EMAILS] })
}

/// Body of a creation of contacts.
pub(in crate::hubspot) fn contact_creation(contacts: &[Traced<NewContact>]) -> Value {
    let input = |Traced { trace_id, input }: &Traced<NewContact>| {
        let NewContact { email, properties: ContactProperties(properties) } = input;
        let mut body = json!({ "properties": properties, "objectWriteTraceId": trace_id });
        body["properties"][EMAIL] = json!(email.as_str());
        body
    };
    json!({ "inputs": contacts.iter().map(input).collect::<Vec<_>>() })
}
