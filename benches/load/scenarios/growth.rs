//! CPU time of a GetLead with 5,000 concurrent callers by that with 100, in the service and, for
//! comparison, in a bare forwarder.
//!
//! HTTP/1.1 to the upstream needs one connection per concurrent call, so a part of the growth is that
//! of the kernel. The same server is started twice: connections left over from 5,000 callers must not
//! weigh on the turns with 100.

use std::time::Duration;

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{self, Figures, Unit},
    lane::{self, Lane, Turn, cpu_ratios},
    machine,
    process::Process,
    server::Server,
    upstream::LEAD_ID,
};

const FEW: usize = 100;

const MANY: usize = 5_000;

/// Callers of the turns that open the connections to the upstream. All at once would overflow the
/// queue of connections that the kernel keeps for a listener.
const RAMP: [usize; 4] = [500, 1_500, 3_000, MANY];

/// Length of these turns.
const RAMP_TURN: Duration = Duration::from_millis(500);

/// Connections that the callers share, in both cases.
const CONNECTIONS: usize = 10;

/// Turns of every server.
const ROUNDS: usize = 7;

/// Files that the measured process needs: the connections of the callers and to the upstream.
const OPEN_FILES: u64 = 6_000;

/// The lane that the promise is about.
const LEADSD: &str = "leadsd";

/// Promised growth.
const BOUND: f64 = 1.25;

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    if machine::max_open_files() < OPEN_FILES {
        figures::print("  skipped: too few open files allowed; raise `ulimit -n`");
        figures.add("open files allowed", 0.0, Unit::Count).at_least(figures::total(OPEN_FILES));
        return;
    }
    let fakes = Fakes::start().await;
    let (_upstream, address) = Process::start_helper("upstream", &[], None).await;
    let url = format!("http://{address}");
    let (few, many) = (lane::lead_ids(FEW), lane::lead_ids(MANY));
    let (service_few, service_many) = (service(&fakes, &url).await, service(&fakes, &url).await);
    let (forwarder_few, forwarder_many) = (forwarder(&url).await, forwarder(&url).await);
    let lanes = [
        (&service_few, &*few),
        (&service_many, &*many),
        (&forwarder_few, &*few),
        (&forwarder_many, &*many),
    ];
    for (lane, leads) in lanes {
        // Until the first response reports the limit, calls are sent one by one and batched.
        lane.get_lead(LEAD_ID).await;
        for callers in RAMP.into_iter().filter(|callers| *callers <= leads.len()) {
            lane.turn(lane.callers(&leads[..callers]), RAMP_TURN).await;
        }
    }
    // Three seconds per turn at the default of sixty. While the other lanes have their turns, the
    // pooled connections of a lane must not reach their idle timeout.
    let time = Duration::from_millis(plan.seconds * 50);
    let turns = lane::interleave(&lanes, ROUNDS, time).await;
    for (pair, turns) in lanes.chunks(2).zip(turns.chunks(2)) {
        let name = &*pair[0].0.name;
        for (turns, callers) in turns.iter().zip(["100 callers", "5,000 callers"]) {
            let cpu = turns.iter().map(Turn::cpu_per_call).collect();
            figures.add_rounds((name, callers), cpu, Unit::Microseconds);
        }
        let growth = cpu_ratios(&turns[1], &turns[0]);
        let growth = figures.add_rounds((name, "growth"), growth, Unit::Ratio);
        if name == LEADSD {
            growth.at_most(BOUND);
        } else {
            drop(growth);
        }
        let failures = count_failures(turns.iter().flatten().flat_map(|turn| &turn.records));
        figures.add((name, "failed calls"), failures, Unit::Count).at_most(0.0);
    }
}

async fn service(fakes: &Fakes, upstream: &str) -> Lane {
    let settings = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", upstream)];
    let Server { process, grpc } =
        Server::start_pinned(fakes, &settings, machine::service_core()).await;
    Lane::new(LEADSD, process, &grpc, CONNECTIONS).await
}

async fn forwarder(upstream: &str) -> Lane {
    let core = Some(machine::service_core());
    let arguments = ["--upstream", upstream];
    let (process, address) = Process::start_helper("reqwest-forwarder", &arguments, core).await;
    Lane::new("tonic + reqwest", process, &address, CONNECTIONS).await
}
