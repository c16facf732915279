//! Rejection of a request without a permit.

use std::time::Duration;

use crate::bucket_name::BucketName;

/// A request that got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// The limit that rejected it.
    pub bucket: BucketName,
    /// Reason for the rejection.
    pub reason: Reason,
    /// Estimated time until a permit can be acquired, with jitter if others were rejected shortly before.
    pub retry_after: Duration,
}

/// Reason why a request got no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The permit would come after the deadline of the request.
    Deadline,
    /// The deadline leaves less time than HubSpot usually takes to respond.
    ShortDeadline,
    /// The queue is full.
    QueueFull,
    /// The calls of the day are exhausted.
    Exhausted,
}
