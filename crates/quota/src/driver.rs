//! The tasks of an account: one that serves its queues, and one for each limit in the ledger.

use std::sync::{Arc, Weak};

use leadsd_base::task;
use tokio::{select, sync::Notify, time::sleep_until};

use crate::{
    account::{Account, SHARED_BUCKETS},
    ledger_sync,
    waiting::dispatch,
};

/// Starts the tasks of an account. They end when it is dropped.
pub(crate) fn start(account: &Arc<Account>) {
    let portal = account.portal();
    let queues = serve_queues(Arc::downgrade(account), account.queue_changed());
    let mut tasks = vec![task::spawn("quota", &portal, queues)];
    if let Some(link) = account.ledger() {
        for bucket in SHARED_BUCKETS {
            let limit = ledger_sync::limit_key(account, bucket);
            let sync = ledger_sync::run(Arc::downgrade(account), Arc::clone(link), limit);
            tasks.push(task::spawn("quota_ledger", &portal, sync));
        }
    }
    account.keep_tasks(tasks);
}

/// Hands out permits until the account is dropped.
async fn serve_queues(account: Weak<Account>, changed: Arc<Notify>) {
    loop {
        let Some(strong) = account.upgrade() else { return };
        let round = strong.serve_queues();
        drop(strong);
        for (permit, batch) in round.batches {
            dispatch(permit, batch);
        }
        for (waiting, rejected) in round.rejected {
            waiting.reject(rejected);
        }
        match round.wake {
            None => changed.notified().await,
            Some(wake) => select! {
                () = changed.notified() => {}
                () = sleep_until(wake) => {}
            },
        }
    }
}
