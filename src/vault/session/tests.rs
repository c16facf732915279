//! The session against a double of the auth method, in paused time: it survives every outage, recovers
//! within half a minute of its end, and bounds the rate of its requests.

use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::{renewal::EXTERNAL_INTERVAL, request::UNKNOWN_TOKEN_PATIENCE, *};
use crate::vault::{
    auth_method::{IssuedToken, Replacement},
    lease::Lease,
    response::VaultResponse,
    tests::config,
};
use leadsd_base::secret::Secret;

const HOUR: Duration = Duration::from_secs(3_600);
const RECOVERY: Duration = Duration::from_secs(30);

/// Behaviour of the double in every call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Behaviour {
    Healthy,
    /// Unavailable for any cause: the session treats all causes alike.
    Unavailable,
    /// Responds after this time.
    Slow(Duration),
    /// Rejects the login.
    RejectsLogin,
    /// Panics.
    Panics,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    ttl: Duration,
    renewable: bool,
    /// Maximum time to live of a token, renewals included.
    max_ttl: Duration,
    /// Valid tokens, and when they were issued.
    live: Vec<(String, Instant)>,
    external: Option<String>,
    /// True if an operator wrote the external token: the session renews it.
    operator_file: bool,
    /// True if the policy does not allow tokens to look up, renew and revoke themselves.
    without_default_policy: bool,
    serial: u32,
    logins: usize,
    renewals: usize,
    revoked: Vec<String>,
}

#[derive(Clone)]
struct AuthDouble(Arc<Mutex<State>>);

// === impl AuthDouble ===

impl AuthDouble {
    fn new(ttl: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            behaviour: Behaviour::Healthy,
            ttl,
            renewable: true,
            max_ttl: HOUR * 24 * 365,
            live: Vec::new(),
            external: None,
            operator_file: false,
            without_default_policy: false,
            serial: 0,
            logins: 0,
            renewals: 0,
            revoked: Vec::new(),
        })))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn behaviour(&self) -> Result<(), Error> {
        let behaviour = self.change(|state| state.behaviour.clone());
        match behaviour {
            Behaviour::Healthy => Ok(()),
            Behaviour::Unavailable => Err(Error::Unavailable("sealed".to_owned())),
            Behaviour::Slow(time) => {
                sleep(time).await;
                Ok(())
            }
            Behaviour::RejectsLogin => Err(Error::LoginRejected(403)),
            Behaviour::Panics => panic!("the double panics"),
        }
    }

    fn start(&self) -> Session {
        let client = VaultClient::new(&config("http://127.0.0.1:1")).unwrap();
        Session::with_auth(client, "double", Box::new(self.clone()), || 0.5)
    }

    fn counts(&self) -> (usize, usize) {
        self.change(|state| (state.logins, state.renewals))
    }

    /// Reports whether the current token is valid.
    fn serves(&self, session: &Session) -> bool {
        let token = session.renewal.current.borrow().token.clone();
        let now = Instant::now();
        self.change(|state| {
            token.is_some_and(|current| {
                state.live.iter().any(|(token, since)| {
                    token == current.secret.expose() && now < *since + state.max_ttl
                })
            })
        })
    }
}

#[async_trait]
impl LoginMethod for AuthDouble {
    async fn log_in(&self) -> Result<IssuedToken, Error> {
        self.change(|state| state.logins += 1);
        self.behaviour().await?;
        Ok(self.change(|state| {
            let external = state.external.clone();
            let owned = external.is_none();
            let token = external.unwrap_or_else(|| {
                state.serial += 1;
                format!("token-{}", state.serial)
            });
            let (now, longest) = (Instant::now(), state.max_ttl);
            state.live.retain(|(_, since)| now < *since + longest);
            if !state.live.iter().any(|(live, _)| *live == token) {
                state.live.push((token.clone(), now));
            }
            let ttl = state.ttl.min(state.max_ttl);
            IssuedToken {
                token: Secret::new(token),
                lease: Lease { ttl, renewable: state.renewable && (owned || state.operator_file) },
                owned,
                replacement: match (owned, state.operator_file) {
                    (false, true) => Replacement::WhileRenewed(state.ttl),
                    (true, _) | (_, false) => Replacement::Automatic,
                },
                age: Duration::ZERO,
                is_known: !owned,
                uses_left: None,
            }
        }))
    }

