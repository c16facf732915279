//! Tokens of an engine on doubles: with every request, after a 401, and while there is none.

use std::time::Duration;

use leadsd_base::secret::Secret;
use leadsd_credentials::{
    Credentials, SecretPath, Settings,
    testing::{Fault, MemoryStore, TestClock, TokenEndpoint, oauth_secret, static_secret},
};
use leadsd_quota::{Account, BucketName};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    leads::UpstreamFacts,
    pipeline::{
        RetryDeadline,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{account, context, found, get, lead, lead_in, unavailable},
    },
};

const MINUTE: Duration = Duration::from_secs(60);
const PATH: &str = "hubspot/default";

/// An engine for the portal `default` on doubles.
struct World {
    store: Arc<MemoryStore>,
    endpoint: Arc<TokenEndpoint>,
    credentials: Option<Credentials>,
}

// === impl World ===

impl World {
    /// A world without a secret.
    fn new() -> Self {
        let endpoint = Arc::new(TokenEndpoint::new(Duration::from_secs(1_800)));
        Self { store: Arc::default(), endpoint, credentials: None }
    }

    /// A world with an OAuth secret that works.
    fn oauth() -> Self {
        let world = Self::new();
        let secret = oauth_secret("app", "client-secret", "refresh-token");
        world.endpoint.accept(&secret);
        world.store.put(PATH, secret);
        world
    }

    /// Starts the engine and returns the layer over `upstream`.
    fn layer(&mut self, upstream: &Arc<ScriptedUpstream>) -> Authenticate<Arc<ScriptedUpstream>> {
        let path = SecretPath::parse(PATH).unwrap();
        let credentials = Credentials::start(
            Settings::default(),
            Arc::<MemoryStore>::clone(&self.store),
            Arc::<TokenEndpoint>::clone(&self.endpoint),
            Arc::new(TestClock::default()),
            [("default".to_owned(), path)],
        );
        let tokens = self.credentials.insert(credentials.unwrap()).handle("default").unwrap();
        Authenticate::new(Arc::clone(upstream), tokens)
    }
}

fn fixed(upstream: &Arc<ScriptedUpstream>) -> Authenticate<Arc<ScriptedUpstream>> {
    Authenticate::new(Arc::clone(upstream), Handle::fixed(Secret::new("fixed")))
}

fn unauthorized(category: Option<&str>) -> Error {
    let upstream = UpstreamFacts {
        http_status: Some(401),
        category: category.map(str::to_owned),
        ..UpstreamFacts::default()
    };
    Error::new(Reason::CredentialRejected, "HubSpot responded 401").with_upstream(upstream)
}

fn expired() -> Error {
    unauthorized(Some("EXPIRED_AUTHENTICATION"))
}

/// A dispatch with a permit of `account`.
fn with_permit(ctx: &CallContext, account: &Arc<Account>) -> Dispatch {
    let permit =
        account.try_acquire(BucketName::Burst, &ctx.requester, ctx.permit_deadline()).unwrap();
    assert!(permit.is_some());
    Dispatch { permit, ..Dispatch::new(ctx) }
}

/// Permits of `account` in use.
fn permits_in_use(account: &Account) -> u64 {
    let snapshot = account.snapshot(Instant::now());
    snapshot.buckets.iter().find(|bucket| bucket.name == BucketName::Burst).unwrap().used
}

