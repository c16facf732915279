//! The command line: parses the arguments, runs the command, and maps its outcome to an exit code.
//!
//! Each command is a module with the arguments it takes and one function `run`. What commands share is
//! in modules that know no command: `environment`, `output`, `prompt`, `portal_secret` (names and paths
//! of secrets) and `remediation` (causes and remedies of failures). `error` joins the failures of all
//! commands; only this file depends on them all.
//!
//! Results go to standard output, progress and errors to standard error. The exit code is 0 for success,
//! 64 for wrong usage or configuration, and 1 for everything else.

mod config;
mod dev;
mod doctor;
mod environment;
mod error;
mod health;
mod login;
mod output;
mod portal_secret;
mod prompt;
mod remediation;
mod serve;

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};

use self::error::Error;

/// Exit code for bad usage and bad configuration (EX_USAGE of sysexits).
const BAD_USAGE: u8 = 64;

/// Timeout for threads to end after the command.
const LAST_THREADS: Duration = Duration::from_millis(100);

/// HubSpot CRM leads for every service of a company, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "leadsd", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Serve {
        /// Configuration file; the environment (LEADSD_...) goes over it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Runs the service on loopback with a HubSpot and a Vault in memory: no account, no setup.
    Dev(Box<dev::Args>),
    /// Asks a service over gRPC how it is; exits with 0 if it is SERVING. For containers' health
    /// checks and probes.
    Health(health::Args),
    /// Gets a credential from HubSpot and stores it in Vault.
    Login(login::Args),
    /// Looks at everything that the service needs, and says what is wrong and what to do.
    ///
    /// Exits with 0 if everything works, warnings included, and with 1 if something does not.
    Doctor(doctor::Args),
    /// Looks at the configuration.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done if even this cannot be printed.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Serve { config } => on_runtime(serve::run(config)),
        Command::Dev(args) => on_runtime(dev::run(*args)),
        Command::Health(args) => on_one_thread(async { Ok(health::run(args).await?) }),
        Command::Login(args) => on_runtime(async { Ok(login::run(args).await?) }),
        Command::Doctor(args) => match on_runtime(doctor::run(args)) {
            Ok(doctor::Verdict::Fails) => return ExitCode::FAILURE,
            Ok(doctor::Verdict::Works) => Ok(()),
            Err(error) => Err(error),
        },
        Command::Config { command } => config::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has seen enough, such as `head`, has closed the pipe.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // If standard error is closed, the exit code remains.
            let _ = writeln!(io::stderr(), "leadsd: {error}");
            match error {
                Error::Config(_)
                | Error::DevBeyondLoopback { .. }
                | Error::Login(login::Error::Usage(_) | login::Error::Config(_)) => {
                    ExitCode::from(BAD_USAGE)
                }
                Error::Health(_)
                | Error::Aborted
                | Error::Login(_)
                | Error::App(_)
                | Error::Telemetry(_)
                | Error::Io { .. } => ExitCode::FAILURE,
            }
        }
    }
}

fn on_runtime<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "cannot start the runtime", source })?;
    let done = runtime.block_on(work);
    // A prompt without an answer keeps a thread reading.
    runtime.shutdown_timeout(LAST_THREADS);
    done
}

/// Runs a short command on one thread: more threads would cost more than the command.
fn on_one_thread(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "cannot start the runtime", source })?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