    async fn renew(&self, token: &Secret) -> Result<Lease, Error> {
        self.change(|state| state.renewals += 1);
        self.behaviour().await?;
        self.change(|state| {
            if state.without_default_policy {
                return Err(Error::Denied);
            }
            let found = state.live.iter().find(|(live, _)| live == token.expose());
            let (_, since) = found.ok_or(Error::Denied)?;
            let left = state.max_ttl.saturating_sub(since.elapsed());
            Ok(Lease { ttl: state.ttl.min(left), renewable: true })
        })
    }

    async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        self.behaviour().await?;
        self.change(|state| {
            state.revoked.push(token.expose().to_owned());
            if state.without_default_policy {
                return Err(Error::Denied);
            }
            state.live.retain(|(live, _)| live != token.expose());
            Ok(())
        })
    }

    async fn external_token(&self) -> Option<Secret> {
        self.change(|state| state.external.clone().map(Secret::new))
    }

    async fn secret_id_left(&self, _token: &Secret) -> Option<Duration> {
        None
    }
}

async fn logged_in(session: &Session) -> u64 {
    let token = session.token(Instant::now() + RECOVERY).await;
    token.expect("logged in within half a minute").1
}

/// Sends requests to a cluster whose nodes know a token `delay` after its login; counts requests.
async fn request(
    double: &AuthDouble,
    session: &Session,
    delay: Duration,
) -> (Result<u16, Error>, usize) {
    let sent = AtomicU64::new(0);
    let knows = |token: &Secret| {
        let now = Instant::now();
        double.change(|state| {
            let known =
                |(live, since): &(String, Instant)| live == token.expose() && now >= *since + delay;
            state.live.iter().any(known)
        })
    };
    let send = async |token: Secret| {
        sent.fetch_add(1, Ordering::Relaxed);
        Ok(VaultResponse::new(if knows(&token) { 200 } else { 403 }, Vec::new()))
    };
    let look_up = async |token: Secret| if knows(&token) { Ok(()) } else { Err(Error::Denied) };
    let deadline = Instant::now() + RECOVERY;
    let response = session.request(deadline, send, look_up).await;
    let sent = usize::try_from(sent.into_inner()).unwrap();
    (response.map(|response| response.status()), sent)
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_node_does_not_know_yet_costs_no_other_login() {
    for (delay, logins) in [(0, 1), (500, 1), (1_000, 1), (2_000, 1), (4_900, 1)] {
        let delay = Duration::from_millis(delay);
        let double = AuthDouble::new(HOUR);
        let session = double.start();
        let started = Instant::now();
        let portals = (0..10).map(|_| request(&double, &session, delay));
        for (status, _) in futures_util::future::join_all(portals).await {
            assert_eq!(status, Ok(200), "known after {delay:?}");
        }
        assert!(started.elapsed() <= delay + Duration::from_secs(1), "{:?}", started.elapsed());
        assert_eq!(double.counts().0, logins, "known after {delay:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_right_after_the_login_is_replaced_within_seconds() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.live.clear());
    let started = Instant::now();
    let (status, sent) = request(&double, &session, Duration::ZERO).await;
    assert_eq!(status, Ok(200));
    assert!(started.elapsed() <= Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(double.counts().0, 2);
    assert!(sent <= 22, "{sent} requests");
}

#[tokio::test(start_paused = true)]
async fn an_old_token_that_vault_forgot_is_replaced_at_once() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    sleep(Duration::from_secs(60)).await;
    double.change(|state| state.live.clear());
    let started = Instant::now();
    assert_eq!(request(&double, &session, Duration::ZERO).await, (Ok(200), 2));
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn nodes_that_know_no_token_cause_no_storm_of_logins() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    let never = HOUR * 24;
    let started = Instant::now();
    let (status, sent) = request(&double, &session, never).await;
    assert_eq!(status, Ok(403), "the second token is denied too");
    assert!(sent <= 44, "{sent} requests");
    assert!(started.elapsed() <= UNKNOWN_TOKEN_PATIENCE * 3);
    assert_eq!(double.counts().0, 2, "another login would not help");

    // The second token is kept, and its requests are tried once each.
    for _ in 0..20 {
        sleep(Duration::from_secs(30)).await;
        assert_eq!(request(&double, &session, never).await, (Ok(403), 1));
    }
    assert_eq!(double.counts().0, 2);
    assert_eq!(double.change(|state| state.revoked.clone()), ["token-1"], "the first is revoked");
    let started = Instant::now();
    assert_eq!(
        request(&double, &session, Duration::ZERO).await,
        (Ok(200), 1),
        "the policy allows it"
    );

    // The token works now, so a denial means that Vault has forgotten it.
    double.change(|state| state.live.clear());
    assert_eq!(request(&double, &session, Duration::ZERO).await, (Ok(200), 2));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(double.counts().0, 3);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_may_not_revoke_themselves_are_reported_once() {
    let logs = leadsd_testkit::LogCapture::default();
    let filter = crate::telemetry::filter("warn").expect("a valid filter");
    let _captured = tracing::dispatcher::set_default(&logs.dispatch(filter));
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.without_default_policy = true);
    let session = double.start();
    for _ in 0..24 {
        sleep(HOUR).await;
        logged_in(&session).await;
    }
    session.close(Instant::now() + RECOVERY).await;
    let revoked = double.change(|state| state.revoked.len());
    assert!(revoked > 24, "{revoked} revocations were tried");
    assert_eq!(logs.lines(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_file_token_counts_as_replaced_while_renewals_grant_its_whole_life() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| {
        state.external = Some("file".to_owned());
        state.operator_file = true;
        state.max_ttl = HOUR * 10;
    });
    let session = double.start();
    logged_in(&session).await;
    assert!(!session.status().is_replaced, "no renewal has shown it");
    sleep(Duration::from_secs(1)).await;
    assert!(session.status().is_replaced, "the first renewal is not delayed");
    sleep(HOUR * 8).await;
    assert!(session.status().is_replaced);
    // The maximum shortens the renewals: an operator must write another token.
    sleep(HOUR * 3 / 2).await;
    assert!(!session.status().is_replaced);
    assert!(session.status().expires_in.unwrap() < HOUR);
    let logins = double.counts().0;
    assert!(logins < 12, "{logins} lookups");
    double.change(|state| {
        state.external = Some("other".to_owned());
        state.max_ttl = HOUR * 1_000;
    });
    sleep(EXTERNAL_INTERVAL * 2).await;
    assert!(double.serves(&session) && session.status().is_replaced);
}

#[tokio::test(start_paused = true)]
async fn a_file_token_that_may_not_renew_itself_is_kept_until_it_expires() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| {
        state.external = Some("file".to_owned());
        state.operator_file = true;
        state.without_default_policy = true;
    });
    let session = double.start();
    logged_in(&session).await;
    sleep(HOUR / 2).await;
    assert_eq!(double.counts(), (1, 1), "neither logins nor renewals help");
    let status = session.status();
    assert!(!status.is_replaced && status.expires_in.unwrap() <= HOUR / 2, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_wait_for_one_login() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.behaviour = Behaviour::Slow(Duration::from_secs(3)));
    let session = double.start();
    let callers = (0..1_000).map(|_| logged_in(&session));
    let generations = futures_util::future::join_all(callers).await;
    assert!(generations.into_iter().all(|generation| generation == 1));
    assert_eq!(double.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_for_days_without_another_login() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    for _ in 0..3 * 24 * 60 {
        sleep(Duration::from_secs(60)).await;
        assert!(double.serves(&session));
    }
    let (logins, renewals) = double.counts();
    assert_eq!(logins, 1);
    let expected = 3 * 24 * 3 / 2;
    assert!((expected - 3..=expected + 3).contains(&renewals), "{renewals}");
}

#[tokio::test(start_paused = true)]
async fn a_token_is_replaced_before_its_maximum_ttl_and_revoked() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.max_ttl = HOUR * 4);
    let session = double.start();
    logged_in(&session).await;
    for _ in 0..24 * 60 {
        sleep(Duration::from_secs(60)).await;
        assert!(double.serves(&session));
    }
    let (logins, _) = double.counts();
    assert!((6..=9).contains(&logins), "{logins} logins in 24 h of tokens that live 4 h");
    let revoked = double.change(|state| state.revoked.len());
    assert_eq!(revoked, logins - 1, "each replaced token is revoked");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_outlives_an_outage_serves_throughout_and_needs_no_new_login() {
    let double = AuthDouble::new(HOUR * 12);
    let session = double.start();
    logged_in(&session).await;
    sleep(HOUR * 7).await;
    double.change(|state| state.behaviour = Behaviour::Unavailable);
    let before = double.counts();
    for _ in 0..120 {
        sleep(Duration::from_secs(60)).await;
        assert!(double.serves(&session), "the token is good for hours");
        assert_eq!(session.status().state, SessionState::LoggedIn);
    }
    let tried = double.counts().1 - before.1;
    assert!((10..=60).contains(&tried), "{tried} renewals tried in two hours");
    double.change(|state| state.behaviour = Behaviour::Healthy);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(double.counts().0, 1);
    assert!(session.status().renewal_failures > 0);
    assert!(session.status().expires_in.unwrap() > HOUR * 11, "renewed");
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_token_ends_in_a_login_within_half_a_minute() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    sleep(Duration::from_secs(600)).await;
    double.change(|state| state.behaviour = Behaviour::Unavailable);
    sleep(HOUR * 2).await;
    assert!(matches!(session.status().state, SessionState::LoggedOut(why) if why == "sealed"));
    let refused = session.token(Instant::now() + Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    let (logins, renewals) = double.counts();
    assert!(logins + renewals < 2 * 3_600 / 7, "{logins} logins, {renewals} renewals");
    double.change(|state| state.behaviour = Behaviour::Healthy);
    assert_eq!(logged_in(&session).await, 2);
}

#[tokio::test(start_paused = true)]
async fn lost_tokens_cost_one_login() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    let generation = logged_in(&session).await;
    double.change(|state| state.live.clear());
    for _ in 0..100 {
        session.report_denied(generation);
    }
    assert_eq!(logged_in(&session).await, generation + 1);
    assert!(double.serves(&session));
    session.report_denied(generation);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(double.counts().0, 2, "late reports about the previous token are ignored");
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_replaced_at_its_renewal() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.live.clear());
    sleep(HOUR).await;
    assert!(double.serves(&session));
    assert_eq!(double.counts(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn short_leases_neither_spin_nor_expire() {
    for ttl in [1, 2, 5] {
        let double = AuthDouble::new(Duration::from_secs(ttl));
        let session = double.start();
        logged_in(&session).await;
        for _ in 0..600 {
            sleep(Duration::from_millis(100)).await;
            assert!(double.serves(&session));
        }
        let (logins, renewals) = double.counts();
        assert!(logins + renewals <= 61 * 2, "{logins} + {renewals} in a minute, ttl {ttl} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_login_is_reported_and_retried_slowly() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.behaviour = Behaviour::RejectsLogin);
    let session = double.start();
    sleep(HOUR).await;
    let status = session.status();
    let SessionState::LoggedOut(why) = status.state else { panic!("logged in") };
    assert!(why.contains("403"), "{why}");
    assert_eq!(status.login_error, Some(why));
    assert!((200..=500).contains(&status.login_failures), "{}", status.login_failures);
    let rejected = session.token(Instant::now()).await.map(|_| ());
    assert_eq!(rejected, Err(Error::LoginRejected(403)), "portals show login_rejected");
    double.change(|state| state.behaviour = Behaviour::Healthy);
    logged_in(&session).await;
}

#[tokio::test(start_paused = true)]
async fn a_rejected_login_is_shown_while_the_previous_token_is_in_use() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.max_ttl = HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.behaviour = Behaviour::RejectsLogin);
    sleep(HOUR * 55 / 60).await;
    let status = session.status();
    assert_eq!(status.state, SessionState::LoggedIn);
    assert!(status.login_error.unwrap().contains("403"));
    double.change(|state| state.behaviour = Behaviour::Healthy);
    sleep(RECOVERY).await;
    assert_eq!(session.status().login_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_another_process_replaces_is_used_and_not_revoked() {
    let double = AuthDouble::new(HOUR);
    double.change(|state| state.external = Some("first".to_owned()));
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.external = Some("second".to_owned()));
    sleep(EXTERNAL_INTERVAL * 2).await;
    let current = session.renewal.current.borrow().token.clone().unwrap();
    assert_eq!(current.secret.expose(), "second");
    session.close(Instant::now() + RECOVERY).await;
    assert_eq!(double.change(|state| state.revoked.clone()), Vec::<String>::new());
    assert_eq!(double.counts().1, 0, "the other process renews it");
}

#[tokio::test(start_paused = true)]
async fn close_revokes_an_owned_token_within_its_deadline() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    session.close(Instant::now() + RECOVERY).await;
    assert_eq!(double.change(|state| state.revoked.clone()), ["token-1"]);

    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.behaviour = Behaviour::Slow(HOUR));
    let closed = session.close(Instant::now() + Duration::from_secs(5));
    timeout(Duration::from_secs(6), closed).await.expect("bounded");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_neither_the_session_nor_the_current_token() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.behaviour = Behaviour::Panics);
    sleep(HOUR * 3 / 4).await;
    assert!(double.serves(&session));
    let (logins, renewals) = double.counts();
    assert!(logins + renewals < 1_000, "{logins} + {renewals}");
    double.change(|state| state.behaviour = Behaviour::Healthy);
    sleep(RECOVERY).await;
    logged_in(&session).await;
    assert!(double.serves(&session));
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_token() {
    let double = AuthDouble::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    assert!(!format!("{session:?} {:?}", session.status()).contains("token-1"));
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        2 => Just(Behaviour::Healthy),
        2 => Just(Behaviour::Unavailable),
        1 => (0_u64..9_000).prop_map(|ms| Behaviour::Slow(Duration::from_millis(ms))),
        1 => Just(Behaviour::RejectsLogin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn recovery_takes_at_most_half_a_minute_after_any_outages(
        ttl in 5_u64..20_000, max in 1_u64..5,
        schedule in proptest::collection::vec((behaviour(), 0_u64..3_000, any::<bool>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let double = AuthDouble::new(Duration::from_secs(ttl));
            double.change(|state| state.max_ttl = Duration::from_secs(ttl * max));
            let session = double.start();
            let started = Instant::now();
            for (behaviour, seconds, forgets) in &schedule {
                double.change(|state| {
                    state.behaviour = behaviour.clone();
                    if *forgets {
                        state.live.clear();
                    }
                });
                if *forgets {
                    let generation = session.renewal.current.borrow().generation;
                    session.report_denied(generation);
                }
                sleep(Duration::from_secs(*seconds)).await;
            }
            double.change(|state| state.behaviour = Behaviour::Healthy);
            sleep(RECOVERY).await;
            logged_in(&session).await;
            prop_assert!(double.serves(&session));
            let (logins, renewals) = double.counts();
            // Half the shortest lease between two calls, and a second between failures.
            let most = started.elapsed().as_secs() + 10 * u64::try_from(schedule.len()).unwrap();
            prop_assert!(logins + renewals <= usize::try_from(most).unwrap());
            Ok(())
        })?;
    }
}
