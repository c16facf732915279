//! A caller with few concurrent calls, alone and beside a caller with fifty times as many; none of the
//! calls can be batched. The caller with few calls pauses between them, or makes one after the other.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures, Unit},
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller},
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(10);

/// Concurrent calls of the caller with few.
const FEW: usize = 4;

/// Factor by which the busy caller has more.
const FACTOR: usize = 50;

/// Time in which the busy caller fills the queue.
const WARM_UP: Duration = Duration::from_secs(2);

/// Pause of the occasional caller between a response and its next call.
const PAUSE: Duration = Duration::from_millis(500);

/// Part of the calls that interactive callers in closed loops get beside bulk callers, at least.
const INTERACTIVE_PART: f64 = 0.6;

/// Maximum median latency of an interactive caller in a closed loop, in milliseconds. Four of them share
/// nineteen calls a second. A caller's calls are 211 ms apart if they get all of them, and 235 ms if bulk
/// callers get a tenth.
const INTERACTIVE_MEDIAN: f64 = 260.0;

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let time = Duration::from_secs(plan.seconds.clamp(10, 30));
    let fakes = Fakes::start().await;
    let server = Server::start(&fakes, &[]).await;
    let clients = server.clients(2).await;
    let leads = fakes.add_leads(FEW + FEW * FACTOR);
    let caller = |client: usize, lead: &String, name| {
        let caller = LoadCaller::new(clients[client].clone(), std::slice::from_ref(lead));
        LoadCaller { name: Some(name), ..caller }
    };
    let few: Vec<LoadCaller> = leads[..FEW].iter().map(|lead| caller(0, lead, "web")).collect();
    let alone = occasional(few.clone(), time).records().await;
    let alone = add_latencies("alone", &alone, figures);
    for priority in ["interactive", "bulk"] {
        let many =
            leads[FEW..].iter().map(|lead| LoadCaller { priority, ..caller(1, lead, "import") });
        let until = Instant::now() + time + WINDOW;
        let load = ClosedLoop::start(many.collect(), LeadCall::List, until);
        sleep(WARM_UP).await;
        let beside = occasional(few.clone(), time).records().await;
        let name = format!("beside {FACTOR} times the load ({priority})");
        let beside = add_latencies(&name, &beside, figures);
        let cost = beside.max().saturating_sub(alone.max());
        let cost = figures.add_duration(format!("{name}: added to the longest latency"), cost);
        cost.at_most(WINDOW.as_secs_f64() * 1e3);
        let busy = load.records().await;
        let failures = count_failures(&busy);
        let label = format!("{name}: failed calls of the busy caller");
        figures.add(label, failures, Unit::Count).at_most(0.0);
    }
    let many = leads[FEW..].iter();
    let many = many.map(|lead| LoadCaller { priority: "bulk", ..caller(1, lead, "import") });
    beside_bulk(few, many.collect(), time, figures).await;
}

/// Interactive callers that do not pause, beside bulk callers that do not pause either.
async fn beside_bulk(
    few: Vec<LoadCaller>,
    many: Vec<LoadCaller>,
    time: Duration,
    figures: &mut Figures,
) {
    let from = Instant::now() + WARM_UP;
    let until = from + time;
    let bulk = ClosedLoop::start(many, LeadCall::List, until);
    sleep(WARM_UP).await;
    let few = ClosedLoop::start(few, LeadCall::List, until).records().await;
    let measured = |record: &CallRecord| (from..until).contains(&record.completed_at);
    let bulk = bulk.records().await.into_iter().filter(measured).count();
    let name = format!("without pauses, beside {FACTOR} times the load (bulk)");
    let latencies: Durations = few.iter().map(|record| record.latency).collect();
    let median = figures.add_duration(format!("{name}: latency p50"), latencies.median());
    median.at_most(INTERACTIVE_MEDIAN);
    figures.add_duration(format!("{name}: latency max"), latencies.max());
    let few = few.into_iter().filter(measured).count();
    #[expect(clippy::cast_precision_loss, reason = "few calls")]
    let part = few as f64 / (few + bulk) as f64;
    let label = format!("{name}: interactive part of all calls");
    figures.add(label, part, Unit::Fraction).at_least(INTERACTIVE_PART);
}

/// Callers that pause after every response.
fn occasional(callers: Vec<LoadCaller>, time: Duration) -> ClosedLoop {
    let until = Instant::now() + time;
    ClosedLoop::spawn(callers.into_iter().map(move |mut caller| async move {
        let mut records = Vec::new();
        while Instant::now() < until {
            records.push(caller.call(LeadCall::List, records.len()).await);
            sleep(PAUSE).await;
        }
        records
    }))
}

fn add_latencies(name: &str, records: &[CallRecord], figures: &mut Figures) -> Durations {
    let latencies: Durations = records.iter().map(|record| record.latency).collect();
    figures.add_duration(format!("{name}: latency p50"), latencies.median());
    figures.add_duration(format!("{name}: latency max"), latencies.max());
    let failures = count_failures(records);
    figures.add(format!("{name}: failed calls"), failures, Unit::Count).at_most(0.0);
    latencies
}
