//! Idempotent creates: the outcome is resolved if the response is lost.
//!
//! HubSpot has no idempotency key, but a property with unique values serves as one: every create
//! writes a tag into it. If the response to a create is lost, a lookup by the tag shows whether the
//! lead exists. Only if it does not is the create sent again; should the first request still be on
//! its way, HubSpot rejects the second one that arrives.
//!
//! [`resolve()`] does this for many creates at once. [`CreateRecovery`] joins creates of different calls
//! whose responses were lost together, so that each batch of them takes one lookup.

mod recovery;
mod resolve;

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::time::sleep;
use uuid::Uuid;

pub(super) use self::recovery::CreateRecovery;
use self::resolve::{
    FIRST_BACKOFF, OpenCreate, is_unattributed, outcome_unknown, resolve, unresolved,
};
use super::{
    batch::{self, BatchLimits, BatchProgress, OutcomeSink},
    context::CallContext,
    cost::CostMeter,
    error::{Error, Reason, SideEffect},
    idempotency::RequestId,
    lead::Lead,
    query::LeadId,
    request::{Outcome, Request},
    write::{CreateLead, Traced},
};

/// Maximum length of a request id that is written unchanged.
const MAX_PLAIN: usize = 100;

/// Value that is written into the leads of one call and identifies them.
#[derive(Debug, Clone)]
pub(super) struct IdempotencyTag {
    property: String,
    /// Text that is equal for every repeat of the call and different for every other call.
    value: String,
    /// True if a repeat of the call has the same tag.
    is_repeatable: bool,
}

/// Tag of one create.
#[derive(Debug, Clone)]
struct TaggedCreate {
    property: String,
    value: LeadId,
    /// True if a repeat of the call has the same tag: then a repeat is safe.
    is_repeatable: bool,
}

/// Input of a batch create.
#[derive(Debug)]
pub(super) struct PendingCreate {
    /// Index in the batch of the caller, which the tag contains.
    pub(super) index: usize,
    /// The input.
    pub(super) input: Traced<CreateLead>,
    /// Error of an earlier attempt whose outcome is open. The lead is looked up before it is created.
    pub(super) unknown: Option<Error>,
}

// === impl IdempotencyTag ===

impl IdempotencyTag {
    /// Creates the tag of the call with this request id; without an id, a tag for this call alone.
    /// `None` if the portal has no property for tags.
    pub(super) fn new(ctx: &CallContext, request_id: Option<&RequestId>) -> Option<Self> {
        let property = ctx.portal.settings.request_id_property.clone()?;
        Some(Self { property, value: tag_value(request_id), is_repeatable: request_id.is_some() })
    }

    /// Tags one create. A value that the caller has set is as unique and is kept. `None` if no lead
    /// could be found by that value.
    fn apply(&self, request: &mut CreateLead, suffix: &str) -> Option<TaggedCreate> {
        let is_own = request.properties.contains_key(&self.property);
        let value = request.properties.entry(self.property.clone());
        let value = value.or_insert_with(|| format!("{}{suffix}", self.value));
        let value = LeadId::parse_for_body(value).ok()?;
        let is_repeatable = self.is_repeatable || is_own;
        Some(TaggedCreate { property: self.property.clone(), value, is_repeatable })
    }
}

fn tag_value(request_id: Option<&RequestId>) -> String {
    match request_id.map(RequestId::as_str) {
        None => Uuid::new_v4().to_string(),
        Some(id) if is_plain(id) => id.to_owned(),
        Some(id) => Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).to_string(),
    }
}

/// True if HubSpot, which compares unique values without regard to case, distinguishes the id from
/// all others.
fn is_plain(id: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
    id.len() <= MAX_PLAIN && id.bytes().all(plain)
}

