//! Limits that change while 500 callers use them up: doubled, halved with notice, halved without
//! notice. All are multiples of ten, as HubSpot's limits are: a tenth is sent per second.
//!
//! HubSpot reports its limits with every response. "With notice" means that one response reports the
//! new limit before it applies: then no call may be rejected. Without notice the window already holds
//! more calls than the new limit allows. Every call that was sent before the first response arrives is
//! then rejected unavoidably; these are counted apart. A 429 without a time to wait closes the limit
//! for one window, so the measured windows begin a moment later.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::count_failures;
use crate::{
    fakes::Fakes,
    figures::{Figures, Unit, count, total},
    load::{ClosedLoop, LeadCall, LoadCaller},
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(10);

const CALLERS: usize = 500;

const CONNECTIONS: usize = 8;

/// Upper bound of the time from a request of this load to its response.
const ROUND_TRIP: Duration = Duration::from_millis(250);

/// Interval of the samples of HubSpot's counter.
const SAMPLE: Duration = Duration::from_millis(100);

/// Samples per second.
const SAMPLES_PER_SECOND: usize = 10;

/// A change of the limit.
struct Change {
    name: &'static str,
    /// New limit of calls per window.
    limit: usize,
    /// Time in which 429s are unavoidable.
    grace: Duration,
}

pub(super) async fn run(figures: &mut Figures) {
    let fakes = Fakes::start().await;
    fakes.set_burst(200);
    let server = Server::start(&fakes, &[]).await;
    let clients = server.clients(CONNECTIONS).await;
    let leads = fakes.add_leads(CALLERS * 10);
    let callers = leads.chunks(10).enumerate();
    let callers = callers
        .map(|(number, leads)| LoadCaller::new(clients[number % CONNECTIONS].clone(), leads));
    let begin = Instant::now();
    let load = ClosedLoop::start(callers.collect(), LeadCall::Get, begin + WINDOW * 8);
    sleep_until(begin + WINDOW * 2).await;

    fakes.set_burst(400);
    let change = Change { name: "doubled to 400", limit: 400, grace: Duration::ZERO };
    measure(&fakes, &change, figures).await;

    fakes.hubspot.limit(|limits| limits.announced = Some(200));
    let counted = fakes.hubspot.counted();
    while fakes.hubspot.counted() == counted {
        sleep(Duration::from_millis(1)).await;
    }
    // The response that reports the limit is still on its way.
    sleep(Duration::from_millis(20)).await;
    fakes.hubspot.limit(|limits| (limits.burst, limits.announced) = (200, None));
    let change = Change { name: "halved to 200 with notice", limit: 200, grace: Duration::ZERO };
    measure(&fakes, &change, figures).await;

    fakes.set_burst(100);
    let change = Change { name: "halved to 100 without notice", limit: 100, grace: ROUND_TRIP };
    measure(&fakes, &change, figures).await;
    let records = load.records().await;
    figures.add("failed calls", count_failures(&records), Unit::Count).at_most(0.0);
}

/// Watches two windows after a change: the first one reaches the new limit, and the second one uses
/// it without exceeding it.
async fn measure(fakes: &Fakes, change: &Change, figures: &mut Figures) {
    let Change { name, limit, grace } = *change;
    let changed_at = Instant::now();
    let before = fakes.hubspot.rate_limited();
    sleep_until(changed_at + grace).await;
    let unavoidable = fakes.hubspot.rate_limited() - before;
    let samples = sample(fakes).await;
    let rate_limited = fakes.hubspot.rate_limited() - before - unavoidable;

    let counted_at = |time| {
        let sample = samples.iter().rev().find(|(at, _)| *at <= time);
        sample.map_or(0, |(_, counted)| *counted)
    };
    let second_window = counted_at(WINDOW * 2) - counted_at(WINDOW);
    let at_pace = |second: &&[(Duration, u64)]| {
        let calls = second[SAMPLES_PER_SECOND].1 - second[0].1;
        total(calls) >= 0.9 * count(limit) / 10.0
    };
    // After a decrease, no call is sent until the window has room again.
    let reached = samples.windows(SAMPLES_PER_SECOND + 1).find(at_pace);
    let reached = reached.map_or(WINDOW * 2, |second| second[0].0);
    figures
        .add_duration(format!("{name}: new pace reached after"), reached)
        .at_most(WINDOW.as_secs_f64() * 1e3);
    let used = total(second_window) / count(limit);
    figures.add(format!("{name}: second window used"), used, Unit::Fraction).at_least(0.95);
    if !grace.is_zero() {
        let label = format!("{name}: 429 before the first response");
        figures.add(label, total(unavoidable), Unit::Count);
    }
    figures.add(format!("{name}: HubSpot 429"), total(rate_limited), Unit::Count).at_most(0.0);
}

/// Samples the number of counted calls for two windows.
async fn sample(fakes: &Fakes) -> Vec<(Duration, u64)> {
    let started_at = Instant::now();
    let mut samples = Vec::new();
    while started_at.elapsed() < WINDOW * 2 {
        samples.push((started_at.elapsed(), fakes.hubspot.counted()));
        sleep(SAMPLE).await;
    }
    samples
}
