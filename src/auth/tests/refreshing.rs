//! Refreshing value in simulated time: the last value stays in use while loading fails, and calls for a
//! newer value share one load.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::auth::refreshing::{LoadError, RefreshingValue, Source};

/// Scripted source that counts its loads.
#[derive(Default)]
struct ScriptedSource {
    now: Mutex<Option<u32>>,
    hangs: Mutex<bool>,
    loads: AtomicUsize,
}

const INTERVAL: Duration = Duration::from_secs(300);
const MIN_INTERVAL: Duration = Duration::from_secs(10);

fn start(
    scripted: &Arc<ScriptedSource>,
) -> (RefreshingValue<u32>, watch::Receiver<BTreeSet<&'static str>>) {
    let (missing, seen) = watch::channel(BTreeSet::new());
    let scripted = Arc::clone(scripted);
    let source = Source {
        name: "test",
        location: "test".to_owned(),
        interval: INTERVAL,
        timeout: Duration::from_secs(10),
        min_interval: MIN_INTERVAL,
        load: Box::new(move || {
            let scripted = Arc::clone(&scripted);
            Box::pin(async move {
                scripted.loads.fetch_add(1, Ordering::Relaxed);
                if *scripted.hangs.lock() {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(50)).await;
                scripted.now.lock().ok_or_else(|| LoadError("gone".to_owned()))
            })
        }),
        parse: |raw| if *raw == 666 { Err(LoadError("bad".to_owned())) } else { Ok((*raw, 1)) },
    };
    (RefreshingValue::start(source, missing), seen)
}

#[tokio::test(start_paused = true)]
async fn a_source_is_missing_until_its_first_load() {
    let scripted = Arc::new(ScriptedSource::default());
    let (fresh, mut missing) = start(&scripted);
    assert!(missing.borrow_and_update().contains("test"));
    sleep(Duration::from_secs(120)).await;
    assert!(fresh.get().is_none() && missing.borrow().contains("test"));
    let failures = fresh.status().failures;
    assert!((5..=15).contains(&failures), "it backs off: {failures} loads in two minutes");
    *scripted.now.lock() = Some(1);
    missing.wait_for(BTreeSet::is_empty).await.unwrap();
    assert_eq!(*fresh.get().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_last_value_serves_while_loading_fails_hangs_or_is_invalid() {
    let scripted = Arc::new(ScriptedSource::default());
    *scripted.now.lock() = Some(1);
    let (fresh, _missing) = start(&scripted);
    sleep(Duration::from_secs(1)).await;
    for trouble in [None, Some(666)] {
        *scripted.now.lock() = trouble;
        sleep(2 * INTERVAL).await;
        assert_eq!(*fresh.get().unwrap(), 1);
        let age = fresh.status().age.unwrap();
        assert!(age > INTERVAL, "the age grows: {age:?}");
        *scripted.now.lock() = Some(1);
        sleep(INTERVAL).await;
    }
    *scripted.hangs.lock() = true;
    sleep(2 * INTERVAL).await;
    assert_eq!(*fresh.get().unwrap(), 1);
    *scripted.hangs.lock() = false;
    *scripted.now.lock() = Some(2);
    sleep(INTERVAL).await;
    assert_eq!(*fresh.get().unwrap(), 2);
    let status = fresh.status();
    assert!(status.failures > 10 && status.loads > 3 && status.entries == 1, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_for_a_newer_value_share_one_load_and_are_rate_limited() {
    let scripted = Arc::new(ScriptedSource::default());
    *scripted.now.lock() = Some(1);
    let (fresh, _missing) = start(&scripted);
    sleep(MIN_INTERVAL).await;
    let before = scripted.loads.load(Ordering::Relaxed);
    *scripted.now.lock() = Some(2);
    let far = Instant::now() + Duration::from_secs(3_600);
    let calls = (0..100).map(|_| async {
        fresh.refresh_if_stale(far).await;
        *fresh.get().unwrap()
    });
    let seen = futures_util::future::join_all(calls).await;
    assert!(seen.iter().all(|value| *value == 2), "{seen:?}");
    assert_eq!(scripted.loads.load(Ordering::Relaxed), before + 1);
    // Within the minimum interval there is no further load.
    let begun = Instant::now();
    for _ in 0..100 {
        fresh.refresh_if_stale(far).await;
    }
    assert_eq!(scripted.loads.load(Ordering::Relaxed), before + 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // A source that hangs delays a call by at most a few seconds.
    sleep(MIN_INTERVAL).await;
    *scripted.hangs.lock() = true;
    let begun = Instant::now();
    fresh.refresh_if_stale(far).await;
    assert!(begun.elapsed() <= Duration::from_secs(3));
    let soon = Instant::now() + Duration::from_millis(20);
    fresh.refresh_if_stale(soon).await;
    assert!(Instant::now() <= soon + Duration::from_millis(5));
}
