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

use std::sync::Arc;

use tokio::time::sleep;
use uuid::Uuid;

pub(super) use self::recovery::CreateRecovery;
use self::resolve::{FIRST_BACKOFF, OpenCreate, outcome_unknown, resolve};
use super::{
    batch::{self, BatchLimits},
    context::CallContext,
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
        let property = ctx.portal.request_id_property.clone()?;
        Some(Self { property, value: tag_value(request_id), is_repeatable: request_id.is_some() })
    }

    /// Tags one create. A value that the caller has set is as unique and is kept. `None` if no lead
    /// could be found by that value.
    fn apply(&self, request: &mut CreateLead, suffix: &str) -> Option<TaggedCreate> {
        let is_own = request.properties.contains_key(&self.property);
        let value = request.properties.entry(self.property.clone());
        let value = value.or_insert_with(|| format!("{}{suffix}", self.value));
        let value = LeadId::parse(value).ok()?;
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

/// Creates many leads. Returns one outcome per input, in input order.
pub(super) async fn create_many(
    ctx: &CallContext,
    pending: Vec<PendingCreate>,
    tag: Option<IdempotencyTag>,
    limits: BatchLimits,
) -> Result<Vec<Outcome>, Error> {
    let (mut inputs, mut outcomes) = (Vec::new(), Vec::new());
    let (mut tags, mut unsent) = (Vec::new(), Vec::new());
    for (position, PendingCreate { index, mut input, unknown }) in pending.into_iter().enumerate() {
        tags.push(tag.as_ref().and_then(|tag| tag.apply(&mut input.input, &format!("-{index}"))));
        inputs.push(input);
        if unknown.is_none() {
            unsent.push(position);
        }
        outcomes.push(unknown.map_or(Ok(None), Err));
    }
    let is_first = unsent.len() == inputs.len();
    let requests: Vec<_> = unsent.iter().map(|&position| inputs[position].clone()).collect();
    match batch::run(ctx, &requests, limits.write_plan(), Request::BatchCreate).await {
        Ok(sent) => {
            for (position, outcome) in unsent.into_iter().zip(sent) {
                outcomes[position] = outcome;
            }
        }
        Err(error) if is_first => return Err(error),
        Err(error) => {
            for position in unsent {
                outcomes[position] = Err(error.clone());
            }
        }
    }
    let (mut open, mut creates) = (Vec::new(), Vec::new());
    for (index, (input, tag)) in inputs.into_iter().zip(tags).enumerate() {
        if let (Some(tag), Err(error)) = (tag, &outcomes[index])
            && outcome_unknown(error)
        {
            open.push(index);
            creates.push(OpenCreate { input, tag, error: error.clone() });
        }
    }
    if !open.is_empty() {
        sleep(FIRST_BACKOFF).await;
        let resolved = resolve(ctx, creates, limits).await;
        for (index, outcome) in open.into_iter().zip(resolved) {
            outcomes[index] = outcome;
        }
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests;
