//! Rows of the reads of a portal's schema.

use http::Method;
use leadsd_quota::BucketName;

use super::{AccessKind, Idempotency, Operation, OperationSpec, RateLimitKind};

pub(super) const LIST_PROPERTIES: OperationSpec = OperationSpec {
    operation: Operation::ListProperties,
    name: "list_properties",
    paths: [
        "crm/properties/2026-09/leads",
        "crm/properties/2026-03/leads",
        "crm/v3/properties/leads",
    ],
    ..READ
};

/// Documented with the id of the object type only.
pub(super) const LIST_VALIDATION_RULES: OperationSpec = OperationSpec {
    operation: Operation::ListValidationRules,
    name: "list_validation_rules",
    paths: [
        "crm/property-validations/2026-09/0-136",
        "crm/property-validations/2026-03/0-136",
        "crm/v3/property-validations/0-136",
    ],
    ..READ
};

pub(super) const LIST_PIPELINES: OperationSpec = OperationSpec {
    operation: Operation::ListPipelines,
    name: "list_pipelines",
    paths: ["crm/pipelines/2026-09/leads", "crm/pipelines/2026-03/leads", "crm/v3/pipelines/leads"],
    ..READ
};

pub(super) const LIST_OWNERS: OperationSpec = OperationSpec {
    operation: Operation::ListOwners,
    name: "list_owners",
    paths: ["crm/owners/2026-09", "crm/owners/2026-03", "crm/v3/owners"],
    ..READ
};

pub(super) const LIST_ASSOCIATION_TYPES: OperationSpec = OperationSpec {
    operation: Operation::ListAssociationTypes,
    name: "list_association_types",
    paths: [
        "crm/associations/2026-09/leads/{to}/labels",
        "crm/associations/2026-03/leads/{to}/labels",
        "crm/v4/associations/leads/{to}/labels",
    ],
    rate_limit: RateLimitKind::BurstAndOwn,
    ..READ
};

/// Fields that the reads have in common.
const READ: OperationSpec = OperationSpec {
    operation: Operation::ListProperties,
    name: "",
    method: Method::GET,
    paths: [""; 3],
    rate_limit: RateLimitKind::Bucket(BucketName::Burst),
    idempotency: Idempotency::Idempotent,
    access: AccessKind::Read,
    batch: None,
};
