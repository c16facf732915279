//! The use cases, over an upstream that records requests.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers a few requests")]

mod deadlines;
mod labels;
mod scenarios;
mod validation;

use std::{collections::BTreeMap, time::Duration};

use leadsd_base::time::SystemClock;

use super::*;
use crate::leads::{
    error::Reason,
    idempotency::{RequestId, testing::InMemoryRequestIds},
    memory::HeapSize as _,
    request::{BatchItem, ChunkOutcomes, Outcome, Response},
    testing::{RecordingUpstream, TestAccount},
    validator::ValidationSettings,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

fn service() -> Service {
    service_with_limit(1 << 20)
}

/// A service whose responses have at most `max_bytes` bytes of ids.
fn service_with_limit(max_bytes: usize) -> Service {
    validating_service(max_bytes, ValidationSettings::default())
}

fn validating_service(max_bytes: usize, validation: ValidationSettings) -> Service {
    Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes, lead_size: |lead| lead.id.len() },
        validation,
        clock: Arc::new(SystemClock),
    })
}

/// Replicas on one store of request ids.
fn replicas<const N: usize>() -> (Arc<InMemoryRequestIds>, [Service; N]) {
    let store = InMemoryRequestIds::new();
    let replica = |_| {
        let port: Arc<dyn RequestIdStore> = Arc::<InMemoryRequestIds>::clone(&store);
        service().sharing_request_ids(port)
    };
    let replicas = std::array::from_fn(replica);
    (store, replicas)
}

fn id(text: &str) -> LeadId {
    LeadId::parse(text).expect("a valid id")
}

fn request_id(text: &str) -> Option<RequestId> {
    Some(RequestId::parse(text).expect("a valid id"))
}

fn named(id: &str) -> Lead {
    Lead { id: id.to_owned(), ..Lead::default() }
}

fn get(text: &str) -> GetLead {
    GetLead { id: id(text), id_property: None, selection: Default::default(), archived: false }
}

fn batch_get(ids: &[&str]) -> BatchGet {
    BatchGet {
        ids: ids.iter().map(|text| id(text)).collect(),
        id_property: None,
        properties: Vec::new(),
        properties_with_history: Vec::new(),
        associations: Vec::new(),
        archived: false,
    }
}

fn update(text: &str) -> UpdateLead {
    UpdateLead { id: id(text), id_property: None, properties: BTreeMap::new(), trace_id: None }
}

fn create(name: &str) -> CreateLead {
    let properties = BTreeMap::from([("hs_lead_name".to_owned(), name.to_owned())]);
    CreateLead { properties, associations: Vec::new(), contact: None, trace_id: None }
}

fn upsert(text: &str) -> UpsertLead {
    UpsertLead {
        id: id(text),
        id_property: Some("email".to_owned()),
        properties: BTreeMap::new(),
        associations: Vec::new(),
        contact: None,
    }
}

fn traced<T>(trace_id: &str, input: T) -> Traced<T> {
    Traced { trace_id: trace_id.to_owned(), input }
}

fn item(id: &str, created: Option<bool>) -> Outcome {
    Ok(Some(BatchItem { lead: named(id), trace_id: None, created }))
}

fn outcomes(outcomes: Vec<Outcome>) -> Result<Response, Error> {
    Ok(Response::Outcomes(ChunkOutcomes { outcomes, evaluated: true }))
}

fn rejected() -> Error {
    Error::new(Reason::ValidationFailed, "the value is invalid")
}

fn unknown() -> Error {
    Error::new(Reason::WriteOutcomeUnknown, "the response is lost")
        .with_side_effect(SideEffect::Possible)
}

/// Responds to a batch read with a lead for each id, named after it.
fn read_all(request: &Request) -> Result<Response, Error> {
    let Request::BatchRead(request) = request else { panic!("not a batch read: {request:?}") };
    outcomes(request.ids.iter().map(|id| item(id.as_str(), None)).collect())
}

fn reads(upstream: &RecordingUpstream) -> Vec<BatchRead> {
    let read = |request| match request {
        Request::BatchRead(request) => request,
        other => panic!("not a batch read: {other:?}"),
    };
    upstream.requests().into_iter().map(read).collect()
}

