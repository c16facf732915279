//! Ids and the names of operators.

use super::*;

#[test]
fn an_id_fits_into_a_path_and_into_a_unique_property() {
    for id in ["1", "a@b.example", "a.b", "...", &"x".repeat(MAX_ID_BYTES), &"\u{e9}".repeat(127)] {
        assert_eq!(LeadId::parse(id).expect("a valid id").to_string(), id);
    }
    let rejected = [
        ("", "must not be empty"),
        (&"x".repeat(MAX_ID_BYTES + 1), "must not be longer than 255 bytes"),
        (&"\u{e9}".repeat(128), "must not be longer than 255 bytes"),
        ("a\nb", "must not contain control characters"),
    ];
    for (id, error) in rejected {
        assert_eq!(LeadId::parse(id), Err(error), "{id:?}");
        assert_eq!(LeadId::parse_for_body(id), Err(error), "{id:?}");
    }
}

#[test]
fn only_an_id_in_a_url_has_no_characters_of_a_path() {
    for id in ["a/b", "a\\b", "a?b", "a#b", ".", ".."] {
        let error = LeadId::parse(id).unwrap_err();
        assert!(error.contains("use the batch call"), "{id}: {error}");
        let in_body = LeadId::parse_for_body(id).unwrap();
        assert_eq!((in_body.as_str(), in_body.fits_url()), (id, false));
    }
    for id in ["1", "a%2Fb", "...", "\u{e9} &=+"] {
        assert_eq!(LeadId::parse(id), LeadId::parse_for_body(id), "{id}");
        assert!(LeadId::parse(id).unwrap().fits_url(), "{id}");
    }
}

#[test]
fn operators_have_the_names_that_hubspot_gives_them() {
    let names = [
        (FilterOperator::Eq, "EQ"),
        (FilterOperator::Neq, "NEQ"),
        (FilterOperator::Lt, "LT"),
        (FilterOperator::Lte, "LTE"),
        (FilterOperator::Gt, "GT"),
        (FilterOperator::Gte, "GTE"),
        (FilterOperator::Between, "BETWEEN"),
        (FilterOperator::In, "IN"),
        (FilterOperator::NotIn, "NOT_IN"),
        (FilterOperator::HasProperty, "HAS_PROPERTY"),
        (FilterOperator::NotHasProperty, "NOT_HAS_PROPERTY"),
        (FilterOperator::ContainsToken, "CONTAINS_TOKEN"),
        (FilterOperator::NotContainsToken, "NOT_CONTAINS_TOKEN"),
    ];
    for (operator, name) in names {
        assert_eq!(operator.as_str(), name);
    }
}
