//! Help on columns and exit codes of `leadsd import`.

use super::mapping;

/// Help text on exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0        all rows were imported, or are valid
  1        the results cannot be written
  2        all rows have a result, and some have failed
  64       wrong usage, profile or file: nothing was sent
  65 to 80 the import stopped: 64 plus the gRPC code, as in leadsd call
  129, 130, 143
           SIGHUP, SIGINT (Ctrl-C) or SIGTERM interrupted the import; --resume continues it";

/// Text after the help of the options.
pub(super) fn help() -> String {
    format!("{}\n\n{EXIT_CODES}", mapping::HELP)
}
