//! One portal's credential as a state machine without I/O: it is told what happened and says what
//! to do next. Time, dice and answers all come from outside, so every schedule of faults can be
//! replayed.
//!
//! What it guarantees:
//! - A token serves until its own expiry, whatever fails meanwhile.
//! - At most one call to the store and one grant are under way, so callers never cause more than
//!   one refresh.
//! - A refresh token that exists only here ([`PendingWriteBack`]) is kept and offered to the store until the
//!   store has it or has another one that works.
//! - Nothing is final: a refused credential waits for a new secret, `refresh_now` or the heartbeat.
//!
//! Expiry is counted on the monotonic clock, so setting the wall clock neither ends nor prolongs a
//! token. The monotonic clock may stand still while the machine sleeps, so the planned refresh also
//! has a wall-clock time: once that has passed, the token is refreshed soon but goes on serving. A
//! clock set forward by an hour thus costs one early refresh, and one set back costs nothing.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::error;

use super::{
    PortalSecret, RefreshRequest, VersionedSecret,
    settings::Settings,
    status::{Count, FailureClass, Kind, Meter, PortalStatus, State},
    token::{ActiveToken, NoReplacement, Published, Token},
};
use leadsd_base::{secret::Secret, time::Timestamp};

mod grant;
mod signals;
mod store;

/// The time, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) at: Instant,
    pub(super) wall: Timestamp,
}

/// What to do next. The calls are to be started now and answered later; `wake` is when to ask again
/// if nothing happens before.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) store: Option<StoreCall>,
    pub(super) grant: Option<RefreshRequest>,
    pub(super) wake: Instant,
}

/// A call to the secret store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreCall {
    Read,
    Poll,
    Write { expected: u64, refresh_token: Secret },
}

/// Gives numbers in `[0, 1)`.
pub(super) type Jitter = Box<dyn FnMut() -> f64 + Send>;

pub(super) struct Machine {
    portal: Arc<str>,
    poll_interval: Duration,
    heartbeat: Duration,
    dice: Jitter,
    meter: Meter,
    /// Nothing is done before somebody wants a token.
    wanted: bool,

    /// The secret as last read; outlives its deletion in the store.
    stored: Option<VersionedSecret>,
    /// When the store last confirmed that `stored` is the newest version.
    known_at: Option<Instant>,
    secret_deleted: bool,
    /// Looks in a row that saw an older version than ours: a lagging replica of the store the first
    /// time, a secret that was created anew the second.
    regressions: u32,
    /// The newest version seen, and the one whose content is malformed.
    seen: Option<u64>,
    malformed: Option<u64>,
    /// Until when the policy is taken to allow reading the secret but not its metadata.
    metadata_denied_until: Option<Instant>,

    /// A refresh token that exists only here.
    unsaved: Option<PendingWriteBack>,
    /// A refresh token that lost the race for the store. If the winner's does not work, it may.
    spare: Option<Secret>,

    live: Option<ActiveToken>,
    generation: u64,
    published_at: Option<Instant>,
    /// Whether the secret is newer than the token bought with it.
    token_outdated: bool,

    read: Job,
    refresh: Job,
    /// When the planned refresh is due on the wall clock.
    refresh_wall: Option<Timestamp>,
    granted_at: Option<Instant>,
    poll_at: Option<Instant>,
    store_busy: Option<StoreCall>,
    grant_busy: bool,

    standing: Validity,
    /// The token that HubSpot refuses, while the store is asked for another.
    asking_about: Option<u64>,
    verdict: Option<NoReplacement>,
    /// The last token reported as expired or refused.
    rejected: u64,

    store_trouble: Option<FailureClass>,
    grant_trouble: Option<FailureClass>,
    last_failure: Option<FailureClass>,
    settled: bool,
}

/// A refresh token that is newer than the one in the store.
#[derive(Debug)]
struct PendingWriteBack {
    refresh_token: Secret,
    /// Whether it is known to work; if not, it is tried before it is saved.
    proven: bool,
    due: Instant,
    failures: u32,
    /// Why it is not saved yet; none before the first attempt.
    trouble: Option<FailureClass>,
}

/// Something to do, and how often it has failed in a row.
#[derive(Debug, Default)]
struct Job {
    due: Option<Instant>,
    failures: u32,
}

/// Whether the credential is any good.
#[derive(Debug)]
enum Validity {
    Valid,
    /// The grant was refused; the store is asked a few times whether there is a newer one.
    Suspect {
        looks: u32,
    },
    /// Refused for good, as far as we can tell.
    Suspended {
        why: Arc<str>,
        trouble: FailureClass,
        heartbeat: Instant,
    },
}

// === impl PendingWriteBack ===

impl PendingWriteBack {
    fn new(refresh_token: Secret, proven: bool, due: Instant) -> Self {
        Self { refresh_token, proven, due, failures: 0, trouble: None }
    }
}

