//! Reads the files that a login and its TLS connection need.

use std::path::Path;

use super::error::Error;
use leadsd_base::secret::Secret;

/// Reads a file at start-up.
pub(super) fn read_bytes(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| file_error(file, &error.kind().to_string()))
}

/// Reads a file that holds one secret text; blanks and line ends around it do not belong to it.
pub(super) async fn read(file: &Path) -> Result<Secret, Error> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| file_error(file, &error.kind().to_string()))?;
    let text = Secret::new(text);
    let secret = Secret::new(text.expose().trim());
    // Only this can be a header's value.
    if secret.is_empty() || !secret.expose().chars().all(|c| c.is_ascii_graphic()) {
        return Err(file_error(file, "does not hold one line of printable ASCII"));
    }
    Ok(secret)
}

fn file_error(file: &Path, what: &str) -> Error {
    Error::File { file: file.display().to_string(), what: what.to_owned() }
}
