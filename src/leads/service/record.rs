//! Responses of writes as the shared store of request ids has them: outcomes, record ids and codes of
//! errors.
//!
//! No text that HubSpot or a caller wrote is part of a record: it may quote values of properties. A text
//! is encoded only if it can be nothing but an id or a code.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::outcome::WriteResponse;
use crate::leads::{
    error::{Error, Reason, SideEffect, UpstreamFacts},
    idempotency::StoredResponse,
    lead::Lead,
    write::Upserted,
};

/// Maximum length of an id or a code.
const MAX_CODE: usize = 64;

/// Kind of a write, and for batches the number of its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteShape {
    Lead,
    Archived,
    Upserted,
    Leads(usize),
    Upserts(usize),
    Archives(usize),
}

/// Result of one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    /// Id of the lead; empty for an archive.
    Done(String),
    /// Id of the lead, and whether it is new; null if that is unknown.
    Upserted(String, Option<bool>),
    Failed(FailedEntry),
}

/// Codes of an error. Names are short, because batches have thousands of entries.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailedEntry {
    /// Reason.
    r: String,
    /// True if there may be an effect at HubSpot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    e: bool,
    /// HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<u16>,
    /// HubSpot's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    i: Option<String>,
    /// Category.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
    /// Id of the record that conflicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
}

// === impl WriteShape ===

impl WriteShape {
    /// Encodes a response. `None` if it is of another shape or has an invalid id.
    pub(super) fn encode(self, response: &WriteResponse) -> Option<Vec<u8>> {
        let entries = match (self, response) {
            (Self::Lead, WriteResponse::Lead(result)) => vec![entry(result, lead_entry)?],
            (Self::Archived, WriteResponse::Archived(result)) => {
                vec![entry(result, archive_entry)?]
            }
            (Self::Upserted, WriteResponse::Upserted(result)) => {
                vec![entry(result, upsert_entry)?]
            }
            (Self::Leads(inputs), WriteResponse::Leads(results)) => {
                entries(results, inputs, lead_entry)?
            }
            (Self::Upserts(inputs), WriteResponse::Upserts(results)) => {
                entries(results, inputs, upsert_entry)?
            }
            (Self::Archives(inputs), WriteResponse::Archives(results)) => {
                entries(results, inputs, archive_entry)?
            }
            (
                Self::Lead
                | Self::Archived
                | Self::Upserted
                | Self::Leads(_)
                | Self::Upserts(_)
                | Self::Archives(_),
                _,
            ) => return None,
        };
        serde_json::to_vec(&entries).ok()
    }

    /// Decodes a response. `None` if it is invalid or of another shape.
    pub(super) fn decode(self, record: &[u8]) -> Option<WriteResponse> {
        let entries: Vec<Entry> = serde_json::from_slice(record).ok()?;
        if entries.len() != self.inputs() {
            return None;
        }
        let mut entries = entries.into_iter();
        Some(match self {
            Self::Lead => WriteResponse::Lead(lead_result(entries.next()?)?),
            Self::Archived => WriteResponse::Archived(archive_result(entries.next()?)?),
            Self::Upserted => WriteResponse::Upserted(upsert_result(entries.next()?)?),
            Self::Leads(_) => {
                WriteResponse::Leads(Ok(entries.map(lead_result).collect::<Option<_>>()?))
            }
            Self::Upserts(_) => {
                WriteResponse::Upserts(Ok(entries.map(upsert_result).collect::<Option<_>>()?))
            }
            Self::Archives(_) => {
                WriteResponse::Archives(Ok(entries.map(archive_result).collect::<Option<_>>()?))
            }
        })
    }

    /// Response of which nothing is known, although the write may have had effects.
    pub(super) fn unknown(self) -> WriteResponse {
        let error = || {
            let text =
                "an earlier call with this request_id was interrupted, and its outcome is unknown";
            Error::new(Reason::WriteOutcomeUnknown, text).with_side_effect(SideEffect::Possible)
        };
        match self {
            Self::Lead => WriteResponse::Lead(Err(error())),
            Self::Archived => WriteResponse::Archived(Err(error())),
            Self::Upserted => WriteResponse::Upserted(Err(error())),
            Self::Leads(inputs) => WriteResponse::Leads(Ok(vec![Err(error()); inputs])),
            Self::Upserts(inputs) => WriteResponse::Upserts(Ok(vec![Err(error()); inputs])),
            Self::Archives(inputs) => WriteResponse::Archives(Ok(vec![Err(error()); inputs])),
        }
    }

    fn inputs(self) -> usize {
        match self {
            Self::Lead | Self::Archived | Self::Upserted => 1,
            Self::Leads(inputs) | Self::Upserts(inputs) | Self::Archives(inputs) => inputs,
        }
    }
}

// === impl StoredResponse ===

impl StoredResponse for WriteResponse {
    type Shape = WriteShape;

    fn may_have_effects(&self) -> bool {
        self.may_have_effects()
    }

