//! A token endpoint in memory that knows which of its tokens are valid, rotates refresh tokens, and
//! fails on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};

use super::{Fault, SECRET_MARKER};
use crate::{
    source::{GrantError, RefreshRequest, TokenCheck, TokenResponse, TokenSource},
    store::PortalSecret,
};
use leadsd_base::secret::Secret;

/// Longest lifetime that is kept, so that arithmetic on instants does not overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(400 * 24 * 3_600);

/// Treatment of refresh tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Responses have no refresh token.
    #[default]
    Never,
    /// A new one each time; the old one stays valid.
    Lenient,
    /// A new one each time; only the newest of a client is valid, but the one before it may be
    /// used once more.
    Newest,
    /// A new one each time; the old one is invalid at once.
    Strict,
}

/// A token endpoint, and the API behind it as far as it checks tokens.
#[derive(Debug)]
pub struct TokenEndpoint {
    state: Mutex<State>,
    gate: Semaphore,
}

#[derive(Debug)]
struct State {
    /// Client secrets by client id.
    clients: BTreeMap<String, String>,
    /// Client ids by valid refresh token.
    refresh_tokens: BTreeMap<String, String>,
    /// Expiry by access token.
    access_tokens: BTreeMap<String, Instant>,
    used_refresh_tokens: BTreeSet<String>,
    rotation: Rotation,
    life: Duration,
    /// Faults by client; `None` applies to all clients.
    faults: BTreeMap<Option<String>, Fault>,
    calls: Vec<(Instant, String)>,
    /// Static tokens that the API rejects; it accepts all others.
    rejected: BTreeSet<String>,
    check_fault: Option<Fault>,
    checks: Vec<Instant>,
    held: bool,
    serial: u64,
}

// === impl TokenEndpoint ===

impl TokenEndpoint {
    /// An endpoint whose access tokens live for `life`.
    pub fn new(life: Duration) -> Self {
        let state = State {
            clients: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
            access_tokens: BTreeMap::new(),
            used_refresh_tokens: BTreeSet::new(),
            rotation: Rotation::Never,
            life,
            faults: BTreeMap::new(),
            calls: Vec::new(),
            rejected: BTreeSet::new(),
            check_fault: None,
            checks: Vec::new(),
            held: false,
            serial: 0,
        };
        Self { state: Mutex::new(state), gate: Semaphore::new(0) }
    }

    /// Makes an OAuth secret a valid one. Panics if it is a static one.
    pub fn accept(&self, secret: &PortalSecret) {
        let PortalSecret::OAuth { client_id, client_secret, refresh_token } = secret else {
            panic!("a static secret is never sent to a token endpoint");
        };
        let mut state = self.state();
        state.clients.insert(client_id.clone(), client_secret.expose().to_owned());
        state.refresh_tokens.insert(refresh_token.expose().to_owned(), client_id.clone());
    }

    /// Replaces the client secret of a client.
    pub fn set_client(&self, client_id: &str, client_secret: &str) {
        self.state().clients.insert(client_id.to_owned(), client_secret.to_owned());
    }

    /// Revokes a refresh token. Panics if it is not valid.
    pub fn revoke(&self, refresh_token: &str) {
        let revoked = self.state().refresh_tokens.remove(refresh_token);
        assert!(revoked.is_some(), "the refresh token is not valid");
    }

    /// Revokes all access tokens issued so far.
    pub fn revoke_access(&self) {
        self.state().access_tokens.clear();
    }

    /// Sets how refresh tokens are rotated.
    pub fn rotate(&self, rotation: Rotation) {
        self.state().rotation = rotation;
    }

    /// Sets the lifetime of access tokens.
    pub fn set_life(&self, life: Duration) {
        self.state().life = life;
    }

