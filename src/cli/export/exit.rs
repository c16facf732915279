//! Help on conditions and exit codes of `leadsd export`.

use super::filter;

/// Help text on exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0        the file is complete
  1        a file cannot be written
  64       wrong usage, profile or file: nothing was sent
  65 to 80 the export failed: 64 plus the gRPC code, as in leadsd call
  129, 130, 143
           SIGHUP, SIGINT (Ctrl-C) or SIGTERM interrupted the export; --resume continues it";

/// Text after the help of the options.
pub(super) fn help() -> String {
    format!("{}\n\n{EXIT_CODES}", filter::HELP)
}
