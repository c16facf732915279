//! `leadsd call`: makes any RPC of a running service, by the contract that is compiled in.
//!
//! - `contract`: methods, types and fields by name, with suggestions. `describe` prints them.
//! - `request`: requests from arguments and JSON; `assign`, `from_json` and `scalar` fill messages, typed by
//!   the descriptor.
//! - `exchange`: one call over a connection of [`super::client`]; `printer` takes its messages.
//! - `tree`, `render` and `escape`: output of messages, without control characters of the service.
//! - `completion`: method names for fish, whose generated script has none.
//! - `failure`: errors for people and as JSON. `exit`: exit codes. `lead_json`: leads as JSON. `export` and
//!   `import` use these as well.
//!
//! Nothing of a server is trusted: its messages are bounded, its text is escaped, and a stream is written
//! message by message.

mod args;
mod assign;
mod completion;
mod contract;
mod describe;
mod escape;
mod exchange;
mod exit;
mod failure;
mod from_json;
mod lead_json;
mod printer;
mod render;
mod request;
mod scalar;
mod tree;

use std::{fmt::Write as _, io, time::Duration};

use prost_reflect::MethodDescriptor;
use tokio::time::Instant;
use tonic::Code;

pub(super) use self::{
    args::Args, completion::fish as fish_completions, escape::one_line, exit::Exit,
    failure::Failure, lead_json::lead_json,
};
use self::{
    contract::{UnknownName, find, find_method},
    exchange::{Completed, Exchange, Stopped},
    printer::Printer,
    request::{InvalidRequest, reads_stdin, requests},
};
use super::{
    client::{Connection, DialError, InvalidTarget, Target},
    error::Error,
    hardening::deny_debugging,
    output,
    signals::Signals,
};

/// Default deadline of a call for one lead or one page.
const DEADLINE: Duration = Duration::from_secs(20);

/// Default deadline of a batch.
const BATCH_DEADLINE: Duration = Duration::from_secs(120);

/// Maximum time for connecting. A stream has no deadline that would bound it.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Error of the command line, a profile or a file; nothing was sent.
#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error(transparent)]
    Name(#[from] UnknownName),
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    #[error(transparent)]
    Dial(DialError),
    #[error(transparent)]
    Process(#[from] Error),
    #[error("the request and the token cannot both be read from standard input: use --token-file")]
    TwoReaders,
    #[error("--max-messages is for streams, and {0} has one response")]
    NoStream(String),
}

/// End of a command that made no call.
#[derive(Debug)]
enum NoCall {
    Usage(UsageError),
    /// The service cannot be reached.
    Failed(Failure),
    /// Standard output cannot be written.
    Output(io::Error),
    /// The command needed none.
    Done,
}

/// Call that is ready to be made, and its connection.
#[derive(Debug)]
struct Ready {
    connection: Connection,
    exchange: Exchange,
}

/// Runs the command; returns its exit code.
pub(super) async fn run(args: Args) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let (json, verbose) = (args.json, args.verbose);
    let exit = tokio::select! {
        biased;
        signal = signals.received() => {
            output::print_last("leadsd: cancelled; nothing was sent".to_owned());
            Exit::Signal(signal)
        }
        ready = ready(args) => match ready {
            Ok(ready) => make(ready, Printer::new(json, verbose), &mut signals, json).await,
            Err(no_call) => no_call.report(json),
        },
    };
    Ok(exit.code())
}

/// Makes the call and reports its outcome. A signal cancels it.
async fn make(ready: Ready, mut printer: Printer, signals: &mut Signals, json: bool) -> Exit {
    let Ready { connection, exchange } = ready;
    let exit = tokio::select! {
        biased;
        signal = signals.received() => {
            output::print_last("leadsd: cancelled; a write may have taken effect".to_owned());
            Exit::Signal(signal)
        }
        done = exchange.run(&connection, &mut printer) => match done {
            Ok(completed) => report_inputs(&completed, json),
            Err(Stopped::Failed(failure)) => report(&failure, json),
            Err(Stopped::Output(error)) => report_output(&error),
        },
    };
    connection.close().await;
    exit
}

