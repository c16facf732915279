//! Memory while nothing happens and while ten thousand calls are under way, time from the start of
//! the process to SERVING, size of the binary.

use std::time::Duration;

use leadsd::grpc::pb::{GetQuotaRequest, quota_service_client::QuotaServiceClient};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{count, failures};
use crate::{
    callers::{Kind, Load, Subject},
    figures::{Figures, Times, Unit, say},
    helpers,
    peers::Peers,
    server::{Server, channel},
};

/// Calls at the same time.
const CALLS: usize = 10_000;

/// The service takes at most a thousand calls on one connection.
const CONNECTIONS: usize = 12;

const STARTS: usize = 20;

const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(figures: &mut Figures) {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_leadsd")).expect("the binary").len();
    figures.note("binary, with line tables", super::total(size) / 1024.0 / 1024.0, Unit::MiB);
    let peers = Peers::start().await;
    starts(&peers, figures).await;
    let server = Server::start(&peers, &[]).await;
    sleep(Duration::from_secs(2)).await;
    figures.note("idle, resident", server.process.memory("VmRSS"), Unit::MiB).at_most(20.0);
    waiting(&peers, figures).await;
    under_way(&peers, figures).await;
}

async fn starts(peers: &Peers, figures: &mut Figures) {
    let mut started = Vec::new();
    for _ in 0..STARTS {
        started.push(Server::timed(peers, &[]).await.1);
    }
    let listening = Times::of(started.iter().map(|started| started.listening));
    let serving = Times::of(started.iter().map(|started| started.serving));
    figures.time("start to listening, median", listening.median());
    figures.time("start to SERVING, median", serving.median()).at_most(200.0);
    figures.time("start to SERVING, max", serving.max());
}

/// Calls that wait for permits, half of them reads, half of them creates.
async fn waiting(peers: &Peers, figures: &mut Figures) {
    // Two and a half HubSpot calls a second take so long for ten thousand leads that few have left.
    peers.allow(25);
    let server = Server::start(peers, &[("QUOTA__BURST", "25")]).await;
    let leads = peers.leads(CALLS / 2);
    let clients = server.clients(CONNECTIONS).await;
    let callers = (0..CALLS).map(|number| {
        let lead = &leads[number % leads.len()];
        let client = clients[number % CONNECTIONS].clone();
        let subject = Subject::new(client, std::slice::from_ref(lead)).contact(&peers.contact);
        let kind = if number < CALLS / 2 { Kind::Get } else { Kind::Create };
        once(subject, kind)
    });
    let load = Load::of(callers);
    let mut quota = QuotaServiceClient::new(channel(&server.grpc).await);
    let mut most = 0;
    let all = async {
        while most < 9_500 {
            let answer = quota.get_quota(GetQuotaRequest {}).await.expect("an answer").into_inner();
            most = answer.quota.map_or(0, |quota| quota.buckets[0].waiting);
        }
    };
    timeout(PATIENCE, all).await.expect("all wait in time");
    let memory = server.process.memory("VmRSS");
    figures
        .note(format!("{most} calls waiting for permits, resident"), memory, Unit::MiB)
        .at_most(150.0);
    drop(load);
}

/// Calls that HubSpot does not answer, each on a connection of its own: without TLS there is no
/// HTTP/2. No account's limit allows that many; it is what a limit without end would cost.
async fn under_way(peers: &Peers, figures: &mut Figures) {
    if open_files() < CALLS + 1_000 {
        say("  too few open files are allowed for calls that wait for HubSpot: ulimit -n");
        return;
    }
    let (held, counted) = watch::channel(0_usize);
    let (open, opened) = watch::channel(true);
    let (listener, address) = helpers::listen().await;
    let wait = move || {
        held.send_modify(|held| *held += 1);
        let mut opened = opened.clone();
        async move {
            // The end of the scenario opens it too.
            let _ = opened.wait_for(|open| *open).await;
        }
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(helpers::serve(listener, wait));
    let base = format!("http://{address}");
    let settings = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", base.as_str())];
    let server = Server::start(peers, &settings).await;
    let clients = server.clients(CONNECTIONS).await;
    // Until the first answer tells of the limit, calls go one by one.
    let first = once(Subject::new(clients[0].clone(), &["599999999999".to_owned()]), Kind::Get);
    assert!(first.await[0].failed.is_none(), "the first call is answered");
    open.send_replace(false);
    let load = Load::of((0..CALLS).map(|number| {
        let lead = format!("{}", 600_000_000_000_u64 + number as u64);
        once(Subject::new(clients[number % CONNECTIONS].clone(), &[lead]), Kind::Get)
    }));
    let mut counted = counted;
    let all = counted.wait_for(|held| *held > CALLS);
    let since = Instant::now();
    // Whether all are there is a figure of its own.
    let _ = timeout(PATIENCE, all).await;
    let sent = *counted.borrow() - 1;
    figures.note("calls sent to HubSpot", count(sent), Unit::Count).at_least(count(CALLS));
    figures.time("calls sent within", since.elapsed());
    let memory = server.process.memory("VmRSS");
    let what = format!("{CALLS} calls waiting for HubSpot, each on a connection, resident");
    figures.note(what, memory, Unit::MiB);
    open.send_replace(true);
    let made = load.made().await;
    figures.note("calls made", count(made.len()), Unit::Count);
    figures.note("failed calls", failures(&made), Unit::Count).at_most(0.0);
}

async fn once(mut subject: Subject, kind: Kind) -> Vec<crate::callers::Made> {
    vec![subject.call(kind, 0).await]
}

/// How many files a process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
