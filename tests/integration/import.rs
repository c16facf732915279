//! ImportLeads over sockets: outcomes, back-pressure, clients that disconnect, drain, killed replicas, errors.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{Stream, StreamExt as _, stream};
use leadsd::grpc::pb::{
    self, import_leads_request, import_leads_response, import_result, import_row,
    leads_service_client::LeadsServiceClient,
};
use leadsd_hubspot_fake::{FakeHubspot, Gate, ScriptedResponse};
use leadsd_testkit::{ChaosProxy, Direction, Process};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{
    binary::{config, fake_hubspot, fake_vault},
    harness::{
        LEADSD, PATIENCE, TestApp, eventually, failure, metrics_page, properties, wait_ready,
    },
};

/// Maximum number of rows that the service reads ahead of results.
const MAX_ROWS: usize = 2_000;

/// Property with unique values.
const REQUEST_KEY: &str = "request_key";

const OPEN: &str = "leadsd_admission_used{limit=\"imports\"}";

/// Metric of the messages that were read.
const RECEIVED: &str = "grpc_server_msg_received_total{grpc_type=\"bidi_stream\",\
                        grpc_service=\"leadsd.v1.LeadsService\",grpc_method=\"ImportLeads\"}";

type Client = LeadsServiceClient<Channel>;
type Results = BTreeMap<String, pb::ImportResult>;

fn settings(id: &str) -> pb::ImportSettings {
    pb::ImportSettings { import_id: id.to_owned(), ..Default::default() }
}

fn start(settings: pb::ImportSettings) -> pb::ImportLeadsRequest {
    let content = Some(import_leads_request::Content::Settings(settings));
    pb::ImportLeadsRequest { content }
}

fn row(key: &str, write: import_row::Write) -> pb::ImportLeadsRequest {
    let row = pb::ImportRow { key: key.to_owned(), write: Some(write) };
    pb::ImportLeadsRequest { content: Some(import_leads_request::Content::Row(row)) }
}

/// Name of the lead of a row.
fn name(key: &str) -> String {
    format!("lead {key}")
}

/// A row that creates a lead with the name of its key.
fn create(contact: &str, key: &str) -> pb::ImportLeadsRequest {
    let create = pb::LeadCreate {
        properties: properties(&[("hs_lead_name", &name(key))]),
        primary_contact_id: contact.to_owned(),
        ..Default::default()
    };
    row(key, import_row::Write::Create(create))
}

/// A stream with a client that sends what the test tells it to.
struct Import {
    requests: Option<mpsc::Sender<pb::ImportLeadsRequest>>,
    responses: Streaming<pb::ImportLeadsResponse>,
}

// === impl Import ===

impl Import {
    async fn start(client: &Client, settings: pb::ImportSettings) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(1_000);
        sender.send(self::start(settings)).await.expect("a channel");
        let responses = client.clone().import_leads(received(receiver)).await?;
        Ok(Self { requests: Some(sender), responses: responses.into_inner() })
    }

    async fn send(&self, request: pb::ImportLeadsRequest) {
        self.requests.as_ref().expect("open requests").send(request).await.expect("a stream");
    }

    /// Ends the requests.
    fn close(&mut self) {
        self.requests = None;
    }

    async fn next(&mut self) -> Option<Result<import_leads_response::Content, Status>> {
        let message = tokio::time::timeout(PATIENCE, self.responses.next());
        let message = message.await.expect("a message in time")?;
        Some(message.map(|message| message.content.expect("a content")))
    }

    /// Adds the results up to the summary, the error, or the end.
    async fn collect(&mut self, results: &mut Results) -> Result<pb::ImportSummary, Status> {
        loop {
            match self.next().await.expect("a summary or an error")? {
                import_leads_response::Content::Result(result) => {
                    let old = results.insert(result.key.clone(), result);
                    assert!(old.is_none(), "one result for each row: {old:?}");
                }
                import_leads_response::Content::Summary(summary) => {
                    assert!(self.next().await.is_none(), "the summary is the last message");
                    return Ok(summary);
                }
            }
        }
    }
}

