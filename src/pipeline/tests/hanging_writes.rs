//! Writes to which HubSpot has not responded when a hang ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use leadsd_quota::{Priority, testing::InMemoryLedger};
use tokio::time::{Instant, sleep, timeout};

use super::{
    campaign::{Fault, Hubspot, REQUEST_TIMEOUT, Replica, create, request_id},
    lead_id,
};
use crate::{
    config::Loaded,
    leads::{
        CallContext, Error, Service, Traced, UpdateLead, idempotency::testing::InMemoryRequestIds,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Time after the end of a fault in which every call succeeds.
const RECOVERY: Duration = Duration::from_secs(30);

/// Number of inputs of a batch.
const SIZE: usize = 10;

/// A HubSpot and replicas of one service.
struct Fixture {
    hubspot: Arc<Hubspot>,
    replicas: Vec<Arc<Replica>>,
}

// === impl Fixture ===

impl Fixture {
    fn new() -> Self {
        let hubspot = Hubspot::new(2, 800);
        let ledger = InMemoryLedger::new(Duration::from_micros(300));
        let request_ids = InMemoryRequestIds::new();
        let start = |number| Replica::start(number, &hubspot, &ledger, &request_ids);
        let replicas = (0..2).map(start).collect();
        Self { hubspot, replicas }
    }

    /// Sends a write in the last moment of a hang, and repeats it at the replicas in turn until it
    /// succeeds. Returns the time since the end of the hang.
    async fn done_after(
        &self,
        replicas: usize,
        write: impl AsyncFn(&Service, &CallContext) -> Result<(), Error>,
    ) -> Duration {
        let once = async |number: usize| {
            let replica = &self.replicas[number % replicas];
            let ctx = replica.context("importer", Priority::Interactive, 5 * SECOND);
            timeout(5 * SECOND, write(&replica.service, &ctx))
                .await
                .is_ok_and(|result| result.is_ok())
        };
        sleep(2 * SECOND).await;
        self.hubspot.set_faults(&[Fault::Hang], 1.0);
        let end = async {
            sleep(SECOND / 5).await;
            self.hubspot.set_faults(&[], 0.0);
            Instant::now()
        };
        let (first, ended) = tokio::join!(once(0), end);
        assert!(!first, "it hangs");
        let mut number = 1;
        while !once(number).await {
            number += 1;
            sleep(SECOND / 2).await;
        }
        ended.elapsed()
    }
}

#[test]
fn the_timeout_of_the_double_is_the_default() {
    let settings = [
        ("LEADSD_VAULT__ADDRESS", "https://vault.example:8200"),
        ("LEADSD_VAULT__AUTH__METHOD", "token_file"),
        ("LEADSD_VAULT__AUTH__FILE", "/vault/token"),
        ("LEADSD_PORTALS__DEFAULT__SECRET", "hubspot/default"),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let config = Loaded::new(None, settings).expect("a valid configuration").config;
    assert_eq!(config.hubspot.request_timeout, REQUEST_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_done_within_thirty_seconds_of_the_end_of_the_hang() {
    let fixture = Fixture::new();
    let single = async |service: &Service, ctx: &CallContext| {
        service.create(ctx, request_id("one"), create("one")).await.map(drop)
    };
    let batch = async |service: &Service, ctx: &CallContext| {
        let input = |index: usize| {
            let trace_id = format!("batch.{index}");
            Traced { input: create(&trace_id), trace_id }
        };
        let inputs = (0..SIZE).map(input).collect();
        let results = service.batch_create(ctx, request_id("batch"), inputs).await?;
        results.into_iter().try_for_each(|result| result.map(drop))
    };
    let ids: Vec<String> = (0..SIZE).map(|_| fixture.hubspot.add("lead")).collect();
    let update = |id: &String| {
        let properties = BTreeMap::from([("hs_lead_label".to_owned(), "HOT".to_owned())]);
        UpdateLead { id: lead_id(id), id_property: None, properties, trace_id: None }
    };
    let single_update = async |service: &Service, ctx: &CallContext| {
        service.update(ctx, None, update(&ids[0])).await.map(drop)
    };
    let batch_update = async |service: &Service, ctx: &CallContext| {
        let input = |id: &String| Traced { trace_id: id.clone(), input: update(id) };
        let results = service.batch_update(ctx, None, ids.iter().map(input).collect()).await?;
        results.into_iter().try_for_each(|result| result.map(drop))
    };
    // Updates are repeated at one replica: writes at different replicas are not ordered.
    for (what, took) in [
        ("create at one replica", fixture.done_after(1, single).await),
        ("batch create at two replicas", fixture.done_after(2, batch).await),
        ("update", fixture.done_after(1, single_update).await),
        ("batch update", fixture.done_after(1, batch_update).await),
    ] {
        assert!(took <= RECOVERY - 4 * SECOND, "{what}: {took:?}");
    }
    let names: Vec<_> = fixture
        .hubspot
        .leads()
        .iter()
        .map(|lead| lead.properties["hs_lead_name"].clone())
        .collect();
    let created = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
    assert_eq!((created("one"), created("batch.")), (1, SIZE), "{names:?}");
}
