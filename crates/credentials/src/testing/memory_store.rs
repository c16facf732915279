//! A secret store in memory: versions, check-and-set, deletion, lagging replicas and faults.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::time::sleep;

use super::{Fault, SECRET_MARKER};
use crate::{
    secret_path::SecretPath,
    store::{PortalSecret, SecretStore, StoreError, VersionState, VersionedSecret},
};
use leadsd_base::secret::Secret;

/// Operations of the store, for counts and faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreOperation {
    /// [`SecretStore::read`].
    Read,
    /// [`SecretStore::version`].
    Poll,
    /// [`SecretStore::replace_refresh_token`].
    Write,
    /// [`SecretStore::list`].
    List,
}

/// A KV v2 store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    secrets: BTreeMap<String, StoreEntry>,
    /// Faults by path; `None` applies to all paths.
    faults: BTreeMap<Option<String>, Fault>,
    operation_faults: BTreeMap<StoreOperation, Fault>,
    calls: Vec<(StoreOperation, String)>,
    /// A lagging replica: higher versions than this are not shown.
    highest_shown: Option<u64>,
    extra_names: Vec<String>,
}

#[derive(Debug, Default)]
struct StoreEntry {
    versions: Vec<Result<PortalSecret, StoreError>>,
    deleted: bool,
}

/// A static secret whose token contains [`SECRET_MARKER`] and `token`.
pub fn static_secret(token: &str) -> PortalSecret {
    PortalSecret::Static { access_token: Secret::new(format!("{SECRET_MARKER}-{token}")) }
}

/// An OAuth secret whose secrets contain [`SECRET_MARKER`] and the given texts.
pub fn oauth_secret(client_id: &str, client_secret: &str, refresh_token: &str) -> PortalSecret {
    PortalSecret::OAuth {
        client_id: client_id.to_owned(),
        client_secret: Secret::new(format!("{SECRET_MARKER}-{client_secret}")),
        refresh_token: Secret::new(format!("{SECRET_MARKER}-{refresh_token}")),
    }
}

// === impl MemoryStore ===

impl MemoryStore {
    /// Writes a new version, as an operator does, and returns its number.
    pub fn put(&self, path: &str, secret: PortalSecret) -> u64 {
        self.state().secrets.entry(path.to_owned()).or_default().push(Ok(secret))
    }

    /// Writes a new version without the keys of a portal's secret.
    pub fn put_malformed(&self, path: &str) -> u64 {
        let malformed = StoreError::Malformed("it has no `access_token`".to_owned());
        self.state().secrets.entry(path.to_owned()).or_default().push(Err(malformed))
    }

    /// Soft-deletes the newest version.
    pub fn delete(&self, path: &str) {
        self.state().entry(path).deleted = true;
    }

    /// Reverts [`MemoryStore::delete`].
    pub fn undelete(&self, path: &str) {
        self.state().entry(path).deleted = false;
    }

    /// Removes the secret with its metadata.
    pub fn purge(&self, path: &str) {
        let removed = self.state().secrets.remove(path);
        assert!(removed.is_some(), "no secret at {path}");
    }

