//! Test environment: doubles, an engine on them, a caller that makes a call every second, and a log
//! capture that fails the test if a secret is logged.

use std::{
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use tokio::time::{Instant, sleep};
use tracing::{
    field::{Field, Visit},
    span::{Attributes, Id},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

use crate::testing::{MemoryStore, SECRET_MARKER, TestClock, TokenEndpoint, oauth_secret};
use crate::{
    Credentials, Handle, PortalSecret, PortalStatus, SecretPath, Settings, Token, TokenUnavailable,
    registry::NewJitter,
};
use leadsd_base::task::{self, Task};

/// HubSpot's access tokens live this long.
pub(super) const LIFE: Duration = Duration::from_secs(1_800);

/// Within this time after the end of an outage everything must be well again.
pub(super) const RECOVERY: Duration = Duration::from_secs(30);

pub(super) const PATH: &str = "hubspot/default";

pub(super) struct World {
    pub(super) store: Arc<MemoryStore>,
    pub(super) endpoint: Arc<TokenEndpoint>,
    pub(super) clock: Arc<TestClock>,
    pub(super) logs: Logs,
    pub(super) seed: Arc<AtomicU64>,
    _capture: DefaultGuard,
}

/// Everything that was logged.
#[derive(Debug, Clone, Default)]
pub(super) struct Logs(Arc<Mutex<Vec<String>>>);

/// A caller that requests a token every second and may not wait for it.
#[derive(Debug)]
pub(super) struct Probe {
    seen: Arc<Mutex<Seen>>,
    _task: Task,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) calls: u32,
    /// Times at which a call failed although a valid token existed, or received an invalid token.
    pub(super) failed: Vec<Duration>,
    /// Times at which a call failed because no valid token existed.
    pub(super) without: Vec<Duration>,
    pub(super) generations: Vec<u64>,
}

/// `few`, or `all` if `LEADSD_TEST_CASES` is `full`, as in CI: the number of random cases, or of units of
/// simulated time.
#[expect(clippy::disallowed_methods, reason = "the environment selects how thorough a test run is")]
pub(super) fn few_or_all<T>(few: T, all: T) -> T {
    let is_full = std::env::var("LEADSD_TEST_CASES").is_ok_and(|cases| cases == "full");
    if is_full { all } else { few }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn path(text: &str) -> SecretPath {
    SecretPath::parse(text).unwrap()
}

/// A deadline that leaves no time to wait.
pub(super) fn at_once() -> Instant {
    Instant::now() + Duration::from_millis(1)
}

pub(super) fn within(time: Duration) -> Instant {
    Instant::now() + time
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let logs = Logs::default();
        let subscriber = tracing_subscriber::registry().with(logs.clone());
        let capture = tracing::subscriber::set_default(subscriber);
        let endpoint = Arc::new(TokenEndpoint::new(LIFE));
        let (store, clock) = (Arc::default(), Arc::default());
        let seed = Arc::new(AtomicU64::new(1));
        Self { store, endpoint, clock, logs, seed, _capture: capture }
    }

    /// A world with an OAuth secret that works at [`PATH`].
    pub(super) fn oauth() -> Self {
        let world = Self::new();
        world.store_oauth(PATH, "app", "cs-1", "rt-first");
        world
    }

    /// Stores an OAuth secret and has the token endpoint accept it; returns the version.
    pub(super) fn store_oauth(
        &self,
        path: &str,
        client: &str,
        client_secret: &str,
        refresh_token: &str,
    ) -> u64 {
        let secret = oauth_secret(client, client_secret, refresh_token);
        self.endpoint.accept(&secret);
        self.store.put(path, secret)
    }

    /// Starts an engine for the portal `default`.
    pub(super) fn start(&self) -> Credentials {
        self.start_with(Settings::default(), &["default"])
    }

    /// Starts an engine for portals whose secrets are at `hubspot/<name>`.
    pub(super) fn start_with(&self, settings: Settings, portals: &[&str]) -> Credentials {
        let portals =
            portals.iter().map(|&name| (name.to_owned(), path(&format!("hubspot/{name}"))));
        let (store, endpoint, clock) = self.ports();
        Credentials::start_with_jitter(settings, store, endpoint, clock, portals, self.jitter())
            .unwrap()
    }

    /// The doubles, as an engine takes them.
    pub(super) fn ports(&self) -> (Arc<MemoryStore>, Arc<TokenEndpoint>, Arc<TestClock>) {
        (Arc::clone(&self.store), Arc::clone(&self.endpoint), Arc::clone(&self.clock))
    }

    /// Jitter that is equal in every run of a test and separate for each engine.
    fn jitter(&self) -> NewJitter {
        let seed = Arc::clone(&self.seed);
        Box::new(move || {
            let mut rng = StdRng::seed_from_u64(seed.fetch_add(1, Ordering::Relaxed));
            Box::new(move || rng.random())
        })
    }

    /// Starts a caller that requests a token every second. The token endpoint double validates the token.
    pub(super) fn probe(&self, handle: &Handle) -> Probe {
        let (endpoint, handle) = (Arc::clone(&self.endpoint), handle.clone());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (record, started) = (Arc::clone(&seen), Instant::now());
        let task = task::spawn("probe", "test", async move {
            loop {
                let answer = handle.token(at_once()).await;
                record.lock().unwrap().record(answer, &endpoint, started.elapsed());
                sleep(seconds(1)).await;
            }
        });
        Probe { seen, _task: task }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.logs.assert_clean();
            assert!(!self.clock.saw_busy_loop(), "an engine ran in circles");
        }
    }
}