/// Creates one lead. If its response is lost, it is resolved with the others of `recovery`. With
/// `unknown`, the error of an earlier attempt whose outcome is open, the lead is looked up first.
pub(super) async fn create_one(
    ctx: &CallContext,
    mut request: CreateLead,
    tag: Option<IdempotencyTag>,
    unknown: Option<Error>,
    recovery: &CreateRecovery,
) -> Result<Arc<Lead>, Error> {
    let tagged = tag.and_then(|tag| tag.apply(&mut request, ""));
    let error = match unknown {
        Some(error) => error,
        None => {
            let create = Request::Create(request.clone());
            match ctx.portal.upstream.call(ctx, create).await {
                Ok(response) => return response.into_lead(),
                Err(error) => error,
            }
        }
    };
    let Some(tag) = tagged.filter(|_| outcome_unknown(&error)) else { return Err(error) };
    let input = Traced { trace_id: Uuid::new_v4().to_string(), input: request };
    let outcome = recovery.resolve(ctx, OpenCreate { input, tag, error }).await;
    outcome?.map(|item| item.lead.into()).ok_or_else(|| {
        Error::new(Reason::Internal, "internal error: a created lead is missing")
            .with_side_effect(SideEffect::Possible)
    })
}

/// Creates many leads, and gives each outcome to `progress` when it is known.
pub(super) async fn create_many<T: Clone + Send>(
    ctx: &CallContext,
    pending: Vec<PendingCreate>,
    tag: Option<IdempotencyTag>,
    limits: BatchLimits,
    progress: &BatchProgress<T>,
) {
    let search =
        if tag.is_some() { ctx.search.looking_up_duplicates() } else { ctx.search.clone() };
    let ctx = &CallContext { search: search.begun(), ..ctx.clone() };
    let mut open = Vec::new();
    let (mut unsent, mut tags, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    for PendingCreate { index, mut input, unknown } in pending {
        let tag = tag.as_ref().and_then(|tag| tag.apply(&mut input.input, &format!("-{index}")));
        match (unknown, tag) {
            (Some(error), Some(tag)) => open.push((index, OpenCreate { input, tag, error })),
            // Without a tag its outcome stays unknown.
            (Some(_), None) => {}
            (None, tag) => {
                unsent.push(input);
                tags.push(tag);
                positions.push(index);
            }
        }
    }
    let lost = Mutex::new(Vec::new());
    let sink = CreateSink { progress, tags: &tags, positions: &positions, lost: &lost };
    batch::run_into(ctx, &unsent, limits.write_plan(), Request::BatchCreate, &sink).await;
    for (number, error) in lost.into_inner() {
        if let Some(tag) = tags[number].clone() {
            let input = unsent[number].clone();
            open.push((positions[number], OpenCreate { input, tag, error }));
        }
    }
    if open.is_empty() {
        return;
    }
    open.sort_by_key(|(index, _)| *index);
    let (positions, creates): (Vec<usize>, Vec<OpenCreate>) = open.into_iter().unzip();
    sleep(FIRST_BACKOFF).await;
    let resolved = resolve(ctx, creates, limits).await;
    for (index, outcome) in positions.into_iter().zip(resolved) {
        if outcome.as_ref().is_err_and(is_unattributed) {
            // The lead was looked up, so it is known that there is none.
            progress.reopen_one(index);
        }
        progress.settle_one(index, outcome, true);
    }
}

/// Sink for creates. The outcome of one that may exist is unknown until it was looked up, also if HubSpot
/// reports a conflict: that may be with an earlier attempt.
struct CreateSink<'a, T> {
    progress: &'a BatchProgress<T>,
    /// Tags of the inputs, and their indices in the batch of the caller.
    tags: &'a [Option<TaggedCreate>],
    positions: &'a [usize],
    /// Inputs to look up, with the errors of their creates.
    lost: &'a Mutex<Vec<(usize, Error)>>,
}

// === impl CreateSink ===

impl<T: Clone + Send> OutcomeSink for CreateSink<'_, T> {
    fn begin(&self, inputs: Range<usize>, meter: &Arc<CostMeter>) {
        self.progress.part(self.positions).begin(inputs, meter);
    }

    fn settle(&self, first: usize, outcomes: Vec<Outcome>, evaluated: bool) {
        for (number, outcome) in (first..).zip(outcomes) {
            let so_far = match (&outcome, &self.tags[number]) {
                (Err(error), Some(tag)) if outcome_unknown(error) || is_unattributed(error) => {
                    self.lost.lock().push((number, error.clone()));
                    Err(unresolved(error, None, tag))
                }
                _ => outcome,
            };
            self.progress.settle_one(self.positions[number], so_far, evaluated);
        }
    }
}

#[cfg(test)]
mod tests;
