//! What is promised of the service under load, measured: `cargo bench --bench load -- <scenario>`.
//!
//! The service is the binary itself, in a process of its own. The load, the HubSpot that counts its
//! calls in true rolling windows, and the Vault are in this process. A figure that misses its bound
//! makes the run fail.

mod callers;
mod figures;
mod helpers;
mod peers;
mod scenarios;
mod server;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use crate::{figures::Figures, scenarios::Scenario};

/// What to measure, and for how long.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench load --")]
struct Args {
    /// What to measure; everything if none is named.
    scenarios: Vec<Scenario>,
    /// Seconds that a load is measured for.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The short form for every change: small limits, and bounds that hold in any build on any
    /// machine.
    #[arg(long)]
    smoke: bool,
    /// Writes the figures to this file as Markdown.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Cargo says so when it runs benches, and not when it runs tests.
    #[arg(long, hide = true)]
    bench: bool,
    /// This process is a helper of another one.
    #[arg(long, hide = true)]
    helper: Option<helpers::Role>,
    /// Whom the helper calls.
    #[arg(long, hide = true, default_value = "")]
    upstream: String,
}

/// How a scenario is to be run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Seconds that a load is measured for.
    pub(crate) seconds: u64,
    /// Whether it is the short form.
    pub(crate) smoke: bool,
}

fn main() -> ExitCode {
    let Args { scenarios, seconds, smoke, markdown, bench, helper, upstream } = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    if let Some(role) = helper {
        runtime.block_on(helpers::run(role, &upstream));
        return ExitCode::SUCCESS;
    }
    let smoke = smoke || !bench;
    let plan = Plan { seconds, smoke };
    let all = match (scenarios.is_empty(), smoke) {
        (false, _) => scenarios,
        (true, true) => Scenario::SMOKE.to_vec(),
        (true, false) => Scenario::value_variants().to_vec(),
    };
    let mut figures = Figures::default();
    for scenario in all {
        runtime.block_on(scenario.run(plan, &mut figures));
    }
    if let Some(file) = markdown {
        std::fs::write(file, figures.markdown()).expect("a file that can be written");
    }
    match figures.missed() {
        0 => ExitCode::SUCCESS,
        missed => {
            figures::say(&format!("\n{missed} figures miss their bound"));
            ExitCode::FAILURE
        }
    }
}
