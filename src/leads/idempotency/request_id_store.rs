//! Port to the store of request ids that replicas share.
//!
//! The store has one record per request id: a digest of the content, the claim of the replica that runs
//! the write, and the result of a write that has ended. It never has the content itself.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;

use super::digest::{ContentDigest, RecordKey};

/// Maximum size in bytes of one part of a result: one response of the store.
pub const PART_BYTES: usize = 32 << 10;

/// Maximum number of parts of a result.
pub const MAX_PARTS: usize = 8;

/// Maximum size in bytes of a result that is part of the response to a claim. Many claims are in progress
/// at a time.
pub const INLINE_BYTES: usize = 512;

/// Store of request ids. The replica waits a quarter of a second for each response at most.
#[async_trait]
pub trait RequestIdStore: fmt::Debug + Send + Sync + 'static {
    /// Claims a request id for [`Claim::lease`] unless another claim is valid or its result is final.
    async fn claim(&self, claim: &Claim) -> Result<ClaimResponse, StoreUnavailable>;

    /// Reads one part of a result.
    async fn read_part(&self, key: &RecordKey, part: usize) -> Result<Vec<u8>, StoreUnavailable>;

    /// Renews the lease of a claim. False if another claim has replaced it.
    async fn renew(&self, claim: &Claim) -> Result<bool, StoreUnavailable>;

    /// Ends a claim. False if the record belongs to another claim, has other content or a final result.
    async fn end(&self, claim: &Claim, ending: Ending) -> Result<bool, StoreUnavailable>;
}

/// Claim of one write on its request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Digest of caller, portal and request id.
    pub key: RecordKey,
    /// Digest of the content.
    pub content: ContentDigest,
    /// Random number of this claim.
    pub token: Uuid,
    /// Time after which the claim ends unless it is renewed.
    pub lease: Duration,
    /// Time after which the record ends.
    pub time_to_live: Duration,
}

/// Response to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimResponse {
    /// The claim is valid, and the id is new.
    New,
    /// The claim is valid. An earlier write has ended and left something open.
    Open(StoredResult),
    /// The claim is valid. An earlier write has not ended, and its lease has. It may have had effects. The
    /// result is that of the writes before it.
    Interrupted(StoredResult),
    /// The write has a final result.
    Final(StoredResult),
    /// Another claim is valid.
    Held,
    /// The record has other content.
    OtherContent,
    /// The record has another version.
    OtherVersion,
}

/// Result in the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredResult {
    /// Number of parts to read; 0 if the result is `inline`.
    pub parts: usize,
    /// The whole result if it is small. Empty if there is none.
    pub inline: Vec<u8>,
}

/// End of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Keeps the result.
    Keep {
        /// Encoded result.
        result: Vec<u8>,
        /// True if nothing is open.
        is_final: bool,
    },
    /// Removes the record: the write had no effect.
    Forget,
    /// Ends the lease: the write may have had effects, and its result is not known.
    Interrupt,
}

/// The store cannot be reached or its response is invalid, with the cause.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreUnavailable(pub String);
