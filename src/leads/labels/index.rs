//! Index of labels, so that a batch with many labels does not compare each with each.

use std::collections::HashMap;

/// Named record: an option, a pipeline, a stage, an owner or an association type.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a, K> {
    /// Label in HubSpot's user interface.
    pub(super) label: &'a str,
    /// Id or name that the label stands for.
    pub(super) key: K,
}

/// Entries by folded label.
#[derive(Debug)]
pub(super) struct LabelIndex<'a, K>(HashMap<String, Vec<Entry<'a, K>>>);

/// Entries that a label may stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found<K> {
    /// Exactly one.
    One(K),
    /// Several.
    Many(Vec<K>),
    /// None.
    None,
}

// === impl LabelIndex ===

impl<'a, K: Copy> LabelIndex<'a, K> {
    /// Indexes the entries that have a label.
    pub(super) fn new(entries: impl Iterator<Item = Entry<'a, K>>) -> Self {
        let mut all: HashMap<String, Vec<Entry<'a, K>>> = HashMap::new();
        for entry in entries.filter(|entry| !entry.label.trim().is_empty()) {
            all.entry(folded(entry.label)).or_default().push(entry);
        }
        Self(all)
    }

    /// The entries of a label: those in the same case, or else those in any case.
    pub(super) fn find(&self, label: &str) -> Found<K> {
        let all = self.0.get(&folded(label)).map_or(&[][..], Vec::as_slice);
        let is_exact = |entry: &&Entry<'a, K>| entry.label.trim() == label.trim();
        let exact: Vec<K> = all.iter().filter(is_exact).map(|entry| entry.key).collect();
        let keys = match exact.is_empty() {
            true => all.iter().map(|entry| entry.key).collect(),
            false => exact,
        };
        match keys.as_slice() {
            [] => Found::None,
            [key] => Found::One(*key),
            _ => Found::Many(keys),
        }
    }
}

/// Form of a label in which spellings are equal that mean the same to a person.
fn folded(label: &str) -> String {
    label.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_in_its_own_case_first_and_then_in_any() {
        let labels = ["New", "new", "Größe", "Partner", "PARTNER", " Spaced ", "", "  "];
        let entries = labels.into_iter().enumerate().map(|(key, label)| Entry { label, key });
        let index = LabelIndex::new(entries);
        for (label, expected) in [
            ("New", Found::One(0)),
            ("new", Found::One(1)),
            ("NEW", Found::Many(vec![0, 1])),
            ("GRÖSSE", Found::None),
            ("größe", Found::One(2)),
            ("  Partner", Found::One(3)),
            ("partner", Found::Many(vec![3, 4])),
            ("spaced", Found::One(5)),
            ("", Found::None),
            ("Ne", Found::None),
        ] {
            assert_eq!(index.find(label), expected, "{label:?}");
        }
        let twice = ["A", "A"].into_iter().zip(1..).map(|(label, key)| Entry { label, key });
        assert_eq!(LabelIndex::new(twice).find("A"), Found::Many(vec![1, 2]));
    }
}
