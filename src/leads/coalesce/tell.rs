//! What creates of one batch can be told apart by where trace ids do not come back: a property that the
//! answer shows as it was written, and that is different in each of them.
//!
//! Only words count: what begins with a letter cannot be a number or a date, which HubSpot writes in a
//! way of its own. A property that shows one word as it was written has words for values. Creates that
//! such a property does not tell apart are not made together.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::leads::{BatchAnswer, BatchItem, CreateLead, Error, Traced, batch::Input};

/// Most properties that are remembered.
const MOST: usize = 64;

/// Longest value that is looked at, in bytes.
const MAX_WORD: usize = 256;

/// Which properties the answer to a batch create shows as they were written.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<String, Known>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    /// Found out then.
    No(Instant),
}

/// A create that its answer tells from others by this property.
#[derive(Debug, Clone)]
pub(super) struct Told {
    property: String,
    input: Traced<CreateLead>,
}

// === impl Shown ===

impl Shown {
    /// How long one that was not shown is not tried again.
    const FORGET: Duration = super::learned::FORGET;

    /// Whether it may be that the property is shown; none if it is not known.
    fn is(&self, property: &str) -> Option<bool> {
        match self.0.lock().get(property)? {
            Known::Yes => Some(true),
            Known::No(since) => (since.elapsed() < Self::FORGET).then_some(false),
        }
    }

    fn set(&self, property: &str, known: Known) {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(property) {
            let is_old = |known: &Known| matches!(known, Known::No(since) if since.elapsed() >= Self::FORGET);
            all.retain(|_, known| !is_old(known));
            if all.len() >= MOST {
                return;
            }
        }
        all.insert(property.to_owned(), known);
    }

    /// Looks at the answer to a create that was the only one in its batch, which cannot be mistaken.
    pub(super) fn learn(&self, inputs: &[Traced<CreateLead>], answer: &Result<BatchAnswer, Error>) {
        let ([Traced { input, .. }], Ok(answer)) = (inputs, answer) else { return };
        let ([item], []) = (answer.results.as_slice(), answer.errors.as_slice()) else { return };
        for (property, word) in words(input) {
            let is_shown = shown(item, property).is_some_and(|shown| shown == word);
            self.set(property, if is_shown { Known::Yes } else { Known::No(Instant::now()) });
        }
    }

    /// Looks at the answer to creates that this property should tell apart.
    pub(super) fn check(&self, inputs: &[Told], answer: &Result<BatchAnswer, Error>) {
        let (Some(Told { property, .. }), Ok(answer)) = (inputs.first(), answer) else { return };
        let written: HashSet<String> = inputs.iter().filter_map(Told::word).collect();
        let is_ours = |item| shown(item, property).is_some_and(|word| written.contains(&word));
        if !answer.results.iter().all(is_ours) {
            self.set(property, Known::No(Instant::now()));
        }
    }

    /// Whether the create has a property that it could be told by.
    pub(super) fn may_tell(&self, input: &CreateLead) -> bool {
        words(input).any(|(property, _)| self.is(property) != Some(false))
    }

    /// In which batches the creates can go, for each the number of its batch; those without one go
    /// alone. None if it is not known.
    pub(super) fn batches(&self, inputs: &[&CreateLead]) -> Option<Vec<Option<usize>>> {
        let Some(property) = self.property(inputs) else {
            let is_open =
                |input: &&CreateLead| words(input).any(|(name, _)| self.is(name).is_none());
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

    /// The creates, if one property tells each of them from all others.
    pub(super) fn told(&self, inputs: &[Traced<CreateLead>]) -> Option<Vec<Told>> {
        let creates: Vec<&CreateLead> = inputs.iter().map(|traced| &traced.input).collect();
        let property = self.property(&creates)?;
        let all_different = self.batches(&creates)?.iter().all(|batch| *batch == Some(0));
        let told = |input: &Traced<CreateLead>| Told {
            property: property.to_owned(),
            input: input.clone(),
        };
        all_different.then(|| inputs.iter().map(told).collect())
    }

    /// The property that is shown and has the most different words.
    fn property<'a>(&self, inputs: &[&'a CreateLead]) -> Option<&'a str> {
        let mut different: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
        for input in inputs {
            for (property, word) in words(input) {
                different.entry(property).or_default().insert(word);
            }
        }
        let shown = different.into_iter().filter(|(name, _)| self.is(name) == Some(true));
        shown.max_by_key(|(_, words)| words.len()).map(|(name, _)| name)
    }
}

// === impl Told ===

impl Told {
    /// The create.
    pub(super) fn input(&self) -> &Traced<CreateLead> {
        &self.input
    }

    fn word(&self) -> Option<String> {
        word(&self.input.input, &self.property)
    }
}

impl Input for Told {
    fn trace_id(&self) -> Option<&str> {
        self.input.trace_id()
    }

    fn id(&self) -> Option<&str> {
        None
    }

    fn is_answered_by(&self, item: &BatchItem) -> Option<bool> {
        let own = self.word();
        Some(own.is_some() && own == shown(item, &self.property))
    }

    fn has_written(&self, _: &BatchItem) -> bool {
        false
    }

    fn mentions(&self, property: &str) -> bool {
        self.input.mentions(property)
    }
}

/// The properties of a create that have words for values.
fn words(input: &CreateLead) -> impl Iterator<Item = (&str, String)> {
    let all = input.properties.iter();
    all.filter_map(|(name, value)| Some((name.as_str(), as_word(value)?)))
}

fn word(input: &CreateLead, property: &str) -> Option<String> {
    as_word(input.properties.get(property)?)
}

fn shown(item: &BatchItem, property: &str) -> Option<String> {
    as_word(item.lead.properties.get(property)?)
}

/// What HubSpot can be expected to keep of a value as it is, but for its case.
fn as_word(value: &str) -> Option<String> {
    let is_plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.@".contains(&c);
    let parts_are_plain =
        value.split(' ').all(|part| !part.is_empty() && part.bytes().all(is_plain));
    let is_word = value.len() <= MAX_WORD && value.starts_with(|c: char| c.is_ascii_alphabetic());
    (is_word && parts_are_plain).then(|| value.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
