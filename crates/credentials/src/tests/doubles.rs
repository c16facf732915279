//! Doubles of the ports: a KV store with versions, check-and-set and faults; a token endpoint that
//! knows which of its tokens are good; a wall clock that can be set.
//!
//! Every secret they hold or hand out contains [`MARK`], by which a leak is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use crate::{
    GrantError, PortalSecret, RefreshRequest, SecretPath, SecretStore, StoreError, TokenResponse,
    TokenSource, VersionState, VersionedSecret,
};
use leadsd_base::{
    secret::Secret,
    time::{Timestamp, WallClock},
};

/// Part of every secret.
pub(super) const MARK: &str = "hush";

/// What a port does instead of its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers at once that it is unavailable.
    Down,
    /// Answers at once that it is unavailable, and quotes secrets, as a careless port might.
    Quote,
    /// Never answers.
    Hang,
    /// Store: 403. Token endpoint: a refusal with this code.
    Refuse(&'static str),
    /// Store: the login is refused.
    Login,
    /// Token endpoint: 429.
    Throttle(Option<Duration>),
    /// Works, after this time.
    Slow(Duration),
    Panic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Read,
    Poll,
    Write,
    List,
}

/// A KV v2 store.
#[derive(Debug, Default)]
pub(super) struct Kv(Mutex<KvState>);

#[derive(Debug, Default)]
struct KvState {
    secrets: BTreeMap<String, Entry>,
    /// For all paths, or for one.
    faults: BTreeMap<Option<String>, Fault>,
    op_faults: BTreeMap<Op, Fault>,
    calls: Vec<(Instant, Op, String)>,
    /// A replica that lags: versions above this do not show.
    shown: Option<u64>,
    extra_names: Vec<String>,
}

#[derive(Debug, Default)]
struct Entry {
    versions: Vec<Result<PortalSecret, StoreError>>,
    gone: bool,
}

/// How the token endpoint treats refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Rotation {
    /// Answers repeat none.
    #[default]
    Never,
    /// A new one each time; the old one stays good.
    Lenient,
    /// A new one each time; only the newest of a family is good, but the one before it may still be
    /// traded once more.
    Newest,
    /// A new one each time; the old one is dead.
    Strict,
}

/// A token endpoint, and the API behind it as far as it judges tokens.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<HubState>,
    gate: Semaphore,
}

#[derive(Debug)]
struct HubState {
    clients: BTreeMap<String, String>,
    refresh_tokens: BTreeMap<String, String>,
    access_tokens: BTreeMap<String, Instant>,
    traded: BTreeSet<String>,
    rotation: Rotation,
    life: Duration,
    faults: BTreeMap<Option<String>, Fault>,
    calls: Vec<(Instant, String)>,
    held: bool,
    serial: u64,
}

/// A wall clock that follows tokio's, plus an offset.
#[derive(Debug)]
pub(super) struct Clock(Mutex<ClockState>);

#[derive(Debug)]
struct ClockState {
    started: Instant,
    offset_s: i64,
    panics: u32,
    /// When it was last looked at, and how often at that instant.
    looked: (Instant, u32),
    spun: bool,
}

pub(super) fn static_secret(token: &str) -> PortalSecret {
    PortalSecret::Static { access_token: Secret::new(format!("{MARK}-{token}")) }
}

pub(super) fn oauth_secret(client: &str, client_secret: &str, refresh_token: &str) -> PortalSecret {
    PortalSecret::OAuth {
        client_id: client.to_owned(),
        client_secret: Secret::new(format!("{MARK}-{client_secret}")),
        refresh_token: Secret::new(format!("{MARK}-{refresh_token}")),
    }
}

// === impl Kv ===

