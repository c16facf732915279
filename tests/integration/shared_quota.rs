//! Replicas that share one quota through a real Redis: full use, no overrun, and no failed call
//! during a Redis outage.

use std::time::Duration;

use futures_util::future::join_all;
use leadsd_testkit::Redis;
use tokio::time::Instant;

use crate::harness::TestApp;

/// Starts this many replicas of one service that share one quota.
pub(crate) async fn replicas(redis: &Redis, count: usize) -> Vec<TestApp> {
    let url = redis.url();
    let count_text = count.to_string();
    let set = |builder: crate::harness::Builder| {
        builder.set("QUOTA__SHARED__URL", &url).set("QUOTA__SHARED__EXPECTED_REPLICAS", &count_text)
    };
    let first = set(TestApp::builder()).start().await;
    let mut all = vec![first];
    while all.len() < count {
        all.push(set(all[0].replica()).start().await);
    }
    all
}

/// Makes calls on every replica with this concurrency until the deadline; all must succeed.
async fn load(apps: &[TestApp], ids: &[String], callers: usize, until: Instant) {
    let calls = apps.iter().flat_map(|app| {
        (0..callers).map(move |caller| async move {
            for number in 0.. {
                if Instant::now() >= until {
                    break;
                }
                let id = &ids[(caller * 31 + number) % ids.len()];
                app.get(id).await.expect("no call fails");
            }
        })
    });
    join_all(calls).await;
}

/// Calls that HubSpot counted within this time, and its rejections.
fn counted(app: &TestApp) -> (usize, u64) {
    (app.hubspot_calls().len(), app.hubspot.rate_limited())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn replicas_on_one_redis_use_the_whole_quota_and_never_more() {
    let redis = Redis::start().await;
    for count in [2, 8] {
        let apps = replicas(&redis, count).await;
        let ids: Vec<String> = (0..200).map(|n| apps[0].lead(&format!("Lead {n}"))).collect();
        // The ledger is new for the first replica, and its first window holds more than its part.
        load(&apps, &ids, 8, Instant::now() + Duration::from_secs(12)).await;
        let begin = Instant::now();
        let (before, _) = counted(&apps[0]);
        load(&apps, &ids, 8, begin + Duration::from_secs(12)).await;
        let (calls, refused) = counted(&apps[0]);
        let calls = calls - before;
        assert_eq!(refused, 0, "with {count} replicas");
        assert!(calls >= 228 * 95 / 100, "{calls} of 228 with {count} replicas");
        // Their parts are immediately available to the next replicas.
        for app in apps {
            app.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn no_call_fails_while_redis_is_away_and_sharing_goes_on_when_it_is_back() {
    let mut redis = Redis::start().await;
    let apps = replicas(&redis, 3).await;
    let ids: Vec<String> = (0..200).map(|n| apps[0].lead(&format!("Lead {n}"))).collect();
    let begin = Instant::now();
    let second = |n| begin + Duration::from_secs(n);
    let story = async {
        tokio::time::sleep_until(second(6)).await;
        redis.kill();
        tokio::time::sleep_until(second(20)).await;
        let away = counted(&apps[0]);
        redis = Redis::start_at(redis.port()).await;
        tokio::time::sleep_until(second(28)).await;
        (away, counted(&apps[0]))
    };
    let ((away, back), ()) = tokio::join!(story, load(&apps, &ids, 8, second(40)));
    let (calls, refused) = counted(&apps[0]);
    assert_eq!(refused, 0);
    assert!(away.0 >= 6 * 19 * 8 / 10 + 190 * 9 / 10, "{away:?} while it was away");
    assert!(calls - back.0 >= 12 * 19 * 95 / 100, "{} after it was back", calls - back.0);
    let metrics = reqwest::get(format!("{}/metrics", apps[0].admin)).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("leadsd_quota_ledger_up{portal=\"default\",bucket=\"burst\"} 1"));
}
