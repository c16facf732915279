//! `leadsd config`: checks and prints the configuration without opening a socket.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Error, environment};
use crate::config::Loaded;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Says whether the configuration is right; names every fault if not.
    Check {
        /// Configuration file; the environment (LEADSD_...) goes over it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints the effective configuration, each value with its origin.
    Print {
        /// Configuration file; the environment (LEADSD_...) goes over it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
}

#[expect(clippy::print_stdout, reason = "printing is what the command is for")]
pub(super) fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Check { config } => {
            Loaded::new(config.as_deref(), environment())?;
            println!("The configuration is right.");
        }
        Command::Print { config } => {
            print!("{}", Loaded::new(config.as_deref(), environment())?.print());
        }
    }
    Ok(())
}
