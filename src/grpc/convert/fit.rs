//! Fits results into one response of at most `grpc.max_response_size`, and charges its memory before
//! it is built.
//!
//! A read that does not fit is an error that says what to do. A write has taken effect, so its result
//! keeps the id and the outcome.

use std::sync::Arc;

use prost::Message;

use super::{
    encoding::{field, text},
    response,
    size::{association_page_memory, association_page_size, lead_memory, lead_size, lead_size_in},
    typed::PropertyForm,
};
use crate::{
    grpc::{
        page_token::{Cursor, PagePosition, SearchTokens},
        pb, status,
        transport::call_state::CallState,
    },
    leads::{
        Associated, Error, FieldFault, Lead, Page, PositionedPage, Reason, ResponseLimit, Upserted,
    },
};

/// Bytes reserved for each result of a batch, besides its trace id: a short error, or a lead with only
/// its id.
const RESERVED: usize = 168;

/// Memory of an error in a message besides its encoded bytes.
const ERROR_OVERHEAD: usize = 512;

/// Encoded size of a message of an export without its leads and its token, at most.
const MESSAGE_OVERHEAD: usize = 1_024;

/// Encoded size of the field `total` and of the lengths around a page, at most.
const PAGE_OVERHEAD: usize = 32;

/// Response of one call while it is built.
#[derive(Debug)]
pub(crate) struct ResponseFit {
    state: Arc<CallState>,
    limit: ResponseLimit,
    /// Form of the properties of leads that were read.
    form: PropertyForm,
    /// Encoded bytes, including those reserved for results that follow.
    used: usize,
    /// Charged memory.
    memory: usize,
}

// === impl ResponseFit ===

impl ResponseFit {
    pub(crate) fn new(state: Arc<CallState>, max_bytes: usize) -> Self {
        let limit = ResponseLimit { max_bytes, lead_size };
        Self { state, limit, form: PropertyForm::Text, used: 0, memory: 0 }
    }

    /// Sets the form of the properties of leads that were read.
    pub(crate) fn set_form(&mut self, form: PropertyForm) {
        self.form = form;
    }

