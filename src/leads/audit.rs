//! Audit events: one per write of any caller, once the outcome is known, and one per stream of an export or
//! import. An event of a write contains ids of leads; none contains property values. The rows of an import have
//! events at level debug.
//!
//! The task of the write logs the event, so that a cancelled call is audited as well. Events of
//! batches contain counts; at level debug the ids of the leads follow.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing::{Level, enabled, event};

use super::{
    context::CallContext,
    context::PortalName,
    error::{Error, Reason},
    import::ImportTally,
    query::LeadId,
};
use leadsd_quota::Caller;

/// Maximum number of ids in one event.
const IDS: usize = 100;

/// Outcome of a write, by lead.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Known ids of the written leads.
    pub(super) ids: Vec<String>,
    /// Number of written leads.
    pub(super) done: usize,
    /// Number of failed inputs, by reason.
    pub(super) failed: BTreeMap<&'static str, usize>,
    /// Reason of a failure of the whole write.
    pub(super) error: Option<Reason>,
}

/// Response to a write that the audit event is derived from.
pub(super) trait Tallied {
    /// Outcome of the leads.
    fn tally(&self) -> Tally;
}

/// Audit entry of one write.
#[derive(Debug)]
pub(super) struct AuditEntry {
    facts: Arc<AuditFacts>,
    /// State of the write and its event.
    begun: bool,
    ended: bool,
    /// Receives the reason if the write did not run: an earlier write provides the response.
    dropped: Arc<AtomicBool>,
}

/// Waits until a write has started, and logs it as a replay if it has not.
#[derive(Debug)]
pub(super) struct Repeat {
    facts: Arc<AuditFacts>,
    dropped: Arc<AtomicBool>,
}

#[derive(Debug)]
struct AuditFacts {
    operation: &'static str,
    caller: Caller,
    portal: PortalName,
    request_id: Arc<str>,
    /// Record ids in the request.
    leads: Vec<String>,
    inputs: usize,
    /// True for one row of an import.
    is_row: bool,
}

/// Facts about the stream of an export.
#[derive(Debug)]
pub(super) struct ExportFacts {
    /// `OK` if the export is complete, `PAUSED`, `CANCELLED`, or the reason of the error.
    pub(super) outcome: &'static str,
    /// Number of leads that were passed to the stream.
    pub(super) leads: u64,
    /// True if the request has a query or filters.
    pub(super) is_filtered: bool,
    /// True if the stream began with a resume token.
    pub(super) is_resumed: bool,
}

/// Logs a write or export that the caller is not permitted to do; `portal` only if the caller may know it.
pub fn refused(
    operation: &str,
    caller: &Caller,
    portal: Option<&PortalName>,
    request_id: &str,
    reason: Reason,
) {
    event!(
        target: "leadsd::audit",
        Level::INFO,
        audit.operation = operation,
        audit.outcome = reason.as_str(),
        caller = caller.as_str(),
        caller.authenticated = caller.is_authenticated(),
        portal = portal.map(PortalName::as_str),
        request.id = request_id,
        "Refused write or export"
    );
}

/// Logs the end of the stream of an export.
pub(super) fn exported(ctx: &CallContext, facts: &ExportFacts) {
    let ExportFacts { outcome, leads, is_filtered, is_resumed } = facts;
    let caller = &ctx.requester.caller;
    event!(
        target: "leadsd::audit",
        Level::INFO,
        audit.operation = "ExportLeads",
        audit.outcome = outcome,
        audit.exported = leads,
        audit.filtered = is_filtered,
        audit.resumed = is_resumed,
        caller = caller.as_str(),
        caller.authenticated = caller.is_authenticated(),
        portal = ctx.portal.name.as_str(),
        request.id = &*ctx.request_id,
        "Leads exported"
    );
}

/// Logs the end of the stream of an import. `outcome` is `OK` if all rows of the client have results,
/// `DRAINED`, `STOPPED`, `CANCELLED`, or the reason of the error.
pub(super) fn imported(ctx: &CallContext, outcome: &str, tally: &ImportTally) {
    let caller = &ctx.requester.caller;
    event!(
        target: "leadsd::audit",
        Level::INFO,
        audit.operation = "ImportLeads",
        audit.outcome = outcome,
        audit.inputs = tally.summary().rows,
        audit.outcomes = tally.outcomes(),
        caller = caller.as_str(),
        caller.authenticated = caller.is_authenticated(),
        portal = ctx.portal.name.as_str(),
        request.id = &*ctx.request_id,
        "Leads imported"
    );
}

/// Logs a contact that was created for a lead.
pub fn contact_created(ctx: &CallContext, contact: &LeadId) {
    let caller = &ctx.requester.caller;
    event!(
        target: "leadsd::audit",
        Level::INFO,
        audit.operation = "CreateContact",
        audit.outcome = "OK",
        caller = caller.as_str(),
        caller.authenticated = caller.is_authenticated(),
        portal = ctx.portal.name.as_str(),
        contact.id = contact.as_str(),
        request.id = &*ctx.request_id,
        "Contact created"
    );
}