// === impl Job ===

impl Job {
    fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Due at `at` at the latest.
    fn by(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn done(&mut self) {
        *self = Self::default();
    }
}

// === impl Machine ===

impl Machine {
    pub(super) fn new(portal: Arc<str>, settings: &Settings, dice: Jitter, meter: Meter) -> Self {
        Self {
            portal,
            poll_interval: settings.poll_interval,
            heartbeat: settings.suspended_retry_interval,
            dice,
            meter,
            wanted: false,
            stored: None,
            known_at: None,
            secret_deleted: false,
            regressions: 0,
            seen: None,
            malformed: None,
            metadata_denied_until: None,
            unsaved: None,
            spare: None,
            live: None,
            generation: 0,
            published_at: None,
            token_outdated: false,
            read: Job::default(),
            refresh: Job::default(),
            refresh_wall: None,
            granted_at: None,
            poll_at: None,
            store_busy: None,
            grant_busy: false,
            standing: Validity::Valid,
            asking_about: None,
            verdict: None,
            rejected: 0,
            store_trouble: None,
            grant_trouble: None,
            last_failure: None,
            settled: false,
        }
    }

    pub(super) fn portal(&self) -> Arc<str> {
        Arc::clone(&self.portal)
    }

    /// What to do now. Whatever it names counts as started.
    pub(super) fn next(&mut self, now: Now) -> Next {
        if !self.wanted {
            return Next { store: None, grant: None, wake: now.at + self.poll_interval };
        }
        self.heartbeat(now.at);
        self.look_at_wall_clock(now);
        let grant = self.next_grant(now.at);
        let store = self.next_store(now.at);
        Next { store, grant, wake: self.wake(now.at) }
    }

    fn wake(&self, now: Instant) -> Instant {
        let mut wake = now + self.poll_interval;
        let mut by = |due: Option<Instant>| wake = wake.min(due.unwrap_or(wake));
        if self.store_busy.is_none() {
            by(self.read.due);
            by(self.unsaved.as_ref().filter(|unsaved| unsaved.proven).map(|unsaved| unsaved.due));
            by(self.poll_at);
        }
        if !self.grant_busy {
            // A grant that is due already waits for the store, whose answer is an event of its own.
            let due = self.refresh.due.map(|due| due.max(self.grant_floor().unwrap_or(due)));
            by(due.filter(|&due| due > now));
        }
        if let Validity::Suspended { heartbeat, .. } = &self.standing {
            by(Some(*heartbeat));
        }
        // Readers notice an expiry by themselves; the status and the backoff follow it.
        by(self.live.as_ref().and_then(|live| live.expires_at).filter(|&end| end > now));
        wake.max(now + Duration::from_millis(1))
    }

    /// Forgets the calls under way: their task has panicked and took them along.
    pub(super) fn restarted(&mut self, now: Instant) {
        self.meter.count(Count::Panic);
        if let Some(StoreCall::Read) = self.store_busy.take() {
            self.read.by(now);
        }
        if std::mem::take(&mut self.grant_busy) {
            self.refresh.by(now);
        }
    }

    /// A call to a port panicked, whatever else is made of its answer.
    pub(super) fn caught_panic(&self, port: &'static str) {
        self.meter.count(Count::Panic);
        error!(portal = %self.portal, port, "Call panicked");
    }

    /// Whether the first token was published or the first attempt has failed.
    pub(super) fn has_settled(&self) -> bool {
        self.settled
    }

    /// Whether ending now loses nothing that exists only here.
    pub(super) fn can_end(&self) -> bool {
        let saving = self.unsaved.as_ref().is_some_and(|unsaved| unsaved.proven);
        !saving && !self.grant_busy
    }

    /// What callers see.
    pub(super) fn view(&self) -> Published {
        let broken = match &self.standing {
            Validity::Suspended { why, .. } => Some(Arc::clone(why)),
            Validity::Valid | Validity::Suspect { .. } => None,
        };
        Published { live: self.live.clone(), verdict: self.verdict, broken, awaits: self.awaits() }
    }

    fn awaits(&self) -> &'static str {
        match self.grant_trouble.or(self.store_trouble) {
            Some(FailureClass::StoreUnavailable) => "vault is unavailable",
            Some(FailureClass::LoginRejected) => "vault refuses the login",
            Some(FailureClass::StoreDenied) => "vault denies access to the secret",
            Some(FailureClass::SecretMissing) => "there is no secret",
            Some(FailureClass::SecretMalformed) => "the secret is malformed",
            Some(FailureClass::TokenThrottled) => "the token endpoint asks to slow down",
            Some(FailureClass::TokenUnavailable) => "the token endpoint is unavailable",
            Some(FailureClass::GrantRejected) => "the token endpoint refuses the credential",
            Some(FailureClass::StoreConflict | FailureClass::TokenRejected) | None => {
                if self.stored.is_none() {
                    "the secret is being read"
                } else {
                    "a token is on its way"
                }
            }
        }
    }

