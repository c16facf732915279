//! A queued request, and the recipient of its permit or rejection.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{group::Group, permit::Permit, rejected::Rejected};

/// A queued request.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// Needs a separate permit.
    Single(oneshot::Sender<Result<Permit, Rejected>>),
    /// A member of a group, by its number, that can share a permit with other members.
    Member(Arc<dyn Group>, u64),
}

// === impl Waiting ===

impl Waiting {
    /// Rejects the request. A request that was cancelled needs no rejection.
    pub(crate) fn reject(self, rejected: Rejected) {
        match self {
            Self::Single(sender) => drop(sender.send(Err(rejected))),
            Self::Member(group, member) => group.reject(member, rejected),
        }
    }

    /// Identifier of the group, if the request is a member of one.
    pub(crate) fn group_id(&self) -> Option<u64> {
        match self {
            Self::Single(_) => None,
            Self::Member(group, _) => Some(group.id()),
        }
    }

    /// Maximum number of requests of this kind in one batch, at least 1.
    pub(crate) fn max_batch(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Member(group, _) => group.max_size().max(1),
        }
    }
}

/// Hands a permit to a single request, or to the members of one group. A permit that no request takes is
/// dropped, which releases it.
pub(crate) fn dispatch(permit: Permit, batch: Vec<Waiting>) {
    let mut group = None;
    let mut members = Vec::with_capacity(batch.len());
    for waiting in batch {
        match waiting {
            Waiting::Single(sender) => {
                // A cancelled request drops the permit, which releases it.
                let _ = sender.send(Ok(permit));
                return;
            }
            Waiting::Member(own, member) => {
                group = Some(own);
                members.push(member);
            }
        }
    }
    if let Some(group) = group {
        group.dispatch(permit, members);
    }
}

#[cfg(test)]
mod tests;
