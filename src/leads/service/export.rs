//! Exports: reads the pages that `leads::export` plans, and divides them into messages.
//!
//! The first page is read alone, and the following ones ahead, side by side (`ahead`). Further pages are
//! requested only as messages are taken, so a stream goes as fast as its client reads. What it holds is charged
//! to the caller.

mod ahead;
mod reader;

use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::{
    ahead::{AheadOutcome, AheadReads},
    reader::PageReader,
};
use super::Service;
use crate::leads::{
    audit,
    charge::MemoryCharge,
    context::CallContext,
    error::Error,
    export::{ExportCounts, ExportEnd, ExportLeads, FetchedPage, PageRetries, PageRetry, Pages},
    labels::Labelled,
    lead::Lead,
    memory::memory_of,
};

/// Maximum size of the leads of one message in bytes, unless a single lead is larger. Clients accept 4 MiB by
/// default; a slow one has to read a message within a minute.
const MESSAGE_BYTES: usize = 256 << 10;

/// Bytes of a message beside its leads: token, progress, and lengths of fields.
const MESSAGE_OVERHEAD: usize = 2_048;

/// Export of one stream.
#[derive(Debug)]
pub struct Export {
    service: Service,
    ctx: CallContext,
    pages: Pages,
    retries: PageRetries,
    /// Memory of the leads of the current page.
    charge: MemoryCharge,
    started: Instant,
    /// Number of leads of this stream.
    sent: u64,
    /// Number of all leads, as far as it is known.
    total: Option<u64>,
    is_first_page: bool,
    is_resumed: bool,
    /// Memory of a lead in bytes, as the latest page had it on average.
    lead_bytes: usize,
    /// Requests side by side; `None` if pages are requested one after the other.
    ahead: Option<AheadReads>,
    /// False once a response did not fit: then pages are requested one after the other to the end.
    may_read_ahead: bool,
    /// End of the stream and its outcome in the audit event; `None` before.
    end: Option<(ExportEnd, &'static str)>,
}

/// Message of an export.
#[derive(Debug, Clone)]
pub struct ExportMessage {
    /// Leads in the order of their record ids.
    pub leads: Vec<Lead>,
    /// Token of the position after these leads.
    pub resume_token: String,
    /// Number of leads so far, also of the streams before.
    pub exported: u64,
    /// Estimated number of all leads.
    pub total: Option<u64>,
    /// Estimated time to the end.
    pub remaining: Option<Duration>,
    /// True if all leads were sent.
    pub complete: bool,
}

// === impl Service ===

impl Service {
    /// Resolves the labels in the filters of an export. Its token is one of the ids that they stand for.
    pub async fn resolve_export(
        &self,
        ctx: &CallContext,
        request: Labelled<ExportLeads>,
    ) -> Result<ExportLeads, Error> {
        self.labels.resolve_one(ctx, request).await
    }

    /// Starts an export, or resumes it at the position of a token. Errors if the token is not one of this
    /// request.
    pub fn export(
        &self,
        ctx: CallContext,
        request: ExportLeads,
        token: &str,
    ) -> Result<Export, Error> {
        let pages = Pages::new(&ctx.portal.name, request, token)?;
        let is_resumed = !token.is_empty();
        if is_resumed {
            self.exports.on_resumed();
        }
        Ok(Export {
            service: self.clone(),
            charge: MemoryCharge::new(&ctx.memory),
            ctx,
            pages,
            retries: PageRetries::default(),
            started: Instant::now(),
            sent: 0,
            total: None,
            is_first_page: true,
            is_resumed,
            lead_bytes: 0,
            ahead: None,
            may_read_ahead: true,
            end: None,
        })
    }

    /// Counts of exports.
    pub fn export_counts(&self) -> ExportCounts {
        self.exports.snapshot()
    }
}

// === impl Export ===

impl Export {
    /// The next message; `None` after the last one or an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<ExportMessage, Error>> {
        if self.end.is_some() {
            return None;
        }
        if let Some(ahead) = &mut self.ahead {
            ahead.advance(&self.pages, &mut self.charge);
        }
        loop {
            if self.pages.is_complete() {
                self.end = Some((ExportEnd::Complete, "OK"));
                return Some(Ok(self.message(Vec::new(), true)));
            }
            if self.pages.needs_page() {
                if let Err(error) = self.read_page().await {
                    self.end = Some((ExportEnd::Failed, error.reason().as_str()));
                    return Some(Err(error));
                }
                continue;
            }
            let limit = self.service.limits.response;
            let max = MESSAGE_BYTES.min(limit.max_bytes);
            let mut leads = self.pages.take(max, limit.lead_size);
            for lead in &mut leads {
                if (limit.lead_size)(lead) + MESSAGE_OVERHEAD > limit.max_bytes {
                    *lead = lead.id_only();
                }
            }
            self.sent += leads.len() as u64;
            self.service.exports.on_leads(leads.len());
            return Some(Ok(self.message(leads, false)));
        }
    }

