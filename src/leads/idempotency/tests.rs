//! Repeats, conflicts, cancellation and bounds, in paused time.
#![expect(clippy::disallowed_methods, reason = "a test waits for the tasks it spawns")]

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct TestResponse {
    text: &'static str,
    bytes: usize,
    effects: bool,
}

impl HeapSize for TestResponse {
    fn heap_size(&self) -> usize {
        self.bytes
    }
}

impl StoredResponse for TestResponse {
    fn may_have_effects(&self) -> bool {
        self.effects
    }
}

fn response(text: &'static str) -> TestResponse {
    TestResponse { text, bytes: 1, effects: true }
}

fn portal() -> PortalName {
    PortalName::parse("default").unwrap()
}

fn id(text: &str) -> Option<RequestId> {
    Some(RequestId::parse(text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_same_id_and_content_returns_the_first_response() {
    let store = IdempotencyStore::default();
    let first = store.run(&portal(), id("a"), 7, async { response("first") }).await;
    let second = store.run(&portal(), id("a"), 7, async { response("second") }).await;
    assert_eq!(first, Ok(response("first")));
    assert_eq!(second, Ok(response("first")));
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_other_content_is_rejected() {
    let store = IdempotencyStore::default();
    let _ = store.run(&portal(), id("a"), 7, async { response("first") }).await;
    let refused = store.run(&portal(), id("a"), 8, async { response("second") }).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RequestIdReused);
    assert_eq!(refused.fields()[0].field, "request_id");
}

#[tokio::test(start_paused = true)]
async fn request_ids_are_separate_for_each_portal() {
    let store = IdempotencyStore::default();
    let other = PortalName::parse("other").unwrap();
    let _ = store.run(&portal(), id("a"), 7, async { response("first") }).await;
    let answer = store.run(&other, id("a"), 8, async { response("second") }).await;
    assert_eq!(answer, Ok(response("second")));
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
            store.run(&portal(), id("a"), 7, write).await
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
            store.run(&portal(), id("a"), 7, write).await
        })
    };
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Ok(response("first")));
    assert_eq!(second.await.unwrap(), Ok(response("first")));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_does_not_stop_the_write() {
    let store = IdempotencyStore::default();
    let (go, gate) = oneshot::channel::<()>();
    let write = async move {
        let _ = gate.await;
        response("first")
    };
    let portal_name = portal();
    let run = store.run(&portal_name, id("a"), 7, write);
    let gone = tokio::time::timeout(Duration::from_millis(5), run);
    assert!(gone.await.is_err());
    go.send(()).unwrap();
    let repeat = store.run(&portal(), id("a"), 7, async { response("second") }).await;
    assert_eq!(repeat, Ok(response("first")));
}

#[tokio::test(start_paused = true)]
async fn a_write_without_effects_can_be_repeated_with_its_id() {
    let store = IdempotencyStore::default();
    let refused = TestResponse { text: "refused", bytes: 0, effects: false };
    let _ = store.run(&portal(), id("a"), 7, async { refused }).await;
    let again = store.run(&portal(), id("a"), 7, async { response("second") }).await;
    assert_eq!(again, Ok(response("second")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_returns_an_error_and_frees_the_id() {
    let store: IdempotencyStore<TestResponse> = IdempotencyStore::default();
    let broken = async { panic!("planted") };
    let lost = store.run(&portal(), id("a"), 7, broken).await.unwrap_err();
    assert_eq!(lost.reason(), Reason::Internal);
    let again = store.run(&portal(), id("a"), 7, async { response("second") }).await;
    assert_eq!(again, Ok(response("second")));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_leaves_no_entry() {
    let store: IdempotencyStore<TestResponse> = IdempotencyStore::default();
    let _ = store.run(&portal(), id("a"), 7, async { panic!("planted") }).await;
    assert!(store.0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_running_write_outlives_the_time_to_live() {
    let store = IdempotencyStore::default();
    let (go, gate) = oneshot::channel::<()>();
    let write = async move {
        let _ = gate.await;
        response("first")
    };
    let _ = tokio::time::timeout(2 * TTL, store.run(&portal(), id("a"), 7, write)).await;
    go.send(()).unwrap();
    let repeat = store.run(&portal(), id("a"), 7, async { response("second") }).await;
    assert_eq!(repeat, Ok(response("first")));
}

#[tokio::test(start_paused = true)]
async fn a_response_expires() {
    let store = IdempotencyStore::default();
    let _ = store.run(&portal(), id("old"), 1, async { response("old") }).await;
    tokio::time::advance(TTL - Duration::from_millis(1)).await;
    let repeat = store.run(&portal(), id("old"), 1, async { response("new") }).await;
    assert_eq!(repeat, Ok(response("old")));
    tokio::time::advance(Duration::from_millis(1)).await;
    let repeat = store.run(&portal(), id("old"), 1, async { response("new") }).await;
    assert_eq!(repeat, Ok(response("new")));
}

#[tokio::test(start_paused = true)]
async fn stored_responses_are_bounded_in_bytes() {
    let store = IdempotencyStore::default();
    let quarter = usize::try_from(MAX_BYTES / 4).unwrap() - 2 * ENTRY_OVERHEAD;
    let large = TestResponse { text: "large", bytes: quarter, effects: true };
    for number in 0..8 {
        let large = large.clone();
        let _ = store.run(&portal(), id(&number.to_string()), 1, async { large }).await;
        assert!(store.0.weight() <= MAX_BYTES);
    }
    assert!(store.0.len() >= 2, "{}", store.0.len());
    let repeat = store.run(&portal(), id("7"), 1, async { response("again") }).await;
    assert_eq!(repeat, Ok(large), "the latest response is stored");
}

#[test]
fn request_ids_are_printable_and_short() {
    for bad in ["", "a b", "a\n", "ä", &"x".repeat(129)] {
        assert!(RequestId::parse(bad).is_err(), "{bad:?}");
    }
    assert!(RequestId::parse("4f1c7a52-1d44-4f0e-9a40-2b1f3c0f7a11").is_ok());
}
