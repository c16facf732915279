//! 500 callers that each make one single call after the other: HubSpot's limit allows 190 calls in
//! ten seconds, and a call can carry a hundred leads.
//!
//! The first window is not measured: it opens with permits that nobody waits for, which carry one
//! lead each, and with a batch of one that shows whether HubSpot sends trace ids back. Then come
//! whole windows: a rolling window that is full stays full.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{count, failures, total};
use crate::{
    Plan,
    callers::{Kind, Load, Made, Subject},
    figures::{Figures, Times, Unit},
    peers::Peers,
    server::Server,
};

const WINDOW: u64 = 10;

const KINDS: [Kind; 4] = [Kind::Get, Kind::Update, Kind::Create, Kind::Archive];

/// Most leads of one HubSpot call.
const BATCH: usize = 100;

/// Connections that the callers share.
const CONNECTIONS: usize = 8;

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    for kind in KINDS {
        // A build that is not optimised has not the speed for the whole limit.
        let (callers, burst) = if plan.smoke { (150, 50) } else { (500, 190) };
        let seconds = if plan.smoke { WINDOW } else { plan.seconds.next_multiple_of(WINDOW) };
        one(kind, callers, burst, seconds, plan.smoke, figures).await;
    }
}

async fn one(
    kind: Kind,
    callers: usize,
    burst: usize,
    seconds: u64,
    smoke: bool,
    figures: &mut Figures,
) {
    let peers = Peers::start().await;
    peers.allow(burst);
    let name = kind.name();
    let server = Server::start(&peers, &[("QUOTA__BURST", &burst.to_string())]).await;
    let clients = server.clients(CONNECTIONS).await;
    let warm = if smoke { 2 } else { WINDOW };
    let each = match kind {
        // Each is archived once.
        Kind::Archive => {
            burst * BATCH * usize::try_from(seconds + warm).unwrap_or(1) / 10 / callers + 20
        }
        _ => 10,
    };
    let leads = peers.leads(callers * each);
    let subjects = leads.chunks(each).enumerate().map(|(number, own)| {
        let client = clients[number % CONNECTIONS].clone();
        Subject::new(client, own).contact(&peers.contact)
    });
    let from = Instant::now() + Duration::from_secs(warm);
    let until = from + Duration::from_secs(seconds);
    let load = Load::start(subjects.collect(), kind, until);
    sleep_until(from).await;
    let before = peers.hubspot.counted();
    sleep_until(until).await;
    let calls = peers.hubspot.counted() - before;
    let refused = peers.hubspot.rate_limited();
    let made = load.made().await;
    let measured: Vec<&Made> =
        made.iter().filter(|made| made.at >= from && made.at < until).collect();
    let answered = measured.iter().filter(|made| made.failed.is_none()).count();
    let allowed = total(seconds) * count(burst) / 10.0;
    let rate = count(answered) / total(seconds);
    let times = Times::of(measured.iter().map(|made| made.took));
    figures
        .note(format!("{name}: leads a second"), rate, Unit::PerSecond)
        .at_least(0.95 * count(burst * BATCH) / 10.0);
    figures.note(
        format!("{name}: calls used of those allowed"),
        total(calls) / allowed,
        Unit::Part,
    );
    let per_call = count(answered) / total(calls);
    figures.note(format!("{name}: leads per HubSpot call"), per_call, Unit::Count);
    figures
        .note(format!("{name}: refusals by HubSpot (429)"), total(refused), Unit::Count)
        .at_most(0.0);
    figures.note(format!("{name}: failed calls"), failures(&made), Unit::Count).at_most(0.0);
    figures.time(format!("{name}: latency p50"), times.median());
    figures.time(format!("{name}: latency p99"), times.permille(990));
    figures.time(format!("{name}: latency max"), times.max());
}
