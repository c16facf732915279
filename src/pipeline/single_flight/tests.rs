//! Single flight against scripted responses, in simulated time.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::time::Duration;

use futures_util::{future::join_all, poll};

use super::*;
use crate::{
    leads::{
        BatchRead, ListLeads, LocalLimit, MemoryAccount, SearchLeads, Selection, SideEffect,
        UpdateLead, testing::TestAccount,
    },
    pipeline::{
        rate_limit::RateLimit,
        retry::Retry,
        scripted::{Scripted, ScriptedUpstream},
        tests::{
            account, context, context_of, create, found, get, lead_id, ordinary, unavailable,
            update,
        },
    },
};

/// Time that HubSpot takes for a request.
const LATENCY: Duration = Duration::from_millis(100);

const MINUTE: Duration = Duration::from_secs(60);

/// HubSpot that takes [`LATENCY`] for every request.
fn hubspot() -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(|call| Scripted::after(LATENCY, ordinary(&call.request)))
}

/// HubSpot that responds to the first request with `error`, and takes [`LATENCY`] for every request.
fn failing_once(error: Error) -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(move |call| {
        let result = if call.number == 0 { Err(error.clone()) } else { ordinary(&call.request) };
        Scripted::after(LATENCY, result)
    })
}

fn sharing<L: Layer>(inner: L) -> SingleFlight<L> {
    let inner = Arc::new(inner);
    SingleFlight::new(Arc::clone(&inner), inner, true)
}

/// A context of an interactive call of `caller`.
fn caller(name: &str) -> CallContext {
    context_of(name, Priority::Interactive, MINUTE)
}

/// A call that the test polls by itself.
fn call<'a, L: Layer>(
    layer: &'a SingleFlight<L>,
    ctx: &'a CallContext,
    request: &Arc<Request>,
) -> BoxFuture<'a, Result<Response, Error>> {
    layer.call(ctx, Arc::clone(request), Dispatch::new(ctx)).boxed()
}

/// A call that has been polled.
async fn begin<'a, L: Layer>(
    layer: &'a SingleFlight<L>,
    ctx: &'a CallContext,
    request: &Arc<Request>,
) -> BoxFuture<'a, Result<Response, Error>> {
    let mut call = call(layer, ctx, request);
    assert!(poll!(call.as_mut()).is_pending());
    call
}

fn is_empty<L>(layer: &SingleFlight<L>) -> bool {
    layer.in_progress.lock().is_empty()
}

fn id(result: Result<Response, Error>) -> String {
    result.unwrap().into_lead().unwrap().id.clone()
}

fn list() -> Arc<Request> {
    let selection = Selection::default();
    Arc::new(Request::List(ListLeads { limit: 10, after: None, selection, archived: false }))
}

fn search() -> Arc<Request> {
    Arc::new(Request::Search(SearchLeads {
        query: "Ann".to_owned(),
        filter_groups: Vec::new(),
        sort: None,
        properties: Vec::new(),
        limit: 10,
        after: None,
    }))
}

/// A read by a value of a unique property.
fn get_by_email(email: &str) -> Arc<Request> {
    Arc::new(Request::Get(GetLead {
        id: lead_id(email),
        id_property: Some("email".to_owned()),
        selection: Selection::default(),
        archived: false,
    }))
}

#[tokio::test(start_paused = true)]
async fn identical_reads_in_progress_share_one_request_and_its_response() {
    for request in [get("7"), list(), search(), get_by_email("ann@example.com")] {
        let upstream = hubspot();
        let layer = sharing(Arc::clone(&upstream));
        let start = Instant::now();
        let contexts: Vec<CallContext> = ["a", "a", "b", "c"].map(caller).to_vec();
        let results = join_all(contexts.iter().map(|ctx| call(&layer, ctx, &request))).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!((upstream.count(), start.elapsed()), (1, LATENCY));
        assert!(is_empty(&layer));
    }
}

