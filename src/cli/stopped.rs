//! End of an export or an import that is not complete, and how to continue it.

use std::{env::args_os, fmt::Display};

use super::{
    call::{Exit, Failure, one_line},
    invocation::resume_command,
    output::print_last,
    session::SessionError,
};

/// End of a command that is not complete.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Error of the command line, a profile or a file; nothing was sent.
    Usage(String),
    Failed(Box<Failure>),
    /// A file cannot be written, or no longer be read.
    File(String),
    /// A lead does not fit in the form of the file.
    Lead(String),
    Signal(u8),
}

// === impl Stopped ===

impl Stopped {
    /// Error before anything was sent.
    pub(super) fn usage(error: impl Display) -> Self {
        Self::Usage(error.to_string())
    }

    /// Reports the end. `kept` is a sentence on what a repeat with `--resume` continues; without it,
    /// `nothing` says what had no effect.
    pub(super) fn report(self, kept: Option<String>, nothing: &str) -> Exit {
        let (text, exit) = match self {
            Self::Usage(text) => (one_line(&text).into_owned(), Exit::Usage),
            Self::Failed(failure) => {
                (failure.text().trim_end().to_owned(), Exit::Failed(failure.code))
            }
            Self::File(text) | Self::Lead(text) => (one_line(&text).into_owned(), Exit::Output),
            Self::Signal(number) => ("interrupted".to_owned(), Exit::Signal(number)),
        };
        let further = match (kept, exit) {
            (_, Exit::Usage) => String::new(),
            (Some(kept), _) => {
                format!("\n{kept} To continue:\n  {}", resume_command(args_os()))
            }
            (None, _) => format!("\n{nothing}"),
        };
        print_last(format!("leadsd: {text}{further}"));
        exit
    }
}

impl From<SessionError> for Stopped {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Usage(error) => Self::usage(error),
            SessionError::Failed(failure) => Self::Failed(failure),
        }
    }
}
