//! Results of an import: a file with one line of JSON for each row, in the order in which they arrive.
//!
//! The first line names the import. A result is written as it arrives. An import that is continued drops an
//! incomplete last line, and sends the rows without a line again under the same name and keys, so that no lead
//! is created twice.

use std::{
    fs::{File, TryLockError},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::row_set::RowSet;
use crate::{
    cli::call::Failure,
    grpc::{code_name, pb},
};

/// Version of the file. Files of version 1 had the rows in chunks, each with a request id.
const VERSION: u32 = 2;

/// First line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    leadsd_import: u32,
    /// UUID that names the import, as `import_id` of ImportLeads.
    import_id: String,
    options: Options,
}

/// Options that decide the effect. They cannot change between the parts of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Options {
    /// Length of the imported file in bytes.
    pub(super) file_bytes: u64,
    pub(super) id_property: Option<String>,
    pub(super) contact_id: Option<String>,
    /// Absent in results of versions without the option.
    #[serde(default)]
    pub(super) create_contacts: bool,
    pub(super) clear_empty: bool,
    pub(super) dry_run: bool,
    pub(super) map: Vec<String>,
}

/// Result of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RowResult {
    /// Number of the row; the first one after the header of a CSV file is 1.
    pub(super) row: u64,
    pub(super) status: RowStatus,
    /// Record id of the lead.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    /// Name of the gRPC code of an error, such as `INVALID_ARGUMENT`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) code: String,
    /// Reason of an error, such as `VALIDATION_FAILED`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
}

/// Outcome of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RowStatus {
    Created,
    Updated,
    /// Written, and it is not known whether the lead existed.
    Written,
    /// Valid, with `--dry-run`.
    Valid,
    Failed,
}

/// Numbers of rows by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) written: u64,
    pub(super) valid: u64,
    pub(super) failed: u64,
}

/// Error of the results of an import.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum ResultsError {
    #[error("{} exists; --resume continues its import, --force starts again", .0.display())]
    Exists(PathBuf),
    #[error("another import writes {}", .0.display())]
    Locked(PathBuf),
    #[error("{} has no results of an import: {what}; --force replaces it", file.display())]
    Content { file: PathBuf, what: String },
    #[error(
        "{} belongs to an import with another {what}; repeat its options and file, or start again \
         with --force",
        file.display()
    )]
    Differs { file: PathBuf, what: &'static str },
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", file.display())]
    Write { file: PathBuf, source: io::Error },
}

/// Results that are written.
#[derive(Debug)]
pub(super) struct Results {
    path: PathBuf,
    file: File,
    import_id: Uuid,
    /// Rows with a result.
    rows: RowSet,
    pub(super) totals: Totals,
    /// True if there are lines that are not synced.
    is_dirty: bool,
}

// === impl Results ===

