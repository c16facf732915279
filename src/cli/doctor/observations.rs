//! Observations of the facts in an account: expected, different, or unknown.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::fact::{
    Basis::{Required, Switch},
    Fact,
};

/// Observation of a fact in an account.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Expected(String),
    Different(String),
    /// Not tried, for this reason.
    Unknown(String),
}

/// Observations of all facts in an account.
#[derive(Debug, Default)]
pub(super) struct Observations {
    seen: Vec<(Fact, Seen)>,
    /// Values of the switches of the fake HubSpot.
    switches: Map<String, Value>,
}

// === impl Seen ===

impl Seen {
    fn text(&self) -> &str {
        match self {
            Self::Expected(text) | Self::Different(text) | Self::Unknown(text) => text,
        }
    }

    fn result(&self) -> &'static str {
        match self {
            Self::Expected(_) => "expected",
            Self::Different(_) => "different",
            Self::Unknown(_) => "unknown",
        }
    }
}

// === impl Observations ===

impl Observations {
    /// Notes what was seen, and whether it is what leadsd expects. The first observation of a fact counts.
    pub(super) fn note(&mut self, fact: Fact, is_expected: bool, seen: impl Into<String>) {
        let seen = seen.into();
        self.add(fact, if is_expected { Seen::Expected(seen) } else { Seen::Different(seen) });
    }

    /// Notes what was seen, with the value of the fact's switch.
    pub(super) fn switch(
        &mut self,
        fact: Fact,
        is_expected: bool,
        value: Value,
        seen: impl Into<String>,
    ) {
        if let (Switch(name), false) = (fact.basis(), self.has(fact)) {
            self.switches.insert(name.to_owned(), value);
        }
        self.note(fact, is_expected, seen);
    }

    /// Notes that a fact could not be tried.
    pub(super) fn unknown(&mut self, fact: Fact, reason: impl Into<String>) {
        self.add(fact, Seen::Unknown(reason.into()));
    }

    /// Notes that the facts without an observation could not be tried.
    pub(super) fn complete(&mut self, reason: &str) {
        for fact in Fact::all() {
            self.unknown(fact, reason);
        }
        self.seen.sort_by_key(|(fact, _)| *fact);
    }

    fn add(&mut self, fact: Fact, seen: Seen) {
        if !self.has(fact) {
            self.seen.push((fact, seen));
        }
    }

    fn has(&self, fact: Fact) -> bool {
        self.seen.iter().any(|(own, _)| *own == fact)
    }

    /// Number of facts as expected, different, and unknown.
    pub(super) fn counts(&self) -> [usize; 3] {
        let count =
            |result: &str| self.seen.iter().filter(|(_, seen)| seen.result() == result).count();
        ["expected", "different", "unknown"].map(count)
    }

    /// Names of the facts that differ: those that leadsd needs, and the others.
    pub(super) fn different(&self) -> [Vec<&'static str>; 2] {
        let different = |is_required: bool| {
            let is_one = |(fact, seen): &&(Fact, Seen)| {
                matches!(seen, Seen::Different(_)) && (fact.basis() == Required) == is_required
            };
            self.seen.iter().filter(is_one).map(|(fact, _)| fact.name()).collect()
        };
        [different(true), different(false)]
    }

    /// Values of the switches of the fake HubSpot.
    pub(super) fn switches(&self) -> &Map<String, Value> {
        &self.switches
    }

    /// Formats the facts as JSON.
    pub(super) fn json(&self) -> Value {
        let fact = |(fact, seen): &(Fact, Seen)| {
            json!({"fact": fact.name(), "expected": fact.expected(), "seen": seen.text(),
                   "result": seen.result()})
        };
        self.seen.iter().map(fact).collect()
    }

    /// Formats the facts as a table.
    pub(super) fn text(&self) -> String {
        let width = self.seen.iter().map(|(fact, _)| fact.name().len()).max().unwrap_or(0);
        let mut out = String::new();
        for (fact, seen) in &self.seen {
            let (name, expected) = (fact.name(), fact.expected());
            // Writing to a `String` cannot fail.
            let _ = match seen {
                Seen::Expected(seen) => {
                    writeln!(out, "{name:width$}  as expected  {expected} ({seen})")
                }
                Seen::Different(seen) => writeln!(
                    out,
                    "{name:width$}  DIFFERENT    expected: {expected}\n{:indent$}seen: {seen}",
                    "",
                    indent = width + 15
                ),
                Seen::Unknown(reason) => writeln!(out, "{name:width$}  unknown      {reason}"),
            };
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_observation_counts_and_the_rest_is_unknown() {
        let mut seen = Observations::default();
        seen.switch(Fact::UniqueClash, false, json!(400), "400");
        seen.switch(Fact::UniqueClash, true, json!(409), "409");
        seen.note(Fact::NotFound, false, "200");
        seen.complete("not tried");
        assert_eq!(seen.counts(), [0, 2, Fact::all().count() - 2]);
        assert_eq!(seen.different(), [vec!["get.not_found"], vec!["unique.clash"]]);
        assert_eq!(Value::Object(seen.switches().clone()), json!({"unique_clash_status": 400}));
        assert!(seen.text().contains("seen: 400"), "{}", seen.text());
    }
}
