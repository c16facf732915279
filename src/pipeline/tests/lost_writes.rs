//! Throughput of creates while HubSpot's responses are lost, with a property for request ids.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use leadsd_quota::{Priority, testing::InMemoryLedger};
use tokio::time::{Instant, sleep, timeout};

use super::campaign::{Fault, Hubspot, Replica, create, request_id};
use crate::leads::idempotency::testing::InMemoryRequestIds;

const SECOND: Duration = Duration::from_secs(1);

/// Calls that HubSpot allows in ten seconds: 500 leads a second in full batches.
const LIMIT: usize = 50;

/// Concurrent calls, enough for full batches.
const CALLERS: usize = 700;

/// Time until trace ids are known to be returned, and all calls wait for permits.
const WARM_UP: Duration = Duration::from_secs(10);

const MEASURED: Duration = Duration::from_secs(30);

/// Number of leads that callers in closed loops create in [`MEASURED`], while this part of the requests
/// gets no response.
async fn created_while_lost(part: f64) -> usize {
    let hubspot = Hubspot::new(7, LIMIT);
    let ledger = InMemoryLedger::new(Duration::from_micros(300));
    let replica = Replica::start(0, &hubspot, &ledger, &InMemoryRequestIds::new());
    let created = AtomicUsize::new(0);
    let end = Instant::now() + WARM_UP + MEASURED;
    let calls = (0..CALLERS).map(|caller| {
        let (replica, created) = (Arc::clone(&replica), &created);
        async move {
            for number in 0.. {
                let name = format!("lead-{caller}-{number}");
                let ctx = replica.context("importer", Priority::Interactive, SECOND * 60);
                let lead = replica.service.create(&ctx, request_id(&name), create(&name)).await;
                if lead.is_ok() && Instant::now() < end {
                    created.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    let measured = async {
        sleep(WARM_UP).await;
        hubspot.set_faults(&[Fault::Cut], part);
        created.store(0, Ordering::Relaxed);
        sleep(MEASURED).await;
    };
    let _ = timeout(WARM_UP + MEASURED, async { tokio::join!(join_all(calls), measured) }).await;
    created.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn lost_responses_to_batched_creates_cost_a_lookup_each_and_no_throughput() {
    let ordinary = created_while_lost(0.0).await;
    for (percent, least) in [(2, 90), (5, 85)] {
        let created = created_while_lost(f64::from(percent) / 100.0).await;
        let part = created * 100 / ordinary;
        assert!(part >= least, "{created} of {ordinary} leads with {percent} % of responses lost");
    }
}
