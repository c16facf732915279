//! `leadsd completions` and `leadsd man`: both are generated from the definition of the command line.

use clap::Command;
use clap_complete::Shell;

use super::{call::fish_completions, error::Error, output::print, version};

/// Prints the completion script of a shell.
pub(super) fn completions(mut cli: Command, shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "leadsd", &mut script);
    if shell == Shell::Fish {
        script.extend(fish_completions().bytes());
    }
    print(&String::from_utf8_lossy(&script)).map_err(Error::print)
}

/// Prints the manual page of the whole command line, or of the command with this path.
pub(super) fn manual(mut cli: Command, path: &[String]) -> Result<(), Error> {
    cli.build();
    let unknown = || Error::UnknownCommand(path.join(" "));
    let mut found = &cli;
    for name in path {
        found = found.find_subcommand(name).ok_or_else(unknown)?;
    }
    let title = ["leadsd"].into_iter().chain(path.iter().map(String::as_str)).collect::<Vec<_>>();
    // Commands have no version; it is that of the binary.
    let page = clap_mangen::Man::new(found.clone())
        .title(title.join("-"))
        .source(format!("leadsd {}", version::VERSION));
    let mut text = Vec::new();
    page.render(&mut text).map_err(Error::print)?;
    print(&String::from_utf8_lossy(&text)).map_err(Error::print)
}
