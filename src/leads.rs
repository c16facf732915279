//! Domain of the service: leads, requests about them, and rules that are independent of gRPC and of
//! HubSpot's HTTP API.
//!
//! [`Upstream`] is the port to HubSpot. Nothing here names a protocol.

mod audit;
pub mod batch;
mod charge;
mod context;
mod cost;
mod create;
mod error;
mod idempotency;
mod lead;
mod memory;
mod query;
mod rejection_cache;
mod request;
mod response_limit;
mod service;
#[cfg(test)]
pub(crate) mod testing;
pub mod upsert;
mod write;

pub use audit::refused as audit_refused;
pub use charge::{MemoryAccount, MemoryCharge, Unlimited};
pub use context::{CallContext, Guard, Portal, PortalName, Upstream};
pub use cost::CostMeter;
pub use error::{AffectedInputs, Error, FieldFault, LocalLimit, Reason, SideEffect, UpstreamFacts};
pub use idempotency::RequestId;
pub use lead::{Associated, AssociatedObject, Lead, PropertyVersion, Warning};
pub use query::{
    BatchRead, Direction, Filter, FilterGroup, FilterOperator, GetLead, LeadId, ListLeads, Page,
    SearchLeads, SearchPage, Selection, Sort,
};
pub use request::{
    BatchItem, BatchResponse, ChunkOutcomes, Link, Links, Outcome, Request, Response,
};
pub use response_limit::ResponseLimit;
pub use service::{BatchGet, Service, Settings};
pub use write::{
    Association, AssociationCategory, AssociationType, CreateLead, LEAD_NAME, Traced, UpdateLead,
    UpsertLead, Upserted,
};

/// Properties that HubSpot returns if none is selected. Requested explicitly if the unique property
/// has to be requested as well, so that the response can be matched.
const DEFAULT_PROPERTIES: [&str; 3] = ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"];
