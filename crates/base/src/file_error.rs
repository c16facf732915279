//! Texts for files that cannot be read, in the words of an operator's shell.

use std::io::{Error, ErrorKind};

/// Describes why a file cannot be read, without its name. The text of the standard library for a missing
/// file is "entity not found".
#[expect(clippy::wildcard_enum_match_arm, reason = "other kinds of std keep the standard text")]
pub fn describe(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "the file does not exist".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_and_other_errors_are_described() {
        for (kind, text) in [
            (ErrorKind::NotFound, "the file does not exist"),
            (ErrorKind::PermissionDenied, "permission denied"),
            (ErrorKind::IsADirectory, "is a directory"),
        ] {
            assert_eq!(describe(&kind.into()), text);
        }
    }
}
