//! Exports over the rate limits of HubSpot in simulated time: both limits are used, and other callers are
//! served.

use std::{sync::Arc, time::Duration};

use leadsd_base::task;
use leadsd_quota::{BucketName, Priority};
use tokio::time::{Instant, sleep};

use super::{account, campaign::Top, context_of};
use crate::{
    hubspot::Operation,
    leads::{
        self, CallContext, Export, GetLead, Lead, LeadId, Page, Portal, PortalName, PortalSettings,
        Request, Response, ResponseLimit, SearchLeads, SearchPage, Selection, Service,
        ValidationSettings, export::ExportLeads,
    },
    pipeline::{
        rate_limit::RateLimit,
        scripted::{Recorded, Scripted, ScriptedUpstream},
    },
};

/// Time that HubSpot takes for a response.
const LATENCY: Duration = Duration::from_millis(200);

/// List requests that HubSpot allows in ten seconds.
const BURST: u64 = 190;

/// Searches that HubSpot allows in a second.
const SEARCHES: u64 = 5;

const DAY: Duration = Duration::from_secs(86_400);

/// HubSpot with leads whose ids are multiples of three.
fn hubspot(leads: u64) -> Arc<ScriptedUpstream> {
    ScriptedUpstream::new(move |sent| Scripted::after(LATENCY, Ok(respond(leads, &sent.request))))
}

fn lead(number: u64) -> Lead {
    let name = ("hs_lead_name".to_owned(), format!("Lead {number}"));
    Lead { id: (number * 3).to_string(), properties: [name].into(), ..Lead::default() }
}

fn respond(leads: u64, request: &Request) -> Response {
    if let Request::List(list) = request {
        let after = list.after.as_ref().map_or(0, |after| after.parse::<u64>().unwrap() / 3);
        let last = leads.min(after + u64::from(list.limit));
        let page = (after + 1..=last).map(lead).collect();
        let after = (last < leads).then(|| (last * 3).to_string());
        return Response::Page(Page { leads: page, after }.into());
    }
    if let Request::Search(search) = request {
        return Response::SearchPage(found(leads, search).into());
    }
    Response::Lead(lead(1).into())
}

fn found(leads: u64, search: &SearchLeads) -> SearchPage {
    let above = search.filter_groups[0].filters.iter();
    let above = above.filter(|filter| filter.property_name == "hs_object_id");
    let above = above.map(|filter| filter.value.as_ref().unwrap().parse::<u64>().unwrap() / 3);
    let above = above.max().unwrap_or(0);
    let offset = search.after.as_ref().map_or(0, |after| after.parse::<u64>().unwrap());
    let first = above + offset;
    let last = leads.min(first + u64::from(search.limit));
    let after = (last < leads).then(|| (last - above).to_string());
    SearchPage { leads: (first + 1..=last).map(lead).collect(), after, total: leads - above }
}

/// A service, and a context of `caller` at the portal of this upstream.
fn service(upstream: &Arc<ScriptedUpstream>) -> (Service, impl Fn(&str, Priority) -> CallContext) {
    let account = account(BURST, 1_000);
    let upstream = Arc::new(Top(RateLimit::new(Arc::clone(upstream), account)));
    let name = PortalName::parse("default").expect("a name");
    let portal = Arc::new(Portal { name, upstream, settings: PortalSettings::default() });
    let service = Service::new(&leads::Settings {
        batch_concurrency: 4,
        response: ResponseLimit { max_bytes: 4 << 20, lead_size: |_| 100 },
        validation: ValidationSettings::default(),
        clock: Arc::new(leadsd_base::time::SystemClock),
    });
    let context = move |caller: &str, priority| CallContext {
        portal: Arc::clone(&portal),
        ..context_of(caller, priority, DAY)
    };
    (service, context)
}

fn everything(query: &str) -> ExportLeads {
    let query = query.to_owned();
    ExportLeads { query, filter_groups: Vec::new(), selection: Selection::default() }
}

/// Reads a stream to its end, and returns the number of leads.
async fn read(mut export: Export) -> u64 {
    let mut leads = 0;
    while let Some(message) = export.next().await {
        leads += message.expect("no error").leads.len() as u64;
    }
    leads
}

/// Number of requests of a bucket from `begin` to `end`.
fn count(requests: &[Recorded], bucket: BucketName, begin: Instant, end: Instant) -> u64 {
    let is_counted = |sent: &&Recorded| {
        let own = Operation::from(&*sent.request).spec().bucket();
        own == bucket && sent.at >= begin && sent.at < end
    };
    requests.iter().filter(is_counted).count() as u64
}

#[expect(clippy::print_stdout, reason = "shows the figures of the run")]
#[tokio::test(start_paused = true)]
async fn an_export_uses_the_limits_of_lists_and_searches() {
    for (query, leads, has_lists) in [("", 200_000, true), ("lead", 60_000, false)] {
        let upstream = hubspot(leads);
        let (service, context) = service(&upstream);
        let start = Instant::now();
        let export = service.export(context("a", Priority::Bulk), everything(query), "").unwrap();
        assert_eq!(read(export).await, leads);
        let took = start.elapsed();
        let requests = upstream.requests();
        // Without the first seconds and the last ones.
        let (begin, end) = (start + Duration::from_secs(5), start + took - Duration::from_secs(5));
        let seconds = (end - begin).as_secs();
        let searches = count(&requests, BucketName::Search, begin, end);
        let lists = count(&requests, BucketName::Burst, begin, end);
        let facts = format!("{lists} lists and {searches} searches in {seconds} s; {took:?}");
        println!("{leads} leads: {facts}");
        assert!(searches * 100 >= SEARCHES * seconds * 95, "{facts}");
        assert!(!has_lists || lists * 100 >= BURST / 10 * seconds * 95, "{facts}");
        // Both limits together return 2,900 leads in a second, and searches 1,000.
        let per_second = leads / took.as_secs();
        let least = if has_lists { 2_600 } else { 930 };
        assert!(per_second >= least, "{per_second} leads in a second; {facts}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_caller_is_served_within_one_window() {
    let upstream = hubspot(100_000);
    let (service, context) = service(&upstream);
    let export = service.export(context("a", Priority::Bulk), everything(""), "").unwrap();
    let export = task::spawn("export", "test", async move {
        assert_eq!(read(export).await, 100_000);
    });
    sleep(Duration::from_secs(5)).await;
    let mut waits = Vec::new();
    for number in 0..100 {
        let get = GetLead {
            id: LeadId::parse(&number.to_string()).expect("an id"),
            id_property: None,
            selection: Selection::default(),
            archived: false,
        };
        let start = Instant::now();
        service.get(&context("b", Priority::Interactive), get).await.expect("a lead");
        waits.push(start.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(!export.is_ended(), "the export runs throughout");
    waits.sort_unstable();
    let p99 = waits[98];
    assert!(p99 <= Duration::from_secs(1) + LATENCY, "{p99:?}");
    export.ended().await;
}
