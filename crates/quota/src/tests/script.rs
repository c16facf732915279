//! The ledger double against the script in a real Redis: the same exchanges, by Redis's clock, have the
//! same responses.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use tokio::time::sleep;

use leadsd_redis::{RedisClient, RedisSettings, RedisUrl};
use leadsd_testkit::Redis;

use super::*;
use crate::redis_ledger::RedisLedger;
use crate::testing::LedgerEntry;
use crate::{
    ExchangeRequest, Grant, Ledger as _, LedgerInstant, LimitKey, SlotReport, Unavailable, ledger,
};

const EXCHANGES: usize = 1_200;

/// Long enough for some slots to be in it at any time, and short enough for them to leave it.
const WINDOW: Duration = Duration::from_secs(2);

const SIZE: u64 = 100;

/// Redis computes in milliseconds with fractions, the double in whole microseconds.
const ROUNDING: i64 = 3;

/// A replica with random requests.
struct Replica {
    name: Arc<str>,
    first: u64,
    /// Permits without a final report, with when they become valid.
    open: Vec<(u64, LedgerInstant)>,
}

impl Replica {
    fn request(
        &mut self,
        random: &mut SmallRng,
        last: Option<&Grant>,
        paced: bool,
    ) -> ExchangeRequest {
        let now = last.map_or(0, |grant| grant.now);
        let mut slots = Vec::new();
        self.open.retain(|&(number, good)| {
            if random.random_bool(0.4) {
                return true;
            }
            let counted = random.random_bool(0.8).then(|| {
                let at = good.max(now - 200_000) + random.random_range(0..100_000);
                [at + 50_000, at + 5_000]
            });
            slots.push(SlotReport { number, counted });
            false
        });
        let announced = random.random_bool(0.05).then(|| ledger::LedgerObservation {
            size: if random.random_bool(0.2) { random.random_range(5..150) } else { SIZE },
            window: WINDOW,
            used: random.random_range(0..SIZE / 2),
            oldest: last.map_or(0, |grant| grant.oldest),
        });
        ExchangeRequest {
            replica: Arc::clone(&self.name),
            size: SIZE,
            window: WINDOW,
            paced,
            want: random.random_range(0..4),
            spare: random.random_range(0..3),
            first: self.first,
            ahead: random.random(),
            spread: random.random(),
            hold: Duration::from_millis(100),
            spare_hold: Duration::from_millis(400),
            transit: [Duration::from_millis(50), Duration::from_millis(5)],
            slots,
            observed: announced,
            learned: random
                .random_bool(0.03)
                .then(|| [10..120, 1..12].map(|caps| random_cap(random, caps))),
            close: random.random_bool(0.02).then(|| Duration::from_millis(60)),
            detached: random.random_bool(0.05),
            leave: random.random_bool(0.05),
        }
    }
}

/// A learned limit, or none.
fn random_cap(random: &mut SmallRng, caps: std::ops::Range<u64>) -> Option<u64> {
    random.random_bool(0.5).then(|| random.random_range(caps))
}

/// Asserts that both responses are the same, except for rounding.
fn compare(redis: &Grant, book: &Grant, of: &str) {
    let near = |a: i64, b: i64| (a - b).abs() <= ROUNDING;
    let micros = |time: Duration| i64::try_from(time.as_micros()).expect("short");
    assert_eq!(redis.permits.len(), book.permits.len(), "{of}\n{redis:?}\n{book:?}");
    for (a, b) in redis.permits.iter().zip(&book.permits) {
        assert!(near(*a, *b), "{of}\n{redis:?}\n{book:?}");
    }
    assert!(near(redis.next, book.next), "{of}\n{redis:?}\n{book:?}");
    assert!(near(micros(redis.closed), micros(book.closed)), "{of}\n{redis:?}\n{book:?}");
    let facts = |grant: &Grant| {
        let Grant { used, used_in_second, learned, size, window, replicas, .. } = grant.clone();
        let Grant { live_others, oldest, warming, .. } = grant.clone();
        let used = (used, used_in_second);
        (used, learned, size, window, replicas, live_others, oldest, warming)
    };
    let all = |grant: &Grant| grant.leaving.iter().sum::<u32>();
    assert_eq!(all(redis), all(book), "{of}");
    // A slot can be on the border of two tenths.
    let pairs = redis.leaving.iter().zip(&book.leaving);
    assert!(pairs.map(|(a, b)| a.abs_diff(*b)).sum::<u32>() <= 2, "{of}\n{redis:?}\n{book:?}");
    assert_eq!(facts(redis), facts(book), "{of}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn the_ledger_in_memory_responds_as_the_script_in_redis() {
    let redis = Redis::start().await;
    let url = redis.url();
    let url = RedisUrl::Inline(url);
    let prefix = "leadsd".to_owned();
    let client = RedisClient::new(RedisSettings { url, ca_file: None, prefix });
    let redis = RedisLedger::new(Arc::new(client));
    let mut random = SmallRng::seed_from_u64(rand::random());
    for bucket in [BucketName::Burst, BucketName::Search] {
        let mut all = Err(Unavailable(String::new()));
        // A late response on a busy machine leaves the state of the script unknown.
        for attempt in 0..5 {
            let limit = LimitKey { portal: format!("{attempt}").into(), bucket };
            all = play(&redis, &limit, &mut random).await;
            if all.is_ok() {
                break;
            }
        }
        let granted = all.expect("Redis answers in time");
        assert!(granted > 30, "{granted} permits in all");
    }
}

/// Compares every response, and returns the number of permits.
async fn play(
    redis: &RedisLedger,
    limit: &LimitKey,
    random: &mut SmallRng,
) -> Result<usize, Unavailable> {
    let mut replicas: Vec<Replica> = ["a", "b", "c"]
        .map(|name| Replica { name: name.into(), first: 0, open: Vec::new() })
        .into();
    let (mut entry, mut last) = (None, None);
    let mut granted = 0;
    for number in 0..EXCHANGES {
        let replica = &mut replicas[random.random_range(0..3)];
        let ask = replica.request(random, last.as_ref(), limit.bucket == BucketName::Burst);
        let grant = redis.exchange(limit, &ask).await?;
        let now = grant.now;
        let entry = entry.get_or_insert_with(|| LedgerEntry::new(&ask, now));
        let other = entry.exchange(&ask, now);
        compare(&grant, &other, &format!("{limit:?} {number}: {ask:?}"));
        let numbers = ask.first..;
        replica.open.extend(numbers.zip(&grant.permits).map(|(number, at)| (number, *at)));
        replica.first += (ask.want + ask.spare) as u64;
        granted += grant.permits.len();
        last = Some(grant);
        sleep(Duration::from_millis(random.random_range(0..12))).await;
    }
    Ok(granted)
}
