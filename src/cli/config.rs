//! `leadsd config`: checks and prints the configuration without opening a socket.

use std::path::PathBuf;

use clap::Subcommand;

use serde_json::json;

use super::{environment::environment, error::Error, output::print};
use crate::config::{self, ConfigError, ConfigErrors, Loaded};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Validates the configuration and reports every error.
    Check {
        /// Configuration file; environment variables (LEADSD_...) override it.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Prints JSON: `valid`, and `errors` with key, origin and text of each.
        #[arg(long)]
        json: bool,
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
        ConfigCommand::Check { config, json: false } => {
            Loaded::new(config.as_deref(), environment())?;
            print("The configuration is valid.\n").map_err(Error::print)
        }
        ConfigCommand::Check { config, json: true } => {
            let loaded = Loaded::new(config.as_deref(), environment());
            let errors = loaded.as_ref().err().map_or(&[][..], |ConfigErrors(errors)| errors);
            let errors: Vec<_> = errors
                .iter()
                .map(|ConfigError { key, origin, what }| {
                    json!({"key": key, "origin": origin, "error": what})
                })
                .collect();
            let report = json!({"valid": loaded.is_ok(), "errors": errors});
            print(&format!("{report:#}\n")).map_err(Error::print)?;
            loaded.map(drop).map_err(|_| Error::InvalidConfig)
        }
        ConfigCommand::Print { config } => {
            print(&Loaded::new(config.as_deref(), environment())?.print()).map_err(Error::print)
        }
        ConfigCommand::Schema => print(&format!("{:#}\n", config::schema())).map_err(Error::print),
    }
}
