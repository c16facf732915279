//! Hints in the description of a violation: the nearest name, and the allowed values. Both are bounded,
//! because callers may send invalid inputs by the thousand.

use std::fmt::Write as _;

use leadsd_base::nearest::nearest;

/// Maximum number of names that are compared for all violations of one call. A comparison takes about a
/// microsecond.
const MAX_COMPARISONS: usize = 4_000;

/// Maximum size in bytes of all descriptions with a list of allowed values in one call.
const MAX_LIST_BYTES: usize = 64 << 10;

/// Maximum number of allowed values in a description.
const MAX_LISTED: usize = 10;

/// Maximum length in bytes of the list of allowed values. The description of a violation has 512 bytes.
const MAX_LIST: usize = 200;

/// Maximum length in bytes of a name or label in a description.
const MAX_NAME: usize = 64;

/// Name that a caller may have meant: the text that is sent, and the label in HubSpot's user interface.
#[derive(Debug, Clone, Copy)]
pub(in crate::leads) struct Candidate<'a> {
    /// Text that is sent to HubSpot.
    pub(in crate::leads) value: &'a str,
    /// Label; may be empty.
    pub(in crate::leads) label: &'a str,
}

/// Hints of one call.
#[derive(Debug)]
pub(in crate::leads) struct Hints {
    comparisons: usize,
    list_bytes: usize,
}

// === impl Hints ===

impl Default for Hints {
    fn default() -> Self {
        Self { comparisons: MAX_COMPARISONS, list_bytes: MAX_LIST_BYTES }
    }
}

impl Hints {
    /// Suggestion for a misspelt text, as the end of a sentence; empty without one.
    pub(in crate::leads) fn did_you_mean<'a>(
        &mut self,
        text: &str,
        candidates: impl Iterator<Item = Candidate<'a>> + Clone,
    ) -> String {
        let is_label =
            |candidate: &Candidate<'_>| !candidate.label.is_empty() && same(candidate.label, text);
        // The right word in another case, or the label in place of the value.
        let exact = candidates.clone().find(|own| same(own.value, text) || is_label(own));
        let found = exact.or_else(|| {
            let taken = candidates.take(self.comparisons / 2);
            let texts = taken.clone().flat_map(|own| [own.value, own.label]);
            let mut count = 0;
            let best = nearest(text, texts.inspect(|_| count += 1));
            self.comparisons = self.comparisons.saturating_sub(count);
            let best = best.filter(|best| !best.is_empty())?;
            taken.into_iter().find(|own| own.value == best || own.label == best)
        });
        found.map(|own| format!("; did you mean {}?", named(own))).unwrap_or_default()
    }

    /// Allowed values, as the end of a sentence; empty if there are none or too many were listed.
    pub(in crate::leads) fn allowed<'a>(
        &mut self,
        candidates: impl ExactSizeIterator<Item = Candidate<'a>>,
    ) -> String {
        let count = candidates.len();
        let mut text = String::new();
        let mut listed = 0;
        for candidate in candidates.take(MAX_LISTED) {
            let name = shown(candidate.value);
            if text.len() + name.len() > MAX_LIST {
                break;
            }
            let separator = if listed == 0 { "; allowed: " } else { ", " };
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{separator}{name}");
            listed += 1;
        }
        if listed > 0 && listed < count {
            let _ = write!(text, " and {} more", count - listed);
        }
        match self.list_bytes.checked_sub(text.len()) {
            Some(left) => {
                self.list_bytes = left;
                text
            }
            None => String::new(),
        }
    }
}

// === impl Candidate ===

impl<'a> Candidate<'a> {
    /// A name without a label.
    pub(in crate::leads) fn plain(value: &'a str) -> Self {
        Self { value, label: "" }
    }
}

fn same(own: &str, text: &str) -> bool {
    let (own, text) = (own.trim(), text.trim());
    own.eq_ignore_ascii_case(text)
        || (!own.is_ascii()
            && own.len() <= 4 * MAX_NAME
            && own.to_lowercase() == text.to_lowercase())
}

fn named(Candidate { value, label }: Candidate<'_>) -> String {
    match label.is_empty() || label == value {
        true => shown(value).to_owned(),
        false => format!("{} ({})", shown(value), shown(label)),
    }
}

/// The beginning of a name of the schema.
pub(in crate::leads) fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: [Candidate<'static>; 3] = [
        Candidate { value: "HOT", label: "Hot lead" },
        Candidate { value: "WARM", label: "Warm" },
        Candidate { value: "2000", label: "Größe" },
    ];

    #[test]
    fn the_value_is_suggested_for_another_case_a_label_and_a_misspelling() {
        let mut hints = Hints::default();
        for (text, expected) in [
            ("hot", "; did you mean HOT (Hot lead)?"),
            (" Warm ", "; did you mean WARM (Warm)?"),
            ("hot lead", "; did you mean HOT (Hot lead)?"),
            ("WARN", "; did you mean WARM (Warm)?"),
            ("GRÖSE", "; did you mean 2000 (Größe)?"),
            ("größe", "; did you mean 2000 (Größe)?"),
            ("boiling", ""),
            ("", ""),
        ] {
            assert_eq!(hints.did_you_mean(text, OPTIONS.into_iter()), expected, "{text}");
        }
        let names = ["budget"].map(Candidate::plain);
        assert_eq!(hints.did_you_mean("buget", names.into_iter()), "; did you mean budget?");
    }

    #[test]
    fn allowed_values_are_bounded_in_number_and_bytes() {
        let mut hints = Hints::default();
        assert_eq!(hints.allowed(OPTIONS.into_iter()), "; allowed: HOT, WARM, 2000");
        let many: Vec<String> = (0..30).map(|number| format!("o{number}")).collect();
        let many = many.iter().map(|own| Candidate::plain(own));
        let text = hints.allowed(many);
        assert_eq!(text, "; allowed: o0, o1, o2, o3, o4, o5, o6, o7, o8, o9 and 20 more");
        let long = ["ä".repeat(500), "b".repeat(500), "c".repeat(500), "d".repeat(500)];
        let text = hints.allowed(long.iter().map(|own| Candidate::plain(own)));
        assert!(text.len() <= MAX_LIST + 32 && text.ends_with(" and 2 more"), "{text}");
        assert_eq!(hints.allowed([].into_iter()), "");
    }

    #[test]
    fn hints_of_one_call_are_bounded() {
        let names: Vec<String> = (0..1_000).map(|number| format!("property_{number}")).collect();
        let candidates = || names.iter().map(|own| Candidate::plain(own));
        let mut hints = Hints::default();
        let mut suggestions = 0;
        for _ in 0..1_000 {
            let text = hints.did_you_mean("propertx_7", candidates());
            suggestions += usize::from(!text.is_empty());
        }
        assert!((1..=4).contains(&suggestions), "{suggestions}");
        let listed: usize = (0..10_000).map(|_| hints.allowed(OPTIONS.into_iter()).len()).sum();
        assert!((MAX_LIST_BYTES - 100..=MAX_LIST_BYTES).contains(&listed), "{listed}");
        // The right word in another case needs no comparison.
        assert_eq!(hints.did_you_mean("PROPERTY_7", candidates()), "; did you mean property_7?");
    }
}
