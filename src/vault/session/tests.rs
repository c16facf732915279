//! The session against a Vault double, in paused time and without sockets: it survives every outage,
//! recovers within half a minute of its end, and never asks more often than it should.

use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::{renewal::EXTERNAL_INTERVAL, *};
use crate::vault::{auth_method::IssuedToken, lease::Lease, tests::config};

const HOUR: Duration = Duration::from_secs(3_600);
const RECOVERY: Duration = Duration::from_secs(30);

/// What the double does with every call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mood {
    Well,
    /// Sealed, in standby, unreachable, throttling: all look alike to the session.
    Away,
    /// Answers after this time.
    Slow(Duration),
    /// Refuses the login.
    Refuses,
    /// Panics.
    Broken,
}

#[derive(Debug)]
struct State {
    mood: Mood,
    ttl: Duration,
    renewable: bool,
    /// A token may live this long in all.
    max_ttl: Duration,
    /// Tokens that work, and when they were made.
    live: Vec<(String, Instant)>,
    given: Option<String>,
    serial: u32,
    logins: usize,
    renewals: usize,
    revoked: Vec<String>,
}

#[derive(Clone)]
struct Double(Arc<Mutex<State>>);

// === impl Double ===

impl Double {
    fn new(ttl: Duration) -> Self {
        Self(Arc::new(Mutex::new(State {
            mood: Mood::Well,
            ttl,
            renewable: true,
            max_ttl: HOUR * 24 * 365,
            live: Vec::new(),
            given: None,
            serial: 0,
            logins: 0,
            renewals: 0,
            revoked: Vec::new(),
        })))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn mood(&self) -> Result<(), Error> {
        let mood = self.change(|state| state.mood.clone());
        match mood {
            Mood::Well => Ok(()),
            Mood::Away => Err(Error::Unavailable("is sealed".to_owned())),
            Mood::Slow(time) => {
                sleep(time).await;
                Ok(())
            }
            Mood::Refuses => Err(Error::LoginRejected(403)),
            Mood::Broken => panic!("the double was told to panic"),
        }
    }

    fn start(&self) -> Session {
        let client = Client::new(&config("http://127.0.0.1:1")).unwrap();
        Session::with_auth(client, "double", Box::new(self.clone()), || 0.5)
    }

    fn counts(&self) -> (usize, usize) {
        self.change(|state| (state.logins, state.renewals))
    }

    /// Whether the token that callers get works.
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
impl AuthMethod for Double {
    async fn log_in(&self) -> Result<IssuedToken, Error> {
        self.change(|state| state.logins += 1);
        self.mood().await?;
        Ok(self.change(|state| {
            let given = state.given.clone();
            let owned = given.is_none();
            let token = given.unwrap_or_else(|| {
                state.serial += 1;
                format!("token-{}", state.serial)
            });
            let (now, longest) = (Instant::now(), state.max_ttl);
            state.live.retain(|(_, since)| now < *since + longest);
            state.live.push((token.clone(), now));
            let ttl = state.ttl.min(state.max_ttl);
            IssuedToken {
                token: Secret::new(token),
                lease: Lease { ttl, renewable: state.renewable && owned },
                owned,
            }
        }))
    }

    async fn renew(&self, token: &Secret) -> Result<Lease, Error> {
        self.change(|state| state.renewals += 1);
        self.mood().await?;
        self.change(|state| {
            let found = state.live.iter().find(|(live, _)| live == token.expose());
            let (_, since) = found.ok_or(Error::Denied)?;
            let left = state.max_ttl.saturating_sub(since.elapsed());
            Ok(Lease { ttl: state.ttl.min(left), renewable: true })
        })
    }

    async fn revoke(&self, token: &Secret) -> Result<(), Error> {
        self.mood().await?;
        self.change(|state| {
            state.live.retain(|(live, _)| live != token.expose());
            state.revoked.push(token.expose().to_owned());
        });
        Ok(())
    }

    async fn external_token(&self) -> Option<Secret> {
        self.change(|state| state.given.clone().map(Secret::new))
    }
}

async fn logged_in(session: &Session) -> u64 {
    let token = session.token(Instant::now() + RECOVERY).await;
    token.expect("logged in within half a minute").1
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_wait_for_one_login() {
    let double = Double::new(HOUR);
    double.change(|state| state.mood = Mood::Slow(Duration::from_secs(3)));
    let session = double.start();
    let callers = (0..1_000).map(|_| logged_in(&session));
    let generations = futures_util::future::join_all(callers).await;
    assert!(generations.into_iter().all(|generation| generation == 1));
    assert_eq!(double.counts(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_for_days_without_another_login() {
    let double = Double::new(HOUR);
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
async fn at_the_end_of_its_longest_life_a_token_is_replaced_in_time_and_revoked() {
    let double = Double::new(HOUR);
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
    assert_eq!(revoked, logins - 1, "each token that was replaced is revoked");
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_vault_are_survived_on_a_longer_token_and_end_without_a_login() {
    let double = Double::new(HOUR * 12);
    let session = double.start();
    logged_in(&session).await;
    sleep(HOUR * 7).await;
    double.change(|state| state.mood = Mood::Away);
    let before = double.counts();
    for _ in 0..120 {
        sleep(Duration::from_secs(60)).await;
        assert!(double.serves(&session), "the token is good for hours");
        assert_eq!(session.status().state, SessionState::LoggedIn);
    }
    let tried = double.counts().1 - before.1;
    assert!((10..=60).contains(&tried), "{tried} renewals tried in two hours");
    double.change(|state| state.mood = Mood::Well);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(double.counts().0, 1);
    assert!(session.status().renewal_failures > 0);
    assert!(session.status().expires_in.unwrap() > HOUR * 11, "renewed");
}

#[tokio::test(start_paused = true)]
async fn two_hours_without_vault_outlast_a_short_token_and_end_within_half_a_minute() {
    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    sleep(Duration::from_secs(600)).await;
    double.change(|state| state.mood = Mood::Away);
    sleep(HOUR * 2).await;
    assert!(matches!(session.status().state, SessionState::LoggedOut(why) if why == "is sealed"));
    let refused = session.token(Instant::now() + Duration::from_secs(1)).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    let (logins, renewals) = double.counts();
    assert!(logins + renewals < 2 * 3_600 / 7, "{logins} logins, {renewals} renewals");
    double.change(|state| state.mood = Mood::Well);
    assert_eq!(logged_in(&session).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_vault_that_has_forgotten_all_tokens_costs_one_login() {
    let double = Double::new(HOUR);
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
    assert_eq!(double.counts().0, 2, "late reports about the old token count for nothing");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_revoked_is_noticed_when_it_is_renewed() {
    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.live.clear());
    sleep(HOUR).await;
    assert!(double.serves(&session));
    assert_eq!(double.counts(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn leases_shorter_than_any_margin_neither_spin_nor_starve() {
    for ttl in [1, 2, 5] {
        let double = Double::new(Duration::from_secs(ttl));
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
async fn a_refused_login_is_visible_and_tried_at_a_slow_pace_until_it_works() {
    let double = Double::new(HOUR);
    double.change(|state| state.mood = Mood::Refuses);
    let session = double.start();
    sleep(HOUR).await;
    let status = session.status();
    let SessionState::LoggedOut(why) = status.state else { panic!("logged in") };
    assert!(why.contains("403"), "{why}");
    assert!((200..=500).contains(&status.login_failures), "{}", status.login_failures);
    double.change(|state| state.mood = Mood::Well);
    logged_in(&session).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_somebody_else_replaces_is_taken_over_and_not_revoked() {
    let double = Double::new(HOUR);
    double.change(|state| state.given = Some("first".to_owned()));
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.given = Some("second".to_owned()));
    sleep(EXTERNAL_INTERVAL * 2).await;
    let current = session.renewal.current.borrow().token.clone().unwrap();
    assert_eq!(current.secret.expose(), "second");
    session.close(Instant::now() + RECOVERY).await;
    assert_eq!(double.change(|state| state.revoked.clone()), Vec::<String>::new());
    assert_eq!(double.counts().1, 0, "its keeper renews it");
}

#[tokio::test(start_paused = true)]
async fn the_end_revokes_what_the_session_created_and_does_not_wait_for_ever() {
    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    session.close(Instant::now() + RECOVERY).await;
    assert_eq!(double.change(|state| state.revoked.clone()), ["token-1"]);

    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.mood = Mood::Slow(HOUR));
    let closed = session.close(Instant::now() + Duration::from_secs(5));
    timeout(Duration::from_secs(6), closed).await.expect("bounded");
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_neither_the_session_nor_the_token_in_use() {
    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    double.change(|state| state.mood = Mood::Broken);
    sleep(HOUR * 3 / 4).await;
    assert!(double.serves(&session));
    let (logins, renewals) = double.counts();
    assert!(logins + renewals < 1_000, "{logins} + {renewals}");
    double.change(|state| state.mood = Mood::Well);
    sleep(RECOVERY).await;
    logged_in(&session).await;
    assert!(double.serves(&session));
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_token_shows_in_debug() {
    let double = Double::new(HOUR);
    let session = double.start();
    logged_in(&session).await;
    assert!(!format!("{session:?} {:?}", session.status()).contains("token-1"));
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        2 => Just(Mood::Well),
        2 => Just(Mood::Away),
        1 => (0_u64..9_000).prop_map(|ms| Mood::Slow(Duration::from_millis(ms))),
        1 => Just(Mood::Refuses),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_of_outages_is_over_within_half_a_minute_of_its_end(
        ttl in 5_u64..20_000, max in 1_u64..5,
        schedule in proptest::collection::vec((mood(), 0_u64..3_000, any::<bool>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let double = Double::new(Duration::from_secs(ttl));
            double.change(|state| state.max_ttl = Duration::from_secs(ttl * max));
            let session = double.start();
            let started = Instant::now();
            for (mood, seconds, forgets) in &schedule {
                double.change(|state| {
                    state.mood = mood.clone();
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
            double.change(|state| state.mood = Mood::Well);
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
