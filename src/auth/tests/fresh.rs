//! What is loaded is kept fresh, in paused time: the old serves while loading fails, and calls that
//! want something newer share one look.

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

use crate::auth::fresh::{Fresh, Source, Unusable};

/// What loading gives, and how often it was asked for.
#[derive(Default)]
struct Elsewhere {
    now: Mutex<Option<u32>>,
    hangs: Mutex<bool>,
    looks: AtomicUsize,
}

const INTERVAL: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(10);

fn start(elsewhere: &Arc<Elsewhere>) -> (Fresh<u32>, watch::Receiver<BTreeSet<&'static str>>) {
    let (missing, seen) = watch::channel(BTreeSet::new());
    let elsewhere = Arc::clone(elsewhere);
    let source = Source {
        name: "test",
        from: "nowhere".to_owned(),
        interval: INTERVAL,
        timeout: Duration::from_secs(10),
        pause: PAUSE,
        load: Box::new(move || {
            let elsewhere = Arc::clone(&elsewhere);
            Box::pin(async move {
                elsewhere.looks.fetch_add(1, Ordering::Relaxed);
                if *elsewhere.hangs.lock() {
                    std::future::pending::<()>().await;
                }
                sleep(Duration::from_millis(50)).await;
                elsewhere.now.lock().ok_or_else(|| Unusable("gone".to_owned()))
            })
        }),
        parse: |raw| if *raw == 666 { Err(Unusable("bad".to_owned())) } else { Ok((*raw, 1)) },
    };
    (Fresh::start(source, missing), seen)
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_said_until_it_is_there() {
    let elsewhere = Arc::new(Elsewhere::default());
    let (fresh, mut missing) = start(&elsewhere);
    assert!(missing.borrow_and_update().contains("test"));
    sleep(Duration::from_secs(120)).await;
    assert!(fresh.get().is_none() && missing.borrow().contains("test"));
    let failures = fresh.status().failures;
    assert!((5..=15).contains(&failures), "it backs off: {failures} looks in two minutes");
    *elsewhere.now.lock() = Some(1);
    missing.wait_for(BTreeSet::is_empty).await.unwrap();
    assert_eq!(*fresh.get().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_old_serves_while_loading_fails_hangs_or_gives_nonsense() {
    let elsewhere = Arc::new(Elsewhere::default());
    *elsewhere.now.lock() = Some(1);
    let (fresh, _missing) = start(&elsewhere);
    sleep(Duration::from_secs(1)).await;
    for trouble in [None, Some(666)] {
        *elsewhere.now.lock() = trouble;
        sleep(2 * INTERVAL).await;
        assert_eq!(*fresh.get().unwrap(), 1);
        let age = fresh.status().age.unwrap();
        assert!(age > INTERVAL, "the age grows: {age:?}");
        *elsewhere.now.lock() = Some(1);
        sleep(INTERVAL).await;
    }
    *elsewhere.hangs.lock() = true;
    sleep(2 * INTERVAL).await;
    assert_eq!(*fresh.get().unwrap(), 1);
    *elsewhere.hangs.lock() = false;
    *elsewhere.now.lock() = Some(2);
    sleep(INTERVAL).await;
    assert_eq!(*fresh.get().unwrap(), 2);
    let status = fresh.status();
    assert!(status.failures > 10 && status.loads > 3 && status.entries == 1, "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn many_calls_that_want_something_newer_share_one_look_and_nonsense_cannot_cause_more() {
    let elsewhere = Arc::new(Elsewhere::default());
    *elsewhere.now.lock() = Some(1);
    let (fresh, _missing) = start(&elsewhere);
    sleep(PAUSE).await;
    let before = elsewhere.looks.load(Ordering::Relaxed);
    *elsewhere.now.lock() = Some(2);
    let far = Instant::now() + Duration::from_secs(3_600);
    let calls = (0..100).map(|_| async {
        fresh.look_again(far).await;
        *fresh.get().unwrap()
    });
    let seen = futures_util::future::join_all(calls).await;
    assert!(seen.iter().all(|value| *value == 2), "{seen:?}");
    assert_eq!(elsewhere.looks.load(Ordering::Relaxed), before + 1);
    // A moment later it is not worth another look.
    let begun = Instant::now();
    for _ in 0..100 {
        fresh.look_again(far).await;
    }
    assert_eq!(elsewhere.looks.load(Ordering::Relaxed), before + 1);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // A source that hangs holds nobody up for long.
    sleep(PAUSE).await;
    *elsewhere.hangs.lock() = true;
    let begun = Instant::now();
    fresh.look_again(far).await;
    assert!(begun.elapsed() <= Duration::from_secs(3));
    let soon = Instant::now() + Duration::from_millis(20);
    fresh.look_again(soon).await;
    assert!(Instant::now() <= soon + Duration::from_millis(5));
}
