//! Exports in simulated time, over a portal in memory.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::timeout;

use super::*;
use crate::leads::{
    charge::MemoryAccount,
    error::Reason,
    export::testing::{SimulatedPortal, ids, request},
    request::{BatchItem, ChunkOutcomes, Links, Request, Response},
    response_limit::ResponseLimit,
    service::Settings,
    testing::{RecordingUpstream, TestAccount},
};

/// Size of a response in bytes.
const RESPONSE: usize = 1 << 20;

fn service() -> Service {
    let lead_size = |lead: &Lead| lead.properties.values().map(String::len).sum::<usize>() + 100;
    Service::new(&Settings {
        batch_concurrency: 2,
        response: ResponseLimit { max_bytes: RESPONSE, lead_size },
        validation: crate::leads::ValidationSettings::default(),
        clock: Arc::new(leadsd_base::time::SystemClock),
    })
}

/// A context of this upstream without a near deadline.
fn context(upstream: &Arc<RecordingUpstream>) -> CallContext {
    let ctx = upstream.context(None);
    CallContext { deadline: Instant::now() + Duration::from_secs(86_400), ..ctx }
}

/// A portal with this many leads.
fn portal(leads: u64) -> SimulatedPortal {
    SimulatedPortal::with_leads((1..=leads).map(|number| number * 7))
}

/// An upstream of this portal that fails where `fault` says so, by the number of earlier requests.
fn upstream(
    portal: SimulatedPortal,
    fault: impl Fn(usize, &Request) -> Option<Error> + Send + Sync + 'static,
) -> Arc<RecordingUpstream> {
    RecordingUpstream::new(move |number, request| match fault(number, request) {
        Some(error) => Err(error),
        None => Ok(portal.respond(request)),
    })
}

/// The ids of the messages up to the last one, and that one or the error.
async fn collect(export: &mut Export) -> (Vec<u64>, Result<ExportMessage, Error>) {
    let mut received = Vec::new();
    loop {
        match export.next().await.expect("a last message or an error") {
            Ok(message) if message.complete => return (received, Ok(message)),
            Ok(message) => received.extend(ids(&message.leads)),
            Err(error) => return (received, Err(error)),
        }
    }
}

fn error(reason: Reason) -> Error {
    Error::new(reason, "of the test")
}

#[tokio::test(start_paused = true)]
async fn an_export_fills_its_pages() {
    // Half of the leads match. The list needs one more request for the number of leads. Searches side by side
    // overlap.
    for (is_filtered, leads, calls) in [
        (true, 20_000, 50..=52),
        (false, 10_000, 60..=100),
        (true, 2_000, 5..=7),
        (false, 1_500, 16..=16),
        (false, 0, 2..=2),
    ] {
        let upstream = upstream(portal(leads), |_, _| None);
        let mut export = service().export(context(&upstream), request(is_filtered), "").unwrap();
        let (received, last) = collect(&mut export).await;
        let expected = if is_filtered { leads / 2 } else { leads };
        assert_eq!(received.len() as u64, expected);
        let last = last.unwrap();
        assert_eq!((last.exported, last.total, last.leads.len()), (expected, Some(expected), 0));
        assert!(export.next().await.is_none());
        let requests = upstream.requests().len();
        assert!(calls.contains(&requests), "{requests} requests for {leads} leads");
    }
}

