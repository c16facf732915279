//! A caller who asks now and then, alone and beside one who has fifty times as many calls under way,
//! all of them calls that cannot go together.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::failures;
use crate::{
    Plan,
    callers::{Kind, Load, Made, Subject},
    figures::{Figures, Times, Unit},
    peers::Peers,
    server::Server,
};

const WINDOW: Duration = Duration::from_secs(10);

/// Calls under way of the one who asks now and then.
const FEW: usize = 4;

/// How many times as many the other has.
const TIMES: usize = 50;

pub(super) async fn run(plan: Plan, figures: &mut Figures) {
    let time = Duration::from_secs(plan.seconds.clamp(10, 30));
    let peers = Peers::start().await;
    let server = Server::start(&peers, &[]).await;
    let clients = server.clients(2).await;
    let leads = peers.leads(FEW + FEW * TIMES);
    let subject = |client: usize, lead: &String, name| {
        let subject = Subject::new(clients[client].clone(), std::slice::from_ref(lead));
        Subject { name: Some(name), ..subject }
    };
    let few: Vec<Subject> = leads[..FEW].iter().map(|lead| subject(0, lead, "web")).collect();
    let alone = now_and_then(few.clone(), time).made().await;
    let alone = measured("alone", &alone, figures);
    for priority in ["interactive", "bulk"] {
        let many =
            leads[FEW..].iter().map(|lead| Subject { priority, ..subject(1, lead, "import") });
        let load = Load::start(many.collect(), Kind::List, Instant::now() + time + WINDOW);
        // The other has filled the queue by then.
        sleep(Duration::from_secs(2)).await;
        let beside = now_and_then(few.clone(), time).made().await;
        let what = format!("beside {TIMES} times the load ({priority})");
        let beside = measured(&what, &beside, figures);
        let cost = beside.max().saturating_sub(alone.max());
        let cost = figures.time(format!("{what}: longest wait that this costs"), cost);
        cost.at_most(WINDOW.as_secs_f64() * 1e3);
        let bulk = load.made().await;
        figures
            .note(format!("{what}: its failed calls"), failures(&bulk), Unit::Count)
            .at_most(0.0);
    }
}

/// Each makes a call, and the next one half a second after the answer.
fn now_and_then(subjects: Vec<Subject>, time: Duration) -> Load {
    let until = Instant::now() + time;
    Load::of(subjects.into_iter().map(move |mut subject| async move {
        let mut made = Vec::new();
        while Instant::now() < until {
            made.push(subject.call(Kind::List, made.len()).await);
            sleep(Duration::from_millis(500)).await;
        }
        made
    }))
}

fn measured(what: &str, made: &[Made], figures: &mut Figures) -> Times {
    let times = Times::of(made.iter().map(|made| made.took));
    figures.time(format!("{what}: latency p50"), times.median());
    figures.time(format!("{what}: latency max"), times.max());
    figures.note(format!("{what}: failed calls"), failures(made), Unit::Count).at_most(0.0);
    times
}
