//! Rows of a file: one for each lead.
//!
//! NDJSON has all fields of a lead, and CSV those of its columns.

use std::io;

use super::{
    columns::{Column, columns_of},
    state::{Counts, Selection},
};
use crate::{
    cli::{call::lead_json, file_kind::Format},
    grpc::pb,
};

/// Writer of rows.
#[derive(Debug)]
pub(super) enum Rows {
    Ndjson,
    /// CSV with these columns.
    Csv {
        columns: Vec<Column>,
        /// True if the caller named all properties. HubSpot returns others as well, such as `hs_createdate`.
        is_named: bool,
    },
}

/// Error of a lead that the file cannot hold.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum RowError {
    #[error(
        "lead {id} has the property {name}, and the file has no column for it: name the columns with \
         --properties"
    )]
    NoColumn { id: String, name: String },
    #[error("cannot write a row: {0}")]
    Csv(#[from] csv::Error),
    #[error("cannot write a row: {0}")]
    Io(#[from] io::Error),
}

// === impl Rows ===

impl Rows {
    /// Rows of a format. `names` are the properties with a column.
    pub(super) fn new(selection: &Selection, names: &[String]) -> Self {
        match selection.format {
            Format::Ndjson => Self::Ndjson,
            Format::Csv => {
                let columns = columns_of(selection, names);
                Self::Csv { columns, is_named: selection.names_all_properties() }
            }
        }
    }

    /// Appends what comes before the first row.
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> Result<(), RowError> {
        match self {
            Self::Ndjson => Ok(()),
            Self::Csv { columns, .. } => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(columns.iter().map(|column| column.header.as_str()))?;
                Ok(csv.flush()?)
            }
        }
    }

    /// Appends the rows of leads.
    pub(super) fn add(&self, out: &mut Vec<u8>, leads: &[pb::Lead]) -> Result<(), RowError> {
        match self {
            Self::Ndjson => {
                for lead in leads {
                    out.extend_from_slice(lead_json(lead).as_bytes());
                    out.push(b'\n');
                }
                Ok(())
            }
            Self::Csv { columns, is_named } => {
                let mut csv = csv::Writer::from_writer(out);
                for lead in leads {
                    if !is_named {
                        check(lead, columns)?;
                    }
                    for column in columns {
                        csv.write_field(&*column.cell(lead))?;
                    }
                    csv.write_record(None::<&[u8]>)?;
                }
                Ok(csv.flush()?)
            }
        }
    }
}

/// Errors if a lead has a property without a column.
fn check(lead: &pb::Lead, columns: &[Column]) -> Result<(), RowError> {
    let is_column = |name: &&String| !columns.iter().any(|column| column.is_property(name));
    match lead.properties.keys().find(is_column) {
        Some(name) => Err(RowError::NoColumn { id: lead.id.clone(), name: name.clone() }),
        None => Ok(()),
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, leads: &[pb::Lead]) {
        self.leads += leads.len() as u64;
        for lead in leads {
            self.id_only += u64::from(lead.id_only);
            let lists = lead.associations.values();
            self.truncated += lists.filter(|list| !list.next_cursor.is_empty()).count() as u64;
        }
    }
}

#[cfg(test)]
mod tests;
