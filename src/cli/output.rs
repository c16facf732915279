//! Output for scripts (standard output) and for the person at the terminal (standard error).

use std::io::{self, Write as _};

/// Prints the result of a command to standard output. A reader that has closed the pipe, such as `head`,
/// is no error; the macros would panic.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Prints one line to standard output, or drops it if that fails: a closed pipe must not keep a credential
/// from being stored.
pub(super) fn print_line(line: &str) {
    let _ = print(&format!("{line}\n"));
}

/// Prints progress to standard error, or drops it if that fails.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