fn tokens(requests: &[Recorded]) -> Vec<String> {
    requests.iter().map(|sent| sent.token.clone().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_request_carries_the_token_and_keeps_its_permit() {
    let upstream = ScriptedUpstream::sequence(vec![found("1"), found("2")]);
    let layer = fixed(&upstream);
    let ctx = context(MINUTE);
    let dispatch = with_permit(&ctx, &account(100, 10));
    assert_eq!(lead_in(layer.call(&ctx, get("1"), dispatch).await), Ok(lead("1")));
    assert_eq!(lead_in(layer.call(&ctx, get("2"), Dispatch::new(&ctx)).await), Ok(lead("2")));
    let requests = upstream.requests();
    assert_eq!(tokens(&requests), ["fixed", "fixed"]);
    let permits: Vec<_> = requests.iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_401_is_replayed_once_with_another_token_and_without_the_permit() {
    let mut world = World::oauth();
    let upstream = ScriptedUpstream::sequence(vec![Err(expired()), found("1")]);
    let layer = world.layer(&upstream);
    sleep(MINUTE).await;
    let ctx = context(MINUTE);
    let dispatch = Dispatch { prior_attempts: 2, ..with_permit(&ctx, &account(100, 10)) };
    assert_eq!(lead_in(layer.call(&ctx, get("1"), dispatch).await), Ok(lead("1")));
    let requests = upstream.requests();
    let tokens = tokens(&requests);
    assert_ne!(tokens[0], tokens[1]);
    assert!(world.endpoint.accepts(&Secret::new(tokens[1].clone())));
    let permits: Vec<_> = requests.iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false], "the replay acquires a separate permit");
    assert!(requests.iter().all(|sent| sent.prior_attempts == 2));
    assert!(requests.iter().all(|sent| *sent.request == *get("1")));
}

#[tokio::test(start_paused = true)]
async fn a_second_401_rejects_the_credential() {
    let mut world = World::oauth();
    let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(expired())));
    let layer = world.layer(&upstream);
    sleep(MINUTE).await;
    let ctx = context(MINUTE);
    let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialRejected);
    assert_eq!(error.upstream().http_status, None, "the error is not about one token");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn any_401_of_an_oauth_token_is_cured_by_one_refresh() {
    let carried = UpstreamFacts { http_status: Some(200), ..UpstreamFacts::default() };
    let carried =
        Error::new(Reason::CredentialRejected, "no valid credentials").with_upstream(carried);
    for error in [
        unauthorized(Some("INVALID_AUTHENTICATION")),
        unauthorized(Some("A_NEW_CATEGORY")),
        unauthorized(None),
        carried,
    ] {
        let mut world = World::oauth();
        let upstream = ScriptedUpstream::sequence(vec![Err(error), found("1"), found("2")]);
        let layer = world.layer(&upstream);
        sleep(MINUTE).await;
        let ctx = context(MINUTE);
        let result = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
        assert_eq!(lead_in(result), Ok(lead("1")));
        let result = layer.call(&ctx, get("2"), Dispatch::new(&ctx)).await;
        assert_eq!(lead_in(result), Ok(lead("2")));
        assert_eq!((world.endpoint.calls(), upstream.count()), (2, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_always_rejected_fail_fast_after_one_refresh() {
    let mut world = World::oauth();
    let upstream = ScriptedUpstream::new(|_| Scripted::now(Err(unauthorized(None))));
    let layer = world.layer(&upstream);
    sleep(MINUTE).await;
    for number in 0..100 {
        let (ctx, start) = (context(MINUTE), Instant::now());
        let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::CredentialRejected);
        assert!(number == 0 || start.elapsed() < Duration::from_secs(1), "{number}");
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.endpoint.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_error_after_the_replay_is_returned() {
    let mut world = World::oauth();
    let upstream = ScriptedUpstream::sequence(vec![Err(expired()), Err(unavailable())]);
    let layer = world.layer(&upstream);
    sleep(MINUTE).await;
    let ctx = context(MINUTE);
    let result = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
    assert_eq!(lead_in(result), Err(unavailable()));
}

#[tokio::test(start_paused = true)]
async fn errors_other_than_401_are_not_replayed() {
    let facts = UpstreamFacts {
        http_status: Some(403),
        category: Some("EXPIRED_AUTHENTICATION".to_owned()),
        ..UpstreamFacts::default()
    };
    let forbidden = Error::new(Reason::UpstreamForbidden, "forbidden").with_upstream(facts);
    for error in [forbidden, unavailable()] {
        let upstream = ScriptedUpstream::sequence(vec![Err(error.clone())]);
        let ctx = context(MINUTE);
        let result = fixed(&upstream).call(&ctx, get("1"), Dispatch::new(&ctx)).await;
        assert_eq!(lead_in(result), Err(error));
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_token_without_a_replacement_is_not_replayed() {
    let mut world = World::new();
    world.store.put(PATH, static_secret("first"));
    for category in [None, Some("INVALID_AUTHENTICATION")] {
        let upstream = ScriptedUpstream::new(move |_| Scripted::now(Err(unauthorized(category))));
        let layer = world.layer(&upstream);
        sleep(MINUTE).await;
        let ctx = context(MINUTE);
        let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::CredentialRejected);
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_token_is_replaced_by_that_of_a_newer_secret() {
    let mut world = World::new();
    world.store.put(PATH, static_secret("first"));
    let upstream = ScriptedUpstream::sequence(vec![Err(unauthorized(None)), found("1")]);
    let layer = world.layer(&upstream);
    sleep(Duration::from_secs(1)).await;
    world.store.put(PATH, static_secret("second"));
    let ctx = context(MINUTE);
    let result = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
    assert_eq!(lead_in(result), Ok(lead("1")));
    let tokens = tokens(&upstream.requests());
    assert!(tokens[0].contains("first") && tokens[1].contains("second"), "{tokens:?}");
}

#[tokio::test(start_paused = true)]
async fn the_permit_is_released_while_a_token_is_awaited() {
    let mut world = World::oauth();
    world.endpoint.hold();
    let upstream = ScriptedUpstream::sequence(vec![found("1")]);
    let layer = world.layer(&upstream);
    let (ctx, account) = (context(MINUTE), account(100, 10));
    let dispatch = with_permit(&ctx, &account);
    assert_eq!(permits_in_use(&account), 1);
    let (result, ()) = tokio::join!(layer.call(&ctx, get("1"), dispatch), async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!((permits_in_use(&account), upstream.count()), (0, 0));
        world.endpoint.release();
    });
    assert_eq!(lead_in(result), Ok(lead("1")));
    assert!(!upstream.requests()[0].has_permit);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_while_a_token_is_awaited_sends_nothing() {
    let mut world = World::oauth();
    world.endpoint.hold();
    let upstream = ScriptedUpstream::sequence(Vec::new());
    let layer = world.layer(&upstream);
    let (ctx, account) = (context(MINUTE), account(100, 10));
    let call = layer.call(&ctx, get("1"), with_permit(&ctx, &account));
    assert!(timeout(Duration::from_secs(1), call).await.is_err());
    world.endpoint.release();
    sleep(MINUTE).await;
    assert_eq!((permits_in_use(&account), upstream.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_a_token_until_its_deadline() {
    let mut world = World::oauth();
    world.endpoint.fail(Fault::Hang);
    let upstream = ScriptedUpstream::sequence(Vec::new());
    let layer = world.layer(&upstream);
    let ctx = context(Duration::from_secs(2));
    let start = Instant::now();
    let error = layer.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialUnavailable);
    assert!(error.internal().is_some() && !error.is_deadline_limited());
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_shared_request_waits_for_a_token_until_the_earliest_deadline() {
    let mut world = World::oauth();
    world.endpoint.fail(Fault::Hang);
    let upstream = ScriptedUpstream::sequence(Vec::new());
    let layer = world.layer(&upstream);
    let ctx = context(MINUTE);
    let retry_deadline = RetryDeadline::shared(ctx.deadline);
    retry_deadline.join(Instant::now() + Duration::from_secs(2));
    let dispatch = Dispatch { retry_deadline, ..Dispatch::new(&ctx) };
    let start = Instant::now();
    let error = layer.call(&ctx, get("1"), dispatch).await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialUnavailable);
    assert!(error.is_deadline_limited(), "the sharers with more time go on");
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_suspended_credential_fails_a_call_before_its_deadline() {
    let mut world = World::new();
    let upstream = ScriptedUpstream::sequence(Vec::new());
    let layer = world.layer(&upstream);
    let ctx = context(MINUTE);
    let retry_deadline = RetryDeadline::shared(ctx.deadline);
    retry_deadline.join(Instant::now() + MINUTE / 2);
    let dispatch = Dispatch { retry_deadline, ..Dispatch::new(&ctx) };
    let start = Instant::now();
    let error = layer.call(&ctx, get("1"), dispatch).await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialUnavailable);
    assert!(error.internal().is_some() && !error.is_deadline_limited());
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_replacement_is_awaited_until_the_deadline_of_the_call() {
    let mut world = World::oauth();
    let upstream = ScriptedUpstream::sequence(vec![Err(expired())]);
    let layer = world.layer(&upstream);
    sleep(MINUTE).await;
    world.endpoint.fail(Fault::Hang);
    let (ctx, account) = (context(Duration::from_secs(2)), account(100, 10));
    let start = Instant::now();
    let error = layer.call(&ctx, get("1"), with_permit(&ctx, &account)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::CredentialUnavailable);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(upstream.count(), 1);
}
