//! Random loads: whatever comes, no window is ever overrun, nobody waits for ever, and every call
//! hears exactly once.

use proptest::prelude::*;

use super::*;
use crate::quota::Cause;

/// One call of the load.
#[derive(Debug, Clone)]
struct Load {
    /// When it comes, after the one before.
    after: Duration,
    caller: usize,
    bulk: bool,
    /// Which group it is of; `None` goes alone.
    group: Option<usize>,
    /// How long it may wait; `None` for as long as it takes.
    patience: Option<Duration>,
    /// When it goes away without an answer.
    leaves: Option<Duration>,
    there: Duration,
    back: Duration,
}

fn load() -> impl Strategy<Value = Load> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    (
        prop_oneof![4 => millis(0..3), 1 => millis(0..400)],
        0..4_usize,
        any::<bool>(),
        prop::option::weighted(0.6, 0..2_usize),
        prop::option::weighted(0.2, millis(1..5_000)),
        prop::option::weighted(0.1, millis(0..2_000)),
        millis(0..20),
        millis(0..300),
    )
        .prop_map(|(after, caller, bulk, group, patience, leaves, there, back)| Load {
            after,
            caller,
            bulk,
            group,
            patience,
            leaves,
            there,
            back,
        })
}

/// What came of a call: who, in which order it was begun, and when it got its turn.
#[derive(Debug)]
struct Done {
    lane: (usize, bool, Option<usize>),
    begun: usize,
    outcome: Result<(Instant, usize), Cause>,
    waited: Duration,
}

/// Plays the load and says what came of each call that did not go away.
async fn play(limit: u64, loads: Vec<Load>) -> (Arc<Hub>, Vec<Done>) {
    let account = account(settings(limit));
    let hub = Arc::new(Hub::default());
    let groups = [Together::new(&hub, 100), Together::new(&hub, 3)];
    let mut begins = Instant::now();
    let mut calls = Vec::new();
    for (begun, load) in loads.into_iter().enumerate() {
        begins += load.after;
        let (account, hub) = (Arc::clone(&account), Arc::clone(&hub));
        let group = load.group.map(|group| Arc::clone(&groups[group]));
        calls.push(async move {
            tokio::time::sleep_until(begins).await;
            let leaves = load.leaves.unwrap_or(Duration::from_secs(1_000_000));
            let call = one(&account, &hub, group, load, begun);
            tokio::time::timeout(leaves, call).await.ok()
        });
    }
    let done = futures_util::future::join_all(calls).await;
    // What has left goes on without those who went away.
    sleep(Duration::from_secs(30)).await;
    (hub, done.into_iter().flatten().collect())
}

async fn one(
    account: &Arc<Account>,
    hub: &Arc<Hub>,
    group: Option<Arc<Together>>,
    load: Load,
    begun: usize,
) -> Done {
    let since = Instant::now();
    let priority = if load.bulk { Priority::Bulk } else { Priority::Interactive };
    let who = who(&load.caller.to_string(), priority);
    let until = since + load.patience.unwrap_or(Duration::from_secs(1_000_000));
    let outcome = match group {
        None => match account.take(BucketName::Burst, &who, until).await {
            Ok(permit) => {
                let turn = Instant::now();
                hub.call(permit, load.there, load.back, Heard::default()).await;
                Ok((turn, 0))
            }
            Err(refusal) => Err(refusal.cause),
        },
        Some(group) => {
            let (member, reply) = group.enter();
            let own: Arc<dyn Group> = Arc::clone(&group) as _;
            match account.join(BucketName::Burst, &who, until, own, member) {
                Err(refusal) => Err(refusal.cause),
                Ok(place) => match tokio::time::timeout_at(until, reply).await {
                    Ok(reply) => {
                        let (number, _) = reply.expect("every member hears").expect("no refusal");
                        Ok((Instant::now(), number))
                    }
                    Err(_) => Err(place.in_vain().cause),
                },
            }
        }
    };
    let lane = (load.caller, load.bulk, load.group);
    Done { lane, begun, outcome, waited: since.elapsed() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_window_is_overrun_nobody_starves_and_every_call_hears_once_and_in_order(
        limit in 10..120_u64,
        loads in prop::collection::vec(load(), 1..300),
    ) {
        let patient = loads.iter().filter(|load| load.leaves.is_none()).count();
        let all = loads.len();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (hub, mut done) = runtime.block_on(play(limit, loads));
        let limit = usize::try_from(limit).unwrap();
        prop_assert!(hub.most_within(Duration::from_secs(10)) <= limit);
        prop_assert!(hub.most_within(Duration::from_secs(1)) <= (limit / 10).max(1));
        prop_assert!(done.len() >= patient, "{} of {patient} heard", done.len());
        // All of them alone would be through by then.
        let longest = Duration::from_secs(12 + all as u64 * 12 / limit as u64 + all as u64 / 9);
        for call in &done {
            prop_assert!(call.waited <= longest, "{:?} waited {:?}", call.lane, call.waited);
        }
        done.sort_by_key(|call| call.begun);
        let mut last: HashMap<_, (Instant, usize)> = HashMap::new();
        for call in &done {
            let Ok(turn) = call.outcome else { continue };
            let before = last.insert(call.lane, turn);
            prop_assert!(before.is_none_or(|before| before <= turn), "{:?}", call.lane);
        }
    }
}
