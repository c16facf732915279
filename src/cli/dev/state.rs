//! `--state FILE`: keeps the records of the fake HubSpots between runs.
//!
//! The file is written beside itself and renamed, so that a crash leaves the old or the new one. A file
//! that cannot be read ends the start; it is never replaced.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::select_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tracing::warn;

use super::fakes::Fakes;
use leadsd_base::task::{self, Task};
use leadsd_hubspot_fake::{FakeHubspot, Snapshot};

/// Version of the format.
const VERSION: u64 = 1;

/// Maximum size of the file: half a million leads.
const MAX_SIZE: u64 = 512 * 1024 * 1024;

/// Time between a change and the write: a burst of changes is one write.
const WRITE_DELAY: Duration = Duration::from_millis(500);

/// Error of a state file; its text names the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("--state {0}: another leadsd dev uses this file; stop it or name another file")]
    InUse(String),
    #[error("--state {path}: {source}")]
    Io { path: String, source: io::Error },
    #[error(
        "--state {path}: not a state file of leadsd dev: {what}; it is unchanged; name another file or remove it"
    )]
    Invalid { path: String, what: String },
    #[error(
        "--state {path}: has the version {version}, and this leadsd reads version {VERSION}; use the leadsd that wrote it or name another file"
    )]
    Version { path: String, version: u64 },
}

/// A locked state file.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// Records of portals that do not run.
    others: BTreeMap<String, Snapshot>,
    /// Holds the lock until it is dropped.
    _lock: File,
}

/// Writes changed records to a state file.
pub(super) struct StateKeeper {
    state: Arc<Mutex<KeptState>>,
    task: Task,
}

/// State file with the accounts that it keeps.
struct KeptState {
    file: StateFile,
    accounts: Vec<(String, Arc<FakeHubspot>)>,
}

/// Content of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    leadsd_dev_state: u64,
    portals: BTreeMap<String, Snapshot>,
}

/// Version of a file, whatever else it contains.
#[derive(Deserialize)]
struct Header {
    leadsd_dev_state: u64,
}

// === impl StateFile ===

impl StateFile {
    /// Locks and reads a state file; returns the records of its portals. A file that does not exist has
    /// none.
    pub(super) fn open(path: &Path) -> Result<(Self, BTreeMap<String, Snapshot>), Error> {
        // A symbolic link stays, and its target is replaced.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let shown = path.display().to_string();
        let io = |source| Error::Io { path: shown.clone(), source };
        let lock = sibling(&path, "lock").map_err(io)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).write(true).truncate(false).mode(0o600).open(lock);
        let lock = lock.map_err(io)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Error::InUse(shown.clone()),
            TryLockError::Error(source) => Error::Io { path: shown.clone(), source },
        })?;
        let text = read(&path).map_err(io)?;
        let invalid = |what: String| Error::Invalid { path: shown.clone(), what };
        let portals = match text {
            None => BTreeMap::new(),
            Some(text) => {
                let header: Header =
                    serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
                let version = header.leadsd_dev_state;
                if version != VERSION {
                    return Err(Error::Version { path: shown, version });
                }
                let document: Document =
                    serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
                document.portals
            }
        };
        Ok((Self { path, others: BTreeMap::new(), _lock: lock }, portals))
    }

    /// Replaces the file.
    fn write(&self, mut portals: BTreeMap<String, Snapshot>) -> io::Result<()> {
        portals.extend(self.others.clone());
        let document = Document { leadsd_dev_state: VERSION, portals };
        let text = serde_json::to_vec_pretty(&document)?;
        let temporary = sibling(&self.path, "tmp")?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename is in the directory.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.display().to_string(), source }
    }
}

// === impl StateKeeper ===

