//! Facts about HubSpot that leadsd depends on.
//!
//! - `table` has the name, basis and expectation of each fact.
//!
//! A fact does not know how it is tried, or what was observed.

mod table;

use table::TABLE;

/// Fact about HubSpot's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    LimitHeaders,
    SearchLimits,
    NotFound,
    NotFoundCategory,
    NotNumeric,
    UnsetProperty,
    DefaultProperties,
    ContactAssociation,
    AssociationTypes,
    AssociationsShown,
    UnknownAssociation,
    HistoryPage,
    LongestUrl,
    CreateStatus,
    CreateTraceId,
    ContactRequired,
    CompanyOnly,
    UnknownContact,
    MissingName,
    UnknownProperty,
    UnknownOwner,
    UnknownAssociationType,
    RecordIdProperty,
    EmptyUpdate,
    ReadOnlyProperty,
    UpdateTraceId,
    BatchCreateStatus,
    EchoedTraceIds,
    ShownProperties,
    PropertyErrors,
    PartialStatus,
    NumErrors,
    NamedInputs,
    AtomicBatch,
    UpdateOfUnknown,
    DuplicateIds,
    BatchSize,
    BatchArchiveOfUnknown,
    ArchiveOfUnknown,
    AssociationRead,
    AssociationBatchSize,
    AssociationsPage,
    MissingAssociations,
    AssociationErrors,
    UniqueProperty,
    UniqueClash,
    ExistingId,
    UniqueCase,
    UpsertOfNew,
    UpsertOfExisting,
    UpsertWithoutProperty,
    ArchivedRead,
    ArchivedTime,
    MergedRead,
    MergedUpdate,
    MergedBatchRead,
    SearchLag,
    SearchQuery,
    SearchBody,
    SearchWindow,
    UnknownAddress,
    FurtherAddress,
    OwnersPage,
    ScopeErrors,
}

/// Dependence of leadsd on a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Basis {
    /// Needed by leadsd.
    Required,
    /// Not needed: leadsd works either way.
    Tolerated,
    /// Not needed, and with this switch of the fake HubSpot.
    Switch(&'static str),
}

// === impl Fact ===

impl Fact {
    /// All facts, in the order of the report.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(fact, ..)| fact)
    }

    /// Name of the fact, a stable part of the report.
    pub(super) fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    pub(super) fn basis(self) -> Basis {
        TABLE[self as usize].2
    }

    /// Expectation of leadsd.
    pub(super) fn expected(self) -> &'static str {
        TABLE[self as usize].3
    }
}

#[cfg(test)]
mod tests;
