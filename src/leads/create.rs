//! Creates whose outcome is known even when their answer got lost.
//!
//! HubSpot has no idempotency key, but a property with unique values does the same: every create
//! writes a mark into it. When the answer to a create is lost, the mark tells whether the lead is
//! there; only if it is not is the create sent again, and should the first one still be on its way,
//! HubSpot refuses whichever comes second.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    batch::{self, Outcome, Unmentioned},
    call::CallContext,
    error::{Error, Reason, SideEffect},
    inputs::ReadInput,
    lead::Lead,
    query::{BatchRead, LeadId},
    replay::RequestId,
    service::DEFAULT_PROPERTIES,
    upstream::{BatchItem, Upstream},
    write::{CreateLead, Traced},
};

/// How often a create is looked for, and sent again if it is not there.
const MAX_ROUNDS: u32 = 4;

/// Pause before the first look; it doubles. A create that is under way at HubSpot should be through.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long past its caller's deadline a create in doubt is followed: its outcome is wanted by
/// whoever repeats it with the same request id.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest request id that is written as it is.
const MAX_PLAIN: usize = 100;

/// What is written into the leads of one call, to find them again.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    property: String,
    /// The same for every repeat of the call, different for every other call.
    value: String,
}

/// One create with its own mark.
#[derive(Debug, Clone)]
struct Marked {
    property: String,
    value: LeadId,
}

// === impl Mark ===

impl Mark {
    /// A mark for the call of this id; without one, for this call alone.
    pub(super) fn new(property: &str, request_id: Option<&RequestId>) -> Self {
        let value = match request_id.map(RequestId::as_str) {
            None => Uuid::new_v4().to_string(),
            Some(id) if is_plain(id) => id.to_owned(),
            Some(id) => Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).to_string(),
        };
        Self { property: property.to_owned(), value }
    }

    /// Marks one create. A value that the caller has given is as unique as ours and stays. None if
    /// no lead could be found by that value.
    fn put(&self, request: &mut CreateLead, suffix: &str) -> Option<Marked> {
        let value = request.properties.entry(self.property.clone());
        let value = value.or_insert_with(|| format!("{}{suffix}", self.value));
        let value = LeadId::parse(value).ok()?;
        Some(Marked { property: self.property.clone(), value })
    }
}

/// Whether HubSpot, which compares unique values without regard to case, tells it from all others.
fn is_plain(id: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
    id.len() <= MAX_PLAIN && id.bytes().all(plain)
}

/// Creates one lead.
pub(super) async fn one(
    upstream: &dyn Upstream,
    call: &CallContext,
    mut request: CreateLead,
    mark: Option<Mark>,
) -> Result<Lead, Error> {
    let mark = mark.and_then(|mark| mark.put(&mut request, ""));
    let mut call = call.clone();
    let mut round = 0;
    loop {
        let error = match upstream.create(&call, &request).await {
            Ok(lead) => return Ok(lead),
            Err(error) => error,
        };
        let Some(mark) = mark.as_ref().filter(|_| is_doubtful(&error)) else { return Err(error) };
        round += 1;
        follow(&mut call, round).await;
        let mut found = find(upstream, &call, &[(&request, mark)]).await;
        match found.pop() {
            Some(Ok(Some(lead))) => return Ok(lead),
            Some(Ok(None)) if error.side_effect() == SideEffect::Possible && round < MAX_ROUNDS => {
            }
            Some(Err(cause)) => return Err(error.with_internal(cause.to_string())),
            Some(Ok(None)) | None => return Err(error),
        }
    }
}

/// Creates many leads; one outcome per input, in their order.
pub(super) async fn many(
    upstream: &Arc<dyn Upstream>,
    call: &CallContext,
    mut inputs: Vec<Traced<CreateLead>>,
    mark: Option<Mark>,
    concurrency: usize,
) -> Result<Vec<Outcome>, Error> {
    let marks: Vec<Option<Marked>> = inputs
        .iter_mut()
        .enumerate()
        .map(|(index, input)| mark.as_ref()?.put(&mut input.input, &format!("-{index}")))
        .collect();
    let mut outcomes = send(upstream, call, &inputs, concurrency).await?;
    let mut call = call.clone();
    for round in 1..=MAX_ROUNDS {
        let open: Vec<usize> = (0..inputs.len())
            .filter(|&index| marks[index].is_some())
            .filter(|&index| outcomes[index].as_ref().is_err_and(is_doubtful))
            .collect();
        if open.is_empty() {
            break;
        }
        follow(&mut call, round).await;
        let wanted: Vec<_> = open
            .iter()
            .filter_map(|&index| Some((&inputs[index].input, marks[index].as_ref()?)))
            .collect();
        let found = find(&**upstream, &call, &wanted).await;
        let mut absent = Vec::new();
        for (&index, found) in open.iter().zip(found) {
            match found {
                Ok(Some(lead)) => outcomes[index] = Ok(Some(created(lead))),
                Ok(None) if is_lost(&outcomes[index]) => absent.push(index),
                // Another unique value is in the way, or the look failed: the error stands.
                Ok(None) | Err(_) => {}
            }
        }
        if absent.is_empty() || round == MAX_ROUNDS {
            break;
        }
        let again: Vec<_> = absent.iter().map(|&index| inputs[index].clone()).collect();
        // A failure as a whole leaves each of them as it was: perhaps on its way still.
        if let Ok(answers) = send(upstream, &call, &again, concurrency).await {
            for (index, answer) in absent.into_iter().zip(answers) {
                outcomes[index] = answer;
            }
        }
    }
    Ok(outcomes)
}

