//! Bounded cache whose entries expire: the one cache type of the workspace.
//!
//! [`TtlCache`] bounds the number of entries (or their total weight), the time to live of each
//! entry, and the weight of one entry. An entry has at most half of the capacity. Time is
//! [`tokio::time::Instant`], so tests that pause the clock see entries expire.
//!
//! Storage and eviction are `quick_cache`, which has no notion of time. The expiry is stored beside
//! the value and checked on every read; inserts sweep expired entries.
//!
//! Eviction prefers entries that were read again. At least half of the capacity is for new entries,
//! in order of insertion. Keys are hashed with a random seed, so callers may choose them.
//!
//! ```
//! use std::time::Duration;
//! use leadsd_base::cache::TtlCache;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let labels: TtlCache<u64, &'static str> = TtlCache::new(10_000, Duration::from_secs(600));
//! labels.insert(578, "primary contact");
//! assert_eq!(labels.get(&578), Some("primary contact"));
//! # });
//! ```

use std::{borrow::Borrow, fmt, hash::Hash, time::Duration};

use parking_lot::Mutex;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter, sync::Cache};
use tokio::time::Instant;

/// Number of shards of a cache of equal entries: enough that a few worker threads rarely meet. A
/// cache of weighted entries has one, so that an entry may take half of the capacity.
const SHARDS: usize = 4;

/// Part of the capacity for entries that were read again. The rest is for new entries.
const HOT_PART: f64 = 0.5;

/// Expired entries are swept after this part of the time to live.
const SWEEP_PART: f64 = 0.5;

/// Shortest pause between two sweeps, since a sweep visits every entry.
const MIN_SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// Bounded concurrent map whose entries expire.
pub struct TtlCache<K, V> {
    cache: Cache<K, CacheEntry<V>, StoredWeight, DefaultHashBuilder, DropAfterLock>,
    ttl: Duration,
    next_sweep: Mutex<Instant>,
}

#[derive(Clone)]
struct CacheEntry<V> {
    value: V,
    weight: u64,
    expires_at: Instant,
}

/// Reads the weight that is stored with the entry.
#[derive(Clone)]
struct StoredWeight;

/// Collects evicted entries, so that they are dropped after the lock.
#[derive(Clone)]
struct DropAfterLock;

// === impl TtlCache ===

impl<K: Eq + Hash + Clone, V: Clone> TtlCache<K, V> {
    /// A cache of at most `capacity` entries. A `ttl` of zero stores nothing.
    pub fn new(capacity: usize, ttl: Duration) -> Self {
        Self::with_shards(SHARDS, capacity as u64, capacity, ttl)
    }

    /// A cache of entries that weigh at most `max_weight` together, for example in bytes;
    /// `estimated_entries` is about how many that is. No entry may weigh more than half of it.
    pub fn weighted(max_weight: u64, estimated_entries: usize, ttl: Duration) -> Self {
        Self::with_shards(1, max_weight, estimated_entries, ttl)
    }

    fn with_shards(
        shards: usize,
        max_weight: u64,
        estimated_entries: usize,
        ttl: Duration,
    ) -> Self {
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(estimated_entries)
            .weight_capacity(max_weight)
            .hot_allocation(HOT_PART)
            .build()
            .expect("both capacities are set");
        let cache = Cache::with_options(
            options,
            StoredWeight,
            DefaultHashBuilder::default(),
            DropAfterLock,
        );
        Self { cache, ttl, next_sweep: Mutex::new(Instant::now()) }
    }

    /// The value of a key; `None` if there is none or it has expired.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.cache.get(key)?;
        let now = Instant::now();
        if entry.is_live(now) {
            return Some(entry.value);
        }
        // Another thread may have replaced the entry since.
        self.cache.remove_if(key, |entry| !entry.is_live(now));
        None
    }

    /// Stores a value of weight 1 for the time to live.
    pub fn insert(&self, key: K, value: V) {
        self.insert_weighted(key, value, 1);
    }

    /// Stores a value for the time to live. A weight of zero counts as 1. An entry that weighs more
    /// than half of the capacity is not stored, and a previous one of the key is removed.
    pub fn insert_weighted(&self, key: K, value: V, weight: u64) {
        self.insert_weighted_for(self.ttl, key, value, weight);
    }

    /// Stores a value of weight 1 for `time`, at most for the time to live.
    pub fn insert_for(&self, time: Duration, key: K, value: V) {
        self.insert_weighted_for(time, key, value, 1);
    }

    /// Stores a value for `time`, at most for the time to live. See [`TtlCache::insert_weighted`].
    pub fn insert_weighted_for(&self, time: Duration, key: K, value: V, weight: u64) {
        let now = Instant::now();
        self.sweep(now);
        if time.is_zero() || self.ttl.is_zero() {
            self.cache.remove(&key);
            return;
        }
        let expires_at = now + time.min(self.ttl);
        self.cache.insert(key, CacheEntry { value, weight: weight.max(1), expires_at });
    }

    /// Removes the entry of a key.
    pub fn remove<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.cache.remove(key);
    }

    /// Removes all entries.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// Number of entries, including those that have expired and were not swept yet.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// True if the cache has no entries.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Total weight of all entries, including those that have expired and were not swept yet.
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// Removes what has expired, at most once per pause.
    fn sweep(&self, now: Instant) {
        {
            let mut next = self.next_sweep.lock();
            if now < *next {
                return;
            }
            *next = now + self.ttl.mul_f64(SWEEP_PART).max(MIN_SWEEP_PAUSE);
        }
        self.cache.retain(|_, entry| entry.is_live(now));
    }
}

impl<K, V> fmt::Debug for TtlCache<K, V> {
    /// Neither keys nor values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TtlCache").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

// === impl CacheEntry ===

impl<V> CacheEntry<V> {
    fn is_live(&self, now: Instant) -> bool {
        now < self.expires_at
    }
}

// === impl StoredWeight ===

impl<K, V> Weighter<K, CacheEntry<V>> for StoredWeight {
    fn weight(&self, _: &K, entry: &CacheEntry<V>) -> u64 {
        entry.weight
    }
}

// === impl DropAfterLock ===

impl<K, V> Lifecycle<K, CacheEntry<V>> for DropAfterLock {
    type RequestState = Vec<(K, CacheEntry<V>)>;

    fn on_evict(&self, evicted: &mut Self::RequestState, key: K, entry: CacheEntry<V>) {
        evicted.push((key, entry));
    }
}

#[cfg(test)]
mod tests;
