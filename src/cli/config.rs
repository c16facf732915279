//! `leadsd config`: checks and prints the configuration without opening a socket.

use std::path::PathBuf;

use clap::Subcommand;

use super::{environment::environment, error::Error, output::print};
use crate::config::{self, Loaded};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Validates the configuration and reports every error.
    Check {
        /// Configuration file; environment variables (LEADSD_...) override it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints the effective configuration, each value with its origin; it contains no secrets.
    Print {
        /// Configuration file; environment variables (LEADSD_...) override it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints the JSON schema of the configuration file.
    Schema,
}

pub(super) fn run(command: ConfigCommand) -> Result<(), Error> {
    match command {
        ConfigCommand::Check { config } => {
            Loaded::new(config.as_deref(), environment())?;
            print("The configuration is valid.\n").map_err(Error::print)
        }
        ConfigCommand::Print { config } => {
            print(&Loaded::new(config.as_deref(), environment())?.print()).map_err(Error::print)
        }
        ConfigCommand::Schema => print(&format!("{:#}\n", config::schema())).map_err(Error::print),
    }
}