impl Results {
    /// Starts the results of an import, or continues them.
    pub(super) fn open(
        path: &Path,
        options: &Options,
        resume: bool,
        force: bool,
    ) -> Result<Self, ResultsError> {
        let failed = |source| ResultsError::Write { file: path.to_owned(), source };
        let mut opened = File::options();
        let file = opened.read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            // The file system may have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => return Err(ResultsError::Locked(path.to_owned())),
        }
        let has_content = file.metadata().map_err(failed)?.len() > 0;
        if has_content && !resume && !force {
            return Err(ResultsError::Exists(path.to_owned()));
        }
        let path = path.to_owned();
        let mut results = Self {
            path,
            file,
            import_id: Uuid::new_v4(),
            rows: RowSet::default(),
            totals: Totals::default(),
            is_dirty: false,
        };
        if has_content && !force && results.load(options)? {
            return Ok(results);
        }
        results.start(options).map_err(failed)?;
        Ok(results)
    }

    /// Name of the import.
    pub(super) fn import_id(&self) -> String {
        self.import_id.to_string()
    }

    /// Rows with a result.
    pub(super) fn rows(&self) -> &RowSet {
        &self.rows
    }

    /// Appends a result.
    pub(super) fn add(&mut self, result: &RowResult) -> Result<(), ResultsError> {
        let mut line = Vec::new();
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut line, result);
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| self.write_error(source))?;
        self.is_dirty = true;
        self.rows.insert(result.row);
        self.totals.add(result.status);
        Ok(())
    }

    /// Syncs the results so far, so that they outlast a crash of the machine.
    pub(super) fn sync(&mut self) -> Result<(), ResultsError> {
        if self.is_dirty {
            self.file.sync_data().map_err(|source| self.write_error(source))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    fn write_error(&self, source: io::Error) -> ResultsError {
        ResultsError::Write { file: self.path.clone(), source }
    }

    /// Reads the results of an import; false if the file ends inside its header.
    fn load(&mut self, options: &Options) -> Result<bool, ResultsError> {
        let file = self.path.clone();
        let mut line = Vec::new();
        let mut lines = BufReader::new(&self.file);
        let read = lines.read_until(b'\n', &mut line);
        let read = read.map_err(|source| ResultsError::Read { file: file.clone(), source })?;
        if !line.ends_with(b"\n") && line.len() < 4096 && line.starts_with(b"{\"leadsd_import\"") {
            return Ok(false);
        }
        let header: Header = serde_json::from_slice(&line).map_err(|error| {
            ResultsError::Content { file: file.clone(), what: error.to_string() }
        })?;
        if header.leadsd_import != VERSION {
            let what = format!("its version is {}, not {VERSION}", header.leadsd_import);
            return Err(ResultsError::Content { file, what });
        }
        let import_id = Uuid::parse_str(&header.import_id).map_err(|error| {
            ResultsError::Content { file: file.clone(), what: error.to_string() }
        })?;
        options.check(&header.options).map_err(|what| ResultsError::Differs { file, what })?;
        self.import_id = import_id;
        let mut length = read as u64;
        let (mut rows, mut totals) = (RowSet::default(), Totals::default());
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            let read =
                read.map_err(|source| ResultsError::Read { file: self.path.clone(), source })?;
            let Ok(result) = serde_json::from_slice::<RowResult>(&line) else { break };
            if !line.ends_with(b"\n") || !rows.insert(result.row) {
                break;
            }
            length += read as u64;
            totals.add(result.status);
        }
        drop(lines);
        let cut = self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map_err(|source| self.write_error(source))?;
        (self.rows, self.totals) = (rows, totals);
        Ok(true)
    }

    fn start(&mut self, options: &Options) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        let header = Header {
            leadsd_import: VERSION,
            import_id: self.import_id.to_string(),
            options: options.clone(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_all()
    }
}

// === impl ResultsError ===

impl ResultsError {
    /// True if the command line is the cause, so that nothing was sent.
    pub(super) fn is_usage(&self) -> bool {
        match self {
            Self::Exists(_) | Self::Locked(_) | Self::Content { .. } | Self::Differs { .. } => true,
            Self::Read { .. } | Self::Write { .. } => false,
        }
    }
}

// === impl RowResult ===

impl RowResult {
    /// Result of a row, as the service sent it.
    pub(super) fn new(row: u64, result: pb::ImportResult) -> Self {
        use pb::import_result::Outcome;
        let (status, id) = match result.outcome {
            Some(Outcome::Lead(lead)) => {
                let status = match (result.created, result.created_unknown) {
                    (true, _) => RowStatus::Created,
                    (false, true) => RowStatus::Written,
                    (false, false) => RowStatus::Updated,
                };
                (status, lead.id)
            }
            None => (RowStatus::Valid, String::new()),
            Some(Outcome::Error(status)) => return Self::failed(row, status),
        };
        let (code, reason, message) = (String::new(), String::new(), String::new());
        Self { row, status, id, code, reason, message }
    }

    fn failed(row: u64, status: tonic_types::Status) -> Self {
        let message = status.message.clone();
        let failure = Failure::from_input(status);
        Self {
            row,
            status: RowStatus::Failed,
            id: String::new(),
            code: code_name(failure.code).to_owned(),
            reason: failure.reason(),
            message,
        }
    }
}

// === impl Options ===

impl Options {
    /// Errors with the name of the first option that differs.
    fn check(&self, other: &Self) -> Result<(), &'static str> {
        for (option, is_equal) in [
            ("length of the file", self.file_bytes == other.file_bytes),
            ("--id-property", self.id_property == other.id_property),
            ("--contact-id", self.contact_id == other.contact_id),
            ("--create-contacts", self.create_contacts == other.create_contacts),
            ("--clear-empty", self.clear_empty == other.clear_empty),
            ("--dry-run", self.dry_run == other.dry_run),
            ("--map", self.map == other.map),
        ] {
            if !is_equal {
                return Err(option);
            }
        }
        Ok(())
    }
}

// === impl Totals ===

impl Totals {
    fn add(&mut self, status: RowStatus) {
        self.rows += 1;
        let count = match status {
            RowStatus::Created => &mut self.created,
            RowStatus::Updated => &mut self.updated,
            RowStatus::Written => &mut self.written,
            RowStatus::Valid => &mut self.valid,
            RowStatus::Failed => &mut self.failed,
        };
        *count += 1;
    }
}

#[cfg(test)]
mod tests;
