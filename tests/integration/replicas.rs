//! Replicas of the service that know of each other only by what HubSpot says is left.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use leadsd::grpc::pb;
use tonic::Request;

use crate::harness::TestApp;

/// Calls that HubSpot allows in a window.
const LIMIT: usize = 100;

const WINDOW: Duration = Duration::from_secs(10);

/// Makes calls at this replica until the end; counts those that end after `since`.
async fn load(app: &TestApp, replica: usize, since: Instant, end: Instant) -> u32 {
    let calls = Cell::new(0);
    let one = |number: usize| {
        let (calls, mut leads) = (&calls, app.leads.clone());
        async move {
            for turn in 0.. {
                // A page that nobody else reads.
                let properties = vec![format!("p{replica}_{number}_{turn}")];
                let message = pb::ListLeadsRequest { properties, ..Default::default() };
                let answer = leads.list_leads(Request::new(message));
                let left = end.saturating_duration_since(Instant::now());
                let Ok(answer) = tokio::time::timeout(left, answer).await else { return };
                // A refusal is HubSpot's: it is counted there.
                if answer.is_ok() && Instant::now() > since {
                    calls.set(calls.get() + 1);
                }
            }
        }
    };
    join_all((0..15).map(one)).await;
    calls.get()
}

#[tokio::test]
async fn replicas_without_a_ledger_use_the_limit_up_and_share_it_evenly() {
    let first = TestApp::builder().set("QUOTA__BURST", &LIMIT.to_string()).start().await;
    first.hubspot.limit(|limits| limits.burst = LIMIT);
    let beside = || first.replica().set("QUOTA__BURST", &LIMIT.to_string()).start();
    let (second, third) = tokio::join!(beside(), beside());
    let begin = Instant::now();
    // The first window is for finding out.
    let (since, end) = (begin + WINDOW, begin + WINDOW * 2);
    let (counts, refused) = tokio::join!(
        join_all(
            [&first, &second, &third]
                .into_iter()
                .enumerate()
                .map(|(number, app)| { load(app, number, since, end) })
        ),
        async {
            tokio::time::sleep(WINDOW).await;
            first.hubspot.rate_limited()
        },
    );
    let refusals = first.hubspot.rate_limited();
    assert!(refused <= 3, "{refused} in the first window");
    assert!(refusals - refused <= 1, "{refusals} after {refused}");
    let all: u32 = counts.iter().sum();
    assert!(all as usize >= LIMIT * 80 / 100, "{counts:?}");
    assert!(counts.iter().all(|&own| own * 3 * 2 >= all), "half of an even part: {counts:?}");
}
