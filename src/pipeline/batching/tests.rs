//! Batches of queued requests, with a real account in simulated time.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use leadsd_quota::{Account, BucketName, Priority};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    leads::{
        AffectedInputs, BatchItem, LocalLimit, Reason, Selection, SideEffect, UpdateLead,
        UpsertLead,
    },
    pipeline::{
        retry::Retry,
        scripted::{Recorded, Scripted, ScriptedUpstream},
        tests::{
            account, context, context_of, create, get, lead, lead_id, lead_in, ordinary,
            unavailable, update,
        },
    },
};

const MINUTE: Duration = Duration::from_secs(60);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Maximum size of a response in most tests, in bytes: no batch is divided for it.
const LARGE: usize = 1 << 30;

/// The layer over a double. Its account allows one request in a second.
pub(super) struct Fixture<L: Layer = Arc<ScriptedUpstream>> {
    batching: Batching<L>,
    pub(super) upstream: Arc<ScriptedUpstream>,
    account: Arc<Account>,
}

// === impl Fixture ===

impl Fixture {
    pub(super) fn new(script: impl Fn(&Recorded) -> Scripted + Send + Sync + 'static) -> Self {
        let upstream = ScriptedUpstream::new(script);
        Self::over(Arc::clone(&upstream), upstream, LARGE)
    }

    /// Over a double that responds like HubSpot, at once.
    fn ordinary() -> Self {
        Self::new(|sent| Scripted::now(ordinary(&sent.request)))
    }
}

impl<L: Layer> Fixture<L> {
    fn over(inner: L, upstream: Arc<ScriptedUpstream>, max_response_bytes: usize) -> Self {
        let account = account(10, 1_000);
        let batching =
            Batching::new(inner, "default", Arc::clone(&account), max_response_bytes, true);
        Self { batching, upstream, account }
    }

    /// Uses up the free permit, so that requests queue for a second.
    fn use_permit(&self) {
        let requester = context(MINUTE).requester;
        let permit = self.account.try_acquire(BucketName::Burst, &requester).unwrap();
        permit.unwrap().mark_sent(1);
    }

    async fn call_in(&self, ctx: &CallContext, request: Arc<Request>) -> Result<Response, Error> {
        self.batching.call(ctx, request, Dispatch::new(ctx)).await
    }

    pub(super) async fn call(&self, request: Arc<Request>) -> Result<Response, Error> {
        self.call_in(&context(MINUTE), request).await
    }

    /// Results of requests that queue together.
    pub(super) async fn queued(
        &self,
        requests: impl IntoIterator<Item = Arc<Request>>,
    ) -> Vec<Result<Response, Error>> {
        self.use_permit();
        join_all(requests.into_iter().map(|request| self.call(request))).await
    }

    /// The requests that were sent, in brief.
    pub(super) fn sent(&self) -> Vec<String> {
        self.upstream.requests().iter().map(|sent| brief(&sent.request)).collect()
    }

    /// Permits in use and requests in the queue.
    fn usage(&self) -> (u64, usize) {
        let snapshot = self.account.snapshot(Instant::now());
        let bucket = snapshot.buckets.iter().find(|bucket| bucket.name == BucketName::Burst);
        bucket.map(|bucket| (bucket.used, bucket.waiting)).unwrap()
    }
}

/// Kind and number of inputs of a request.
fn brief(request: &Request) -> String {
    match request {
        Request::Get(get) => format!("get {}", get.id),
        Request::Create(_) => "create".to_owned(),
        Request::Update(update) => format!("update {}", update.id),
        Request::Archive(id) => format!("archive {id}"),
        Request::BatchRead(read) => format!("read {}", read.ids.len()),
        Request::BatchCreate(inputs) => format!("create {}", inputs.len()),
        Request::BatchUpdate(inputs) => format!("update {} leads", inputs.len()),
        Request::BatchUpsert(inputs) => format!("upsert {}", inputs.len()),
        Request::BatchArchive(ids) => format!("archive {} leads", ids.len()),
        Request::ReadAssociations { leads, to } => format!("{to} of {}", leads.len()),
        Request::List(_) | Request::Search(_) => "a page".to_owned(),
    }
}

