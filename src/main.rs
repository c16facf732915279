//! The `leadsd` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    leadsd::cli::run()
}