#[tokio::test(start_paused = true)]
async fn progress_has_the_number_of_all_leads_and_the_time_to_the_end() {
    for is_filtered in [true, false] {
        let upstream = upstream(portal(1_000), |_, _| None);
        let all = if is_filtered { 500 } else { 1_000 };
        let service = service();
        let mut export = service.export(context(&upstream), request(is_filtered), "").unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        let first = export.next().await.unwrap().unwrap();
        assert_eq!((first.exported, first.total), (first.leads.len() as u64, Some(all)));
        let rest = (all - first.exported) as f64 / first.exported as f64;
        let remaining = first.remaining.unwrap();
        assert!((remaining.as_secs_f64() - 10.0 * rest).abs() < 0.1, "{remaining:?}");
        let token = first.resume_token;
        let mut resumed = service.export(context(&upstream), request(is_filtered), &token).unwrap();
        let second = resumed.next().await.unwrap().unwrap();
        assert_eq!(second.exported, first.exported + second.leads.len() as u64);
        assert_eq!(second.total, Some(all));
        assert_eq!(service.export_counts().resumed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_is_repeated_after_a_transient_error() {
    let faults = [
        Reason::RateLimited,
        Reason::UpstreamUnavailable,
        Reason::UpstreamUnavailable,
        Reason::CredentialUnavailable,
        Reason::DeadlineExceeded,
        Reason::UpstreamInvalidResponse,
        Reason::Overloaded,
    ];
    for is_filtered in [true, false] {
        // Every third request succeeds, until the faults are used up.
        let upstream = upstream(portal(1_000), move |number, _| {
            let reason = faults.get(number / 3 * 2 + number % 3).filter(|_| number % 3 < 2)?;
            Some(error(*reason).with_retry_after(Duration::from_secs(20)))
        });
        let mut export = service().export(context(&upstream), request(is_filtered), "").unwrap();
        let start = Instant::now();
        let (received, last) = collect(&mut export).await;
        assert_eq!(received.len() as u64, last.unwrap().exported);
        assert_eq!(received.len(), if is_filtered { 500 } else { 1_000 });
        assert!(received.is_sorted_by(|a, b| a < b));
        assert!(start.elapsed() >= Duration::from_secs(60), "the stated pauses are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_lasting_error_the_export_is_resumed_without_a_gap() {
    for (reason, requests) in [(Reason::MissingScopes, 4), (Reason::DailyLimitReached, 4)] {
        let service = service();
        let failing =
            upstream(portal(2_000), move |number, _| (number >= 3).then(|| error(reason)));
        let mut export = service.export(context(&failing), request(true), "").unwrap();
        let mut token = String::new();
        let mut received = Vec::new();
        let failure = loop {
            match export.next().await.unwrap() {
                Ok(message) => {
                    received.extend(ids(&message.leads));
                    token = message.resume_token;
                }
                Err(error) => break error,
            }
        };
        // The requests that succeeded side by side with the one that failed.
        assert_eq!(failure.reason(), reason);
        assert!((500..=600).contains(&received.len()), "{}", received.len());
        assert!(export.next().await.is_none(), "nothing follows an error");
        assert!(failing.requests().len() <= requests + 2);
        let fine = upstream(portal(2_000), |_, _| None);
        let mut export = service.export(context(&fine), request(true), &token).unwrap();
        let (rest, last) = collect(&mut export).await;
        received.extend(rest);
        assert_eq!((received.len(), last.unwrap().exported), (1_000, 1_000));
        assert!(received.is_sorted_by(|a, b| a < b));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lasting_outage_ends_the_export_after_ten_minutes() {
    let upstream = upstream(portal(10), |_, _| Some(error(Reason::UpstreamUnavailable)));
    let mut export = service().export(context(&upstream), request(true), "").unwrap();
    let start = Instant::now();
    let failure = export.next().await.unwrap().unwrap_err();
    assert_eq!(failure.reason(), Reason::UpstreamUnavailable);
    let took = start.elapsed().as_secs();
    assert!((570..=600).contains(&took), "{took}");
    assert!(upstream.requests().len() < 60);
}

#[tokio::test(start_paused = true)]
async fn a_paused_export_ends_with_a_token_and_counts_as_paused() {
    let service = service();
    let upstream = upstream(portal(1_000), |_, _| None);
    let mut export = service.export(context(&upstream), request(false), "").unwrap();
    let first = export.next().await.unwrap().unwrap();
    let last = export.pause().unwrap();
    assert_eq!((last.complete, last.leads.len()), (false, 0));
    assert_eq!((&last.resume_token, last.exported), (&first.resume_token, first.exported));
    assert!(export.next().await.is_none() && export.pause().is_none());
    drop(export);
    let mut rest = service.export(context(&upstream), request(false), &last.resume_token).unwrap();
    let (received, _) = collect(&mut rest).await;
    assert_eq!(received.len() + first.leads.len(), 1_000);
    assert!(received[0] > ids(&first.leads).pop().unwrap());
    drop(rest);
    drop(service.export(context(&upstream), request(false), "").unwrap());
    let counts = service.export_counts();
    assert_eq!((counts.leads, counts.resumed), (1_000, 1));
    assert_eq!(counts.ended.map(|(_, streams)| streams), [1, 1, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_awaited_to_its_end_loses_nothing() {
    let upstream = upstream(portal(500), |number, _| {
        let wait = Duration::from_secs(20);
        (number % 2 == 1).then(|| error(Reason::RateLimited).with_retry_after(wait))
    });
    let mut export = service().export(context(&upstream), request(true), "").unwrap();
    let mut received = Vec::new();
    loop {
        // The future is dropped in the pauses.
        match timeout(Duration::from_secs(7), export.next()).await {
            Err(_) => {}
            Ok(message) => match message.unwrap().unwrap() {
                message if message.complete => break,
                message => received.extend(ids(&message.leads)),
            },
        }
    }
    assert_eq!(received.len(), 250);
    assert!(received.is_sorted_by(|a, b| a < b));
}

#[tokio::test(start_paused = true)]
async fn memory_is_charged_for_one_page_and_stays_below_eight_mebibytes() {
    let account = TestAccount::new(8 << 20);
    let memory: Arc<dyn MemoryAccount> = Arc::<TestAccount>::clone(&account);
    // 20 KiB per lead: a full page takes 4 MiB.
    let large = SimulatedPortal { filler: "x".repeat(20 << 10), ..portal(2_000) };
    let upstream = upstream(large, |_, _| None);
    let ctx = CallContext { memory, ..context(&upstream) };
    let mut export = service().export(ctx, request(true), "").unwrap();
    let mut received = 0;
    let mut peaks = Vec::new();
    while let Some(message) = export.next().await {
        let message = message.unwrap();
        let size: usize = message.leads.iter().map(memory_of).sum();
        assert!(size <= MESSAGE_BYTES + (64 << 10), "{size}");
        received += message.leads.len();
        peaks.push(account.used());
    }
    assert_eq!(received, 1_000);
    assert!(account.peak() < 8 << 20, "{}", account.peak());
    assert!(peaks.iter().skip(50).all(|used| *used <= 3 << 20), "pages are smaller later");
    drop(export);
    assert_eq!(account.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lead_that_is_too_large_to_be_read_or_sent_has_only_its_id() {
    // HubSpot's response is too large as soon as it has lead 1379 with its properties.
    let read = |request: &Request| {
        let Request::Search(search) = request else { return None };
        let page = portal(200).respond(request).into_search_page().ok()?;
        let is_large = page.leads.iter().any(|lead| lead.id == "1379");
        (search.properties.is_empty() && is_large).then(|| error(Reason::ResponseTooLarge))
    };
    let upstream = upstream(portal(200), move |_, request| read(request));
    let mut export = service().export(context(&upstream), request(true), "").unwrap();
    let mut small = Vec::new();
    let mut received = 0;
    while let Some(message) = export.next().await {
        let message = message.unwrap();
        received += message.leads.len();
        small.extend(message.leads.into_iter().filter(|lead| lead.is_id_only));
    }
    assert_eq!(received, 100);
    assert_eq!(ids(&small), [1379]);

    let huge = SimulatedPortal { filler: "x".repeat(RESPONSE), ..portal(2) };
    let upstream = self::upstream(huge, |_, _| None);
    let mut export = service().export(context(&upstream), request(true), "").unwrap();
    let first = export.next().await.unwrap().unwrap();
    assert!(first.leads[0].is_id_only && first.leads[0].properties.is_empty());
}

#[tokio::test(start_paused = true)]
async fn history_is_read_by_id_and_leads_that_are_gone_are_left_out() {
    let hubspot = portal(300);
    let batches: Arc<Mutex<Vec<usize>>> = Arc::default();
    let sizes = Arc::clone(&batches);
    let upstream = RecordingUpstream::new(move |_, request| {
        let Request::BatchRead(read) = request else { return Ok(hubspot.respond(request)) };
        sizes.lock().push(read.ids.len());
        assert_eq!(read.properties_with_history, ["hs_lead_label"]);
        let outcomes = read.ids.iter().map(|id| {
            let lead = match id.as_str() {
                "7" => return Err(Error::lead_not_found()),
                // Merged into another lead.
                "21" => "35",
                id => id,
            };
            let lead = Lead { id: lead.to_owned(), ..Lead::default() };
            Ok(Some(BatchItem { lead, trace_id: None, created: None }))
        });
        Ok(Response::Outcomes(ChunkOutcomes { outcomes: outcomes.collect(), evaluated: true }))
    });
    let mut with_history = request(true);
    with_history.selection.properties_with_history = vec!["hs_lead_label".to_owned()];
    let mut export = service().export(context(&upstream), with_history, "").unwrap();
    let (received, last) = collect(&mut export).await;
    assert_eq!(last.unwrap().exported, 148);
    assert_eq!(received[0], 35);
    assert!(received.is_sorted_by(|a, b| a < b));
    assert_eq!(*batches.lock(), [50, 50, 50]);
}

#[tokio::test(start_paused = true)]
async fn associations_take_one_more_request_for_each_page_and_type() {
    let hubspot = portal(300);
    let upstream = RecordingUpstream::new(move |_, request| {
        let Request::ReadAssociations { leads, .. } = request else {
            return Ok(hubspot.respond(request));
        };
        let links = leads.iter().map(|lead| Links::none(lead.as_str().to_owned())).collect();
        Ok(Response::Associations(links))
    });
    for (is_filtered, requests) in [(true, 1 + 2), (false, 1 + 3 * (1 + 2))] {
        let before = upstream.requests().len();
        let mut linked = request(is_filtered);
        linked.selection.associations = ["contacts", "deals"].map(str::to_owned).to_vec();
        let mut export = service().export(context(&upstream), linked, "").unwrap();
        let first = export.next().await.unwrap().unwrap();
        let types: Vec<_> = first.leads[0].associations.keys().collect();
        assert_eq!(types, ["contacts", "deals"]);
        collect(&mut export).await.1.unwrap();
        assert_eq!(upstream.requests().len() - before, requests);
    }
}