impl StateKeeper {
    /// Writes the file at once, which shows whether it can be written, and then after changes.
    pub(super) fn start(
        mut file: StateFile,
        mut saved: BTreeMap<String, Snapshot>,
        fakes: &Fakes,
    ) -> Result<Self, Error> {
        let account = |fake: &super::fakes::Fake| {
            saved.remove(fake.portal.as_str());
            (fake.portal.to_string(), Arc::clone(&fake.hubspot))
        };
        let accounts: Vec<_> = fakes.all.iter().map(account).collect();
        file.others = saved;
        let mut changes: Vec<_> = accounts.iter().map(|(_, account)| account.changes()).collect();
        let state = Arc::new(Mutex::new(KeptState { file, accounts }));
        state.lock().save()?;
        let kept = Arc::clone(&state);
        let task = task::spawn("dev-state", "", async move {
            loop {
                let changed = changes.iter_mut().map(|change| Box::pin(change.changed()));
                // Errors if an account ended; the keeper has all of them.
                let (Ok(()), ..) = select_all(changed).await else { return };
                sleep(WRITE_DELAY).await;
                for change in &mut changes {
                    change.mark_unchanged();
                }
                let state = Arc::clone(&kept);
                let saved = tokio::task::spawn_blocking(move || state.lock().save()).await;
                if let Ok(Err(error)) = saved {
                    warn!(%error, "Failed to write the state file");
                }
            }
        });
        Ok(Self { state, task })
    }

    /// Writes the file for the last time.
    pub(super) fn finish(self) -> Result<(), Error> {
        drop(self.task);
        self.state.lock().save()
    }
}

// === impl KeptState ===

impl KeptState {
    fn save(&self) -> Result<(), Error> {
        let portals =
            self.accounts.iter().map(|(portal, account)| (portal.clone(), account.snapshot()));
        self.file.write(portals.collect()).map_err(|source| self.file.error(source))
    }
}

/// Reads a file; `None` if it does not exist.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if metadata.len() > MAX_SIZE {
        return Err(io::Error::other(format!("has more than {MAX_SIZE} bytes")));
    }
    fs::read(path).map(Some)
}

/// Hidden file beside the state file, such as `.leads.json.tmp`.
fn sibling(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("is not the name of a file"))?;
    Ok(path.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use leadsd_base::time::SystemClock;

    async fn snapshot() -> Snapshot {
        let hubspot = FakeHubspot::start(([127, 0, 0, 1], 0).into(), Arc::new(SystemClock)).await;
        let hubspot = hubspot.unwrap();
        hubspot.seed();
        hubspot.snapshot()
    }

    #[tokio::test]
    async fn a_written_file_is_read_again_and_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leads.json");
        let (file, portals) = StateFile::open(&path).unwrap();
        assert!(portals.is_empty() && !path.exists());
        let portals = BTreeMap::from([("a".to_owned(), snapshot().await)]);
        file.write(portals.clone()).unwrap();
        let error = StateFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("another leadsd dev uses this file"), "{error}");
        drop(file);
        assert_eq!(StateFile::open(&path).unwrap().1, portals);
        let names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert!(
            names.len() == 2 && !names.iter().any(|name| name == ".leads.json.tmp"),
            "{names:?}"
        );
    }

    #[tokio::test]
    async fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leads.json");
        let (file, _) = StateFile::open(&path).unwrap();
        file.write(BTreeMap::from([("a".to_owned(), snapshot().await)])).unwrap();
        let before = fs::read(&path).unwrap();
        // A directory with the name of the temporary file makes every write fail.
        fs::create_dir(folder.path().join(".leads.json.tmp")).unwrap();
        let error = file.error(file.write(BTreeMap::new()).unwrap_err()).to_string();
        assert!(error.contains("--state") && error.contains("leads.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn a_file_that_is_no_state_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("leads.json");
        let valid = Document {
            leadsd_dev_state: VERSION,
            portals: BTreeMap::from([("a".to_owned(), snapshot().await)]),
        };
        let valid = serde_json::to_string(&valid).unwrap();
        let with = |key: &str, value: Value| {
            let mut changed: Value = serde_json::from_str(&valid).unwrap();
            changed[key] = value;
            changed.to_string()
        };
        for (text, expected) in [
            (String::new(), "not a state file of leadsd dev"),
            (valid[..valid.len() / 2].to_owned(), "not a state file"),
            ("{}".to_owned(), "missing field `leadsd_dev_state`"),
            (
                with("leadsd_dev_state", json!(2)),
                "has the version 2, and this leadsd reads version 1",
            ),
            (with("portals", json!({"a": 1})), "not a state file"),
            (with("more", json!(1)), "unknown field `more`"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = StateFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("leads.json"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is unchanged");
        }
        for odd in [folder.path(), &folder.path().join("none/leads.json"), Path::new("..")] {
            let error = StateFile::open(odd).unwrap_err().to_string();
            assert!(error.starts_with("--state "), "{error}");
        }
    }
}