fn gets(ids: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Arc<Request>> {
    ids.map(|id| get(&id.to_string()))
}

/// A read of one lead with this selection.
fn get_with(id: &str, selection: Selection) -> Arc<Request> {
    let id = lead_id(id);
    Arc::new(Request::Get(GetLead { id, id_property: None, selection, archived: false }))
}

fn archive(id: &str) -> Arc<Request> {
    Arc::new(Request::Archive(lead_id(id)))
}

/// An upsert of one lead by its property `email`.
fn upsert(email: &str) -> Arc<Request> {
    let input = UpsertLead {
        id: lead_id(email),
        id_property: Some("email".to_owned()),
        properties: BTreeMap::new(),
    };
    Arc::new(Request::BatchUpsert(vec![Traced { trace_id: email.to_owned(), input }]))
}

/// An update of one lead by its property `email`.
fn update_by_email(email: &str) -> Arc<Request> {
    let (id, id_property) = (lead_id(email), Some("email".to_owned()));
    Arc::new(Request::Update(UpdateLead { id, id_property, properties: BTreeMap::new() }))
}

fn about_id(reason: Reason, id: &str) -> Error {
    let ids = vec![id.to_owned()];
    Error::new(reason, "an input is at fault")
        .with_affected_inputs(AffectedInputs { ids, ..AffectedInputs::default() })
}

/// The response to a batch of updates in which the lead `id` fails with `error`.
fn failing_item(request: &Request, id: &str, error: Error) -> Result<Response, Error> {
    let mut response = ordinary(request)?.into_batch()?;
    response.results.retain(|item| item.lead.id != id);
    response.errors.push(error);
    Ok(Response::Batch(response))
}

/// The ordinary response without trace ids.
fn without_trace_ids(request: &Request) -> Result<Response, Error> {
    let response = ordinary(request)?;
    let Response::Batch(response) = response else { return Ok(response) };
    let results = response.results.into_iter();
    let results = results.map(|item| BatchItem { trace_id: None, ..item }).collect();
    Ok(Response::Batch(BatchResponse { results, errors: response.errors }))
}

fn assert_leads<'a>(results: Vec<Result<Response, Error>>, ids: impl IntoIterator<Item = &'a str>) {
    let expected: Vec<_> = ids.into_iter().map(|id| Ok(lead(id))).collect();
    assert_eq!(results.into_iter().map(lead_in).collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_free_permit_sends_a_request_alone_at_once() {
    let fixture = Fixture::ordinary();
    let start = Instant::now();
    assert_leads(vec![fixture.call(get("1")).await], ["1"]);
    assert_eq!(start.elapsed(), Duration::ZERO);
    let sent = &fixture.upstream.requests()[0];
    assert_eq!(*sent.request, *get("1"));
    assert!(sent.has_permit);
    sleep(2 * SECOND).await;
    assert_leads(vec![fixture.call(create("Ada")).await], ["Ada"]);
    assert!(fixture.upstream.requests()[1].has_permit);
    assert_eq!(fixture.sent(), ["get 1", "create"]);
}

#[tokio::test(start_paused = true)]
async fn queued_reads_of_one_kind_share_one_batch_and_each_gets_its_own_lead() {
    let fixture = Fixture::ordinary();
    let start = Instant::now();
    let results = fixture.queued(["3", "1", "2"].map(get)).await;
    assert_leads(results, ["3", "1", "2"]);
    assert_eq!(fixture.sent(), ["read 3"]);
    assert!(fixture.upstream.requests()[0].has_permit);
    assert!(start.elapsed() >= SECOND - Duration::from_millis(100));
    assert_eq!(fixture.usage(), (2, 0), "the batch takes one permit");
}

#[tokio::test(start_paused = true)]
async fn a_single_queued_request_is_sent_individually_with_the_permit() {
    let fixture = Fixture::ordinary();
    assert_leads(fixture.queued([get("1")]).await, ["1"]);
    assert_eq!(fixture.sent(), ["get 1"]);
    assert!(fixture.upstream.requests()[0].has_permit);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_at_most_a_hundred_reads() {
    let fixture = Fixture::ordinary();
    let ids: Vec<_> = (1..=102).map(|id: u32| id.to_string()).collect();
    let results = fixture.queued(gets(1..=102)).await;
    assert_leads(results, ids.iter().map(String::as_str));
    assert_eq!(fixture.sent(), ["read 100", "read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_property_history_has_at_most_fifty_reads() {
    let fixture = Fixture::ordinary();
    let selection = Selection {
        properties_with_history: vec!["hs_lead_name".to_owned()],
        ..Selection::default()
    };
    let requests = (1..=52).map(|id: u32| get_with(&id.to_string(), selection.clone()));
    assert!(fixture.queued(requests).await.iter().all(Result::is_ok));
    assert_eq!(fixture.sent(), ["read 50", "read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_sent_only_if_it_costs_fewer_requests() {
    // One request for the leads and one for their contacts.
    let fixture = Fixture::ordinary();
    let selection = Selection { associations: vec!["contacts".to_owned()], ..Selection::default() };
    let requests = ["1", "2"].map(|id| get_with(id, selection.clone()));
    assert_leads(fixture.queued(requests).await, ["1", "2"]);
    assert_eq!(fixture.sent(), ["get 1", "get 2"]);
}

#[tokio::test(start_paused = true)]
async fn different_kinds_do_not_share_a_batch() {
    let fixture = Fixture::ordinary();
    let other = Selection { properties: vec!["hs_lead_type".to_owned()], ..Selection::default() };
    let results = fixture
        .queued([
            get("1"),
            get_with("2", other.clone()),
            update("3", "Ada"),
            get("4"),
            get_with("5", other),
            update("6", "Grace"),
        ])
        .await;
    assert_leads(results, ["1", "2", "3", "4", "5", "6"]);
    let mut sent = fixture.sent();
    sent.sort();
    assert_eq!(sent, ["read 2", "read 2", "update 2 leads"]);
}

#[tokio::test(start_paused = true)]
async fn queued_archives_share_a_batch() {
    let fixture = Fixture::ordinary();
    let results = fixture.queued(["1", "2", "3"].map(archive)).await;
    assert!(results.iter().all(|result| matches!(result, Ok(Response::Archived))));
    assert_eq!(fixture.sent(), ["archive 3 leads"]);
    sleep(2 * SECOND).await;
    fixture.queued([archive("4")]).await[0].as_ref().unwrap();
    assert_eq!(fixture.sent()[1..], ["archive 4"]);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_several_callers_read_is_requested_once() {
    let fixture = Fixture::ordinary();
    let results = fixture.queued(["1", "2", "1"].map(get)).await;
    assert_leads(results, ["1", "2", "1"]);
    assert_eq!(fixture.sent(), ["read 2"]);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_a_batch_does_not_find_is_read_individually_and_then_cached() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::Get(get) if get.id == lead_id("404") => {
            Scripted::now(Err(Error::lead_not_found()))
        }
        request => {
            let mut response = ordinary(request);
            if let Ok(Response::Batch(batch)) = &mut response {
                batch.results.retain(|item| item.lead.id != "404");
            }
            Scripted::now(response)
        }
    });
    for _ in 0..2 {
        let results = fixture.queued(["1", "404", "2"].map(get)).await;
        let results: Vec<_> = results.into_iter().map(lead_in).collect();
        assert_eq!(results, [Ok(lead("1")), Err(Error::lead_not_found()), Ok(lead("2"))]);
        sleep(2 * SECOND).await;
    }
    assert_eq!(fixture.sent(), ["read 3", "get 404", "read 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_finds_no_lead_on_its_own_is_cached_as_well() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::Get(_) => Scripted::now(Err(Error::lead_not_found())),
        _ => Scripted::now(Ok(Response::Batch(BatchResponse::default()))),
    });
    assert_eq!(lead_in(fixture.call(get("404")).await), Err(Error::lead_not_found()));
    sleep(2 * SECOND).await;
    let results = fixture.queued(["404", "405"].map(get)).await;
    assert!(results.into_iter().map(lead_in).all(|result| result == Err(Error::lead_not_found())));
    assert_eq!(fixture.sent(), ["get 404", "read 2", "get 405"]);
}

#[tokio::test(start_paused = true)]
async fn a_validation_error_goes_to_the_caller_whose_input_it_names() {
    let error = || about_id(Reason::ValidationFailed, "2");
    let fixture =
        Fixture::new(move |sent| Scripted::now(failing_item(&sent.request, "2", error())));
    let results = fixture.queued(["1", "2", "3"].map(|id| update(id, "Ada"))).await;
    let results: Vec<_> = results.into_iter().map(lead_in).collect();
    assert_eq!(results, [Ok(lead("1")), Err(error()), Ok(lead("3"))]);
    assert_eq!(fixture.sent(), ["update 3 leads"]);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_hubspot_limits_or_does_not_find_is_requested_individually() {
    for reason in [Reason::RateLimited, Reason::LeadNotFound] {
        let fixture = Fixture::new(move |sent| match &*sent.request {
            Request::BatchUpdate(_) => {
                Scripted::now(failing_item(&sent.request, "2", about_id(reason, "2")))
            }
            request => Scripted::now(ordinary(request)),
        });
        let results = fixture.queued(["1", "2", "3"].map(|id| update(id, "Ada"))).await;
        assert_leads(results, ["1", "2", "3"]);
        assert_eq!(fixture.sent(), ["update 3 leads", "update 2"]);
        assert!(!fixture.upstream.requests()[1].has_permit, "the second request has to wait");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_the_response_does_not_mention_is_sent_individually() {
    for mentioned in [&["2"][..], &[]] {
        let fixture = Fixture::new(move |sent| {
            let mut response = ordinary(&sent.request);
            if let Ok(Response::Batch(batch)) = &mut response {
                batch.results.retain(|item| mentioned.contains(&item.lead.id.as_str()));
            }
            Scripted::now(response)
        });
        let ids = ["1", "2", "3"];
        assert_leads(fixture.queued(ids.map(|id| update(id, "Ada"))).await, ids);
        let individual = ids.iter().filter(|id| !mentioned.contains(id));
        let mut expected = vec!["update 3 leads".to_owned()];
        expected.extend(individual.map(|id| format!("update {id}")));
        assert_eq!(fixture.sent(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_batch_is_sent_without_the_named_input() {
    let error = || about_id(Reason::ValidationFailed, "2");
    let fixture = Fixture::new(move |sent| match &*sent.request {
        Request::BatchUpdate(inputs) if inputs.len() == 3 => Scripted::now(Err(error())),
        Request::Update(_) => Scripted::now(Err(error())),
        request => Scripted::now(ordinary(request)),
    });
    let results = fixture.queued(["1", "2", "3"].map(|id| update(id, "Ada"))).await;
    let results: Vec<_> = results.into_iter().map(lead_in).collect();
    assert_eq!(results, [Ok(lead("1")), Err(error()), Ok(lead("3"))]);
    assert_eq!(fixture.sent(), ["update 3 leads", "update 2 leads", "update 2"]);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn creates_share_a_batch_only_after_a_batch_of_one_echoed_its_trace_id() {
    let fixture = Fixture::ordinary();
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent(), ["create 1", "create 3"]);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent()[2..], ["create 4"]);
}

#[tokio::test(start_paused = true)]
async fn creates_are_sent_individually_if_nothing_identifies_their_results() {
    let fixture = Fixture::new(|sent| Scripted::now(without_trace_ids(&sent.request)));
    let names = ["Ada", "Grace", "Edsger"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent(), ["create 1", "create", "create"]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.sent()[3..], ["create", "create", "create"], "no batch is tried again");
}

#[tokio::test(start_paused = true)]
async fn creates_share_a_batch_by_a_property_that_is_returned_and_differs() {
    let fixture = Fixture::new(|sent| {
        let mut response = without_trace_ids(&sent.request);
        if let Ok(Response::Batch(batch)) = &mut response {
            for item in &mut batch.results {
                let name = item.lead.id.clone();
                item.lead.properties.insert("hs_lead_name".to_owned(), name);
            }
        }
        Scripted::now(response)
    });
    let ids = |results: Vec<Result<Response, Error>>| {
        results.into_iter().map(|result| lead_in(result).unwrap().id).collect::<Vec<_>>()
    };
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_eq!(ids(fixture.queued(names.map(create)).await), names);
    assert_eq!(fixture.sent(), ["create 1", "create 3"]);
    sleep(2 * SECOND).await;
    let names = ["Ada", "Grace", "Ada", "Grace", "Ada"];
    assert_eq!(ids(fixture.queued(names.map(create)).await), names);
    assert_eq!(fixture.sent()[2..], ["create 2", "create 2", "create"]);
    let permits: Vec<_> = fixture.upstream.requests().iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits[2..], [true, false, false]);
}

#[tokio::test(start_paused = true)]
async fn an_upsert_shares_a_batch_once_trace_ids_are_known_to_be_echoed() {
    let fixture = Fixture::ordinary();
    let results = fixture.queued(["a@x", "b@x"].map(upsert)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(fixture.sent(), ["upsert 1", "upsert 1"]);
    sleep(2 * SECOND).await;
    let results = fixture.queued(["a@x", "b@x", "c@x"].map(upsert)).await;
    let leads = results.into_iter().map(|result| {
        let mut response = result.and_then(Response::into_batch).unwrap();
        assert_eq!((response.results.len(), response.errors.len()), (1, 0));
        response.results.remove(0).lead
    });
    assert_eq!(leads.collect::<Vec<_>>(), ["a@x", "b@x", "c@x"].map(lead));
    assert_eq!(fixture.sent()[2..], ["upsert 3"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_by_a_unique_value_shares_a_batch_once_trace_ids_are_known_to_be_echoed() {
    let fixture = Fixture::ordinary();
    fixture.queued(["a@x", "b@x"].map(update_by_email)).await;
    assert_eq!(fixture.sent(), ["update a@x", "update b@x"]);
    sleep(2 * SECOND).await;
    fixture.queued(["1", "2"].map(|id| update(id, "Ada"))).await;
    assert_eq!(fixture.sent()[2..], ["update 2 leads"]);
    sleep(2 * SECOND).await;
    assert_leads(fixture.queued(["a@x", "b@x"].map(update_by_email)).await, ["a@x", "b@x"]);
    assert_eq!(fixture.sent()[3..], ["update 2 leads"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_batched_is_passed_on_to_wait_by_itself() {
    let fixture = Fixture::ordinary();
    let results = fixture.queued(["01", "+2"].map(get)).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(fixture.sent(), ["get 01", "get +2"]);
    assert!(fixture.upstream.requests().iter().all(|sent| !sent.has_permit));
    assert_eq!(fixture.usage(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_a_caller_is_passed_on() {
    let fixture = Fixture::ordinary();
    let Request::BatchUpsert(mut inputs) = (*upsert("a@x")).clone() else { unreachable!() };
    inputs.extend(inputs.clone());
    fixture.call(Arc::new(Request::BatchUpsert(inputs))).await.unwrap();
    let archives = Request::BatchArchive(vec![lead_id("1"), lead_id("2")]);
    fixture.call(Arc::new(archives)).await.unwrap();
    assert_eq!(fixture.sent(), ["upsert 2", "archive 2 leads"]);
    assert!(fixture.upstream.requests().iter().all(|sent| !sent.has_permit));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_layer_passes_every_request_on() {
    let mut fixture = Fixture::ordinary();
    fixture.batching.enabled = false;
    assert_leads(fixture.queued(["1", "2"].map(get)).await, ["1", "2"]);
    assert_eq!(fixture.sent(), ["get 1", "get 2"]);
    assert!(fixture.upstream.requests().iter().all(|sent| !sent.has_permit));
    assert_eq!(fixture.usage(), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_leaves_the_batch() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let (cancelled, first, second) = tokio::join!(
        timeout(SECOND / 2, fixture.call(get("1"))),
        fixture.call(get("2")),
        fixture.call(get("3")),
    );
    assert!(cancelled.is_err());
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_callers_is_not_sent_and_takes_no_permit() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let calls = gets(1..=3).map(|request| timeout(SECOND / 2, fixture.call(request)));
    assert!(join_all(calls).await.iter().all(Result::is_err));
    assert_eq!(fixture.usage(), (1, 0));
    sleep(SECOND).await;
    assert_eq!(fixture.upstream.count(), 0);
    assert_leads(vec![fixture.call(get("4")).await], ["4"]);
    assert_eq!(fixture.sent(), ["get 4"], "the permit is free at once");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_does_not_disturb_the_others_of_its_batch() {
    let fixture = Fixture::new(|sent| Scripted::after(5 * SECOND, ordinary(&sent.request)));
    fixture.use_permit();
    let (cancelled, first, second) = tokio::join!(
        timeout(3 * SECOND, fixture.call(get("1"))),
        fixture.call(get("2")),
        fixture.call(get("3")),
    );
    assert!(cancelled.is_err());
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 3"]);
    assert_eq!(fixture.upstream.in_progress(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_sent_releases_its_permit_although_all_callers_are_gone() {
    let fixture = Fixture::new(|sent| Scripted::after(5 * SECOND, ordinary(&sent.request)));
    fixture.use_permit();
    let calls = gets(1..=3).map(|request| timeout(3 * SECOND, fixture.call(request)));
    assert!(join_all(calls).await.iter().all(Result::is_err));
    assert_eq!(fixture.upstream.in_progress(), 1);
    sleep(MINUTE).await;
    assert_eq!((fixture.upstream.in_progress(), fixture.usage()), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn an_input_whose_caller_is_gone_is_not_requested_again() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(_) => {
            Scripted::after(5 * SECOND, Ok(Response::Batch(BatchResponse::default())))
        }
        request => Scripted::now(ordinary(request)),
    });
    fixture.use_permit();
    let (cancelled, second) =
        tokio::join!(timeout(3 * SECOND, fixture.call(get("1"))), fixture.call(get("2")),);
    assert!(cancelled.is_err());
    assert_leads(vec![second], ["2"]);
    sleep(MINUTE).await;
    assert_eq!(fixture.sent(), ["read 2", "get 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_permit_would_come_too_late_is_rejected_at_once() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let start = Instant::now();
    let early = async {
        let result = fixture.call_in(&context(SECOND / 2), get("1")).await;
        (result, start.elapsed())
    };
    let ((rejected, elapsed), first, second) =
        tokio::join!(early, fixture.call(get("2")), fixture.call(get("3")));
    let error = rejected.unwrap_err();
    assert_eq!(error.reason(), Reason::RateLimited);
    assert_eq!(error.local_limit(), Some(LocalLimit::Quota("burst")));
    assert_eq!(elapsed, Duration::ZERO);
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 2"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_gets_no_permit_is_rejected_just_before_its_deadline() {
    let fixture = Fixture::ordinary();
    let requester = context(MINUTE).requester;
    let held = fixture.account.try_acquire(BucketName::Burst, &requester).unwrap();
    let start = Instant::now();
    let error = fixture.call_in(&context(2 * SECOND), get("1")).await.unwrap_err();
    assert_eq!(error.local_limit(), Some(LocalLimit::Quota("burst")));
    assert!(start.elapsed() > SECOND && start.elapsed() < 2 * SECOND);
    assert_eq!(fixture.usage(), (1, 0), "the request leaves the queue");
    drop(held);
    sleep(2 * SECOND).await;
    assert_eq!((fixture.upstream.count(), fixture.usage()), (0, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_batch_lasts_until_the_latest_deadline_and_each_caller_pays_its_part() {
    let fixture = Fixture::ordinary();
    fixture.use_permit();
    let contexts = [10, 40, 20, 30].map(|seconds| {
        context_of(&format!("caller-{seconds}"), Priority::Interactive, seconds * SECOND)
    });
    let calls =
        contexts.iter().zip(gets(1..=4)).map(|(ctx, request)| fixture.call_in(ctx, request));
    assert_leads(join_all(calls).await, ["1", "2", "3", "4"]);
    assert_eq!(fixture.sent(), ["read 4"]);
    let sent = &fixture.upstream.requests()[0];
    assert_eq!(sent.deadline, contexts[1].deadline);
    assert!(contexts.iter().any(|ctx| ctx.requester.caller.as_str() == sent.caller));
    assert!(contexts.iter().all(|ctx| ctx.cost.millionths() == 250_000));
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_an_earlier_deadline_gets_the_error_while_the_others_retry() {
    let failure = || unavailable().with_retry_after(5 * SECOND);
    let upstream = ScriptedUpstream::new(move |sent| match sent.number {
        0 => Scripted::now(Err(failure())),
        _ => Scripted::now(ordinary(&sent.request)),
    });
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
    let fixture = Fixture::over(retry, upstream, LARGE);
    fixture.use_permit();
    let start = Instant::now();
    let (hasty, patient) = (context(4 * SECOND), context(MINUTE));
    let (early, first, second) = tokio::join!(
        async { (fixture.call_in(&hasty, get("1")).await, start.elapsed()) },
        fixture.call_in(&patient, get("2")),
        fixture.call_in(&patient, get("3")),
    );
    let error = early.0.unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert!(error.is_deadline_limited() && early.1 < 2 * SECOND, "the error comes at once");
    assert_leads(vec![first, second], ["2", "3"]);
    assert_eq!(fixture.sent(), ["read 3", "read 2"]);
    let requests = fixture.upstream.requests();
    assert!(requests[1].at - requests[0].at >= 5 * SECOND, "the stated pause is kept");
    let prior: Vec<_> = requests.iter().map(|sent| sent.prior_attempts).collect();
    assert_eq!(prior, [0, 1], "the attempts of the first request count");
    let permits: Vec<_> = requests.iter().map(|sent| sent.has_permit).collect();
    assert_eq!(permits, [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_sent_again_for_a_caller_that_received_the_error() {
    let upstream = ScriptedUpstream::new(|sent| match sent.number {
        0 => Scripted::now(Err(unavailable().with_retry_after(5 * SECOND))),
        _ => Scripted::now(ordinary(&sent.request)),
    });
    let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
    let fixture = Fixture::over(retry, upstream, LARGE);
    fixture.use_permit();
    let contexts = [4 * SECOND, MINUTE, MINUTE].map(context);
    let calls = contexts
        .iter()
        .zip(["1", "2", "3"])
        .map(|(ctx, id)| fixture.call_in(ctx, update(id, "Ada")));
    let mut results = join_all(calls).await;
    let error = results.remove(0).unwrap_err();
    assert_eq!(error.reason(), Reason::UpstreamUnavailable);
    assert_leads(results, ["2", "3"]);
    assert_eq!(fixture.sent(), ["update 3 leads", "update 2 leads"]);
    let requests = fixture.upstream.requests();
    let Request::BatchUpdate(inputs) = &*requests[1].request else { unreachable!() };
    let ids: Vec<String> = inputs.iter().map(|traced| traced.input.id.to_string()).collect();
    assert_eq!(ids, ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_cancelled_during_the_backoff_is_not_sent_again() {
    for cancelled in [&[2][..], &[2, 3, 4]] {
        let upstream = ScriptedUpstream::new(|sent| match sent.number {
            0 => Scripted::now(Err(unavailable().with_retry_after(5 * SECOND))),
            _ => Scripted::now(ordinary(&sent.request)),
        });
        let retry = Retry::new(Arc::clone(&upstream), 4, Arc::default());
        let fixture = Fixture::over(retry, upstream, LARGE);
        fixture.use_permit();
        // The first deadline allows no retry by the layer below, so that the batch is sent again.
        let calls = [1, 2, 3, 4].map(|number| {
            let ctx = context(if number == 1 { 4 * SECOND } else { MINUTE });
            let patience = if cancelled.contains(&number) { 3 * SECOND } else { MINUTE };
            let (fixture, request) = (&fixture, get(&number.to_string()));
            async move { timeout(patience, fixture.call_in(&ctx, request)).await }
        });
        let results = join_all(calls).await;
        let is_cancelled: Vec<bool> = results.iter().map(Result::is_err).collect();
        assert_eq!(is_cancelled, [1, 2, 3, 4].map(|number| cancelled.contains(&number)));
        sleep(MINUTE).await;
        let expected: &[&str] =
            if cancelled.len() == 1 { &["read 4", "read 2"] } else { &["read 4"] };
        assert_eq!(fixture.sent(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_not_limited_by_a_deadline_costs_no_further_request() {
    let fixture = Fixture::new(|_| Scripted::now(Err(unavailable())));
    let results = fixture.queued(["1", "2", "3"].map(get)).await;
    assert!(results.into_iter().map(lead_in).all(|result| result == Err(unavailable())));
    assert_eq!(fixture.sent(), ["read 3"]);
}

#[tokio::test(start_paused = true)]
async fn writes_whose_response_would_be_too_large_are_divided_among_requests() {
    // An update without large values is estimated at 2,048 bytes and a few.
    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
    let ids = ["1", "2", "3", "4", "5"];
    assert_leads(fixture.queued(ids.map(|id| update(id, "Ada"))).await, ids);
    let mut sent = fixture.sent();
    sent.sort();
    assert_eq!(sent, ["update 2 leads", "update 2 leads", "update 5"]);
    let permits = fixture.upstream.requests().iter().filter(|sent| sent.has_permit).count();
    assert_eq!(permits, 1, "the other requests acquire separate permits");
}

#[tokio::test(start_paused = true)]
async fn the_size_of_a_response_is_estimated_from_the_values_that_are_written() {
    // 2,048 bytes, the name of the property, and six bytes for each byte of the value.
    for (bytes, requests) in [(70, 1), (80, 2)] {
        let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
        let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
        let value = "x".repeat(bytes);
        assert_leads(fixture.queued(["1", "2"].map(|id| update(id, &value))).await, ["1", "2"]);
        assert_eq!(fixture.upstream.requests().len(), requests, "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn creates_and_upserts_whose_response_would_be_too_large_are_divided_as_well() {
    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
    fixture.queued([upsert("a"), upsert("b"), upsert("c")]).await;
    assert_eq!(fixture.upstream.requests().len(), 2);

    let upstream = ScriptedUpstream::new(|sent| Scripted::now(ordinary(&sent.request)));
    let fixture = Fixture::over(Arc::clone(&upstream), upstream, 5_000);
    let names = ["Ada", "Grace", "Edsger", "Barbara"];
    assert_leads(fixture.queued(names.map(create)).await, names);
    assert_eq!(fixture.upstream.requests().len(), 3, "one, two and one");
}

#[tokio::test(start_paused = true)]
async fn at_most_eight_requests_follow_a_batch_at_a_time() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(_) => Scripted::now(Ok(Response::Batch(BatchResponse::default()))),
        request => Scripted::after(SECOND, ordinary(request)),
    });
    let results = fixture.queued(gets(1..=20)).await;
    assert!(results.iter().all(Result::is_ok));
    let requests = fixture.upstream.requests();
    assert_eq!(requests.len(), 21);
    let times: Vec<_> = requests[1..].iter().map(|sent| sent.at - requests[1].at).collect();
    let at = |time: Duration| times.iter().filter(|own| **own == time).count();
    assert_eq!((at(Duration::ZERO), at(SECOND), at(2 * SECOND)), (8, 8, 4));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_leaves_the_outcome_of_its_requests_open() {
    let fixture = Fixture::new(|_| panic!("the double panics"));
    for result in fixture.queued(["1", "2"].map(|id| update(id, "Ada"))).await {
        let error = result.unwrap_err();
        assert_eq!((error.reason(), error.side_effect()), (Reason::Internal, SideEffect::Possible));
    }
    sleep(MINUTE).await;
    assert_eq!(fixture.usage(), (0, 0), "the permit is released");
}

#[test]
fn only_the_spelling_of_hubspot_is_a_record_id() {
    let is_record_id = |id: &str| super::writes::is_record_id(&lead_id(id));
    assert!(["1", "10", "98765432109"].into_iter().all(is_record_id));
    assert!(!["0", "01", "+1", "1e3", "a"].into_iter().any(is_record_id));
}

#[test]
fn a_write_without_a_unique_value_is_batched_only_by_its_record_id() {
    let capabilities = PortalCapabilities::default();
    let batchable = |id: &str, id_property: Option<&str>| {
        let id_property = id_property.map(str::to_owned);
        let update = UpdateLead { id: lead_id(id), id_property, properties: BTreeMap::new() };
        UpdateBatch::batchable(&update, &capabilities).is_some()
    };
    assert!(batchable("1", None));
    assert!(!batchable("01", None) && !batchable("1", Some("hs_object_id")));
    assert!(!batchable("a@x", Some("email")), "the echo of trace ids is not confirmed");
    assert!(ArchiveBatch::batchable(&lead_id("1")).is_some());
    assert!(ArchiveBatch::batchable(&lead_id("01")).is_none());
}
