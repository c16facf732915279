//! State of an interrupted export, in a file beside the partial one.
//!
//! The state names a position in the export and the length of the partial file at that position. The file
//! was synced up to that length before the state was written, so the two agree after any crash.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::args::Args;
use crate::cli::file_kind::{Compression, Format};

/// Version of the state file.
const VERSION: u32 = 1;

/// Maximum size of the file in bytes: a token and the names of columns.
const MAX_FILE: u64 = 8 << 20;

/// Name that selects all properties.
pub(super) const ALL: &str = "*";

/// Files of one export. All are in one folder, so that a rename replaces the file as a whole.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// The complete file.
    pub(super) out: PathBuf,
    /// The file until it is complete.
    pub(super) partial: PathBuf,
    pub(super) state: PathBuf,
}

/// Position of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) selection: Selection,
    /// Columns of a format that has them.
    pub(super) columns: Vec<String>,
    /// Token of the position after the leads of the partial file.
    pub(super) resume_token: String,
    /// Length of the partial file in bytes.
    pub(super) bytes: u64,
    pub(super) counts: Counts,
}

/// Selection of leads and form of the file. It cannot change between the parts of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selection {
    pub(super) format: Format,
    pub(super) compression: Compression,
    pub(super) properties: Vec<String>,
    pub(super) history: Vec<String>,
    pub(super) associations: Vec<String>,
    /// Canonical text of the conditions.
    pub(super) filters: Vec<String>,
    pub(super) query: String,
}

/// Numbers of exported leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) leads: u64,
    /// Leads that are too large for a message, so that only their ids were exported.
    pub(super) id_only: u64,
    /// Lists of associated records that HubSpot truncated.
    pub(super) truncated: u64,
    /// Values that are not of the type of their column.
    #[serde(default)]
    pub(super) other_types: u64,
}

/// Error of a state file.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidState {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is no state of an export: {what}; --force starts again", file.display())]
    Content { file: PathBuf, what: String },
    #[error(
        "the interrupted export has other values of {0}; repeat its options, or start again with \
         --force and without --resume"
    )]
    Differs(&'static str),
}

// === impl Paths ===

impl Paths {
    pub(super) fn new(out: &Path) -> Self {
        let with = |ending: &str| {
            let mut name = OsString::from(out);
            name.push(ending);
            PathBuf::from(name)
        };
        Self { out: out.to_owned(), partial: with(".partial"), state: with(".resume.json") }
    }

    /// Syncs the folder, so that a rename in it outlasts a crash.
    pub(super) fn sync_folder(&self) -> io::Result<()> {
        let folder = self.out.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

// === impl Selection ===

impl Selection {
    pub(super) fn new(args: &Args, format: Format, compression: Compression) -> Self {
        Self {
            format,
            compression,
            properties: args.properties.clone(),
            history: args.history.clone(),
            associations: args.associations.clone(),
            filters: args.filters.iter().map(|filter| filter.canonical()).collect(),
            query: args.query.clone().unwrap_or_default(),
        }
    }

    /// True if the properties are listed, without `*`.
    pub(super) fn names_all_properties(&self) -> bool {
        !self.properties.is_empty() && !self.properties.iter().any(|name| name == ALL)
    }

    /// Errors if another selection exports something else; names the option.
    fn check(&self, other: &Self) -> Result<(), InvalidState> {
        for (option, is_equal) in [
            ("--format", self.format == other.format),
            ("--compression", self.compression == other.compression),
            ("--properties", self.properties == other.properties),
            ("--history", self.history == other.history),
            ("--associations", self.associations == other.associations),
            ("--filter", self.filters == other.filters),
            ("--query", self.query == other.query),
        ] {
            if !is_equal {
                return Err(InvalidState::Differs(option));
            }
        }
        Ok(())
    }
}

// === impl State ===

impl State {
    pub(super) fn new(selection: Selection) -> Self {
        Self {
            version: VERSION,
            selection,
            columns: Vec::new(),
            resume_token: String::new(),
            bytes: 0,
            counts: Counts::default(),
        }
    }

    /// Reads the state of an export with this selection; `None` if there is no file.
    pub(super) fn load(file: &Path, selection: &Selection) -> Result<Option<Self>, InvalidState> {
        let unreadable = |source| InvalidState::Read { file: file.to_owned(), source };
        let invalid = |what: String| InvalidState::Content { file: file.to_owned(), what };
        let length = match fs::metadata(file) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(unreadable(source)),
        };
        if length > MAX_FILE {
            return Err(invalid(format!("it exceeds {MAX_FILE} bytes")));
        }
        let text = fs::read(file).map_err(unreadable)?;
        let state: Self =
            serde_json::from_slice(&text).map_err(|error| invalid(error.to_string()))?;
        if state.version != VERSION {
            return Err(invalid(format!("its version is {}, not {VERSION}", state.version)));
        }
        selection.check(&state.selection)?;
        Ok(Some(state))
    }

    /// Replaces the file as a whole.
    pub(super) fn store(&self, paths: &Paths) -> io::Result<()> {
        let mut name = OsString::from(&paths.state);
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&new, &paths.state)?;
        paths.sync_folder()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection() -> Selection {
        Selection {
            format: Format::Csv,
            compression: Compression::Gzip,
            properties: vec!["hs_lead_name".into()],
            history: Vec::new(),
            associations: vec!["contacts".into()],
            filters: vec!["a EQ 1".into()],
            query: String::new(),
        }
    }

    #[test]
    fn a_stored_state_is_loaded_and_belongs_to_its_options() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(&folder.path().join("leads.csv.gz"));
        assert_eq!(State::load(&paths.state, &selection()).unwrap(), None);
        let counts = Counts { leads: 7, id_only: 1, truncated: 2, other_types: 0 };
        let mut state = State { bytes: 12, counts, ..State::new(selection()) };
        for token in ["first", "second"] {
            token.clone_into(&mut state.resume_token);
            state.store(&paths).unwrap();
            assert_eq!(State::load(&paths.state, &selection()).unwrap(), Some(state.clone()));
        }
        // Only the state is left.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        for (other, option) in [
            (Selection { format: Format::Ndjson, ..selection() }, "--format"),
            (Selection { compression: Compression::None, ..selection() }, "--compression"),
            (Selection { properties: Vec::new(), ..selection() }, "--properties"),
            (Selection { history: vec!["x".into()], ..selection() }, "--history"),
            (Selection { associations: Vec::new(), ..selection() }, "--associations"),
            (Selection { filters: Vec::new(), ..selection() }, "--filter"),
            (Selection { query: "x".into(), ..selection() }, "--query"),
        ] {
            let error = State::load(&paths.state, &other).unwrap_err().to_string();
            assert!(error.contains(&format!("other values of {option};")), "{error}");
        }
    }

    #[test]
    fn other_files_are_no_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        let other =
            serde_json::to_string(&State { version: 2, ..State::new(selection()) }).unwrap();
        for (text, expected) in [("", "EOF"), ("{}", "missing field"), (&other, "version is 2")] {
            fs::write(&file, text).unwrap();
            let error = State::load(&file, &selection()).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("--force"), "{error}");
        }
    }
}
