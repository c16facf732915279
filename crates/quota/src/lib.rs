//! HubSpot rate limits, one [`Account`] per portal: permits, fair queueing, and batching of queued
//! requests.
//!
//! # Purpose
//!
//! Every HubSpot request needs a [`Permit`] of its portal's account. The permit carries the response
//! headers back, which is how the limits are learned. Requests that can be sent as one HubSpot batch wait
//! as members of a [`Group`]; the next permit takes up to [`Group::max_size`] of them. Replicas share the
//! limits through a [`Ledger`]; [`redis_ledger`] is the one that leadsd ships.
//!
//! # What it must not know
//!
//! Leads, gRPC, HTTP and HubSpot's API: a permit counts one call of any kind. Deadlines, callers and
//! priorities are arguments. Retries and the circuit breaker are the caller's concern.
//!
//! # Example
//!
//! ```
//! # use std::{collections::BTreeMap, sync::Arc, time::Duration};
//! # use leadsd_base::time::{SystemClock, Zone};
//! use leadsd_quota::{
//!     BucketName, Caller, Observation, ObservedLimit, Priority, Quota, Reason, Requester, Settings,
//! };
//! use tokio::time::Instant;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings {
//!     burst: 10,
//!     burst_window: Duration::from_secs(10),
//!     search_per_second: 5,
//!     daily: None,
//!     max_queue: 1_000,
//!     max_concurrency: 1_000,
//!     max_caller_share: 0.5,
//!     weights: BTreeMap::new(),
//!     zones: BTreeMap::new(),
//!     zone: Zone::default(),
//!     ledger: None,
//! };
//! let account = Quota::new(settings, Arc::new(SystemClock)).account("default");
//! let requester =
//!     Requester { caller: Caller::new("billing"), priority: Priority::Interactive };
//!
//! let deadline = Instant::now() + Duration::from_millis(100);
//! let mut permit = account
//!     .acquire(BucketName::Burst, &requester, deadline)
//!     .await
//!     .map_err(|rejected| format!("{rejected:?}"))?;
//! permit.mark_sent(1);
//! // ... the HubSpot request; its response announces the limit:
//! let limit = ObservedLimit { size: Some(10), remaining: Some(9), window: None };
//! permit.observe(Observation { limit, ..Observation::default() });
//!
//! // One call in a second is a tenth of ten: the next permit comes after the deadline.
//! let rejected = account.acquire(BucketName::Burst, &requester, deadline).await.unwrap_err();
//! assert_eq!(rejected.reason, Reason::Deadline);
//! # Ok(())
//! # }
//! ```
//!
//! # Names at a glance
//!
//! - [`Quota::account`] returns the [`Account`] of a portal; the owner of the portal keeps it.
//! - [`Account::try_acquire`], [`Account::acquire`] and [`Account::enqueue`] take a permit at once, wait
//!   for one, or queue a member of a [`Group`] ([`Group::dispatch`], [`Group::reject`]).
//! - [`Account::check_deadline`] rejects a request whose permit cannot come in time.
//! - [`Permit::mark_sent`] counts the request and its leads; [`Permit::observe`] takes an
//!   [`Observation`]. Dropping a permit releases it on every other path.
//! - [`Rejected`] names the limit that rejected a request, its [`Reason`] and when to retry.
//! - [`Requester`] is a [`Caller`] and its [`Priority`]. [`AccountKey`] is what shares are divided among.
//! - [`Account::snapshot`] and [`Quota::snapshots`] are the read models; [`Account::write_queue`] takes
//!   the statistics of writes that wait for an earlier write.
//! - [`LedgerConfig`] makes replicas share the limits.
//!
//! # Modules
//!
//! Each uses only modules below it: `quota`; `driver` (tasks); `ledger_sync`; `account` (mutex); `limiter`
//! (bucket and queue); `queue` with `fair_shares`; `bucket` with `window`, `spacing`, `usage`,
//! `learned_limit` (429s), `external_usage` (other clients), `replica_lease` and `remote_usage` (other replicas); `daily`;
//! `latency`, `retry_spread`, `waiting`, `group`, `permit`; `ledger` (port); plain types. Below `account` everything is a pure state
//! machine: it neither waits nor reads a clock.

mod account;
mod bucket;
mod bucket_name;
mod clock_offset;
mod daily;
mod driver;
mod external_usage;
mod fair_shares;
mod group;
mod latency;
mod learned_limit;
mod ledger;
mod ledger_sync;
mod limiter;
mod observation;
mod permit;
mod queue;
mod quota;
pub mod redis_ledger;
mod rejected;
mod remote_usage;
mod replica_lease;
mod requester;
mod retry_spread;
mod settings;
mod snapshot;
mod spacing;
mod usage;
mod wait_histogram;
mod waiting;
mod window;
mod write_queue;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;

pub use account::{Account, QueueEntry};
pub use bucket_name::BucketName;
pub use group::Group;
pub use ledger::{
    ExchangeRequest, Grant, Ledger, LedgerConfig, LedgerInstant, LedgerObservation, LimitKey,
    SlotReport, TENTHS, Unavailable,
};
pub use observation::{Observation, ObservedLimit, RateLimited, RetryTime};
pub use permit::Permit;
pub use quota::Quota;
pub use rejected::{Reason, Rejected};
pub use requester::{AccountKey, Caller, Priority, RemotePeer, Requester};
pub use settings::Settings;
pub use snapshot::{
    AccountSnapshot, BucketCounters, BucketSnapshot, CallerSnapshot, LedgerSnapshot,
};
pub use wait_histogram::WaitHistogram;
pub use write_queue::{WriteQueueSnapshot, WriteQueueStats};
