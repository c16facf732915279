//! Rows of the operations on associations.

use http::Method;

use super::{AccessKind, BatchForm, Idempotency, Operation, OperationSpec, RateLimitKind};
use crate::leads::batch::{MAX_CHUNK, MissingItemPolicy, UnresolvedPolicy};

/// Batch read of the associations of leads.
pub(super) const READ: OperationSpec = OperationSpec {
    operation: Operation::ReadAssociations,
    name: "read_associations",
    method: Method::POST,
    paths: [
        "crm/associations/2026-09/leads/{to}/batch/read",
        "crm/associations/2026-03/leads/{to}/batch/read",
        "crm/v4/associations/leads/{to}/batch/read",
    ],
    rate_limit: RateLimitKind::BurstAndOwn,
    idempotency: Idempotency::Idempotent,
    access: AccessKind::Read,
    batch: None,
};

/// Page of the associations of one lead.
pub(super) const LIST: OperationSpec = OperationSpec {
    operation: Operation::ListAssociations,
    name: "list_associations",
    method: Method::GET,
    paths: [
        "crm/objects/2026-09/leads/{id}/associations/{to}",
        "crm/objects/2026-03/leads/{id}/associations/{to}",
        "crm/v4/objects/leads/{id}/associations/{to}",
    ],
    ..READ
};

/// Batch that makes associations.
pub(super) const CREATE: OperationSpec = OperationSpec {
    operation: Operation::CreateAssociations,
    name: "create_associations",
    paths: [
        "crm/associations/2026-09/leads/{to}/batch/create",
        "crm/associations/2026-03/leads/{to}/batch/create",
        "crm/v4/associations/leads/{to}/batch/create",
    ],
    access: AccessKind::Write,
    batch: Some(CHANGES),
    ..READ
};

/// Batch that removes associations with all of their types.
pub(super) const ARCHIVE: OperationSpec = OperationSpec {
    operation: Operation::ArchiveAssociations,
    name: "archive_associations",
    paths: [
        "crm/associations/2026-09/leads/{to}/batch/archive",
        "crm/associations/2026-03/leads/{to}/batch/archive",
        "crm/v4/associations/leads/{to}/batch/archive",
    ],
    ..CREATE
};

/// Batch that removes types of associations.
pub(super) const ARCHIVE_TYPES: OperationSpec = OperationSpec {
    operation: Operation::ArchiveAssociationTypes,
    name: "archive_association_types",
    paths: [
        "crm/associations/2026-09/leads/{to}/batch/labels/archive",
        "crm/associations/2026-03/leads/{to}/batch/labels/archive",
        "crm/v4/associations/leads/{to}/batch/labels/archive",
    ],
    ..CREATE
};

/// Batch form of changes. An input that no error is about has been changed: a change twice has the same effect.
const CHANGES: BatchForm = BatchForm {
    max_inputs: MAX_CHUNK,
    missing: MissingItemPolicy::Succeeded,
    unresolved: UnresolvedPolicy::RetryAlone,
};
