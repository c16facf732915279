//! Reads files with secrets and certificates.

use std::path::Path;

use super::error::Error;
use leadsd_base::{file_error::describe, secret::Secret};

/// Reads a file at startup.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| file_error(file, &describe(&error)))
}

/// Reads a secret from a file, trimmed.
pub(super) async fn read(file: &Path) -> Result<Secret, Error> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| file_error(file, &describe(&error)))?;
    let text = Secret::new(text);
    let secret = Secret::new(text.expose().trim());
    // Other characters are invalid in a header value.
    if secret.is_empty() || !secret.expose().chars().all(|c| c.is_ascii_graphic()) {
        return Err(file_error(file, "must contain one line of printable ASCII"));
    }
    Ok(secret)
}

fn file_error(file: &Path, what: &str) -> Error {
    Error::File { file: file.display().to_string(), what: what.to_owned() }
}
