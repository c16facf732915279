//! Resource usage of the process from Linux's `/proc`; other systems report nothing.

use std::fs;

use leadsd_base::memory::resident_bytes;

/// Clock ticks per second in `/proc`: 100 on all supported architectures.
const TICKS: f64 = 100.0;

/// Resource usage of the process; `None` if a value cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct ProcessUsage {
    /// User and system CPU time in seconds.
    pub(super) cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Number of open file descriptors.
    pub(super) open_fds: Option<u64>,
    /// Maximum number of open file descriptors.
    pub(super) max_fds: Option<u64>,
}

// === impl ProcessUsage ===

impl ProcessUsage {
    pub(super) fn now() -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/self/{file}")).ok();
        Self {
            cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
            resident_bytes: resident_bytes(),
            // One of them is the open directory itself.
            open_fds: fs::read_dir("/proc/self/fd")
                .ok()
                .and_then(|fds| u64::try_from(fds.count().saturating_sub(1)).ok()),
            max_fds: read("limits").as_deref().and_then(max_fds),
        }
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The program name is in parentheses and may contain any character.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut ticks = fields.split(' ').skip(11).map(|field| field.parse::<f64>().ok());
    Some((ticks.next()?? + ticks.next()??) / TICKS)
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_parsed() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 5 0 0 0 250 50 0 0 20 0 3 0 100 9 9";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        let limits = "Max open files            1024                 4096                 files\n";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!((cpu_seconds(""), max_fds("")), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn usage_of_this_process_is_read() {
        let ProcessUsage { cpu_seconds, resident_bytes, open_fds, max_fds } = ProcessUsage::now();
        assert!(cpu_seconds.is_some() && resident_bytes > Some(1 << 20));
        assert!(open_fds >= Some(3) && max_fds > open_fds);
    }
}
