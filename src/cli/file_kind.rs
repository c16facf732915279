//! Format and compression of files with leads, by the ending of their names.

use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    /// One JSON object per line, as grpcurl prints a Lead.
    Ndjson,
    /// Comma-separated values with a header.
    Csv,
    /// Columns with the types of the portal's schema. Only for exports.
    Parquet,
}

/// Compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Error of a file name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} has no known ending: name it .ndjson, .csv or .parquet, or use --format")]
pub(super) struct NoFormat(String);

/// Format and compression of a file. `format` overrides the ending of its name.
pub(super) fn kind(file: &Path, format: Option<Format>) -> Result<(Format, Compression), NoFormat> {
    let (by_ending, compression) = kind_of(file);
    let format = format.or(by_ending).ok_or_else(|| NoFormat(file.display().to_string()))?;
    Ok((format, compression))
}

// === impl Format ===

impl Format {
    /// True if every row has the same columns.
    pub(super) fn has_columns(self) -> bool {
        match self {
            Self::Ndjson => false,
            Self::Csv | Self::Parquet => true,
        }
    }

    /// True if a file can be continued after any row. The index of Parquet is at the end of the file.
    pub(super) fn can_be_continued(self) -> bool {
        match self {
            Self::Ndjson | Self::Csv => true,
            Self::Parquet => false,
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
        Some((_, "parquet")) => Some(Format::Parquet),
        Some(_) | None => None,
    };
    (format, compression)
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
            ("leads.parquet", Some(Format::Parquet), Compression::None),
            ("leads.txt", None, Compression::None),
            ("csv", None, Compression::None),
            ("leads.gz", None, Compression::Gzip),
        ] {
            assert_eq!(kind_of(Path::new(name)), (format, compression), "{name}");
        }
    }
}
