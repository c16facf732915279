//! `[quota]`: HubSpot's limits, the queue for them, and the shared ledger.

use std::{collections::BTreeMap, time::Duration};

use super::{check::Checker, raw};
use leadsd_base::time::Zone;
use leadsd_redis::{RedisSettings, RedisUrl};

/// `[quota]`: HubSpot's limits as assumed until its responses report them, and the queue for them.
#[derive(Debug, Clone)]
pub struct Quota {
    /// Maximum number of calls per window, except searches. Default 190.
    pub burst: u64,
    /// Length of the window. Default 10 s.
    pub burst_window: Duration,
    /// Maximum number of searches per second, which HubSpot's responses do not report. Default 5.
    pub search_per_second: u64,
    /// Maximum number of calls per day. Default none: OAuth apps have no daily limit, and for others
    /// HubSpot's first response reports it.
    pub daily: Option<u64>,
    /// Time zone of the accounts; the daily limit resets at its midnight. Default UTC.
    pub zone: Zone,
    /// Maximum number of queued calls per bucket and portal. Default 10,000.
    pub max_queue: usize,
    /// Maximum number of HubSpot requests in progress per bucket and portal. Default 1,000.
    pub max_concurrency: usize,
    /// Enables batching of queued calls, and single flight of identical reads. Default true.
    pub batching: bool,
    /// Weights of unauthenticated callers; 1 if not listed.
    pub weights: BTreeMap<String, u32>,
    /// `[quota.shared]`; disabled by default.
    pub shared: Option<SharedQuota>,
}

/// `[quota.shared]`: ledger through which replicas share their quotas.
#[derive(Debug, Clone)]
pub struct SharedQuota {
    /// Connection to Redis.
    pub redis: RedisSettings,
    /// Number of replicas that is assumed until the ledger reports it, and while the ledger is
    /// unavailable: each replica then uses its part of the limits. Default 2.
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
            max_concurrency,
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
        let concurrency = self.number("quota.max_concurrency", max_concurrency, 1, 100_000);
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
            max_concurrency: concurrency?,
            batching,
            weights: checked,
            shared: shared?,
        })
    }

    /// Converts `[quota.shared]`. The outer `None` is an error, the inner `None` a disabled ledger.
    fn shared_quota(&mut self, raw: raw::SharedQuota) -> Option<Option<SharedQuota>> {
        let raw::SharedQuota { url, url_file, ca_file, expected_replicas, prefix } = raw;
        let replicas = self.number("quota.shared.expected_replicas", expected_replicas, 1, 1_000);
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
        if prefix.is_empty() || !prefix.chars().all(fits) {
            self.add_error("quota.shared.prefix", "must be letters, digits or any of `_-.:`");
        }
        let url = match (url, url_file) {
            (None, None) => return Some(None),
            (Some(_), Some(_)) => {
                self.add_error(
                    "quota.shared.url_file",
                    "is not allowed together with quota.shared.url; set one of them",
                );
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
            self.add_error(
                key,
                "must be a URL such as redis://valkey:6379/0, or rediss:// for TLS",
            );
            return None;
        };
        if parsed.password().is_some() {
            self.add_error(key, "must not contain a password; store the URL in a file and set quota.shared.url_file");
            return None;
        }
        Some(url)
    }
}
