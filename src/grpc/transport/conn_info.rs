//! Connection info shared by the calls of one connection.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};

use super::{
    caller_accounts::CallerAccount, cancellation_limit::CancellationLimit,
    connection_stage::ConnectionStage, held_messages::HeldMessages, receive_window::ReceiveWindow,
};
use crate::auth::Identity;
use leadsd_quota::RemotePeer;

/// Number of references to the info of a connection without calls: its server and its service.
const IDLE_REFERENCES: usize = 2;

/// Info of a connection.
#[derive(Debug)]
pub(crate) struct ConnInfo {
    /// Other end of the connection.
    pub(crate) peer: RemotePeer,
    /// Identity in the client certificate; `None` if there is no certificate or it names no caller.
    pub(crate) certificate: Option<Identity>,
    /// Stage, which depends on whether the caller is known.
    pub(crate) stage: Arc<ConnectionStage>,
    /// Number of calls so far.
    pub(crate) calls: AtomicU64,
    /// Slots for health probes.
    pub(crate) probe_slots: Arc<Semaphore>,
    /// Account of the peer.
    pub(crate) peer_account: Arc<CallerAccount>,
    /// Account of the identity that made the last call.
    pub(crate) last_identity: ArcSwapOption<CallerAccount>,
    /// Flow-control windows for received data.
    pub(crate) window: ReceiveWindow,
    /// Messages that HTTP/2 holds.
    pub(crate) held: HeldMessages,
    /// Rate limit of the calls that the client cancels.
    pub(crate) cancellations: CancellationLimit,
    /// Becomes true when the connection is closing, which ends open-ended streams.
    pub(crate) closing: watch::Receiver<bool>,
}

// === impl ConnInfo ===

impl ConnInfo {
    /// Counts a call.
    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that the client has cancelled before its deadline. Beyond the limit, the connection ends.
    pub(crate) fn on_cancelled(&self) {
        if !self.cancellations.admit() {
            self.stage.exceed_cancellations();
        }
    }

    /// Number of calls so far.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Reports whether the connection has calls. Each call refers to the info of its connection.
    pub(crate) fn has_calls(connection: &Arc<Self>) -> bool {
        Arc::strong_count(connection) > IDLE_REFERENCES
    }
}
