//! `leadsd config`: checks and prints the configuration without opening a socket.

use std::path::PathBuf;

use clap::Subcommand;

use super::{environment::environment, error::Error, output::print};
use crate::config::{self, Loaded};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Says whether the configuration is right; names every fault if not.
    Check {
        /// Configuration file; the environment (LEADSD_...) goes over it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints the effective configuration, each value with its origin. There are no secrets in it.
    Print {
        /// Configuration file; the environment (LEADSD_...) goes over it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints the JSON schema of a configuration file.
    Schema,
}

pub(super) fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::Check { config } => {
            Loaded::new(config.as_deref(), environment())?;
            print("The configuration is right.\n").map_err(Error::print)
        }
        Command::Print { config } => {
            print(&Loaded::new(config.as_deref(), environment())?.print()).map_err(Error::print)
        }
        Command::Schema => print(&format!("{:#}\n", config::schema())).map_err(Error::print),
    }
}
