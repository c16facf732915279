//! One caller that makes one call after the other while permits are free, by turns with and without
//! batching.

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures, Unit},
    load::{LeadCall, LoadCaller},
    server::Server,
};

const CALLS: [LeadCall; 4] = [LeadCall::Get, LeadCall::Update, LeadCall::Create, LeadCall::Archive];

/// Calls before the measurement.
const WARM_UP: usize = 200;

/// A limit that never binds.
const UNBOUND: usize = 1_000_000;

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let calls = if plan.smoke { 600 } else { 4_000 };
    let fakes = Fakes::start().await;
    fakes.set_burst(UNBOUND);
    let (burst, mut servers) = (UNBOUND.to_string(), Vec::new());
    for batching in ["true", "false"] {
        let settings = [("QUOTA__BURST", burst.as_str()), ("QUOTA__BATCHING", batching)];
        let server = Server::start(&fakes, &settings).await;
        let client = server.clients(1).await.remove(0);
        let leads = fakes.add_leads(100);
        servers.push((server, LoadCaller::new(client, &leads).with_contact(&fakes.contact)));
    }
    for call in CALLS {
        let mut records: [Vec<_>; 2] = Default::default();
        for number in 0..WARM_UP + calls {
            // The second call finds the fake's caches warm: each server is second every other time.
            for server in if number % 2 == 0 { [0, 1] } else { [1, 0] } {
                let record = servers[server].1.call(call, number).await;
                if number >= WARM_UP {
                    records[server].push(record);
                }
            }
        }
        let failures = count_failures(records.iter().flatten());
        let [on, off] = records
            .map(|records| records.into_iter().map(|record| record.latency).collect::<Durations>());
        let ratio = |rank| on.permille(rank).as_secs_f64() / off.permille(rank).as_secs_f64();
        let name = call.name();
        figures.add_duration(format!("{name}: p50 without batching"), off.median());
        figures.add_duration(format!("{name}: p50 with batching"), on.median());
        let bound = if plan.smoke { 1.15 } else { 1.05 };
        let p50 = figures.add(format!("{name}: p50 with / without"), ratio(500), Unit::Ratio);
        p50.at_most(bound);
        figures.add(format!("{name}: p99 with / without"), ratio(990), Unit::Ratio);
        figures.add(format!("{name}: failed calls"), failures, Unit::Count).at_most(0.0);
    }
}