/// Sends rows and reads results at the same time. Returns the end of the stream.
async fn import(
    client: &Client,
    settings: pb::ImportSettings,
    rows: Vec<pb::ImportLeadsRequest>,
    results: &mut Results,
) -> Result<pb::ImportSummary, Status> {
    let mut import = Import::start(client, settings).await?;
    let requests = import.requests.take().expect("open requests");
    let send = async move {
        for row in rows {
            // The stream has ended.
            if requests.send(row).await.is_err() {
                return;
            }
        }
    };
    let ((), end) = tokio::join!(send, import.collect(results));
    end
}

/// Stream of the items of a channel.
fn received<T: Send>(receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    })
}

async fn client(address: &str) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).expect("a URL");
    LeadsServiceClient::new(channel.connect().await.expect("a connection"))
}

fn lead(result: &pb::ImportResult) -> &pb::Lead {
    match &result.outcome {
        Some(import_result::Outcome::Lead(lead)) => lead,
        Some(import_result::Outcome::Error(_)) | None => panic!("{result:?}"),
    }
}

fn code(result: &pb::ImportResult) -> Option<Code> {
    match result.outcome.as_ref()? {
        import_result::Outcome::Lead(_) => None,
        import_result::Outcome::Error(status) => Some(Code::from_i32(status.code)),
    }
}

/// Value of a metric.
async fn value(app: &TestApp, metric: &str) -> String {
    let page = metrics_page(&app.admin).await.expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix(metric));
    line.expect("the metric").trim().to_owned()
}

