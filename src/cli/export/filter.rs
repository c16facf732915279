//! Conditions on properties, such as `hs_lead_label=HOT`.

use std::str::FromStr;

use crate::grpc::pb::{self, FilterOperator};

/// Help on conditions.
pub(super) const HELP: &str = "\
Conditions of --filter:
  NAME=VALUE NAME!=VALUE     equal, not equal
  NAME<VALUE NAME<=VALUE     less, less or equal; dates as 2026-01-31 or in milliseconds since 1970
  NAME>VALUE NAME>=VALUE     greater, greater or equal
  NAME~VALUE                 contains the word VALUE; * matches any characters
  NAME=      NAME!=          has no value, has a value
  labels.NAME=LABEL          equal (or !=) by the label of a pipeline, stage or option, or by
                             the e-mail address of an owner
  Spaces around the operator are ignored. All conditions must match. At most 5.";

/// Operators, longer ones before their beginnings.
const OPERATORS: &[(&str, FilterOperator)] = &[
    ("!=", FilterOperator::Neq),
    ("<=", FilterOperator::Lte),
    (">=", FilterOperator::Gte),
    ("=", FilterOperator::Eq),
    ("<", FilterOperator::Lt),
    (">", FilterOperator::Gt),
    ("~", FilterOperator::ContainsToken),
];

/// Start of the name of a property whose value is a label.
const LABELS: &str = "labels.";

/// Condition on one property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    name: String,
    operator: FilterOperator,
    value: String,
}

// === impl Condition ===

impl Condition {
    /// The filter of a request.
    pub(super) fn to_filter(&self) -> pb::Filter {
        let label = self.name.strip_prefix(LABELS);
        pb::Filter {
            property_name: label.unwrap_or(&self.name).to_owned(),
            operator: self.operator.into(),
            value: self.value.clone(),
            by_label: label.is_some(),
            ..Default::default()
        }
    }

    /// Text that stands for the condition, whatever its spaces.
    pub(super) fn canonical(&self) -> String {
        format!("{} {} {}", self.name, self.operator.as_str_name(), self.value)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || {
            "use NAME, an operator (=, !=, <, <=, >, >=, ~) and VALUE, such as hs_lead_label=HOT"
                .to_owned()
        };
        let at = text.find(['=', '!', '<', '>', '~']).ok_or_else(usage)?;
        let (name, rest) = text.split_at(at);
        let matching = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator));
        let (operator, kind) = matching.ok_or_else(usage)?;
        let (name, value) = (name.trim(), rest[operator.len()..].trim());
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(usage());
        }
        let kind = match (kind, value.is_empty()) {
            (FilterOperator::Eq, true) => FilterOperator::NotHasProperty,
            (FilterOperator::Neq, true) => FilterOperator::HasProperty,
            (_, true) => return Err(format!("{operator} needs a value")),
            (kind, false) => *kind,
        };
        let takes_labels = matches!(kind, FilterOperator::Eq | FilterOperator::Neq);
        if name.starts_with(LABELS) && !takes_labels {
            return Err(format!(
                "a label has = or != and a value, such as {LABELS}hs_pipeline_stage=New"
            ));
        }
        Ok(Self { name: name.to_owned(), operator: kind, value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_a_name_an_operator_and_a_value() {
        for (text, name, operator, value) in [
            ("hs_lead_label=HOT", "hs_lead_label", FilterOperator::Eq, "HOT"),
            ("hs_lead_label != HOT", "hs_lead_label", FilterOperator::Neq, "HOT"),
            ("amount<7", "amount", FilterOperator::Lt, "7"),
            ("amount <= 7.5", "amount", FilterOperator::Lte, "7.5"),
            ("amount>-1", "amount", FilterOperator::Gt, "-1"),
            ("when>=2026-01-31", "when", FilterOperator::Gte, "2026-01-31"),
            ("hs_lead_name~ada*", "hs_lead_name", FilterOperator::ContainsToken, "ada*"),
            ("associations.contact=101", "associations.contact", FilterOperator::Eq, "101"),
            ("note=a=b", "note", FilterOperator::Eq, "a=b"),
            ("note==b", "note", FilterOperator::Eq, "=b"),
            ("note= two words ", "note", FilterOperator::Eq, "two words"),
            ("note=", "note", FilterOperator::NotHasProperty, ""),
            ("note!= ", "note", FilterOperator::HasProperty, ""),
        ] {
            let condition: Condition = text.parse().unwrap();
            let found = (condition.name.as_str(), condition.operator, condition.value.as_str());
            assert_eq!(found, (name, operator, value), "{text}");
        }
    }

    #[test]
    fn other_text_is_rejected() {
        for (text, expected) in [
            ("", "use NAME"),
            ("hs_lead_label", "use NAME"),
            ("=HOT", "use NAME"),
            ("two words=HOT", "use NAME"),
            ("name!HOT", "use NAME"),
            ("amount<", "< needs a value"),
            ("amount>= ", ">= needs a value"),
            ("name~", "~ needs a value"),
            ("labels.stage>New", "a label has = or != and a value"),
            ("labels.stage=", "a label has = or != and a value"),
        ] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_condition_may_have_a_label() {
        let filter = |text: &str| text.parse::<Condition>().unwrap().to_filter();
        let label = filter("labels.hs_pipeline_stage = Two words");
        assert_eq!((label.property_name.as_str(), label.by_label), ("hs_pipeline_stage", true));
        assert_eq!(label.value, "Two words");
        let id = filter("hs_pipeline_stage=7");
        assert_eq!((id.property_name.as_str(), id.by_label), ("hs_pipeline_stage", false));
    }

    #[test]
    fn the_canonical_text_ignores_spaces() {
        let [tight, loose] = ["a>=1", " a >= 1 "].map(|text| text.parse::<Condition>().unwrap());
        assert_eq!(tight.canonical(), loose.canonical());
        assert_eq!(tight.to_filter(), loose.to_filter());
    }
}
