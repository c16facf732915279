//! Table of HubSpot's operations, the only place that knows their differences.
//!
//! A row of [`OPERATIONS`] contains HTTP method, path per API version, rate limit bucket, idempotency,
//! batch form and matching of batch results.

mod associations;
mod contacts;
mod schema;

use http::Method;
use leadsd_quota::BucketName;

use crate::{
    config::ApiVersion,
    leads::{
        AssociationChangeKind, Request,
        batch::{MAX_CHUNK, MissingItemPolicy, UnresolvedPolicy},
        schema::SchemaRead,
    },
};

/// Operation of HubSpot's API on leads, their associations, contacts or schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads one lead.
    Get,
    /// Reads one page of all leads.
    List,
    /// Creates one lead.
    Create,
    /// Updates one lead.
    Update,
    /// Archives one lead.
    Archive,
    /// Reads one page of matching leads.
    Search,
    /// Reads leads by id.
    BatchRead,
    /// Creates leads.
    BatchCreate,
    /// Updates leads.
    BatchUpdate,
    /// Archives leads.
    BatchArchive,
    /// Reads the associations of leads to one object type.
    ReadAssociations,
    /// Reads one page of the associations of one lead to one object type.
    ListAssociations,
    /// Makes associations of leads.
    CreateAssociations,
    /// Removes associations of leads with all of their types.
    ArchiveAssociations,
    /// Removes types of associations of leads.
    ArchiveAssociationTypes,
    /// Reads the lead properties.
    ListProperties,
    /// Reads the lead pipelines.
    ListPipelines,
    /// Reads one page of owners.
    ListOwners,
    /// Reads the association types from leads to one object type.
    ListAssociationTypes,
    /// Reads the validation rules of all lead properties.
    ListValidationRules,
    /// Reads contacts by e-mail address.
    FindContacts,
    /// Creates contacts.
    CreateContacts,
}

/// Idempotency of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    /// Reads, writes of complete values, and archives.
    Idempotent,
    /// Creates: sent twice, they create two leads, or the second contact is rejected.
    NotIdempotent,
}

/// Kind of access of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads only.
    Read,
    /// Changes records.
    Write,
}

/// Rate limit that HubSpot applies to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitKind {
    /// Bucket of the portal's quota.
    Bucket(BucketName),
    /// The burst bucket and a separate limit that the quota does not model. A 429 or the headers may be
    /// about the separate limit, so they are not observed by the quota.
    BurstAndOwn,
}

/// Size of a batch, and matching of its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchForm {
    /// Maximum number of inputs.
    pub max_inputs: usize,
    /// Outcome of an input without a result.
    pub missing: MissingItemPolicy,
    /// Policy for an input of a merged batch with an unresolved outcome.
    pub unresolved: UnresolvedPolicy,
}

