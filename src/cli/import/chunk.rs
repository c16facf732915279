//! Chunks of rows: the inputs of one request, and its results.
//!
//! A chunk is the same whenever the file is read, so that its request id names the same inputs.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    RECORD_ID,
    mapping::{InvalidMapping, Mapping, Target},
    reader::{InvalidFile, Row, Rows},
    results::{Options, RowResult, RowStatus},
};
use crate::grpc::pb;

/// Maximum number of rows of a chunk. The results of 1,000 inputs fit in a response with default settings.
const MAX_ROWS: usize = 1_000;

/// Bytes of text after which a chunk ends, well below the default of `grpc.max_request_size`.
const MAX_BYTES: usize = 1 << 20;

/// Rows that are sent together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Number of the first row, from 1 on.
    pub(super) first_row: u64,
    pub(super) inputs: Vec<Input>,
}

/// Lead of one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Input {
    /// Value of the property that identifies the lead; empty for creates.
    id: String,
    properties: BTreeMap<String, String>,
    contact: Option<pb::contact_reference::Key>,
}

/// Error of a row or its columns.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ChunkError {
    #[error(transparent)]
    File(#[from] InvalidFile),
    #[error("row {row}: {error}")]
    Mapping { row: u64, error: InvalidMapping },
}

/// Reader of chunks. Their bounds depend on the file and the options alone.
pub(super) struct Chunks {
    rows: Rows,
    mapping: Mapping,
    contact_id: Option<String>,
    clear_empty: bool,
    /// Columns of the rows so far.
    columns: BTreeSet<String>,
}

// === impl Chunks ===

impl Chunks {
    pub(super) fn new(rows: Rows, mapping: Mapping, options: &Options) -> Self {
        let Options { contact_id, clear_empty, .. } = options.clone();
        let columns = rows.columns().iter().cloned().collect();
        Self { rows, mapping, contact_id, clear_empty, columns }
    }

    /// Columns of the rows so far.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str)
    }

    /// The next chunk; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Chunk>, ChunkError> {
        let mut chunk = Chunk { first_row: self.rows.count + 1, inputs: Vec::new() };
        let mut bytes = 0;
        while chunk.inputs.len() < MAX_ROWS && bytes < MAX_BYTES {
            let Some(row) = self.rows.next()? else { break };
            let number = self.rows.count;
            let input = self.input(row);
            let input = input.map_err(|error| ChunkError::Mapping { row: number, error })?;
            bytes += input.bytes();
            chunk.inputs.push(input);
        }
        Ok((!chunk.inputs.is_empty()).then_some(chunk))
    }

    fn input(&mut self, row: Row) -> Result<Input, InvalidMapping> {
        let mut input = Input::default();
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
                    input.properties.insert(name, value);
                }
                Target::Id => input.id = value,
                Target::ContactId => input.contact = Some(pb::contact_reference::Key::Id(value)),
                Target::ContactEmail => {
                    input.contact = Some(pb::contact_reference::Key::Email(value));
                }
                Target::Nothing => {}
            }
        }
        if input.contact.is_none() {
            input.contact = self.contact_id.clone().map(pb::contact_reference::Key::Id);
        }
        Ok(input)
    }
}

// === impl Input ===

impl Input {
    fn bytes(&self) -> usize {
        let properties = self.properties.iter().map(|(name, value)| name.len() + value.len());
        self.id.len() + properties.sum::<usize>() + 64
    }
}

// === impl Chunk ===

impl Chunk {
    /// Request that creates the leads.
    pub(super) fn creates(&self, request_id: String, dry_run: bool) -> pb::BatchCreateLeadsRequest {
        let inputs = self.inputs.iter().map(|input| pb::LeadCreate {
            properties: input.properties.clone(),
            contact: input
                .contact
                .clone()
                .map(|key| pb::ContactReference { key: Some(key), create_if_missing: None }),
            ..Default::default()
        });
        pb::BatchCreateLeadsRequest { inputs: inputs.collect(), request_id, validate_only: dry_run }
    }

    /// Request that updates the leads, or creates them.
    pub(super) fn upserts(
        &self,
        id_property: &str,
        request_id: String,
        dry_run: bool,
    ) -> pb::BatchUpsertLeadsRequest {
        let is_update = id_property == RECORD_ID;
        let inputs = self.inputs.iter().map(|input| pb::LeadUpsert {
            id: input.id.clone(),
            id_property: id_property.to_owned(),
            properties: input.properties.clone(),
            // A record id names a lead that exists.
            contact: input
                .contact
                .clone()
                .filter(|_| !is_update)
                .map(|key| pb::ContactReference { key: Some(key), create_if_missing: None }),
            ..Default::default()
        });
        pb::BatchUpsertLeadsRequest { inputs: inputs.collect(), request_id, validate_only: dry_run }
    }

    /// Results of creates, in the order of the rows.
    pub(super) fn created(&self, results: Vec<pb::LeadWriteResult>) -> Vec<RowResult> {
        use pb::lead_write_result::Outcome;
        let result = |(row, result): (u64, pb::LeadWriteResult)| match result.outcome {
            Some(Outcome::Lead(lead)) => RowResult::written(row, RowStatus::Created, lead.id),
            Some(Outcome::Error(status)) => RowResult::failed(row, status),
            None => RowResult::written(row, RowStatus::Valid, String::new()),
        };
        (self.first_row..).zip(results).map(result).collect()
    }

    /// Results of upserts, in the order of the rows.
    pub(super) fn upserted(&self, results: Vec<pb::LeadUpsertResult>) -> Vec<RowResult> {
        use pb::lead_upsert_result::Outcome;
        let result = |(row, result): (u64, pb::LeadUpsertResult)| match result.outcome {
            Some(Outcome::Lead(lead)) => {
                let status = match (result.created, result.created_unknown) {
                    (true, _) => RowStatus::Created,
                    (false, true) => RowStatus::Written,
                    (false, false) => RowStatus::Updated,
                };
                RowResult::written(row, status, lead.id)
            }
            Some(Outcome::Error(status)) => RowResult::failed(row, status),
            None => RowResult::written(row, RowStatus::Valid, String::new()),
        };
        (self.first_row..).zip(results).map(result).collect()
    }
}

#[cfg(test)]
mod tests;
