//! Memory when idle and with ten thousand concurrent calls, time from the start of the process to
//! SERVING, and size of the binary.

use std::time::Duration;

use leadsd::grpc::pb::{GetQuotaRequest, quota_service_client::QuotaServiceClient};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::count_failures;
use crate::{
    fakes::Fakes,
    figures::{self, Durations, Figures, Unit, count, total},
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller},
    machine,
    server::{Server, connect},
    upstream,
};

/// Concurrent calls.
const CALLS: usize = 10_000;

/// The service accepts 1,024 concurrent calls per connection.
const CONNECTIONS: usize = 12;

/// Starts of the service.
const STARTS: usize = 20;

/// Longest wait for all calls to be queued or sent.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Files that the service needs for a connection per call.
const OPEN_FILES: u64 = 11_000;

/// Memory that the documentation advises to provide for each call that waits for HubSpot.
const KIB_PER_CALL: f64 = 45.0;

pub(super) async fn run(figures: &mut Figures) {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_leadsd")).expect("the binary exists").len();
    figures.add("binary with line tables", total(size) / 1024.0 / 1024.0, Unit::Mebibytes);
    let fakes = Fakes::start().await;
    measure_starts(&fakes, figures).await;
    let server = Server::start(&fakes, &[]).await;
    sleep(Duration::from_secs(2)).await;
    let idle = server.process.memory("VmRSS");
    figures.add("idle, resident", idle, Unit::Mebibytes).at_most(20.0);
    measure_queued(&fakes, figures).await;
    measure_sent(&fakes, idle, figures).await;
}

async fn measure_starts(fakes: &Fakes, figures: &mut Figures) {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        starts.push(Server::start_timed(fakes, &[]).await.1);
    }
    let listening: Durations = starts.iter().map(|times| times.listening).collect();
    let serving: Durations = starts.iter().map(|times| times.serving).collect();
    figures.add_duration("start to listening, median", listening.median());
    figures.add_duration("start to SERVING, median", serving.median()).at_most(200.0);
    figures.add_duration("start to SERVING, max", serving.max());
}

/// Calls that are queued for permits, half of them reads, half of them creates.
async fn measure_queued(fakes: &Fakes, figures: &mut Figures) {
    // At 2.5 HubSpot calls per second, nearly all calls are still queued when the memory is read.
    fakes.set_burst(25);
    let server = Server::start(fakes, &[("QUOTA__BURST", "25")]).await;
    let leads = fakes.add_leads(CALLS / 2);
    let clients = server.clients(CONNECTIONS).await;
    let callers = (0..CALLS).map(|number| {
        let lead = &leads[number % leads.len()];
        let client = clients[number % CONNECTIONS].clone();
        let caller =
            LoadCaller::new(client, std::slice::from_ref(lead)).with_contact(&fakes.contact);
        let call = if number < CALLS / 2 { LeadCall::Get } else { LeadCall::Create };
        call_once(caller, call)
    });
    let load = ClosedLoop::spawn(callers);
    let mut quota = QuotaServiceClient::new(connect(&server.grpc).await);
    let mut queued = 0;
    let all_queued = async {
        while queued < 9_500 {
            let response = quota.get_quota(GetQuotaRequest {}).await;
            let response = response.expect("GetQuota needs no permit").into_inner();
            queued = response.quota.map_or(0, |quota| quota.buckets[0].waiting);
        }
    };
    timeout(LOAD_TIMEOUT, all_queued).await.expect("all calls are queued in time");
    let memory = server.process.memory("VmRSS");
    figures
        .add(format!("{queued} calls queued for permits, resident"), memory, Unit::Mebibytes)
        .at_most(150.0);
    drop(load);
}

/// Calls without a response of HubSpot, each on a separate connection: without TLS there is no
/// HTTP/2. No account has such a limit; the figure shows the memory of one call.
async fn measure_sent(fakes: &Fakes, idle: f64, figures: &mut Figures) {
    if machine::max_open_files() < OPEN_FILES {
        figures::print("  skipped: too few open files allowed; raise `ulimit -n`");
        figures.add("open files allowed", 0.0, Unit::Count).at_least(total(OPEN_FILES));
        return;
    }
    let (held, mut held_count) = watch::channel(0_usize);
    let (open, opened) = watch::channel(true);
    let (listener, address) = upstream::listen();
    let wait = move || {
        held.send_modify(|held| *held += 1);
        let mut opened = opened.clone();
        async move {
            // An error means that the scenario has ended.
            let _ = opened.wait_for(|open| *open).await;
        }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(upstream::serve(listener, wait));
    let url = format!("http://{address}");
    let settings = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", url.as_str())];
    let server = Server::start(fakes, &settings).await;
    let clients = server.clients(CONNECTIONS).await;
    // Calls are sent one by one until the first response reports the limit.
    let caller = LoadCaller::new(clients[0].clone(), &["599999999999".to_owned()]);
    assert!(call_once(caller, LeadCall::Get).await[0].failure.is_none(), "the first call succeeds");
    open.send_replace(false);
    let load = ClosedLoop::spawn((0..CALLS).map(|number| {
        let lead = format!("{}", 600_000_000_000_u64 + number as u64);
        call_once(LoadCaller::new(clients[number % CONNECTIONS].clone(), &[lead]), LeadCall::Get)
    }));
    let all_sent = held_count.wait_for(|held| *held > CALLS);
    let started_at = Instant::now();
    // The number of calls that were sent in time has its own bound.
    let _ = timeout(LOAD_TIMEOUT, all_sent).await;
    let sent = *held_count.borrow() - 1;
    figures.add("calls sent to HubSpot", count(sent), Unit::Count).at_least(count(CALLS));
    figures.add_duration("calls sent within", started_at.elapsed());
    let memory = server.process.memory("VmRSS");
    let label = format!("{CALLS} calls waiting for HubSpot, resident");
    figures.add(label, memory, Unit::Mebibytes);
    let per_call = (memory - idle) * 1024.0 / count(CALLS);
    figures
        .add(
            "memory of a call that waits for HubSpot, with its connection",
            per_call,
            Unit::Kibibytes,
        )
        .at_most(KIB_PER_CALL);
    open.send_replace(true);
    let records = load.records().await;
    figures.add("calls completed", count(records.len()), Unit::Count);
    figures.add("failed calls", count_failures(&records), Unit::Count).at_most(0.0);
}

async fn call_once(mut caller: LoadCaller, call: LeadCall) -> Vec<CallRecord> {
    vec![caller.call(call, 0).await]
}