    /// What operators see.
    pub(super) fn status(&self, now: Instant, discovered: bool) -> PortalStatus {
        let expires_at = self.live.as_ref().and_then(|live| live.expires_at);
        let trouble = self.trouble(now);
        PortalStatus {
            portal: Arc::clone(&self.portal),
            discovered,
            state: self.state(now, trouble),
            kind: self.stored.as_ref().map(|stored| match stored.secret {
                PortalSecret::Static { .. } => Kind::Static,
                PortalSecret::OAuth { .. } => Kind::OAuth,
            }),
            usable: self.usable(now),
            generation: self.generation,
            token_age: self.published_at.map(|at| now.saturating_duration_since(at)),
            expires_in: expires_at.map(|at| at.saturating_duration_since(now)),
            next_refresh: self.refresh.due.map(|at| at.saturating_duration_since(now)),
            failure: trouble,
            last_failure: self.last_failure,
            secret_version: self.stored.as_ref().map(|stored| stored.version),
            secret_deleted: self.secret_deleted,
            write_back_pending: self.unsaved.as_ref().is_some_and(|unsaved| unsaved.proven),
            counters: self.meter.read(),
        }
    }

    fn trouble(&self, now: Instant) -> Option<FailureClass> {
        match &self.standing {
            Validity::Suspended { trouble, .. } => Some(*trouble),
            Validity::Valid | Validity::Suspect { .. } if self.is_rejected(now) => {
                Some(FailureClass::TokenRejected)
            }
            Validity::Valid | Validity::Suspect { .. } => self
                .grant_trouble
                .or(self.store_trouble)
                .or_else(|| self.secret_deleted.then_some(FailureClass::SecretMissing))
                .or_else(|| self.saving_trouble()),
        }
    }

    fn saving_trouble(&self) -> Option<FailureClass> {
        self.unsaved.as_ref().and_then(|unsaved| unsaved.trouble)
    }

    fn state(&self, now: Instant, trouble: Option<FailureClass>) -> State {
        let renewal_works = self.grant_trouble.is_none()
            && self.saving_trouble().is_none()
            && trouble.is_none_or(FailureClass::is_passing);
        match &self.standing {
            Validity::Suspended { .. } => State::Suspended,
            Validity::Valid | Validity::Suspect { .. } => match (self.usable(now), renewal_works) {
                (true, _) if self.is_rejected(now) => State::Failed,
                (true, true) => State::Fresh,
                (true, false) => State::Stale,
                (false, _) if self.generation == 0 && trouble.is_none() => State::Starting,
                (false, _) => State::Failed,
            },
        }
    }

    fn usable(&self, now: Instant) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_usable(now))
    }

    /// Life left in the token that callers use; none if they have none.
    fn left(&self, now: Instant) -> Option<Duration> {
        let live = self.live.as_ref().filter(|live| live.is_usable(now))?;
        let forever = Duration::MAX;
        Some(live.expires_at.map_or(forever, |at| at.saturating_duration_since(now)))
    }

    fn is_rejected(&self, now: Instant) -> bool {
        self.verdict.is_some_and(|verdict| {
            verdict.generation == self.generation && now < verdict.until + self.heartbeat
        })
    }

    /// Makes a token the one that callers use.
    fn publish(&mut self, secret: Secret, expires_at: Option<Instant>, now: Instant) {
        self.generation += 1;
        let token = Token { secret, generation: self.generation };
        self.live = Some(ActiveToken { token, expires_at });
        self.published_at = Some(now);
        self.verdict = None;
        self.asking_about = None;
        self.token_outdated = false;
        self.settled = true;
    }

    /// Remembers what went wrong; answers whether that is news.
    fn noted(
        last: &mut Option<FailureClass>,
        slot: &mut Option<FailureClass>,
        trouble: FailureClass,
    ) -> bool {
        *last = Some(trouble);
        slot.replace(trouble) != Some(trouble)
    }

    fn roll(&mut self) -> f64 {
        (self.dice)()
    }

    /// The grant to send: what the store has, with our own refresh token if that is newer.
    fn grant(&self) -> Option<RefreshRequest> {
        match &self.stored.as_ref()?.secret {
            PortalSecret::Static { .. } => None,
            PortalSecret::OAuth { client_id, client_secret, refresh_token } => {
                Some(RefreshRequest {
                    client_id: client_id.clone(),
                    client_secret: client_secret.clone(),
                    refresh_token: match &self.unsaved {
                        Some(unsaved) => unsaved.refresh_token.clone(),
                        None => refresh_token.clone(),
                    },
                })
            }
        }
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("portal", &self.portal)
            .field("generation", &self.generation)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}
