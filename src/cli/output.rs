//! Output of commands: results to standard output, progress to standard error.

use std::{
    io::{self, Write as _},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Maximum time for printing the last line.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

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

/// Prints the last line of a command to standard error. Waits at most one second: a blocked reader must not
/// prevent the exit of the process.
pub(super) fn print_last(line: String) {
    let (done, printed) = mpsc::channel();
    let print = move || {
        print_progress(&line);
        // The receiver is dropped after the timeout.
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(print).is_ok() {
        // An error means that the timeout has passed.
        let _ = printed.recv_timeout(EXIT_TIMEOUT);
    }
}

/// Prints progress to standard error, ignoring errors.
pub(super) fn print_progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