    /// The last message of a stream that ends before the export does. `None` if it has ended.
    pub fn pause(&mut self) -> Option<ExportMessage> {
        if self.end.is_some() {
            return None;
        }
        self.end = Some((ExportEnd::Paused, "PAUSED"));
        Some(self.message(Vec::new(), false))
    }

    fn message(&self, leads: Vec<Lead>, complete: bool) -> ExportMessage {
        let exported = self.pages.exported();
        // The index may have counted fewer leads than there are.
        let total = if complete { Some(exported) } else { self.total.map(|it| it.max(exported)) };
        let remaining = total.and_then(|total| {
            let (left, elapsed) = (total - exported, self.started.elapsed());
            match (left, self.sent) {
                (0, _) => Some(Duration::ZERO),
                (_, 0) => None,
                (left, sent) => Some(elapsed.mul_f64(ratio(left, sent))),
            }
        });
        let resume_token = self.pages.token();
        ExportMessage { leads, resume_token, exported, total, remaining, complete }
    }

    /// Reads the next leads.
    async fn read_page(&mut self) -> Result<(), Error> {
        if self.ahead.is_none() && self.may_read_ahead && !self.is_first_page {
            let left = self.total.map(|total| total.saturating_sub(self.pages.exported()));
            self.ahead = AheadReads::start(&self.pages, self.reader(), left, self.lead_bytes);
        }
        if let Some(ahead) = &mut self.ahead {
            match ahead.read(&mut self.pages, &mut self.charge).await {
                AheadOutcome::Ready => return Ok(()),
                AheadOutcome::Paused => {}
                AheadOutcome::Stopped => self.may_read_ahead = false,
                AheadOutcome::Failed(error) => return Err(error),
            }
            self.ahead = None;
        }
        self.read_next_page().await
    }

    /// Reads the next page. Repeats it after an error, as far as that may help.
    async fn read_next_page(&mut self) -> Result<(), Error> {
        self.charge.set(0);
        loop {
            let is_counted =
                self.is_first_page && !self.pages.is_filtered() && self.total.is_none();
            let count = is_counted.then(|| self.pages.count_request());
            let fetched = self.reader().read(self.pages.request(), count).await;
            let read = fetched.and_then(|page| self.accept(page));
            // The leads are charged as a page.
            self.ctx.cost.release_memory();
            let error = match read {
                Ok(()) => {
                    self.retries.reset();
                    return Ok(());
                }
                Err(error) => error,
            };
            match self.retries.decide(&error, Instant::now(), rand::random()) {
                PageRetry::After(pause) => sleep(pause).await,
                PageRetry::Smaller if self.pages.reduce() => {}
                PageRetry::Smaller | PageRetry::Stop => return Err(error),
            }
        }
    }

    fn accept(&mut self, page: FetchedPage) -> Result<(), Error> {
        let bytes = page.leads.iter().map(memory_of).sum();
        let (leads, total) = (page.leads.len(), page.total);
        self.charge.try_set(bytes)?;
        let known = self.pages.exported();
        if let Err(error) = self.pages.accept(page) {
            self.charge.set(0);
            return Err(error);
        }
        self.pages.adapt(leads, bytes);
        self.lead_bytes = bytes.checked_div(leads).unwrap_or(self.lead_bytes);
        self.total = total.map(|left| known + left).or(self.total);
        self.is_first_page = false;
        Ok(())
    }

    fn reader(&self) -> PageReader {
        let mut selection = self.pages.selection().clone();
        if self.pages.is_id_only() {
            selection.associations.clear();
        }
        let reads_by_id = self.pages.reads_by_id();
        PageReader { service: self.service.clone(), ctx: self.ctx.clone(), selection, reads_by_id }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let (end, outcome) = self.end.unwrap_or((ExportEnd::Cancelled, "CANCELLED"));
        self.service.exports.on_end(end);
        let facts = audit::ExportFacts {
            outcome,
            leads: self.sent,
            is_filtered: self.pages.is_filtered(),
            is_resumed: self.is_resumed,
        };
        audit::exported(&self.ctx, &facts);
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate of a time")]
fn ratio(left: u64, sent: u64) -> f64 {
    left as f64 / sent as f64
}

#[cfg(test)]
mod tests;
