//! Name of a portal: the one rule for configuration, metadata, secret folders and logs.

use std::{fmt, sync::Arc};

/// Maximum length of a name, in characters.
const MAX_LENGTH: usize = 64;

/// Name of a configured portal (HubSpot account): 1 to 64 letters, digits, `_` or `-`.
///
/// Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortalName(Arc<str>);

/// Error for an invalid portal name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid portal name `{0}`: 1 to 64 letters, digits, `_` and `-` are allowed")]
pub struct InvalidPortalName(pub String);

// === impl PortalName ===

impl PortalName {
    /// Checks a name; `None` if its length or one of its characters is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let is_name = (1..=MAX_LENGTH).contains(&text.len()) && text.chars().all(is_allowed);
        is_name.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PortalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for PortalName {
    type Error = InvalidPortalName;

    fn try_from(text: &str) -> Result<Self, InvalidPortalName> {
        Self::parse(text).ok_or_else(|| InvalidPortalName(text.to_owned()))
    }
}

impl From<PortalName> for Arc<str> {
    fn from(name: PortalName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_to_64_letters_digits_underscores_or_hyphens() {
        let longest = "a".repeat(64);
        for valid in ["a", "default", "eu-1", "EU_2", "0", &longest] {
            assert_eq!(PortalName::parse(valid).unwrap().as_str(), valid);
        }
        for bad in ["", "a b", "a/b", "a.b", "é", "a\n", &"a".repeat(65)] {
            assert_eq!(PortalName::parse(bad), None, "{bad:?}");
            let error = PortalName::try_from(bad).unwrap_err();
            assert_eq!(error, InvalidPortalName(bad.to_owned()));
        }
    }
}
