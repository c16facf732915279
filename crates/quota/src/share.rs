//! The task that keeps one limit in step with the ledger: one exchange at a time, and what happens
//! meanwhile goes with the next.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    select,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tracing::{info, warn};

use super::{
    account::Account,
    ledger::{ExchangeRequest, Grant, LedgerConfig, LimitKey, Unavailable},
};

/// Longest an exchange may take: callers wait, and without the ledger there is a way to go on.
const TIMEOUT: Duration = Duration::from_millis(250);

/// Exchanges for as long as there is the account.
pub(super) async fn run(
    account: Weak<Account>,
    sharing: LedgerConfig,
    limit: LimitKey,
    changed: Arc<Notify>,
) {
    loop {
        let Some(strong) = account.upgrade() else { return };
        let asked = strong.ask(limit.bucket);
        drop(strong);
        match asked {
            Ok(ask) => {
                let since = Instant::now();
                let grant = exchange(&sharing, &limit, &ask).await;
                let Some(strong) = account.upgrade() else { return };
                strong.granted(limit.bucket, &ask, grant.as_ref(), since);
            }
            Err(None) => changed.notified().await,
            Err(Some(wake)) => select! {
                () = changed.notified() => {}
                () = sleep_until(wake) => {}
            },
        }
    }
}

/// One exchange; `None` if the ledger cannot be reached.
pub(super) async fn exchange(
    sharing: &LedgerConfig,
    limit: &LimitKey,
    ask: &ExchangeRequest,
) -> Option<Grant> {
    let exchange = sharing.ledger.exchange(limit, ask);
    let answer = timeout(TIMEOUT, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err(Unavailable("no answer in time".to_owned())));
    match answer {
        Ok(grant) => {
            if sharing.note(false) {
                info!("Replicas share the quota again");
            }
            Some(grant)
        }
        Err(Unavailable(why)) => {
            if sharing.note(true) {
                warn!(
                    error = why,
                    "The shared quota cannot be reached; each replica keeps to its part"
                );
            }
            None
        }
    }
}
