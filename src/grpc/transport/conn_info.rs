//! What all calls of one connection share.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{Semaphore, watch};

use crate::auth::Identity;

/// Facts of one connection.
#[derive(Debug)]
pub(crate) struct ConnInfo {
    /// Address of the peer.
    pub(crate) peer: IpAddr,
    /// Identity in the client certificate; `None` without one, or if it names none.
    pub(crate) certificate: Option<Identity>,
    /// True if the connection is beyond the limit: only health probes are served on it.
    pub(crate) over_limit: bool,
    /// Slots for the health probes of this connection.
    pub(crate) probe_slots: Arc<Semaphore>,
    /// Turns true when the connection starts to close: open-ended streams end then.
    pub(crate) closing: watch::Receiver<bool>,
}
