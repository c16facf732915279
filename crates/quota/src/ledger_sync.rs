//! The task that keeps one limit of an account in step with the ledger: one exchange at a time. Changes
//! during an exchange are reported with the next one.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use crate::{
    account::{Account, LedgerLink, NextExchange, SHARED_BUCKETS},
    bucket_name::BucketName,
    ledger::{ExchangeRequest, Grant, LedgerConfig, LimitKey, Unavailable},
};

/// Timeout of an exchange. Requests wait for it, and a replica can go on without the ledger.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Runs exchanges until the account is dropped.
pub(crate) async fn run(account: Weak<Account>, link: Arc<LedgerLink>, limit: LimitKey) {
    loop {
        let Some(strong) = account.upgrade() else { return };
        let next = strong.next_exchange(limit.bucket);
        drop(strong);
        match next {
            NextExchange::Now(request) => {
                let sent_at = Instant::now();
                let grant = exchange(&link.config, &limit, &request).await;
                let Some(strong) = account.upgrade() else { return };
                strong.finish_exchange(limit.bucket, &request, grant.as_ref(), sent_at);
            }
            NextExchange::OnChange => link.changed(limit.bucket).notified().await,
            NextExchange::At(wake) => select! {
                () = link.changed(limit.bucket).notified() => {}
                () = sleep_until(wake) => {}
            },
        }
    }
}

/// Leaves the limits of an account to the other replicas. What this one has used still counts.
pub(crate) async fn leave(account: &Account) {
    let Some(link) = account.ledger() else { return };
    for bucket in SHARED_BUCKETS {
        if let Some(request) = account.leave_request(bucket) {
            exchange(&link.config, &limit_key(account, bucket), &request).await;
        }
    }
}

/// Key of an account's limit in the ledger.
pub(crate) fn limit_key(account: &Account, bucket: BucketName) -> LimitKey {
    LimitKey { portal: account.portal(), bucket }
}

/// One exchange. `None` if the ledger is unavailable.
async fn exchange(
    config: &LedgerConfig,
    limit: &LimitKey,
    request: &ExchangeRequest,
) -> Option<Grant> {
    let response = timeout(TIMEOUT, config.ledger.exchange(limit, request)).await;
    match response.unwrap_or_else(|_| Err(Unavailable("no response within 250 ms".to_owned()))) {
        Ok(grant) => {
            if config.record(false) {
                info!("Reached the quota ledger again; replicas share the quota");
            }
            Some(grant)
        }
        Err(Unavailable(error)) => {
            if config.record(true) {
                warn!(error, "Lost the quota ledger; each replica uses only its own part");
            }
            None
        }
    }
}
