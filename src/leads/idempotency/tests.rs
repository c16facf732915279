//! Repeats, conflicts, cancellation and bounds, in paused time.
#![expect(clippy::disallowed_methods, reason = "a test waits for the tasks it spawns")]

mod shared;

use std::sync::atomic::AtomicUsize;

use tokio::sync::oneshot;

use super::*;
use crate::leads::{
    MemoryAccount, Portal, PortalSettings, Response, SideEffect,
    memory::HeapSize,
    testing::{RecordingUpstream, TestAccount},
};

#[derive(Debug, Clone, PartialEq)]
struct TestResponse {
    text: &'static str,
    bytes: usize,
    effects: bool,
    is_final: bool,
}

impl HeapSize for TestResponse {
    fn heap_size(&self) -> usize {
        self.bytes
    }
}

impl StoredResponse for TestResponse {
    type Shape = ();

    fn may_have_effects(&self) -> bool {
        self.effects
    }

    fn is_final(&self) -> bool {
        self.is_final
    }

    fn compact(self) -> Self {
        Self { bytes: self.bytes / 10, ..self }
    }

    /// Text, whether it is final, and as many bytes as the response has.
    fn to_record(&self, (): ()) -> Option<Vec<u8>> {
        let Self { text, bytes, is_final, .. } = self;
        Some(format!("{text}/{is_final}/{}", "x".repeat(*bytes)).into_bytes())
    }

    fn from_record((): (), record: &[u8]) -> Option<Self> {
        let record = str::from_utf8(record).ok()?;
        let (text, rest) = record.split_once('/')?;
        let (is_final, filler) = rest.split_once('/')?;
        let text = Box::leak(text.to_owned().into_boxed_str());
        Some(Self { text, bytes: filler.len(), effects: true, is_final: is_final == "true" })
    }

    fn interrupted((): (), earlier: Option<Self>) -> Self {
        let text = earlier.map_or("unknown", |earlier| earlier.text);
        Self { is_final: false, ..response(text) }
    }

    fn combine(self, other: Self) -> Self {
        if other.is_final && !self.is_final { other } else { self }
    }
}

fn response(text: &'static str) -> TestResponse {
    TestResponse { text, bytes: 1, effects: true, is_final: true }
}

/// Response without the parts that are not kept.
fn kept(text: &'static str) -> TestResponse {
    response(text).compact()
}

fn ctx() -> CallContext {
    RecordingUpstream::new(|_, _| Ok(Response::Archived)).context(None)
}

/// Deadline of most calls.
fn later() -> Instant {
    Instant::now() + 10 * TTL
}

/// A write of which nothing is known before it ends.
fn started(run: impl Future<Output = TestResponse> + Send + 'static) -> StartedWrite<TestResponse> {
    StartedWrite { run: Box::pin(run), so_far: SoFar::nothing() }
}

fn request_id(text: &str) -> RequestId {
    RequestId::parse(text).unwrap()
}

/// A call with this id and content.
async fn run(
    store: &IdempotencyStore<TestResponse>,
    ctx: &CallContext,
    (id, content): (&str, &str),
    deadline: Instant,
    write: impl FnOnce(Option<TestResponse>) -> StartedWrite<TestResponse> + Send + 'static,
) -> Result<TestResponse, Error> {
    let id = WriteId::new(ctx, request_id(id), "test", &content.to_owned());
    store.run(ctx, Some(id), (), deadline, write).await
}

#[tokio::test(start_paused = true)]
async fn the_same_id_and_content_returns_the_first_response() {
    let store = IdempotencyStore::default();
    let first =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("first") }))
            .await;
    let second =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("second") }))
            .await;
    assert_eq!(first, Ok(response("first")));
    assert_eq!(second, Ok(kept("first")));
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_other_content_is_rejected() {
    let store = IdempotencyStore::default();
    let _ =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("first") }))
            .await;
    let refused = run(&store, &ctx(), ("a", "other content"), later(), |_| {
        started(async { response("second") })
    })
    .await
    .unwrap_err();
    assert_eq!(refused.reason(), Reason::RequestIdReused);
    assert_eq!(refused.fields()[0].field, "request_id");
}

