//! Correlates batch-create results with inputs where HubSpot omits `objectWriteTraceId`: by a property
//! that the results return unchanged and whose values differ among the inputs.
//!
//! HubSpot returns some values in another form: a date as milliseconds, `1.50` as `1.5`. So values qualify by
//! their kind: a property that returns words unchanged may still change dates. Values that mean the same have
//! one normal form, and do not share a batch. Creates that no such property distinguishes are sent alone.

use std::{
    array,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use leadsd_base::cache::TtlCache;

use super::partition::Partition;
use crate::leads::{BatchItem, CreateLead, Error, Lead, Response, Traced, batch::BatchInput};

/// Maximum number of properties that are remembered for each kind of value. HubSpot allows about a thousand
/// in an account.
const CAPACITY: usize = 1_000;

/// Time for which a property that was returned unchanged is used. Each use verifies it again.
const TTL: Duration = Duration::from_secs(86_400);

/// Maximum length of a value that qualifies, in bytes.
const MAX_TEXT: usize = 256;

/// Maximum number of digits of an integer that qualifies. HubSpot may store longer ones with the precision of
/// a double.
const MAX_DIGITS: usize = 15;

/// Characters of texts beside letters and digits. HubSpot may escape or normalize others.
const PUNCTUATION: &str = "-_.@,+#()!";

/// Number of kinds of values.
const KINDS: usize = 4;

/// Kind of a value that HubSpot returns unchanged, or changes in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Text that begins with a letter: neither a number nor, in most forms, a date.
    Word,
    /// Other text that has a letter.
    Text,
    /// Digits only.
    Integer,
    /// Date in the form of ISO 8601: `2026-04-01`.
    Date,
}

/// A value in its normal form.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    kind: Kind,
    text: String,
}

/// Observations of properties that batch creates return unchanged, by kind of value and property name.
/// HubSpot has accepted each name, so it is short.
#[derive(Debug)]
pub(super) struct EchoedProperties([TtlCache<String, bool>; KINDS]);

/// A property whose values of one kind identify the results of creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Identity<'a> {
    property: &'a str,
    kind: Kind,
}

/// A create whose result is identified by the value of this property.
#[derive(Debug, Clone)]
pub(super) struct CorrelatedCreate {
    property: String,
    kind: Kind,
    input: Traced<CreateLead>,
}

// === impl Value ===

impl Value {
    /// The normal form of a value that qualifies.
    fn parse(text: &str) -> Option<Self> {
        let is_digit = |c: u8| c.is_ascii_digit();
        if text.is_empty() || text.len() > MAX_TEXT {
            return None;
        }
        if text.bytes().all(is_digit) {
            let text = text.trim_start_matches('0').to_owned();
            return (text.len() <= MAX_DIGITS).then_some(Self { kind: Kind::Integer, text });
        }
        let is_date = text.len() == 10
            && text.bytes().enumerate().all(|(index, c)| match index {
                4 | 7 => c == b'-',
                _ => is_digit(c),
            });
        if is_date {
            return Some(Self { kind: Kind::Date, text: text.to_owned() });
        }
        let first = text.chars().next()?;
        if !first.is_alphanumeric() || !text.contains(char::is_alphabetic) {
            return None;
        }
        let is_plain = text.split(' ').all(|part| !part.is_empty() && part.chars().all(is_plain));
        let kind = if first.is_alphabetic() { Kind::Word } else { Kind::Text };
        is_plain.then(|| Self { kind, text: text.to_lowercase() })
    }
}

// === impl EchoedProperties ===

impl Default for EchoedProperties {
    fn default() -> Self {
        Self(array::from_fn(|_| TtlCache::new(CAPACITY, TTL)))
    }
}

impl EchoedProperties {
    /// Time for which a property that was not returned unchanged is not used.
    const NOT_ECHOED_TTL: Duration = super::OBSERVATION_TTL;

    /// True if the property is returned unchanged; `None` if that is unknown.
    fn is_echoed(&self, identity: Identity<'_>) -> Option<bool> {
        self.0[identity.kind as usize].get(identity.property)
    }

    fn set(&self, identity: Identity<'_>, is_echoed: bool) {
        let time = if is_echoed { TTL } else { Self::NOT_ECHOED_TTL };
        let property = identity.property.to_owned();
        self.0[identity.kind as usize].insert_for(time, property, is_echoed);
    }

    /// Observes the response to a batch of one create, which is unambiguous.
    pub(super) fn observe(&self, inputs: &[Traced<CreateLead>], result: &Result<Response, Error>) {
        let ([Traced { input, .. }], Ok(Response::Batch(batch))) = (inputs, result) else { return };
        let ([item], []) = (batch.results.as_slice(), batch.errors.as_slice()) else { return };
        self.observe_lead(input, &item.lead);
    }

    /// Observes the response to an individual create.
    pub(super) fn observe_lead(&self, input: &CreateLead, lead: &Lead) {
        for (identity, value) in values(input) {
            let is_echoed = echoed(lead, identity).is_some_and(|echoed| echoed == value);
            self.set(identity, is_echoed);
        }
    }

