//! Contacts of new leads, named by e-mail address.
//!
//! The address is looked up when the lead is created, so a contact that was merged or archived before
//! is found or missed as HubSpot has it then. Addresses are personal data: no `Debug` form shows one.

use std::{collections::BTreeMap, fmt};

use super::query::LeadId;

/// Property with the e-mail address of a contact.
pub const EMAIL: &str = "email";

/// Property with the further addresses of a contact, separated by semicolons.
pub const ADDITIONAL_EMAILS: &str = "hs_additional_emails";

/// Maximum length of an address in bytes, by RFC 5321.
const MAX_BYTES: usize = 254;

/// E-mail address of a contact, in lower case: HubSpot ignores case in addresses.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContactEmail(LeadId);

/// Contact of a new lead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContactByEmail {
    /// The address.
    pub email: ContactEmail,
    /// Properties with which the contact is created if HubSpot has none. `None` creates no contact.
    pub create_if_missing: Option<ContactProperties>,
}

/// Contact to create.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NewContact {
    /// The address.
    pub email: ContactEmail,
    /// Values of its other properties.
    pub properties: ContactProperties,
}

/// Values of the properties of a contact by internal name. They are personal data.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ContactProperties(pub BTreeMap<String, String>);

// === impl ContactEmail ===

impl ContactEmail {
    /// Parses an address. Only its form is checked: HubSpot knows which addresses exist. Errors with the
    /// reason, as the description of a field violation.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let is_separator = |c: char| matches!(c, ',' | ';' | '<' | '>');
        let is_unusable =
            |c: char| c.is_whitespace() || c.is_control() || is_invisible(c) || is_separator(c);
        if text.chars().any(is_unusable) {
            return Err(
                "must be one e-mail address without spaces, invisible characters, commas, \
                        semicolons or angle brackets",
            );
        }
        let is_address = text
            .rsplit_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if !is_address {
            return Err("must be an e-mail address, such as ada@example.com");
        }
        let folded = text.to_lowercase();
        if text.len() > MAX_BYTES || folded.len() > MAX_BYTES {
            return Err("must not be longer than 254 bytes");
        }
        LeadId::parse_for_body(&folded).map(Self)
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The address as the value of a unique property.
    pub(super) fn value(&self) -> &LeadId {
        &self.0
    }
}

impl fmt::Debug for ContactEmail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContactEmail(..)")
    }
}

impl fmt::Debug for ContactProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContactProperties(..)")
    }
}

/// True for characters without a visible form, with which two addresses look alike.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests;
