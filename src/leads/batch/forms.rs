//! Forms in which HubSpot's response shows the properties that a batch writes.
//!
//! Where each open input has one of the results, one of them shows each written value. If every value of a
//! property is shown unchanged, another text is the value of another input. If every value is shown in a form
//! that means the same, a value that may be another form is the value of another input too. This
//! distinguishes values that differ little, and a property that HubSpot changes does not veto.

use std::collections::{BTreeMap, HashMap};

use super::{
    agreement::{Agreement, compare},
    assignment::is_complete,
    input::BatchInput,
};
use crate::leads::request::BatchItem;

/// The form of each written property, by name.
#[derive(Debug)]
pub(super) struct ShownForms<'a> {
    forms: HashMap<&'a str, Form>,
}

/// The closest form in which the results show all written values of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// No result shows the property.
    Hidden,
    /// The same text.
    Unchanged,
    /// A text that means the same.
    Equivalent,
    /// Some values in a form that is not known to mean the same.
    Changed,
}

// === impl ShownForms ===

impl<'a> ShownForms<'a> {
    /// Determines the forms of the properties that `inputs` write, where each of them has one of `results`.
    pub(super) fn new<'i, I: BatchInput + 'a>(
        inputs: impl IntoIterator<Item = &'a I>,
        results: impl IntoIterator<Item = &'i BatchItem> + Clone,
    ) -> Self {
        let mut written: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for (name, value) in inputs.into_iter().filter_map(BatchInput::written).flatten() {
            let values = written.entry(name.as_str()).or_default();
            if !value.is_empty() {
                values.push(value);
            }
        }
        let form = |(name, values): (&'a str, Vec<&str>)| {
            let all = results.clone().into_iter().filter_map(|item| shown(item, name));
            (name, Form::from_values(&values, &all.collect::<Vec<_>>()))
        };
        Self { forms: written.into_iter().map(form).collect() }
    }

    /// Agreement of a result with what an input wrote. A property that other results show and this one does
    /// not show differs.
    pub(super) fn agreement<I: BatchInput>(&self, input: &I, item: &BatchItem) -> Agreement {
        let one = |(name, written): (&String, &String)| {
            let form = self.form(name);
            match shown(item, name) {
                _ if written.is_empty() || form == Form::Hidden => Agreement::Unclear,
                Some(shown) => form.agreement(written, shown),
                None => Agreement::Different,
            }
        };
        Agreement::combine(input.written().into_iter().flatten().map(one))
    }

    /// True if two results show the same value of each property that the batch writes, and two inputs wrote the
    /// same values of those that no result shows.
    pub(super) fn are_equal<I: BatchInput>(
        &self,
        one: (&I, &BatchItem),
        other: (&I, &BatchItem),
    ) -> bool {
        self.forms.iter().all(|(name, form)| match form {
            Form::Hidden => set(one.0, name) == set(other.0, name),
            Form::Unchanged | Form::Equivalent | Form::Changed => {
                shown(one.1, name) == shown(other.1, name)
            }
        })
    }

    fn form(&self, name: &str) -> Form {
        self.forms.get(name).copied().unwrap_or(Form::Hidden)
    }
}

// === impl Form ===

impl Form {
    fn from_values(written: &[&str], shown: &[&str]) -> Self {
        if shown.is_empty() {
            return Self::Hidden;
        }
        if is_part_of(written, shown) {
            return Self::Unchanged;
        }
        let same = |value: &&str| {
            let is_same = |slot: &usize| compare(value, shown[*slot]) == Agreement::Same;
            (0..shown.len()).filter(is_same).collect()
        };
        let fits: Vec<Vec<usize>> = written.iter().map(same).collect();
        if is_complete(&fits, shown.len()) { Self::Equivalent } else { Self::Changed }
    }

    fn agreement(self, written: &str, shown: &str) -> Agreement {
        match self {
            Self::Hidden => Agreement::Unclear,
            // As text only: a hundred results and inputs are ten thousand pairs, and their values are long.
            Self::Unchanged if written == shown => Agreement::Same,
            Self::Unchanged => Agreement::Different,
            Self::Equivalent => match compare(written, shown) {
                Agreement::Unclear | Agreement::Different => Agreement::Different,
                Agreement::Same => Agreement::Same,
            },
            Self::Changed => compare(written, shown),
        }
    }
}

/// True if `all` has each of `values` at least as often.
fn is_part_of(values: &[&str], all: &[&str]) -> bool {
    let mut left: HashMap<&str, usize> = HashMap::new();
    all.iter().for_each(|value| *left.entry(value).or_default() += 1);
    values.iter().all(|value| {
        let count = left.get_mut(value).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    })
}

/// The value that an input writes. An empty one unsets the property.
fn set<'i, I: BatchInput>(input: &'i I, name: &str) -> Option<&'i str> {
    let written: Option<&BTreeMap<String, String>> = input.written();
    written?.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

fn shown<'i>(item: &'i BatchItem, name: &str) -> Option<&'i str> {
    item.lead.properties.get(name).map(String::as_str).filter(|value| !value.is_empty())
}
