//! Import of leads: a stream of rows, each of which is a write with a key.
//!
//! - `keys`: the keys of recent rows.
//! - `tally`: outcomes of the rows of one stream, and the rule that stops it.
//! - `stats`: counts of all streams, for the metrics.
//!
//! `service::import` writes the rows. It makes single writes of them, which the pipeline batches: there is no
//! second batching layer. The request id of a row is derived from the import and the key, so that a repeat has
//! the effect of one write.

mod keys;
mod stats;
mod tally;

use std::sync::Arc;

use uuid::Uuid;

pub(super) use self::{
    keys::{RECENT, RecentKeys},
    tally::ImportTally,
};
pub use self::{
    stats::{ImportCounts, ImportEnd, ImportStats, RowKind},
    tally::{ImportSummary, StopRule},
};
use super::{
    error::Error,
    labels::Labelled,
    lead::Lead,
    query::LeadId,
    request_id::RequestId,
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// Maximum number of rows of a stream that have no result yet, or whose result was not sent. HubSpot batches
/// of 100 in progress, at 19 a second with a latency of one second.
pub const MAX_ROWS: usize = 2_000;

/// Maximum memory of these rows in bytes, unless a single row is larger.
pub const MAX_BYTES: usize = 24 << 20;

/// Namespace of the request ids of rows.
const ROWS: Uuid = Uuid::from_u128(0x6c65_6164_7364_696d_706f_7274_726f_7773);

/// Settings of an import.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// Name of the import, which its streams share.
    pub id: RequestId,
    /// Rule that stops the stream; `None` for none.
    pub stop: Option<StopRule>,
    /// True if rows are validated and not written.
    pub validate_only: bool,
}

/// One row.
#[derive(Debug, Clone)]
pub struct ImportRow {
    /// Key, which the result has.
    pub key: String,
    /// The write; an error if it is invalid.
    pub write: Result<RowWrite, Error>,
    /// Size of its message in bytes.
    pub bytes: usize,
}

/// Write of one row.
#[derive(Debug, Clone)]
pub enum RowWrite {
    /// A new lead.
    Create(Labelled<CreateLead>),
    /// New values for a lead.
    Update(Labelled<UpdateLead>),
    /// A lead to create or change.
    Upsert(Labelled<Traced<UpsertLead>>),
    /// A lead to archive.
    Archive(LeadId),
}

/// Outcome of a row that did not fail.
#[derive(Debug, Clone, PartialEq)]
pub enum RowOutcome {
    /// The lead was written. `created` is `None` if another client may have created it.
    Written {
        /// The lead after the write.
        lead: Arc<Lead>,
        /// True if it was created.
        created: Option<bool>,
    },
    /// The lead was archived.
    Archived,
    /// The row is valid, and was not written.
    Valid,
}

// === impl ImportSettings ===

impl ImportSettings {
    /// Request id of the row with this key.
    pub(super) fn request_id(&self, key: &str) -> Uuid {
        // The id of the import has no spaces, so the text is that of one row only.
        let name = format!("{} {key}", self.id.as_str());
        Uuid::new_v5(&ROWS, name.as_bytes())
    }
}

// === impl RowWrite ===

impl RowWrite {
    /// Id of the lead; `None` for a new one.
    pub(super) fn lead_id(&self) -> Option<&LeadId> {
        match self {
            Self::Create(_) => None,
            Self::Update(update) => Some(&update.input.id),
            Self::Upsert(upsert) => Some(&upsert.input.input.id),
            Self::Archive(id) => Some(id),
        }
    }
}

// === impl RowOutcome ===

impl RowOutcome {
    /// Kind in counts.
    pub(super) fn kind(&self) -> RowKind {
        match self {
            Self::Written { created: Some(true), .. } => RowKind::Created,
            Self::Written { created: Some(false) | None, .. } => RowKind::Updated,
            Self::Archived => RowKind::Archived,
            Self::Valid => RowKind::Validated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_of_each_import_has_one_request_id() {
        let id = |import: &str, key: &str| {
            let id = RequestId::parse(import).unwrap();
            ImportSettings { id, stop: None, validate_only: false }.request_id(key)
        };
        assert_eq!(id("a", "1"), id("a", "1"));
        assert_eq!(id("a", "1").to_string(), "ceadeee9-e410-51cf-be40-f89b10b453f8");
        let ids = [id("a", "1"), id("a", "2"), id("b", "1"), id("a", "1 1"), id("a1", "1")];
        let distinct: std::collections::HashSet<_> = ids.into_iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
