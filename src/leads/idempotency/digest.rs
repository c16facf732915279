//! SHA-256 digests of request ids and of the content of writes.
//!
//! Replicas of different versions compare them, so their bytes are fixed by [`VERSION`]: for each text its
//! length and its bytes, for each list and map its length and its elements in order. Numbers are 64 bits,
//! big-endian. A change of these bytes needs another version.
//!
//! The request id is part of each digest: a reader of the store who does not know it cannot try values of
//! properties.

use std::{collections::BTreeMap, fmt::Write as _};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

use super::IdempotencyKey;
use crate::leads::{
    AssociationChange, AssociationType,
    contacts::{ContactByEmail, ContactProperties},
    labels::{AssociationLabel, Labelled, Labels},
    query::LeadId,
    write::{Association, CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Version of the digests and of the records. A replica does not read records of another version.
pub const VERSION: u8 = 1;

/// Stands before a contact by e-mail address.
const CONTACT: u64 = u64::MAX;

/// Stands before the properties of a contact to create.
const NEW_CONTACT: u64 = u64::MAX - 2;

/// Stands before the labels of an input.
const LABELS: u64 = u64::MAX - 1;

/// Digest of caller, portal and request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordKey(Digest);

/// Digest of the content of a write, with caller, portal and request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest(Digest);

type Digest = [u8; SHA256_OUTPUT_LEN];

/// Adds values to a digest, without ambiguity of where they end.
pub(in crate::leads) struct ContentHasher(Context);

/// Part of a write that makes two writes equal or different. Trace ids do not.
pub(in crate::leads) trait Content {
    /// Adds the value to a digest.
    fn add_to(&self, hasher: &mut ContentHasher);
}

// === impl RecordKey ===

impl RecordKey {
    pub(super) fn new(key: &IdempotencyKey) -> Self {
        Self(ContentHasher::new("request id", key).finish())
    }

    /// The digest in hexadecimal digits.
    pub fn to_hex(self) -> String {
        let mut text = String::with_capacity(2 * SHA256_OUTPUT_LEN);
        for byte in self.0 {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

// === impl ContentDigest ===

impl ContentDigest {
    /// Digest of the content of a write. `operation` names its kind.
    pub(super) fn new(key: &IdempotencyKey, operation: &str, content: &impl Content) -> Self {
        let mut hasher = ContentHasher::new("content", key);
        hasher.text(operation);
        content.add_to(&mut hasher);
        Self(hasher.finish())
    }

    /// The digest in binary form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

// === impl ContentHasher ===

impl ContentHasher {
    fn new(purpose: &str, key: &IdempotencyKey) -> Self {
        let IdempotencyKey { caller, portal, request_id } = key;
        let mut hasher = Self(Context::new(&SHA256));
        hasher.number(u64::from(VERSION));
        hasher.text(purpose);
        hasher.number(u64::from(caller.is_authenticated()));
        hasher.text(caller.as_str());
        hasher.text(portal.as_str());
        hasher.text(request_id.as_str());
        hasher
    }

    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    /// Adds a contact by e-mail address. Without one the bytes are those of the first replicas of
    /// [`VERSION`], which knew none. No length or count is as high as [`CONTACT`].
    fn contact(&mut self, contact: Option<&ContactByEmail>) {
        let Some(ContactByEmail { email, create_if_missing }) = contact else { return };
        self.number(CONTACT);
        self.text(email.as_str());
        if let Some(ContactProperties(properties)) = create_if_missing {
            self.number(NEW_CONTACT);
            properties.add_to(self);
        }
    }

    fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

// === impl Content ===

impl<T: Content> Content for &T {
    fn add_to(&self, hasher: &mut ContentHasher) {
        T::add_to(self, hasher);
    }
}

impl<T: Content> Content for Vec<T> {
    fn add_to(&self, hasher: &mut ContentHasher) {
        hasher.number(self.len() as u64);
        self.iter().for_each(|item| item.add_to(hasher));
    }
}

impl Content for String {
    fn add_to(&self, hasher: &mut ContentHasher) {
        hasher.text(self);
    }
}

impl<T: Content> Content for Option<T> {
    fn add_to(&self, hasher: &mut ContentHasher) {
        hasher.number(u64::from(self.is_some()));
        self.iter().for_each(|value| value.add_to(hasher));
    }
}

impl Content for BTreeMap<String, String> {
    fn add_to(&self, hasher: &mut ContentHasher) {
        hasher.number(self.len() as u64);
        for (name, value) in self {
            hasher.text(name);
            hasher.text(value);
        }
    }
}

impl Content for LeadId {
    fn add_to(&self, hasher: &mut ContentHasher) {
        hasher.text(self.as_str());
    }
}

impl<A: Content, B: Content> Content for (A, B) {
    fn add_to(&self, hasher: &mut ContentHasher) {
        self.0.add_to(hasher);
        self.1.add_to(hasher);
    }
}

impl<T: Content> Content for Traced<T> {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { input, trace_id: _ } = self;
        input.add_to(hasher);
    }
}

impl<T: Content> Content for Labelled<T> {
    /// Without labels the bytes are those of the input, as of replicas that knew no labels. No length or
    /// count is as high as [`LABELS`].
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { input, labels } = self;
        input.add_to(hasher);
        if !labels.is_empty() {
            // Searches, which have filters, are no writes.
            let Labels { properties, associations, filters: _ } = labels;
            hasher.number(LABELS);
            properties.add_to(hasher);
            associations.add_to(hasher);
        }
    }
}

impl Content for AssociationLabel {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { association, index: _, to, label } = self;
        hasher.number(association.map_or(0, |index| index as u64 + 1));
        hasher.text(to);
        hasher.text(label);
    }
}

impl Content for AssociationChange {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { lead, to_id, types } = self;
        lead.add_to(hasher);
        to_id.add_to(hasher);
        types.add_to(hasher);
    }
}

impl Content for Association {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { to_id, types, position: _ } = self;
        to_id.add_to(hasher);
        types.add_to(hasher);
    }
}

impl Content for AssociationType {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { category, type_id } = self;
        hasher.text(category.as_str());
        hasher.text(&type_id.to_string());
    }
}

impl Content for CreateLead {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { properties, associations, contact, trace_id: _ } = self;
        properties.add_to(hasher);
        associations.add_to(hasher);
        hasher.contact(contact.as_ref());
    }
}

impl Content for UpdateLead {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { id, id_property, properties, trace_id: _ } = self;
        id.add_to(hasher);
        id_property.add_to(hasher);
        properties.add_to(hasher);
    }
}

impl Content for UpsertLead {
    fn add_to(&self, hasher: &mut ContentHasher) {
        let Self { id, id_property, properties, associations, contact } = self;
        id.add_to(hasher);
        id_property.add_to(hasher);
        properties.add_to(hasher);
        associations.add_to(hasher);
        hasher.contact(contact.as_ref());
    }
}

#[cfg(test)]
mod tests;
