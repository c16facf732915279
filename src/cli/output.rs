//! Output of commands: results to standard output, progress to standard error.

use std::io::{self, Write as _};

/// Prints the result of a command to standard output. A closed pipe (such as by `head`) is not an error;
/// the macros of the standard library would panic.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Prints one line to standard output, ignoring errors: a closed pipe must not prevent a credential from
/// being stored.
pub(super) fn print_line(line: &str) {
    let _ = print(&format!("{line}\n"));
}

/// Prints progress to standard error, ignoring errors.
pub(super) fn print_progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
