//! The service beside thin wrappers around HubSpot in other languages, and beside the bare forwarders.
//!
//! Every server serves GetLead by calling the same HubSpot fake, in a separate process that is pinned
//! to one core. First no quota binds: CPU time and latency per call. Then HubSpot allows 190 calls in
//! ten seconds to 500 callers: leads per second and failed calls. `benches/peers/run` builds the
//! wrappers and passes their commands.

use std::{process::Command, time::Duration};

use leadsd::grpc::pb;
use tokio::time::{Instant, sleep_until};

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures, Unit, count, total},
    lane::{self, Lane, Turn, cpu_ratios},
    load::{CallRecord, ClosedLoop, LeadCall},
    machine,
    process::Process,
    server::Server,
};

/// Concurrent calls while no quota binds.
const IN_FLIGHT: usize = 64;

/// A limit that never binds.
const UNBOUND: usize = 1_000_000;

/// Turns of every server while no quota binds.
const ROUNDS: usize = 5;

/// Limit of HubSpot per window, and the callers that share it.
const LIMIT: usize = 190;
const CALLERS: usize = 500;

/// Turns of every server while the quota binds.
const BOUND_ROUNDS: usize = 2;

/// Length of HubSpot's window; the first one of a turn is not measured.
const WINDOW: Duration = Duration::from_secs(10);

/// Pause of a caller after a failed call: without it, callers of a wrapper that returns HubSpot's 429
/// would do nothing but repeat.
const BACKOFF: Duration = Duration::from_secs(1);

/// Connections that the callers share.
const CONNECTIONS: usize = 8;

/// A server and how to start it.
#[derive(Debug, Clone)]
enum Contender {
    Leadsd,
    Forwarder { name: &'static str, role: &'static str },
    Peer { name: String, command: String },
}

/// A server with a separate HubSpot fake.
struct Rival {
    fakes: Fakes,
    lane: Lane,
    leads: Vec<String>,
}

/// Result of one turn under a binding quota.
struct BoundTurn {
    seconds: f64,
    /// Calls that HubSpot counted.
    counted: u64,
    rate_limited: u64,
    records: Vec<CallRecord>,
}

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let mut contenders = vec![
        Contender::Leadsd,
        Contender::Forwarder { name: "tonic + reqwest", role: "reqwest-forwarder" },
        Contender::Forwarder { name: "tonic + hyper", role: "hyper-forwarder" },
    ];
    contenders.extend(plan.peers.iter().map(|peer| Contender::parse(peer)));
    measure_unbound(plan, &contenders, figures).await;
    measure_bound(plan, &contenders, figures).await;
}

async fn measure_unbound(plan: &Plan, contenders: &[Contender], figures: &mut Figures) {
    let mut rivals = Vec::new();
    for contender in contenders {
        rivals.push(Rival::start(contender, UNBOUND, IN_FLIGHT).await);
    }
    assert_same_answers(&rivals).await;
    let lanes: Vec<_> = rivals.iter().map(|rival| (&rival.lane, &*rival.leads)).collect();
    // Five seconds per turn at the default of sixty.
    let time = Duration::from_millis(plan.seconds * 1_000 / 12);
    let turns = lane::interleave(&lanes, ROUNDS, time).await;
    figures.begin_table(format!("No quota binds, {IN_FLIGHT} in flight"));
    for (rival, turns_of_rival) in rivals.iter().zip(&turns) {
        let name = &*rival.lane.name;
        let records = || turns_of_rival.iter().flat_map(|turn| &turn.records);
        let cpu = turns_of_rival.iter().map(Turn::cpu_per_call).collect();
        figures.add_rounds((name, "CPU per call"), cpu, Unit::Microseconds);
        let ratios = cpu_ratios(turns_of_rival, &turns[0]);
        figures.add_rounds((name, "ratio to leadsd"), ratios, Unit::Ratio);
        let rates = turns_of_rival.iter().map(Turn::rate).collect();
        figures.add_rounds((name, "calls per second"), rates, Unit::PerSecond);
        let latencies: Durations = records().map(|record| record.latency).collect();
        figures.add_duration((name, "p50"), latencies.median());
        figures.add_duration((name, "p99"), latencies.p99());
        figures.add((name, "failed calls"), count_failures(records()), Unit::Count);
    }
}

