//! Lines for the person at the terminal and for scripts.
//!
//! A line that cannot be written is dropped: a closed pipe must not keep a credential from being stored.

use std::io::{self, Write as _};

/// Prints a result to standard output.
pub(super) fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints progress to standard error.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
