//! Calls with a deadline of 50 ms while others are queued for a permit: none will be free in time, and
//! each call is rejected at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    Plan,
    fakes::Fakes,
    figures::{Durations, Figures, Unit, count},
    load::{CallRecord, ClosedLoop, LeadCall, LoadCaller},
    server::Server,
};

/// Callers that keep the quota exhausted: with calls that cannot be batched, and with calls that can,
/// of which many more may be queued.
const QUEUED: [(LeadCall, usize); 2] = [(LeadCall::List, 40), (LeadCall::Get, 8_000)];

/// Connections of the load; the measured caller has one more.
const CONNECTIONS: usize = 9;

/// Time after which the permits of the first second are used.
const WARM_UP: Duration = Duration::from_millis(1_500);

const DEADLINE: Duration = Duration::from_millis(50);

pub(super) async fn run(plan: &Plan, figures: &mut Figures) {
    for (call, queued) in QUEUED {
        measure(call, queued, plan, figures).await;
        if plan.smoke {
            return;
        }
    }
}

async fn measure(queued_call: LeadCall, queued: usize, plan: &Plan, figures: &mut Figures) {
    let calls = if plan.smoke { 300 } else { 2_000 };
    let fakes = Fakes::start().await;
    let server = Server::start(&fakes, &[("QUOTA__MAX_QUEUE", "20000")]).await;
    let clients = server.clients(CONNECTIONS + 1).await;
    let leads = fakes.add_leads(queued + 1);
    let until = Instant::now() + Duration::from_secs(60);
    let callers = leads[1..].iter().enumerate().map(|(number, lead)| {
        LoadCaller::new(clients[number % CONNECTIONS].clone(), std::slice::from_ref(lead))
    });
    let load = ClosedLoop::start(callers.collect(), queued_call, until);
    sleep(WARM_UP).await;
    let mut caller = LoadCaller::new(clients[CONNECTIONS].clone(), &leads[..1]);
    caller.deadline = DEADLINE;
    for call in [LeadCall::List, LeadCall::Get] {
        let mut records = Vec::new();
        for number in 0..calls {
            records.push(caller.call(call, number).await);
        }
        let rejected = records.iter().filter(|record| is_rejected(record));
        let latencies: Durations = rejected.map(|record| record.latency).collect();
        let name = format!("{}, {queued} queued", call.name());
        figures
            .add(format!("{name}: rejected calls"), count(latencies.len()), Unit::Count)
            .at_least(count(calls));
        let p50 = figures.add_duration(format!("{name}: rejected within, p50"), latencies.median());
        p50.at_most(5.0);
        let p99 = figures.add_duration(format!("{name}: rejected within, p99"), latencies.p99());
        p99.at_most(if plan.smoke { 25.0 } else { 5.0 });
        figures.add_duration(format!("{name}: rejected within, max"), latencies.max());
    }
    drop(load);
}

fn is_rejected(record: &CallRecord) -> bool {
    record.failure.as_ref().is_some_and(|(code, _)| *code == Code::ResourceExhausted)
}