impl Kv {
    fn state(&self) -> MutexGuard<'_, KvState> {
        self.0.lock().unwrap()
    }

    /// Writes a new version, as an operator does; answers its number.
    pub(super) fn put(&self, path: &str, secret: PortalSecret) -> u64 {
        self.put_result(path, Ok(secret))
    }

    pub(super) fn put_malformed(&self, path: &str) -> u64 {
        self.put_result(path, Err(StoreError::Malformed("it has no `access_token`".to_owned())))
    }

    fn put_result(&self, path: &str, secret: Result<PortalSecret, StoreError>) -> u64 {
        let mut state = self.state();
        let entry = state.secrets.entry(path.to_owned()).or_default();
        entry.versions.push(secret);
        entry.gone = false;
        entry.newest()
    }

    /// Soft-deletes the newest version.
    pub(super) fn delete(&self, path: &str) {
        self.state().secrets.get_mut(path).unwrap().gone = true;
    }

    pub(super) fn undelete(&self, path: &str) {
        self.state().secrets.get_mut(path).unwrap().gone = false;
    }

    /// Removes the secret with its metadata.
    pub(super) fn purge(&self, path: &str) {
        self.state().secrets.remove(path).unwrap();
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state().faults.insert(None, fault);
    }

    pub(super) fn fail_path(&self, path: &str, fault: Fault) {
        self.state().faults.insert(Some(path.to_owned()), fault);
    }

    pub(super) fn fail_op(&self, op: Op, fault: Fault) {
        self.state().op_faults.insert(op, fault);
    }

    /// All faults end.
    pub(super) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.op_faults.clear();
        state.shown = None;
    }

    /// Lags: shows no version above this.
    pub(super) fn show_only(&self, version: u64) {
        self.state().shown = Some(version);
    }

    /// Names that a listing shows beside the secrets.
    pub(super) fn also_list(&self, names: &[&str]) {
        self.state().extra_names = names.iter().map(|&name| name.to_owned()).collect();
    }

    pub(super) fn calls(&self) -> usize {
        self.state().calls.len()
    }

    pub(super) fn count(&self, op: Op) -> usize {
        self.state().calls.iter().filter(|(_, was, _)| *was == op).count()
    }

    pub(super) fn count_path(&self, path: &str) -> usize {
        self.state().calls.iter().filter(|(_, _, was)| was == path).count()
    }

    pub(super) fn version_of(&self, path: &str) -> u64 {
        self.state().secrets[path].newest()
    }

    /// The refresh token that the newest version holds.
    pub(super) fn refresh_token(&self, path: &str) -> String {
        match self.state().secrets[path].versions.last().unwrap() {
            Ok(PortalSecret::OAuth { refresh_token, .. }) => refresh_token.expose().to_owned(),
            other => panic!("no refresh token in {other:?}"),
        }
    }

    /// The refresh token that the newest version holds, if it is one with a refresh token.
    pub(super) fn newest_oauth(&self, path: &str) -> Option<String> {
        match self.state().secrets[path].versions.last().unwrap() {
            Ok(PortalSecret::OAuth { refresh_token, .. }) => {
                Some(refresh_token.expose().to_owned())
            }
            Ok(PortalSecret::Static { .. }) | Err(_) => None,
        }
    }

    pub(super) fn newest(&self, path: &str) -> PortalSecret {
        self.state().secrets[path].versions.last().unwrap().clone().unwrap()
    }

    async fn begin(&self, op: Op, path: &str) -> Result<(), StoreError> {
        let fault = {
            let mut state = self.state();
            state.calls.push((Instant::now(), op, path.to_owned()));
            let faults = &state.faults;
            let path_fault = faults.get(&Some(path.to_owned())).or_else(|| faults.get(&None));
            state.op_faults.get(&op).or(path_fault).cloned()
        };
        match fault {
            None => Ok(()),
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                Ok(())
            }
            Some(Fault::Down | Fault::Throttle(_)) => {
                Err(StoreError::Unavailable("sealed".to_owned()))
            }
            Some(Fault::Quote) => {
                let state = self.state();
                let secret = state.secrets[path].versions.last().unwrap().as_ref().unwrap();
                Err(StoreError::Unavailable(quote(secret)))
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Refuse(_)) => Err(StoreError::Denied),
            Some(Fault::Login) => Err(StoreError::LoginRejected("permission denied".to_owned())),
            Some(Fault::Panic) => panic!("the store double was told to panic"),
        }
    }
}

#[async_trait]
impl SecretStore for Kv {
    async fn read(&self, path: &SecretPath) -> Result<VersionedSecret, StoreError> {
        self.begin(Op::Read, path.as_str()).await?;
        let state = self.state();
        let entry = state.secrets.get(path.as_str()).ok_or(StoreError::NotFound)?;
        if entry.gone {
            return Err(StoreError::NotFound);
        }
        let version = entry.newest().min(state.shown.unwrap_or(u64::MAX));
        let index = usize::try_from(version - 1).unwrap();
        let secret = entry.versions[index].clone()?;
        Ok(VersionedSecret { version, secret })
    }

    async fn version(&self, path: &SecretPath) -> Result<VersionState, StoreError> {
        self.begin(Op::Poll, path.as_str()).await?;
        let state = self.state();
        let entry = state.secrets.get(path.as_str()).ok_or(StoreError::NotFound)?;
        let version = entry.newest().min(state.shown.unwrap_or(u64::MAX));
        Ok(if entry.gone { VersionState::Deleted(version) } else { VersionState::Live(version) })
    }

    async fn replace_refresh_token(
        &self,
        path: &SecretPath,
        expected: u64,
        refresh_token: &Secret,
    ) -> Result<u64, StoreError> {
        self.begin(Op::Write, path.as_str()).await?;
        let mut state = self.state();
        let entry = state.secrets.get_mut(path.as_str()).ok_or(StoreError::NotFound)?;
        if entry.gone {
            return Err(StoreError::NotFound);
        }
        if entry.newest() != expected {
            return Err(StoreError::Conflict);
        }
        let mut secret = entry.versions.last().unwrap().clone()?;
        match &mut secret {
            PortalSecret::OAuth { refresh_token: old, .. } => old.clone_from(refresh_token),
            PortalSecret::Static { .. } => return Err(StoreError::Conflict),
        }
        entry.versions.push(Ok(secret));
        Ok(entry.newest())
    }