/// Prepares the call: everything that can fail before something is sent, then the connection.
async fn ready(args: Args) -> Result<Ready, NoCall> {
    if args.list {
        return Err(NoCall::printed(&describe::list()));
    }
    if let Some(name) = &args.describe {
        let described = find(name).map_err(UsageError::Name)?;
        return Err(NoCall::printed(&describe::describe(&described)));
    }
    let method =
        find_method(args.method.as_deref().unwrap_or_default()).map_err(UsageError::Name)?;
    if args.max_messages.is_some() && !method.is_server_streaming() {
        return Err(UsageError::NoStream(method.name().to_owned()).into());
    }
    let target = Target::new(args.connect).map_err(UsageError::Target)?;
    if target.prompts() && reads_stdin(&args.request) {
        return Err(UsageError::TwoReaders.into());
    }
    if target.has_token() {
        deny_debugging().map_err(UsageError::Process)?;
    }
    let requests = requests(method.clone(), args.request).await.map_err(UsageError::Request)?;
    let metadata = target.metadata().await.map_err(UsageError::Target)?;
    let origin = target.origin().map_err(UsageError::Target)?;
    let start = Instant::now();
    let deadline = target.deadline.or_else(|| default_deadline(&method));
    let deadline = deadline.map(|length| (start + length, length));
    let connecting = start + CONNECT_TIMEOUT;
    let until = deadline.map_or(connecting, |(until, _)| until.min(connecting));
    let connection = match Connection::open(&target, until).await {
        Ok(connection) => connection,
        Err(error) if error.is_usage() => return Err(UsageError::Dial(error).into()),
        Err(error) => return Err(NoCall::Failed(unreachable_service(&error, deadline))),
    };
    let exchange = Exchange {
        method,
        origin,
        metadata,
        requests,
        deadline,
        max_response: args.max_response_size,
        max_messages: args.max_messages,
    };
    Ok(Ready { connection, exchange })
}

/// Failure of a connection: the deadline may have passed before the maximum time for connecting.
pub(super) fn unreachable_service(
    error: &DialError,
    deadline: Option<(Instant, Duration)>,
) -> Failure {
    let expired = deadline.filter(|(until, _)| *until <= Instant::now());
    let (code, remedy) = match expired {
        Some(_) => (Code::DeadlineExceeded, "raise --deadline; nothing was sent"),
        None => (
            Code::Unavailable,
            "check the address, that the service runs, and whether it needs --tls",
        ),
    };
    Failure::local(code, error.to_string(), remedy)
}

fn default_deadline(method: &MethodDescriptor) -> Option<Duration> {
    match (method.is_server_streaming(), method.name().starts_with("Batch")) {
        (true, _) => None,
        (false, true) => Some(BATCH_DEADLINE),
        (false, false) => Some(DEADLINE),
    }
}

/// Reports the failed inputs of a batch.
fn report_inputs(completed: &Completed, json: bool) -> Exit {
    let Completed { failed, failed_count, input_count } = completed;
    if *failed_count == 0 {
        return Exit::Ok;
    }
    let mut text = format!("leadsd: {failed_count} of {input_count} inputs failed\n");
    // JSON has the errors beside the other results.
    for (path, failure) in failed.iter().filter(|_| !json) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{path}: {}", failure.text());
    }
    if !json && *failed_count > failed.len() {
        let _ = writeln!(text, "and {} more", failed_count - failed.len());
    }
    output::print_last(text.trim_end().to_owned());
    Exit::InputsFailed
}

fn report(failure: &Failure, json: bool) -> Exit {
    let text = if json { failure.json() } else { format!("leadsd: {}", failure.text().trim_end()) };
    output::print_last(text);
    Exit::Failed(failure.code)
}

/// Reports that standard output cannot be written. A reader that has closed it, such as `head`, wants no
/// more.
fn report_output(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Exit::Ok;
    }
    output::print_last(format!("leadsd: cannot write to standard output: {error}"));
    Exit::Output
}

// === impl NoCall ===

impl NoCall {
    fn printed(text: &str) -> Self {
        match output::print(text) {
            Ok(()) => Self::Done,
            Err(error) => Self::Output(error),
        }
    }

    fn report(self, json: bool) -> Exit {
        match self {
            Self::Usage(error) => {
                let text = error.to_string();
                output::print_last(format!("leadsd: {}", escape::one_line(&text)));
                Exit::Usage
            }
            Self::Failed(failure) => report(&failure, json),
            Self::Output(error) => report_output(&error),
            Self::Done => Exit::Ok,
        }
    }
}

impl From<UsageError> for NoCall {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}
