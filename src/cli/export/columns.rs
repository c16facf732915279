//! Columns of a file, and their text for CSV.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::json;

use super::state::Selection;
use crate::grpc::pb;

/// Columns before those of properties.
const FIRST: &str = "id";

/// Columns after those of properties.
const TIMES: [&str; 2] = ["create_time", "update_time"];

/// Separator of the ids of associated records; HubSpot separates the values of a property by it.
const SEPARATOR: &str = ";";

/// Column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) header: String,
    pub(super) source: Source,
}

/// Part of a lead that a column has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Id,
    Property(String),
    CreateTime,
    UpdateTime,
    /// Ids of associated records of an object type.
    Associations(String),
    /// Versions of a property.
    History(String),
}

/// Columns of a selection: id, properties, times, associations, history.
pub(super) fn columns_of(selection: &Selection, properties: &[String]) -> Vec<Column> {
    let column = |header: String, source| Column { header, source };
    let mut columns = vec![column(FIRST.to_owned(), Source::Id)];
    for name in unique(properties) {
        let is_taken = name == FIRST || TIMES.contains(&name.as_str());
        let header = if is_taken { format!("properties.{name}") } else { name.clone() };
        columns.push(column(header, Source::Property(name.clone())));
    }
    let times = TIMES.iter().zip([Source::CreateTime, Source::UpdateTime]);
    columns.extend(times.map(|(header, source)| column((*header).to_owned(), source)));
    for name in unique(&selection.associations) {
        columns.push(column(format!("associations.{name}"), Source::Associations(name.clone())));
    }
    for name in unique(&selection.history) {
        columns.push(column(format!("history.{name}"), Source::History(name.clone())));
    }
    columns
}

/// Names in their order, each once.
fn unique(names: &[String]) -> impl Iterator<Item = &String> {
    let mut known = BTreeSet::new();
    names.iter().filter(move |name| known.insert(*name))
}

// === impl Column ===

impl Column {
    pub(super) fn is_property(&self, name: &str) -> bool {
        matches!(&self.source, Source::Property(own) if own == name)
    }

    /// Text of a lead in this column. Empty without a value.
    pub(super) fn cell<'a>(&self, lead: &'a pb::Lead) -> Cow<'a, str> {
        let time = |time: Option<prost_types::Timestamp>| {
            time.map(|time| time.to_string()).unwrap_or_default().into()
        };
        match &self.source {
            Source::Id => lead.id.as_str().into(),
            Source::Property(name) => {
                lead.properties.get(name).map(String::as_str).unwrap_or_default().into()
            }
            Source::CreateTime => time(lead.create_time),
            Source::UpdateTime => time(lead.update_time),
            Source::Associations(name) => {
                let list = lead.associations.get(name);
                let ids = list.into_iter().flat_map(|list| &list.objects).map(|object| &object.id);
                // A record with several association types has several entries.
                let mut known = BTreeSet::new();
                let ids: Vec<&str> =
                    ids.map(String::as_str).filter(|id| known.insert(*id)).collect();
                ids.join(SEPARATOR).into()
            }
            Source::History(name) => match lead.property_history.get(name) {
                Some(history) => history_json(history).into(),
                None => "".into(),
            },
        }
    }
}

/// Versions of a property, newest first.
fn history_json(history: &pb::PropertyHistory) -> String {
    let version = |version: &pb::PropertyVersion| {
        json!({
            "value": version.value,
            "time": version.time.as_ref().map(ToString::to_string),
            "source_type": version.source_type,
            "source_id": version.source_id,
        })
    };
    serde_json::Value::Array(history.versions.iter().map(version).collect()).to_string()
}
