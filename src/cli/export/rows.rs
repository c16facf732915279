//! Rows of a file: one for each lead.
//!
//! NDJSON has all fields of a lead, and CSV and Parquet those of its columns.

use std::io;

use ::parquet::errors::ParquetError;

use super::{
    columns::{Column, columns_of},
    parquet::{ColumnTypes, ParquetRows},
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
    /// Parquet, with the same meaning of `is_named`.
    Parquet {
        rows: Box<ParquetRows>,
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
    #[error("cannot write a row: {0}")]
    Parquet(#[from] ParquetError),
}

// === impl Rows ===

impl Rows {
    /// Rows of a format. `names` are the properties with a column, and `types` those of Parquet.
    pub(super) fn new(
        selection: &Selection,
        names: &[String],
        types: &ColumnTypes,
    ) -> Result<Self, RowError> {
        let is_named = selection.names_all_properties();
        Ok(match selection.format {
            Format::Ndjson => Self::Ndjson,
            Format::Csv => Self::Csv { columns: columns_of(selection, names), is_named },
            Format::Parquet => {
                let rows = ParquetRows::new(columns_of(selection, names), types)?;
                Self::Parquet { rows: Box::new(rows), is_named }
            }
        })
    }

    /// Appends what comes before the first row.
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> Result<(), RowError> {
        match self {
            Self::Ndjson | Self::Parquet { .. } => Ok(()),
            Self::Csv { columns, .. } => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(columns.iter().map(|column| column.header.as_str()))?;
                Ok(csv.flush()?)
            }
        }
    }

    /// Appends the rows of leads. Those of Parquet follow when they fill a row group.
    pub(super) fn add(&mut self, out: &mut Vec<u8>, leads: &[pb::Lead]) -> Result<(), RowError> {
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
                    if !*is_named {
                        let has = |name: &str| columns.iter().any(|it| it.is_property(name));
                        check(lead, lead.properties.keys(), has)?;
                    }
                    for column in &*columns {
                        csv.write_field(&*column.cell(lead))?;
                    }
                    csv.write_record(None::<&[u8]>)?;
                }
                Ok(csv.flush()?)
            }
            Self::Parquet { rows, is_named } => {
                for lead in leads {
                    if !*is_named {
                        let names = lead.typed_properties.keys();
                        check(lead, names, |name| rows.has_column(name))?;
                    }
                    rows.add(out, lead)?;
                }
                Ok(())
            }
        }
    }

    /// Appends what comes after the last row.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) -> Result<(), RowError> {
        match self {
            Self::Ndjson | Self::Csv { .. } => Ok(()),
            Self::Parquet { rows, .. } => Ok(rows.end(out)?),
        }
    }

    /// Number of values that have no place in the column of their property.
    pub(super) fn other_types(&self) -> u64 {
        match self {
            Self::Ndjson | Self::Csv { .. } => 0,
            Self::Parquet { rows, .. } => rows.other_types,
        }
    }
}

/// Errors if one of these properties of a lead has no column.
fn check<'a>(
    lead: &pb::Lead,
    mut names: impl Iterator<Item = &'a String>,
    has_column: impl Fn(&str) -> bool,
) -> Result<(), RowError> {
    match names.find(|name| !has_column(name)) {
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
