//! Load bench: measures every figure of `docs/PERFORMANCE.md` and fails if one misses its bound.
//!
//! `cargo bench --bench load -- <scenario>` runs one scenario. The service is the released binary
//! in a separate process. The load, a HubSpot fake with rolling windows and a Vault fake run in
//! this process. Scenarios that compare CPU time pin the measured process to one core and
//! everything else to another.

mod fakes;
mod figures;
mod forwarder;
mod lane;
mod load;
mod machine;
mod markdown;
mod process;
mod scenarios;
mod server;
mod upstream;

use std::{path::PathBuf, process::ExitCode, thread};

use clap::{Parser, ValueEnum};
use tokio::runtime::Runtime;

use crate::{figures::Figures, scenarios::Scenario};

/// The allocator of the released binary: the forwarders run in this executable and must not differ
/// from the service in it.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Command line of the bench.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
struct Args {
    /// Scenarios to run; all but `peers` if none is named.
    scenarios: Vec<Scenario>,
    /// Seconds that one load is measured for.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs the short form that CI runs for every change: small limits, and bounds that hold on any
    /// machine.
    #[arg(long)]
    smoke: bool,
    /// Writes the figures to this Markdown file: replaces the sections of the scenarios that run.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// A server to compare with in `peers`: its name, `=`, and the command that starts it.
    #[arg(long = "peer")]
    peers: Vec<String>,
    /// Set by cargo for benches, and not for tests.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs this process as a helper of another one.
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Base URL of the HubSpot that the helper calls.
    #[arg(long, hide = true, default_value = "")]
    upstream: String,
    /// Bearer token that the helper sends.
    #[arg(long, hide = true, default_value = "pat-na1-bench")]
    token: String,
}

/// Job of a helper process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Answers every request with the same lead.
    Upstream,
    /// Serves GetLead with tonic and reqwest.
    ReqwestForwarder,
    /// Serves GetLead with tonic and the client of hyper-util.
    HyperForwarder,
}

/// Options that all scenarios share.
#[derive(Debug, Clone)]
struct Plan {
    /// Seconds that one load is measured for.
    seconds: u64,
    /// True if the short form runs.
    smoke: bool,
    /// Servers to compare with, by `NAME=COMMAND`.
    peers: Vec<String>,
}

fn main() -> ExitCode {
    let Args { scenarios, seconds, smoke, markdown, peers, bench, role, upstream, token } =
        Args::parse();
    if let Some(role) = role {
        runtime().block_on(run_helper(role, &upstream, &token));
        return ExitCode::SUCCESS;
    }
    machine::raise_open_files();
    let smoke = smoke || !bench;
    let plan = Plan { seconds, smoke, peers };
    let scenarios = match (scenarios.is_empty(), smoke) {
        (false, _) => scenarios,
        (true, true) => Scenario::SMOKE.to_vec(),
        (true, false) => Scenario::DEFAULT.to_vec(),
    };
    let mut figures = Figures::default();
    for scenario in scenarios {
        run_scenario(scenario, &plan, &mut figures);
    }
    if let Some(file) = markdown {
        markdown::update(&file, &figures).expect("the file is writable");
    }
    match figures.missed() {
        0 => ExitCode::SUCCESS,
        missed => {
            figures::print(&format!("\n{missed} figures miss their bound"));
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario on a separate runtime, whose threads inherit the core that the scenario asks
/// for.
fn run_scenario(scenario: Scenario, plan: &Plan, figures: &mut Figures) {
    thread::scope(|scope| {
        let run = move || {
            if scenario.is_pinned() {
                machine::pin_thread(machine::load_core());
            }
            runtime().block_on(scenario.run(plan, figures));
        };
        scope.spawn(run).join().expect("the scenario does not panic");
    });
}

async fn run_helper(role: Role, upstream: &str, token: &str) {
    match role {
        Role::Upstream => {
            let (listener, address) = upstream::listen();
            process::print_address(&address);
            upstream::serve(listener, || std::future::ready(())).await;
        }
        Role::ReqwestForwarder => {
            forwarder::serve(forwarder::ReqwestReader::new(upstream, token)).await;
        }
        Role::HyperForwarder => {
            forwarder::serve(forwarder::HyperReader::new(upstream, token)).await;
        }
    }
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the runtime starts")
}