/// Row of the operations table.
#[derive(Debug)]
pub struct OperationSpec {
    /// Operation.
    pub operation: Operation,
    /// Name in logs and metrics.
    pub name: &'static str,
    /// HTTP method.
    pub method: Method,
    /// Path templates for the API versions 2026-09, 2026-03 and v3. `{id}` and `{to}` are each replaced
    /// by one percent-encoded segment.
    pub paths: [&'static str; 3],
    /// Rate limit.
    pub rate_limit: RateLimitKind,
    /// Idempotency.
    pub idempotency: Idempotency,
    /// Kind of access.
    pub access: AccessKind,
    /// Batch form; `None` for individual operations.
    pub batch: Option<BatchForm>,
}

/// Number of operations.
pub const COUNT: usize = 22;

/// All operations, in the order of their discriminants.
pub const OPERATIONS: [OperationSpec; COUNT] = [
    OperationSpec {
        operation: Operation::Get,
        name: "get",
        method: Method::GET,
        paths: [
            "crm/objects/2026-09/leads/{id}",
            "crm/objects/2026-03/leads/{id}",
            "crm/v3/objects/leads/{id}",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Read,
        batch: None,
    },
    OperationSpec {
        operation: Operation::List,
        name: "list",
        method: Method::GET,
        paths: ["crm/objects/2026-09/leads", "crm/objects/2026-03/leads", "crm/v3/objects/leads"],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Read,
        batch: None,
    },
    OperationSpec {
        operation: Operation::Create,
        name: "create",
        method: Method::POST,
        paths: ["crm/objects/2026-09/leads", "crm/objects/2026-03/leads", "crm/v3/objects/leads"],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::NotIdempotent,
        access: AccessKind::Write,
        batch: None,
    },
    OperationSpec {
        operation: Operation::Update,
        name: "update",
        method: Method::PATCH,
        paths: [
            "crm/objects/2026-09/leads/{id}",
            "crm/objects/2026-03/leads/{id}",
            "crm/v3/objects/leads/{id}",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Write,
        batch: None,
    },
    OperationSpec {
        operation: Operation::Archive,
        name: "archive",
        method: Method::DELETE,
        paths: [
            "crm/objects/2026-09/leads/{id}",
            "crm/objects/2026-03/leads/{id}",
            "crm/v3/objects/leads/{id}",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Write,
        batch: None,
    },
    OperationSpec {
        operation: Operation::Search,
        name: "search",
        method: Method::POST,
        paths: [
            "crm/objects/2026-09/leads/search",
            "crm/objects/2026-03/leads/search",
            "crm/v3/objects/leads/search",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Search),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Read,
        batch: None,
    },
    OperationSpec {
        operation: Operation::BatchRead,
        name: "batch_read",
        method: Method::POST,
        paths: [
            "crm/objects/2026-09/leads/batch/read",
            "crm/objects/2026-03/leads/batch/read",
            "crm/v3/objects/leads/batch/read",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Read,
        batch: Some(BatchForm {
            max_inputs: MAX_CHUNK,
            missing: MissingItemPolicy::Unanswered,
            unresolved: UnresolvedPolicy::RetryAlone,
        }),
    },
    OperationSpec {
        operation: Operation::BatchCreate,
        name: "batch_create",
        method: Method::POST,
        paths: [
            "crm/objects/2026-09/leads/batch/create",
            "crm/objects/2026-03/leads/batch/create",
            "crm/v3/objects/leads/batch/create",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::NotIdempotent,
        access: AccessKind::Write,
        batch: Some(BatchForm {
            max_inputs: MAX_CHUNK,
            missing: MissingItemPolicy::OutcomeUnknown,
            unresolved: UnresolvedPolicy::Fail,
        }),
    },
    OperationSpec {
        operation: Operation::BatchUpdate,
        name: "batch_update",
        method: Method::POST,
        paths: [
            "crm/objects/2026-09/leads/batch/update",
            "crm/objects/2026-03/leads/batch/update",
            "crm/v3/objects/leads/batch/update",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Write,
        batch: Some(BatchForm {
            max_inputs: MAX_CHUNK,
            missing: MissingItemPolicy::OutcomeUnknown,
            // Writing complete values twice has the same effect.
            unresolved: UnresolvedPolicy::RetryAlone,
        }),
    },
    OperationSpec {
        operation: Operation::BatchArchive,
        name: "batch_archive",
        method: Method::POST,
        paths: [
            "crm/objects/2026-09/leads/batch/archive",
            "crm/objects/2026-03/leads/batch/archive",
            "crm/v3/objects/leads/batch/archive",
        ],
        rate_limit: RateLimitKind::Bucket(BucketName::Burst),
        idempotency: Idempotency::Idempotent,
        access: AccessKind::Write,
        batch: Some(BatchForm {
            max_inputs: MAX_CHUNK,
            // HubSpot's response to an archive has no results.
            missing: MissingItemPolicy::Succeeded,
            unresolved: UnresolvedPolicy::RetryAlone,
        }),
    },
    associations::READ,
    associations::LIST,
    associations::CREATE,
    associations::ARCHIVE,
    associations::ARCHIVE_TYPES,
    schema::LIST_PROPERTIES,
    schema::LIST_PIPELINES,
    schema::LIST_OWNERS,
    schema::LIST_ASSOCIATION_TYPES,
    schema::LIST_VALIDATION_RULES,
    contacts::FIND,
    contacts::CREATE,
];

// === impl Operation ===

impl Operation {
    /// Row of this operation.
    pub fn spec(self) -> &'static OperationSpec {
        static TABLE: [OperationSpec; COUNT] = OPERATIONS;
        &TABLE[self as usize]
    }

    /// Name in logs and metrics.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Reports whether the operation reads a part of the schema. Such a read is sent once: the schema
    /// cache counts the calls, and decides when to send it again.
    pub fn reads_schema(self) -> bool {
        matches!(
            self,
            Self::ListProperties
                | Self::ListPipelines
                | Self::ListOwners
                | Self::ListAssociationTypes
                | Self::ListValidationRules
        )
    }

    /// Reports whether the operation changes records.
    pub fn writes(self) -> bool {
        self.spec().access == AccessKind::Write
    }
}

impl From<&Request> for Operation {
    fn from(request: &Request) -> Self {
        match request {
            Request::Get(_) => Self::Get,
            Request::List(_) => Self::List,
            Request::Search(_) => Self::Search,
            Request::Create(_) => Self::Create,
            Request::Update(_) => Self::Update,
            Request::Archive(_) => Self::Archive,
            Request::BatchRead(_) => Self::BatchRead,
            Request::BatchCreate(_) => Self::BatchCreate,
            // An upsert is sent in parts. As a whole it is the update that it is for leads that exist.
            Request::BatchUpdate(_) | Request::Upsert { .. } => Self::BatchUpdate,
            Request::BatchArchive(_) => Self::BatchArchive,
            Request::ReadAssociations { .. } => Self::ReadAssociations,
            Request::ListAssociations(_) => Self::ListAssociations,
            Request::ChangeAssociations(request) => match request.kind {
                AssociationChangeKind::Create => Self::CreateAssociations,
                AssociationChangeKind::Remove => Self::ArchiveAssociations,
                AssociationChangeKind::RemoveTypes => Self::ArchiveAssociationTypes,
            },
            Request::ReadSchema(SchemaRead::Properties) => Self::ListProperties,
            Request::ReadSchema(SchemaRead::ValidationRules) => Self::ListValidationRules,
            Request::ReadSchema(SchemaRead::Pipelines) => Self::ListPipelines,
            Request::ReadSchema(SchemaRead::Owners { .. }) => Self::ListOwners,
            Request::ReadSchema(SchemaRead::AssociationTypes { .. }) => Self::ListAssociationTypes,
            Request::FindContacts(_) => Self::FindContacts,
            Request::CreateContacts(_) => Self::CreateContacts,
        }
    }
}

// === impl OperationSpec ===

impl OperationSpec {
    /// Path template in this API version.
    pub fn path(&self, version: ApiVersion) -> &'static str {
        let [v2026_09, v2026_03, v3] = self.paths;
        match version {
            ApiVersion::V2026_09 => v2026_09,
            ApiVersion::V2026_03 => v2026_03,
            ApiVersion::V3 => v3,
        }
    }

    /// Bucket from which a request acquires a permit.
    pub fn bucket(&self) -> BucketName {
        match self.rate_limit {
            RateLimitKind::Bucket(bucket) => bucket,
            RateLimitKind::BurstAndOwn => BucketName::Burst,
        }
    }

    /// Reports whether HubSpot applies a separate limit that the quota does not model.
    pub fn has_own_limit(&self) -> bool {
        self.rate_limit == RateLimitKind::BurstAndOwn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_their_discriminants() {
        for (index, spec) in OPERATIONS.iter().enumerate() {
            assert_eq!(spec.operation as usize, index, "{}", spec.name);
            assert_eq!(spec.operation.name(), spec.name);
        }
    }

    #[test]
    fn only_creates_are_not_idempotent() {
        for spec in &OPERATIONS {
            let is_create = matches!(
                spec.operation,
                Operation::Create | Operation::BatchCreate | Operation::CreateContacts
            );
            let expected =
                if is_create { Idempotency::NotIdempotent } else { Idempotency::Idempotent };
            assert_eq!(spec.idempotency, expected, "{}", spec.name);
            if let Some(batch) = spec.batch {
                let is_certain = batch.unresolved == UnresolvedPolicy::RetryAlone;
                assert!(!is_certain || !is_create, "{} must not be repeated", spec.name);
            }
        }
    }

    #[test]
    fn only_searches_take_the_search_bucket() {
        for spec in &OPERATIONS {
            let is_search = spec.operation == Operation::Search;
            assert_eq!(spec.bucket() == BucketName::Search, is_search, "{}", spec.name);
        }
    }
}