    /// Verifies the response to creates that a property should distinguish.
    pub(super) fn verify(&self, inputs: &[CorrelatedCreate], result: &Result<Response, Error>) {
        let (Some(first), Ok(Response::Batch(batch))) = (inputs.first(), result) else { return };
        let identity = first.identity();
        let written: HashSet<String> = inputs.iter().filter_map(CorrelatedCreate::value).collect();
        let is_ours = |item: &BatchItem| {
            echoed(&item.lead, identity).is_some_and(|value| written.contains(&value))
        };
        if !batch.results.iter().all(is_ours) {
            self.set(identity, false);
        }
    }

    /// True if the create has a property that may identify its result.
    pub(super) fn may_distinguish(&self, input: &CreateLead) -> bool {
        values(input).any(|(identity, _)| self.is_echoed(identity) != Some(false))
    }

    /// Assigns creates to batches. Each batch has values of one property and kind.
    pub(super) fn partition(&self, inputs: &[&CreateLead]) -> Partition {
        let mut batches = vec![None; inputs.len()];
        let mut open: Vec<usize> = (0..inputs.len()).collect();
        let mut next = 0;
        while let Some(identity) = self.identity(open.iter().map(|&index| inputs[index])) {
            let first = next;
            let mut seen: HashMap<String, usize> = HashMap::with_capacity(open.len());
            open.retain(|&index| {
                let Some(value) = value(inputs[index], identity) else { return true };
                let times = seen.entry(value).or_default();
                batches[index] = Some(first + *times);
                *times += 1;
                next = next.max(first + *times);
                false
            });
        }
        open.retain(|&index| {
            values(inputs[index]).any(|(identity, _)| self.is_echoed(identity).is_none())
        });
        Partition { batches, unknown: open }
    }

    /// The creates, if one property distinguishes each of them from all others.
    pub(super) fn correlate(&self, inputs: &[Traced<CreateLead>]) -> Option<Vec<CorrelatedCreate>> {
        let Identity { property, kind } =
            self.identity(inputs.iter().map(|traced| &traced.input))?;
        let mut seen = HashSet::with_capacity(inputs.len());
        let correlated = |input: &Traced<CreateLead>| {
            let value = value(&input.input, Identity { property, kind })?;
            seen.insert(value).then(|| CorrelatedCreate {
                property: property.to_owned(),
                kind,
                input: input.clone(),
            })
        };
        inputs.iter().map(correlated).collect()
    }

    /// The property that is returned unchanged and has the most distinct values.
    fn identity<'a>(&self, inputs: impl Iterator<Item = &'a CreateLead>) -> Option<Identity<'a>> {
        let mut different: BTreeMap<Identity<'_>, HashSet<String>> = BTreeMap::new();
        for (identity, value) in inputs.flat_map(values) {
            different.entry(identity).or_default().insert(value);
        }
        let shown =
            different.into_iter().filter(|(identity, _)| self.is_echoed(*identity) == Some(true));
        shown.max_by_key(|(_, values)| values.len()).map(|(identity, _)| identity)
    }
}

// === impl CorrelatedCreate ===

impl CorrelatedCreate {
    /// The create.
    pub(super) fn input(&self) -> &Traced<CreateLead> {
        &self.input
    }

    fn identity(&self) -> Identity<'_> {
        Identity { property: &self.property, kind: self.kind }
    }

    fn value(&self) -> Option<String> {
        value(&self.input.input, self.identity())
    }
}

impl BatchInput for CorrelatedCreate {
    fn trace_id(&self) -> Option<&str> {
        self.input.trace_id()
    }

    fn written(&self) -> Option<&BTreeMap<String, String>> {
        self.input.written()
    }

    fn associated_ids(&self) -> impl Iterator<Item = &str> {
        self.input.associated_ids()
    }

    fn has_identity(&self, item: &BatchItem) -> Option<bool> {
        let own = self.value();
        Some(own.is_some() && own == echoed(&item.lead, self.identity()))
    }
}

/// The properties of a create whose values qualify.
fn values(input: &CreateLead) -> impl Iterator<Item = (Identity<'_>, String)> {
    input.properties.iter().filter_map(|(property, value)| {
        let Value { kind, text } = Value::parse(value)?;
        Some((Identity { property, kind }, text))
    })
}

fn value(input: &CreateLead, identity: Identity<'_>) -> Option<String> {
    of_kind(input.properties.get(identity.property)?, identity.kind)
}

fn echoed(lead: &Lead, identity: Identity<'_>) -> Option<String> {
    of_kind(lead.properties.get(identity.property)?, identity.kind)
}

/// The normal form of a value, if it is of this kind.
fn of_kind(text: &str, kind: Kind) -> Option<String> {
    Value::parse(text).filter(|value| value.kind == kind).map(|value| value.text)
}

/// True for a character that has one form only. A letter beyond the basic plane, or with a separate accent, may
/// have another one.
fn is_plain(c: char) -> bool {
    let has_one_form = c.is_alphanumeric() && u32::from(c) <= 0xFFFF;
    has_one_form || PUNCTUATION.contains(c)
}

#[cfg(test)]
mod tests;