    /// Fails the requests of all clients without a fault in this map.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.insert(None, fault);
    }

    /// Fails the requests of one client.
    pub fn fail_client(&self, client_id: &str, fault: Fault) {
        self.state().faults.insert(Some(client_id.to_owned()), fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Decides requests at once, but responds only after [`TokenEndpoint::release`].
    pub fn hold(&self) {
        self.state().held = true;
    }

    /// Releases all held responses, present and future.
    pub fn release(&self) {
        self.state().held = false;
        self.gate.add_permits(1_000);
    }

    /// Makes the API reject a static token.
    pub fn reject_static(&self, secret: &PortalSecret) {
        if let PortalSecret::Static { access_token } = secret {
            self.state().rejected.insert(access_token.expose().to_owned());
        }
    }

    /// Makes the API accept all static tokens again.
    pub fn accept_static(&self) {
        self.state().rejected.clear();
    }

    /// Fails the checks of static tokens; `None` ends the fault.
    pub fn fail_checks(&self, fault: Option<Fault>) {
        self.state().check_fault = fault;
    }

    /// Times of the checks of static tokens so far.
    pub fn check_times(&self) -> Vec<Instant> {
        self.state().checks.clone()
    }

    /// Number of requests so far.
    pub fn calls(&self) -> usize {
        self.state().calls.len()
    }

    /// Number of requests of one client so far.
    pub fn calls_by(&self, client_id: &str) -> usize {
        self.state().calls.iter().filter(|(_, was)| was == client_id).count()
    }

    /// Times of the requests so far.
    pub fn call_times(&self) -> Vec<Instant> {
        self.state().calls.iter().map(|(at, _)| *at).collect()
    }

    /// True if the API accepts this access token now.
    pub fn accepts(&self, token: &Secret) -> bool {
        let now = Instant::now();
        self.state().access_tokens.get(token.expose()).is_some_and(|expires_at| now < *expires_at)
    }

    /// True if any access token that was issued is valid now.
    pub fn has_valid_token(&self) -> bool {
        let now = Instant::now();
        self.state().access_tokens.values().any(|expires_at| now < *expires_at)
    }

    /// True if the endpoint accepts this refresh token.
    pub fn accepts_refresh_token(&self, refresh_token: &str) -> bool {
        self.state().refresh_tokens.contains_key(refresh_token)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TokenSource for TokenEndpoint {
    async fn refresh(
        &self,
        _portal: &str,
        request: &RefreshRequest,
    ) -> Result<TokenResponse, GrantError> {
        let received = Instant::now();
        let (fault, held) = {
            let mut state = self.state();
            state.calls.push((received, request.client_id.clone()));
            let fault = state.faults.get(&Some(request.client_id.clone()));
            (fault.or_else(|| state.faults.get(&None)).cloned(), state.held)
        };
        let (refresh_token, client_secret) = (&request.refresh_token, &request.client_secret);
        let quote = format!("{} {}", refresh_token.expose(), client_secret.expose());
        match fault {
            None => {}
            Some(Fault::Slow(time)) => sleep(time).await,
            Some(Fault::Unavailable | Fault::RejectLogin) => {
                return Err(GrantError::Unavailable("http 500".to_owned()));
            }
            Some(Fault::QuoteSecrets) => return Err(GrantError::Unavailable(quote)),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::RejectQuotingSecrets) => return Err(GrantError::Rejected { code: quote }),
            Some(Fault::Reject(code)) => {
                return Err(GrantError::Rejected { code: code.to_owned() });
            }
            Some(Fault::Throttle(retry_after)) => {
                return Err(GrantError::Throttled { retry_after });
            }
            Some(Fault::Panic) => panic!("the token endpoint double was set to panic"),
        }
        let decided = self.state().decide(request, received);
        if held && let Ok(permit) = self.gate.acquire().await {
            permit.forget();
        }
        decided
    }

    async fn check(&self, _portal: &str, token: &Secret) -> TokenCheck {
        let fault = {
            let mut state = self.state();
            state.checks.push(Instant::now());
            state.check_fault.clone()
        };
        match fault {
            None => {}
            Some(Fault::Slow(time)) => sleep(time).await,
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Panic) => panic!("the token check was set to panic"),
            Some(Fault::QuoteSecrets | Fault::RejectQuotingSecrets) => {
                return TokenCheck::Inconclusive(token.expose().to_owned());
            }
            Some(
                Fault::Unavailable | Fault::Reject(_) | Fault::RejectLogin | Fault::Throttle(_),
            ) => return TokenCheck::Inconclusive("http 503".to_owned()),
        }
        match self.state().rejected.contains(token.expose()) {
            true => TokenCheck::Rejected,
            false => TokenCheck::Accepted,
        }
    }
}

// === impl State ===

impl State {
    /// Decides a request. The lifetime of a token starts when the request is received, regardless
    /// of the delay of the response.
    fn decide(
        &mut self,
        request: &RefreshRequest,
        received: Instant,
    ) -> Result<TokenResponse, GrantError> {
        let rejected = |code: &str| Err(GrantError::Rejected { code: code.to_owned() });
        let client_id = request.client_id.clone();
        let old = request.refresh_token.expose().to_owned();
        if self.clients.get(&client_id).map(String::as_str) != Some(request.client_secret.expose())
        {
            return rejected("invalid_client");
        }
        if self.refresh_tokens.get(&old) != Some(&client_id) {
            return rejected("invalid_grant");
        }
        self.serial += 1;
        let access_token = format!("{SECRET_MARKER}-at-{}", self.serial);
        self.access_tokens.insert(access_token.clone(), received + self.life.min(LONGEST_LIFE));
        Ok(TokenResponse {
            access_token: Secret::new(access_token),
            expires_in: self.life,
            refresh_token: self.rotated(client_id, old).map(Secret::new),
        })
    }

    /// The new refresh token, if there is to be one.
    fn rotated(&mut self, client_id: String, old: String) -> Option<String> {
        let new = format!("{SECRET_MARKER}-rt-{}", self.serial);
        match self.rotation {
            Rotation::Never => return None,
            Rotation::Lenient => {}
            Rotation::Newest => {
                let keep = self.used_refresh_tokens.insert(old.clone()).then_some(old);
                self.refresh_tokens
                    .retain(|token, client| *client != client_id || Some(token) == keep.as_ref());
            }
            Rotation::Strict => {
                self.refresh_tokens.remove(&old);
            }
        }
        self.refresh_tokens.insert(new.clone(), client_id);
        Some(new)
    }
}