    async fn read_strings(&self, _: &SecretPath) -> Result<BTreeMap<String, Secret>, StoreError> {
        Err(StoreError::NotFound)
    }

    async fn list(&self, folder: &SecretPath) -> Result<Vec<String>, StoreError> {
        self.begin(Op::List, folder.as_str()).await?;
        let state = self.state();
        let prefix = format!("{}/", folder.as_str());
        let names = state.secrets.keys().filter_map(|path| path.strip_prefix(&prefix));
        let all: Vec<_> =
            names.map(ToOwned::to_owned).chain(state.extra_names.iter().cloned()).collect();
        if all.is_empty() { Err(StoreError::NotFound) } else { Ok(all) }
    }
}

// === impl Entry ===

impl Entry {
    fn newest(&self) -> u64 {
        self.versions.len() as u64
    }
}

/// All secrets in it, the way a careless error text would quote them.
fn quote(secret: &PortalSecret) -> String {
    match secret {
        PortalSecret::Static { access_token } => access_token.expose().to_owned(),
        PortalSecret::OAuth { client_secret, refresh_token, .. } => {
            format!("{} {}", client_secret.expose(), refresh_token.expose())
        }
    }
}

// === impl Hub ===

impl Hub {
    /// An endpoint whose tokens live for `life`.
    pub(super) fn new(life: Duration) -> Arc<Self> {
        let state = HubState {
            clients: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: BTreeMap::new(),
            traded: BTreeSet::new(),
            rotation: Rotation::Never,
            life,
            faults: BTreeMap::new(),
            calls: Vec::new(),
            held: false,
            serial: 0,
        };
        Arc::new(Self { state: Mutex::new(state), gate: Semaphore::new(0) })
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().unwrap()
    }

    /// Makes an OAuth secret one that works.
    pub(super) fn accept(&self, secret: &PortalSecret) {
        let PortalSecret::OAuth { client_id, client_secret, refresh_token } = secret else {
            panic!("only OAuth secrets are known here");
        };
        let mut state = self.state();
        state.clients.insert(client_id.clone(), client_secret.expose().to_owned());
        state.refresh_tokens.insert(refresh_token.expose().to_owned(), client_id.clone());
    }

    /// From now on the client proves itself with this.
    pub(super) fn set_client(&self, client: &str, client_secret: &str) {
        self.state().clients.insert(client.to_owned(), client_secret.to_owned());
    }

    /// Ends a refresh token.
    pub(super) fn revoke(&self, refresh_token: &str) {
        self.state().refresh_tokens.remove(refresh_token).expect("it was good");
    }

    /// Ends all access tokens given out so far.
    pub(super) fn revoke_access(&self) {
        self.state().access_tokens.clear();
    }

    pub(super) fn rotate(&self, rotation: Rotation) {
        self.state().rotation = rotation;
    }

    pub(super) fn set_life(&self, life: Duration) {
        self.state().life = life;
    }

    pub(super) fn fail(&self, fault: Fault) {
        self.state().faults.insert(None, fault);
    }

    pub(super) fn fail_client(&self, client: &str, fault: Fault) {
        self.state().faults.insert(Some(client.to_owned()), fault);
    }

    pub(super) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Grants are decided at once, but answered only when [`Hub::release`]d.
    pub(super) fn hold(&self) {
        self.state().held = true;
    }

    /// Lets all held answers go, and those to come.
    pub(super) fn release(&self) {
        self.state().held = false;
        self.gate.add_permits(1_000);
    }

    pub(super) fn calls(&self) -> usize {
        self.state().calls.len()
    }

    pub(super) fn calls_of(&self, client: &str) -> usize {
        self.state().calls.iter().filter(|(_, was)| was == client).count()
    }

    pub(super) fn call_times(&self) -> Vec<Instant> {
        self.state().calls.iter().map(|(at, _)| *at).collect()
    }

    /// Whether the API would accept this access token now.
    pub(super) fn accepts(&self, token: &Secret) -> bool {
        let now = Instant::now();
        self.state().access_tokens.get(token.expose()).is_some_and(|expires_at| now < *expires_at)
    }

    /// Whether some access token that was given out is good now.
    pub(super) fn has_good_token(&self) -> bool {
        let now = Instant::now();
        self.state().access_tokens.values().any(|expires_at| now < *expires_at)
    }

