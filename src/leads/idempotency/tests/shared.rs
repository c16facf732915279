//! Two replicas on one store of request ids: repeats, claims, killed replicas and the faults of the store.

use super::*;
use crate::leads::idempotency::{
    availability::{EXCHANGE_TIMEOUT, RETRY_INTERVAL},
    record_allowance::ACCOUNT_CAPACITY,
    shared::{LEASE, TIME_TO_LIVE},
    testing::{Fault, InMemoryRequestIds},
};

const SECOND: Duration = Duration::from_secs(1);

/// Maximum time that a failing store adds to a write: a claim and an end.
const MAX_DELAY: Duration = EXCHANGE_TIMEOUT.saturating_mul(2);

type Replica = Arc<IdempotencyStore<TestResponse>>;

fn replica(store: &Arc<InMemoryRequestIds>) -> Replica {
    let store: Arc<dyn RequestIdStore> = Arc::<InMemoryRequestIds>::clone(store);
    Arc::new(IdempotencyStore::shared_through(store))
}

fn two_replicas() -> (Arc<InMemoryRequestIds>, Replica, Replica) {
    let store = InMemoryRequestIds::new();
    let (first, second) = (replica(&store), replica(&store));
    (store, first, second)
}

/// A call whose write has this response; returns the response and the scope that the caller learns.
async fn call(
    replica: &Replica,
    (id, content): (&str, &str),
    written: TestResponse,
) -> (Result<TestResponse, Error>, Option<RequestIdScope>) {
    let ctx = ctx();
    let deadline = Instant::now() + 60 * SECOND;
    let write = move |previous: Option<TestResponse>| {
        started(async move {
            match previous {
                Some(previous) => TestResponse { text: previous.text, ..written },
                None => written,
            }
        })
    };
    let result = run(replica, &ctx, (id, content), deadline, write).await;
    (result, ctx.cost.request_id_scope())
}

/// A call as a task whose write takes this long.
fn spawn_slow(
    replica: &Replica,
    text: &'static str,
    takes: Duration,
    patience: Duration,
) -> tokio::task::JoinHandle<Result<TestResponse, Error>> {
    let replica = Arc::clone(replica);
    tokio::task::spawn(async move {
        let write = move |_| {
            started(async move {
                tokio::time::sleep(takes).await;
                response(text)
            })
        };
        run(&replica, &ctx(), ("a", "content"), Instant::now() + patience, write).await
    })
}

fn text(result: Result<TestResponse, Error>) -> Result<&'static str, Reason> {
    result.map(|response| response.text).map_err(|error| error.reason())
}

#[tokio::test(start_paused = true)]
async fn a_repeat_at_another_replica_returns_the_result_for_a_day() {
    let (store, first, second) = two_replicas();
    let (result, scope) = call(&first, ("a", "content"), response("first")).await;
    assert_eq!((text(result), scope), (Ok("first"), Some(RequestIdScope::Shared)));
    tokio::time::advance(TIME_TO_LIVE - SECOND).await;
    let (result, scope) = call(&second, ("a", "content"), response("second")).await;
    assert_eq!((text(result), scope), (Ok("first"), Some(RequestIdScope::Shared)));
    let (result, _) = call(&second, ("a", "other content"), response("second")).await;
    assert_eq!(text(result), Err(Reason::RequestIdReused));
    tokio::time::advance(TIME_TO_LIVE).await;
    assert_eq!(store.len(), 0);
    let (result, _) = call(&first, ("a", "content"), response("another day")).await;
    assert_eq!(text(result), Ok("another day"));
}