async fn send(
    upstream: &Arc<dyn Upstream>,
    call: &CallContext,
    inputs: &[Traced<CreateLead>],
    concurrency: usize,
) -> Result<Vec<Outcome>, Error> {
    let send = |_, inputs: Vec<Traced<CreateLead>>| {
        let (upstream, call) = (Arc::clone(upstream), call.clone());
        async move { upstream.batch_create(&call, &inputs).await }
    };
    batch::run(inputs, batch::MAX_CHUNK, concurrency, Unmentioned::OutcomeUnknown, send).await
}

/// Looks for leads by their marks, with all that was written into them.
async fn find(
    upstream: &dyn Upstream,
    call: &CallContext,
    wanted: &[(&CreateLead, &Marked)],
) -> Vec<Result<Option<Lead>, Error>> {
    let Some((_, Marked { property, .. })) = wanted.first() else { return Vec::new() };
    let mut properties: Vec<String> =
        wanted.iter().flat_map(|(request, _)| request.properties.keys().cloned()).collect();
    properties.extend(DEFAULT_PROPERTIES.map(str::to_owned));
    properties.sort();
    properties.dedup();
    let inputs: Vec<ReadInput> = wanted
        .iter()
        .map(|(_, mark)| ReadInput { id: mark.value.clone(), id_property: Some(property.clone()) })
        .collect();
    let send = |_, inputs: Vec<ReadInput>| {
        let request = BatchRead {
            ids: inputs.into_iter().map(|input| input.id).collect(),
            id_property: Some(property.clone()),
            properties: properties.clone(),
            properties_with_history: Vec::new(),
            archived: false,
        };
        async move { upstream.batch_read(call, &request).await }
    };
    match batch::run(&inputs, batch::MAX_CHUNK, 1, Unmentioned::NotFound, send).await {
        Ok(outcomes) => outcomes.into_iter().map(seen).collect(),
        Err(error) => vec![seen(Err(error)); wanted.len()],
    }
}

fn seen(outcome: Outcome) -> Result<Option<Lead>, Error> {
    match outcome {
        Ok(item) => Ok(item.map(|item| item.lead)),
        Err(error) if error.reason() == Reason::LeadNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits a little, and makes sure that there is time to look.
async fn follow(call: &mut CallContext, round: u32) {
    if round == 1 {
        call.extend(Instant::now() + PATIENCE);
    }
    sleep(FIRST_PAUSE * 2_u32.pow(round - 1)).await;
}

/// Whether the lead may be there all the same: the answer was lost, or its own mark is in the way.
fn is_doubtful(error: &Error) -> bool {
    error.side_effect() == SideEffect::Possible || error.reason() == Reason::AlreadyExists
}

fn is_lost(outcome: &Outcome) -> bool {
    outcome.as_ref().is_err_and(|error| error.side_effect() == SideEffect::Possible)
}

fn created(lead: Lead) -> BatchItem {
    BatchItem { lead, trace_id: None, created: Some(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(id: &str) -> String {
        Mark::new("p", Some(&RequestId::parse(id).unwrap())).value
    }

    #[test]
    fn a_mark_is_the_same_for_every_repeat_and_differs_where_hubspot_would_see_no_difference() {
        assert_eq!(value("order-17_a"), "order-17_a");
        for id in ["A", "a/b", "..", "?x=1", &"x".repeat(128)] {
            assert_eq!(value(id), value(id));
            assert!(LeadId::parse(&value(id)).is_ok(), "{id}");
        }
        assert_ne!(value("A"), value("a"));
        assert_ne!(Mark::new("p", None).value, Mark::new("p", None).value);
    }
}
