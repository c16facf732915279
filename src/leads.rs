//! The domain: leads, what can be asked of them, and the rules that hold whatever is above (gRPC)
//! and below (HubSpot).
//!
//! [`Upstream`] is the port to HubSpot. Nothing here names a protocol.

mod audit;
mod batch;
mod call;
mod coalesce;
mod create;
mod error;
mod inputs;
mod lead;
mod query;
mod refusals;
mod replay;
mod service;
mod upstream;
mod write;

pub use audit::refused as audit_refused;
pub use call::{ATTEMPT_TIME, CallContext, Claim, CostMeter, Guard, Patience, PortalName, Prepaid};
pub use coalesce::Coalesced;
pub use error::{AffectedInputs, Error, FieldFault, Reason, SideEffect, UpstreamFacts};
pub use lead::{Associated, AssociatedObject, Lead, PropertyVersion, Warning};
pub use query::{
    BatchRead, Direction, Filter, FilterGroup, FilterOperator, GetLead, LeadId, ListLeads, Page,
    SearchLeads, SearchPage, Selection, Sort,
};
pub use replay::RequestId;
pub use service::{BatchGet, RequestIdProperties, Service, Settings};
pub use upstream::{BatchAnswer, BatchItem, ItemError, Link, Links, Upstream};
pub use write::{
    Association, AssociationCategory, AssociationType, CreateLead, Traced, UpdateLead, UpsertLead,
    Upserted,
};