    /// Whether the token endpoint would trade this refresh token.
    pub(super) fn trades(&self, refresh_token: &str) -> bool {
        self.state().refresh_tokens.contains_key(refresh_token)
    }

    /// A token lives from the moment the request `came`, however long the answer takes.
    fn decide(&self, grant: &RefreshRequest, came: Instant) -> Result<TokenResponse, GrantError> {
        let mut state = self.state();
        let refused = |code: &str| Err(GrantError::Rejected { code: code.to_owned() });
        if state.clients.get(&grant.client_id).map(String::as_str)
            != Some(grant.client_secret.expose())
        {
            return refused("invalid_client");
        }
        let old = grant.refresh_token.expose().to_owned();
        let client = grant.client_id.clone();
        if state.refresh_tokens.get(&old) != Some(&client) {
            return refused("invalid_grant");
        }
        state.serial += 1;
        let serial = state.serial;
        let access = format!("{MARK}-at-{serial}");
        let life = state.life.min(Duration::from_secs(400 * 24 * 3_600));
        state.access_tokens.insert(access.clone(), came + life);
        let new = format!("{MARK}-rt-{serial}");
        match state.rotation {
            Rotation::Never => {}
            Rotation::Lenient => {
                state.refresh_tokens.insert(new.clone(), client);
            }
            Rotation::Newest => {
                let mut keep = vec![new.clone()];
                if state.traded.insert(old.clone()) {
                    keep.push(old);
                }
                state.refresh_tokens.retain(|token, of| *of != client || keep.contains(token));
                state.refresh_tokens.insert(new.clone(), client);
            }
            Rotation::Strict => {
                state.refresh_tokens.remove(&old);
                state.refresh_tokens.insert(new.clone(), client);
            }
        }
        let rotated = state.rotation != Rotation::Never;
        Ok(TokenResponse {
            access_token: Secret::new(access),
            expires_in: state.life,
            refresh_token: rotated.then(|| Secret::new(new)),
        })
    }
}

#[async_trait]
impl TokenSource for Hub {
    async fn refresh(&self, grant: &RefreshRequest) -> Result<TokenResponse, GrantError> {
        let came = Instant::now();
        let (fault, held) = {
            let mut state = self.state();
            state.calls.push((came, grant.client_id.clone()));
            let fault = state.faults.get(&Some(grant.client_id.clone()));
            (fault.or_else(|| state.faults.get(&None)).cloned(), state.held)
        };
        let quote = format!("{} {}", grant.refresh_token.expose(), grant.client_secret.expose());
        match fault {
            None => {}
            Some(Fault::Slow(time)) => sleep(time).await,
            Some(Fault::Down | Fault::Login) => {
                return Err(GrantError::Unavailable("http 500".to_owned()));
            }
            Some(Fault::Quote) => return Err(GrantError::Unavailable(quote)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Refuse("quote")) => return Err(GrantError::Rejected { code: quote }),
            Some(Fault::Refuse(code)) => {
                return Err(GrantError::Rejected { code: code.to_owned() });
            }
            Some(Fault::Throttle(retry_after)) => {
                return Err(GrantError::Throttled { retry_after });
            }
            Some(Fault::Panic) => panic!("the token endpoint double was told to panic"),
        }
        let decided = self.decide(grant, came);
        if held {
            self.gate.acquire().await.expect("never closed").forget();
        }
        decided
    }
}

// === impl Clock ===

impl Clock {
    pub(super) fn new() -> Arc<Self> {
        let (started, looked) = (Instant::now(), (Instant::now(), 0));
        let state = ClockState { started, offset_s: 0, panics: 0, looked, spun: false };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Sets the clock forward, or back.
    pub(super) fn jump(&self, seconds: i64) {
        self.0.lock().unwrap().offset_s += seconds;
    }

    /// Whether an engine looked at it over and over without time passing.
    pub(super) fn saw_spinning(&self) -> bool {
        self.0.lock().unwrap().spun
    }

    /// The next `times` looks at the clock panic, which brings down whoever looks.
    pub(super) fn panic(&self, times: u32) {
        self.0.lock().unwrap().panics = times;
    }
}

impl WallClock for Clock {
    fn now(&self) -> Timestamp {
        let (elapsed, offset_s) = {
            let mut state = self.0.lock().unwrap();
            let now = Instant::now();
            let looks = if state.looked.0 == now { state.looked.1 + 1 } else { 0 };
            state.looked = (now, looks);
            if looks > 5_000 {
                state.spun = true;
                drop(state);
                panic!("an engine spins");
            }
            if state.panics > 0 {
                state.panics -= 1;
                drop(state);
                panic!("the clock double was told to panic");
            }
            (state.started.elapsed(), state.offset_s)
        };
        let seconds = 1_800_000_000 + offset_s + i64::try_from(elapsed.as_secs()).unwrap();
        Timestamp::from_second(seconds).unwrap()
    }
}
