//! Bounds and expiry of the cache, in paused time.

use tokio::time::advance;

use super::*;

const TTL: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn an_entry_expires_at_its_time_to_live_and_not_before() {
    let cache = TtlCache::new(10, TTL);
    cache.insert("a", 1);
    advance(TTL - Duration::from_millis(1)).await;
    assert_eq!(cache.get("a"), Some(1));
    advance(Duration::from_millis(1)).await;
    assert_eq!(cache.get("a"), None);
    assert_eq!(cache.len(), 0, "a read removes what has expired");
}

#[tokio::test(start_paused = true)]
async fn an_entry_may_expire_earlier_than_the_time_to_live_but_not_later() {
    let cache = TtlCache::new(10, TTL);
    cache.insert_weighted_for(TTL / 2, "early", 1, 1);
    cache.insert_weighted_for(TTL * 2, "late", 2, 1);
    cache.insert_weighted_for(Duration::ZERO, "never", 3, 1);
    advance(TTL / 2).await;
    assert_eq!([cache.get("early"), cache.get("late"), cache.get("never")], [None, Some(2), None]);
    advance(TTL / 2).await;
    assert_eq!(cache.get("late"), None);
}

#[tokio::test(start_paused = true)]
async fn a_time_to_live_of_zero_stores_nothing() {
    let cache = TtlCache::new(10, Duration::ZERO);
    cache.insert("a", 1);
    assert_eq!(cache.get("a"), None);
    assert!(cache.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_number_of_entries_is_bounded_and_new_entries_have_room() {
    let cache = TtlCache::new(1_000, TTL);
    for key in 0..20_000_u32 {
        cache.insert(key, key);
        assert!(cache.len() <= 1_000);
    }
    let recent = (20_000 - 400..20_000).filter(|key| cache.get(key).is_some()).count();
    assert!(recent >= 300, "{recent} of the last 400 are there");
}

#[tokio::test(start_paused = true)]
async fn the_total_weight_is_bounded_and_an_entry_too_heavy_is_not_stored() {
    let cache = TtlCache::weighted(1_000, 100, TTL);
    for key in 0..500_u32 {
        cache.insert_weighted(key, key, u64::from(key % 50));
        assert!(cache.weight() <= 1_000, "{}", cache.weight());
    }
    cache.insert_weighted(1_000, 0, 5);
    assert!(cache.get(&1_000).is_some());
    cache.insert_weighted(1_000, 0, 500);
    assert!(cache.get(&1_000).is_some(), "half of the capacity is not too much");
    cache.insert_weighted(1_000, 0, 501);
    assert_eq!(cache.get(&1_000), None, "the previous value is removed");
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_swept_by_inserts() {
    let cache = TtlCache::new(1_000, TTL);
    (0..100_u32).for_each(|key| cache.insert(key, key));
    advance(TTL * 2).await;
    cache.insert(1_000, 0);
    assert_eq!(cache.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn debug_shows_neither_keys_nor_values() {
    let cache = TtlCache::new(10, TTL);
    cache.insert("hunter2", "hunter3");
    assert!(!format!("{cache:?}").contains("hunter"));
}
