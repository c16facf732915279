//! `leadsd completions` and `leadsd man`: both are generated from the definition of the command line.

use clap::Command;
use clap_complete::Shell;

use super::{call::fish_completions, error::Error, output::print};

/// Prints the completion script of a shell.
pub(super) fn completions(mut cli: Command, shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli, "leadsd", &mut script);
    if shell == Shell::Fish {
        script.extend(fish_completions().bytes());
    }
    print(&String::from_utf8_lossy(&script)).map_err(Error::print)
}

/// Prints the manual page of the whole command line, or of one command.
pub(super) fn manual(mut cli: Command, command: Option<&str>) -> Result<(), Error> {
    cli.build();
    let page = match command {
        None => clap_mangen::Man::new(cli),
        Some(name) => {
            let found = cli.find_subcommand(name).cloned();
            let found = found.ok_or_else(|| Error::UnknownCommand(name.to_owned()))?;
            clap_mangen::Man::new(found).title(format!("leadsd-{name}"))
        }
    };
    let mut text = Vec::new();
    page.render(&mut text).map_err(Error::print)?;
    print(&String::from_utf8_lossy(&text)).map_err(Error::print)
}
