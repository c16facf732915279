//! Classification of results as failures of HubSpot, and requests during an open circuit.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::{
    leads::PortalName,
    pipeline::{
        retry::Retry,
        scripted::{Scripted, ScriptedUpstream},
        tests::{context, found, get, lead, lead_in, unavailable},
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// Consecutive failures that open a circuit.
const THRESHOLD: usize = 10;

/// The layer over a double with replaceable responses.
struct Fixture {
    breaker: Arc<Breaker<Arc<ScriptedUpstream>>>,
    upstream: Arc<ScriptedUpstream>,
    response: Arc<Mutex<Scripted>>,
    circuit: Arc<Circuit>,
    stats: Arc<PortalStats>,
}

// === impl Fixture ===

impl Fixture {
    fn new() -> Self {
        let response = Arc::new(Mutex::new(Scripted::now(found("1"))));
        let scripted = Arc::clone(&response);
        let upstream = ScriptedUpstream::new(move |_| scripted.lock().clone());
        let (circuit, stats): (Arc<Circuit>, Arc<PortalStats>) = Default::default();
        let breaker = Breaker::new(Arc::clone(&upstream), Arc::clone(&circuit), Arc::clone(&stats));
        Self { breaker: Arc::new(breaker), upstream, response, circuit, stats }
    }

    async fn call(&self) -> Result<Response, Error> {
        let ctx = context(MINUTE);
        self.breaker.call(&ctx, get("1"), Dispatch::new(&ctx)).await
    }

    /// Makes `times` calls, each with this result.
    async fn results(&self, result: Result<Response, Error>, times: usize) {
        *self.response.lock() = Scripted::now(result.clone());
        for _ in 0..times {
            assert_eq!(lead_in(self.call().await), lead_in(result.clone()));
        }
    }

    async fn failures(&self, times: usize) {
        self.results(Err(unavailable()), times).await;
    }

    fn opened(&self) -> u64 {
        self.stats.snapshot(PortalName::parse("default").unwrap(), false).breaker_opened
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_rejects_requests_without_sending_them() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD - 1).await;
    assert_eq!((fixture.circuit.is_open(), fixture.opened()), (false, 0));
    fixture.failures(1).await;
    assert_eq!((fixture.circuit.is_open(), fixture.opened()), (true, 1));
    let error = fixture.call().await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
    let pause = error.retry_after().unwrap();
    assert!(pause >= Duration::from_millis(1_500) && pause < Duration::from_millis(2_500));
    assert_eq!(fixture.upstream.count(), THRESHOLD);
    assert_eq!(fixture.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_without_a_response_of_hubspot_counts_as_a_failure() {
    for reason in [Reason::UpstreamUnavailable, Reason::WriteOutcomeUnknown] {
        let fixture = Fixture::new();
        fixture.results(Err(Error::new(reason, "no response")), THRESHOLD).await;
        assert!(fixture.circuit.is_open(), "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_not_sent_says_nothing_about_hubspot() {
    let local = |reason| Error::new(reason, "quota").with_local_limit(LocalLimit::Quota("burst"));
    let neutral = [
        local(Reason::RateLimited),
        local(Reason::DailyLimitReached),
        local(Reason::Overloaded),
        Error::new(Reason::DeadlineExceeded, "the deadline passed"),
        Error::new(Reason::CredentialUnavailable, "no token"),
    ];
    for error in neutral {
        let fixture = Fixture::new();
        fixture.results(Err(error.clone()), 2 * THRESHOLD).await;
        assert!(!fixture.circuit.is_open(), "{error} is no failure of HubSpot");
        fixture.failures(THRESHOLD - 1).await;
        fixture.results(Err(error.clone()), 1).await;
        fixture.failures(1).await;
        assert!(fixture.circuit.is_open(), "{error} does not show that HubSpot is up");
    }
}

#[tokio::test(start_paused = true)]
async fn every_response_of_hubspot_shows_that_it_is_up() {
    let is_response = |reason: &Reason| {
        !matches!(
            reason,
            Reason::UpstreamUnavailable
                | Reason::WriteOutcomeUnknown
                | Reason::DeadlineExceeded
                | Reason::CredentialUnavailable
        )
    };
    let errors = Reason::ALL.into_iter().filter(is_response);
    let errors = errors.map(|reason| Err(Error::new(reason, "an error of HubSpot")));
    for result in errors.chain([found("1")]) {
        let fixture = Fixture::new();
        fixture.failures(THRESHOLD - 1).await;
        fixture.results(result.clone(), 1).await;
        fixture.failures(THRESHOLD - 1).await;
        assert!(!fixture.circuit.is_open(), "{result:?}");
        fixture.results(result.clone(), THRESHOLD).await;
        assert!(!fixture.circuit.is_open(), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_probes_after_the_pause_and_closes_the_circuit() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    advance(fixture.call().await.unwrap_err().retry_after().unwrap()).await;
    *fixture.response.lock() = Scripted::after(Duration::from_secs(1), found("1"));
    let (probe, other) = tokio::join!(fixture.call(), async {
        sleep(Duration::from_millis(500)).await;
        fixture.call().await
    });
    assert_eq!(lead_in(probe), Ok(lead("1")));
    assert_eq!(other.unwrap_err().local_limit(), Some(LocalLimit::CircuitBreaker));
    assert_eq!(lead_in(fixture.call().await), Ok(lead("1")));
    assert!(!fixture.circuit.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_keeps_the_circuit_open_for_longer() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    advance(fixture.call().await.unwrap_err().retry_after().unwrap()).await;
    fixture.failures(1).await;
    let error = fixture.call().await.unwrap_err();
    assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
    assert!(error.retry_after().unwrap() >= Duration::from_secs(3));
    assert_eq!((fixture.upstream.count(), fixture.opened()), (THRESHOLD + 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_probe_is_followed_by_another() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    advance(fixture.call().await.unwrap_err().retry_after().unwrap()).await;
    *fixture.response.lock() = Scripted::after(MINUTE, found("1"));
    assert!(timeout(Duration::from_secs(1), fixture.call()).await.is_err(), "the probe hangs");
    assert_eq!(fixture.upstream.in_progress(), 0);
    sleep(Duration::from_secs(14)).await;
    fixture.results(found("1"), 1).await;
    assert!(!fixture.circuit.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_rejection_by_an_open_circuit_is_not_retried() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    let retry = Retry::new(Arc::clone(&fixture.breaker), 4, Arc::default());
    let ctx = context(MINUTE);
    let error = retry.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
    assert_eq!(error.upstream().attempts, 1);
    assert_eq!(fixture.upstream.count(), THRESHOLD);
}
