//! Arguments of `leadsd export`.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::{exit, filter::Condition};
use crate::{
    cli::{
        client::ConnectArgs,
        file_kind::{Compression, Format, NoFormat, kind},
    },
    config,
};

/// Maximum of `--max-response-size` in bytes: a message is in memory several times over.
const MAX_RESPONSE: usize = 1 << 30;

/// Maximum number of conditions. leadsd adds one, and HubSpot allows six in a group.
const MAX_CONDITIONS: usize = 5;

/// Arguments of `leadsd export`.
#[derive(Debug, ClapArgs)]
#[command(after_long_help = exit::help())]
pub(in crate::cli) struct Args {
    /// File to write. Its ending selects format and compression: leads.ndjson, leads.csv.gz, leads.ndjson.zst, leads.parquet.
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Format of the file. Default: by its ending.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<Format>,
    /// Compression of the file. Default: by its ending, .gz or .zst; none otherwise. Parquet has its own.
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
    /// Continues an export that was interrupted; starts one if there is none. Not for Parquet.
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

/// Error of arguments that contradict each other or leave something open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum InvalidArgs {
    #[error(transparent)]
    Format(#[from] NoFormat),
    #[error("--out {0} names no file")]
    NoFile(String),
    #[error(
        "a Parquet file cannot be continued, because its index is written last: leave out --resume, or export \
         to .ndjson or .csv"
    )]
    NoResume,
    #[error(
        "Parquet is compressed by itself, with zstd: leave out --compression, and name the file .parquet"
    )]
    Compressed,
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
        let (format, compression) = kind(&self.out, self.format)?;
        let compression = self.compression.unwrap_or(compression);
        match format {
            Format::Parquet if self.resume => Err(InvalidArgs::NoResume),
            Format::Parquet if compression != Compression::None => Err(InvalidArgs::Compressed),
            Format::Parquet | Format::Ndjson | Format::Csv => Ok((format, compression)),
        }
    }
}

fn parse_response_size(text: &str) -> Result<usize, String> {
    config::size(text)
        .filter(|size| (1..=MAX_RESPONSE).contains(size))
        .ok_or_else(|| "use a size from 1B to 1GiB, such as 64MiB".to_owned())
}
