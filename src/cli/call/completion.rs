//! Completion of method names in fish. The scripts of clap_complete for bash and zsh complete the values of
//! arguments and options, that for fish only those of options. Its scripts that ask the program for values
//! are an unstable feature.

use std::fmt::Write as _;

use super::contract::{completed_name, methods, summary};

/// Lines for the script of fish.
pub(in crate::cli) fn fish() -> String {
    let mut out = String::new();
    for method in methods() {
        let name = completed_name(&method);
        let help = summary(&method).replace(['\\', '\''], "");
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "complete -c leadsd -n \"__fish_leadsd_using_subcommand call\" -f -a \"{name}\" -d '{help}'"
        );
    }
    out
}
