//! Requests of one kind that hang or fail while HubSpot responds to everything else.

use std::sync::atomic::{AtomicU8, Ordering};

use super::*;

const WELL: u8 = 0;
const HANG: u8 = 1;
const FAIL: u8 = 2;

/// The kinds of requests that can hang alone.
const KINDS: [CircuitScope; 3] =
    [CircuitScope::Searches, CircuitScope::Reads, CircuitScope::Writes];

fn is_of(kind: CircuitScope, sent: &Recorded) -> bool {
    CircuitScope::of(Operation::from(&*sent.request)).contains(&kind)
}

/// A double that responds within 100 ms, and to requests of this kind as `mode` says.
fn fixture(kind: CircuitScope, mode: &Arc<AtomicU8>) -> Fixture {
    let mode = Arc::clone(mode);
    let upstream = ScriptedUpstream::new(move |sent| {
        let response = ordinary(&sent.request);
        match mode.load(Ordering::Relaxed) {
            HANG if is_of(kind, sent) => Scripted::after(10 * MINUTE, response),
            FAIL if is_of(kind, sent) => Scripted::now(Err(unavailable())),
            _ => Scripted::after(SECOND / 10, response),
        }
    });
    Fixture::over(upstream, Arc::default())
}

fn request(kind: CircuitScope) -> Arc<Request> {
    match kind {
        CircuitScope::All | CircuitScope::Reads => get("1"),
        CircuitScope::Writes => create("1"),
        CircuitScope::Searches => Arc::new(Request::Search(crate::leads::SearchLeads {
            query: "x".to_owned(),
            filter_groups: Vec::new(),
            sort: None,
            properties: Vec::new(),
            limit: 100,
            after: None,
        })),
    }
}

impl Fixture {
    /// The result of a request that waits for `time`, and its latency.
    async fn send(
        &self,
        kind: CircuitScope,
        time: Duration,
    ) -> (Result<Response, Error>, Duration) {
        let (ctx, since) = (self.context(time), Instant::now());
        let call = self.breaker.call(&ctx, request(kind), Dispatch::new(&ctx));
        let result = timeout(time, call).await.unwrap_or_else(|_| Err(late()));
        (result, since.elapsed())
    }

    /// Sends requests of this kind at an even rate, which wait for `time` each.
    async fn send_for(
        &self,
        kind: CircuitScope,
        [rate, seconds]: [u32; 2],
        time: Duration,
    ) -> Vec<(Result<Response, Error>, Duration)> {
        let calls = (0..rate * seconds).map(async |number| {
            sleep(SECOND / rate * number).await;
            self.send(kind, time).await
        });
        futures_util::future::join_all(calls).await
    }

    fn stats(&self, kind: CircuitScope) -> BreakerStats {
        self.circuits.stats()[kind as usize]
    }

    fn sent(&self, kind: CircuitScope) -> usize {
        self.upstream.requests().iter().filter(|sent| is_of(kind, sent)).count()
    }

    /// Requests of all kinds until their latencies are known.
    async fn learn(&self) {
        for kind in KINDS {
            for _ in 0..32 {
                self.send(kind, MINUTE).await.0.unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_of_one_kind_of_requests_opens_their_circuit_and_no_other_waits() {
    for kind in KINDS {
        let mode = Arc::default();
        let fixture = fixture(kind, &mode);
        fixture.learn().await;
        let before = fixture.sent(kind);
        mode.store(HANG, Ordering::Relaxed);
        let others = KINDS.into_iter().filter(|other| *other != kind);
        let others = others.map(|other| fixture.send_for(other, [40, 45], SECOND));
        let (results, others) = tokio::join!(
            fixture.send_for(kind, [20, 45], 8 * SECOND),
            futures_util::future::join_all(others),
        );
        for (result, took) in others.into_iter().flatten() {
            assert!(result.is_ok() && took == SECOND / 10, "{kind:?}: {result:?} after {took:?}");
        }
        for other in [CircuitScope::All].into_iter().chain(KINDS) {
            let opened = u64::from(other == kind);
            assert_eq!(fixture.stats(other).opened, opened, "{kind:?}: {other:?}");
        }
        let waited = results.iter().filter(|(_, took)| *took == 8 * SECOND).count();
        let rejected = results.iter().filter(|(result, took)| {
            let limit = result.as_ref().unwrap_err().local_limit();
            limit == Some(LocalLimit::CircuitBreaker) && *took < 2 * SECOND
        });
        assert_eq!(waited + rejected.count(), results.len(), "{kind:?}: {results:?}");
        assert!(waited <= 12, "{kind:?}: {waited} requests hang");
        let sent = fixture.sent(kind) - before;
        assert!(sent <= 12 + 15, "{kind:?}: {sent} requests and probes were sent");
        mode.store(WELL, Ordering::Relaxed);
        sleep(5 * SECOND).await;
        fixture.send(kind, SECOND).await.0.expect("a recovery is noticed within five seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_of_everything_opens_the_circuit_of_all_requests_only() {
    for kind in KINDS {
        let fixture = Fixture::with_history().await;
        fixture.recover();
        for _ in 0..32 {
            fixture.send(kind, MINUTE).await.0.unwrap();
        }
        fixture.hang();
        fixture.send_for(kind, [20, 10], 8 * SECOND).await;
        for other in [CircuitScope::All].into_iter().chain(KINDS) {
            let opened = u64::from(other == CircuitScope::All);
            assert_eq!(fixture.stats(other).opened, opened, "{kind:?}: {other:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_kind_that_fail_do_not_reject_those_of_other_callers() {
    for (kind, other) in [
        (CircuitScope::Searches, CircuitScope::Reads),
        (CircuitScope::Reads, CircuitScope::Writes),
        (CircuitScope::Writes, CircuitScope::Reads),
    ] {
        let mode = Arc::new(AtomicU8::new(FAIL));
        let fixture = fixture(kind, &mode);
        for _ in 0..3 * THRESHOLD {
            fixture.send(kind, SECOND).await.0.unwrap_err();
            fixture.send(other, SECOND).await.0.unwrap();
        }
        assert_eq!((fixture.opened(), fixture.stats(kind).opened), (0, 0), "{kind:?}");
        mode.store(WELL, Ordering::Relaxed);
        fixture.send(kind, SECOND).await.0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hubspot_that_is_down_rejects_requests_of_all_kinds() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    for kind in [CircuitScope::Searches, CircuitScope::Writes] {
        let error = fixture.send(kind, SECOND).await.0.unwrap_err();
        assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
        assert_eq!((fixture.sent(kind), fixture.stats(kind).is_open), (0, false), "{kind:?}");
    }
}
