//! Arguments of `leadsd export`.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueEnum};
use serde::{Deserialize, Serialize};

use super::{exit, filter::Condition};
use crate::{cli::client::ConnectArgs, config};

/// Maximum of `--max-response-size` in bytes: a message is in memory several times over.
const MAX_RESPONSE: usize = 1 << 30;

/// Maximum number of conditions. leadsd adds one, and HubSpot allows six in a group.
const MAX_CONDITIONS: usize = 5;

/// Arguments of `leadsd export`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = exit::help())]
pub(in crate::cli) struct Args {
    /// File to write. Its ending selects format and compression: leads.ndjson, leads.csv.gz, leads.ndjson.zst.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Format of the file. Default: by its ending.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Compression of the file. Default: by its ending, .gz or .zst; none otherwise.
    #[arg(long, value_enum, value_name = "COMPRESSION")]
    pub(super) compression: Option<Compression>,
    /// Internal names of properties, separated by commas; * for all. Default: the portal's default properties.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) properties: Vec<String>,
    /// Internal names of properties whose previous values to export, separated by commas.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(super) history: Vec<String>,
    /// Object types whose associated records to export, such as contacts,companies.
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    pub(super) associations: Vec<String>,
    /// Condition, such as hs_lead_label=HOT; may be repeated. See below.
    #[arg(long = "filter", value_name = "CONDITION")]
    pub(super) filters: Vec<Condition>,
    /// Text to find in the leads, as in SearchLeads.
    #[arg(long, value_name = "TEXT")]
    pub(super) query: Option<String>,
    /// Continues an export that was interrupted; starts one if there is none.
    #[arg(long)]
    pub(super) resume: bool,
    /// Replaces the file if it exists, and drops an interrupted export unless --resume is given.
    #[arg(long)]
    pub(super) force: bool,
    /// Maximum size of a response message.
    #[arg(
        long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_response_size
    )]
    pub(super) max_response_size: usize,
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
}

/// Format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    /// One JSON object per line, as grpcurl prints a Lead.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
}

/// Compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Error of arguments that contradict each other or leave something open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum InvalidArgs {
    #[error("{0} has no known ending: name it .ndjson or .csv, or use --format")]
    NoFormat(String),
    #[error("--out {0} names no file")]
    NoFile(String),
    #[error("at most {MAX_CONDITIONS} --filter are allowed, because leadsd adds one for its pages")]
    TooManyConditions,
}

// === impl Args ===

impl Args {
    /// Format and compression of the file.
    pub(super) fn kind(&self) -> Result<(Format, Compression), InvalidArgs> {
        if self.filters.len() > MAX_CONDITIONS {
            return Err(InvalidArgs::TooManyConditions);
        }
        if self.out.file_name().is_none() {
            return Err(InvalidArgs::NoFile(self.out.display().to_string()));
        }
        let (by_ending, compression) = kind_of(&self.out);
        let format = self.format.or(by_ending);
        let format = format.ok_or_else(|| InvalidArgs::NoFormat(self.out.display().to_string()))?;
        Ok((format, self.compression.unwrap_or(compression)))
    }
}

// === impl Format ===

impl Format {
    /// True if every row has the same columns.
    pub(super) fn has_columns(self) -> bool {
        match self {
            Self::Ndjson => false,
            Self::Csv => true,
        }
    }
}

/// Format and compression by the ending of a name.
fn kind_of(file: &Path) -> (Option<Format>, Compression) {
    let name = file.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let (stem, compression) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Compression::Gzip),
        Some((stem, "zst")) => (stem, Compression::Zstd),
        Some(_) | None => (name.as_str(), Compression::None),
    };
    let format = match stem.rsplit_once('.') {
        Some((_, "ndjson" | "jsonl")) => Some(Format::Ndjson),
        Some((_, "csv")) => Some(Format::Csv),
        Some(_) | None => None,
    };
    (format, compression)
}

fn parse_response_size(text: &str) -> Result<usize, String> {
    config::size(text)
        .filter(|size| (1..=MAX_RESPONSE).contains(size))
        .ok_or_else(|| "use a size from 1B to 1GiB, such as 64MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_selects_format_and_compression() {
        for (name, format, compression) in [
            ("leads.ndjson", Some(Format::Ndjson), Compression::None),
            ("leads.jsonl", Some(Format::Ndjson), Compression::None),
            ("dir.csv/leads.ndjson.gz", Some(Format::Ndjson), Compression::Gzip),
            ("LEADS.CSV", Some(Format::Csv), Compression::None),
            ("leads.csv.zst", Some(Format::Csv), Compression::Zstd),
            ("leads.2026.csv", Some(Format::Csv), Compression::None),
            ("leads.txt", None, Compression::None),
            ("csv", None, Compression::None),
            ("leads.gz", None, Compression::Gzip),
        ] {
            assert_eq!(kind_of(Path::new(name)), (format, compression), "{name}");
        }
    }
}
