//! Idempotent creates: the outcome is resolved if the response is lost.
//!
//! HubSpot has no idempotency key, but a property with unique values serves as one: every create
//! writes a tag into it. If the response to a create is lost, a lookup by the tag shows whether the
//! lead exists. Only if it does not is the create sent again; should the first request still be on
//! its way, HubSpot rejects the second one that arrives.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    DEFAULT_PROPERTIES,
    batch::{self, ReadInput},
    context::CallContext,
    error::{Error, Reason, SideEffect},
    idempotency::RequestId,
    lead::Lead,
    query::{BatchRead, LeadId},
    request::{BatchItem, Outcome, Request},
    write::{CreateLead, Traced},
};

/// Maximum number of lookups of one create, each followed by another attempt if it is not found.
const MAX_ROUNDS: u32 = 4;

/// Pause before the first lookup; it doubles. A create in progress at HubSpot completes in that time.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Time after the caller's deadline for which an unknown outcome is resolved: a repeat with the
/// same request id needs the outcome.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum length of a request id that is written unchanged.
const MAX_PLAIN: usize = 100;

/// Value that is written into the leads of one call and identifies them.
#[derive(Debug, Clone)]
pub(super) struct IdempotencyTag {
    property: String,
    /// Text that is equal for every repeat of the call and different for every other call.
    value: String,
}

/// Tag of one create.
#[derive(Debug, Clone)]
struct TaggedCreate {
    property: String,
    value: LeadId,
}

// === impl IdempotencyTag ===

impl IdempotencyTag {
    /// Creates the tag of the call with this request id; without an id, a tag for this call alone.
    /// `None` if the portal has no property for tags.
    pub(super) fn new(ctx: &CallContext, request_id: Option<&RequestId>) -> Option<Self> {
        let property = ctx.portal.request_id_property.clone()?;
        Some(Self { property, value: tag_value(request_id) })
    }

