//! The scripts against the double in memory, in a real Redis, and responses of a server that lies.

use std::time::Duration;

use leadsd_redis::{RedisSettings, RedisUrl};
use leadsd_testkit::Redis;
use rand::RngExt as _;
use tokio::time::sleep;
use uuid::Uuid;

use super::*;
use crate::leads::idempotency::testing::{InMemoryRequestIds, claims};

/// Lease in the comparison: longer than a slow exchange takes.
const LEASE: Duration = Duration::from_millis(1_500);

const EXCHANGES: usize = 600;

fn store(url: String) -> RedisRequestIds {
    let prefix = "test".to_owned();
    let settings = RedisSettings { url: RedisUrl::Inline(url), ca_file: None, prefix };
    RedisRequestIds::new(Arc::new(RedisClient::new(settings)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn the_store_in_memory_responds_as_the_scripts_in_redis() {
    let server = Redis::start().await;
    let (redis, memory) = (store(server.url()), InMemoryRequestIds::new());
    // Two ids with two contents each, and three claims on each.
    let all: Vec<Claim> = claims(2, 2)
        .into_iter()
        .flat_map(|claim| {
            (0..3).map(move |_| Claim { token: Uuid::new_v4(), lease: LEASE, ..claim.clone() })
        })
        .collect();
    let mut seen = [0_usize; 4];
    for number in 0..EXCHANGES {
        let claim = &all[rand::random_range(0..all.len())];
        match rand::random_range(0..100) {
            0..50 => {
                let responses = (redis.claim(claim).await, memory.claim(claim).await);
                assert_eq!(responses.0, responses.1, "{number}");
                seen[0] += 1;
            }
            50..60 => {
                let responses = (redis.renew(claim).await, memory.renew(claim).await);
                assert_eq!(responses.0, responses.1, "{number}");
                seen[1] += 1;
            }
            60..99 => {
                let mut bytes =
                    vec![0; [3, INLINE_BYTES, INLINE_BYTES + 1, 3 * PART_BYTES + 7][number % 4]];
                rand::rng().fill(&mut bytes[..]);
                let ending = match rand::random_range(0..10) {
                    0..5 => Ending::Keep { result: bytes, is_final: false },
                    5 => Ending::Keep { result: bytes, is_final: true },
                    6..8 => Ending::Interrupt,
                    _ => Ending::Forget,
                };
                let responses =
                    (redis.end(claim, ending.clone()).await, memory.end(claim, ending).await);
                assert_eq!(responses.0, responses.1, "{number}");
                seen[2] += 1;
                for part in 0..4 {
                    let parts = (
                        redis.read_part(&claim.key, part).await,
                        memory.read_part(&claim.key, part).await,
                    );
                    assert_eq!(parts.0, parts.1, "{number}: part {part}");
                }
            }
            _ => {
                sleep(LEASE + Duration::from_millis(300)).await;
                seen[3] += 1;
            }
        }
        if number % 100 == 99 {
            // Final results end all, so begin again.
            for claim in &all {
                let key = format!("test:request-id:{}", claim.key.to_hex());
                let delete = Script::new("return redis.call('DEL', KEYS[1])");
                let _: i64 = redis.client.run(&delete.key(key)).await.unwrap();
            }
            memory.lose_data();
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_response_of_another_kind_is_invalid() {
    let parse = |status: &str, parts| parse_claim((status.to_owned(), parts, b"x".to_vec()));
    let result = StoredResult { parts: 2, inline: b"x".to_vec() };
    assert_eq!(parse("open", 2), Some(ClaimResponse::Open(result.clone())));
    assert_eq!(parse("interrupted", 2), Some(ClaimResponse::Interrupted(result.clone())));
    assert_eq!(parse("final", 2), Some(ClaimResponse::Final(result)));
    assert_eq!(parse("new", 0), Some(ClaimResponse::New));
    assert_eq!(parse("held", 0), Some(ClaimResponse::Held));
    assert_eq!(parse("content", 0), Some(ClaimResponse::OtherContent));
    assert_eq!(parse("version", 0), Some(ClaimResponse::OtherVersion));
    assert_eq!(parse("", 0), None);
    assert_eq!(parse("NEW", 0), None);
}
