//! Stage of a connection: unidentified, then identified. An identified connection holds a slot of the
//! connections limit, charged to its caller.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{caller_accounts::CallerAccount, connection_limits::ConnectionLimits};
use crate::leads::Error;

/// Stage of a connection, shared by the connection and its calls.
#[derive(Debug)]
pub(crate) struct ConnectionStage {
    limits: Arc<ConnectionLimits>,
    address: Arc<CallerAccount>,
    /// True once the caller is known. Read by each call.
    is_identified: AtomicBool,
    /// True once the client has cancelled too many calls.
    has_cancelled: AtomicBool,
    stage: Mutex<Stage>,
    changed: Notify,
}

/// Stage of a connection.
#[derive(Debug, Clone)]
enum Stage {
    /// No identified caller has made a call.
    Unidentified,
    /// The connection is charged to this caller.
    Identified(Arc<CallerAccount>),
    /// The caller or its address has too many connections.
    OverLimit,
    /// The connection has ended.
    Closed,
}

/// Change of the stage of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StageChange {
    /// The caller is known.
    Identified,
    /// The caller or its address has too many connections.
    OverLimit,
    /// The client has cancelled too many calls.
    Cancellations,
}

// === impl ConnectionStage ===

impl ConnectionStage {
    /// Creates the stage of a new connection from this address.
    pub(crate) fn new(limits: Arc<ConnectionLimits>, address: Arc<CallerAccount>) -> Self {
        Self {
            limits,
            address,
            is_identified: AtomicBool::new(false),
            has_cancelled: AtomicBool::new(false),
            stage: Mutex::new(Stage::Unidentified),
            changed: Notify::new(),
        }
    }

    /// Charges the connection to the first caller that is identified. Errors if the caller or the address
    /// has too many connections; the next call tries again.
    pub(crate) fn identify(&self, caller: &Arc<CallerAccount>) -> Result<(), Error> {
        if self.is_identified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut stage = self.stage.lock();
        match &*stage {
            Stage::Identified(_) | Stage::Closed => return Ok(()),
            Stage::Unidentified | Stage::OverLimit => {}
        }
        let acquired = self.limits.acquire(&self.address, caller);
        *stage = match &acquired {
            Ok(()) => Stage::Identified(Arc::clone(caller)),
            Err(_) => Stage::OverLimit,
        };
        self.is_identified.store(acquired.is_ok(), Ordering::Relaxed);
        self.changed.notify_one();
        acquired
    }

    /// Ends the connection, because the client has cancelled too many calls.
    pub(crate) fn exceed_cancellations(&self) {
        self.has_cancelled.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits for a change of the stage.
    pub(crate) async fn changed(&self) -> StageChange {
        loop {
            self.changed.notified().await;
            if self.has_cancelled.load(Ordering::Relaxed) {
                return StageChange::Cancellations;
            }
            match &*self.stage.lock() {
                Stage::Identified(_) => return StageChange::Identified,
                Stage::OverLimit => return StageChange::OverLimit,
                Stage::Unidentified | Stage::Closed => {}
            }
        }
    }

    /// Releases the slot of the connection at its end. Calls may outlive it.
    pub(crate) fn close(&self) {
        let stage = std::mem::replace(&mut *self.stage.lock(), Stage::Closed);
        match stage {
            Stage::Identified(caller) => self.limits.release(&self.address, &caller),
            Stage::Unidentified | Stage::OverLimit | Stage::Closed => {}
        }
    }
}
