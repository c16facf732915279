//! Searches that hang or fail while HubSpot responds to everything else.

use std::sync::atomic::{AtomicU8, Ordering};

use super::*;

const WELL: u8 = 0;
const HANG: u8 = 1;
const FAIL: u8 = 2;

/// A double that responds to reads within 100 ms, and to searches as `searches` says.
fn fixture(searches: &Arc<AtomicU8>) -> Fixture {
    let searches = Arc::clone(searches);
    let upstream = ScriptedUpstream::new(move |sent| {
        let response = ordinary(&sent.request);
        let is_search = Operation::from(&*sent.request) == Operation::Search;
        match searches.load(Ordering::Relaxed) {
            HANG if is_search => Scripted::after(10 * MINUTE, response),
            FAIL if is_search => Scripted::now(Err(unavailable())),
            _ => Scripted::after(SECOND / 10, response),
        }
    });
    Fixture::over(upstream, Arc::default())
}

fn search(limit: u32) -> Arc<Request> {
    Arc::new(Request::Search(crate::leads::SearchLeads {
        query: "x".to_owned(),
        filter_groups: Vec::new(),
        sort: None,
        properties: Vec::new(),
        limit,
        after: None,
    }))
}

impl Fixture {
    async fn search(&self, time: Duration) -> Result<Response, Error> {
        let ctx = self.context(time);
        let call = self.breaker.call(&ctx, search(100), Dispatch::new(&ctx));
        timeout(time, call).await.unwrap_or_else(|_| Err(late()))
    }

    fn searches(&self) -> BreakerStats {
        self.circuits.stats()[CircuitScope::Searches as usize]
    }

    fn sent_searches(&self) -> usize {
        let is_search = |sent: &Recorded| Operation::from(&*sent.request) == Operation::Search;
        self.upstream.requests().into_iter().filter(is_search).count()
    }
}

/// Reads and searches until their latencies are known.
async fn learn(fixture: &Fixture) {
    for _ in 0..32 {
        fixture.call().await.unwrap();
        fixture.search(MINUTE).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_of_searches_opens_their_circuit_and_no_other_call_waits() {
    let mode = Arc::default();
    let fixture = fixture(&mode);
    learn(&fixture).await;
    let before = fixture.sent_searches();
    mode.store(HANG, Ordering::Relaxed);
    let searches = futures_util::future::join_all((0..20 * 45).map(|number| {
        let fixture = &fixture;
        async move {
            sleep(SECOND / 20 * number).await;
            let since = Instant::now();
            let error = fixture.search(8 * SECOND).await.unwrap_err();
            (error, since.elapsed())
        }
    }));
    let (errors, (successes, longest)) = tokio::join!(searches, fixture.load(40, 45, SECOND));
    assert_eq!((successes, longest), (40 * 45, SECOND / 10), "reads are not affected");
    assert_eq!((fixture.opened(), fixture.searches().opened), (0, 1));
    let waited = errors.iter().filter(|(_, took)| *took == 8 * SECOND).count();
    let rejected = errors.iter().filter(|(error, took)| {
        error.local_limit() == Some(LocalLimit::CircuitBreaker) && *took < 2 * SECOND
    });
    assert_eq!(waited + rejected.count(), errors.len(), "{errors:?}");
    assert!(waited <= 12, "{waited} searches hang");
    let sent = fixture.sent_searches() - before;
    assert!(sent <= 12 + 15, "{sent} searches and probes were sent while searches hung");
    mode.store(WELL, Ordering::Relaxed);
    sleep(5 * SECOND).await;
    fixture.search(SECOND).await.expect("a recovery is noticed within five seconds");
}

#[tokio::test(start_paused = true)]
async fn searches_that_fail_do_not_reject_those_of_other_callers() {
    let mode = Arc::new(AtomicU8::new(FAIL));
    let fixture = fixture(&mode);
    for _ in 0..3 * THRESHOLD {
        fixture.search(SECOND).await.unwrap_err();
        fixture.call().await.unwrap();
    }
    assert_eq!((fixture.opened(), fixture.searches().opened), (0, 0));
    mode.store(WELL, Ordering::Relaxed);
    fixture.search(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_hubspot_that_is_down_rejects_searches_as_well() {
    let fixture = Fixture::new();
    fixture.failures(THRESHOLD).await;
    let error = fixture.search(SECOND).await.unwrap_err();
    assert_eq!(error.local_limit(), Some(LocalLimit::CircuitBreaker));
    assert_eq!((fixture.sent_searches(), fixture.searches().is_open), (0, false));
}
