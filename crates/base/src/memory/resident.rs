//! Resident memory of the process.

use std::fs;

/// Resident memory of the process in bytes, from Linux's `/proc`. `None` if it cannot be read, as on other
/// systems.
pub fn resident_bytes() -> Option<u64> {
    parse(&fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_process_is_parsed() {
        assert_eq!(parse("VmPeak:\t9 kB\nVmRSS:\t   20 kB\n"), Some(20 * 1024));
        assert_eq!((parse(""), parse("VmRSS:"), parse("VmRSS: x kB")), (None, None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_resident_memory_of_this_process_is_read() {
        assert!(resident_bytes() > Some(1 << 20));
    }
}