    /// Reserves room for the outcome of each input of a batch, named by these trace ids. Errors before
    /// anything is sent if the outcomes may not fit.
    pub(crate) fn reserve<'a>(
        &mut self,
        field_name: &'static str,
        traces: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let inputs = traces.len();
        self.used = traces.map(reserved).sum();
        let max_bytes = self.limit.max_bytes;
        if self.used <= max_bytes {
            return Ok(());
        }
        let max_inputs = max_bytes / (self.used / inputs.max(1)).max(1);
        let description = format!(
            "the results of {inputs} inputs may exceed the size of a response (limit {max_bytes} \
             bytes); send at most {max_inputs} inputs per call"
        );
        Err(Error::invalid(vec![FieldFault::new(field_name, description)]))
    }

    /// Builds the message of a lead that was read. Errors if it does not fit.
    pub(crate) fn read_lead(&mut self, lead: Arc<Lead>) -> Result<pb::Lead, Error> {
        let size = lead_size_in(&lead, &self.form);
        if field(size) > self.limit.max_bytes {
            return Err(self.limit.does_not_fit(field(size)));
        }
        self.charge(lead_memory(&lead, size, &self.form))?;
        Ok(response::lead_in(Arc::unwrap_or_clone(lead), &self.form))
    }

    /// Builds the message of a lead that was written, reduced to its id if it does not fit.
    pub(crate) fn written_lead(&mut self, lead: Arc<Lead>) -> pb::Lead {
        let size = lead_size(&lead);
        let fits = field(size) + PAGE_OVERHEAD <= self.limit.max_bytes;
        if fits && self.charge(lead_memory(&lead, size, &PropertyForm::Text)).is_ok() {
            return response::lead(Arc::unwrap_or_clone(lead));
        }
        response::lead(lead.id_only())
    }

    /// Builds a page of a list. Errors if it does not fit.
    pub(crate) fn list(
        &mut self,
        page: Arc<Page>,
        position: &PagePosition,
    ) -> Result<pb::ListLeadsResponse, Error> {
        let (next, leads) = (page.after.as_deref(), page.leads.len());
        let token = position.next_token(next, leads, Cursor::Opaque)?;
        self.admit_page(&page.leads, token.as_deref())?;
        Ok(response::list_response(Arc::unwrap_or_clone(page).leads, token, &self.form))
    }

    /// Builds a page of a search. Errors if it does not fit.
    pub(crate) fn search(
        &mut self,
        page: PositionedPage,
        tokens: &SearchTokens,
    ) -> Result<pb::SearchLeadsResponse, Error> {
        let PositionedPage { leads, total, next } = page;
        let token = tokens.next_token(next.as_ref(), leads.len())?;
        self.admit_page(&leads, token.as_deref())?;
        Ok(response::search_response(leads, token, total, &self.form))
    }

    /// Errors if a message with these leads and a token of this length may exceed the limit of a response.
    pub(crate) fn fits_message(&self, leads: &[Lead], token: usize) -> Result<(), Error> {
        let own: usize = leads.iter().map(|lead| field(lead_size_in(lead, &self.form))).sum();
        let size = own + token + MESSAGE_OVERHEAD;
        let limit = self.limit.max_bytes;
        if size <= limit {
            return Ok(());
        }
        let text = format!(
            "the leads with their labels are too large for a message ({size} bytes, limit {limit} bytes); \
             select fewer properties, or raise grpc.max_response_size"
        );
        Err(Error::new(Reason::ResponseTooLarge, text))
    }

    /// Builds the leads of a message of an export, which its sender has divided by size.
    pub(crate) fn exported(&mut self, leads: Vec<Lead>) -> Result<Vec<pb::Lead>, Error> {
        let form = &self.form;
        let memory = |lead| lead_memory(lead, lead_size_in(lead, form), form);
        self.charge(leads.iter().map(memory).sum())?;
        Ok(leads.into_iter().map(|lead| response::lead_in(lead, &self.form)).collect())
    }

    /// Builds a page of associations. Errors if it does not fit.
    pub(crate) fn associations(
        &mut self,
        page: Associated,
        position: &PagePosition,
    ) -> Result<pb::ListLeadAssociationsResponse, Error> {
        let (next, objects) = (page.next.as_deref(), page.objects.len());
        let token = position.next_token(next, objects, Cursor::Opaque)?;
        let size = association_page_size(&page, token.as_deref().unwrap_or_default());
        let limit = self.limit.max_bytes;
        if size > limit {
            let text = format!(
                "the page is too large for a response ({size} bytes, limit {limit} bytes); request a \
                 smaller page"
            );
            return Err(Error::new(Reason::ResponseTooLarge, text));
        }
        self.charge(association_page_memory(&page, size))?;
        Ok(response::association_page(page, token))
    }

    fn admit_page(&mut self, leads: &[Lead], token: Option<&str>) -> Result<(), Error> {
        let (mut size, mut memory) = (text(token.unwrap_or_default()) + PAGE_OVERHEAD, 0);
        for lead in leads {
            let own = lead_size_in(lead, &self.form);
            size += field(own);
            memory += lead_memory(lead, own, &self.form);
        }
        let limit = self.limit.max_bytes;
        if size > limit {
            let text = format!(
                "the page is too large for a response ({size} bytes, limit {limit} bytes); request a \
                 smaller page or fewer properties"
            );
            return Err(Error::new(Reason::ResponseTooLarge, text));
        }
        self.charge(memory)
    }

    /// Builds the result of one input of a batch read.
    pub(crate) fn read_result(&mut self, result: Result<Arc<Lead>, Error>) -> pb::LeadReadResult {
        let error = match result {
            Ok(lead) => match self.admit_lead(&lead, "", 0) {
                Ok(()) => return response::read_result(Arc::unwrap_or_clone(lead), &self.form),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let build = |status| {
            let outcome = pb::lead_read_result::Outcome::Error(status);
            pb::LeadReadResult { outcome: Some(outcome) }
        };
        self.error_result(&error, "", build)
    }

    /// Builds the result of one input of a batch create or update.
    pub(crate) fn write_result(
        &mut self,
        result: Result<Arc<Lead>, Error>,
        trace_id: String,
    ) -> pb::LeadWriteResult {
        match result {
            Ok(lead) => {
                let lead = self.written_in_batch(lead, &trace_id);
                response::write_result(lead, trace_id)
            }
            Err(error) => self.error_result(&error, &trace_id, |status| pb::LeadWriteResult {
                outcome: Some(pb::lead_write_result::Outcome::Error(status)),
                object_write_trace_id: trace_id.clone(),
            }),
        }
    }

    /// Builds the result of one input of a batch create or update that is only validated.
    pub(crate) fn validated_write(
        &mut self,
        result: Result<(), Error>,
        trace_id: String,
    ) -> pb::LeadWriteResult {
        match result {
            Ok(()) => pb::LeadWriteResult { outcome: None, object_write_trace_id: trace_id },
            Err(error) => self.write_result(Err(error), trace_id),
        }
    }

    /// Builds the result of one input of a batch upsert that is only validated.
    pub(crate) fn validated_upsert(
        &mut self,
        result: Result<(), Error>,
        trace_id: String,
    ) -> pb::LeadUpsertResult {
        match result {
            Ok(()) => pb::LeadUpsertResult {
                object_write_trace_id: trace_id,
                ..pb::LeadUpsertResult::default()
            },
            Err(error) => self.upsert_result(Err(error), trace_id),
        }
    }

    /// Builds the result of one input of a batch upsert.
    pub(crate) fn upsert_result(
        &mut self,
        result: Result<Upserted, Error>,
        trace_id: String,
    ) -> pb::LeadUpsertResult {
        match result {
            Ok(Upserted { lead, created }) => {
                let lead = self.written_in_batch(lead, &trace_id);
                response::upsert_result(lead, created, trace_id)
            }
            Err(error) => self.error_result(&error, &trace_id, |status| pb::LeadUpsertResult {
                outcome: Some(pb::lead_upsert_result::Outcome::Error(status)),
                created: false,
                created_unknown: false,
                object_write_trace_id: trace_id.clone(),
            }),
        }
    }

    /// Builds the result of one input of a batch archive.
    pub(crate) fn archive_result(&mut self, result: Result<(), Error>) -> pb::LeadArchiveResult {
        match result {
            Ok(()) => pb::LeadArchiveResult { status: Some(status::ok()) },
            Err(error) => self
                .error_result(&error, "", |status| pb::LeadArchiveResult { status: Some(status) }),
        }
    }

    /// Builds the result of one input of a batch of associations.
    pub(crate) fn association_result(
        &mut self,
        result: Result<(), Error>,
    ) -> pb::LeadAssociationResult {
        let build = |status| pb::LeadAssociationResult { status: Some(status) };
        match result {
            Ok(()) => build(status::ok()),
            Err(error) => self.error_result(&error, "", build),
        }
    }

    fn written_in_batch(&mut self, lead: Arc<Lead>, trace_id: &str) -> Lead {
        // Two bytes are the flag of an upsert.
        match self.admit_lead(&lead, trace_id, 2) {
            Ok(()) => Arc::unwrap_or_clone(lead),
            Err(_) => lead.id_only(),
        }
    }

    /// Counts the result of one input. Errors if it does not fit, or if its memory exceeds a limit.
    fn admit_lead(&mut self, lead: &Lead, trace_id: &str, more: usize) -> Result<(), Error> {
        let size = lead_size_in(lead, &self.form);
        let result = field(field(size) + text(trace_id) + more);
        let used = self.used - reserved(trace_id) + result;
        if used > self.limit.max_bytes {
            return Err(self.limit.does_not_fit(result));
        }
        self.charge(lead_memory(lead, size, &self.form))?;
        self.used = used;
        Ok(())
    }

    /// Builds the result of a failed input, with a short error if the whole one does not fit.
    fn error_result<M: Message>(
        &mut self,
        error: &Error,
        trace_id: &str,
        build: impl Fn(tonic_types::Status) -> M,
    ) -> M {
        let whole = build(status::for_item(error));
        let size = whole.encoded_len();
        let used = self.used - reserved(trace_id) + field(size);
        if used <= self.limit.max_bytes && self.charge(size + ERROR_OVERHEAD).is_ok() {
            self.used = used;
            return whole;
        }
        build(status::for_item_short(error))
    }

    /// Charges further memory to the call.
    fn charge(&mut self, bytes: usize) -> Result<(), Error> {
        if self.memory == 0 {
            // This charge replaces that of HubSpot's response.
            self.state.cost.release_memory();
        }
        self.state.guard.try_set_response_bytes(self.memory + bytes)?;
        self.memory += bytes;
        Ok(())
    }
}

/// Bytes reserved for the result of one input.
fn reserved(trace_id: &str) -> usize {
    RESERVED + text(trace_id)
}

#[cfg(test)]
mod tests;