// === impl Tally ===

impl Tally {
    /// Counts one input.
    pub(super) fn add<T>(&mut self, item: &Result<T, Error>, id: fn(&T) -> Option<&String>) {
        match item {
            Ok(done) => {
                self.done += 1;
                self.ids.extend(id(done).cloned());
            }
            Err(error) => *self.failed.entry(error.reason().as_str()).or_default() += 1,
        }
    }
}

// === impl AuditEntry ===

impl AuditEntry {
    /// Entry of one call, and its counterpart for a call that only replays another.
    pub(super) fn new(ctx: &CallContext, operation: &'static str, inputs: usize) -> Self {
        let facts = AuditFacts {
            operation,
            caller: ctx.requester.caller.clone(),
            portal: ctx.portal.name.clone(),
            request_id: Arc::clone(&ctx.request_id),
            leads: Vec::new(),
            inputs,
            is_row: ctx.is_row,
        };
        Self { facts: Arc::new(facts), begun: false, ended: false, dropped: Arc::default() }
    }

    /// Adds the record ids of the request. A value of a unique property is not a record id, and may
    /// be personal data.
    pub(super) fn about<'a>(mut self, ids: impl Iterator<Item = &'a LeadId>) -> Self {
        if let Some(facts) = Arc::get_mut(&mut self.facts) {
            let few = facts.inputs == 1 || enabled!(target: "leadsd::audit", Level::DEBUG);
            facts.leads = ids.filter(|_| few).map(|id| id.as_str().to_owned()).collect();
        }
        self
    }

    pub(super) fn repeat(&self) -> Repeat {
        Repeat { facts: Arc::clone(&self.facts), dropped: Arc::clone(&self.dropped) }
    }

    /// Runs the write and logs its outcome.
    pub(super) async fn run<A: Tallied>(mut self, write: impl Future<Output = A>) -> A {
        self.begun = true;
        let answer = write.await;
        self.ended = true;
        self.facts.log(answer.tally(), false);
        answer
    }
}

impl Drop for AuditEntry {
    fn drop(&mut self) {
        if !self.begun {
            self.dropped.store(true, Ordering::Release);
        } else if !self.ended {
            // The write panicked; it may have taken effect.
            let tally = Tally { error: Some(Reason::WriteOutcomeUnknown), ..Tally::default() };
            self.facts.log(tally, false);
        }
    }
}

// === impl Repeat ===

impl Repeat {
    /// Logs a replayed call.
    pub(super) fn answered<A: Tallied>(&self, answer: &Result<A, Error>) {
        if !self.dropped.load(Ordering::Acquire) {
            return;
        }
        let failed = |error: &Error| Tally { error: Some(error.reason()), ..Tally::default() };
        self.facts.log(answer.as_ref().map_or_else(failed, A::tally), true);
    }
}

// === impl AuditFacts ===

impl AuditFacts {
    fn log(&self, tally: Tally, repeat: bool) {
        let Tally { ids, done, failed, error } = tally;
        let ids = if ids.is_empty() && failed.is_empty() { &self.leads } else { &ids };
        let outcome = match (error, failed.iter().next()) {
            (Some(error), _) => error.as_str(),
            (None, Some((reason, _))) if self.inputs == 1 => reason,
            (None, Some(_)) => "PARTIAL",
            (None, None) => "OK",
        };
        let batch = self.inputs != 1;
        let mut outcomes = format!("OK={done}");
        for (reason, inputs) in &failed {
            // Writing to a `String` cannot fail.
            let _ = write!(outcomes, " {reason}={inputs}");
        }
        let lead = if batch { None } else { ids.first().or_else(|| self.leads.first()) };
        if self.is_row {
            event!(
                target: "leadsd::audit",
                Level::DEBUG,
                audit.operation = self.operation,
                audit.outcome = outcome,
                audit.replayed = repeat,
                lead.id = lead,
                request.id = &*self.request_id,
                "Row of an import"
            );
            return;
        }
        event!(
            target: "leadsd::audit",
            Level::INFO,
            audit.operation = self.operation,
            audit.outcome = outcome,
            audit.replayed = repeat,
            audit.inputs = self.inputs,
            audit.outcomes = batch.then_some(outcomes),
            caller = self.caller.as_str(),
            caller.authenticated = self.caller.is_authenticated(),
            portal = self.portal.as_str(),
            lead.id = lead,
            request.id = &*self.request_id,
            "Write done"
        );
        if batch {
            for ids in ids.chunks(IDS) {
                event!(
                    target: "leadsd::audit",
                    Level::DEBUG,
                    audit.operation = self.operation,
                    lead.ids = ids.join(","),
                    request.id = &*self.request_id,
                    "Leads of a batch"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
