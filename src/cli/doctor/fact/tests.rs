//! The table of the facts beside the documentation and the switches of the fake.

use std::collections::BTreeSet;

use leadsd_hubspot_fake::Behaviour;

use super::{Basis::Switch, *};

const PAGE: &str = include_str!("../../../../docs/HUBSPOT_FACTS.md");

/// Heading of the table of switches without a fact.
const UNTRIED: &str = "## Switches without a fact";

/// Switches that need exactly one of a fact and a reason, and have none or both.
fn uncovered<'a>(
    switches: impl IntoIterator<Item = &'a str>,
    tried: &BTreeSet<&str>,
    reasons: &BTreeSet<&str>,
) -> Vec<&'a str> {
    let is_uncovered = |switch: &&str| tried.contains(switch) == reasons.contains(switch);
    switches.into_iter().filter(is_uncovered).collect()
}

#[test]
fn facts_are_listed_in_order_and_documented() {
    assert!(TABLE.iter().enumerate().all(|(index, row)| row.0 as usize == index));
    let listed: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("- `")).collect();
    let rows = TABLE.map(|(_, name, _, expected)| format!("- `{name}`: {expected}."));
    assert_eq!(rows[..], listed[..], "docs/HUBSPOT_FACTS.md must list the facts in order");
}

/// A conformance run sets every switch of the fake, or the page says why it cannot.
#[test]
fn every_switch_of_the_fake_has_a_fact_or_a_reason() {
    let fake = serde_json::to_value(Behaviour::default()).unwrap();
    let fake: BTreeSet<&str> = fake.as_object().unwrap().keys().map(String::as_str).collect();
    let switch = |(_, _, basis, _): &(Fact, &str, Basis, &str)| match basis {
        Switch(name) => Some(*name),
        Basis::Required | Basis::Tolerated => None,
    };
    let tried: BTreeSet<&str> = TABLE.iter().filter_map(switch).collect();
    let (_, section) = PAGE.split_once(UNTRIED).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &'static str| {
        let (name, reason) = line.strip_prefix("| `")?.split_once("` | ")?;
        assert!(reason.len() > 10, "{line}");
        Some(name)
    };
    let reasons: BTreeSet<&str> = section.lines().filter_map(row).collect();
    assert_eq!(uncovered(fake.iter().copied(), &tried, &reasons), [""; 0]);
    let unknown: Vec<_> = tried.union(&reasons).filter(|name| !fake.contains(*name)).collect();
    assert!(unknown.is_empty(), "the fake has no such switches: {unknown:?}");
}

#[test]
fn a_new_switch_needs_a_fact_or_a_reason() {
    let tried = BTreeSet::from(["tried", "both"]);
    let reasons = BTreeSet::from(["explained", "both"]);
    let switches = ["tried", "explained", "both", "new"];
    assert_eq!(uncovered(switches, &tried, &reasons), ["both", "new"]);
}
