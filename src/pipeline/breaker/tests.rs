//! Requests during an open circuit, and the probes that close it, in simulated time.

mod kinds;

use std::time::Duration;

use leadsd_quota::Priority;
use parking_lot::Mutex;
use tokio::time::{advance, sleep, timeout};

use super::*;
use crate::{
    hubspot::Operation,
    leads::Portal,
    pipeline::{
        late,
        retry::Retry,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{context, context_of, create, found, get, lead, lead_in, ordinary, unavailable},
    },
};

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

/// Consecutive failures that open a circuit.
const THRESHOLD: usize = 10;

/// The layers over a double with replaceable responses.
struct Fixture {
    breaker: Arc<Breaker<HealthMonitor<Arc<ScriptedUpstream>>>>,
    upstream: Arc<ScriptedUpstream>,
    response: Arc<Mutex<Option<Scripted>>>,
    circuits: Arc<Circuits>,
    /// Keeps the portal for the probes.
    portal: Arc<Portal>,
}

// === impl Fixture ===

impl Fixture {
    /// The double responds as HubSpot ordinarily does.
    fn new() -> Self {
        let response: Arc<Mutex<Option<Scripted>>> = Arc::default();
        let scripted = Arc::clone(&response);
        let upstream = ScriptedUpstream::new(move |sent| {
            scripted.lock().clone().unwrap_or_else(|| Scripted::now(ordinary(&sent.request)))
        });
        Self::over(upstream, response)
    }

    /// The layers over `upstream`.
    fn over(upstream: Arc<ScriptedUpstream>, response: Arc<Mutex<Option<Scripted>>>) -> Self {
        let circuits: Arc<Circuits> = Arc::default();
        let monitor = HealthMonitor::new(
            Arc::clone(&upstream),
            Arc::clone(&circuits),
            BreakerSettings::default(),
        );
        let breaker = Arc::new(Breaker::new(monitor, Arc::clone(&circuits)));
        let portal = context(MINUTE).portal;
        Self { breaker, upstream, response, circuits, portal }
    }

    /// A breaker that knows that reads take 100 ms.
    async fn with_history() -> Self {
        let fixture = Self::new();
        fixture.respond(Scripted::after(SECOND / 10, found("1")));
        for _ in 0..32 {
            fixture.call().await.unwrap();
        }
        fixture
    }

    fn respond(&self, scripted: Scripted) {
        *self.response.lock() = Some(scripted);
    }

    /// HubSpot hangs: it responds after ten minutes.
    fn hang(&self) {
        self.respond(Scripted::after(10 * MINUTE, found("1")));
    }

    fn recover(&self) {
        *self.response.lock() = None;
    }

    async fn call(&self) -> Result<Response, Error> {
        self.call_within(MINUTE).await
    }

    fn context(&self, time: Duration) -> CallContext {
        CallContext { portal: Arc::clone(&self.portal), ..context(time) }
    }

    async fn call_within(&self, time: Duration) -> Result<Response, Error> {
        let ctx = self.context(time);
        let call = self.breaker.call(&ctx, get("1"), Dispatch::new(&ctx));
        // As the layers around it do.
        timeout(time, call).await.unwrap_or_else(|_| Err(late()))
    }

    /// Makes `times` calls, each with this result.
    async fn results(&self, result: Result<Response, Error>, times: usize) {
        self.respond(Scripted::now(result.clone()));
        for _ in 0..times {
            assert_eq!(lead_in(self.call().await), lead_in(result.clone()));
        }
    }

    async fn failures(&self, times: usize) {
        self.results(Err(unavailable()), times).await;
    }

    fn is_open(&self) -> bool {
        self.circuits.get(CircuitScope::All).is_open()
    }

    fn opened(&self) -> u64 {
        self.circuits.stats()[0].opened
    }

    fn probes(&self) -> Vec<Recorded> {
        let is_probe = |sent: &Recorded| Operation::from(&*sent.request) == Operation::List;
        self.upstream.requests().into_iter().filter(is_probe).collect()
    }

