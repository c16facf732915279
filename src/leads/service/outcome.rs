//! The responses of writes, as the idempotency store keeps them and the audit trail counts them.

use std::sync::Arc;

use crate::leads::{
    audit::{Tallied, Tally},
    error::{Error, Reason, SideEffect},
    lead::Lead,
    memory::HeapSize,
    request::Outcome,
    write::Upserted,
};

/// Maximum memory of the result of a single write that is kept whole: a lead with its default
/// properties.
const MAX_KEPT_LEAD: usize = 4 << 10;

/// Maximum memory of the results of a batch that are kept whole.
const MAX_KEPT_BATCH: usize = 32 << 10;

/// Results of a batch, as a response holds them.
pub(super) type Results<T> = Result<Vec<Result<T, Error>>, Error>;

/// The response of any write.
#[derive(Debug, Clone)]
pub(super) enum WriteResponse {
    Lead(Result<Arc<Lead>, Error>),
    Archived(Result<(), Error>),
    Upserted(Result<Upserted, Error>),
    Leads(Result<Vec<Result<Arc<Lead>, Error>>, Error>),
    Upserts(Result<Vec<Result<Upserted, Error>>, Error>),
    Archives(Result<Vec<Result<(), Error>>, Error>),
}

// === impl WriteResponse ===

impl WriteResponse {
    /// Calls `observe` with the error of the write, or with that of each failed input.
    pub(super) fn for_each_error(&self, observe: impl Fn(&Error)) {
        match self {
            Self::Lead(response) => response.as_ref().err().into_iter().for_each(observe),
            Self::Archived(response) => response.as_ref().err().into_iter().for_each(observe),
            Self::Upserted(response) => response.as_ref().err().into_iter().for_each(observe),
            Self::Leads(response) => each_error(response, observe),
            Self::Upserts(response) => each_error(response, observe),
            Self::Archives(response) => each_error(response, observe),
        }
    }

    pub(super) fn into_lead(self) -> Result<Arc<Lead>, Error> {
        if let Self::Lead(response) = self { response } else { Err(mismatch()) }
    }

    pub(super) fn into_archived(self) -> Result<(), Error> {
        if let Self::Archived(response) = self { response } else { Err(mismatch()) }
    }

    pub(super) fn into_upserted(self) -> Result<Upserted, Error> {
        if let Self::Upserted(response) = self { response } else { Err(mismatch()) }
    }

    pub(super) fn into_leads(self) -> Result<Vec<Result<Arc<Lead>, Error>>, Error> {
        if let Self::Leads(response) = self { response } else { Err(mismatch()) }
    }

    pub(super) fn into_upserts(self) -> Result<Vec<Result<Upserted, Error>>, Error> {
        if let Self::Upserts(response) = self { response } else { Err(mismatch()) }
    }

    pub(super) fn into_archives(self) -> Result<Vec<Result<(), Error>>, Error> {
        if let Self::Archives(response) = self { response } else { Err(mismatch()) }
    }

    /// True if HubSpot may have acted on any part of the write.
    pub(super) fn may_have_effects(&self) -> bool {
        match self {
            Self::Lead(response) => may_have_effect(response),
            Self::Archived(response) => may_have_effect(response),
            Self::Upserted(response) => may_have_effect(response),
            Self::Leads(response) => any_may_have_effect(response),
            Self::Upserts(response) => any_may_have_effect(response),
            Self::Archives(response) => any_may_have_effect(response),
        }
    }

    /// True if every part of the write has its result.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Lead(response) => is_final(response),
            Self::Archived(response) => is_final(response),
            Self::Upserted(response) => is_final(response),
            Self::Leads(response) => all_final(response),
            Self::Upserts(response) => all_final(response),
            Self::Archives(response) => all_final(response),
        }
    }

    /// The part that is kept: outcomes and ids, and small leads.
    pub(super) fn compact(self) -> Self {
        let max = match &self {
            Self::Lead(_) | Self::Archived(_) | Self::Upserted(_) => MAX_KEPT_LEAD,
            Self::Leads(_) | Self::Upserts(_) | Self::Archives(_) => MAX_KEPT_BATCH,
        };
        if self.heap_size() <= max {
            return self;
        }
        let id_only = |lead: Arc<Lead>| Arc::new(lead.id_only());
        let upserted = |Upserted { lead, created }| Upserted { lead: id_only(lead), created };
        let short = |error: Error| error.shortened();
        match self {
            Self::Lead(response) => Self::Lead(response.map(id_only).map_err(short)),
            Self::Archived(response) => Self::Archived(response.map_err(short)),
            Self::Upserted(response) => Self::Upserted(response.map(upserted).map_err(short)),
            Self::Leads(response) => Self::Leads(response.map(|all| compact_all(all, id_only))),
            Self::Upserts(response) => {
                Self::Upserts(response.map(|all| compact_all(all, upserted)))
            }
            Self::Archives(response) => {
                Self::Archives(response.map(|all| compact_all(all, |()| ())))
            }
        }
    }

    /// The more certain of two results of each input.
    pub(super) fn combine(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lead(own), Self::Lead(other)) => Self::Lead(more_certain(own, other)),
            (Self::Archived(own), Self::Archived(other)) => {
                Self::Archived(more_certain(own, other))
            }
            (Self::Upserted(own), Self::Upserted(other)) => {
                Self::Upserted(more_certain(own, other))
            }
            (Self::Leads(own), Self::Leads(other)) => Self::Leads(combine_all(own, other)),
            (Self::Upserts(own), Self::Upserts(other)) => Self::Upserts(combine_all(own, other)),
            (Self::Archives(own), Self::Archives(other)) => Self::Archives(combine_all(own, other)),
            (own, _) => own,
        }
    }
}