async fn measure_bound(plan: &Plan, contenders: &[Contender], figures: &mut Figures) {
    let mut rivals = Vec::new();
    for contender in contenders {
        rivals.push(Rival::start(contender, LIMIT, CALLERS).await);
    }
    // One window per turn at the default of sixty.
    let windows = u32::try_from(plan.seconds.div_ceil(60)).unwrap_or(1);
    let mut turns: Vec<Vec<BoundTurn>> = rivals.iter().map(|_| Vec::new()).collect();
    for _ in 0..BOUND_ROUNDS {
        for (rival, turns) in rivals.iter().zip(&mut turns) {
            turns.push(rival.turn(WINDOW * windows).await);
        }
    }
    figures.begin_table(format!("{LIMIT} calls per 10 s, {CALLERS} callers"));
    for (rival, turns) in rivals.iter().zip(&turns) {
        let name = &*rival.lane.name;
        let rates = turns.iter().map(BoundTurn::leads_per_second).collect();
        figures.add_rounds((name, "leads per second"), rates, Unit::PerSecond);
        let used = turns.iter().map(BoundTurn::fraction_used).collect();
        figures.add_rounds((name, "allowed calls used"), used, Unit::Fraction);
        let rate_limited = turns.iter().map(|turn| total(turn.rate_limited)).collect();
        figures.add_rounds((name, "HubSpot 429 per turn"), rate_limited, Unit::Count);
        let failures = turns.iter().map(|turn| count_failures(&turn.records)).collect();
        figures.add_rounds((name, "failed calls per turn"), failures, Unit::Count);
    }
}

/// Compares the responses of all servers for the first lead.
async fn assert_same_answers(rivals: &[Rival]) {
    let expected = comparable_answer(&rivals[0]).await;
    for rival in &rivals[1..] {
        assert_eq!(comparable_answer(rival).await, expected, "{}", rival.lane.name);
    }
}

/// The response for the first lead, without the times, which differ between fakes, and without the
/// URL, which HubSpot's Python client does not return.
async fn comparable_answer(Rival { lane, leads, .. }: &Rival) -> pb::Lead {
    let lead = lane.get_lead(&leads[0]).await;
    assert!(lead.create_time.is_some() && lead.update_time.is_some(), "{}", lane.name);
    let mut properties = lead.properties;
    properties.retain(|name, _| !name.ends_with("date"));
    pb::Lead {
        properties,
        create_time: None,
        update_time: None,
        url: String::new(),
        // The other wrappers leave them out.
        unset_properties: Vec::new(),
        ..lead
    }
}

// === impl Contender ===

impl Contender {
    /// Parses `NAME=COMMAND`.
    fn parse(text: &str) -> Self {
        let (name, command) = text.split_once('=').expect("a peer is NAME=COMMAND");
        Self::Peer { name: name.to_owned(), command: command.to_owned() }
    }

    /// Starts the server on the service's core.
    async fn start(&self, fakes: &Fakes, burst: usize) -> Lane {
        let core = machine::service_core();
        let url = fakes.hubspot_url();
        match self {
            Self::Leadsd => {
                let settings = [("QUOTA__BURST", &*burst.to_string())];
                let Server { process, grpc } = Server::start_pinned(fakes, &settings, core).await;
                Lane::new("leadsd", process, &grpc, CONNECTIONS).await
            }
            Self::Forwarder { name, role } => {
                let arguments = ["--upstream", &url, "--token", &fakes.token];
                let (process, address) = Process::start_helper(role, &arguments, Some(core)).await;
                Lane::new(*name, process, &address, CONNECTIONS).await
            }
            Self::Peer { name, command } => {
                let mut words = command.split_whitespace();
                let mut command = Command::new(words.next().expect("the command has a program"));
                command.args(words).env("HUBSPOT_URL", &url).env("HUBSPOT_TOKEN", &fakes.token);
                let mut process = Process::start(&mut command, Some(core));
                let address = process.address().await;
                Lane::new(name, process, &address, CONNECTIONS).await
            }
        }
    }
}

// === impl Rival ===

impl Rival {
    /// Starts a server beside a HubSpot that allows `burst` calls per window.
    async fn start(contender: &Contender, burst: usize, callers: usize) -> Self {
        let fakes = Fakes::start().await;
        fakes.set_burst(burst);
        let lane = contender.start(&fakes, burst).await;
        let leads = fakes.add_leads(callers);
        Self { fakes, lane, leads }
    }

    /// Runs all callers for one window and `time`; only the latter is measured.
    async fn turn(&self, time: Duration) -> BoundTurn {
        let mut callers = self.lane.callers(&self.leads);
        callers.iter_mut().for_each(|caller| caller.backoff = BACKOFF);
        let from = Instant::now() + WINDOW;
        let until = from + time;
        let load = ClosedLoop::start(callers, LeadCall::Get, until);
        sleep_until(from).await;
        let hubspot = &self.fakes.hubspot;
        let (counted, rate_limited) = (hubspot.counted(), hubspot.rate_limited());
        sleep_until(until).await;
        let counted = hubspot.counted() - counted;
        let rate_limited = hubspot.rate_limited() - rate_limited;
        let mut records = load.records().await;
        records.retain(|record| record.completed_at >= from && record.completed_at < until);
        BoundTurn { seconds: time.as_secs_f64(), counted, rate_limited, records }
    }
}

// === impl BoundTurn ===

impl BoundTurn {
    fn leads_per_second(&self) -> f64 {
        let succeeded = self.records.iter().filter(|record| record.failure.is_none()).count();
        count(succeeded) / self.seconds
    }

    fn fraction_used(&self) -> f64 {
        let allowed = count(LIMIT) * self.seconds / WINDOW.as_secs_f64();
        total(self.counted) / allowed
    }
}
