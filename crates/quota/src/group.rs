//! Requests that are sent together.

use std::fmt;

use crate::{permit::Permit, rejected::Rejected};

/// Requests that can be sent as one HubSpot batch.
pub trait Group: fmt::Debug + Send + Sync {
    /// Unique identifier of the group.
    fn id(&self) -> u64;
    /// Maximum number of members that one permit takes.
    fn max_size(&self) -> usize;
    /// Minimum number of members of a batch. Fewer are dispatched one by one, because a batch of them
    /// would cost as many HubSpot calls.
    fn min_size(&self) -> usize {
        2
    }
    /// Sends the members with this permit, in this order. Must not block.
    fn dispatch(&self, permit: Permit, members: Vec<u64>);
    /// Rejects a member that was queued.
    fn reject(&self, member: u64, rejected: Rejected);
}