// === impl Seen ===

impl Seen {
    fn record(
        &mut self,
        answer: Result<Token, TokenUnavailable>,
        endpoint: &TokenEndpoint,
        at: Duration,
    ) {
        self.calls += 1;
        match answer {
            Ok(token) => {
                let is_static = !token.secret.expose().contains("-at-");
                if !is_static && !endpoint.accepts(&token.secret) {
                    self.failed.push(at);
                }
                if self.generations.last() != Some(&token.generation) {
                    self.generations.push(token.generation);
                }
            }
            Err(_) if endpoint.has_valid_token() => self.failed.push(at),
            Err(_) => self.without.push(at),
        }
    }
}

// === impl Probe ===

impl Probe {
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    /// Asserts that no call failed while a valid token existed.
    #[track_caller]
    pub(super) fn assert_served(&self) -> Seen {
        let seen = self.seen();
        assert!(seen.calls > 0, "the probe never called");
        assert!(seen.failed.is_empty(), "failed although a good token existed: {:?}", seen.failed);
        seen
    }

    /// Asserts that no call failed after the first token was issued.
    #[track_caller]
    pub(super) fn assert_never_without(&self) -> Seen {
        let seen = self.assert_served();
        assert!(seen.without.is_empty(), "without a token: {:?}", seen.without);
        seen
    }
}

// === impl Logs ===

impl Logs {
    /// Lines that contain all of `parts`.
    pub(super) fn count(&self, parts: &[&str]) -> usize {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }

    pub(super) fn dump(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// Asserts that no secret was logged.
    pub(super) fn assert_clean(&self) {
        for line in self.0.lock().unwrap().iter() {
            assert!(!line.contains(SECRET_MARKER), "a secret was logged: {line}");
        }
    }
}

/// Writes all fields of an event or a span.
struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: tracing::Subscriber> Layer<S> for Logs {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut line = format!("span {}", attributes.metadata().name());
        attributes.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = event.metadata().level().to_string();
        event.record(&mut Fields(&mut line));
        self.0.lock().unwrap().push(line);
    }
}

// === helpers for the engine ===

/// The status of the portal `default`.
#[track_caller]
pub(super) fn status(credentials: &Credentials) -> PortalStatus {
    status_of(credentials, "default")
}

#[track_caller]
pub(super) fn status_of(credentials: &Credentials, name: &str) -> PortalStatus {
    let snapshot = credentials.snapshot();
    let text = format!("{snapshot:?} {credentials:?}");
    assert!(!text.contains(SECRET_MARKER), "a secret shows in Debug");
    snapshot.into_iter().find(|status| &*status.portal == name).expect("the portal is there")
}

/// The portal's token, which must come within `time`.
#[track_caller]
pub(super) fn expect_token(answer: Result<Token, TokenUnavailable>) -> Token {
    match answer {
        Ok(token) => token,
        Err(unusable) => panic!("no token: {unusable}"),
    }
}

/// The text of a static token as the store double makes it.
pub(super) fn text(token: &Token) -> &str {
    token.secret.expose().strip_prefix("hush-").unwrap()
}

/// Client secret and refresh token of an OAuth secret, as given to [`oauth_secret`].
pub(super) fn parts(secret: &PortalSecret) -> (&str, &str) {
    match secret {
        PortalSecret::OAuth { client_secret, refresh_token, .. } => (
            client_secret.expose().strip_prefix("hush-").unwrap(),
            refresh_token.expose().strip_prefix("hush-").unwrap(),
        ),
        PortalSecret::Static { .. } => panic!("static"),
    }
}
