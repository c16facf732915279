//! Doubles of the ports, for tests here and in other crates (feature `testing`): in memory, with
//! faults on demand, and without sockets.
//!
//! Every secret that they hold or hand out contains [`SECRET_MARKER`], so that a test can search
//! logs and `Debug` output for leaks.

use std::time::Duration;

mod clock;
mod memory_store;
mod token_endpoint;

pub use clock::TestClock;
pub use memory_store::{MemoryStore, StoreOperation, oauth_secret, static_secret};
pub use token_endpoint::{Rotation, TokenEndpoint};

/// Part of every secret of the doubles.
pub const SECRET_MARKER: &str = "hush";

/// Fault of a test double.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers at once that it is unavailable.
    Unavailable,
    /// Answers at once that it is unavailable, and quotes secrets, as a careless port might.
    QuoteSecrets,
    /// Never responds.
    Hang,
    /// Store: access denied. Token endpoint: rejection with this error code.
    Reject(&'static str),
    /// Token endpoint: rejection whose error code quotes secrets. Store: as
    /// [`Fault::QuoteSecrets`].
    RejectQuotingSecrets,
    /// Store: the login is rejected. Token endpoint: as [`Fault::Unavailable`].
    RejectLogin,
    /// Token endpoint: throttles, with this `Retry-After`. Store: as [`Fault::Unavailable`].
    Throttle(Option<Duration>),
    /// Works, after this time.
    Slow(Duration),
    /// Panics.
    Panic,
}
