//! Limits that change while 500 callers use them to the last call: doubled, halved with notice,
//! halved without. All are multiples of ten, as HubSpot's limits are: a tenth goes in a second.
//!
//! HubSpot tells its limits with every answer. Halved with notice means that one answer tells the new
//! limit before it holds: then there must be no refusal. Without notice the window already holds more
//! calls than the new limit allows, and whatever was sent before the first answer can be here is
//! refused, unavoidably: those are counted apart from all that come later. A refusal that does not say
//! for how long closes the limit for one window, so that the windows watched begin a moment later.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{count, failures, total};
use crate::{
    callers::{Kind, Load, Subject},
    figures::{Figures, Unit},
    peers::Peers,
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(10);

const CALLERS: usize = 500;

/// Longer than a call of this load takes from being sent to being answered.
const ROUND_TRIP: Duration = Duration::from_millis(250);

pub(super) async fn run(figures: &mut Figures) {
    let peers = Peers::start().await;
    peers.allow(200);
    let server = Server::start(&peers, &[]).await;
    let clients = server.clients(8).await;
    let leads = peers.leads(CALLERS * 10);
    let subjects = leads
        .chunks(10)
        .enumerate()
        .map(|(number, own)| Subject::new(clients[number % 8].clone(), own));
    let begin = Instant::now();
    let load = Load::start(subjects.collect(), Kind::Get, begin + WINDOW * 8);
    sleep_until(begin + WINDOW * 2).await;

    peers.allow(400);
    settled(&peers, "doubled to 400", 400, Duration::ZERO, figures).await;

    peers.hubspot.limit(|limits| limits.announced = Some(200));
    let told = peers.hubspot.counted();
    while peers.hubspot.counted() == told {
        sleep(Duration::from_millis(1)).await;
    }
    // That answer is still on its way.
    sleep(Duration::from_millis(20)).await;
    peers.hubspot.limit(|limits| (limits.burst, limits.announced) = (200, None));
    settled(&peers, "halved to 200 with notice", 200, Duration::ZERO, figures).await;

    peers.allow(100);
    settled(&peers, "halved to 100 without notice", 100, ROUND_TRIP, figures).await;
    let made = load.made().await;
    figures.note("failed calls", failures(&made), Unit::Count).at_most(0.0);
}

/// Watches two windows from a change on: whether the first one gets to the new limit, and whether
/// the second one is used and keeps to it.
async fn settled(
    peers: &Peers,
    change: &str,
    limit: usize,
    grace: Duration,
    figures: &mut Figures,
) {
    let since = Instant::now();
    let before = peers.hubspot.rate_limited();
    sleep_until(since + grace).await;
    let unavoidable = peers.hubspot.rate_limited() - before;
    let since = Instant::now();
    // Calls counted so far, ten times a second.
    let mut counted = Vec::new();
    while since.elapsed() < WINDOW * 2 {
        counted.push((since.elapsed(), peers.hubspot.counted()));
        sleep(Duration::from_millis(100)).await;
    }
    let used = |from: Duration| {
        let at = |time| counted.iter().rev().find(|(at, _)| *at <= time).map_or(0, |(_, all)| *all);
        at(from + WINDOW) - at(from)
    };
    let refused = peers.hubspot.rate_limited() - before - unavoidable;
    let second =
        |pair: &[(Duration, u64)]| total(pair[10].1 - pair[0].1) >= 0.9 * count(limit) / 10.0;
    // Down, nothing goes until the window has room.
    let pace = counted.windows(11).find(|pair| second(pair)).map(|pair| pair[0].0);
    figures
        .time(format!("{change}: at the new pace after"), pace.unwrap_or(WINDOW * 2))
        .at_most(WINDOW.as_secs_f64() * 1e3);
    let part = total(used(WINDOW)) / count(limit);
    figures.note(format!("{change}: used of the second window"), part, Unit::Part).at_least(0.95);
    if !grace.is_zero() {
        figures.note(
            format!("{change}: refusals before one answer"),
            total(unavoidable),
            Unit::Count,
        );
    }
    figures.note(format!("{change}: refusals (429)"), total(refused), Unit::Count).at_most(0.0);
}