#[tokio::test(start_paused = true)]
async fn other_content_is_rejected_at_another_replica_also_while_the_first_call_runs() {
    let (_, first, second) = two_replicas();
    let slow = spawn_slow(&first, "first", 5 * SECOND, 60 * SECOND);
    tokio::time::sleep(SECOND).await;
    let (result, _) = call(&second, ("a", "other content"), response("second")).await;
    assert_eq!(text(result), Err(Reason::RequestIdReused));
    assert_eq!(text(slow.await.unwrap()), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_with_the_same_id_at_once_one_writes_and_both_return_its_response() {
    let (_, first, second) = two_replicas();
    let calls = [
        spawn_slow(&first, "first", 40 * SECOND, 60 * SECOND),
        spawn_slow(&second, "second", 40 * SECOND, 60 * SECOND),
        spawn_slow(&second, "third", 40 * SECOND, 60 * SECOND),
    ];
    let mut texts = Vec::new();
    for call in calls {
        texts.push(text(call.await.unwrap()).unwrap());
    }
    // The lease is renewed: the write takes longer.
    assert!(40 * SECOND > LEASE);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_waits_for_another_replica_ends_at_its_deadline() {
    let (_, first, second) = two_replicas();
    let slow = spawn_slow(&first, "first", 10 * SECOND, 60 * SECOND);
    tokio::time::sleep(SECOND).await;
    let start = Instant::now();
    let impatient = spawn_slow(&second, "second", SECOND, 2 * SECOND);
    tokio::task::yield_now().await;
    let patient = spawn_slow(&second, "third", SECOND, 60 * SECOND);
    let error = impatient.await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(error.side_effect(), SideEffect::Possible);
    assert!(start.elapsed() <= 2 * SECOND + Duration::from_millis(10));
    assert_eq!(text(patient.await.unwrap()), Ok("first"), "it joined the impatient call");
    assert_eq!(text(slow.await.unwrap()), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn the_claim_of_a_killed_replica_ends_with_its_lease_and_its_write_is_unknown() {
    let (store, _, second) = two_replicas();
    // A replica in a runtime that ends without a drop of anything it holds.
    let (killed, claim) = (replica(&store), ctx());
    let id = WriteId::new(&claim, request_id("a"), "test", &"content".to_owned());
    let shared = killed.shared.clone().unwrap();
    let account = claim.requester.caller.account();
    let claimed = shared.claim::<TestResponse>(&id, account, (), later()).await;
    std::mem::forget(claimed);
    let start = Instant::now();
    let (result, scope) = call(&second, ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("unknown"), "the write gets the unknown state as the one so far");
    assert_eq!(scope, Some(RequestIdScope::Shared));
    assert!((LEASE..LEASE + SECOND).contains(&start.elapsed()), "{:?}", start.elapsed());
    let (result, _) = call(&replica(&store), ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("unknown"), "the result of the second is the result");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_panics_or_is_dropped_gives_its_claim_back_at_once_as_unknown() {
    let (store, first, second) = two_replicas();
    let broken = |_| started(async { panic!("planted") });
    let lost = run(&first, &ctx(), ("a", "content"), later(), broken).await.unwrap_err();
    assert_eq!(lost.reason(), Reason::Internal);
    let start = Instant::now();
    let (result, _) = call(&second, ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("unknown"));
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert_eq!(store.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_without_effects_leaves_no_record_and_its_id_is_new_everywhere() {
    let (store, first, second) = two_replicas();
    let refused = TestResponse { effects: false, ..response("refused") };
    let (result, scope) = call(&first, ("a", "content"), refused).await;
    assert_eq!((text(result), scope), (Ok("refused"), Some(RequestIdScope::Shared)));
    assert_eq!(store.len(), 0);
    let (result, _) = call(&second, ("a", "content"), response("second")).await;
    assert_eq!(text(result), Ok("second"));
}

#[tokio::test(start_paused = true)]
async fn another_replica_resumes_what_a_call_left_open() {
    let (store, first, second) = two_replicas();
    let partial = TestResponse { is_final: false, ..response("partial") };
    assert_eq!(text(call(&first, ("a", "content"), partial).await.0), Ok("partial"));
    let resume = |previous: Option<TestResponse>| {
        assert_eq!(previous.unwrap().text, "partial");
        started(async { response("whole") })
    };
    let whole = run(&second, &ctx(), ("a", "content"), later(), resume).await;
    assert_eq!(text(whole), Ok("whole"));
    let (result, _) = call(&replica(&store), ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("whole"));
    // The first replica knows only a part, and learns the rest.
    let (result, _) = call(&first, ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("whole"));
}

#[tokio::test(start_paused = true)]
async fn a_store_with_any_fault_costs_a_bounded_time_and_the_scope_says_so() {
    let lie = |response| Fault::Lies(response);
    let garbage = || StoredResult { parts: 0, inline: vec![0xff; 100] };
    let many = StoredResult { parts: 1_000_000, inline: Vec::new() };
    for (fault, expected) in [
        (Fault::Refuses, "written"),
        (Fault::Hangs, "written"),
        (Fault::Slow(10 * SECOND), "written"),
        (Fault::LosesResponses, "written"),
        // The store knows the id: the write may have been done.
        (lie(ClaimResponse::Final(garbage())), "unknown"),
        (lie(ClaimResponse::Open(garbage())), "unknown"),
        (lie(ClaimResponse::Interrupted(garbage())), "unknown"),
        (lie(ClaimResponse::Final(many)), "unknown"),
        (lie(ClaimResponse::OtherVersion), "unknown"),
    ] {
        let (store, first, _) = two_replicas();
        store.set_fault(fault.clone());
        let start = Instant::now();
        let (result, scope) = call(&first, ("a", "content"), response("written")).await;
        assert_eq!(text(result), Ok(expected), "{fault:?}");
        assert!(start.elapsed() <= MAX_DELAY, "{fault:?}: {:?}", start.elapsed());
        let is_down = !matches!(fault, Fault::Lies(_));
        if is_down {
            assert_eq!(scope, Some(RequestIdScope::Replica), "{fault:?}");
            assert_eq!(first.stats().is_store_up, Some(false), "{fault:?}");
            let (again, _) = call(&first, ("a", "content"), response("again")).await;
            assert_eq!(text(again), Ok(expected), "this replica recognizes the repeat");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lying_store_that_holds_every_id_ends_calls_at_their_deadlines() {
    let (store, first, _) = two_replicas();
    store.set_fault(Fault::Lies(ClaimResponse::Held));
    let held = spawn_slow(&first, "first", SECOND, 5 * SECOND).await.unwrap();
    assert_eq!(text(held), Err(Reason::DeadlineExceeded));
    assert!(store.exchanges() < 30, "{} claims in five seconds", store.exchanges());
}

#[tokio::test(start_paused = true)]
async fn while_the_store_hangs_one_call_a_second_waits_for_it_and_the_others_do_not() {
    let (store, first, second) = two_replicas();
    store.set_fault(Fault::Hangs);
    let mut waits = Vec::new();
    for number in 0..100 {
        let start = Instant::now();
        let id = number.to_string();
        let (result, _) = call(&first, (&id, "content"), response("written")).await;
        assert_eq!(text(result), Ok("written"));
        waits.push(start.elapsed());
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    let waiting = waits.iter().filter(|wait| **wait > Duration::ZERO).count();
    assert!(waiting <= 3, "{waits:?}");
    store.set_fault(Fault::None);
    tokio::time::advance(RETRY_INTERVAL).await;
    let (_, scope) = call(&first, ("later", "content"), response("first")).await;
    assert_eq!(scope, Some(RequestIdScope::Shared));
    assert_eq!(first.stats().is_store_up, Some(true));
    let (result, _) = call(&second, ("later", "content"), response("second")).await;
    assert_eq!(text(result), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_was_written_alone_is_shared_when_the_store_is_back() {
    let (store, first, second) = two_replicas();
    store.set_fault(Fault::Refuses);
    let slow = spawn_slow(&first, "first", 5 * SECOND, 60 * SECOND);
    tokio::time::sleep(2 * SECOND).await;
    store.set_fault(Fault::None);
    assert_eq!(text(slow.await.unwrap()), Ok("first"));
    let (result, _) = call(&second, ("a", "content"), response("second")).await;
    assert_eq!(text(result), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_response_was_lost_ends_with_its_write() {
    let (store, first, second) = two_replicas();
    store.set_fault(Fault::LosesResponses);
    let slow = spawn_slow(&first, "first", 5 * SECOND, 60 * SECOND);
    tokio::time::sleep(2 * SECOND).await;
    store.set_fault(Fault::None);
    let repeat = spawn_slow(&second, "second", SECOND, 60 * SECOND);
    assert_eq!(text(slow.await.unwrap()), Ok("first"));
    assert_eq!(text(repeat.await.unwrap()), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_another_replica_holds_is_unknown_while_the_store_is_unavailable() {
    let (store, first, second) = two_replicas();
    let slow = spawn_slow(&first, "first", 30 * SECOND, 60 * SECOND);
    tokio::time::sleep(SECOND).await;
    let repeat = Arc::clone(&second);
    let repeat =
        tokio::task::spawn(
            async move { call(&repeat, ("a", "content"), response("second")).await.0 },
        );
    tokio::time::sleep(SECOND).await;
    store.set_fault(Fault::Refuses);
    assert_eq!(text(repeat.await.unwrap()), Ok("unknown"), "it is not a new call");
    assert_eq!(text(slow.await.unwrap()), Ok("first"));
}

#[tokio::test(start_paused = true)]
async fn a_large_result_is_read_in_parts_and_an_unreadable_one_is_unknown() {
    let (store, first, second) = two_replicas();
    let large = TestResponse { bytes: 200_000, ..response("large") };
    let (_, scope) = call(&first, ("a", "content"), large.clone()).await;
    assert_eq!(scope, Some(RequestIdScope::Shared));
    let (result, _) = call(&second, ("a", "content"), response("again")).await;
    assert_eq!(result.unwrap(), large);
    store.set_fault(Fault::LosesParts);
    let (result, _) = call(&replica(&store), ("a", "content"), response("again")).await;
    assert_eq!(text(result), Ok("unknown"), "it is not a new call");
    // A result beyond the bound is not stored. Its id is known nevertheless.
    store.set_fault(Fault::None);
    let huge = TestResponse { bytes: MAX_PARTS * PART_BYTES, ..response("huge") };
    let (_, scope) = call(&first, ("b", "content"), huge).await;
    assert_eq!(scope, Some(RequestIdScope::Replica));
    assert!(store.dump().len() < 210_000);
    let (result, _) = call(&second, ("b", "content"), response("again")).await;
    assert_eq!(text(result), Ok("unknown"));
}

#[tokio::test(start_paused = true)]
async fn what_one_account_writes_into_the_store_is_bounded_and_the_scope_says_so() {
    let (store, first, _) = two_replicas();
    let large = TestResponse { bytes: 250_000, ..response("large") };
    let mut shared = 0;
    for number in 0..400 {
        let id = number.to_string();
        let (_, scope) = call(&first, (&id, "content"), large.clone()).await;
        shared += usize::from(scope == Some(RequestIdScope::Shared));
    }
    assert_eq!(shared, store.len(), "the others are removed");
    assert!(store.dump().len() <= ACCOUNT_CAPACITY, "{}", store.dump().len());
    assert!(shared > 200, "{shared}");
    let other = CallContext { requester: another(), ..ctx() };
    let write = |_| started(async { response("other") });
    let _ = run(&first, &other, ("a", "content"), later(), write).await;
    assert_eq!(other.cost.request_id_scope(), Some(RequestIdScope::Shared));
}

fn another() -> leadsd_quota::Requester {
    leadsd_quota::Requester { caller: Caller::new("another"), ..ctx().requester }
}

#[tokio::test(start_paused = true)]
async fn callers_and_portals_do_not_share_ids_in_the_store() {
    let (store, first, second) = two_replicas();
    let _ = call(&first, ("a", "content"), response("first")).await;
    for other in [
        CallContext { requester: another(), ..ctx() },
        // A name that is proven is another caller than the same name without a proof.
        CallContext {
            requester: leadsd_quota::Requester {
                caller: Caller::authenticated("web", 1),
                ..ctx().requester
            },
            ..ctx()
        },
    ] {
        let write = |_| started(async { response("second") });
        let result = run(&second, &other, ("a", "content"), later(), write).await;
        assert_eq!(text(result), Ok("second"));
    }
    assert_eq!(store.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_id_makes_no_exchange() {
    let (store, first, _) = two_replicas();
    let ctx = ctx();
    let write = |_| started(async { response("written") });
    let result = first.run(&ctx, None, (), later(), write).await;
    assert_eq!(text(result), Ok("written"));
    assert_eq!((store.exchanges(), ctx.cost.request_id_scope()), (0, None));
    assert_eq!(first.stats().writes, [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_lost_its_data_counts_a_repeat_at_another_replica_as_new() {
    let (store, first, second) = two_replicas();
    let _ = call(&first, ("a", "content"), response("first")).await;
    store.lose_data();
    assert_eq!(text(call(&first, ("a", "content"), response("again")).await.0), Ok("first"));
    assert_eq!(text(call(&second, ("a", "content"), response("again")).await.0), Ok("again"));
    assert_eq!(first.stats().writes, [0, 2]);
}
