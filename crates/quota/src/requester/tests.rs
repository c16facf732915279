//! Names of callers.

use super::*;

#[test]
fn an_unauthenticated_name_is_truncated_between_characters() {
    assert_eq!(Caller::new(&"a".repeat(128)).as_str(), "a".repeat(128));
    assert_eq!(Caller::new(&"a".repeat(129)).as_str(), "a".repeat(128));
    let long = format!("{}ä", "a".repeat(127));
    assert_eq!(Caller::new(&long).as_str(), "a".repeat(127));
    assert_eq!(Caller::new("").as_str(), "");
}

#[test]
fn only_an_authenticated_caller_has_a_configured_weight() {
    let known = Caller::authenticated("billing", 3);
    assert_eq!((known.is_authenticated(), known.weight()), (true, Some(3)));
    let unknown = Caller::new("billing");
    assert_eq!((unknown.is_authenticated(), unknown.weight()), (false, None));
    assert_ne!(known, unknown, "they do not share a queue");
}