#[tokio::test(start_paused = true)]
async fn a_read_returns_what_the_upstream_returns() {
    let page = Page { leads: vec![named("2")], after: Some("2".to_owned()) };
    let found = SearchPage { leads: vec![named("3")], after: None, total: 9 };
    let (responds_page, responds_found) = (page.clone(), found.clone());
    let upstream = RecordingUpstream::new(move |_, request| match request {
        Request::Get(_) => Ok(Response::Lead(named("1").into())),
        Request::List(_) => Ok(Response::Page(responds_page.clone().into())),
        Request::Search(_) => Ok(Response::SearchPage(responds_found.clone().into())),
        other => panic!("not a read: {other:?}"),
    });
    let ctx = upstream.context(None);
    assert_eq!(service().get(&ctx, get("1")).await, Ok(named("1").into()));
    let list = ListLeads { limit: 10, after: None, selection: Default::default(), archived: false };
    assert_eq!(service().list(&ctx, list.clone()).await, Ok(page.into()));
    let search = SearchLeads {
        query: "ada".to_owned(),
        filter_groups: Vec::new(),
        sort: None,
        properties: Vec::new(),
        limit: 10,
        after: None,
    };
    assert_eq!(service().search(&ctx, search.clone()).await, Ok(found.into()));
    let requests = [Request::Get(get("1")), Request::List(list), Request::Search(search)];
    assert_eq!(upstream.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn each_position_of_a_batch_get_has_its_lead_and_each_id_is_read_once() {
    let upstream = RecordingUpstream::new(|_, request| read_all(request));
    let ctx = upstream.context(None);
    let leads = service().batch_get(&ctx, batch_get(&["a", "b", "a", "c", "b"])).await;
    let ids: Vec<_> =
        leads.expect("results").into_iter().map(|lead| lead.expect("a lead").id.clone()).collect();
    assert_eq!(ids, ["a", "b", "a", "c", "b"]);
    let reads = reads(&upstream);
    assert_eq!(reads[0].ids, [id("a"), id("b"), id("c")]);
    assert!(reads[0].properties.is_empty(), "HubSpot's default set");
    assert_eq!(reads.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn equal_ids_of_a_batch_get_share_one_lead() {
    let upstream = RecordingUpstream::new(|_, request| read_all(request));
    let ctx = upstream.context(None);
    let leads = service().batch_get(&ctx, batch_get(&["a"; 10_000])).await.expect("results");
    let first = leads[0].as_ref().expect("a lead");
    assert!(leads.iter().flatten().all(|lead| Arc::ptr_eq(lead, first)));
    assert_eq!(leads.len(), 10_000);
}

#[tokio::test(start_paused = true)]
async fn unique_values_that_differ_in_case_are_read_once() {
    for (ids, id_property, sent) in [
        (["Key-1", "key-1", "b"], Some("crm_key"), &["Key-1", "b"][..]),
        (["\u{c4}", "\u{e4}", "b"], Some("crm_key"), &["\u{c4}", "\u{e4}", "b"]),
        (["Key-1", "key-1", "b"], None, &["Key-1", "key-1", "b"]),
        (["Key-1", "key-1", "b"], Some("hs_object_id"), &["Key-1", "key-1", "b"]),
    ] {
        let upstream = RecordingUpstream::new(|_, request| read_all(request));
        let ctx = upstream.context(None);
        let id_property = id_property.map(str::to_owned);
        let request = BatchGet { id_property, ..batch_get(&ids) };
        let leads = service().batch_get(&ctx, request).await.expect("results");
        assert_eq!(reads(&upstream)[0].ids, sent.iter().map(|text| id(text)).collect::<Vec<_>>());
        let found: Vec<_> = leads.iter().flatten().map(|lead| lead.id.as_str()).collect();
        assert_eq!(found, [sent[0], if sent.len() == 2 { sent[0] } else { ids[1] }, "b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn leads_that_do_not_fit_in_the_response_fail_and_no_more_are_read() {
    let ids: Vec<_> = (0..1_000).map(|number| format!("{number:04}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let upstream = RecordingUpstream::new(|_, request| read_all(request));
    let account = TestAccount::new(1 << 20);
    let mut ctx = upstream.context(None);
    ctx.memory = Arc::<TestAccount>::clone(&account);
    let service = service_with_limit(250 * 4);
    let leads = service.batch_get(&ctx, batch_get(&ids)).await.expect("results");
    let (read, failed): (Vec<_>, Vec<_>) = leads.into_iter().partition(Result::is_ok);
    assert_eq!((read.len(), failed.len()), (250, 750));
    for error in failed.into_iter().map(|result| result.expect_err("it does not fit")) {
        assert_eq!(error.reason(), Reason::ResponseTooLarge);
        assert!(error.message().contains("read this lead in another call"), "{error}");
    }
    assert!(upstream.requests().len() <= 4, "{} requests", upstream.requests().len());
    assert!(account.peak() > 0, "leads are charged while others are read");
    assert_eq!(account.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_batch_get_without_memory_fails_and_a_batch_write_returns_its_outcomes() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::BatchCreate(inputs) => {
            outcomes(inputs.iter().map(|input| item(&input.trace_id, Some(true))).collect())
        }
        request => read_all(request),
    });
    let mut ctx = upstream.context(None);
    ctx.memory = TestAccount::new(10);
    let read = service().batch_get(&ctx, batch_get(&["a", "b"])).await.expect("results");
    assert!(read.iter().all(|result| {
        result.as_ref().is_err_and(|error| error.reason() == Reason::Overloaded)
    }));
    let inputs = ["a", "b"].map(|name| traced(name, create(name))).to_vec();
    let created = service_with_limit(1).batch_create(&ctx, None, inputs).await.expect("results");
    let created: Vec<_> = created.into_iter().map(|lead| lead.expect("created")).collect();
    assert_eq!((created[0].id.as_str(), created[0].is_id_only), ("a", false));
    assert_eq!((created[1].id.as_str(), created[1].is_id_only), ("b", true));
}

#[tokio::test(start_paused = true)]
async fn a_batch_get_by_a_unique_property_also_reads_that_property() {
    let upstream = RecordingUpstream::new(|_, request| read_all(request));
    let ctx = upstream.context(None);
    let by_email = BatchGet { id_property: Some("email".to_owned()), ..batch_get(&["a"]) };
    service().batch_get(&ctx, by_email.clone()).await.expect("results");
    let name = BatchGet { properties: vec!["hs_lead_name".to_owned()], ..by_email.clone() };
    service().batch_get(&ctx, name).await.expect("results");
    let email = BatchGet { properties: vec!["email".to_owned()], ..by_email };
    service().batch_get(&ctx, email).await.expect("results");
    let reads = reads(&upstream);
    let mut default = DEFAULT_PROPERTIES.to_vec();
    default.push("email");
    assert_eq!(reads[0].properties, default);
    assert_eq!(reads[1].properties, ["hs_lead_name", "email"]);
    assert_eq!(reads[2].properties, ["email"]);
    assert!(reads.iter().all(|read| read.id_property.as_deref() == Some("email")));
}

#[tokio::test(start_paused = true)]
async fn a_large_batch_get_is_divided_and_one_with_history_into_smaller_parts() {
    let ids: Vec<_> = (0..101).map(|number| number.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let upstream = RecordingUpstream::new(|_, request| read_all(request));
    let ctx = upstream.context(None);
    let leads = service().batch_get(&ctx, batch_get(&ids)).await.expect("results");
    assert_eq!(leads.len(), 101);
    let history = vec!["hs_lead_name".to_owned()];
    let with_history = BatchGet { properties_with_history: history.clone(), ..batch_get(&ids) };
    service().batch_get(&ctx, with_history).await.expect("results");
    let reads = reads(&upstream);
    let mut sizes: Vec<_> = reads.iter().map(|read| read.ids.len()).collect();
    sizes[..2].sort_unstable();
    sizes[2..].sort_unstable();
    assert_eq!(sizes, [1, 100, 1, 50, 50]);
    assert!(reads[2..].iter().all(|read| read.properties_with_history == history));
}

#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl crate::leads::Upstream for Silent {
    async fn call(&self, _: &CallContext, _: Request) -> Result<Response, Error> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_ends_at_its_deadline_and_its_outcome_is_open() {
    let mut ctx = RecordingUpstream::new(|_, _| Err(rejected())).context(None);
    ctx.portal = Arc::new(crate::leads::Portal {
        name: ctx.portal.name.clone(),
        upstream: Arc::new(Silent),
        settings: crate::leads::PortalSettings::default(),
    });
    let error = service().update(&ctx, None, update("1")).await.expect_err("late");
    assert_eq!(tokio::time::Instant::now(), ctx.deadline);
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(error.side_effect(), SideEffect::Possible);
}

#[tokio::test(start_paused = true)]
async fn each_write_sends_its_request_and_returns_its_response() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::Create(_) => Ok(Response::Lead(named("created").into())),
        Request::Update(_) => Ok(Response::Lead(named("updated").into())),
        Request::Archive(_) => Ok(Response::Archived),
        Request::Upsert { inputs, .. } => {
            outcomes(inputs.iter().map(|input| item(input.input.id.as_str(), Some(true))).collect())
        }
        other => panic!("not a single write: {other:?}"),
    });
    let ctx = upstream.context(None);
    let service = service();
    assert_eq!(service.create(&ctx, None, create("Ada")).await, Ok(named("created").into()));
    assert_eq!(service.update(&ctx, None, update("1")).await, Ok(named("updated").into()));
    assert_eq!(service.archive(&ctx, None, id("1")).await, Ok(()));
    let upserted = service.upsert(&ctx, None, traced("t", upsert("a"))).await;
    assert_eq!(
        upserted,
        Ok(crate::leads::Upserted { lead: named("a").into(), created: Some(true) })
    );
    let requests = [
        Request::Create(create("Ada")),
        Request::Update(update("1")),
        Request::Archive(id("1")),
        Request::Upsert { inputs: vec![traced("t", upsert("a"))], concurrency: 2 },
    ];
    assert_eq!(upstream.requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn each_write_of_many_leads_returns_one_result_per_input() {
    let upstream = RecordingUpstream::new(|_, request| match request {
        Request::BatchArchive(ids) => outcomes(
            ids.iter()
                .map(|id| if id.as_str() == "b" { Err(rejected()) } else { Ok(None) })
                .collect(),
        ),
        _ => outcomes(vec![item("1", Some(true)), Err(rejected()), item("3", None)]),
    });
    let ctx = upstream.context(None);
    let service = service();
    let leads = vec![Ok(named("1").into()), Err(rejected()), Ok(named("3").into())];
    let inputs = ["a", "b", "c"].map(|name| traced(name, create(name))).to_vec();
    assert_eq!(service.batch_create(&ctx, None, inputs).await, Ok(leads.clone()));
    let inputs = ["a", "b", "c"].map(|name| traced(name, update(name))).to_vec();
    assert_eq!(service.batch_update(&ctx, None, inputs).await, Ok(leads));
    let inputs = ["a", "b", "c"].map(|name| traced(name, upsert(name))).to_vec();
    let upserts = service.batch_upsert(&ctx, None, inputs).await.expect("results");
    let upserts: Vec<_> = upserts
        .into_iter()
        .map(|upserted| upserted.map(|upserted| (upserted.lead.id.clone(), upserted.created)))
        .collect();
    let upserted = |id: &str, created| Ok((id.to_owned(), created));
    assert_eq!(upserts, [upserted("1", Some(true)), Err(rejected()), upserted("3", None)]);
    // Duplicates are archived once.
    let archived = service.batch_archive(&ctx, None, ["a", "b", "a"].map(id).to_vec()).await;
    assert_eq!(archived, Ok(vec![Ok(()), Err(rejected()), Ok(())]));
    let requests = upstream.requests();
    assert!(matches!(requests[0], Request::BatchCreate(_)));
    assert!(matches!(requests[1], Request::BatchUpdate(_)));
    assert!(matches!(requests[2], Request::Upsert { .. }));
    assert_eq!(requests[3], Request::BatchArchive(vec![id("a"), id("b")]));
}

#[tokio::test(start_paused = true)]
async fn an_input_without_an_outcome_is_reported_as_possibly_written() {
    let upstream = RecordingUpstream::new(|_, _| outcomes(vec![Ok(None)]));
    let ctx = upstream.context(None);
    let created = service().batch_create(&ctx, None, vec![traced("a", create("a"))]).await;
    let error = created.expect("results").remove(0).expect_err("no outcome");
    assert_eq!((error.reason(), error.side_effect()), (Reason::Internal, SideEffect::Possible));
    let upserted = service().upsert(&ctx, None, traced("a", upsert("a"))).await;
    assert_eq!(upserted.expect_err("no outcome").side_effect(), SideEffect::Possible);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_with_the_same_request_id_returns_the_first_response() {
    let upstream = RecordingUpstream::new(|number, request| match request {
        Request::Create(_) | Request::Update(_) => {
            Ok(Response::Lead(named(&number.to_string()).into()))
        }
        Request::Archive(_) => Ok(Response::Archived),
        Request::BatchArchive(ids) => outcomes(vec![Ok(None); ids.len()]),
        Request::BatchCreate(inputs) => outcomes(vec![item("1", None); inputs.len()]),
        Request::BatchUpdate(inputs) => outcomes(vec![item("1", None); inputs.len()]),
        Request::Upsert { inputs, .. } => outcomes(vec![item("1", Some(false)); inputs.len()]),
        other => panic!("not a write: {other:?}"),
    });
    let ctx = upstream.context(None);
    let service = service();
    for trace_id in ["first", "second"] {
        let lead = service.create(&ctx, request_id("create"), create("Ada")).await;
        assert_eq!(lead.expect("a lead").id, "0");
        service.update(&ctx, request_id("update"), update("1")).await.expect("a lead");
        service.archive(&ctx, request_id("archive"), id("1")).await.expect("archived");
        let input = traced(trace_id, upsert("a"));
        service.upsert(&ctx, request_id("upsert"), input.clone()).await.expect("a lead");
        service.batch_upsert(&ctx, request_id("upserts"), vec![input]).await.expect("results");
        let input = traced(trace_id, create("a"));
        service.batch_create(&ctx, request_id("creates"), vec![input]).await.expect("results");
        let input = traced(trace_id, update("a"));
        service.batch_update(&ctx, request_id("updates"), vec![input]).await.expect("results");
        let ids = vec![id("1")];
        service.batch_archive(&ctx, request_id("archives"), ids).await.expect("results");
        assert_eq!(upstream.requests().len(), 8, "trace ids differ between repeats");
    }
    // Another request under the same id.
    for error in [
        service.create(&ctx, request_id("create"), create("Bob")).await.expect_err("reused"),
        service.update(&ctx, request_id("create"), update("1")).await.expect_err("reused"),
    ] {
        assert_eq!(error.reason(), Reason::RequestIdReused);
    }
    assert_eq!(upstream.requests().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_response_is_stored_only_if_any_part_of_the_write_may_have_had_an_effect() {
    let failed = || Error::new(Reason::Overloaded, "the queue is full");
    let upstream = RecordingUpstream::new(move |_, request| match request {
        // None of them acted.
        Request::Create(_) | Request::Archive(_) => Err(failed()),
        Request::BatchArchive(_) => outcomes(vec![Err(failed()), Err(failed())]),
        Request::BatchUpdate(_) => Err(failed()),
        // It may have acted.
        Request::Update(_) => Err(unknown()),
        Request::BatchCreate(_) => outcomes(vec![Err(failed()), Err(unknown())]),
        Request::Upsert { .. } => outcomes(vec![item("1", None), Err(failed())]),
        other => panic!("not a write: {other:?}"),
    });
    let ctx = upstream.context(None);
    let service = service();
    for _ in 0..2 {
        let _ = service.create(&ctx, request_id("create"), create("Ada")).await;
        let _ = service.archive(&ctx, request_id("archive"), id("1")).await;
        let _ = service.batch_archive(&ctx, request_id("archives"), vec![id("1"), id("2")]).await;
        let inputs = vec![traced("a", update("a"))];
        let _ = service.batch_update(&ctx, request_id("updates"), inputs).await;
        let _ = service.update(&ctx, request_id("update"), update("1")).await;
        let inputs = vec![traced("a", create("a")), traced("b", create("b"))];
        let _ = service.batch_create(&ctx, request_id("creates"), inputs).await;
        let inputs = vec![traced("a", upsert("a")), traced("b", upsert("b"))];
        let _ = service.batch_upsert(&ctx, request_id("upserts"), inputs).await;
    }
    // Of the last three, a repeat sends the inputs without a result again; an unknown create without a
    // tag cannot be resolved.
    let sent: Vec<usize> = upstream.requests().iter().map(Request::leads).collect();
    assert_eq!(sent, [1, 1, 2, 1, 1, 2, 2, 1, 1, 2, 1, 1, 1, 1]);
}

#[test]
fn the_size_of_a_stored_response_includes_all_its_leads() {
    let lead = || Arc::new(named(&"7".repeat(1_000)));
    let one = || crate::leads::Upserted { lead: lead(), created: Some(true) };
    let responses = [
        (WriteResponse::Lead(Ok(lead())), 1),
        (WriteResponse::Upserted(Ok(one())), 1),
        (WriteResponse::Leads(Ok(vec![Ok(lead()), Err(rejected()), Ok(lead())])), 2),
        (WriteResponse::Upserts(Ok(vec![Ok(one()), Ok(one()), Ok(one())])), 3),
    ];
    for (response, leads) in responses {
        let size = response.heap_size();
        assert!(size >= leads * 1_000, "{size} bytes: {response:?}");
        assert!(size < (leads + 1) * 2_000, "{size} bytes: {response:?}");
    }
    let archived = [WriteResponse::Archived(Ok(())), WriteResponse::Archives(Ok(vec![Ok(())]))];
    assert!(archived.iter().all(|response| response.heap_size() < 1_000));
}

#[test]
fn the_audit_trail_counts_the_results_of_every_kind_of_write() {
    use crate::leads::audit::Tallied as _;
    let one = |id: &str| crate::leads::Upserted { lead: named(id).into(), created: Some(false) };
    let responses = [
        (WriteResponse::Lead(Ok(named("1").into())), vec!["1"], 1, 0),
        (WriteResponse::Lead(Err(rejected())), vec![], 0, 1),
        (WriteResponse::Archived(Ok(())), vec![], 1, 0),
        (WriteResponse::Upserted(Ok(one("1"))), vec!["1"], 1, 0),
        (WriteResponse::Leads(Ok(vec![Ok(named("1").into()), Err(rejected())])), vec!["1"], 1, 1),
        (WriteResponse::Upserts(Ok(vec![Ok(one("1")), Ok(one("2"))])), vec!["1", "2"], 2, 0),
        (WriteResponse::Archives(Ok(vec![Ok(()), Err(rejected())])), vec![], 1, 1),
    ];
    for (response, ids, done, failed) in responses {
        let tally = response.tally();
        let ids: Vec<_> = ids.into_iter().map(str::to_owned).collect();
        assert_eq!((tally.ids, tally.done), (ids, done), "{response:?}");
        assert_eq!(tally.failed.get("VALIDATION_FAILED").copied().unwrap_or(0), failed);
        assert_eq!(tally.error, None);
    }
    let tally = WriteResponse::Leads(Err(unknown())).tally();
    assert_eq!((tally.done, tally.error), (0, Some(Reason::WriteOutcomeUnknown)));
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_outcome_is_unknown_is_resolved_by_a_repeat() {
    // Four creates are lost, and every lookup finds nothing. The repeat finds the lead.
    let upstream = RecordingUpstream::new(|number, request| match request {
        Request::Create(_) => Err(unknown()),
        Request::BatchRead(read) if number >= 8 => {
            let property = read.id_property.clone().expect("a lookup");
            let mut lead = named("7");
            lead.properties.insert(property, read.ids[0].as_str().to_owned());
            outcomes(vec![Ok(Some(BatchItem { lead, trace_id: None, created: None }))])
        }
        Request::BatchRead(_) => outcomes(vec![Err(Error::lead_not_found())]),
        other => panic!("neither a create nor a lookup: {other:?}"),
    });
    let mut ctx = upstream.context(Some("request_id"));
    let service = service();
    let lost = service.create(&ctx, request_id("a"), create("Ada")).await.expect_err("lost");
    assert_eq!(lost.side_effect(), SideEffect::Possible);
    assert_eq!(upstream.requests().len(), 8);
    ctx.deadline += Duration::from_secs(60);
    let lead = service.create(&ctx, request_id("a"), create("Ada")).await.expect("found");
    assert_eq!(lead.id, "7");
    let repeat = service.create(&ctx, request_id("a"), create("Ada")).await.expect("kept");
    assert_eq!(repeat.id, "7");
    assert_eq!(upstream.requests().len(), 9, "one lookup, and no other create");
}
