//! Exit codes of `leadsd call`. They are part of the command line: scripts depend on them.

use std::process::ExitCode;

use tonic::Code;

/// Exit code of wrong usage: nothing was sent.
const USAGE: u8 = 64;

/// Added to a gRPC code, as grpcurl does. The codes are 65 (CANCELLED) to 80 (UNAUTHENTICATED).
const STATUS_BASE: u8 = 64;

/// Added to the number of a signal, as shells do.
const SIGNAL_BASE: u8 = 128;

/// Help text on exit codes.
pub(super) const HELP: &str = "\
Exit codes:
  0        the call succeeded, or the reader of standard output has closed it
  1        standard output cannot be written
  2        the call succeeded, but an input of a batch failed
  64       wrong usage, request, profile or file: nothing was sent
  65 to 80 the call failed: 64 plus the gRPC code, such as 69 for NOT_FOUND (5),
           72 for RESOURCE_EXHAUSTED (8) or 78 for UNAVAILABLE (14)
  129, 130, 143
           SIGHUP, SIGINT (Ctrl-C) or SIGTERM cancelled the call";

/// End of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Exit {
    /// The call succeeded, or the reader of the output has closed it.
    Ok,
    /// Standard output cannot be written.
    Output,
    /// The call succeeded, and inputs of its batch failed.
    InputsFailed,
    /// Error before anything was sent.
    Usage,
    /// The call failed.
    Failed(Code),
    /// This signal has cancelled the call.
    Signal(u8),
}

// === impl Exit ===

impl Exit {
    /// Number of the exit code.
    pub(in crate::cli) fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Output => 1,
            Self::InputsFailed => 2,
            Self::Usage => USAGE,
            // The codes of gRPC are 0 to 16; a failure is never OK.
            Self::Failed(code) => {
                STATUS_BASE + u8::try_from(code as i32).unwrap_or_default().clamp(1, 16)
            }
            Self::Signal(number) => SIGNAL_BASE.saturating_add(number),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_stable() {
        for (exit, code) in [
            (Exit::Ok, 0),
            (Exit::Output, 1),
            (Exit::InputsFailed, 2),
            (Exit::Usage, 64),
            (Exit::Failed(Code::Cancelled), 65),
            (Exit::Failed(Code::Unknown), 66),
            (Exit::Failed(Code::InvalidArgument), 67),
            (Exit::Failed(Code::DeadlineExceeded), 68),
            (Exit::Failed(Code::NotFound), 69),
            (Exit::Failed(Code::AlreadyExists), 70),
            (Exit::Failed(Code::PermissionDenied), 71),
            (Exit::Failed(Code::ResourceExhausted), 72),
            (Exit::Failed(Code::FailedPrecondition), 73),
            (Exit::Failed(Code::Aborted), 74),
            (Exit::Failed(Code::OutOfRange), 75),
            (Exit::Failed(Code::Unimplemented), 76),
            (Exit::Failed(Code::Internal), 77),
            (Exit::Failed(Code::Unavailable), 78),
            (Exit::Failed(Code::DataLoss), 79),
            (Exit::Failed(Code::Unauthenticated), 80),
            (Exit::Signal(1), 129),
            (Exit::Signal(2), 130),
            (Exit::Signal(15), 143),
        ] {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
        // A batch input can have the status OK, a failed call cannot.
        assert_eq!(Exit::Failed(Code::Ok).code(), 65);
    }
}
