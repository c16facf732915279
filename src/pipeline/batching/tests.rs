//! Batches of queued requests, with a real account in simulated time.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

mod cancellation;
mod correlation;
mod deadlines;
mod merged;
mod rejections;
mod response_size;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use leadsd_quota::{Account, BucketName, Priority};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    leads::{
        AffectedInputs, BatchItem, BatchResponse, LeadId, LocalLimit, MEMORY_LIMIT, MemoryAccount,
        Reason, Selection, SideEffect, Traced, UpdateLead, UpstreamFacts, testing::TestAccount,
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
        let permit = self
            .account
            .try_acquire(BucketName::Burst, &requester, Instant::now() + MINUTE)
            .unwrap();
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
        Request::Upsert { inputs, .. } => format!("upsert {}", inputs.len()),
        Request::BatchArchive(ids) => format!("archive {} leads", ids.len()),
        Request::ReadAssociations { leads, to } => format!("{to} of {}", leads.len()),
        Request::ChangeAssociations(request) => format!("change {}", request.changes.len()),
        Request::List(_) | Request::Search(_) | Request::ListAssociations(_) => "a page".to_owned(),
        Request::ReadSchema(_) => "a part of the schema".to_owned(),
        Request::FindContacts(emails) => format!("contacts {}", emails.len()),
        Request::CreateContacts(contacts) => format!("create {} contacts", contacts.len()),
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

/// An update of one lead by its property `email`.
fn update_by_email(email: &str) -> Arc<Request> {
    let (id, id_property) = (lead_id(email), Some("email".to_owned()));
    Arc::new(Request::Update(UpdateLead {
        id,
        id_property,
        properties: BTreeMap::new(),
        trace_id: None,
    }))
}

fn about_id(reason: Reason, id: &str) -> Error {
    let ids = vec![id.to_owned()];
    Error::new(reason, "an input is at fault")
        .with_affected_inputs(AffectedInputs { ids, ..AffectedInputs::default() })
}

/// Error of a path that HubSpot does not know.
fn unknown_path() -> Error {
    let upstream = UpstreamFacts { http_status: Some(404), ..UpstreamFacts::default() };
    Error::new(Reason::UpstreamInvalidResponse, "no such path").with_upstream(upstream)
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
                batch.errors.push(about_id(Reason::LeadNotFound, "404"));
            }
            Scripted::now(response)
        }
    });
    for _ in 0..2 {
        let results = fixture.queued(["1", "404", "2"].map(get)).await;
        let results: Vec<_> = results.into_iter().map(lead_in).collect();
        let reasons = results.iter().map(|result| result.as_ref().err().map(Error::reason));
        assert_eq!(reasons.collect::<Vec<_>>(), [None, Some(Reason::LeadNotFound), None]);
        sleep(2 * SECOND).await;
    }
    assert_eq!(fixture.sent(), ["read 3", "get 404", "read 3"]);
}

#[tokio::test(start_paused = true)]
async fn reads_that_a_batch_does_not_mention_are_made_individually_only_if_they_are_few() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(_) => Scripted::now(Ok(Response::Batch(BatchResponse::default()))),
        request => Scripted::now(ordinary(request)),
    });
    let results = fixture.queued(["1", "2"].map(get)).await;
    assert_leads(results, ["1", "2"]);
    assert_eq!(fixture.sent(), ["read 2", "get 1", "get 2"]);
    sleep(2 * SECOND).await;
    for result in fixture.queued(gets(1..=20)).await {
        assert_eq!(result.unwrap_err().reason(), Reason::UpstreamInvalidResponse);
    }
    assert_eq!(fixture.sent()[3..], ["read 20", "read 20"]);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_finds_no_lead_on_its_own_is_cached_as_well() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::Get(_) => Scripted::now(Err(Error::lead_not_found())),
        _ => {
            let errors = ["404", "405"].map(|id| about_id(Reason::LeadNotFound, id)).to_vec();
            Scripted::now(Ok(Response::Batch(BatchResponse { results: Vec::new(), errors })))
        }
    });
    assert_eq!(lead_in(fixture.call(get("404")).await), Err(Error::lead_not_found()));
    sleep(2 * SECOND).await;
    let results = fixture.queued(["404", "405"].map(get)).await;
    for result in results {
        assert_eq!(result.unwrap_err().reason(), Reason::LeadNotFound);
    }
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
        // The read of the open ones does not show the written value.
        let read = format!("read {}", ids.len() - mentioned.len());
        let mut expected = vec!["update 3 leads".to_owned(), read];
        // Three open ones are sent as one batch before.
        let is_batch = ids.len() - mentioned.len() > 2;
        expected.extend(is_batch.then(|| "update 3 leads".to_owned()));
        expected.extend(individual.map(|id| format!("update {id}")));
        assert_eq!(fixture.sent(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn updates_that_an_error_leaves_open_are_sent_individually_and_not_as_a_batch_again() {
    // HubSpot does not know the path of the batch.
    let fixture = Fixture::new(move |sent| match &*sent.request {
        Request::BatchUpdate(_) => Scripted::now(Err(unknown_path())),
        request => Scripted::now(ordinary(request)),
    });
    let ids = ["1", "2", "3", "4"];
    assert_leads(fixture.queued(ids.map(|id| update(id, "Ada"))).await, ids);
    let expected = ["update 4 leads", "update 1", "update 2", "update 3", "update 4"];
    assert_eq!(fixture.sent(), expected);
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
    let Request::Create(input) = (*create("Ada")).clone() else { unreachable!() };
    let creates = ["a", "b"].map(|id| Traced { trace_id: id.to_owned(), input: input.clone() });
    fixture.call(Arc::new(Request::BatchCreate(creates.to_vec()))).await.unwrap();
    let archives = Request::BatchArchive(vec![lead_id("1"), lead_id("2")]);
    fixture.call(Arc::new(archives)).await.unwrap();
    assert_eq!(fixture.sent(), ["create 2", "archive 2 leads"]);
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
async fn at_most_eight_requests_follow_a_batch_at_a_time() {
    let fixture = Fixture::new(|sent| match &*sent.request {
        Request::BatchRead(read) => {
            let limited = |id: &LeadId| about_id(Reason::RateLimited, id.as_str());
            let errors = read.ids.iter().map(limited).collect();
            Scripted::now(Ok(Response::Batch(BatchResponse { results: Vec::new(), errors })))
        }
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
        let update = UpdateLead {
            id: lead_id(id),
            id_property,
            properties: BTreeMap::new(),
            trace_id: None,
        };
        UpdateBatch::batchable(&update, &capabilities).is_some()
    };
    assert!(batchable("1", None));
    assert!(!batchable("01", None));
    assert!(!batchable("a@x", Some("email")), "the echo of trace ids is not confirmed");
    assert!(ArchiveBatch::batchable(&lead_id("1")).is_some());
    assert!(ArchiveBatch::batchable(&lead_id("01")).is_none());
}
