//! The port to HubSpot: the eleven lead operations and the associations that go with them, each one
//! HubSpot call.

use std::fmt;

use async_trait::async_trait;

use super::{
    call::CallContext,
    error::Error,
    lead::Lead,
    query::{BatchRead, GetLead, LeadId, ListLeads, Page, SearchLeads, SearchPage},
    write::{AssociationType, CreateLead, Traced, UpdateLead, UpsertLead},
};

/// What HubSpot answered to a batch, before it is matched with the inputs: results in any order,
/// and errors that stand for one, several or unknown inputs.
#[derive(Debug, Clone, Default)]
pub struct BatchAnswer {
    /// What succeeded.
    pub results: Vec<BatchItem>,
    /// What failed.
    pub errors: Vec<ItemError>,
}

/// One success of a batch.
#[derive(Debug, Clone)]
pub struct BatchItem {
    /// The lead.
    pub lead: Lead,
    /// The trace id of its input, if HubSpot echoed it.
    pub trace_id: Option<String>,
    /// For an upsert: whether it is new.
    pub created: Option<bool>,
}

/// One error of a batch. [`Error::affected_inputs`] names the inputs that it is about.
#[derive(Debug, Clone)]
pub struct ItemError {
    /// What went wrong.
    pub error: Error,
}

/// The records of one type that a lead is associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// Record id of the lead.
    pub lead: String,
    /// The records.
    pub records: Vec<Link>,
    /// Whether that is all of them, and all could be understood.
    pub is_whole: bool,
}

/// One record that a lead is associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Record id.
    pub id: String,
    /// In which ways.
    pub types: Vec<AssociationType>,
}

/// HubSpot, as the domain sees it. Every method makes one logical call, counts what it spends in
/// [`CallContext::cost`] and never outlasts [`CallContext::deadline`]. Batches take 1 to 100 inputs.
///
/// A batch method fails as a whole only if HubSpot refused or lost the whole batch; errors of
/// single inputs are part of the answer.
#[async_trait]
pub trait Upstream: fmt::Debug + Send + Sync + 'static {
    /// Reads one lead.
    async fn get(&self, call: &CallContext, request: &GetLead) -> Result<Lead, Error>;
    /// Reads one page of all leads.
    async fn list(&self, call: &CallContext, request: &ListLeads) -> Result<Page, Error>;
    /// Reads one page of the leads that match.
    async fn search(&self, call: &CallContext, request: &SearchLeads) -> Result<SearchPage, Error>;
    /// Creates one lead.
    async fn create(&self, call: &CallContext, request: &CreateLead) -> Result<Lead, Error>;
    /// Changes one lead.
    async fn update(&self, call: &CallContext, request: &UpdateLead) -> Result<Lead, Error>;
    /// Archives one lead.
    async fn archive(&self, call: &CallContext, id: &LeadId) -> Result<(), Error>;
    /// Reads up to 100 leads.
    async fn batch_read(
        &self,
        call: &CallContext,
        request: &BatchRead,
    ) -> Result<BatchAnswer, Error>;
    /// Creates up to 100 leads.
    async fn batch_create(
        &self,
        call: &CallContext,
        inputs: &[Traced<CreateLead>],
    ) -> Result<BatchAnswer, Error>;
    /// Changes up to 100 leads.
    async fn batch_update(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpdateLead>],
    ) -> Result<BatchAnswer, Error>;
    /// Creates or changes up to 100 leads.
    async fn batch_upsert(
        &self,
        call: &CallContext,
        inputs: &[Traced<UpsertLead>],
    ) -> Result<BatchAnswer, Error>;
    /// Archives up to 100 leads. HubSpot answers without results; errors, if it ever sends any, are
    /// part of the answer.
    async fn batch_archive(&self, call: &CallContext, ids: &[LeadId])
    -> Result<BatchAnswer, Error>;
    /// Reads which records of type `to` up to 1,000 leads are associated with. Leads that are not
    /// there are left out.
    async fn associations(
        &self,
        call: &CallContext,
        leads: &[LeadId],
        to: &str,
    ) -> Result<Vec<Links>, Error>;
}