    /// Fails all operations on paths without a fault in this map.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.insert(None, fault);
    }

    /// Fails all operations on one path.
    pub fn fail_path(&self, path: &str, fault: Fault) {
        self.state().faults.insert(Some(path.to_owned()), fault);
    }

    /// Fails one operation on all paths.
    pub fn fail_operation(&self, operation: StoreOperation, fault: Fault) {
        self.state().operation_faults.insert(operation, fault);
    }

    /// Ends all faults and the lag.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.operation_faults.clear();
        state.highest_shown = None;
    }

    /// Lags: shows no version above this.
    pub fn show_only(&self, version: u64) {
        self.state().highest_shown = Some(version);
    }

    /// Adds names to every listing.
    pub fn also_list(&self, names: &[&str]) {
        self.state().extra_names = names.iter().map(|&name| name.to_owned()).collect();
    }

    /// Number of calls so far.
    pub fn calls(&self) -> usize {
        self.state().calls.len()
    }

    /// Number of calls of one operation so far.
    pub fn count(&self, operation: StoreOperation) -> usize {
        self.state().calls.iter().filter(|(was, _)| *was == operation).count()
    }

    /// Number of calls for one path so far.
    pub fn count_path(&self, path: &str) -> usize {
        self.state().calls.iter().filter(|(_, was)| was == path).count()
    }

    /// Number of the newest version.
    pub fn version_of(&self, path: &str) -> u64 {
        self.state().entry(path).newest()
    }

    /// The newest version; `None` if it is malformed.
    pub fn newest(&self, path: &str) -> Option<PortalSecret> {
        self.state().entry(path).versions.last().cloned()?.ok()
    }

    /// The refresh token that the newest version holds. Panics if it holds none.
    #[track_caller]
    pub fn refresh_token(&self, path: &str) -> String {
        match self.newest(path) {
            Some(PortalSecret::OAuth { refresh_token, .. }) => refresh_token.expose().to_owned(),
            Some(PortalSecret::Static { .. }) | None => panic!("no refresh token at {path}"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(&self, operation: StoreOperation, path: &str) -> Result<(), StoreError> {
        let (fault, quoted) = {
            let mut state = self.state();
            state.calls.push((operation, path.to_owned()));
            let path_fault =
                state.faults.get(&Some(path.to_owned())).or_else(|| state.faults.get(&None));
            let fault = state.operation_faults.get(&operation).or(path_fault).cloned();
            (fault, state.secrets.get(path).map(StoreEntry::quote).unwrap_or_default())
        };
        match fault {
            None => Ok(()),
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                Ok(())
            }
            Some(Fault::Unavailable | Fault::Throttle(_)) => {
                Err(StoreError::Unavailable("sealed".to_owned()))
            }
            Some(Fault::QuoteSecrets | Fault::RejectQuotingSecrets) => {
                Err(StoreError::Unavailable(quoted))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Reject(_)) => Err(StoreError::Denied),
            Some(Fault::RejectLogin) => {
                Err(StoreError::LoginRejected("permission denied".to_owned()))
            }
            Some(Fault::Panic) => panic!("the store double was set to panic"),
        }
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError> {
        self.begin(StoreOperation::Read, path.as_str()).await?;
        let state = self.state();
        let entry = state.live(path)?;
        let version = state.shown(entry);
        let index = usize::try_from(version - 1).map_err(|_| StoreError::NotFound)?;
        let secret = entry.versions[index].clone()?;
        Ok(VersionedSecret { version, secret })
    }

    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError> {
        self.begin(StoreOperation::Poll, path.as_str()).await?;
        let state = self.state();
        let entry = state.secrets.get(path.as_str()).ok_or(StoreError::NotFound)?;
        let version = state.shown(entry);
        let deleted = entry.deleted;
        Ok(if deleted { VersionState::Deleted(version) } else { VersionState::Live(version) })
    }

    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError> {
        self.begin(StoreOperation::Write, path.as_str()).await?;
        let mut state = self.state();
        let entry = state.live(path)?;
        if entry.newest() != expected {
            return Err(StoreError::Conflict);
        }
        let mut secret = entry.versions.last().cloned().ok_or(StoreError::NotFound)??;
        match &mut secret {
            PortalSecret::OAuth { refresh_token: old, .. } => old.clone_from(refresh_token),
            PortalSecret::Static { .. } => return Err(StoreError::Conflict),
        }
        Ok(state.entry(path.as_str()).push(Ok(secret)))
    }

    async fn read_strings(&self, _: &SecretPath) -> Result<BTreeMap<String, Secret>, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError> {
        self.begin(StoreOperation::List, folder.as_str()).await?;
        let state = self.state();
        let prefix = format!("{}/", folder.as_str());
        let names = state.secrets.keys().filter_map(|path| path.strip_prefix(&prefix));
        let all: Vec<_> =
            names.map(ToOwned::to_owned).chain(state.extra_names.iter().cloned()).collect();
        if all.is_empty() { Err(StoreError::NotFound) } else { Ok(all) }
    }
}

// === impl State ===

impl State {
    /// The secret at a path at which a test has put one.
    #[track_caller]
    fn entry(&mut self, path: &str) -> &mut StoreEntry {
        self.secrets.get_mut(path).unwrap_or_else(|| panic!("no secret at {path}"))
    }

    fn live(&self, path: &SecretPath) -> Result<&StoreEntry, StoreError> {
        let entry = self.secrets.get(path.as_str()).filter(|entry| !entry.deleted);
        entry.ok_or(StoreError::NotFound)
    }

    fn shown(&self, entry: &StoreEntry) -> u64 {
        entry.newest().min(self.highest_shown.unwrap_or(u64::MAX))
    }
}

// === impl StoreEntry ===

impl StoreEntry {
    fn push(&mut self, version: Result<PortalSecret, StoreError>) -> u64 {
        self.versions.push(version);
        self.deleted = false;
        self.newest()
    }

    fn newest(&self) -> u64 {
        self.versions.len() as u64
    }

    /// All secrets in the newest version, as a careless error text would quote them.
    fn quote(&self) -> String {
        match self.versions.last() {
            Some(Ok(PortalSecret::Static { access_token })) => access_token.expose().to_owned(),
            Some(Ok(PortalSecret::OAuth { client_secret, refresh_token, .. })) => {
                format!("{} {}", client_secret.expose(), refresh_token.expose())
            }
            Some(Err(_)) | None => String::new(),
        }
    }
}