#[tokio::test(start_paused = true)]
async fn each_sharer_holds_the_memory_of_its_copy_until_it_releases_it() {
    const BYTES: usize = 40_000;
    let upstream = ScriptedUpstream::new(|call| {
        Scripted::after(LATENCY, ordinary(&call.request)).of_bytes(BYTES)
    });
    let layer = sharing(Arc::clone(&upstream));
    let (own, small) = (TestAccount::new(10 * BYTES), TestAccount::new(BYTES / 2));
    let in_account = |name: &str, account: &Arc<TestAccount>| {
        let memory: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(account);
        CallContext { memory, ..caller(name) }
    };
    let contexts = [in_account("a", &own), in_account("b", &own), in_account("c", &own)];
    let without_room = in_account("d", &small);
    let request = list();
    let calls = contexts.iter().chain([&without_room]).map(|ctx| call(&layer, ctx, &request));
    let mut results = join_all(calls).await;
    let rejected = results.pop().unwrap();
    assert_eq!(rejected.unwrap_err().reason(), Reason::Overloaded, "its copy has no room");
    assert!(results.iter().all(Result::is_ok));
    assert_eq!((upstream.count(), own.used(), small.used()), (1, 3 * BYTES, 0));
    for (left, ctx) in [2, 1, 0].into_iter().zip(&contexts) {
        ctx.cost.release_memory();
        assert_eq!(own.used(), left * BYTES);
    }
    // A sharer that is gone holds nothing.
    let gone = call(&layer, &contexts[0], &request).now_or_never();
    assert!(gone.is_none());
    assert_eq!(own.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn reads_of_different_content_or_priority_do_not_share() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let interactive = caller("a");
    let bulk = context_of("a", Priority::Bulk, MINUTE);
    let (seven, eight) = (get("7"), get("8"));
    let (a, b, c, d) = tokio::join!(
        call(&layer, &interactive, &seven),
        call(&layer, &interactive, &eight),
        call(&layer, &bulk, &seven),
        call(&layer, &bulk, &seven),
    );
    assert_eq!([a, b, c, d].map(id), ["7", "8", "7", "7"]);
    assert_eq!(upstream.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn reads_with_one_hash_are_joined_only_if_they_are_identical() {
    let layer = sharing(hubspot());
    let ctx = caller("a");
    let bulk = context_of("a", Priority::Bulk, MINUTE);
    let _read = begin(&layer, &ctx, &get("7")).await;
    let in_progress = layer.in_progress.lock();
    let reads = in_progress.values().next().unwrap();
    let is_joined = |ctx, id| joinable(reads, ctx, &get(id)).is_some();
    assert!(is_joined(&ctx, "7"));
    assert!(!is_joined(&ctx, "8"));
    assert!(!is_joined(&bulk, "7"));
}

#[tokio::test(start_paused = true)]
async fn writes_and_batches_never_share() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let ctx = caller("a");
    let associations =
        Arc::new(Request::ReadAssociations { leads: vec![lead_id("7")], to: "contacts".into() });
    for request in [update("7", "Ann"), create("Ann"), associations] {
        let before = upstream.count();
        let (a, b) = tokio::join!(call(&layer, &ctx, &request), call(&layer, &ctx, &request));
        assert!(a.is_ok() && b.is_ok());
        assert_eq!(upstream.count() - before, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_is_never_used_for_a_read_that_begins_after_it() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let ctx = caller("a");
    for _ in 0..2 {
        call(&layer, &ctx, &get("7")).await.unwrap();
        assert!(is_empty(&layer));
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_caller_joins_a_read_in_progress_but_none_that_waits_for_a_permit() {
    let upstream = hubspot();
    let account = account(10, 100);
    let layer = sharing(RateLimit::new(Arc::clone(&upstream), account));
    let (a, b, c) = (caller("a"), caller("b"), caller("c"));
    // The only permit of the first second.
    call(&layer, &a, &get("1")).await.unwrap();
    let request = get("7");
    let first = begin(&layer, &a, &request).await;
    let own = begin(&layer, &a, &request).await;
    let other = begin(&layer, &b, &request).await;
    assert_eq!(layer.in_progress.lock().values().flatten().count(), 2);
    let joined = async {
        while upstream.count() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
        call(&layer, &c, &request).await
    };
    let (first, own, other, joined) = tokio::join!(first, own, other, joined);
    assert_eq!([first, own, other, joined].map(id), ["7"; 4]);
    assert_eq!(upstream.count(), 3);
    assert!(is_empty(&layer));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_first_sharer_does_not_end_the_read_of_the_others() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let start = Instant::now();
    let (a, b, request) = (caller("a"), caller("b"), get("7"));
    let first = begin(&layer, &a, &request).await;
    let second = begin(&layer, &b, &request).await;
    drop(first);
    // The read goes on, and more sharers may join it.
    let third = begin(&layer, &a, &request).await;
    let (second, third) = tokio::join!(second, third);
    assert_eq!([second, third].map(id), ["7", "7"]);
    assert_eq!((upstream.count(), start.elapsed()), (1, LATENCY));
    assert!(is_empty(&layer));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_all_sharers_have_cancelled_ends_and_is_not_joined() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let (a, b, request) = (caller("a"), caller("b"), get("7"));
    let sharers = (begin(&layer, &a, &request).await, begin(&layer, &b, &request).await);
    assert_eq!(upstream.in_progress(), 1);
    drop(sharers);
    assert_eq!(upstream.in_progress(), 0);
    assert!(is_empty(&layer));
    // A call that is dropped before it was polled leaves nothing either.
    drop(call(&layer, &a, &request));
    assert!(is_empty(&layer));
    assert_eq!(id(call(&layer, &a, &request).await), "7");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_cost_is_divided_among_the_sharers_without_loss() {
    let layer = sharing(hubspot());
    let contexts: Vec<CallContext> = ["a", "b", "c"].map(caller).to_vec();
    let request = get("7");
    join_all(contexts.iter().map(|ctx| call(&layer, ctx, &request))).await;
    let mut costs: Vec<u64> = contexts.iter().map(|ctx| ctx.cost.millionths()).collect();
    costs.sort_unstable();
    assert_eq!(costs, [333_333, 333_333, 333_334]);
}

#[tokio::test(start_paused = true)]
async fn a_sharer_that_leaves_early_pays_its_part_of_the_cost_so_far() {
    let layer = sharing(hubspot());
    let (a, b, request) = (caller("a"), caller("b"), get("7"));
    let first = begin(&layer, &a, &request).await;
    let second = begin(&layer, &b, &request).await;
    drop(first);
    assert_eq!(a.cost.millionths(), 500_000);
    assert_eq!(b.cost.millionths(), 0);
    second.await.unwrap();
    assert_eq!((a.cost.millionths(), b.cost.millionths()), (500_000, 500_000));
}

/// Announces a correlation id with every response.
#[derive(Debug)]
struct Correlated(Arc<ScriptedUpstream>);

impl Layer for Correlated {
    async fn call(
        &self,
        ctx: &CallContext,
        request: Arc<Request>,
        dispatch: Dispatch,
    ) -> Result<Response, Error> {
        ctx.cost.set_correlation_id(&"c-1".into());
        self.0.call(ctx, request, dispatch).await
    }
}

#[tokio::test(start_paused = true)]
async fn every_sharer_learns_the_correlation_id() {
    let layer = sharing(Correlated(hubspot()));
    let (a, b, request) = (caller("a"), caller("b"), get("7"));
    let (first, second) = tokio::join!(call(&layer, &a, &request), call(&layer, &b, &request));
    assert!(first.is_ok() && second.is_ok());
    for ctx in [a, b] {
        assert_eq!(ctx.cost.correlation_id().as_deref(), Some("c-1"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_about_the_first_sharer_makes_the_others_try_once_more_together() {
    let deadline = Error::new(Reason::DeadlineExceeded, "the deadline passed");
    let quota = Error::new(Reason::RateLimited, "no permit before the deadline")
        .with_local_limit(LocalLimit::Quota("burst"));
    for error in [deadline, quota] {
        let upstream = failing_once(error.clone());
        let layer = sharing(Arc::clone(&upstream));
        let (a, b, c, request) = (caller("a"), caller("b"), caller("c"), get("7"));
        let (first, second, third) = tokio::join!(
            call(&layer, &a, &request),
            call(&layer, &b, &request),
            call(&layer, &c, &request),
        );
        assert_eq!(first.unwrap_err(), error);
        assert_eq!([second, third].map(id), ["7", "7"]);
        assert_eq!(upstream.count(), 2);
        assert!(is_empty(&layer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sharer_with_an_earlier_deadline_leaves_a_read_in_progress_at_its_own() {
    let upstream = hubspot();
    let layer = sharing(Arc::clone(&upstream));
    let (patient, request) = (caller("a"), get("7"));
    let hasty = context_of("b", Priority::Interactive, LATENCY / 2);
    let start = Instant::now();
    let first = begin(&layer, &patient, &request).await;
    let error = call(&layer, &hasty, &request).await.unwrap_err();
    assert_eq!((error.reason(), error.side_effect()), (Reason::DeadlineExceeded, SideEffect::None));
    assert_eq!(start.elapsed(), LATENCY / 2);
    assert_eq!((id(first.await), start.elapsed()), ("7".to_owned(), LATENCY));
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sharer_whose_own_deadline_has_passed_does_not_try_again() {
    let error = Error::new(Reason::DeadlineExceeded, "the deadline passed");
    let upstream = failing_once(error.clone());
    let layer = sharing(Arc::clone(&upstream));
    let (a, request) = (caller("a"), get("7"));
    let b = context_of("b", Priority::Interactive, LATENCY);
    let (_, second) = tokio::join!(call(&layer, &a, &request), call(&layer, &b, &request));
    assert_eq!(second.unwrap_err(), error);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_about_the_content_or_about_hubspot_is_the_result_of_every_sharer() {
    let breaker = unavailable().with_local_limit(LocalLimit::CircuitBreaker);
    for error in [Error::lead_not_found(), unavailable(), breaker] {
        let upstream = failing_once(error.clone());
        let layer = sharing(Arc::clone(&upstream));
        let (a, b, request) = (caller("a"), caller("b"), get("7"));
        let (first, second) = tokio::join!(call(&layer, &a, &request), call(&layer, &b, &request));
        assert_eq!([first.unwrap_err(), second.unwrap_err()], [error.clone(), error]);
        assert_eq!(upstream.count(), 1);
        assert!(is_empty(&layer));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sharer_with_more_time_goes_on_after_the_attempts_and_the_pause_of_the_others() {
    let pause = Duration::from_secs(1);
    let error = unavailable().with_attempts(2).with_retry_after(pause).deadline_limited();
    let upstream = failing_once(error.clone());
    let layer = sharing(Arc::clone(&upstream));
    let start = Instant::now();
    let impatient = context_of("a", Priority::Interactive, LATENCY * 2);
    let (patient, request) = (caller("b"), get("7"));
    let (first, second) =
        tokio::join!(call(&layer, &impatient, &request), call(&layer, &patient, &request));
    assert_eq!(first.unwrap_err(), error);
    assert_eq!(id(second), "7");
    let requests = upstream.requests();
    let seen: Vec<_> = requests.iter().map(|call| (call.at - start, call.prior_attempts)).collect();
    assert_eq!(seen, [(Duration::ZERO, 0), (LATENCY + pause, 2)]);
    assert_eq!(requests[1].deadline, patient.deadline);
    assert_eq!(impatient.cost.millionths(), 500_000);
    assert_eq!(patient.cost.millionths(), 1_500_000);
    assert!(is_empty(&layer));
}

#[tokio::test(start_paused = true)]
async fn a_sharer_goes_on_only_if_the_pause_and_an_attempt_end_before_its_deadline() {
    let pause = Duration::from_secs(1);
    let attempt = Duration::from_millis(50);
    for (missing, requests) in [(Duration::ZERO, 2), (Duration::from_millis(1), 1)] {
        let error = unavailable().with_retry_after(pause).deadline_limited();
        let upstream = failing_once(error);
        let layer = sharing(Arc::clone(&upstream));
        let ctx = context(LATENCY + pause + attempt - missing);
        let _ = call(&layer, &ctx, &get("7")).await;
        assert_eq!(upstream.count(), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_end_with_the_earliest_deadline_of_the_sharers_and_the_others_go_on() {
    let pause = Duration::from_secs(10);
    let upstream = failing_once(unavailable().with_retry_after(pause));
    let layer = sharing(Retry::new(Arc::clone(&upstream), 5, Arc::default()));
    let start = Instant::now();
    let (patient, request) = (caller("a"), get("7"));
    // It joins later, with less time.
    let impatient = context_of("b", Priority::Interactive, pause);
    let first = begin(&layer, &patient, &request).await;
    let second = async {
        let result = call(&layer, &impatient, &request).await;
        (result, start.elapsed())
    };
    let (first, (second, elapsed)) = tokio::join!(first, second);
    assert_eq!(id(first), "7");
    assert_eq!(second.unwrap_err().reason(), Reason::UpstreamUnavailable);
    assert_eq!(elapsed, LATENCY, "it learns at once that no attempt fits");
    let attempts: Vec<u32> = upstream.requests().iter().map(|call| call.prior_attempts).collect();
    assert_eq!(attempts, [0, 1]);
}

/// Number of requests for two reads of `read`, the second of which begins after `write` has
/// completed.
async fn reads_around(read: &Arc<Request>, write: &Arc<Request>) -> usize {
    let upstream = ScriptedUpstream::new(|call| match *call.request {
        Request::Get(_) | Request::List(_) | Request::Search(_) => {
            Scripted::after(LATENCY, ordinary(&call.request))
        }
        _ => Scripted::now(ordinary(&call.request)),
    });
    let layer = sharing(Arc::clone(&upstream));
    let ctx = caller("a");
    let first = begin(&layer, &ctx, read).await;
    call(&layer, &ctx, write).await.unwrap();
    let second = begin(&layer, &ctx, read).await;
    let (first, second) = tokio::join!(first, second);
    assert!(first.is_ok() && second.is_ok());
    assert!(is_empty(&layer));
    upstream.count() - 1
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_sharing_of_the_reads_that_it_may_affect() {
    let by_email = Arc::new(Request::Update(UpdateLead {
        id: lead_id("ann@example.com"),
        id_property: Some("email".to_owned()),
        properties: std::collections::BTreeMap::new(),
        trace_id: None,
    }));
    let archive = |id: &str| Arc::new(Request::Archive(lead_id(id)));
    let archives = Arc::new(Request::BatchArchive(vec![lead_id("8")]));
    let cases = [
        (get("7"), update("7", "Ann"), 2),
        (get("7"), archive("7"), 2),
        (get("7"), update("8", "Ann"), 1),
        (get("7"), archive("8"), 1),
        // The lead of a unique value is not known.
        (get("7"), by_email, 2),
        (get_by_email("ann@example.com"), update("8", "Ann"), 2),
        // A page may have any lead.
        (list(), update("8", "Ann"), 2),
        (search(), archive("8"), 2),
        (search(), create("Ann"), 2),
        // The leads of a batch are not compared.
        (get("7"), archives, 2),
        (get("7"), Arc::new(Request::BatchCreate(Vec::new())), 2),
        (get("7"), Arc::new(Request::BatchUpdate(Vec::new())), 2),
        (get("7"), Arc::new(Request::Upsert { inputs: Vec::new(), concurrency: 1 }), 2),
        // Reads change nothing.
        (
            get("7"),
            Arc::new(Request::ReadAssociations { leads: Vec::new(), to: "contacts".into() }),
            1,
        ),
    ];
    for (read, write, requests) in cases {
        assert_eq!(reads_around(&read, &write).await, requests, "{read:?} around {write:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_sharing_of_reads_by_any_spelling_of_its_record_id() {
    assert_eq!(reads_around(&get("007"), &update("7", "Ann")).await, 2);
    assert_eq!(reads_around(&get("7"), &update("007", "Ann")).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_sharing_because_it_may_have_had_an_effect() {
    let upstream = ScriptedUpstream::new(|call| match *call.request {
        Request::Update(_) => Scripted::now(Err(unavailable())),
        _ => Scripted::after(LATENCY, found("7")),
    });
    let layer = sharing(Arc::clone(&upstream));
    let ctx = caller("a");
    let first = begin(&layer, &ctx, &get("7")).await;
    call(&layer, &ctx, &update("7", "Ann")).await.unwrap_err();
    assert!(is_empty(&layer));
    let second = begin(&layer, &ctx, &get("7")).await;
    assert_eq!(upstream.in_progress(), 2);
    drop((first, second));
    assert!(is_empty(&layer));
}

#[tokio::test(start_paused = true)]
async fn a_read_before_a_write_ends_without_ending_sharing_of_the_read_after_it() {
    let upstream = ScriptedUpstream::new(|call| match *call.request {
        Request::Update(_) => Scripted::now(ordinary(&call.request)),
        _ => Scripted::after(LATENCY, ordinary(&call.request)),
    });
    let layer = sharing(Arc::clone(&upstream));
    let (ctx, request) = (caller("a"), get("7"));
    let before = begin(&layer, &ctx, &request).await;
    sleep(LATENCY / 2).await;
    call(&layer, &ctx, &update("7", "Ann")).await.unwrap();
    let after = begin(&layer, &ctx, &request).await;
    before.await.unwrap();
    let joined = begin(&layer, &ctx, &request).await;
    let (after, joined) = tokio::join!(after, joined);
    assert_eq!([after, joined].map(id), ["7", "7"]);
    assert_eq!(upstream.count(), 3);
    assert!(is_empty(&layer));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_layer_passes_every_request_through_as_it_is() {
    let upstream = hubspot();
    let layer = SingleFlight::new(Arc::clone(&upstream), Arc::clone(&upstream), false);
    let ctx = caller("a");
    for request in [get("7"), list(), search()] {
        let dispatch = || Dispatch { prior_attempts: 3, ..Dispatch::new(&ctx) };
        let (first, second) = tokio::join!(
            layer.call(&ctx, Arc::clone(&request), dispatch()),
            layer.call(&ctx, Arc::clone(&request), dispatch()),
        );
        assert!(first.is_ok() && second.is_ok());
    }
    let attempts: Vec<u32> = upstream.requests().iter().map(|call| call.prior_attempts).collect();
    assert_eq!(attempts, [3; 6]);
    assert_eq!(ctx.cost.millionths(), 6_000_000);
}

#[tokio::test(start_paused = true)]
async fn only_reads_that_can_be_shared_pass_the_layers_of_writes() {
    for enabled in [true, false] {
        let (reads, others) = (hubspot(), hubspot());
        let layer = SingleFlight::new(Arc::clone(&reads), Arc::clone(&others), enabled);
        let ctx = caller("a");
        for request in [get("7"), list(), search()] {
            call(&layer, &ctx, &request).await.unwrap();
        }
        assert_eq!((reads.count(), others.count()), (3, 0), "{enabled}");
        let read = BatchRead {
            ids: vec![lead_id("7"), lead_id("8")],
            id_property: None,
            properties: Vec::new(),
            properties_with_history: Vec::new(),
            archived: false,
        };
        for request in [Arc::new(Request::BatchRead(read)), update("7", "Ann"), create("Ann")] {
            call(&layer, &ctx, &request).await.unwrap();
        }
        assert_eq!((reads.count(), others.count()), (3, 3), "{enabled}");
    }
}