    /// Tags one create. A value that the caller has set is as unique and is kept. `None` if no lead
    /// could be found by that value.
    fn apply(&self, request: &mut CreateLead, suffix: &str) -> Option<TaggedCreate> {
        let value = request.properties.entry(self.property.clone());
        let value = value.or_insert_with(|| format!("{}{suffix}", self.value));
        let value = LeadId::parse(value).ok()?;
        Some(TaggedCreate { property: self.property.clone(), value })
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

/// Creates one lead.
pub(super) async fn create_one(
    ctx: &CallContext,
    mut request: CreateLead,
    tag: Option<IdempotencyTag>,
) -> Result<Lead, Error> {
    let tagged = tag.and_then(|tag| tag.apply(&mut request, ""));
    let mut ctx = ctx.clone();
    let mut round = 0;
    loop {
        let response = ctx.portal.upstream.call(&ctx, Request::Create(request.clone())).await;
        let error = match response {
            Ok(response) => return response.into_lead(),
            Err(error) => error,
        };
        let Some(tagged) = tagged.as_ref().filter(|_| outcome_unknown(&error)) else {
            return Err(error);
        };
        round += 1;
        ctx = backoff(ctx, round).await;
        let mut found = find(&ctx, &[(&request, tagged)]).await;
        match found.pop() {
            Some(Ok(Some(lead))) => return Ok(lead),
            Some(Ok(None)) if is_lost(&error) && round < MAX_ROUNDS => {}
            Some(Err(cause)) => return Err(error.with_internal(cause.to_string())),
            Some(Ok(None)) | None => return Err(error),
        }
    }
}

/// Creates many leads. Returns one outcome per input, in input order.
pub(super) async fn create_many(
    ctx: &CallContext,
    mut inputs: Vec<Traced<CreateLead>>,
    tag: Option<IdempotencyTag>,
    concurrency: usize,
) -> Result<Vec<Outcome>, Error> {
    let tags: Vec<Option<TaggedCreate>> = inputs
        .iter_mut()
        .enumerate()
        .map(|(index, input)| tag.as_ref()?.apply(&mut input.input, &format!("-{index}")))
        .collect();
    let mut outcomes = send(ctx, &inputs, concurrency).await?;
    let mut ctx = ctx.clone();
    for round in 1..=MAX_ROUNDS {
        let open: Vec<usize> = (0..inputs.len())
            .filter(|&index| tags[index].is_some())
            .filter(|&index| outcomes[index].as_ref().is_err_and(outcome_unknown))
            .collect();
        if open.is_empty() {
            break;
        }
        ctx = backoff(ctx, round).await;
        let wanted: Vec<_> = open
            .iter()
            .filter_map(|&index| Some((&inputs[index].input, tags[index].as_ref()?)))
            .collect();
        let found = find(&ctx, &wanted).await;
        let mut absent = Vec::new();
        for (&index, found) in open.iter().zip(found) {
            match found {
                Ok(Some(lead)) => outcomes[index] = Ok(Some(created(lead))),
                Ok(None) if outcomes[index].as_ref().is_err_and(is_lost) => absent.push(index),
                // Another unique value conflicts, or the lookup failed: the error is final.
                Ok(None) | Err(_) => {}
            }
        }
        if absent.is_empty() || round == MAX_ROUNDS {
            break;
        }
        let again: Vec<_> = absent.iter().map(|&index| inputs[index].clone()).collect();
        // A failed batch leaves every outcome unknown: the request may still be in progress.
        if let Ok(answers) = send(&ctx, &again, concurrency).await {
            for (index, answer) in absent.into_iter().zip(answers) {
                outcomes[index] = answer;
            }
        }
    }
    Ok(outcomes)
}

async fn send(
    ctx: &CallContext,
    inputs: &[Traced<CreateLead>],
    concurrency: usize,
) -> Result<Vec<Outcome>, Error> {
    batch::run(ctx, inputs, batch::MAX_CHUNK, concurrency, Request::BatchCreate).await
}

/// Looks leads up by their tags, with all properties that were written.
async fn find(
    ctx: &CallContext,
    wanted: &[(&CreateLead, &TaggedCreate)],
) -> Vec<Result<Option<Lead>, Error>> {
    let Some((_, TaggedCreate { property, .. })) = wanted.first() else { return Vec::new() };
    let mut properties: Vec<String> =
        wanted.iter().flat_map(|(request, _)| request.properties.keys().cloned()).collect();
    properties.extend(DEFAULT_PROPERTIES.map(str::to_owned));
    properties.sort();
    properties.dedup();
    let inputs: Vec<ReadInput> = wanted
        .iter()
        .map(|(_, tagged)| ReadInput {
            id: tagged.value.clone(),
            id_property: Some(property.clone()),
        })
        .collect();
    let request = |inputs: Vec<ReadInput>| {
        Request::BatchRead(BatchRead {
            ids: inputs.into_iter().map(|input| input.id).collect(),
            id_property: Some(property.clone()),
            properties: properties.clone(),
            properties_with_history: Vec::new(),
            archived: false,
        })
    };
    match batch::run(ctx, &inputs, batch::MAX_CHUNK, 1, request).await {
        Ok(outcomes) => outcomes.into_iter().map(lookup_result).collect(),
        Err(error) => vec![lookup_result(Err(error)); wanted.len()],
    }
}

fn lookup_result(outcome: Outcome) -> Result<Option<Lead>, Error> {
    match outcome {
        Ok(item) => Ok(item.map(|item| item.lead)),
        Err(error) if error.reason() == Reason::LeadNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pauses before a lookup. The first one extends the deadline so that there is time for a lookup.
async fn backoff(ctx: CallContext, round: u32) -> CallContext {
    let ctx = if round == 1 { ctx.extended_to(Instant::now() + RESOLVE_TIMEOUT) } else { ctx };
    sleep(FIRST_BACKOFF * 2_u32.pow(round - 1)).await;
    ctx
}

/// True if the lead may exist although the create failed: the response was lost, or a lead with the
/// create's tag conflicts.
fn outcome_unknown(error: &Error) -> bool {
    is_lost(error) || error.reason() == Reason::AlreadyExists
}

fn is_lost(error: &Error) -> bool {
    error.side_effect() == SideEffect::Possible
}

fn created(lead: Lead) -> BatchItem {
    BatchItem { lead, trace_id: None, created: Some(true) }
}

#[cfg(test)]
mod tests;
