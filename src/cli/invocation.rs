//! Command line of this process, for messages that say how to continue it.

use std::ffi::OsString;

/// Option that continues an interrupted command.
const RESUME: &str = "--resume";

/// The command line with `--resume`, quoted for a shell.
pub(super) fn resume_command(arguments: impl Iterator<Item = OsString>) -> String {
    let mut words: Vec<String> =
        arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    if !words.iter().any(|word| word == RESUME) {
        words.push(RESUME.to_owned());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_quoted_for_a_shell() {
        for (arguments, expected) in [
            (&["leadsd", "export", "--out", "a.csv"][..], "leadsd export --out a.csv --resume"),
            (&["leadsd", "--resume", "-x"], "leadsd --resume -x"),
            (
                &["./leadsd", "--filter", "a>=1", "--out", "Ada's leads.csv", ""],
                "./leadsd --filter 'a>=1' --out 'Ada'\\''s leads.csv' '' --resume",
            ),
        ] {
            assert_eq!(resume_command(arguments.iter().map(OsString::from)), expected);
        }
    }
}
