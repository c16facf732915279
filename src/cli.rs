//! Command line: parses the arguments, runs the command, and maps its outcome to an exit code.
//!
//! Each command is a module with the arguments it takes and one function `run`. What commands share is
//! in modules that know no command: `environment`, `output`, `prompt`, `portal_secret` (names and paths
//! of secrets), `client` (connections to a service), `session` and `attempts` (calls over them), `stopped`
//! (calls that are not complete), `signals`, `progress`, and `remediation` (causes and remedies of
//! failures). `error` joins the failures of all commands; only this file depends on them all.
//!
//! Results go to standard output, progress and errors to standard error. The exit code is 0 for success,
//! 64 for wrong usage or configuration, and 1 for everything else. `call`, `export` and `import`
//! have further ones.

mod attempts;
mod call;
mod client;
mod config;
mod dev;
mod doctor;
mod environment;
mod error;
mod export;
mod file_kind;
mod hardening;
mod health;
mod import;
mod invocation;
mod login;
mod open_files;
mod output;
mod portal_secret;
mod progress;
mod prompt;
mod proto;
mod quota_usage;
mod remediation;
mod serve;
mod service_manager;
mod session;
mod shell;
mod signals;
mod stopped;
mod version;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::error::Error;

/// Exit code for bad usage and bad configuration (EX_USAGE of sysexits).
const BAD_USAGE: u8 = 64;

/// Timeout for blocking threads to end after the command.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// HubSpot CRM leads for every service of a company, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "leadsd", version, long_version = version::long(), about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service.
    Serve {
        /// Configuration file; environment variables (LEADSD_...) override it.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Runs the service on loopback with a fake HubSpot and a fake Vault: no account, no setup.
    Dev(Box<dev::Args>),
    /// Checks the health of a running service, for container health checks and probes.
    ///
    /// Exits with 0 if the service is SERVING and with 1 otherwise.
    Health(health::Args),
    /// Calls any RPC of a running service, and prints its response.
    ///
    /// Needs no configuration and no server reflection.
    Call(Box<call::Args>),
    /// Exports all leads of a running service, or all that match, to a file.
    ///
    /// The file gets its name once it is complete. An export that was interrupted continues with --resume.
    Export(Box<export::Args>),
    /// Creates or updates a lead in a running service for each row of a file.
    ///
    /// An import that was interrupted continues with --resume; no row is written twice.
    Import(Box<import::Args>),
    /// Obtains a credential from HubSpot and stores it in Vault.
    Login(login::Args),
    /// Checks everything the service needs, and reports cause and remedy of each failure.
    ///
    /// Exits with 0 if no check fails (warnings are allowed) and with 1 otherwise.
    Doctor(doctor::Args),
    /// Validates or prints the configuration.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Writes the contract to a folder: the proto files and a descriptor set.
    ///
    /// Files with the same content are kept. If a file has other content, nothing is written.
    Proto(proto::Args),
    /// Prints version, commit and date of the build.
    Version(version::Args),
    /// Prints the completion script of a shell.
    Completions {
        /// Shell that loads the script.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page of leadsd, or of one of its commands, in the format of man.
    Man {
        /// Command, such as `serve` or `config check`.
        command: Vec<String>,
    },
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // If printing fails, the exit code still reports the error.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(BAD_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let done = match cli.command {
        Command::Serve { config } => on_runtime(serve::run(config)),
        Command::Dev(args) => on_runtime(dev::run(*args)),
        Command::Health(args) => on_one_thread(async { Ok(health::run(args).await?) }),
        Command::Call(args) => match on_one_thread(call::run(*args)) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Export(args) => match on_runtime(export::run(*args)) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Import(args) => match on_runtime(import::run(*args)) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error),
        },
        Command::Login(args) => hardening::deny_debugging()
            .and_then(|()| on_runtime(async { Ok(login::run(args).await?) })),
        Command::Doctor(args) => {
            match hardening::deny_debugging().and_then(|()| on_runtime(doctor::run(args))) {
                Ok(doctor::Verdict::Failed) => return ExitCode::FAILURE,
                Ok(doctor::Verdict::Passed) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Command::Config { command } => config::run(command),
        Command::Proto(args) => proto::run(&args).map_err(Error::from),
        Command::Version(args) => version::run(&args),
        Command::Completions { shell } => shell::completions(Cli::command(), shell),
        Command::Man { command } => shell::manual(Cli::command(), &command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader, such as `head`, has closed the pipe.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // If standard error is closed or blocked, the exit code remains.
            output::print_last(format!("leadsd: {error}"));
            match error {
                Error::Config(_)
                | Error::InvalidConfig
                | Error::UnknownCommand(_)
                | Error::Health(health::Error::Profile(_))
                | Error::DevBeyondLoopback { .. }
                | Error::DevUsage { .. }
                | Error::Login(login::Error::Usage(_) | login::Error::Config(_)) => {
                    ExitCode::from(BAD_USAGE)
                }
                Error::Health(_)
                | Error::Aborted
                | Error::Login(_)
                | Error::App(_)
                | Error::Telemetry(_)
                | Error::DevListen { .. }
                | Error::DevState(_)
                | Error::Proto(_)
                | Error::Io { .. } => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs a command on a multi-threaded runtime.
fn on_runtime<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "cannot start the runtime", source })?;
    let done = runtime.block_on(work);
    // An unanswered prompt leaves a thread blocked in a read of standard input.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

/// Runs a short command on one thread: more threads would cost more than the command.
fn on_one_thread<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "cannot start the runtime", source })?;
    let done = runtime.block_on(work);
    // A look-up of a host name, or output without a reader, leaves a thread blocked.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
