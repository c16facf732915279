//! `[process]`: settings of the operating system's process.

use super::raw;

/// `[process]`: settings of the operating system's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Allows debuggers, profilers and core dumps, which expose secrets in memory. Default false.
    pub allow_debugging: bool,
}

// === impl Process ===

impl From<raw::Process> for Process {
    fn from(raw: raw::Process) -> Self {
        let raw::Process { allow_debugging } = raw;
        Self { allow_debugging }
    }
}
