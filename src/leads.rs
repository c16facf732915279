//! Domain of the service: leads, requests about them, and rules that are independent of gRPC and of
//! HubSpot's HTTP API.
//!
//! [`Upstream`] is the port to HubSpot. Nothing here names a protocol.

mod association_change;
mod association_type;
mod audit;
pub mod batch;
mod charge;
pub mod contacts;
mod context;
mod cost;
mod create;
mod error;
pub mod export;
pub mod idempotency;
pub mod import;
mod labels;
mod lead;
mod memory;
mod paged_search;
mod query;
mod rejection_search;
mod request;
mod request_id;
mod response_limit;
pub mod schema;
mod service;
#[cfg(test)]
pub(crate) mod testing;
pub mod typed_value;
pub mod upsert;
mod validation;
mod validator;
mod write;

pub use association_change::{AssociationChange, AssociationChangeKind, ChangeAssociations};
pub use association_type::{AssociationCategory, AssociationType};
pub use audit::{contact_created as audit_contact_created, refused as audit_refused};
pub use charge::{MEMORY_LIMIT, MemoryAccount, MemoryCharge, Unlimited};
pub use context::{CallContext, Guard, Portal, PortalName, PortalSettings, Upstream};
pub use cost::CostMeter;
pub use error::{AffectedInputs, Error, FieldFault, LocalLimit, Reason, SideEffect, UpstreamFacts};
pub use labels::{AssociationLabel, DisplayLabels, FilterPosition, Labelled, Labels};
pub use lead::{Associated, AssociatedObject, Lead, PropertyVersion, Warning};
pub use paged_search::{
    Keyset, KeysetBound, MAX_TIES, PagedSearch, PositionedPage, SearchPosition,
};
pub use query::{
    BatchRead, Direction, Filter, FilterGroup, FilterOperator, GetLead, LeadId, ListAssociations,
    ListLeads, MAX_FILTERS, MAX_FILTERS_IN_GROUP, Page, SearchLeads, SearchPage, Selection, Sort,
};
pub use rejection_search::RejectionSearch;
pub use request::{
    BatchItem, BatchResponse, ChunkOutcomes, Link, Links, Outcome, Request, Response,
};
pub use request_id::{RequestId, RequestIdScope};
pub use response_limit::ResponseLimit;
pub use service::{
    ALL_PROPERTIES, AssociationAction, BatchGet, Export, ExportMessage, Import, ImportResult,
    Service, Settings, Validated,
};
pub use validation::{DateRules, ViolationKind};
pub use validator::{ValidationMode, ValidationOutcome, ValidationSettings, ValidationSnapshot};
pub use write::{
    Association, CreateLead, LEAD_NAME, RECORD_ID, Traced, UpdateLead, UpsertLead, Upserted,
};

/// Properties that HubSpot returns if none is selected. Requested explicitly if the unique property
/// has to be requested as well, so that the response can be matched.
pub const DEFAULT_PROPERTIES: [&str; 3] = ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];
