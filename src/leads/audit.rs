//! The audit trail: one event for every write, by whoever did it, when its outcome is known. It names
//! leads and never what is in them.
//!
//! Events come from the task that does the write, so that a caller who goes away hides nothing. Those
//! of batches count; at the level debug the ids of their leads follow.

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
    query::LeadId,
};
use leadsd_quota::Caller;

/// Most ids in one event.
const IDS: usize = 100;

/// What happened to the leads of a write.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Ids of the leads that were written, as far as they are known.
    pub(super) ids: Vec<String>,
    /// Leads that were written.
    pub(super) done: usize,
    /// Inputs that were not, by why.
    pub(super) failed: BTreeMap<&'static str, usize>,
    /// Why the write failed as a whole.
    pub(super) error: Option<Reason>,
}

/// A write's answer, as far as the audit trail is concerned.
pub(super) trait Tallied {
    /// What happened to its leads.
    fn tally(&self) -> Tally;
}

/// One write on its way into the audit trail.
#[derive(Debug)]
pub(super) struct Entry {
    facts: Arc<Facts>,
    /// Whether the write was begun, and whether its end is written down.
    begun: bool,
    ended: bool,
    /// Told if it never began: an earlier write gives the answer.
    dropped: Arc<AtomicBool>,
}

/// Says whether a write was a repeat, and writes that down.
#[derive(Debug)]
pub(super) struct Repeat {
    facts: Arc<Facts>,
    dropped: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Facts {
    operation: &'static str,
    caller: Caller,
    portal: PortalName,
    request_id: Arc<str>,
    /// The leads that the request names by their record ids.
    leads: Vec<String>,
    inputs: usize,
}

/// A write that the caller may not do; `portal` only if the caller may know it.
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
        caller.known = caller.is_authenticated(),
        portal = portal.map(PortalName::as_str),
        request.id = request_id,
        "Write refused"
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

// === impl Entry ===

impl Entry {
    /// The entry of one call, and what becomes of it if the call only repeats another.
    pub(super) fn new(ctx: &CallContext, operation: &'static str, inputs: usize) -> Self {
        let facts = Facts {
            operation,
            caller: ctx.requester.caller.clone(),
            portal: ctx.portal.name.clone(),
            request_id: Arc::clone(&ctx.request_id),
            leads: Vec::new(),
            inputs,
        };
        Self { facts: Arc::new(facts), begun: false, ended: false, dropped: Arc::default() }
    }

    /// Names the leads, if the request does so by record ids. A value of a unique property is not
    /// one, and may be personal.
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

    /// Does the write and writes down how it ended.
    pub(super) async fn run<A: Tallied>(mut self, write: impl Future<Output = A>) -> A {
        self.begun = true;
        let answer = write.await;
        self.ended = true;
        self.facts.log(answer.tally(), false);
        answer
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.begun {
            self.dropped.store(true, Ordering::Release);
        } else if !self.ended {
            // It panicked: whatever it has done is done.
            let tally = Tally { error: Some(Reason::WriteOutcomeUnknown), ..Tally::default() };
            self.facts.log(tally, false);
        }
    }
}

// === impl Repeat ===

impl Repeat {
    /// Writes down a call that did nothing itself.
    pub(super) fn answered<A: Tallied>(&self, answer: &Result<A, Error>) {
        if !self.dropped.load(Ordering::Acquire) {
            return;
        }
        let failed = |error: &Error| Tally { error: Some(error.reason()), ..Tally::default() };
        self.facts.log(answer.as_ref().map_or_else(failed, A::tally), true);
    }
}

// === impl Facts ===

impl Facts {
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
            // Writing to a text does not fail.
            let _ = write!(outcomes, " {reason}={inputs}");
        }
        let lead = if batch { None } else { ids.first().or_else(|| self.leads.first()) };
        event!(
            target: "leadsd::audit",
            Level::INFO,
            audit.operation = self.operation,
            audit.outcome = outcome,
            audit.repeat = repeat,
            audit.inputs = self.inputs,
            audit.outcomes = batch.then_some(outcomes),
            caller = self.caller.as_str(),
            caller.known = self.caller.is_authenticated(),
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
