//! Connection info shared by the calls of one connection.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::{Semaphore, watch};

use crate::auth::Identity;

/// Info of a connection.
#[derive(Debug)]
pub(crate) struct ConnInfo {
    /// Address of the peer.
    pub(crate) peer: IpAddr,
    /// Identity in the client certificate; `None` if there is no certificate or it names no caller.
    pub(crate) certificate: Option<Identity>,
    /// True if the connection is over the limit and serves only health probes.
    pub(crate) over_limit: bool,
    /// Slots for health probes.
    pub(crate) probe_slots: Arc<Semaphore>,
    /// Becomes true when the connection is closing, which ends open-ended streams.
    pub(crate) closing: watch::Receiver<bool>,
}
