//! Encodes lookups and creations of contacts. Addresses are personal data, so none is in a URL.

use serde_json::Value;

use super::{Query, flag};
use crate::{
    hubspot::wire,
    leads::{
        Traced,
        contacts::{ContactEmail, NewContact},
    },
};

/// Path segment, query and body of a request.
type Encoded = (&'static str, Query<'static>, Option<Value>);

/// Encodes a lookup of contacts.
pub(super) fn lookup(emails: &[ContactEmail]) -> Encoded {
    ("", vec![("archived", flag(false))], Some(wire::contact_lookup(emails)))
}

/// Encodes the creation of contacts.
pub(super) fn creation(contacts: &[Traced<NewContact>]) -> Encoded {
    ("", Query::new(), Some(wire::contact_creation(contacts)))
}
