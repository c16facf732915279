//! Changes by consecutive listings.

use super::*;

fn listings() -> Listings {
    Listings::new(SecretPath::parse("hubspot").unwrap())
}

fn known(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Names of the portals that a listing shows and removes; `None` if it is implausible.
fn compare(
    listings: &mut Listings,
    listed: &[&str],
    known_names: &[&str],
) -> Option<(Vec<String>, BTreeSet<Arc<str>>)> {
    let difference = listings.compare(names(listed), known(known_names))?;
    Some((difference.listed.into_iter().map(|(name, _)| name).collect(), difference.removed))
}

#[test]
fn listed_secrets_are_portals_with_a_path_below_the_folder() {
    let difference = listings().compare(names(&["eu-1"]), known(&[])).unwrap();
    let path = SecretPath::parse("hubspot/eu-1").unwrap();
    assert_eq!(difference.listed, [("eu-1".to_owned(), path)]);
    assert_eq!(difference.removed, known(&[]));
}

#[test]
fn a_portal_is_removed_when_two_listings_in_a_row_lack_it() {
    let mut listings = listings();
    let both = ["one", "two"];
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&[]));
    assert_eq!(compare(&mut listings, &both, &both).unwrap().1, known(&[]));
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&[]));
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&["two"]));
    // It is forgotten: a portal of the same name is not removed by the next listing alone.
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&[]));
}

#[test]
fn an_empty_listing_removes_nothing_and_starts_the_count_anew() {
    let mut listings = listings();
    let both = ["one", "two"];
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&[]));
    assert_eq!(compare(&mut listings, &[], &both), None);
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&[]));
    assert_eq!(compare(&mut listings, &["one"], &both).unwrap().1, known(&["two"]));
}

#[test]
fn an_empty_folder_without_portals_is_believed() {
    assert_eq!(compare(&mut listings(), &[], &[]), Some((names(&[]), known(&[]))));
}

#[test]
fn names_that_are_no_portal_names_are_left_out() {
    let mut listings = listings();
    let long = "x".repeat(65);
    let listed = ["one", "a.b", "a b", "", &long];
    assert_eq!(compare(&mut listings, &listed, &[]).unwrap().0, names(&["one"]));
    assert_eq!(listings.invalid.len(), 4);
    // A folder that has nothing but such names shows no portal.
    assert_eq!(compare(&mut listings, &["a.b"], &["one"]), None);
}

#[test]
fn the_memory_for_invalid_names_is_bounded() {
    let mut listings = listings();
    let invalid: Vec<_> =
        (0..=schedule::MAX_INVALID_NAMES).map(|number| format!("n.{number}")).collect();
    listings.compare(invalid, known(&[]));
    assert_eq!(listings.invalid.len(), schedule::MAX_INVALID_NAMES);
}

#[test]
fn failures_are_counted_until_a_listing_succeeds() {
    let mut listings = listings();
    listings.failed(&StoreError::Denied);
    listings.failed(&StoreError::Denied);
    assert_eq!(listings.failures(), 2);
    assert!(listings.in_doubt);
    compare(&mut listings, &["one"], &[]);
    assert_eq!(listings.failures(), 0);
    assert!(!listings.in_doubt);
}
