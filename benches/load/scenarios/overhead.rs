//! CPU time of a GetLead in the service, by that of a bare forwarder that returns the same response.
//!
//! Every server runs in a separate process, pinned to one core, with the same allocator and the same
//! transport settings. The load and the upstream share another core. The servers take turns in one
//! run; each figure is the median over the rounds, with the smallest and the largest round. A ratio is
//! formed per round.

use std::time::Duration;

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Figures, Unit},
    lane::{self, Lane, Turn, cpu_ratios},
    machine,
    process::Process,
    server::Server,
    upstream::LEAD_ID,
};

/// Concurrent calls.
const IN_FLIGHT: [usize; 3] = [4, 64, 256];

/// Connections that the callers share.
const CONNECTIONS: usize = 4;

/// Turns of every server.
const ROUNDS: usize = 7;

/// The service without and with an access event per call.
const LEADSD: &str = "leadsd";
const LEADSD_LOGGING: &str = "leadsd with access log";

/// Promised CPU time by that of the forwarder with the same HTTP client.
const BOUND: f64 = 1.15;
const BOUND_WITH_ACCESS_LOG: f64 = 1.25;

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let fakes = Fakes::start().await;
    let (_upstream, address) = Process::start_helper("upstream", &[], None).await;
    let url = format!("http://{address}");
    let lanes = [
        forwarder("tonic + reqwest", "reqwest-forwarder", &url).await,
        forwarder("tonic + hyper", "hyper-forwarder", &url).await,
        service(LEADSD, &fakes, &url, &[]).await,
        service(LEADSD_LOGGING, &fakes, &url, &[("LOG__LEVEL", "info")]).await,
    ];
    assert_same_answers(&lanes).await;
    // Three seconds per turn at the default of sixty.
    let time = Duration::from_millis(plan.seconds * 50);
    for in_flight in IN_FLIGHT {
        let leads = lane::lead_ids(in_flight);
        let turns = lanes.each_ref().map(|lane| (lane, &*leads));
        let turns = lane::interleave(&turns, ROUNDS, time).await;
        add_figures(in_flight, &lanes, &turns, figures);
    }
}

fn add_figures(in_flight: usize, lanes: &[Lane], turns: &[Vec<Turn>], figures: &mut Figures) {
    figures.begin_table(format!("{in_flight} in flight"));
    for (lane, turns_of_lane) in lanes.iter().zip(turns) {
        let name = &*lane.name;
        let cpu = turns_of_lane.iter().map(Turn::cpu_per_call).collect();
        figures.add_rounds((name, "CPU per call"), cpu, Unit::Microseconds);
        let ratios = cpu_ratios(turns_of_lane, &turns[0]);
        let ratio = figures.add_rounds((name, "ratio to tonic + reqwest"), ratios, Unit::Ratio);
        match name {
            LEADSD => ratio.at_most(BOUND),
            LEADSD_LOGGING => ratio.at_most(BOUND_WITH_ACCESS_LOG),
            _ => drop(ratio),
        }
        let utilization = turns_of_lane.iter().map(Turn::utilization).collect();
        figures.add_rounds((name, "core used"), utilization, Unit::Fraction);
        let failures = count_failures(turns_of_lane.iter().flat_map(|turn| &turn.records));
        figures.add((name, "failed calls"), failures, Unit::Count).at_most(0.0);
    }
}

/// Starts a bare forwarder.
async fn forwarder(name: &str, role: &str, upstream: &str) -> Lane {
    let core = Some(machine::service_core());
    let (process, address) = Process::start_helper(role, &["--upstream", upstream], core).await;
    Lane::new(name, process, &address, CONNECTIONS).await
}

/// Starts the service with a quota that never binds.
async fn service(name: &str, fakes: &Fakes, upstream: &str, settings: &[(&str, &str)]) -> Lane {
    let quota = [("QUOTA__BURST", "1000000"), ("HUBSPOT__BASE_URL", upstream)];
    let settings = [&quota, settings].concat();
    let Server { process, grpc } =
        Server::start_pinned(fakes, &settings, machine::service_core()).await;
    Lane::new(name, process, &grpc, CONNECTIONS).await
}

/// Asserts that all servers return the same response, so that they are comparable.
async fn assert_same_answers(lanes: &[Lane]) {
    let expected = lanes[0].get_lead(LEAD_ID).await;
    for lane in &lanes[1..] {
        assert_eq!(lane.get_lead(LEAD_ID).await, expected, "{}", lane.name);
    }
}
