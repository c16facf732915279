//! Private folder of `leadsd dev`: the token of the fake Vault, the configuration and certificates. Only
//! the user can read it. It is deleted at the end, or by the next start if the process was killed.

use std::{
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::process::{Pid, geteuid, test_kill_process};
use tempfile::TempDir;

/// Beginning of the name of a folder; the id of its process follows.
const PREFIX: &str = "leadsd-dev-";

/// Maximum number of entries of the folder for temporary files that are searched for abandoned folders.
const MAX_ENTRIES: usize = 10_000;

/// Private folder; deleted on drop.
pub(super) struct Folder(TempDir);

// === impl Folder ===

impl Folder {
    pub(super) fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// Creates a folder below `parent`, and deletes those of processes that were killed.
    fn below(parent: &Path) -> io::Result<Self> {
        remove_abandoned(parent);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).permissions(std::fs::Permissions::from_mode(0o700));
        builder.tempdir_in(parent).map(Self)
    }

    /// Writes a file that only the user can read; returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// Deletes the folders of this user whose process has ended. A folder that cannot be deleted stays.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.take(MAX_ENTRIES).filter_map(Result::ok) {
        let name = entry.file_name();
        let is_abandoned = name.to_str().and_then(process_of).is_some_and(has_ended);
        // Not of the target of a link.
        let is_own = |metadata: &std::fs::Metadata| {
            metadata.is_dir() && metadata.uid() == geteuid().as_raw()
        };
        if is_abandoned && entry.metadata().is_ok_and(|metadata| is_own(&metadata)) {
            // Another process may delete it at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Process that a folder name names; `None` for other names.
fn process_of(name: &str) -> Option<Pid> {
    let (id, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    Pid::from_raw(id.parse().ok().filter(|id| *id > 0)?)
}

fn has_ended(process: Pid) -> bool {
    test_kill_process(process) == Err(rustix::io::Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_ended_processes_are_deleted_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (ended, running) = (child.id(), std::process::id());
        child.wait().unwrap();
        let path = |name: &str| parent.path().join(name);
        let abandoned = path(&format!("{PREFIX}{ended}-a"));
        let kept = [
            path(&format!("{PREFIX}{running}-a")),
            path(&format!("other-{ended}-a")),
            path(&format!("{PREFIX}{ended}")),
            path(&format!("{PREFIX}-1-a")),
            path(&format!("{PREFIX}0-a")),
        ];
        for folder in kept.iter().chain([&abandoned]) {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("vault-token"), "t").unwrap();
        }
        let link = path(&format!("{PREFIX}{ended}-link"));
        std::os::unix::fs::symlink(&kept[1], &link).unwrap();
        let folder = Folder::below(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(kept.iter().all(|folder| folder.join("vault-token").exists()));
        assert!(link.exists(), "a link is no folder");
        assert!(folder.0.path().exists());
    }

    #[test]
    fn only_the_user_reads_the_folder_and_it_is_deleted() {
        let folder = Folder::new().unwrap();
        let file = folder.write("token", "t").unwrap();
        let mode =
            |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.parent().unwrap()), mode(&file)), (0o700, 0o600));
        assert!(folder.write("token", "other").is_err(), "no file is replaced");
        drop(folder);
        assert!(!file.exists());
    }
}
