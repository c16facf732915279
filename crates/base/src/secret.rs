//! Secret text: wiped from memory on drop, redacted in all output.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

/// Marker contained in every secret that fakes and test doubles invent, so that a test recognises a
/// leaked secret in any output.
pub const SECRET_MARKER: &str = "hush";

/// A secret text. `Debug` prints `[redacted]`, there is no `Display`, and the memory is wiped when the
/// last clone is dropped. Clones share the text.
///
/// Comparison detects changes of secrets. It is not constant-time, so it must not verify
/// credentials of callers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Arc<Zeroizing<String>>);

// === impl Secret ===

impl Secret {
    /// Takes over the text; the caller should keep no copy of it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Every call site is one where the secret leaves this type.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_never_shows_the_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(format!("{:#?}", Some(&secret)), "Some(\n    [redacted],\n)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
