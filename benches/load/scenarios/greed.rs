//! A greedy caller beside a modest one, in each resource of a replica: the greedy one takes as much as it
//! can get. The address identifies a caller without authentication.

use std::{net::Ipv4Addr, time::Duration};

use leadsd::grpc::pb::leads_service_client::LeadsServiceClient;
use leadsd_testkit::http2::{DATA, END_HEADERS, HEADERS, RawConnection, frame, request_headers};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::transport::Endpoint;

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{self, Durations, Figures, Unit, count},
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller},
    machine,
    server::{QUIET, Server, connect},
};

/// Address of the greedy caller. The modest one has the default address, 127.0.0.1.
const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Time in which the greedy caller takes what it can get.
const WARM_UP: Duration = Duration::from_secs(2);

/// Pause of the greedy caller before it takes again what it has lost.
const REFILL: Duration = Duration::from_secs(1);

/// Time longer than any measurement.
const LONG: Duration = Duration::from_secs(600);

/// Pause between the calls of the modest caller.
const PAUSE: Duration = Duration::from_millis(5);

const GET_LEAD: &str = "/leadsd.v1.LeadsService/GetLead";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// Resource that the greedy caller takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    /// Calls: headers without messages.
    Calls,
    /// Memory: messages without their ends.
    Memory,
    /// Reflection streams whose responses it does not read.
    Streams,
    /// Connections on which it sends nothing.
    Connections,
    /// Queue for HubSpot's quota.
    Queue,
    /// Log: it makes calls as fast as it can, and the log is no longer read.
    Log,
}

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    for resource in Resource::ALL {
        measure(resource, plan, figures).await;
    }
}

async fn measure(resource: Resource, plan: &Plan, figures: &mut Figures) {
    let name = resource.name();
    if machine::max_open_files() < resource.connections(plan) as u64 + 200 {
        figures::print(&format!("  {name} skipped: too few open files allowed"));
        if !plan.smoke {
            figures.add(format!("{name}: open files allowed"), 0.0, Unit::Count).at_least(1.0);
        }
        return;
    }
    let fakes = Fakes::start().await;
    let settings = [
        ("GRPC__MAX_CALLER_SHARE", "0.5"),
        ("GRPC__MAX_REQUEST_MEMORY", "32MiB"),
        ("QUOTA__BURST", if resource == Resource::Queue { "190" } else { "1000000" }),
        ("LOG__LEVEL", if resource == Resource::Log { "info" } else { QUIET }),
    ];
    if resource != Resource::Queue {
        fakes.set_burst(1_000_000);
    }
    let server = Server::start(&fakes, &settings).await;
    let leads = fakes.add_leads(1);
    let seconds = Duration::from_secs(if plan.smoke { 3 } else { plan.seconds.min(20) });
    let others = match resource {
        // Whether or not there is a greedy caller, the quota is in use.
        Resource::Queue => Some(queue(&server, Ipv4Addr::new(127, 0, 0, 3), 40).await),
        // The same calls while the log is read: only its block makes a difference.
        Resource::Log => Some(queue(&server, GREEDY, 4).await),
        Resource::Calls | Resource::Memory | Resource::Streams | Resource::Connections => None,
    };
    sleep(WARM_UP).await;
    let alone = modest(resource, &server, &leads, seconds).await;
    let greedy = resource.take(&server, plan).await;
    sleep(WARM_UP).await;
    let beside = modest(resource, &server, &leads, seconds).await;
    drop((greedy, others));
    let ok = 1.0 - count_failures(&beside) / count(beside.len());
    figures.add(format!("{name}: calls that succeed"), ok, Unit::Fraction).at_least(0.99);
    let [alone, beside] = [&alone, &beside].map(|records| p99(records));
    figures.add_duration(format!("{name}: p99 alone"), alone);
    figures.add_duration(format!("{name}: p99 beside the greedy caller"), beside);
    let ratio = beside.as_secs_f64() / alone.as_secs_f64();
    let ratio = figures.add(format!("{name}: ratio of these"), ratio, Unit::Ratio);
    // The short form holds on any machine.
    ratio.at_most(if plan.smoke { 10.0 } else { 2.0 });
}

