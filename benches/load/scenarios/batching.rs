//! 500 callers that each make one single call after the other: HubSpot allows 190 calls in ten
//! seconds, and a batch call carries up to a hundred leads.
//!
//! The first window is not measured: it opens with permits for which no call is queued, and with a
//! batch of one lead that shows whether HubSpot returns trace ids. Whole windows follow: a rolling
//! window that is full stays full.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::count_failures;
use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures, Unit, count, total},
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller},
    server::Server,
};

/// Length of HubSpot's window in seconds.
const WINDOW: u64 = 10;

const CALLS: [LeadCall; 4] = [LeadCall::Get, LeadCall::Update, LeadCall::Create, LeadCall::Archive];

/// Maximum leads of one HubSpot call.
const BATCH: usize = 100;

/// Connections that the callers share.
const CONNECTIONS: usize = 8;

/// Size of a load.
struct Size {
    callers: usize,
    /// Calls that HubSpot allows per window.
    burst: usize,
    /// Seconds before the measurement.
    warm_up: u64,
    /// Seconds of the measurement.
    seconds: u64,
}

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    let size = if plan.smoke {
        // A debug build is too slow for the whole limit.
        Size { callers: 150, burst: 50, warm_up: 2, seconds: WINDOW }
    } else {
        let seconds = plan.seconds.next_multiple_of(WINDOW);
        Size { callers: 500, burst: 190, warm_up: WINDOW, seconds }
    };
    for call in CALLS {
        measure(call, &size, figures).await;
    }
}

async fn measure(call: LeadCall, size: &Size, figures: &mut Figures) {
    let Size { callers, burst, warm_up, seconds } = *size;
    let fakes = Fakes::start().await;
    fakes.set_burst(burst);
    let server = Server::start(&fakes, &[("QUOTA__BURST", &burst.to_string())]).await;
    let clients = server.clients(CONNECTIONS).await;
    let leads_each = leads_per_caller(call, size);
    let leads = fakes.add_leads(callers * leads_each);
    let load = leads.chunks(leads_each).enumerate().map(|(number, leads)| {
        let client = clients[number % CONNECTIONS].clone();
        LoadCaller::new(client, leads).with_contact(&fakes.contact)
    });
    let from = Instant::now() + Duration::from_secs(warm_up);
    let until = from + Duration::from_secs(seconds);
    let load = ClosedLoop::start(load.collect(), call, until);
    sleep_until(from).await;
    let before = fakes.hubspot.counted();
    sleep_until(until).await;
    let calls = fakes.hubspot.counted() - before;
    let rate_limited = fakes.hubspot.rate_limited();
    let records = load.records().await;
    let in_window =
        |record: &&CallRecord| record.completed_at >= from && record.completed_at < until;
    let measured: Vec<&CallRecord> = records.iter().filter(in_window).collect();
    let succeeded = measured.iter().filter(|record| record.failure.is_none()).count();
    let allowed = total(seconds) * count(burst) / 10.0;
    let rate = count(succeeded) / total(seconds);
    let latencies: Durations = measured.iter().map(|record| record.latency).collect();
    let name = call.name();
    figures
        .add(format!("{name}: leads per second"), rate, Unit::PerSecond)
        .at_least(0.95 * count(burst * BATCH) / 10.0);
    figures.add(format!("{name}: allowed calls used"), total(calls) / allowed, Unit::Fraction);
    let per_call = count(succeeded) / total(calls);
    figures.add(format!("{name}: leads per HubSpot call"), per_call, Unit::Count);
    figures.add(format!("{name}: HubSpot 429"), total(rate_limited), Unit::Count).at_most(0.0);
    let failures = count_failures(&records);
    figures.add(format!("{name}: failed calls"), failures, Unit::Count).at_most(0.0);
    figures.add_duration(format!("{name}: latency p50"), latencies.median());
    figures.add_duration(format!("{name}: latency p99"), latencies.p99());
    figures.add_duration(format!("{name}: latency max"), latencies.max());
}

/// Enough leads that each is archived once; ten for the calls that can be repeated.
fn leads_per_caller(call: LeadCall, size: &Size) -> usize {
    let Size { callers, burst, warm_up, seconds } = *size;
    match call {
        LeadCall::Archive => {
            burst * BATCH * usize::try_from(seconds + warm_up).unwrap_or(1) / 10 / callers + 20
        }
        LeadCall::Get | LeadCall::Update | LeadCall::Create | LeadCall::List => 10,
    }
}
