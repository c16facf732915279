//! Protects the memory of this process, which holds tokens and secrets.

use super::error::Error;

/// Denies debuggers and other processes of the same user access to the memory of this process, and
/// disables core files. A process with CAP_SYS_PTRACE, such as root's, keeps its access.
pub(super) fn deny_debugging() -> Result<(), Error> {
    let failed = |what| move |error: rustix::io::Errno| Error::Io { what, source: error.into() };
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
        .map_err(failed("cannot disable core files"))?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(failed("cannot deny debuggers access to the process"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_protected_process_is_not_dumpable_and_reads_its_own_figures() {
        deny_debugging().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        // The files of /proc belong to root now; the metrics of the process read these.
        for file in ["stat", "statm", "status", "limits"] {
            assert!(std::fs::read_to_string(format!("/proc/self/{file}")).is_ok(), "{file}");
        }
        assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() > 2);
    }
}