    fn is_final(&self) -> bool {
        self.is_final()
    }

    fn compact(self) -> Self {
        self.compact()
    }

    fn to_record(&self, shape: WriteShape) -> Option<Vec<u8>> {
        shape.encode(self)
    }

    fn from_record(shape: WriteShape, record: &[u8]) -> Option<Self> {
        shape.decode(record)
    }

    fn interrupted(shape: WriteShape, earlier: Option<Self>) -> Self {
        let unknown = shape.unknown();
        match earlier {
            Some(earlier) => earlier.combine(unknown),
            None => unknown,
        }
    }

    fn combine(self, other: Self) -> Self {
        self.combine(other)
    }
}

// === impl FailedEntry ===

impl FailedEntry {
    fn new(error: &Error) -> Self {
        let UpstreamFacts { http_status, correlation_id, category, existing_id, .. } =
            error.upstream();
        let code = |text: &Option<String>| text.clone().filter(|text| is_code(text));
        Self {
            r: error.reason().as_str().to_owned(),
            e: error.side_effect() == SideEffect::Possible,
            s: *http_status,
            i: code(correlation_id)
                .filter(|id| id.chars().all(|c| c.is_ascii_hexdigit() || c == '-')),
            c: code(category).filter(|name| !name.chars().any(|c| c.is_ascii_lowercase())),
            x: code(existing_id).filter(|id| id.chars().all(|c| c.is_ascii_digit())),
        }
    }

    fn into_error(self) -> Option<Error> {
        let Self { r, e, s, i, c, x } = self;
        let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == r)?;
        let codes = [&i, &c, &x];
        if codes.into_iter().flatten().any(|code| !is_code(code)) {
            return None;
        }
        let (side_effect, text) = match e {
            true => (
                SideEffect::Possible,
                "an earlier call with this request_id did not learn the outcome",
            ),
            false => (
                SideEffect::None,
                "an earlier call with this request_id failed for this reason; its response has the details",
            ),
        };
        let upstream = UpstreamFacts {
            http_status: s,
            correlation_id: i,
            category: c,
            existing_id: x,
            ..UpstreamFacts::default()
        };
        Some(Error::new(reason, text).with_side_effect(side_effect).with_upstream(upstream))
    }
}

fn entry<T>(result: &Result<T, Error>, done: impl Fn(&T) -> Option<Entry>) -> Option<Entry> {
    match result {
        Ok(value) => done(value),
        Err(error) => Some(Entry::Failed(FailedEntry::new(error))),
    }
}

/// Entries of a batch. An error of the whole batch is that of each input.
fn entries<T>(
    results: &Result<Vec<Result<T, Error>>, Error>,
    inputs: usize,
    done: impl Fn(&T) -> Option<Entry>,
) -> Option<Vec<Entry>> {
    match results {
        Ok(results) if results.len() == inputs => {
            results.iter().map(|result| entry(result, &done)).collect()
        }
        Ok(_) => None,
        Err(error) => Some(vec![Entry::Failed(FailedEntry::new(error)); inputs]),
    }
}

fn lead_entry(lead: &Arc<Lead>) -> Option<Entry> {
    is_id(&lead.id).then(|| Entry::Done(lead.id.clone()))
}

fn upsert_entry(upserted: &Upserted) -> Option<Entry> {
    let Upserted { lead, created } = upserted;
    is_id(&lead.id).then(|| Entry::Upserted(lead.id.clone(), *created))
}

#[expect(clippy::unnecessary_wraps, reason = "the other entries have ids, which can be invalid")]
fn archive_entry((): &()) -> Option<Entry> {
    Some(Entry::Done(String::new()))
}

fn lead_result(entry: Entry) -> Option<Result<Arc<Lead>, Error>> {
    match entry {
        Entry::Done(id) if is_id(&id) => Some(Ok(id_only(id))),
        Entry::Failed(failed) => Some(Err(failed.into_error()?)),
        Entry::Done(_) | Entry::Upserted(..) => None,
    }
}

fn upsert_result(entry: Entry) -> Option<Result<Upserted, Error>> {
    match entry {
        Entry::Upserted(id, created) if is_id(&id) => {
            Some(Ok(Upserted { lead: id_only(id), created }))
        }
        Entry::Failed(failed) => Some(Err(failed.into_error()?)),
        Entry::Done(_) | Entry::Upserted(..) => None,
    }
}

fn archive_result(entry: Entry) -> Option<Result<(), Error>> {
    match entry {
        Entry::Done(id) if id.is_empty() => Some(Ok(())),
        Entry::Failed(failed) => Some(Err(failed.into_error()?)),
        Entry::Done(_) | Entry::Upserted(..) => None,
    }
}

fn id_only(id: String) -> Arc<Lead> {
    Arc::new(Lead { id, is_id_only: true, ..Lead::default() })
}

/// True for record ids: HubSpot's are numbers.
fn is_id(text: &str) -> bool {
    is_code(text) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_code(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=MAX_CODE).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests;
