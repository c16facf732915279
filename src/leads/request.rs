//! Messages of the port to HubSpot: a [`Request`] for every operation, and its [`Response`].

use std::sync::Arc;

use super::{
    association_change::ChangeAssociations,
    association_type::AssociationType,
    contacts::{ContactEmail, NewContact},
    error::{Error, Reason, SideEffect},
    lead::{Associated, Lead},
    query::{
        BatchRead, GetLead, LeadId, ListAssociations, ListLeads, Page, SearchLeads, SearchPage,
    },
    schema::{SchemaPage, SchemaRead},
    write::{CreateLead, Traced, UpdateLead, UpsertLead},
};

/// One HubSpot operation with its input, or an upsert. Batches have 1 to 100 inputs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Reads one lead. Response: [`Response::Lead`].
    Get(GetLead),
    /// Reads one page of all leads. Response: [`Response::Page`].
    List(ListLeads),
    /// Reads one page of matching leads. Response: [`Response::SearchPage`].
    Search(SearchLeads),
    /// Creates one lead. Response: [`Response::Lead`].
    Create(CreateLead),
    /// Updates one lead. Response: [`Response::Lead`].
    Update(UpdateLead),
    /// Archives one lead. Response: [`Response::Archived`].
    Archive(LeadId),
    /// Reads leads by id.
    BatchRead(BatchRead),
    /// Creates leads.
    BatchCreate(Vec<Traced<CreateLead>>),
    /// Updates leads.
    BatchUpdate(Vec<Traced<UpdateLead>>),
    /// Archives leads.
    BatchArchive(Vec<LeadId>),
    /// Updates the leads that exist, and creates the others. The pipeline reads the leads, and sends
    /// the updates and creates; it has up to `concurrency` requests in progress.
    /// Response: [`Response::Outcomes`].
    Upsert {
        /// The leads. No two inputs name the same lead.
        inputs: Vec<Traced<UpsertLead>>,
        /// Maximum number of concurrent HubSpot calls.
        concurrency: usize,
    },
    /// Reads the records of type `to` that up to 1,000 leads are associated with. Leads that do not
    /// exist are left out. Response: [`Response::Associations`].
    ReadAssociations {
        /// Record ids of the leads.
        leads: Vec<LeadId>,
        /// Object type, such as `contacts`.
        to: String,
    },
    /// Reads one page of the records of one type that a lead is associated with.
    /// Response: [`Response::Associated`].
    ListAssociations(ListAssociations),
    /// Makes or removes associations. Idempotent: the response has no results.
    ChangeAssociations(ChangeAssociations),
    /// Reads a part of the schema. Response: [`Response::Schema`].
    ReadSchema(SchemaRead),
    /// Looks up contacts by their e-mail addresses, which are distinct. The items of the response are the
    /// contacts, as far as they exist: each has the fields of a [`Lead`] that all records have.
    FindContacts(Vec<ContactEmail>),
    /// Creates contacts with distinct addresses. The items of the response are the contacts, as those of
    /// [`FindContacts`](Self::FindContacts).
    CreateContacts(Vec<Traced<NewContact>>),
}

/// The response to a [`Request`]. Clones share its leads.
#[derive(Debug, Clone)]
pub enum Response {
    /// One lead.
    Lead(Arc<Lead>),
    /// One page of all leads.
    Page(Arc<Page>),
    /// One page of matching leads.
    SearchPage(Arc<SearchPage>),
    /// The lead is archived.
    Archived,
    /// HubSpot's response to a batch, not matched with the inputs yet.
    Batch(BatchResponse),
    /// One outcome per input of a batch, in input order.
    Outcomes(ChunkOutcomes),
    /// Associated records by lead.
    Associations(Vec<Links>),
    /// One page of the records that a lead is associated with.
    Associated(Arc<Associated>),
    /// A part of the schema.
    Schema(SchemaPage),
}

/// HubSpot's response to a batch: results in any order, and errors that are about one, several or
/// unknown inputs.
#[derive(Debug, Clone, Default)]
pub struct BatchResponse {
    /// Successful items.
    pub results: Vec<BatchItem>,
    /// Failed items. [`Error::affected_inputs`] names the inputs that each is about.
    pub errors: Vec<Error>,
}

/// One success of a batch.
#[derive(Debug, Clone)]
pub struct BatchItem {
    /// The lead.
    pub lead: Lead,
    /// The trace id of its input, if HubSpot returned it.
    pub trace_id: Option<String>,
    /// For an upsert: true if the lead was created.
    pub created: Option<bool>,
}

/// The outcome of one input: its result, or `None` for a success without a result.
pub type Outcome = Result<Option<BatchItem>, Error>;

/// The outcomes of one batch request of at most 100 inputs.
#[derive(Debug, Clone)]
pub struct ChunkOutcomes {
    /// One per input, in input order.
    pub outcomes: Vec<Outcome>,
    /// True if HubSpot evaluated the inputs. False if the whole request failed for another reason.
    pub evaluated: bool,
}

