//! Suggestions for misspelt names.

/// Minimum similarity of a suggestion, from 0 to 1. clap suggests from 0.7 on; fields of one message are
/// more alike than flags.
const MIN_SIMILARITY: f64 = 0.8;

/// Maximum length in bytes of a name and of a candidate. The comparison takes the product of both.
const MAX_LENGTH: usize = 128;

/// Returns the candidate that is most similar to `name`, ignoring case; `None` if all differ much. Long
/// names have no suggestion.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_LENGTH {
        return None;
    }
    let name = name.to_lowercase();
    let similarity = |candidate: &str| strsim::jaro_winkler(&name, &candidate.to_lowercase());
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH)
        .map(|candidate| (similarity(candidate), candidate))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_similar_name_is_suggested_and_no_other() {
        let names = ["id", "id_property", "properties", "properties_with_history"];
        for (name, expected) in [
            ("propertys", Some("properties")),
            ("PROPERTIES", Some("properties")),
            ("idproperty", Some("id_property")),
            ("properties_with_histroy", Some("properties_with_history")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), expected, "{name}");
        }
    }

    #[test]
    fn long_names_and_candidates_are_not_compared() {
        let (longest, long) = ("x".repeat(128), "x".repeat(129));
        assert_eq!(nearest(&longest, [&*long, &*longest]), Some(&*longest));
        assert_eq!(nearest(&long, [&*long]), None);
    }
}
