//! Memory limit of the cgroup of the process.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Limits from this value on mean "no limit": version 1 reports almost 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// Hierarchy of cgroups that limits memory.
#[derive(Debug, Clone, Copy)]
enum Hierarchy {
    /// Version 1, with the controller `memory`.
    V1,
    /// Version 2.
    V2,
}

/// Lowest memory limit in bytes of the cgroup of the process and of those that contain it. `None` if there
/// is no limit, as on systems other than Linux.
pub fn cgroup_limit() -> Option<u64> {
    limit_below(Path::new("/"))
}

/// Lowest limit, with all paths below `root`.
fn limit_below(root: &Path) -> Option<u64> {
    let cgroups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
    [Hierarchy::V1, Hierarchy::V2]
        .into_iter()
        .filter_map(|hierarchy| {
            let (mount_root, mount_point) =
                mounts.lines().find_map(|line| hierarchy.mount(line))?;
            let cgroup = cgroups.lines().find_map(|line| hierarchy.cgroup(line))?;
            // A container may see only its own cgroup, mounted at the mount point.
            let inside =
                Path::new(cgroup).strip_prefix(mount_root).unwrap_or_else(|_| Path::new(""));
            let top = root.join(mount_point.trim_start_matches('/'));
            lowest_limit(&top, inside, hierarchy.file())
        })
        .min()
}

/// Lowest limit in the files of a cgroup and of those that contain it, up to `top`.
fn lowest_limit(top: &Path, inside: &Path, file: &str) -> Option<u64> {
    let folders = inside.ancestors().map(|folder| -> PathBuf { top.join(folder).join(file) });
    folders
        // No limit is "max" in version 2.
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .filter(|limit| *limit < NO_LIMIT)
        .min()
}

// === impl Hierarchy ===

impl Hierarchy {
    /// Name of the file with the limit.
    fn file(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    /// Cgroup in a line of `/proc/self/cgroup`, if it belongs to this hierarchy.
    fn cgroup(self, line: &str) -> Option<&str> {
        let (_, line) = line.split_once(':')?;
        let (controllers, cgroup) = line.split_once(':')?;
        let is_own = match self {
            Self::V1 => controllers.split(',').any(|controller| controller == "memory"),
            Self::V2 => controllers.is_empty(),
        };
        is_own.then_some(cgroup)
    }

    /// Root and mount point in a line of `/proc/self/mountinfo`, if it mounts this hierarchy.
    fn mount(self, line: &str) -> Option<(&str, &str)> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut filesystem = filesystem.split(' ');
        let (kind, options) = (filesystem.next()?, filesystem.nth(1)?);
        let is_own = match self {
            Self::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            Self::V2 => kind == "cgroup2",
        };
        let mut fields = mount.split(' ').skip(3);
        is_own.then_some((fields.next()?, fields.next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_MOUNT: &str =
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    /// Creates files and returns the lowest limit.
    fn limit(cgroups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("proc/self/cgroup", cgroups);
        write("proc/self/mountinfo", mounts);
        for (file, text) in files {
            write(file, text);
        }
        limit_below(root.path())
    }

    #[test]
    fn the_lowest_limit_of_nested_cgroups_counts() {
        let nested = |pod: &str, container: &str| {
            let files = [
                ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
                ("sys/fs/cgroup/kubepods/pod1/memory.max", pod),
                ("sys/fs/cgroup/kubepods/pod1/app/memory.max", container),
            ];
            limit("0::/kubepods/pod1/app\n", V2_MOUNT, &files)
        };
        assert_eq!(nested("300\n", "200\n"), Some(200));
        assert_eq!(nested("300\n", "400\n"), Some(300));
        assert_eq!(nested("300\n", "max\n"), Some(300));
        assert_eq!(nested("max\n", "max\n"), None);
    }

    #[test]
    fn a_container_sees_its_cgroup_at_the_mount_point() {
        let namespaced = [("sys/fs/cgroup/memory.max", "268435456\n")];
        assert_eq!(limit("0::/\n", V2_MOUNT, &namespaced), Some(268_435_456));
        // Without a namespace, the mount shows only a part of the hierarchy.
        let mount = "31 23 0:27 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let files = [("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n")];
        assert_eq!(limit("4:memory:/docker/a\n", mount, &files), Some(1000));
        assert_eq!(limit("4:memory:/elsewhere\n", mount, &files), Some(1000));
    }

    #[test]
    fn both_versions_are_read_and_a_missing_limit_is_no_limit() {
        let mounts = format!(
            "{V2_MOUNT}31 23 0:27 / /sys/fs/v1/memory rw - cgroup cgroup rw,memory\n\
             32 23 0:28 / /sys/fs/v1/cpu rw - cgroup cgroup rw,cpu\n"
        );
        let cgroups = "5:cpu,memory:/a/b\n1:name=systemd:/\n0::/\n";
        let files = [
            ("sys/fs/v1/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/v1/memory/a/memory.limit_in_bytes", "7000\n"),
            ("sys/fs/v1/memory/a/b/memory.limit_in_bytes", "9000\n"),
            ("sys/fs/v1/cpu/a/b/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(limit(cgroups, &mounts, &files), Some(7000));
        assert_eq!(limit(cgroups, &mounts, &files[..1]), None);
        assert_eq!(limit("", "", &[]), None);
        assert_eq!(limit("garbage", "garbage - x\n", &[]), None);
    }
}
