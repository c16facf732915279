//! Correlates batch-create results with inputs where HubSpot omits `objectWriteTraceId`: by a property
//! that the results return unchanged and whose values differ among the inputs.
//!
//! Only words qualify: a value that begins with a letter is neither a number nor a date, which
//! HubSpot reformats. Creates that no such property distinguishes do not share a batch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use leadsd_base::cache::TtlCache;

use crate::leads::{BatchItem, CreateLead, Error, Response, Traced, batch::BatchInput};

/// Maximum number of properties that are remembered. HubSpot allows about a thousand in an account.
const CAPACITY: usize = 1_000;

/// Time for which a property that was returned unchanged is used. Each use verifies it again.
const TTL: Duration = Duration::from_secs(86_400);

/// Maximum length of a value that qualifies, in bytes.
const MAX_WORD: usize = 256;

/// Observations of properties that batch creates return unchanged, by property name. HubSpot has
/// accepted each name, so it is short.
#[derive(Debug)]
pub(super) struct EchoedProperties(TtlCache<String, bool>);

/// A create whose result is identified by this property.
#[derive(Debug, Clone)]
pub(super) struct CorrelatedCreate {
    property: String,
    input: Traced<CreateLead>,
}

// === impl EchoedProperties ===

impl Default for EchoedProperties {
    fn default() -> Self {
        Self(TtlCache::new(CAPACITY, TTL))
    }
}

impl EchoedProperties {
    /// Time for which a property that was not returned unchanged is not used.
    const NOT_ECHOED_TTL: Duration = super::OBSERVATION_TTL;

    /// True if the property is returned unchanged; `None` if that is unknown.
    fn is_echoed(&self, property: &str) -> Option<bool> {
        self.0.get(property)
    }

    fn set(&self, property: &str, is_echoed: bool) {
        let time = if is_echoed { TTL } else { Self::NOT_ECHOED_TTL };
        self.0.insert_for(time, property.to_owned(), is_echoed);
    }

    /// Observes the response to a batch of one create, which is unambiguous.
    pub(super) fn observe(&self, inputs: &[Traced<CreateLead>], result: &Result<Response, Error>) {
        let ([Traced { input, .. }], Ok(Response::Batch(batch))) = (inputs, result) else { return };
        let ([item], []) = (batch.results.as_slice(), batch.errors.as_slice()) else { return };
        for (property, word) in words(input) {
            let is_echoed = echoed(item, property).is_some_and(|echoed| echoed == word);
            self.set(property, is_echoed);
        }
    }

    /// Verifies the response to creates that a property should distinguish.
    pub(super) fn verify(&self, inputs: &[CorrelatedCreate], result: &Result<Response, Error>) {
        let (Some(CorrelatedCreate { property, .. }), Ok(Response::Batch(batch))) =
            (inputs.first(), result)
        else {
            return;
        };
        let written: HashSet<String> = inputs.iter().filter_map(CorrelatedCreate::word).collect();
        let is_ours = |item| echoed(item, property).is_some_and(|word| written.contains(&word));
        if !batch.results.iter().all(is_ours) {
            self.set(property, false);
        }
    }

    /// True if the create has a property that may identify its result.
    pub(super) fn may_distinguish(&self, input: &CreateLead) -> bool {
        words(input).any(|(property, _)| self.is_echoed(property) != Some(false))
    }

    /// Assigns creates to batches: for each the number of its batch, or `None` to send it
    /// individually. `None` as a whole if that is not known yet.
    pub(super) fn partition(&self, inputs: &[&CreateLead]) -> Option<Vec<Option<usize>>> {
        let Some(property) = self.property(inputs) else {
            let is_open =
                |input: &&CreateLead| words(input).any(|(name, _)| self.is_echoed(name).is_none());
            return (!inputs.iter().any(is_open)).then(|| vec![None; inputs.len()]);
        };
        let mut seen: HashMap<String, usize> = HashMap::with_capacity(inputs.len());
        let batch = |input: &&CreateLead| {
            let times = seen.entry(word(input, property)?).or_default();
            *times += 1;
            Some(*times - 1)
        };
        Some(inputs.iter().map(batch).collect())
    }

    /// The creates, if one property distinguishes each of them from all others.
    pub(super) fn correlate(&self, inputs: &[Traced<CreateLead>]) -> Option<Vec<CorrelatedCreate>> {
        let creates: Vec<&CreateLead> = inputs.iter().map(|traced| &traced.input).collect();
        let property = self.property(&creates)?;
        let all_different = self.partition(&creates)?.iter().all(|batch| *batch == Some(0));
        let correlated = |input: &Traced<CreateLead>| CorrelatedCreate {
            property: property.to_owned(),
            input: input.clone(),
        };
        all_different.then(|| inputs.iter().map(correlated).collect())
    }

    /// The property that is returned unchanged and has the most distinct values.
    fn property<'a>(&self, inputs: &[&'a CreateLead]) -> Option<&'a str> {
        let mut different: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
        for input in inputs {
            for (property, word) in words(input) {
                different.entry(property).or_default().insert(word);
            }
        }
        let shown = different.into_iter().filter(|(name, _)| self.is_echoed(name) == Some(true));
        shown.max_by_key(|(_, words)| words.len()).map(|(name, _)| name)
    }
}

// === impl CorrelatedCreate ===

impl CorrelatedCreate {
    /// The create.
    pub(super) fn input(&self) -> &Traced<CreateLead> {
        &self.input
    }

    fn word(&self) -> Option<String> {
        word(&self.input.input, &self.property)
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
        let own = self.word();
        Some(own.is_some() && own == echoed(item, &self.property))
    }
}

/// The properties of a create whose values are words.
fn words(input: &CreateLead) -> impl Iterator<Item = (&str, String)> {
    let all = input.properties.iter();
    all.filter_map(|(name, value)| Some((name.as_str(), as_word(value)?)))
}

fn word(input: &CreateLead, property: &str) -> Option<String> {
    as_word(input.properties.get(property)?)
}

fn echoed(item: &BatchItem, property: &str) -> Option<String> {
    as_word(item.lead.properties.get(property)?)
}

/// The value in the form that HubSpot returns unchanged except for its case; `None` if it is not a
/// word.
fn as_word(value: &str) -> Option<String> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.@".contains(&c);
    let parts_are_plain =
        value.split(' ').all(|part| !part.is_empty() && part.bytes().all(is_plain));
    let is_word = value.len() <= MAX_WORD && value.starts_with(|c: char| c.is_ascii_alphabetic());
    (is_word && parts_are_plain).then(|| value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
