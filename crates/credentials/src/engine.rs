//! The task behind one portal: asks the [`Machine`] what to do, makes the calls, and hands back the
//! answers.
//!
//! Every call to a port runs in a task of its own with a time limit, so a port that hangs or panics
//! costs one attempt. The loop itself is restarted when it panics. The machine survives that: it
//! may hold a refresh token that exists nowhere else.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::error;

use super::{
    GrantError, RefreshRequest, SecretPath, SecretStore, StoreError, TokenResponse, TokenSource,
    VersionState, VersionedSecret,
    machine::{Machine, Now, StoreCall},
    settings::Settings,
    status::{PortalStatus, Readiness},
    token::{Handle, Published, Signals},
};
use leadsd_base::{
    secret::Secret,
    task::{self, Task},
    time::WallClock,
};

/// How long a portal may use its turn at start. A store that hangs must not keep others waiting.
const TURN: Duration = Duration::from_secs(2);

/// Pause before the loop is restarted after a panic; doubled each time up to the cap.
const FIRST_RESTART: Duration = Duration::from_secs(1);
const RESTART_CAP: Duration = Duration::from_secs(20);

/// What all portals share.
#[derive(Clone)]
pub(super) struct Ports {
    pub(super) store: Arc<dyn SecretStore>,
    pub(super) source: Arc<dyn TokenSource>,
    pub(super) clock: Arc<dyn WallClock>,
    /// Turns at start.
    pub(super) turns: Arc<Semaphore>,
    pub(super) readiness: watch::Sender<Readiness>,
}

/// One portal.
#[derive(Debug)]
pub(super) struct Engine {
    name: Arc<str>,
    path: SecretPath,
    ports: Ports,
    store_timeout: Duration,
    grant_timeout: Duration,
    machine: Mutex<Machine>,
    view: watch::Sender<Published>,
    signals: Arc<Signals>,
}

/// A call under way.
#[derive(Debug)]
struct Pending<C, A> {
    call: C,
    answer: oneshot::Receiver<A>,
    /// Dropping it ends the call.
    _task: Task,
}

type StorePending = Pending<StoreCall, StoreAnswer>;
type GrantPending = Pending<(RefreshRequest, Instant), Result<TokenResponse, GrantError>>;

#[derive(Debug)]
enum StoreAnswer {
    Read(Result<VersionedSecret, StoreError>),
    Polled(Result<VersionState, StoreError>),
    Wrote(Secret, Result<u64, StoreError>),
}

// === impl Ports ===

impl fmt::Debug for Ports {
    /// Leaves out what is behind the ports: they hold secrets, and their `Debug` is not ours.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports")
            .field("readiness", &*self.readiness.borrow())
            .finish_non_exhaustive()
    }
}

// === impl Engine ===

impl Engine {
    pub(super) fn new(
        path: SecretPath,
        settings: &Settings,
        ports: Ports,
        machine: Machine,
    ) -> Self {
        Self {
            name: machine.portal(),
            path,
            ports,
            store_timeout: settings.store_timeout,
            grant_timeout: settings.grant_timeout,
            view: watch::Sender::new(machine.view()),
            machine: Mutex::new(machine),
            signals: Arc::default(),
        }
    }

    pub(super) fn handle(&self) -> Handle {
        Handle::new(self.view.subscribe(), Arc::clone(&self.signals))
    }

    pub(super) fn signals(&self) -> &Signals {
        &self.signals
    }

    pub(super) fn status(&self, discovered: bool) -> PortalStatus {
        self.machine().status(Instant::now(), discovered)
    }

    /// Starts the portal's task. It ends when it is dropped, or once it was told to close and
    /// nothing would be lost.
    pub(super) fn spawn(self: Arc<Self>, eager: bool) -> Task {
        let name = Arc::clone(&self.name);
        task::spawn("credential", &name, self.supervise(eager))
    }

    async fn supervise(self: Arc<Self>, eager: bool) {
        let mut pause = FIRST_RESTART;
        loop {
            let (engine, started) = (Arc::clone(&self), Instant::now());
            task::spawn("credential loop", &self.name, engine.run(eager)).ended().await;
            if self.signals.is_closing() && self.machine().can_end() {
                return;
            }
            if started.elapsed() > RESTART_CAP {
                pause = FIRST_RESTART;
            }
            error!(portal = %self.name, pause_s = pause.as_secs(), "Credential task ended; starting it again");
            sleep(pause).await;
            pause = (pause * 2).min(RESTART_CAP);
            self.machine().restarted(Instant::now());
        }
    }

    async fn run(self: Arc<Self>, eager: bool) {
        let mut turn = if eager { self.take_turn().await } else { None };
        let (mut store, mut grant): (Option<StorePending>, Option<GrantPending>) = (None, None);
        loop {
            let now = self.now();
            let next = {
                let mut machine = self.machine();
                machine.apply_signals(self.signals.take(), now.at);
                let next = machine.next(now);
                self.publish(machine.view());
                if turn.is_some() && machine.has_settled() {
                    turn = None;
                }
                next
            };
            if self.signals.is_closing() && self.machine().can_end() {
                return;
            }
            if let Some(call) = next.store {
                store = Some(self.call_store(call));
            }
            if let Some(call) = next.grant {
                grant = Some(self.call_source(call, now.at));
            }
            let turn_ends = turn.as_ref().map(|(_, ends)| *ends);
            let wake = next.wake.min(turn_ends.unwrap_or(next.wake));
            tokio::select! {
                // Whatever comes first, the next round looks at all of it.
                biased;
                answer = answered(&mut store) => self.store_answered(answer),
                answer = answered(&mut grant) => self.source_answered(answer),
                () = self.signals.notified() => {}
                () = sleep_until(wake) => {}
            }
            turn = turn.filter(|(_, ends)| Instant::now() < *ends);
        }
    }

