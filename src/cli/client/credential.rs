//! Token of the caller: from a file, the environment or a prompt. An argument would show it to every user
//! of the machine.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use leadsd_base::secret::Secret;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use zeroize::Zeroizing;

use super::args::TokenKind;
use crate::cli::{
    environment::environment,
    prompt::{self, Terminal},
};

/// Maximum size of a token in bytes; headers are not larger.
const MAX_TOKEN: u64 = 16 << 10;

/// Source of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum TokenSource {
    File(PathBuf),
    Environment(String),
    Prompt,
}

/// Error of a token. Quotes nothing of it.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidToken {
    #[error("cannot read the token in {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("the environment variable {0} with the token is not set")]
    Unset(String),
    #[error("the token of {origin} {what}")]
    Content { origin: String, what: &'static str },
    #[error(transparent)]
    Prompt(#[from] prompt::Error),
}

// === impl TokenSource ===

impl TokenSource {
    /// Reads the token and makes the header that carries it.
    pub(super) async fn header(
        &self,
        kind: TokenKind,
    ) -> Result<(AsciiMetadataKey, AsciiMetadataValue), InvalidToken> {
        let origin = match self {
            Self::File(file) => file.display().to_string(),
            Self::Environment(name) => name.clone(),
            Self::Prompt => "the prompt".to_owned(),
        };
        let token = self.read().await?;
        let invalid = |what| InvalidToken::Content { origin: origin.clone(), what };
        let text = token.expose().trim();
        if text.is_empty() {
            return Err(invalid("is empty"));
        }
        if text.len() as u64 > MAX_TOKEN {
            return Err(invalid("is longer than 16 KiB"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid("has characters that a token cannot have"));
        }
        let (key, text) = match kind {
            TokenKind::Bearer => ("authorization", Zeroizing::new(format!("Bearer {text}"))),
            TokenKind::ApiKey => ("x-api-key", Zeroizing::new(text.to_owned())),
        };
        let value = AsciiMetadataValue::try_from(text.as_bytes());
        let mut value = value.map_err(|_| invalid("has characters that a token cannot have"))?;
        value.set_sensitive(true);
        Ok((AsciiMetadataKey::from_static(key), value))
    }

    async fn read(&self) -> Result<Secret, InvalidToken> {
        match self {
            Self::File(file) => {
                let unreadable = |source| InvalidToken::Read { file: file.clone(), source };
                // Never more than a token can have, even from a device.
                let mut text = String::new();
                let opened = File::open(file).map_err(unreadable)?;
                opened.take(MAX_TOKEN + 2).read_to_string(&mut text).map_err(unreadable)?;
                Ok(Secret::new(text))
            }
            Self::Environment(name) => environment()
                .find(|(known, _)| known == name)
                .map(|(_, token)| Secret::new(token))
                .ok_or_else(|| InvalidToken::Unset(name.clone())),
            Self::Prompt => Ok(Terminal::new().secret("token").await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use leadsd_base::secret::SECRET_MARKER;

    use super::*;

    #[tokio::test]
    async fn tokens_of_files_become_headers() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, format!("{SECRET_MARKER}.x-1\n")).unwrap();
        let source = TokenSource::File(file);
        for (kind, key, expected) in [
            (TokenKind::Bearer, "authorization", format!("Bearer {SECRET_MARKER}.x-1")),
            (TokenKind::ApiKey, "x-api-key", format!("{SECRET_MARKER}.x-1")),
        ] {
            let (found, value) = source.header(kind).await.unwrap();
            assert_eq!((found.as_str(), value.to_str().unwrap()), (key, expected.as_str()));
            assert!(value.is_sensitive());
            assert!(!format!("{value:?}").contains(SECRET_MARKER));
        }
    }

    #[tokio::test]
    async fn unusable_tokens_are_rejected_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("{SECRET_MARKER}{}", "x".repeat(20_000));
        for (content, expected) in [
            ("", "is empty"),
            (" \n", "is empty"),
            (&long, "is longer than 16 KiB"),
            ("hush\nhush", "has characters that a token cannot have"),
            ("hush\u{e4}", "has characters that a token cannot have"),
        ] {
            let file = folder.path().join("token");
            std::fs::write(&file, content).unwrap();
            let error = TokenSource::File(file).header(TokenKind::Bearer).await.unwrap_err();
            let error = error.to_string();
            assert!(error.ends_with(expected) && !error.contains(SECRET_MARKER), "{error}");
        }
        let missing = TokenSource::File(folder.path().join("none"));
        let error = missing.header(TokenKind::Bearer).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot read the token in "), "{error}");
        let unset = TokenSource::Environment("LEADSD_NO_SUCH_VARIABLE".to_owned());
        let error = unset.header(TokenKind::Bearer).await.unwrap_err().to_string();
        assert!(error.contains("LEADSD_NO_SUCH_VARIABLE"), "{error}");
    }
}
