//! Bounds what one replica writes into the shared store, in total and for each account: the store also has
//! the quota, and records stay for a day.
//!
//! Each bound is a leaky bucket that empties in a day. So a replica writes at most twice its capacity in
//! any day. Accounts share a fixed number of buckets by their hash, so that no client decides how much
//! memory they take.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use leadsd_quota::AccountKey;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Memory of a record in Redis besides its result: key, digest, claim, expiry, and their places in maps.
pub(super) const RECORD_OVERHEAD: usize = 512;

/// Capacity of all accounts, in bytes.
pub(super) const CAPACITY: usize = 128 << 20;

/// Capacity of one account, in bytes.
pub(super) const ACCOUNT_CAPACITY: usize = CAPACITY / 2;

/// Time in which a full bucket empties.
const PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// Number of buckets of accounts.
const BUCKETS: usize = 1_024;

/// Bytes that may be written.
pub(super) struct RecordAllowance {
    hasher: RandomState,
    buckets: Mutex<Buckets>,
}

struct Buckets {
    all: LeakyBucket,
    accounts: Vec<LeakyBucket>,
}

/// Bytes written, less those that have leaked since.
#[derive(Clone, Copy, Default)]
struct LeakyBucket {
    bytes: f64,
    at: Option<Instant>,
}

// === impl RecordAllowance ===

impl RecordAllowance {
    pub(super) fn new() -> Self {
        let accounts = vec![LeakyBucket::default(); BUCKETS];
        let buckets = Buckets { all: LeakyBucket::default(), accounts };
        Self { hasher: RandomState::new(), buckets: Mutex::new(buckets) }
    }

    /// Takes the bytes of a record with a result of this size. False if they exceed what is left.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below the number of buckets"
    )]
    pub(super) fn take(&self, account: &AccountKey, result: usize) -> bool {
        let number = self.hasher.hash_one(account) % BUCKETS as u64;
        let bytes = (RECORD_OVERHEAD + result) as f64;
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let Buckets { all, accounts } = &mut *buckets;
        let own = &mut accounts[number as usize];
        all.leak(CAPACITY, now);
        own.leak(ACCOUNT_CAPACITY, now);
        let fits = all.fits(bytes, CAPACITY) && own.fits(bytes, ACCOUNT_CAPACITY);
        if fits {
            all.bytes += bytes;
            own.bytes += bytes;
        }
        fits
    }
}

impl fmt::Debug for RecordAllowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordAllowance").finish_non_exhaustive()
    }
}

// === impl LeakyBucket ===

impl LeakyBucket {
    fn leak(&mut self, capacity: usize, now: Instant) {
        let since = now.saturating_duration_since(self.at.unwrap_or(now));
        let leaked = capacity as f64 * since.as_secs_f64() / PERIOD.as_secs_f64();
        self.bytes = (self.bytes - leaked).max(0.0);
        self.at = Some(now);
    }

    fn fits(&self, bytes: f64, capacity: usize) -> bool {
        self.bytes + bytes <= capacity as f64
    }
}

#[cfg(test)]
mod tests {
    use leadsd_quota::Caller;

    use super::*;

    fn written(allowance: &RecordAllowance, caller: &str, max: usize) -> usize {
        let account = Caller::new(caller).account();
        (0..max).take_while(|_| allowance.take(&account, 512)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn one_account_writes_half_and_all_write_the_capacity() {
        let allowance = RecordAllowance::new();
        let half = ACCOUNT_CAPACITY / 1_024;
        assert_eq!(written(&allowance, "greedy", 1 << 20), half);
        // Another account with the same bucket is possible, and then has none.
        let others: usize =
            (0..64).map(|n| written(&allowance, &format!("other {n}"), half / 32)).sum();
        assert_eq!(others, half);
        assert_eq!(written(&allowance, "late", 1), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_account_may_write_again_as_its_records_end() {
        let allowance = RecordAllowance::new();
        let full = written(&allowance, "steady", 1 << 20);
        tokio::time::advance(PERIOD / 4).await;
        let quarter = written(&allowance, "steady", 1 << 20);
        assert!(quarter.abs_diff(full / 4) <= 1, "{quarter} of {full}");
        tokio::time::advance(2 * PERIOD).await;
        assert_eq!(written(&allowance, "steady", 1 << 20), full);
    }
}