/// The records of one type that a lead is associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// Record id of the lead.
    pub lead: String,
    /// The records, one entry for each association type, and the cursor for further ones.
    pub page: Associated,
    /// False if HubSpot sent records without an id, which are left out.
    pub is_whole: bool,
}

/// One record that a lead is associated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Record id.
    pub id: String,
    /// Association types.
    pub types: Vec<AssociationType>,
}

// === impl Request ===

impl Request {
    /// Number of leads that the request is about: the inputs of a batch, none for schemas, contacts and for
    /// associations, whose leads were counted when they were read, and one for everything else.
    pub fn leads(&self) -> usize {
        match self {
            Self::Get(_)
            | Self::List(_)
            | Self::Search(_)
            | Self::Create(_)
            | Self::Update(_)
            | Self::Archive(_)
            | Self::ListAssociations(_) => 1,
            Self::BatchRead(request) => request.ids.len(),
            Self::BatchCreate(inputs) => inputs.len(),
            Self::BatchUpdate(inputs) => inputs.len(),
            Self::Upsert { inputs, .. } => inputs.len(),
            Self::BatchArchive(ids) => ids.len(),
            Self::ChangeAssociations(request) => request.changes.len(),
            Self::ReadAssociations { .. }
            | Self::ReadSchema(_)
            | Self::FindContacts(_)
            | Self::CreateContacts(_) => 0,
        }
    }
}

// === impl Links ===

impl Links {
    /// A lead without associations.
    pub fn none(lead: String) -> Self {
        Self { lead, page: Associated::default(), is_whole: true }
    }

    /// True if the list is complete and every record was understood.
    pub fn is_complete(&self) -> bool {
        self.is_whole && self.page.next.is_none()
    }

    /// The records with all of their types. `None` if the type of any is not known.
    pub fn records(&self) -> Option<Vec<Link>> {
        let mut records: Vec<Link> = Vec::with_capacity(self.page.objects.len());
        for object in &self.page.objects {
            let kind = object.association_type?;
            match records.last_mut().filter(|last| last.id == object.id) {
                Some(last) => last.types.push(kind),
                None => records.push(Link { id: object.id.clone(), types: vec![kind] }),
            }
        }
        Some(records)
    }
}

// === impl Response ===

impl Response {
    /// The lead of a get, create or update.
    pub fn into_lead(self) -> Result<Arc<Lead>, Error> {
        if let Self::Lead(lead) = self { Ok(lead) } else { Err(mismatch()) }
    }

    /// The page of a list.
    pub fn into_page(self) -> Result<Arc<Page>, Error> {
        if let Self::Page(page) = self { Ok(page) } else { Err(mismatch()) }
    }

    /// The page of a search.
    pub fn into_search_page(self) -> Result<Arc<SearchPage>, Error> {
        if let Self::SearchPage(page) = self { Ok(page) } else { Err(mismatch()) }
    }

    /// The response to a batch that was not matched with its inputs.
    pub fn into_batch(self) -> Result<BatchResponse, Error> {
        if let Self::Batch(batch) = self { Ok(batch) } else { Err(mismatch()) }
    }

    /// The outcomes of a batch.
    pub fn into_outcomes(self) -> Result<ChunkOutcomes, Error> {
        if let Self::Outcomes(outcomes) = self { Ok(outcomes) } else { Err(mismatch()) }
    }

    /// The associated records.
    pub fn into_associations(self) -> Result<Vec<Links>, Error> {
        if let Self::Associations(links) = self { Ok(links) } else { Err(mismatch()) }
    }

    /// One page of associated records.
    pub fn into_associated(self) -> Result<Associated, Error> {
        let Self::Associated(page) = self else { return Err(mismatch()) };
        Ok(Arc::unwrap_or_clone(page))
    }

    /// The part of the schema.
    pub fn into_schema(self) -> Result<SchemaPage, Error> {
        if let Self::Schema(page) = self { Ok(page) } else { Err(mismatch()) }
    }
}

/// A layer returned the response of another request. No layer does; the error keeps the request's
/// outcome open because it may have been a write.
fn mismatch() -> Error {
    Error::new(Reason::Internal, "internal error: response does not belong to its request")
        .with_side_effect(SideEffect::Possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_to_another_request_is_an_error_with_an_open_outcome() {
        let errors = [
            Response::Archived.into_lead().err(),
            Response::Archived.into_page().err(),
            Response::Archived.into_search_page().err(),
            Response::Archived.into_batch().err(),
            Response::Archived.into_outcomes().err(),
            Response::Archived.into_associations().err(),
            Response::Archived.into_associated().err(),
            Response::Archived.into_schema().err(),
        ];
        for error in errors {
            let error = error.expect("a mismatch");
            assert_eq!(error.reason(), Reason::Internal);
            assert_eq!(error.side_effect(), SideEffect::Possible);
        }
    }
}