impl HeapSize for WriteResponse {
    fn heap_size(&self) -> usize {
        match self {
            Self::Lead(response) => response.heap_size(),
            Self::Archived(response) => response.heap_size(),
            Self::Upserted(response) => response.heap_size(),
            Self::Leads(response) => response.heap_size(),
            Self::Upserts(response) => response.heap_size(),
            Self::Archives(response) => response.heap_size(),
        }
    }
}

impl Tallied for WriteResponse {
    fn tally(&self) -> Tally {
        match self {
            Self::Lead(response) => tally_one(response, |lead| Some(&lead.id)),
            Self::Archived(response) => tally_one(response, |()| None),
            Self::Upserted(response) => tally_one(response, |upserted| Some(&upserted.lead.id)),
            Self::Leads(response) => tally(response, |lead| Some(&lead.id)),
            Self::Upserts(response) => tally(response, |upserted| Some(&upserted.lead.id)),
            Self::Archives(response) => tally(response, |()| None),
        }
    }
}

fn each_error<T>(response: &Result<Vec<Result<T, Error>>, Error>, observe: impl Fn(&Error)) {
    match response {
        Ok(items) => items.iter().filter_map(|item| item.as_ref().err()).for_each(observe),
        Err(error) => observe(error),
    }
}

fn tally_one<T>(response: &Result<T, Error>, id: fn(&T) -> Option<&String>) -> Tally {
    let mut tally = Tally::default();
    tally.add(response, id);
    tally
}

fn tally<T>(
    response: &Result<Vec<Result<T, Error>>, Error>,
    id: fn(&T) -> Option<&String>,
) -> Tally {
    let mut tally = Tally::default();
    match response {
        Ok(items) => items.iter().for_each(|item| tally.add(item, id)),
        Err(error) => tally.error = Some(error.reason()),
    }
    tally
}

fn compact_all<T>(
    results: Vec<Result<T, Error>>,
    compact: impl Fn(T) -> T,
) -> Vec<Result<T, Error>> {
    results.into_iter().map(|result| result.map(&compact).map_err(Error::shortened)).collect()
}

/// The result that is known; else the one that may have had effects.
fn more_certain<T>(own: Result<T, Error>, other: Result<T, Error>) -> Result<T, Error> {
    let takes_other = !is_final(&own)
        && (is_final(&other) || (!may_have_effect(&own) && may_have_effect(&other)));
    if takes_other { other } else { own }
}

fn combine_all<T>(own: Results<T>, other: Results<T>) -> Results<T> {
    match (own, other) {
        (Ok(own), Ok(other)) if own.len() == other.len() => {
            Ok(own.into_iter().zip(other).map(|(own, other)| more_certain(own, other)).collect())
        }
        (Err(_), Ok(other)) => Ok(other),
        (own, _) => own,
    }
}

/// True if a result is known to be that of its input.
fn is_final<T>(result: &Result<T, Error>) -> bool {
    result.as_ref().err().is_none_or(Error::is_final)
}

fn all_final<T>(response: &Result<Vec<Result<T, Error>>, Error>) -> bool {
    response.as_ref().map_or_else(Error::is_final, |all| all.iter().all(is_final))
}

fn may_have_effect<T>(response: &Result<T, Error>) -> bool {
    response.as_ref().err().is_none_or(|error| error.side_effect() == SideEffect::Possible)
}

fn any_may_have_effect<T>(response: &Result<Vec<Result<T, Error>>, Error>) -> bool {
    match response {
        Ok(items) => items.iter().any(may_have_effect),
        Err(error) => error.side_effect() == SideEffect::Possible,
    }
}

/// The lead of one input.
pub(super) fn lead(outcome: Outcome) -> Result<Arc<Lead>, Error> {
    outcome?.map(|item| item.lead.into()).ok_or_else(lost)
}

/// The upserted lead of one input.
pub(super) fn upserted(outcome: Outcome) -> Result<Upserted, Error> {
    let item = outcome?.ok_or_else(lost)?;
    Ok(Upserted { created: item.created, lead: item.lead.into() })
}

/// An input without an outcome.
pub(super) fn lost() -> Error {
    Error::new(Reason::Internal, "internal error: an input of the batch has no outcome")
        .with_side_effect(SideEffect::Possible)
}

/// A stored response of another kind of write. The fingerprint contains the kind, so none occurs.
fn mismatch() -> Error {
    Error::new(Reason::Internal, "internal error: response does not belong to its request")
        .with_side_effect(SideEffect::Possible)
}
