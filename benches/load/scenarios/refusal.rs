//! Calls with a deadline of 50 ms while others wait for a permit: there will be none in time, and
//! they are told so at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;

use super::count;
use crate::{
    Plan,
    callers::{Kind, Load, Subject},
    figures::{Figures, Times, Unit},
    peers::Peers,
    server::Server,
};

/// Callers that keep the bucket empty, with calls that cannot go together, and with calls that can:
/// many more of these may wait.
const WAITING: [(Kind, usize); 2] = [(Kind::List, 40), (Kind::Get, 8_000)];

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    for (kind, waiting) in WAITING {
        beside(kind, waiting, plan, figures).await;
        if plan.smoke {
            return;
        }
    }
}

async fn beside(waits: Kind, waiting: usize, plan: Plan, figures: &mut Figures) {
    let calls = if plan.smoke { 300 } else { 2_000 };
    let peers = Peers::start().await;
    let server = Server::start(&peers, &[("QUOTA__MAX_WAITING", "20000")]).await;
    let clients = server.clients(10).await;
    let leads = peers.leads(waiting + 1);
    let until = Instant::now() + Duration::from_secs(60);
    let subjects = leads[1..].iter().enumerate().map(|(number, lead)| {
        Subject::new(clients[number % 9].clone(), std::slice::from_ref(lead))
    });
    let load = Load::start(subjects.collect(), waits, until);
    // The first second's permits go at once.
    sleep(Duration::from_millis(1_500)).await;
    let mut hasty = Subject::new(clients[9].clone(), &leads[..1]);
    hasty.deadline = Duration::from_millis(50);
    for kind in [Kind::List, Kind::Get] {
        let mut made = Vec::new();
        for number in 0..calls {
            made.push(hasty.call(kind, number).await);
        }
        let name = format!("{}, {waiting} wait", kind.name());
        let is_refused = |failed: &(Code, String)| failed.0 == Code::ResourceExhausted;
        let refused = made.iter().filter(|made| made.failed.as_ref().is_some_and(is_refused));
        let times = Times::of(refused.map(|made| made.took));
        figures
            .note(format!("{name}: calls refused"), count(times.len()), Unit::Count)
            .at_least(count(calls));
        figures.time(format!("{name}: refused within, p50"), times.median()).at_most(5.0);
        let p99 = figures.time(format!("{name}: refused within, p99"), times.permille(990));
        p99.at_most(if plan.smoke { 25.0 } else { 5.0 });
        figures.time(format!("{name}: refused within, max"), times.max());
    }
    drop(load);
}
