//! Rows of the operations on contacts.

use http::Method;
use leadsd_quota::BucketName;

use super::{AccessKind, BatchForm, Idempotency, Operation, OperationSpec, RateLimitKind};
use crate::leads::batch::{MAX_CHUNK, MissingItemPolicy, UnresolvedPolicy};

/// Batch read of contacts by e-mail address.
pub(super) const FIND: OperationSpec = OperationSpec {
    operation: Operation::FindContacts,
    name: "find_contacts",
    method: Method::POST,
    paths: [
        "crm/objects/2026-09/contacts/batch/read",
        "crm/objects/2026-03/contacts/batch/read",
        "crm/v3/objects/contacts/batch/read",
    ],
    rate_limit: RateLimitKind::Bucket(BucketName::Burst),
    idempotency: Idempotency::Idempotent,
    access: AccessKind::Read,
    batch: Some(BatchForm {
        max_inputs: MAX_CHUNK,
        missing: MissingItemPolicy::Unanswered,
        unresolved: UnresolvedPolicy::RetryAlone,
    }),
};

/// Batch create of contacts.
pub(super) const CREATE: OperationSpec = OperationSpec {
    operation: Operation::CreateContacts,
    name: "create_contacts",
    method: Method::POST,
    paths: [
        "crm/objects/2026-09/contacts/batch/create",
        "crm/objects/2026-03/contacts/batch/create",
        "crm/v3/objects/contacts/batch/create",
    ],
    rate_limit: RateLimitKind::Bucket(BucketName::Burst),
    idempotency: Idempotency::NotIdempotent,
    access: AccessKind::Write,
    batch: Some(BatchForm {
        max_inputs: MAX_CHUNK,
        missing: MissingItemPolicy::OutcomeUnknown,
        unresolved: UnresolvedPolicy::Fail,
    }),
};
