//! Validates the fields of requests that name the contact of a new lead.

use super::{FieldFaults, MAX_SHOWN_NAME};
use crate::{
    grpc::pb,
    leads::{
        Association, AssociationLabel, AssociationType,
        contacts::{ContactByEmail, ContactEmail, ContactProperties, EMAIL},
    },
};

/// The fields of a request that name the primary contact.
#[derive(Debug)]
pub(crate) struct NamedContact {
    pub(crate) primary_contact_id: String,
    pub(crate) contact: Option<pb::ContactReference>,
}

// === impl NamedContact ===

impl NamedContact {
    /// True if a field is set.
    pub(super) fn is_named(&self) -> bool {
        !self.primary_contact_id.is_empty() || self.contact.is_some()
    }
}

// === impl FieldFaults ===

impl FieldFaults {
    /// Validates the associations of a new lead. A contact by id is the first one; one by e-mail address
    /// is looked up later. Labels of association types are added to `labels`.
    pub(super) fn contact_and_associations(
        &mut self,
        prefix: &str,
        named: NamedContact,
        associations: &[pb::Association],
        labels: &mut Vec<AssociationLabel>,
    ) -> (Vec<Association>, Option<ContactByEmail>) {
        let mut out = Vec::with_capacity(associations.len() + 1);
        let contact = self.primary_contact(prefix, named, &mut out);
        for (index, association) in associations.iter().enumerate() {
            let field = format!("{prefix}associations[{index}]");
            out.extend(self.association(&field, index, association, labels));
        }
        (out, contact)
    }

    fn primary_contact(
        &mut self,
        prefix: &str,
        NamedContact { primary_contact_id, contact }: NamedContact,
        out: &mut Vec<Association>,
    ) -> Option<ContactByEmail> {
        use pb::contact_reference::Key;
        if contact.is_some() && !primary_contact_id.is_empty() {
            let description = "must not be set together with primary_contact_id";
            self.add(format!("{prefix}contact"), description);
            return None;
        }
        let (field, id) = match contact {
            None if primary_contact_id.is_empty() => return None,
            None => ("primary_contact_id", primary_contact_id),
            Some(pb::ContactReference { key: Some(Key::Id(id)), create_if_missing }) => {
                if create_if_missing.is_some() {
                    let description = "must not be set together with id";
                    self.add(format!("{prefix}contact.create_if_missing"), description);
                }
                ("contact.id", id)
            }
            Some(pb::ContactReference { key: Some(Key::Email(email)), create_if_missing }) => {
                let create_if_missing = create_if_missing.map(|own| self.new_contact(prefix, own));
                return match ContactEmail::parse(&email) {
                    Ok(email) => Some(ContactByEmail { email, create_if_missing }),
                    Err(description) => {
                        self.add(format!("{prefix}contact.email"), description);
                        None
                    }
                };
            }
            Some(pb::ContactReference { key: None, .. }) => {
                self.add(format!("{prefix}contact"), "must have an id or an email");
                return None;
            }
        };
        let to_id = self.record_id(&format!("{prefix}{field}"), &id);
        let types = vec![AssociationType::PRIMARY_CONTACT];
        out.extend(to_id.map(|to_id| Association { to_id, types, position: None }));
        None
    }

    fn new_contact(
        &mut self,
        prefix: &str,
        pb::NewContact { properties }: pb::NewContact,
    ) -> ContactProperties {
        for name in properties.keys() {
            let shown = &name[..name.floor_char_boundary(MAX_SHOWN_NAME)];
            let field = format!("{prefix}contact.create_if_missing.properties[{shown:?}]");
            self.check_name(&field, name);
            if name == EMAIL {
                self.add(field, "must not be set: the address is contact.email");
            }
        }
        ContactProperties(properties)
    }
}
