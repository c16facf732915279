//! Paths of secrets below the KV mount.

use std::fmt;

/// Path of a secret under the KV mount, such as `hubspot/default`: one or more segments of letters,
/// digits, `.`, `_`, `-` joined by `/`, none of them `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretPath(String);

// === impl SecretPath ===

impl SecretPath {
    /// Parses a path. The error names the rule that the path breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.starts_with('/') || text.ends_with('/') || text.contains("//") {
            return Err("must not begin or end with `/`, or contain `//`".to_owned());
        }
        for segment in text.split('/') {
            if segment == "." || segment == ".." {
                return Err(format!("`{segment}` is not a path segment"));
            }
            if !segment.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
                return Err("only letters, digits, `.`, `_`, `-` and `/` are allowed".to_owned());
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Path of the secret `segment` in the folder `self`.
    pub fn join(&self, segment: &str) -> Result<Self, String> {
        if segment.contains('/') {
            return Err("a name must not contain `/`".to_owned());
        }
        Self::parse(&format!("{}/{segment}", self.0))
    }

    /// The path as text, without leading or trailing `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::SecretPath;

    #[test]
    fn paths_stay_below_the_mount() {
        for bad in ["", "/", "a//b", "../x", "a/../b", "a/./b", "a b", "a%2fb", "a\n", "/a", "a/"] {
            assert!(SecretPath::parse(bad).is_err(), "{bad:?}");
        }
        for slash in ["/", "/a", "a/", "a//b"] {
            let error = SecretPath::parse(slash).unwrap_err();
            assert_eq!(error, "must not begin or end with `/`, or contain `//`");
        }
        let path = SecretPath::parse("hubspot/eu-1").unwrap();
        assert_eq!(path.join("x").unwrap().as_str(), "hubspot/eu-1/x");
        assert!(path.join("../x").is_err());
    }
}