#[tokio::test(start_paused = true)]
async fn request_ids_are_separate_for_each_portal_and_caller() {
    let store = IdempotencyStore::default();
    let _ =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("first") }))
            .await;
    let mut other = ctx();
    let portal = Portal {
        name: PortalName::parse("other").unwrap(),
        upstream: Arc::clone(&other.portal.upstream),
        settings: PortalSettings::default(),
    };
    other.portal = Arc::new(portal);
    let answer = run(&store, &other, ("a", "other content"), later(), |_| {
        started(async { response("second") })
    })
    .await;
    assert_eq!(answer, Ok(response("second")));
    let mut other = ctx();
    other.requester.caller = Caller::new("another");
    let answer = run(&store, &other, ("a", "other content"), later(), |_| {
        started(async { response("third") })
    })
    .await;
    assert_eq!(answer, Ok(response("third")));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_resumes_what_the_first_call_left_open() {
    let store = IdempotencyStore::default();
    let partial = TestResponse { is_final: false, ..response("partial") };
    let first = run(&store, &ctx(), ("a", "content"), later(), |_| started(async { partial }))
        .await
        .unwrap();
    assert_eq!(first.text, "partial");
    let resume = |previous: Option<TestResponse>| {
        assert_eq!(previous.unwrap().text, "partial");
        started(async { response("whole") })
    };
    assert_eq!(run(&store, &ctx(), ("a", "content"), later(), resume).await, Ok(response("whole")));
    let repeat =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("again") }))
            .await;
    assert_eq!(repeat, Ok(kept("whole")));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_joins_the_call_that_still_runs() {
    let store = Arc::new(IdempotencyStore::default());
    let (go, gate) = oneshot::channel::<()>();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let first = {
        let store = Arc::clone(&store);
        tokio::task::spawn(async move {
            let write = async move {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = gate.await;
                response("first")
            };
            run(&store, &ctx(), ("a", "content"), later(), |_| started(write)).await
        })
    };
    tokio::task::yield_now().await;
    let second = {
        let store = Arc::clone(&store);
        let counted = Arc::clone(&runs);
        tokio::task::spawn(async move {
            let write = async move {
                counted.fetch_add(1, Ordering::SeqCst);
                response("second")
            };
            run(&store, &ctx(), ("a", "content"), later(), |_| started(write)).await
        })
    };
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok(response("first")));
    assert_eq!(second.await.unwrap(), Ok(response("first")));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_and_its_repeat_get_the_response_so_far_each_at_its_own_deadline() {
    let store = IdempotencyStore::default();
    let start = Instant::now();
    let seconds = move |seconds| start + Duration::from_secs(seconds);
    let write = move |_| {
        let run = Box::pin(async move {
            tokio::time::sleep_until(seconds(5)).await;
            response("whole")
        });
        let so_far = SoFar::new(move || match start.elapsed().as_secs() {
            0..2 => response("nothing"),
            _ => response("a part"),
        });
        StartedWrite { run, so_far }
    };
    let ctx = ctx();
    let first = run(&store, &ctx, ("a", "content"), seconds(1), write);
    let repeat =
        run(&store, &ctx, ("a", "content"), seconds(3), |_| started(async { response("again") }));
    let patient =
        run(&store, &ctx, ("a", "content"), seconds(9), |_| started(async { response("again") }));
    let (first, repeat, patient) = tokio::join!(first, repeat, patient);
    let texts = [first, repeat, patient].map(|result| result.unwrap().text);
    assert_eq!(texts, ["nothing", "a part", "whole"]);
    let late =
        run(&store, &ctx, ("b", "content"), seconds(6), |_| started(std::future::pending())).await;
    let error = late.unwrap_err();
    assert_eq!(
        (error.reason(), error.side_effect()),
        (Reason::DeadlineExceeded, SideEffect::Possible)
    );
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_does_not_stop_the_write() {
    let store = IdempotencyStore::default();
    let (go, gate) = oneshot::channel::<()>();
    let write = async move {
        let _ = gate.await;
        response("first")
    };
    let context = ctx();
    let call = run(&store, &context, ("a", "content"), later(), |_| started(write));
    let gone = tokio::time::timeout(Duration::from_millis(5), call);
    assert!(gone.await.is_err());
    go.send(()).unwrap();
    let repeat =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("second") }))
            .await;
    assert_eq!(repeat, Ok(response("first")));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_effects_can_be_repeated_with_its_id() {
    let store = IdempotencyStore::default();
    let refused = TestResponse { text: "refused", bytes: 0, effects: false, is_final: true };
    let _ = run(&store, &ctx(), ("a", "content"), later(), |_| started(async { refused })).await;
    let again =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("second") }))
            .await;
    assert_eq!(again, Ok(response("second")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_returns_an_error_and_frees_the_id() {
    let store: IdempotencyStore<TestResponse> = IdempotencyStore::default();
    let broken = |_| started(async { panic!("planted") });
    let lost = run(&store, &ctx(), ("a", "content"), later(), broken).await.unwrap_err();
    assert_eq!(lost.reason(), Reason::Internal);
    let again =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("second") }))
            .await;
    assert_eq!(again, Ok(response("second")));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_leaves_no_entry() {
    let store: IdempotencyStore<TestResponse> = IdempotencyStore::default();
    let _ =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { panic!("planted") }))
            .await;
    assert_eq!(store.results.lock().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_running_write_outlives_the_time_to_live() {
    let store = IdempotencyStore::default();
    let (go, gate) = oneshot::channel::<()>();
    let write = async move {
        let _ = gate.await;
        response("first")
    };
    let _ = tokio::time::timeout(
        2 * TTL,
        run(&store, &ctx(), ("a", "content"), later(), |_| started(write)),
    )
    .await;
    go.send(()).unwrap();
    let repeat =
        run(&store, &ctx(), ("a", "content"), later(), |_| started(async { response("second") }))
            .await;
    assert_eq!(repeat, Ok(response("first")));
}

#[tokio::test(start_paused = true)]
async fn a_response_expires() {
    let store = IdempotencyStore::default();
    let _ =
        run(&store, &ctx(), ("old", "1"), later(), |_| started(async { response("old") })).await;
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    let repeat =
        run(&store, &ctx(), ("old", "1"), later(), |_| started(async { response("new") })).await;
    assert_eq!(repeat, Ok(kept("old")));
    tokio::time::advance(Duration::from_millis(1)).await;
    let repeat =
        run(&store, &ctx(), ("old", "1"), later(), |_| started(async { response("new") })).await;
    assert_eq!(repeat, Ok(response("new")));
}

#[tokio::test(start_paused = true)]
async fn kept_results_are_charged_to_their_caller_while_they_are_kept() {
    let (store, account) = (IdempotencyStore::default(), TestAccount::new(0));
    let memory: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
    let ctx = CallContext { memory, ..ctx() };
    for number in 0..250 {
        let large = TestResponse { bytes: 4 << 20, ..response("large") };
        let _ =
            run(&store, &ctx, (&number.to_string(), "1"), later(), |_| started(async { large }))
                .await;
        assert_eq!(account.used(), store.results.lock().bytes());
        assert!(account.used() <= kept::MAX_CALLER_BYTES, "{}", account.used());
    }
    let repeat =
        run(&store, &ctx, ("249", "1"), later(), |_| started(async { response("again") })).await;
    assert_eq!(repeat.unwrap().text, "large", "the latest result is kept");
    tokio::time::advance(TTL).await;
    let _ =
        run(&store, &ctx, ("last", "1"), later(), |_| started(async { response("last") })).await;
    assert_eq!(store.results.lock().len(), 1, "the others have expired");
}

#[test]
fn request_ids_are_printable_and_short() {
    for bad in ["", "a b", "a\n", "ä", &"x".repeat(129)] {
        assert!(RequestId::parse(bad).is_err(), "{bad:?}");
    }
    assert!(RequestId::parse("4f1c7a52-1d44-4f0e-9a40-2b1f3c0f7a11").is_ok());
}
