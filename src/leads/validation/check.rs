//! Check of one write against the schema.

use std::sync::Arc;

use super::{
    associations,
    draft::{Draft, DraftKind},
    hints::{Candidate, Hints},
    pipeline::{self, PIPELINE, STAGE},
    rules,
    time::DateRules,
    value,
    violation::{Violation, ViolationKind},
};
use crate::leads::schema::{PipelineCopy, PropertyCopy, RuleCopy};

/// Copies of the schema that a write is checked against. A part without a copy is not checked.
#[derive(Debug, Clone, Default)]
pub(in crate::leads) struct SchemaView {
    /// Properties.
    pub(in crate::leads) properties: Option<Arc<PropertyCopy>>,
    /// Validation rules of properties.
    pub(in crate::leads) rules: Option<Arc<RuleCopy>>,
    /// Pipelines.
    pub(in crate::leads) pipelines: Option<Arc<PipelineCopy>>,
    /// Forms of dates that HubSpot accepts.
    pub(in crate::leads) dates: DateRules,
}

/// The violations of a write, at most `max`, in the order of the fields.
pub(in crate::leads) fn check(
    draft: &Draft<'_>,
    schema: &SchemaView,
    hints: &mut Hints,
    max: usize,
) -> Vec<Violation> {
    let SchemaView { properties, rules, pipelines, dates } = schema;
    let mut found = Vec::new();
    if let Some(copy) = properties {
        if let Some((name, value)) = draft.identity {
            found.extend(identity(copy, name, value, *dates, hints));
        }
        for (name, value) in draft.properties {
            if found.len() >= max {
                break;
            }
            let is_checked_below =
                pipelines.is_some() && [PIPELINE, STAGE].contains(&name.as_str());
            let own = property(copy, name, value, *dates, hints)
                .filter(|violation| !(is_checked_below && violation.kind == ViolationKind::Option));
            found.extend(own.or_else(|| rule(rules.as_deref()?, name, value)));
        }
    }
    if let Some(copy) = pipelines.as_ref().filter(|_| found.len() < max) {
        found.extend(pipeline::violations(draft.properties, copy, hints));
    }
    match draft.kind {
        DraftKind::Create | DraftKind::Upsert => {
            found.extend(associations::violations(draft.associations));
        }
        DraftKind::Update => {}
    }
    found.truncate(max);
    found
}

/// Checks a property and its value.
fn property(
    copy: &PropertyCopy,
    name: &str,
    value: &str,
    dates: DateRules,
    hints: &mut Hints,
) -> Option<Violation> {
    if let Some(own) = copy.get(name) {
        let (kind, text) = value::fault(own, value, dates, hints)?;
        return Some(Violation::of_property(kind, name, value, text));
    }
    if !copy.is_complete {
        return None;
    }
    let all = copy.all().iter().filter(|own| !own.is_read_only);
    let all = all.map(|own| Candidate { value: &own.name, label: &own.label });
    let text = format!("is not a property of leads{}", hints.did_you_mean(name, all));
    Some(Violation::of_property(ViolationKind::UnknownProperty, name, value, text))
}

/// Checks the validation rules of a property.
fn rule(rules: &RuleCopy, name: &str, value: &str) -> Option<Violation> {
    let text = rules::fault(rules.of_property(name), value)?;
    Some(Violation::of_property(ViolationKind::Rule, name, value, text))
}

/// Checks the property that identifies the lead, and its value.
fn identity(
    copy: &PropertyCopy,
    name: &str,
    value: &str,
    dates: DateRules,
    hints: &mut Hints,
) -> Option<Violation> {
    let what = match copy.get(name) {
        Some(own) if own.has_unique_values => {
            // HubSpot may find leads by a property that cannot be written.
            let (kind, text) = value::fault(own, value, dates, hints)
                .filter(|(kind, _)| *kind != ViolationKind::ReadOnly)?;
            return Some(Violation::new(kind, "id", (name, value), text));
        }
        Some(_) => "has no unique values, so it identifies no lead",
        None if !copy.is_complete => return None,
        None => "is not a property of leads",
    };
    let unique = || {
        let all = copy.all().iter().filter(|own| own.has_unique_values);
        all.map(|own| Candidate { value: &own.name, label: &own.label })
    };
    let near = hints.did_you_mean(name, unique());
    let all: Vec<Candidate<'_>> = unique().collect();
    let text = format!("{what}{near}{}", hints.allowed(all.into_iter()));
    Some(Violation::new(ViolationKind::IdProperty, "id_property", (name, value), text))
}