/// Calls of the modest caller, one after the other.
async fn modest(
    resource: Resource,
    server: &Server,
    leads: &[String],
    duration: Duration,
) -> Vec<CallRecord> {
    let until = Instant::now() + duration;
    let mut records = Vec::new();
    let mut client = LeadsServiceClient::new(connect(&server.grpc).await);
    while Instant::now() < until {
        let started_at = Instant::now();
        if resource == Resource::Connections {
            client = LeadsServiceClient::new(connect(&server.grpc).await);
        }
        let mut caller = LoadCaller::new(client.clone(), leads);
        let call = match resource {
            Resource::Queue => LeadCall::List,
            Resource::Calls
            | Resource::Memory
            | Resource::Streams
            | Resource::Connections
            | Resource::Log => LeadCall::Get,
        };
        let record = caller.call(call, records.len()).await;
        records.push(CallRecord { latency: started_at.elapsed(), ..record });
        sleep(PAUSE).await;
    }
    records
}

fn p99(records: &[CallRecord]) -> Duration {
    records.iter().map(|record| record.latency).collect::<Durations>().p99()
}

/// Starts closed loops of calls that cannot be batched, from one address.
async fn queue(server: &Server, address: Ipv4Addr, calls: usize) -> JoinSet<()> {
    let mut clients = Vec::new();
    for _ in 0..calls.div_ceil(500) {
        let endpoint = Endpoint::from_shared(format!("http://{}", server.grpc));
        let endpoint = endpoint.expect("the address is valid").local_address(Some(address.into()));
        let channel = endpoint.connect().await.expect("the server accepts");
        clients.push(LeadsServiceClient::new(channel));
    }
    let callers = (0..calls).map(|number| {
        let lead = format!("{address}_{number}").replace('.', "_");
        let mut caller = LoadCaller::new(clients[number / 500].clone(), &[lead]);
        caller.backoff = REFILL;
        caller
    });
    let until = Instant::now() + LONG;
    let load = ClosedLoop::start(callers.collect(), LeadCall::List, until);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        load.records().await;
    });
    tasks
}

// === impl Resource ===

impl Resource {
    const ALL: [Self; 6] =
        [Self::Calls, Self::Memory, Self::Streams, Self::Connections, Self::Queue, Self::Log];

    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Memory => "memory",
            Self::Streams => "streams",
            Self::Connections => "connections",
            Self::Queue => "queue",
            Self::Log => "log",
        }
    }

    /// Number of connections of the greedy caller.
    fn connections(self, plan: &Plan) -> usize {
        match self {
            Self::Calls => 17,
            Self::Memory => 500,
            Self::Streams => 100,
            Self::Connections if plan.smoke => 3_000,
            Self::Connections => 9_000,
            Self::Queue => 6,
            Self::Log => 1,
        }
    }

    /// Takes as much as the server gives, until the tasks are dropped.
    async fn take(self, server: &Server, plan: &Plan) -> JoinSet<()> {
        if self == Self::Queue {
            return queue(server, GREEDY, if plan.smoke { 500 } else { 3_000 }).await;
        }
        let mut tasks = JoinSet::new();
        if self == Self::Log {
            server.process.stop_reading();
            return tasks;
        }
        for _ in 0..self.connections(plan) {
            let mut connection = RawConnection::silent_from(GREEDY, &server.grpc).await;
            tasks.spawn(async move {
                if self == Self::Connections {
                    // Ends when the server closes it.
                    connection.discard(LONG).await;
                    return;
                }
                connection.start(&[]).await;
                for round in 0.. {
                    let part = self.part(round);
                    connection.send(&part).await;
                    connection.discard(REFILL).await;
                }
            });
        }
        tasks
    }

    /// Frames that a connection sends in each round.
    fn part(self, round: u32) -> Vec<u8> {
        let open = |bytes: &mut Vec<u8>, stream: u32, path: &str| {
            bytes.extend(frame(HEADERS, END_HEADERS, stream, &request_headers(path, &[])));
        };
        let mut bytes = Vec::new();
        match self {
            Self::Calls => {
                // The calls of a round end after five seconds.
                for number in 0..200 {
                    open(&mut bytes, (round * 200 + number) * 2 + 1, GET_LEAD);
                }
            }
            Self::Memory if round == 0 => {
                open(&mut bytes, 1, GET_LEAD);
                let prefix = [&[0][..], &3_000_000_u32.to_be_bytes()].concat();
                bytes.extend(frame(DATA, 0, 1, &prefix));
                for _ in 0..4 {
                    bytes.extend(frame(DATA, 0, 1, &[b'x'; 15_000]));
                }
            }
            // The message continues to arrive, slowly.
            Self::Memory => bytes.extend(frame(DATA, 0, 1, b"x")),
            Self::Streams if round == 0 => {
                for number in 0..4 {
                    open(&mut bytes, number * 2 + 1, REFLECTION);
                }
            }
            Self::Streams | Self::Connections | Self::Queue | Self::Log => {}
        }
        bytes
    }
}