    /// Starts `per_second` calls in each second, each with this deadline. Returns the number of
    /// successes and the longest wait.
    async fn load(&self, per_second: u32, seconds: u32, deadline: Duration) -> (usize, Duration) {
        let calls = (0..per_second * seconds).map(|number| async move {
            sleep(SECOND / per_second * number).await;
            let since = Instant::now();
            let result = self.call_within(deadline).await;
            (result.is_ok(), since.elapsed())
        });
        let results = futures_util::future::join_all(calls).await;
        let successes = results.iter().filter(|(success, _)| *success).count();
        (successes, results.iter().map(|(_, took)| *took).max().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_rejects_requests_without_sending_them() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD - 1).await;
    assert_eq!((fixture.is_open(), fixture.opened()), (false, 0));
    fixture.failures(1).await;
    assert_eq!((fixture.is_open(), fixture.opened()), (true, 1));
    let error = fixture.call().await.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
    let pause = error.retry_after().unwrap();
    assert!(pause >= SECOND && pause <= 2 * SECOND, "{pause:?}");
    assert_eq!(fixture.upstream.count(), THRESHOLD);
    assert_eq!(fixture.opened(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_without_a_response_of_hubspot_counts_as_a_failure() {
    for reason in [Reason::UpstreamUnavailable, Reason::WriteOutcomeUnknown] {
        let fixture = Fixture::new();
        fixture.results(Err(Error::new(reason, "no response")), THRESHOLD).await;
        assert!(fixture.is_open(), "{reason:?}");
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
                | Reason::Internal
        )
    };
    let errors = Reason::ALL.into_iter().filter(is_response);
    let errors = errors.map(|reason| Err(Error::new(reason, "an error of HubSpot")));
    for result in errors.chain([found("1")]) {
        let fixture = Fixture::new();
        fixture.failures(THRESHOLD - 1).await;
        fixture.results(result.clone(), 1).await;
        fixture.failures(THRESHOLD - 1).await;
        assert!(!fixture.is_open(), "{result:?}");
        fixture.results(result.clone(), THRESHOLD).await;
        assert!(!fixture.is_open(), "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_closes_the_circuit_without_a_call() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    fixture.recover();
    sleep(2 * SECOND).await;
    assert!(!fixture.is_open());
    let probes = fixture.probes();
    assert_eq!(probes.len(), 1);
    assert_eq!(
        (probes[0].caller.as_str(), probes[0].deadline - probes[0].at),
        ("leadsd", 12 * SECOND)
    );
    assert_eq!(lead_in(fixture.call().await), Ok(lead("1")));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_waiting_callers_send_nothing_while_a_probe_is_in_flight() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    fixture.respond(Scripted::after(3 * SECOND, found("1")));
    let (successes, _) = fixture.load(100, 3, MINUTE).await;
    assert_eq!(successes, 0);
    let sent = fixture.upstream.count() - THRESHOLD;
    assert_eq!(sent, fixture.probes().len(), "only probes are sent");
    assert!(sent <= 3, "{sent} probes");
    sleep(2 * SECOND).await;
    assert!(!fixture.is_open());
}

#[tokio::test(start_paused = true)]
async fn impatient_callers_do_not_delay_the_recovery_for_patient_ones() {
    let fixture = Fixture::with_history().await;
    fixture.respond(Scripted::now(Err(unavailable())));
    fixture.load(20, 15, SECOND / 5).await;
    assert!(fixture.is_open());
    // HubSpot is well again, with a latency of 0.4 s.
    fixture.respond(Scripted::after(2 * SECOND / 5, found("1")));
    let since = Instant::now();
    let patient = async {
        while since.elapsed() < MINUTE && fixture.call_within(5 * SECOND).await.is_err() {
            sleep(SECOND / 2).await;
        }
        since.elapsed()
    };
    let ((hopeless, _), recovery) = tokio::join!(fixture.load(20, 30, SECOND / 5), patient);
    assert_eq!(hopeless, 0);
    assert!(recovery <= 6 * SECOND, "the first success came after {recovery:?}");
    let (successes, _) =
        tokio::join!(fixture.load(2, 30, 5 * SECOND), fixture.load(20, 30, SECOND / 5)).0;
    assert_eq!(successes, 60, "every patient call succeeds");
}

#[tokio::test(start_paused = true)]
async fn a_hang_opens_the_circuit_and_calls_stop_to_hang() {
    let fixture = Fixture::with_history().await;
    let before = fixture.upstream.count();
    fixture.hang();
    let calls = fixture.load(60, 45, 8 * SECOND);
    let opened = async {
        let since = Instant::now();
        while !fixture.is_open() && since.elapsed() < MINUTE {
            sleep(SECOND / 20).await;
        }
        (since.elapsed(), fixture.upstream.count() - before)
    };
    let (_, (took, sent)) = tokio::join!(calls, opened);
    assert!(took <= 2 * SECOND, "the circuit opened after {took:?}");
    assert!(sent <= 12, "{sent} requests hang");
    let later = fixture.upstream.count() - before - sent;
    assert!(later <= 15, "{later} requests were sent after that, while HubSpot hung");
    assert_eq!(fixture.probes().len(), later);
    fixture.recover();
    sleep(5 * SECOND).await;
    assert!(!fixture.is_open(), "a recovery is noticed within five seconds");
}

#[tokio::test(start_paused = true)]
async fn at_any_rate_a_hang_leaves_few_requests_without_a_response() {
    for per_second in [10, 60, 200, 1_000] {
        let fixture = Fixture::with_history().await;
        let before = fixture.upstream.count();
        fixture.hang();
        let calls = fixture.load(per_second, 5, 8 * SECOND);
        let (successes, longest) = timeout(10 * SECOND, calls).await.unwrap_or_default();
        let sent = fixture.upstream.count() - before - fixture.probes().len();
        // Those of one usual latency, which is at most 135 ms, a handful and the trials.
        let max = per_second as usize * 135 / 1_000 + 5 + 6;
        assert!(sent <= max, "{sent} of at most {max} requests hang at {per_second} a second");
        assert_eq!(successes, 0, "{longest:?}");
        assert!(fixture.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_hubspot_delays_requests_until_its_end_and_fails_none() {
    let fixture = Fixture::with_history().await;
    let load = fixture.load(60, 4, 8 * SECOND);
    let pause = async {
        sleep(SECOND).await;
        // For 0.7 seconds HubSpot responds to nothing, then to everything.
        for tenths in (1..=7).rev() {
            fixture.respond(Scripted::after(SECOND * tenths / 10 + SECOND / 10, found("1")));
            sleep(SECOND / 10).await;
        }
        fixture.respond(Scripted::after(SECOND / 10, found("1")));
    };
    let ((successes, longest), ()) = tokio::join!(load, pause);
    assert_eq!(successes, 240);
    assert!(longest <= SECOND, "{longest:?}");
    assert_eq!(fixture.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_leave_early_do_not_keep_a_slower_hubspot_from_patient_ones() {
    let fixture = Fixture::with_history().await;
    fixture.respond(Scripted::after(2 * SECOND / 5, found("1")));
    let patient = async {
        sleep(SECOND).await;
        let since = Instant::now();
        fixture.call_within(5 * SECOND).await.unwrap();
        since.elapsed()
    };
    // None of these waits for as long as HubSpot now takes.
    let (_, took) = tokio::join!(fixture.load(60, 10, SECOND / 5), patient);
    assert!(took <= 3 * SECOND, "{took:?}");
    assert_eq!(fixture.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_back_ends_at_its_deadline_without_being_sent() {
    let fixture = Fixture::with_history().await;
    fixture.hang();
    let mut hanging = Box::pin(fixture.load(60, 1, MINUTE));
    assert!(timeout(SECOND / 2, hanging.as_mut()).await.is_err());
    let sent = fixture.upstream.count();
    let ctx = fixture.context(SECOND / 10);
    let held = fixture.breaker.call(&ctx, get("1"), Dispatch::new(&ctx)).await;
    let error = held.unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(error.side_effect(), crate::leads::SideEffect::None);
    assert_eq!((Instant::now(), fixture.upstream.count()), (ctx.deadline, sent));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_held_back_holds_no_permit() {
    let fixture = Fixture::with_history().await;
    let clock = Arc::new(leadsd_base::time::SystemClock);
    let quota = leadsd_quota::Quota::new(leadsd_quota::testing::settings(10), clock);
    let account = quota.account("default");
    let ctx = fixture.context(MINUTE);
    let burst = leadsd_quota::BucketName::Burst;
    let permit = account.acquire(burst, &ctx.requester, ctx.deadline).await.unwrap();
    fixture.hang();
    let mut hanging = Box::pin(fixture.load(60, 1, MINUTE));
    assert!(timeout(SECOND / 2, hanging.as_mut()).await.is_err());
    let is_free = || {
        let permit = account.try_acquire(burst, &ctx.requester, ctx.deadline);
        permit.is_ok_and(|permit| permit.is_some())
    };
    assert!(!is_free(), "the first call is sent alone");
    let dispatch = Dispatch { permit: Some(permit), ..Dispatch::new(&ctx) };
    let mut held = Box::pin(fixture.breaker.call(&ctx, get("1"), dispatch));
    assert!(timeout(SECOND / 100, held.as_mut()).await.is_err());
    assert!(is_free());
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_caller_leaves_early_says_nothing_about_hubspot() {
    let fixture = Fixture::with_history().await;
    fixture.respond(Scripted::after(2 * SECOND / 5, found("1")));
    fixture.load(20, 10, SECOND / 5).await;
    assert_eq!((fixture.is_open(), fixture.opened()), (false, 0));
    // A caller that cancels.
    for _ in 0..100 {
        assert!(timeout(SECOND / 5, fixture.call()).await.is_err());
    }
    assert!(!fixture.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_counts_if_it_was_overdue() {
    let fixture = Fixture::with_history().await;
    fixture.hang();
    for _ in 0..5 {
        assert!(timeout(2 * SECOND, fixture.call()).await.is_err());
    }
    assert!(fixture.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_busy_replica_does_not_open_the_circuit() {
    let fixture = Fixture::with_history().await;
    fixture.hang();
    let mut calls = Box::pin(fixture.load(20, 1, MINUTE));
    assert!(timeout(SECOND * 99 / 100, calls.as_mut()).await.is_err());
    // The replica does nothing else for ten seconds: all timers fire late.
    advance(10 * SECOND).await;
    assert!(timeout(SECOND / 100, calls.as_mut()).await.is_err());
    assert_eq!((fixture.is_open(), fixture.opened()), (false, 0));
}

#[tokio::test(start_paused = true)]
async fn overdue_requests_do_not_count_while_hubspot_responds_to_others() {
    let fixture = Fixture::with_history().await;
    fixture.hang();
    let mut hanging = Box::pin(fixture.load(200, 1, MINUTE));
    assert!(timeout(SECOND * 8 / 10, hanging.as_mut()).await.is_err());
    let hang = fixture.upstream.in_progress();
    assert!(hang >= 20, "{hang} requests hang");
    fixture.respond(Scripted::now(found("1")));
    // A trial responds before the first request is overdue.
    fixture.call().await.unwrap();
    assert!(timeout(SECOND * 3 / 10, hanging.as_mut()).await.is_err());
    assert_eq!((fixture.is_open(), fixture.opened()), (false, 0));
    assert_eq!(fixture.upstream.in_progress(), hang, "all others have their responses");
    drop(hanging);
    fixture.hang();
    let silence = timeout(10 * SECOND, fixture.load(200, 1, MINUTE)).await;
    assert!(silence.is_err() && fixture.opened() == 1, "others hang in silence");
}

#[tokio::test(start_paused = true)]
async fn slow_large_batches_do_not_open_the_circuit() {
    let fixture = Fixture::with_history().await;
    let ctx = CallContext {
        portal: Arc::clone(&fixture.portal),
        ..context_of("importer", Priority::Bulk, 10 * MINUTE)
    };
    fixture.respond(Scripted::after(8 * SECOND, ordinary(&create("1"))));
    let imports = (0..4).map(|_| async {
        for _ in 0..20 {
            fixture.breaker.call(&ctx, create("1"), Dispatch::new(&ctx)).await.unwrap();
        }
    });
    futures_util::future::join_all(imports).await;
    assert_eq!(fixture.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn slow_batches_that_start_together_are_not_held_back() {
    let fixture = Fixture::with_history().await;
    let ctx = CallContext {
        portal: Arc::clone(&fixture.portal),
        ..context_of("importer", Priority::Bulk, 10 * MINUTE)
    };
    fixture.respond(Scripted::after(8 * SECOND, ordinary(&create("1"))));
    // One at a time, so that nothing is known of others at once.
    for _ in 0..32 {
        fixture.breaker.call(&ctx, create("1"), Dispatch::new(&ctx)).await.unwrap();
    }
    let imports = (0..40).map(async |number| {
        sleep(SECOND / 10 * number).await;
        let since = Instant::now();
        fixture.breaker.call(&ctx, create("1"), Dispatch::new(&ctx)).await.unwrap();
        since.elapsed()
    });
    for took in futures_util::future::join_all(imports).await {
        assert_eq!(took, 8 * SECOND);
    }
    assert_eq!(fixture.opened(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hubspot_that_became_slow_is_used_again() {
    let fixture = Fixture::with_history().await;
    fixture.respond(Scripted::after(5 * SECOND, found("1")));
    fixture.load(20, 20, 30 * SECOND).await;
    let (successes, _) = fixture.load(20, 20, 30 * SECOND).await;
    assert_eq!(successes, 400, "the longer latency was learned");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_is_followed_by_others_and_a_bounded_number_is_in_flight() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    fixture.hang();
    for _ in 0..300 {
        sleep(SECOND / 5).await;
        assert!(fixture.upstream.in_progress() <= 5);
    }
    assert!(fixture.probes().len() >= 12);
    fixture.recover();
    sleep(5 * SECOND).await;
    assert!(!fixture.is_open());
}

#[tokio::test(start_paused = true)]
async fn probes_end_with_the_portal() {
    let fixture = Fixture::new();
    let ctx = fixture.context(MINUTE);
    let Fixture { breaker, upstream, response, portal, .. } = fixture;
    *response.lock() = Some(Scripted::now(Err(unavailable())));
    for _ in 0..THRESHOLD {
        breaker.call(&ctx, get("1"), Dispatch::new(&ctx)).await.unwrap_err();
    }
    drop((breaker, ctx, portal));
    advance(MINUTE).await;
    sleep(MINUTE).await;
    assert_eq!(upstream.count(), THRESHOLD);
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