/// Asserts that HubSpot has each of these leads once.
fn assert_written_once(hubspot: &FakeHubspot, keys: impl Iterator<Item = String>) {
    let names = hubspot.lead_names();
    let distinct: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(names.len(), distinct.len(), "a lead is doubled");
    assert_eq!(distinct, keys.map(|key| name(&key)).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_all_kinds_are_written_in_few_calls_and_summed_up() {
    let app = TestApp::start().await;
    app.hubspot.add_unique_property("crm_key");
    let [updated, archived] = ["updated", "archived"].map(|name| app.lead(name));
    let properties = |value: &str| properties(&[("hs_lead_name", value)]);
    let upsert = |key: &str| {
        let upsert = pb::LeadUpsert {
            id: key.to_owned(),
            id_property: "crm_key".to_owned(),
            properties: properties(key),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        row(key, import_row::Write::Upsert(upsert))
    };
    let update = pb::LeadUpdate {
        id: updated.clone(),
        properties: properties("renamed"),
        ..Default::default()
    };
    let mut rows: Vec<_> = (0..600).map(|key| create(&app.contact, &format!("c-{key}"))).collect();
    rows.push(row("update", import_row::Write::Update(update)));
    rows.push(row("archive", import_row::Write::Archive(pb::LeadArchive { id: archived })));
    rows.extend((0..20).map(|key| upsert(&format!("u-{key}"))));
    rows.push(row("empty", import_row::Write::Create(pb::LeadCreate::default())));
    rows.push(create("4711", "bad"));
    let mut results = Results::new();
    let summary = import(&app.leads, settings("i"), rows, &mut results).await.unwrap();
    let calls = app.hubspot_calls().len();
    assert!(calls < 350, "{calls}: the first calls find free permits, and the others are batched");
    let expected = pb::ImportSummary {
        rows: 624,
        created: 620,
        updated: 1,
        archived: 1,
        failed: 2,
        complete: true,
        quota_cost: summary.quota_cost,
        ..Default::default()
    };
    assert_eq!(summary, expected);
    assert!((summary.quota_cost - calls as f64).abs() < 1.0, "{} {calls}", summary.quota_cost);
    assert!((0..600).all(|key| results[&format!("c-{key}")].created));
    assert_eq!(lead(&results["update"]).id, updated);
    assert!(results["archive"].outcome.is_none());
    assert_eq!(code(&results["empty"]), Some(Code::InvalidArgument));
    assert!(code(&results["bad"]).is_some());
    // A repeat returns the results of the first stream.
    let mut again = Results::new();
    let rows = vec![create(&app.contact, "c-0"), upsert("u-0")];
    import(&app.leads, settings("i"), rows, &mut again).await.unwrap();
    assert_eq!(lead(&again["c-0"]).id, lead(&results["c-0"]).id);
    assert!(again["u-0"].created);
    for (metric, expected) in [
        ("leadsd_import_rows_total{outcome=\"created\"}", "622.0"),
        ("leadsd_import_rows_total{outcome=\"failed\"}", "2.0"),
        ("leadsd_import_ended_total{end=\"complete\"}", "2.0"),
    ] {
        eventually(metric, || async { value(&app, metric).await == expected }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_trace_ids_share_batches_whatever_their_values_are() {
    const ROWS: usize = 2_000;
    let app = TestApp::start().await;
    let name = |number: usize| match number % 4 {
        0 => format!("{number}"),
        1 => format!("M\u{fc}ller {number}"),
        2 => format!("{number} Main St"),
        _ => format!("Acme-{number}"),
    };
    let rows = (0..ROWS).map(|number| {
        let create = pb::LeadCreate {
            properties: properties(&[("hs_lead_name", &name(number))]),
            primary_contact_id: app.contact.clone(),
            ..Default::default()
        };
        row(&number.to_string(), import_row::Write::Create(create))
    });
    let (before, mut results) = (app.hubspot.log().len(), Results::new());
    let summary = import(&app.leads, settings("values"), rows.collect(), &mut results).await;
    let calls = app.hubspot.log().len() - before;
    assert_eq!(summary.unwrap().created, 2_000);
    for (key, result) in &results {
        let own = name(key.parse().unwrap());
        assert_eq!(lead(result).properties["hs_lead_name"], own, "{key}");
    }
    assert_eq!(results.len(), ROWS);
    // Each kind of value has separate batches. The first that are sent together begin with batches of one.
    assert!(calls * 100 <= ROWS * 8, "{calls} calls for {ROWS} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_not_read() {
    const ROWS: usize = 6_000;
    let app = TestApp::start().await;
    let endpoint = Channel::from_shared(format!("http://{}", app.grpc)).expect("a URL");
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let narrow = LeadsServiceClient::new(endpoint.connect().await.expect("a connection"));
    let mut import = Import::start(&narrow, settings("i")).await.unwrap();
    let requests = import.requests.take().unwrap();
    let contact = app.contact.clone();
    let sending = tokio::spawn(async move {
        for number in 0..ROWS {
            requests.send(create(&contact, &number.to_string())).await.expect("a stream");
        }
    });
    let received = async || {
        let messages = value(&app, RECEIVED).await;
        messages.trim_end_matches(".0").parse::<usize>().expect("a count")
    };
    // No result is read, and the service reads as far as it may. Some results are in the windows of HTTP/2.
    eventually("rows are read", || async { received().await > MAX_ROWS }).await;
    let memory = value(&app, "leadsd_admission_used{limit=\"memory\"}").await;
    assert!(memory.parse::<f64>().unwrap() < f64::from(64 << 20), "{memory}");
    for read in 0..ROWS {
        if read % 500 == 0 {
            let ahead = received().await.saturating_sub(read);
            assert!(ahead <= MAX_ROWS + 1_500, "{ahead} rows ahead of {read} results");
        }
        let message = import.next().await.unwrap().unwrap();
        assert!(matches!(message, import_leads_response::Content::Result(_)), "{message:?}");
    }
    sending.await.unwrap();
    let summary = import.collect(&mut Results::new()).await.unwrap();
    assert_eq!((summary.rows, summary.created), (6_000, 6_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_client_that_disconnects_are_written_and_its_repeat_doubles_nothing() {
    let app = TestApp::start().await;
    let gate = Gate::new();
    app.hubspot.script("POST", "/leads", ScriptedResponse::Held(gate.clone()));
    let mut results = Results::new();
    let mut first = Import::start(&app.leads, settings("i")).await.unwrap();
    for key in 0..50 {
        first.send(create(&app.contact, &key.to_string())).await;
    }
    while results.len() < 20 {
        match first.next().await.unwrap().unwrap() {
            import_leads_response::Content::Result(result) => {
                results.insert(result.key.clone(), result);
            }
            import_leads_response::Content::Summary(summary) => panic!("{summary:?}"),
        }
    }
    drop(first);
    assert_eq!(value(&app, OPEN).await, "1.0", "a row is held");
    gate.open();
    eventually("the slot is released", || async { value(&app, OPEN).await == "0.0" }).await;
    let open = (0..50).map(|key| key.to_string()).filter(|key| !results.contains_key(key));
    let rows = open.map(|key| create(&app.contact, &key)).collect();
    let summary = import(&app.leads, settings("i"), rows, &mut results).await.unwrap();
    assert_eq!((results.len(), summary.failed), (50, 0));
    assert_written_once(&app.hubspot, (0..50).map(|key| key.to_string()));
    let ended = "leadsd_import_ended_total{end=\"cancelled\"}";
    assert_eq!(value(&app, ended).await, "1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_repeated_and_each_row_has_one_result() {
    let app = TestApp::start().await;
    let proxy = ChaosProxy::start().await;
    proxy.connect_to(app.grpc.parse().unwrap());
    let address = proxy.address().to_string();
    let keys: Vec<String> = (0..1_500).map(|key| key.to_string()).collect();
    let is_bad = |key: &String| key.ends_with("77");
    let mut results = Results::new();
    let mut cuts = 0;
    while results.len() < keys.len() {
        let open = keys.iter().filter(|key| !results.contains_key(*key));
        let row = |key: &String| create(if is_bad(key) { "4711" } else { &app.contact }, key);
        let rows = open.map(row).collect();
        let client = client(&address).await;
        if cuts < 20 {
            let direction = [Direction::Request, Direction::Response][cuts % 2];
            proxy.cut_after(direction, 1_000 + cuts * 7_919 % 30_000);
        }
        let end = import(&client, settings("i"), rows, &mut results).await;
        assert_eq!(end.is_ok(), results.len() == keys.len(), "{end:?}");
        if end.is_err() {
            cuts += 1;
        }
        proxy.cancel_cut();
    }
    assert!(cuts >= 5, "{cuts} cuts");
    for (key, result) in &results {
        assert_eq!(code(result).is_some(), is_bad(key), "{key}: {result:?}");
    }
    assert_written_once(&app.hubspot, keys.into_iter().filter(|key| !is_bad(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_ends_its_imports_with_a_summary() {
    let app = TestApp::builder().set("PORTALS__default__REQUEST_ID_PROPERTY", REQUEST_KEY);
    let app = app.start().await;
    app.hubspot.add_unique_property(REQUEST_KEY);
    let replica = app.replica().set("GRPC__SHUTDOWN_GRACE", "20s");
    let replica = replica.set("PORTALS__default__REQUEST_ID_PROPERTY", REQUEST_KEY).start().await;
    let mut first = Import::start(&replica.leads, settings("i")).await.unwrap();
    for key in 0..100 {
        first.send(create(&app.contact, &key.to_string())).await;
    }
    let mut results = Results::new();
    // The requests stay open.
    let (summary, ()) = tokio::join!(first.collect(&mut results), replica.stop());
    let summary = summary.unwrap();
    assert!(summary.drained && !summary.complete, "{summary:?}");
    assert_eq!(summary.created, i64::try_from(results.len()).unwrap());
    assert_eq!((summary.rows, summary.unanswered), (summary.created, 0));
    let open = (0..100).map(|key| key.to_string()).filter(|key| !results.contains_key(key));
    let rows = open.map(|key| create(&app.contact, &key)).collect();
    let summary = import(&app.leads, settings("i"), rows, &mut results).await.unwrap();
    assert!(summary.complete && results.len() == 100, "{summary:?}");
    assert_written_once(&app.hubspot, (0..100).map(|key| key.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_doubles_nothing() {
    let (folder, hubspot) = (tempfile::tempdir().unwrap(), fake_hubspot().await);
    let contact = hubspot.add_contact("ada@example.com");
    hubspot.add_unique_property(REQUEST_KEY);
    let (vault, auth) = fake_vault(&folder, &hubspot).await;
    let file = config(&folder, &format!("http://{}", vault.address()), &auth, &hubspot);
    let property = [("LEADSD_PORTALS__default__REQUEST_ID_PROPERTY", REQUEST_KEY)];
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let process = Process::serve(LEADSD, &file, &property);
        wait_ready(&process.logged("admin.address").await).await;
        let client = client(&process.logged("grpc.address").await).await;
        replicas.push((process, client));
    }
    let keys: Vec<String> = (0..800).map(|key| key.to_string()).collect();
    let mut results = Results::new();
    let (mut killed, first) = replicas.remove(0);
    let rows = keys.iter().map(|key| create(&contact, key)).collect();
    let kill = async {
        eventually("some leads are created", || async { hubspot.leads().len() >= 100 }).await;
        killed.child.kill().expect("a process");
    };
    let (end, ()) = tokio::join!(import(&first, settings("i"), rows, &mut results), kill);
    end.unwrap_err();
    assert!(results.len() < keys.len());
    let open = keys.iter().filter(|key| !results.contains_key(*key));
    let rows = open.map(|key| create(&contact, key)).collect();
    let summary = import(&replicas[0].1, settings("i"), rows, &mut results).await.unwrap();
    assert!(summary.complete && summary.failed == 0, "{summary:?}");
    assert_eq!(results.len(), keys.len());
    assert_written_once(&hubspot, keys.into_iter());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_errors_stop_a_stream_and_its_requests_are_read_no_further() {
    let app = TestApp::start().await;
    let settings = pb::ImportSettings {
        stop_on_error_ratio: 0.5,
        stop_on_error_min_rows: 10,
        ..settings("i")
    };
    let rows =
        (0..5_000).map(|key| row(&key.to_string(), import_row::Write::Create(Default::default())));
    let mut results = Results::new();
    let summary = import(&app.leads, settings, rows.collect(), &mut results).await.unwrap();
    assert!(summary.stopped && !summary.complete, "{summary:?}");
    assert!((10..5_000).contains(&results.len()), "{}", results.len());
    assert_eq!((summary.failed, summary.unanswered), (summary.rows, 0));
    assert!(app.hubspot_calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_stream_name_the_row_and_come_after_no_other() {
    let app = TestApp::start().await;
    let archive =
        |key: &str| row(key, import_row::Write::Archive(pb::LeadArchive { id: "7".to_owned() }));
    let empty = pb::ImportLeadsRequest::default();
    let unnamed = settings("");
    for (requests, expected, field) in [
        (vec![], "the stream ended without settings", ""),
        (vec![archive("a")], "the first message must have the settings", ""),
        (vec![start(unnamed)], "settings.import_id: ", "settings.import_id"),
        (
            vec![start(settings("i")), archive("a"), start(settings("i"))],
            "row 2: only the first",
            "",
        ),
        (vec![start(settings("i")), archive("a"), archive("")], "row 2: row.key: ", "row.key"),
        (vec![start(settings("i")), archive("b"), empty], "row 2: the message has neither", ""),
    ] {
        let mut request = Request::new(stream::iter(requests));
        request.metadata_mut().insert("x-request-id", "broken".parse().unwrap());
        let mut responses = app.leads.clone().import_leads(request).await.unwrap().into_inner();
        let status = loop {
            match responses.next().await.expect("an error") {
                Ok(_) => {}
                Err(status) => break status,
            }
        };
        assert!(status.message().starts_with(expected), "{expected}: {status:?}");
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        assert_eq!((status.code(), reason), (Code::InvalidArgument, Some("INVALID_REQUEST")));
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
        let named = violations.unwrap_or_default().first().map_or("", |first| &*first.field);
        assert_eq!(named, field, "{expected}");
    }
    eventually("all imports have ended", || async { value(&app, OPEN).await == "0.0" }).await;
    // One event for each import that began.
    let events = app.logs.events("leadsd::audit", "broken");
    let imports = events.iter().filter(|event| event.contains("ImportLeads")).count();
    assert_eq!(imports, 3, "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_are_bounded_and_one_caller_has_its_part() {
    let app = TestApp::start().await;
    let mut open = Vec::new();
    for number in 0..16 {
        open.push(Import::start(&app.leads, settings(&number.to_string())).await.unwrap());
    }
    let (code, reason, _) = failure(Import::start(&app.leads, settings("x")).await.map(drop));
    assert_eq!((code, reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    for import in &mut open {
        import.close();
        assert!(import.collect(&mut Results::new()).await.unwrap().complete);
    }
    Import::start(&app.leads, settings("x")).await.unwrap();
}
