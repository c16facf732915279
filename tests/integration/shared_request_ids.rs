//! Request ids that replicas share through a real Redis.

use std::sync::atomic::{AtomicUsize, Ordering};

use leadsd::grpc::pb;
use leadsd_redis::{RedisClient, RedisSettings, RedisUrl, Script};
use leadsd_testkit::Redis;
use tonic::{Response, Status};

use crate::{
    harness::{TestApp, eventually, failure, properties},
    shared_quota::replicas,
};

/// Text that no key and no value of Redis may contain.
const NAME: &str = "Ada-Lovelace-hunter2";

const REQUEST_ID: &str = "7d0c3f52-94be-4f1e-8c57-2b6a1de0f3a9";

/// Returns all keys and values of Redis.
const DUMP: &str = "
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  table.insert(all, key)
  if redis.call('TYPE', key).ok == 'hash' then
    for _, value in ipairs(redis.call('HGETALL', key)) do
      table.insert(all, value)
    end
  end
end
return all";

/// Creates a lead at one replica. Returns the response and the scope of the request id.
async fn create(app: &TestApp, name: &str, id: &str) -> Result<(pb::Lead, Option<String>), Status> {
    let mut request = app.create_request(name);
    request.request_id = id.to_owned();
    let response = app.leads.clone().create_lead(request).await?;
    let scope = scope(&response);
    Ok((response.into_inner().lead.expect("a lead"), scope))
}

fn scope<T>(response: &Response<T>) -> Option<String> {
    let scope = response.metadata().get("leadsd-request-id-scope")?;
    Some(scope.to_str().expect("text").to_owned())
}

/// All keys and values of the records of request ids, as text.
async fn records(redis: &Redis) -> (usize, String) {
    let prefix = "test".to_owned();
    let url = RedisUrl::Inline(redis.url());
    let client = RedisClient::new(RedisSettings { url, ca_file: None, prefix });
    let all: Vec<Vec<u8>> = client.run(&Script::new(DUMP).prepare_invoke()).await.expect("a dump");
    let text: Vec<_> = all.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
    let ids = text.iter().filter(|text| text.starts_with("leadsd:request-id:")).count();
    (ids, text.join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_request_id_holds_at_every_replica_and_without_redis_at_each() {
    let mut redis = Redis::start().await;
    let apps = replicas(&redis, 2).await;
    let shared = Some("shared".to_owned());
    let (first, first_scope) = create(&apps[0], NAME, REQUEST_ID).await.unwrap();
    let (second, second_scope) = create(&apps[1], NAME, REQUEST_ID).await.unwrap();
    assert_eq!((first_scope, second_scope), (shared.clone(), shared.clone()));
    assert_eq!(first.id, second.id);
    assert!(!first.id_only && second.id_only, "the store has ids only");
    let (_, reason, fields) = failure(create(&apps[1], "other", REQUEST_ID).await);
    assert_eq!((reason.as_str(), fields), ("REQUEST_ID_REUSED", vec!["request_id".to_owned()]));
    assert_eq!(apps[0].hubspot.lead_names(), [NAME]);

    redis.kill();
    let (alone, scope) = create(&apps[0], "alone", "while-redis-is-away").await.unwrap();
    assert_eq!(scope.as_deref(), Some("replica"));
    let (again, _) = create(&apps[0], "alone", "while-redis-is-away").await.unwrap();
    assert_eq!(again.id, alone.id, "the same replica recognizes it");
    assert_eq!(apps[0].metric("leadsd_request_id_store_up{}").await, Some(0.0));
    let alone = "leadsd_request_id_writes_total{scope=\"replica\"}";
    assert_eq!(apps[0].metric(alone).await, Some(2.0));

    redis = Redis::start_at(redis.port()).await;
    // The store is tried again once a second.
    let number = AtomicUsize::new(0);
    eventually("request ids are shared again", async || {
        let id = format!("back-{}", number.fetch_add(1, Ordering::Relaxed) + 1);
        create(&apps[0], "back", &id).await.unwrap().1 == shared
    })
    .await;
    let number = number.into_inner();
    let (_, scope) = create(&apps[1], "back", &format!("back-{number}")).await.unwrap();
    assert_eq!(scope, shared);
    assert_eq!(apps[0].metric("leadsd_request_id_store_up{}").await, Some(1.0));
    drop(redis);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn of_concurrent_repeats_at_all_replicas_one_creates_the_lead() {
    let redis = Redis::start().await;
    let apps = replicas(&redis, 3).await;
    for number in 0..10 {
        let id = format!("at-once-{number}");
        let calls = (0..9).map(|call| create(&apps[call % 3], NAME, &id));
        let leads = futures_util::future::join_all(calls).await;
        let ids: Vec<String> = leads.into_iter().map(|lead| lead.unwrap().0.id).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(apps[0].hubspot.lead_names().len(), number + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn redis_has_digests_outcomes_and_ids_and_nothing_that_a_caller_or_hubspot_wrote() {
    let redis = Redis::start().await;
    let apps = replicas(&redis, 2).await;
    let (lead, _) = create(&apps[0], NAME, REQUEST_ID).await.unwrap();
    // A batch with a rejected input, whose error quotes the value.
    let inputs = vec![
        apps[0].create_input(NAME, &[]),
        apps[0].create_input("x", &[("hs_lead_label", NAME)]),
    ];
    let request = pb::BatchCreateLeadsRequest {
        inputs,
        request_id: "batch-7d0c3f52".to_owned(),
        ..Default::default()
    };
    let first = apps[0].leads.clone().batch_create_leads(request.clone()).await.unwrap();
    assert_eq!(scope(&first).as_deref(), Some("shared"));
    let second = apps[1].leads.clone().batch_create_leads(request).await.unwrap();
    let outcomes = |response: Response<pb::BatchCreateLeadsResponse>| {
        let results = response.into_inner().results.into_iter();
        let outcome = |result: pb::LeadWriteResult| match result.outcome.expect("an outcome") {
            pb::lead_write_result::Outcome::Lead(lead) => lead.id,
            pb::lead_write_result::Outcome::Error(error) => format!("code {}", error.code),
        };
        results.map(outcome).collect::<Vec<_>>()
    };
    let (first, second) = (outcomes(first), outcomes(second));
    assert_eq!(first, second);
    assert!(first[1].starts_with("code "), "{first:?}");
    let update = pb::UpdateLeadRequest {
        id: lead.id.clone(),
        properties: properties(&[("hs_lead_name", NAME)]),
        request_id: "update-7d0c3f52".to_owned(),
        ..Default::default()
    };
    apps[0].leads.clone().update_lead(update).await.unwrap();
    let (count, text) = records(&redis).await;
    assert_eq!(count, 3, "{text}");
    assert!(text.contains(&lead.id), "{text}");
    for secret in [NAME, "hunter2", "hs_lead", "7d0c3f52", &*apps[0].contact] {
        let found = text
            .lines()
            .find(|line| *line == secret || (secret.len() > 6 && line.contains(secret)));
        assert_eq!(found, None, "{text}");
    }
}
