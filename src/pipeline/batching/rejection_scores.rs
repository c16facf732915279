//! Scores callers for the HubSpot calls that their rejected requests cost others in shared batches.
//!
//! A caller with a high score no longer shares batches: its requests form separate batches that come
//! after those of all others, so what they cost is charged to it. A success lowers the score, and so does
//! time.
//!
//! The score is that of an account: a client without authentication cannot leave it by another name.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use leadsd_quota::{AccountKey, Caller, Priority, Requester};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Score above which a caller no longer shares batches: one batch that is divided to find a rejected
/// input costs about as much.
const THRESHOLD: f64 = 8.0;

/// Maximum score. With the half-life it bounds the time until a corrected caller shares batches again: half
/// a minute.
const MAX_SCORE: f64 = 64.0;

/// Time in which a score falls to its half.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Part of a call by which a success lowers the score: one HubSpot call carries up to a hundred.
const SUCCESS: f64 = 0.05;

/// Score below which a caller is forgotten.
const NEGLIGIBLE: f64 = 0.5;

/// Maximum number of callers with a score. Beyond it, further ones are not scored until others are
/// forgotten.
const MAX_CALLERS: usize = 1_024;

/// Scores of the callers of one portal.
#[derive(Debug, Default)]
pub(super) struct RejectionScores {
    /// False while no caller has a score, which is known without the lock.
    any: AtomicBool,
    scores: Mutex<HashMap<AccountKey, Score>>,
}

#[derive(Debug, Clone, Copy)]
struct Score {
    value: f64,
    at: Instant,
}

// === impl RejectionScores ===

impl RejectionScores {
    /// True if no caller has a score.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }

    /// True if the caller has a score: its inputs are the first to be suspected.
    pub(super) fn is_suspect(&self, caller: &Caller) -> bool {
        !self.is_empty() && self.scores.lock().contains_key(&caller.account())
    }

    /// The requester of a request if its caller no longer shares batches.
    pub(super) fn isolated(&self, requester: &Requester) -> Option<Requester> {
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let scores = self.scores.lock();
        let score = scores.get(&requester.caller.account())?;
        let is_isolated = score.value_at(Instant::now()) > THRESHOLD;
        is_isolated.then(|| Requester { priority: Priority::Restricted, ..requester.clone() })
    }

    /// Charges HubSpot calls to the caller whose rejected request caused them.
    pub(super) fn charge(&self, caller: &Caller, calls: f64) {
        let (now, account) = (Instant::now(), caller.account());
        let mut scores = self.scores.lock();
        if scores.len() >= MAX_CALLERS && !scores.contains_key(&account) {
            scores.retain(|_, score| score.value_at(now) >= NEGLIGIBLE);
            if scores.len() >= MAX_CALLERS {
                return;
            }
        }
        let score = scores.entry(account).or_insert(Score { value: 0.0, at: now });
        *score = Score { value: (score.value_at(now) + calls).min(MAX_SCORE), at: now };
        self.any.store(true, Ordering::Relaxed);
    }

    /// Charges a rejection of a request that had only inputs of this requester. While its caller shares no
    /// batches, each rejection prolongs that by half a minute.
    pub(super) fn on_rejected(&self, requester: &Requester) {
        let calls = if requester.priority == Priority::Restricted { MAX_SCORE } else { 1.0 };
        self.charge(&requester.caller, calls);
    }

    /// Lowers the score of a caller after a success.
    pub(super) fn succeeded(&self, caller: &Caller) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let (now, account) = (Instant::now(), caller.account());
        let mut scores = self.scores.lock();
        let Some(score) = scores.get_mut(&account) else { return };
        *score = Score { value: score.value_at(now) - SUCCESS, at: now };
        if score.value < NEGLIGIBLE {
            scores.remove(&account);
            self.any.store(!scores.is_empty(), Ordering::Relaxed);
        }
    }
}

// === impl Score ===

impl Score {
    fn value_at(self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn requester(name: &str) -> Requester {
        Requester { caller: Caller::new(name), priority: Priority::Interactive }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_is_isolated_after_it_has_cost_others_a_divided_batch() {
        let scores = RejectionScores::default();
        let (hostile, other) = (requester("hostile"), requester("other"));
        scores.charge(&hostile.caller, 5.0);
        assert_eq!(scores.isolated(&hostile), None);
        scores.charge(&hostile.caller, 5.0);
        let isolated = scores.isolated(&hostile).unwrap();
        assert_eq!((isolated.caller, isolated.priority), (hostile.caller, Priority::Restricted));
        assert_eq!(scores.isolated(&other), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_name_for_each_request_does_not_leave_the_score_of_its_address() {
        let scores = RejectionScores::default();
        let at = |name: &str, host: u8| {
            let caller = Caller::new(name).with_address([10, 0, 0, host].into());
            Requester { caller, priority: Priority::Interactive }
        };
        for number in 0..10 {
            scores.charge(&at(&number.to_string(), 1).caller, 1.0);
        }
        assert!(scores.isolated(&at("new", 1)).is_some());
        assert_eq!(scores.isolated(&at("0", 2)), None, "another address is another account");
    }

    #[tokio::test(start_paused = true)]
    async fn a_corrected_caller_shares_batches_again_within_half_a_minute() {
        let scores = RejectionScores::default();
        let hostile = requester("hostile");
        for _ in 0..1_000 {
            scores.charge(&hostile.caller, 20.0);
        }
        advance(Duration::from_secs(29)).await;
        assert!(scores.isolated(&hostile).is_some());
        advance(Duration::from_secs(2)).await;
        assert_eq!(scores.isolated(&hostile), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_with_few_rejections_among_many_successes_is_not_isolated() {
        let scores = RejectionScores::default();
        let caller = requester("importer");
        for _ in 0..100 {
            scores.charge(&caller.caller, 2.0);
            (0..99).for_each(|_| scores.succeeded(&caller.caller));
            assert_eq!(scores.isolated(&caller), None);
        }
        assert!(!scores.any.load(Ordering::Relaxed), "it is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_scored_callers_is_bounded() {
        let scores = RejectionScores::default();
        for number in 0..3 * MAX_CALLERS {
            scores.charge(&Caller::new(&number.to_string()), 1.0);
        }
        assert_eq!(scores.scores.lock().len(), MAX_CALLERS);
        advance(2 * HALF_LIFE).await;
        scores.charge(&Caller::new("new"), 1.0);
        assert_eq!(scores.scores.lock().len(), 1);
    }
}
