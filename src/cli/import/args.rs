//! Arguments of `leadsd import`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{exit, mapping::Pair};
use crate::cli::{client::ConnectArgs, file_kind::Format};

/// Arguments of `leadsd import`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = exit::help())]
pub(in crate::cli) struct Args {
    /// File to read: NDJSON or CSV with a header; by its ending, also behind .gz or .zst.
    pub(super) file: PathBuf,
    /// Format of the file. Default: by its ending.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Column and the field that it sets; may be repeated. See below.
    #[arg(long = "map", value_name = "COLUMN=PROPERTY")]
    pub(super) map: Vec<Pair>,
    /// Updates the lead with the same value of this unique property, or creates it. Default: creates all leads.
    ///
    /// With hs_object_id, the value is a record id, and the lead must exist.
    #[arg(long, value_name = "PROPERTY")]
    pub(super) id_property: Option<String>,
    /// Record id of the primary contact of new leads whose row names none.
    #[arg(long, value_name = "ID")]
    pub(super) contact_id: Option<String>,
    /// Creates the contact of an e-mail address that HubSpot does not have. Needs a column for contact.email.
    ///
    /// If the lead is rejected afterwards, the contact remains.
    #[arg(long)]
    pub(super) create_contacts: bool,
    /// Clears properties whose value is empty.
    #[arg(long)]
    pub(super) clear_empty: bool,
    /// Validates all rows and writes nothing to HubSpot.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Part of the rows that may fail, from 0 to 1, before the import stops. Default: no limit.
    ///
    /// It counts from 100 results of a stream on. An import that connects again begins a stream.
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub(super) stop_on_error_ratio: Option<f64>,
    /// File with one line for each row. Default: the name of FILE with .results.ndjson, or .dry-run.ndjson.
    #[arg(long, value_name = "RESULTS")]
    pub(super) results: Option<PathBuf>,
    /// Continues an import that was interrupted; starts one if there are no results.
    #[arg(long)]
    pub(super) resume: bool,
    /// Replaces the results of an earlier import, and imports all rows again.
    #[arg(long, conflicts_with = "resume")]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

// === impl Args ===

impl Args {
    pub(super) fn results_file(&self) -> PathBuf {
        self.results.clone().unwrap_or_else(|| {
            let mut name = self.file.clone().into_os_string();
            name.push(if self.dry_run { ".dry-run.ndjson" } else { ".results.ndjson" });
            PathBuf::from(name)
        })
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|ratio| *ratio > 0.0 && *ratio <= 1.0)
        .ok_or_else(|| "use a number above 0, and at most 1, such as 0.1".to_owned())
}
