//! What a GetLead costs, in processor time over a bare forwarder (tonic, reqwest, serde_json, one
//! typed parse, no log, no quota, no deadline) and in latency over calling the upstream directly.
//!
//! The upstream is a process that answers from memory, without TLS: with TLS both would cost more,
//! and the ratio would be smaller. Service and forwarder get the same load, by turns.

use std::time::Duration;

use leadsd::grpc::pb::{self, leads_service_client::LeadsServiceClient};
use tokio::time::Instant;
use tonic::{Request, transport::Channel};

use super::{count, failures};
use crate::{
    Plan,
    callers::{Kind, Load, Made, Subject, names},
    figures::{Figures, Times, Unit},
    helpers::{self, LEAD_ID},
    peers::Peers,
    server::{Process, Server, channel},
};

/// Callers at the same time.
const CALLERS: usize = 32;

/// Connections that they share.
const CONNECTIONS: usize = 4;

/// Turns of each.
const ROUNDS: u64 = 6;

/// One that is measured.
struct Lane {
    process: Process,
    clients: Vec<LeadsServiceClient<Channel>>,
    used: Duration,
    made: Vec<Made>,
}

// === impl Lane ===

impl Lane {
    async fn new(process: Process, address: &str) -> Self {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(LeadsServiceClient::new(channel(address).await));
        }
        Self { process, clients, used: Duration::ZERO, made: Vec::new() }
    }

    /// One turn; the calls and the time used for them count.
    async fn turn(&mut self, time: Duration) {
        // Reads of one lead that come at the same time would share one call.
        let subjects = (0..CALLERS).map(|number| {
            let lead = format!("{}", 600_000_000_000_u64 + number as u64);
            Subject::new(self.clients[number % CONNECTIONS].clone(), &[lead])
        });
        let before = self.process.cpu();
        let load = Load::start(subjects.collect(), Kind::Get, Instant::now() + time);
        self.made.extend(load.made().await);
        self.used += self.process.cpu() - before;
    }

    /// Processor time of a call, in microseconds.
    fn cost(&self) -> f64 {
        self.used.as_secs_f64() * 1e6 / count(self.made.len())
    }
}

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    let peers = Peers::start().await;
    let (_upstream, upstream) = Process::helper(&["--helper", "upstream"]).await;
    let base = format!("http://{upstream}");
    let settings = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", base.as_str())];
    let service = Server::start(&peers, &settings).await;
    let logs = settings.into_iter().chain([("LOG__LEVEL", "info")]);
    let logging = Server::start(&peers, &logs.collect::<Vec<_>>()).await;
    let (forwarder, address) =
        Process::helper(&["--helper", "forwarder", "--upstream", &upstream]).await;
    same_answer(&service.grpc, &address).await;
    latency(plan, &upstream, &service.grpc, &address, figures).await;

    let mut lanes = [
        Lane::new(service.process, &service.grpc).await,
        Lane::new(logging.process, &logging.grpc).await,
        Lane::new(forwarder, &address).await,
    ];
    for lane in &mut lanes {
        lane.turn(Duration::from_secs(1)).await;
        (lane.used, lane.made) = (Duration::ZERO, Vec::new());
    }
    let time = Duration::from_millis(plan.seconds * 1_000 / ROUNDS / 3);
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            lane.turn(time).await;
        }
    }
    let failed = failures(lanes.iter().flat_map(|lane| &lane.made));
    let [service, logging, forwarder] = lanes.map(|lane| lane.cost());
    figures.note("processor time per call: bare forwarder", forwarder, Unit::Micros);
    figures.note("processor time per call: leadsd", service, Unit::Micros);
    figures.note("leadsd by bare forwarder", service / forwarder, Unit::Ratio).at_most(1.3);
    let by = logging / forwarder;
    figures.note("the same with an access event per call in the log", by, Unit::Ratio);
    figures.note("failed calls", failed, Unit::Count).at_most(0.0);
}

/// The forwarder is worth the comparison only if it does the same work.
async fn same_answer(service: &str, forwarder: &str) {
    let mut leads = Vec::new();
    for address in [service, forwarder] {
        let request = pb::GetLeadRequest {
            id: LEAD_ID.to_owned(),
            properties: names(),
            ..Default::default()
        };
        let mut client = LeadsServiceClient::new(channel(address).await);
        let answer = client.get_lead(Request::new(request)).await.expect("an answer");
        leads.push(answer.into_inner().lead.expect("a lead"));
    }
    assert_eq!(leads[0], leads[1], "both give the same lead");
}

/// One caller, by turns: directly, through the service, through the forwarder.
async fn latency(
    plan: Plan,
    upstream: &str,
    service: &str,
    forwarder: &str,
    figures: &mut Figures,
) {
    let calls = if plan.seconds < 30 { 2_000 } else { 10_000 };
    let (http, collection) = (helpers::client(), helpers::collection(upstream));
    let properties = names();
    let lead = [LEAD_ID.to_owned()];
    let mut through = Vec::new();
    for address in [service, forwarder] {
        through.push(Subject::new(LeadsServiceClient::new(channel(address).await), &lead));
    }
    let mut times: [Vec<Duration>; 3] = Default::default();
    for number in 0..calls + 500 {
        let since = Instant::now();
        helpers::read(&http, &collection, LEAD_ID, &properties).await.expect("a lead");
        let direct = since.elapsed();
        if number < 500 {
            continue;
        }
        times[0].push(direct);
        for (lane, subject) in through.iter_mut().enumerate() {
            let made = subject.call(Kind::Get, number).await;
            assert!(made.failed.is_none(), "{:?}", made.failed);
            times[lane + 1].push(made.took);
        }
    }
    let [direct, service, forwarder] = times.map(Times::of);
    let added = |times: &Times, part| times.permille(part).saturating_sub(direct.permille(part));
    figures.time("latency p50: upstream called directly", direct.median());
    figures.time("latency p50 added by leadsd", added(&service, 500)).at_most(0.2);
    figures.time("latency p99 added by leadsd", added(&service, 990)).at_most(1.0);
    figures.time("latency p50 added by the bare forwarder", added(&forwarder, 500));
    figures.time("latency p99 added by the bare forwarder", added(&forwarder, 990));
}
