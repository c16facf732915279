//! `[quota]`: HubSpot's limits, how calls wait for them, and how replicas share them.

use std::{collections::BTreeMap, time::Duration};

use super::{check::Checker, raw};
use leadsd_base::time::Zone;
use leadsd_quota::redis_ledger::{RedisSettings, RedisUrl};

/// `[quota]`: what is assumed of HubSpot's limits until its answers tell, and how calls wait.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Calls in a window, all but searches. Default 190.
    pub burst: u64,
    /// Length of the window. Default 10 s.
    pub burst_window: Duration,
    /// Searches in a second. Default 5; HubSpot's answers never tell.
    pub search_per_second: u64,
    /// Calls in a day. Default none: OAuth apps have no such limit, and for others the first answer
    /// tells.
    pub daily: Option<u64>,
    /// The accounts' time zone, at whose midnight the calls of a day start over. Default UTC.
    pub zone: Zone,
    /// Most calls that wait for one limit of one portal. Default 10,000.
    pub max_queue: usize,
    /// Whether calls that wait leave together as batches, and identical reads share a call. Default
    /// yes.
    pub batching: bool,
    /// Shares of callers that have more than one.
    pub weights: BTreeMap<String, u32>,
    /// `[quota.shared]`; none by default.
    pub shared: Option<SharedQuota>,
}

/// `[quota.shared]`: the store through which replicas share their quotas.
#[derive(Debug, Clone)]
pub struct SharedQuota {
    /// How to reach the store.
    pub redis: RedisSettings,
    /// How many replicas there are, as long as the store has not told: each keeps to its part of
    /// the limits until then, and while the store is away. Default 2.
    pub expected_replicas: u32,
}

// === impl Checker ===

impl Checker<'_> {
    pub(super) fn quota(&mut self, raw: raw::Quota) -> Option<Quota> {
        let raw::Quota {
            burst,
            burst_window,
            search_per_second,
            daily,
            time_zone,
            max_queue,
            batching,
            weights,
            shared,
        } = raw;
        let burst = self.number("quota.burst", burst, 1, 1_000_000);
        let window = self.duration("quota.burst_window", &burst_window, 1_000, 600_000);
        let search = self.number("quota.search_per_second", search_per_second, 1, 100_000);
        let daily = self.number("quota.daily", daily, 0, 1_000_000_000);
        let zone = self.zone("quota.time_zone", &time_zone);
        let max_queue = self.number("quota.max_queue", max_queue, 1, 1_000_000);
        let mut checked = BTreeMap::new();
        for (caller, weight) in weights {
            let weight = self.number(&format!("quota.weights.{caller}"), weight, 1, 1_000);
            checked.insert(caller, u32::try_from(weight?).unwrap_or(1));
        }
        let shared = self.shared_quota(shared);
        Some(Quota {
            burst: burst? as u64,
            burst_window: window?,
            search_per_second: search? as u64,
            daily: Some(daily? as u64).filter(|daily| *daily > 0),
            zone: zone?,
            max_queue: max_queue?,
            batching,
            weights: checked,
            shared: shared?,
        })
    }

    /// Fails only where something is wrong: to share nothing is right as well.
    fn shared_quota(&mut self, raw: raw::SharedQuota) -> Option<Option<SharedQuota>> {
        let raw::SharedQuota { url, url_file, ca_file, expected_replicas, prefix } = raw;
        let replicas = self.number("quota.shared.expected_replicas", expected_replicas, 1, 1_000);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if prefix.is_empty() || !prefix.chars().all(fits) {
            self.fault("quota.shared.prefix", "must be letters, digits or any of `_-.:`");
        }
        let url = match (url, url_file) {
            (None, None) => return Some(None),
            (Some(_), Some(_)) => {
                self.fault("quota.shared.url_file", "goes without quota.shared.url");
                return None;
            }
            (None, Some(file)) => RedisUrl::File(file),
            (Some(url), None) => RedisUrl::Inline(self.redis_url(url)?),
        };
        let expected_replicas = u32::try_from(replicas?).ok()?;
        Some(Some(SharedQuota { redis: RedisSettings { url, ca_file, prefix }, expected_replicas }))
    }

    fn redis_url(&mut self, url: String) -> Option<String> {
        let key = "quota.shared.url";
        let parsed = url::Url::parse(&url).ok();
        let parsed =
            parsed.filter(|url| matches!(url.scheme(), "redis" | "rediss") && url.has_host());
        let Some(parsed) = parsed else {
            self.fault(key, "must be a URL such as redis://valkey:6379/0, or rediss:// for TLS");
            return None;
        };
        if parsed.password().is_some() {
            self.fault(key, "must not hold a password: put the URL into a file, and name that as quota.shared.url_file");
            return None;
        }
        Some(url)
    }
}
