//! Rows of a file as rows of ImportLeads.
//!
//! The key of a row is its number in the file, so it is the same whenever the file is read.

use std::collections::{BTreeMap, BTreeSet};

use pb::{contact_reference::Key, import_row::Write};

use super::{
    RECORD_ID,
    mapping::{InvalidMapping, Mapping, Target},
    reader::{InvalidFile, Row, Rows},
    results::Options,
};
use crate::grpc::pb;

/// Row to send.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    /// Number of the row, from 1 on.
    pub(super) number: u64,
    pub(super) row: pb::ImportRow,
}

/// Error of a row or its columns.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InputError {
    #[error(transparent)]
    File(#[from] InvalidFile),
    #[error("row {row}: {error}")]
    Mapping { row: u64, error: InvalidMapping },
}

/// Reader of inputs.
pub(super) struct Inputs {
    rows: Rows,
    mapping: Mapping,
    id_property: Option<String>,
    contact_id: Option<String>,
    create_contacts: bool,
    clear_empty: bool,
    /// Columns of the rows so far.
    columns: BTreeSet<String>,
}

// === impl Inputs ===

impl Inputs {
    pub(super) fn new(rows: Rows, mapping: Mapping, options: &Options) -> Self {
        let Options { id_property, contact_id, create_contacts, clear_empty, .. } = options.clone();
        let columns = rows.columns().iter().cloned().collect();
        Self { rows, mapping, id_property, contact_id, create_contacts, clear_empty, columns }
    }

    /// Columns of the rows so far.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// The next input; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Input>, InputError> {
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let number = self.rows.count;
        let write = self.write(row);
        let write = write.map_err(|error| InputError::Mapping { row: number, error })?;
        let row = pb::ImportRow { key: number.to_string(), write: Some(write) };
        Ok(Some(Input { number, row }))
    }

    fn write(&mut self, row: Row) -> Result<Write, InvalidMapping> {
        let mut lead = pb::LeadUpsert::default();
        let mut contact = None;
        let mut contact_properties = BTreeMap::new();
        for (column, value) in row {
            let target = self.mapping.target(&column)?;
            if !self.columns.contains(&column) {
                self.columns.insert(column);
            }
            if value.is_empty() && !matches!(target, Target::Property(_) if self.clear_empty) {
                continue;
            }
            match target {
                Target::Property(name) => {
                    lead.properties.insert(name, value);
                }
                Target::Label(name) => {
                    lead.labels.insert(name, value);
                }
                Target::ContactProperty(name) => {
                    contact_properties.insert(name, value);
                }
                Target::Id => lead.id = value,
                Target::ContactId => contact = Some(Key::Id(value)),
                Target::ContactEmail => contact = Some(Key::Email(value)),
                Target::Nothing => {}
            }
        }
        let contact = contact.or_else(|| self.contact_id.clone().map(Key::Id));
        lead.contact = contact.map(|key| {
            let is_created = self.create_contacts && matches!(key, Key::Email(_));
            let create_if_missing =
                is_created.then_some(pb::NewContact { properties: contact_properties });
            pb::ContactReference { key: Some(key), create_if_missing }
        });
        Ok(match &self.id_property {
            None => Write::Create(pb::LeadCreate {
                properties: lead.properties,
                labels: lead.labels,
                contact: lead.contact,
                ..Default::default()
            }),
            Some(name) => {
                lead.id_property.clone_from(name);
                // A record id names a lead that exists and has a contact.
                lead.contact = lead.contact.filter(|_| name != RECORD_ID);
                Write::Upsert(lead)
            }
        })
    }
}

#[cfg(test)]
mod tests;