    /// Waits for one of the turns at start, unless a caller wants the token now.
    async fn take_turn(&self) -> Option<(OwnedSemaphorePermit, Instant)> {
        let turns = Arc::clone(&self.ports.turns);
        let turn = tokio::select! {
            turn = turns.acquire_owned() => turn.ok(),
            () = self.signals.notified() => None,
        };
        self.signals.want();
        turn.map(|turn| (turn, Instant::now() + TURN))
    }

    fn call_store(&self, call: StoreCall) -> StorePending {
        let (store, path) = (Arc::clone(&self.ports.store), self.path.clone());
        let (limit, wanted) = (self.store_timeout, call.clone());
        let late =
            move || StoreError::Unavailable(format!("no answer in {} s", limit.as_secs_f32()));
        self.start("credential store call", call, async move {
            match wanted {
                StoreCall::Read => StoreAnswer::Read(
                    timeout(limit, store.read(&path)).await.unwrap_or_else(|_| Err(late())),
                ),
                StoreCall::Poll => StoreAnswer::Polled(
                    timeout(limit, store.version(&path)).await.unwrap_or_else(|_| Err(late())),
                ),
                StoreCall::Write { expected, refresh_token } => {
                    let write = store.replace_refresh_token(&path, expected, &refresh_token);
                    let wrote = timeout(limit, write).await.unwrap_or_else(|_| Err(late()));
                    StoreAnswer::Wrote(refresh_token, wrote)
                }
            }
        })
    }

    fn call_source(&self, grant: RefreshRequest, sent: Instant) -> GrantPending {
        let (source, limit) = (Arc::clone(&self.ports.source), self.grant_timeout);
        let wanted = grant.clone();
        self.start("credential grant", (grant, sent), async move {
            timeout(limit, source.refresh(&wanted)).await.unwrap_or_else(|_| {
                Err(GrantError::Unavailable(format!("no answer in {} s", limit.as_secs_f32())))
            })
        })
    }

    fn start<C, A: Send + 'static>(
        &self,
        name: &'static str,
        call: C,
        work: impl Future<Output = A> + Send + 'static,
    ) -> Pending<C, A> {
        let (sender, answer) = oneshot::channel();
        let task = task::spawn(name, &self.name, async move {
            // Nobody is left to hear the answer once the portal has ended.
            let _ = sender.send(work.await);
        });
        Pending { call, answer, _task: task }
    }

    fn store_answered(&self, (call, answer): (StoreCall, Option<StoreAnswer>)) {
        let now = Instant::now();
        let mut machine = self.machine();
        let answer = answer.unwrap_or_else(|| {
            machine.caught_panic("secret store");
            let panicked = StoreError::Unavailable("the call panicked".to_owned());
            match call {
                StoreCall::Read => StoreAnswer::Read(Err(panicked)),
                StoreCall::Poll => StoreAnswer::Polled(Err(panicked)),
                StoreCall::Write { refresh_token, .. } => {
                    StoreAnswer::Wrote(refresh_token, Err(panicked))
                }
            }
        });
        match answer {
            StoreAnswer::Read(result) => machine.has_read(result, now),
            StoreAnswer::Polled(result) => machine.polled(result, now),
            StoreAnswer::Wrote(refresh_token, result) => machine.wrote(&refresh_token, result, now),
        }
    }

    fn source_answered(
        &self,
        (call, answer): ((RefreshRequest, Instant), Option<Result<TokenResponse, GrantError>>),
    ) {
        let now = self.now();
        let (grant, sent) = call;
        let mut machine = self.machine();
        let result = answer.unwrap_or_else(|| {
            machine.caught_panic("token endpoint");
            Err(GrantError::Unavailable("the call panicked".to_owned()))
        });
        machine.answered(&grant, sent, result, now);
    }

    fn publish(&self, view: Published) {
        let has_token = view.live.is_some();
        self.view.send_if_modified(|current| {
            let changed = *current != view;
            if changed {
                *current = view;
            }
            changed
        });
        if has_token {
            self.ports.readiness.send_if_modified(|readiness| readiness.missing.remove(&self.name));
        }
    }

    fn now(&self) -> Now {
        Now { at: Instant::now(), wall: self.ports.clock.now() }
    }

    /// Never held across an await. A panic inside leaves a machine that is at worst one event
    /// behind, which is better than one without its tokens.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the answer to the call under way, for ever if there is none; no answer means that the
/// call has panicked.
async fn answered<C, A>(pending: &mut Option<Pending<C, A>>) -> (C, Option<A>) {
    let answer = match pending {
        Some(pending) => (&mut pending.answer).await.ok(),
        None => std::future::pending().await,
    };
    match pending.take() {
        Some(Pending { call, .. }) => (call, answer),
        None => std::future::pending().await,
    }
}
