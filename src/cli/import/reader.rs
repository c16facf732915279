//! Rows of a file, one at a time.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::RECORD_ID;
use crate::cli::file_kind::{Compression, Format};

/// Maximum size of a row in bytes: more than a lead can have.
const MAX_ROW: usize = 8 << 20;

/// Byte order mark, with which spreadsheets begin CSV.
const BOM: &str = "\u{feff}";

/// Values of one row by column.
pub(super) type Row = Vec<(String, String)>;

/// Error of a file.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum InvalidFile {
    #[error("cannot read {}: {source}", file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{}: row {row}: {what}", file.display())]
    Row { file: PathBuf, row: u64, what: String },
    #[error("{} is Parquet, which is for exports: convert it to .ndjson or .csv", .0.display())]
    Parquet(PathBuf),
    #[error("the file has fewer rows than before: it was changed")]
    Changed,
}

/// Reader of rows.
pub(super) struct Rows {
    file: PathBuf,
    source: Source,
    /// Number of rows so far.
    pub(super) count: u64,
}

enum Source {
    Csv { reader: csv::Reader<Box<dyn Read + Send>>, columns: Vec<String> },
    Ndjson(BufReader<Box<dyn Read + Send>>),
}

// === impl Rows ===

impl Rows {
    pub(super) fn open(
        file: &Path,
        format: Format,
        compression: Compression,
    ) -> Result<Self, InvalidFile> {
        let failed = |source| InvalidFile::Read { file: file.to_owned(), source };
        let opened = File::open(file).map_err(failed)?;
        let read: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(opened),
            Compression::Gzip => Box::new(MultiGzDecoder::new(opened)),
            Compression::Zstd => {
                Box::new(zstd::stream::read::Decoder::new(opened).map_err(failed)?)
            }
        };
        let source = match format {
            Format::Ndjson => Source::Ndjson(BufReader::new(read)),
            Format::Parquet => return Err(InvalidFile::Parquet(file.to_owned())),
            Format::Csv => {
                let mut reader = csv::Reader::from_reader(read);
                let header = reader.headers().map_err(|error| invalid(file, 0, &error))?;
                let columns = header.iter().enumerate().map(|(index, name)| match index {
                    0 => name.trim_start_matches(BOM).to_owned(),
                    _ => name.to_owned(),
                });
                let columns = columns.collect();
                Source::Csv { reader, columns }
            }
        };
        Ok(Self { file: file.to_owned(), source, count: 0 })
    }

    /// Columns that every row has; empty for NDJSON, whose rows have keys.
    pub(super) fn columns(&self) -> &[String] {
        match &self.source {
            Source::Csv { columns, .. } => columns,
            Source::Ndjson(_) => &[],
        }
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>, InvalidFile> {
        let number = self.count + 1;
        let row = match &mut self.source {
            Source::Csv { reader, columns } => {
                let mut record = csv::StringRecord::new();
                let is_row = reader.read_record(&mut record);
                if !is_row.map_err(|error| invalid(&self.file, number, &error))? {
                    return Ok(None);
                }
                let values = columns.iter().zip(&record);
                values.map(|(column, value)| (column.clone(), value.to_owned())).collect()
            }
            Source::Ndjson(lines) => match next_line(lines, &self.file, number)? {
                None => return Ok(None),
                Some(line) => {
                    let what =
                        |what| InvalidFile::Row { file: self.file.clone(), row: number, what };
                    parse_line(&line).map_err(what)?
                }
            },
        };
        self.count = number;
        Ok(Some(row))
    }
}

/// The next line that is not empty; `None` at the end.
fn next_line(
    lines: &mut impl BufRead,
    file: &Path,
    row: u64,
) -> Result<Option<Vec<u8>>, InvalidFile> {
    loop {
        let mut line = Vec::new();
        let mut bounded = lines.by_ref().take(MAX_ROW as u64 + 1);
        let read = bounded.read_until(b'\n', &mut line);
        let read = read.map_err(|source| InvalidFile::Read { file: file.to_owned(), source })?;
        if read > MAX_ROW {
            let what = format!("it exceeds {MAX_ROW} bytes");
            return Err(InvalidFile::Row { file: file.to_owned(), row, what });
        }
        if read == 0 {
            return Ok(None);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

/// Values of a line: those of `properties` beside `id` for a lead as `leadsd export` writes it, or else
/// those of all keys.
fn parse_line(line: &[u8]) -> Result<Row, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let Value::Object(object) = value else { return Err("it is no JSON object".to_owned()) };
    let mut row = Row::new();
    match object.get("properties") {
        Some(Value::Object(properties)) => {
            if let Some(id) = object.get("id") {
                row.push(("id".to_owned(), text("id", id)?));
            }
            for (name, value) in properties {
                if name == RECORD_ID && object.contains_key("id") {
                    continue;
                }
                let column = if name == "id" { "properties.id".to_owned() } else { name.clone() };
                row.push((column, text(name, value)?));
            }
        }
        Some(_) | None => {
            for (name, value) in &object {
                row.push((name.clone(), text(name, value)?));
            }
        }
    }
    Ok(row)
}

/// Text of a JSON value. Lists are values of a property with several ones.
fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::Null => Ok(String::new()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::String(value) => Ok(value.clone()),
        Value::Array(values) => {
            let parts: Result<Vec<_>, _> = values.iter().map(|value| text(name, value)).collect();
            Ok(parts?.join(";"))
        }
        Value::Object(_) => Err(format!("{name} is a JSON object, and a property has one value")),
    }
}

fn invalid(file: &Path, row: u64, error: &csv::Error) -> InvalidFile {
    InvalidFile::Row { file: file.to_owned(), row, what: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: Format, text: &[u8]) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leads");
        std::fs::write(&file, text).unwrap();
        let read = || {
            let mut rows = Rows::open(&file, format, Compression::None)?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                all.push(row);
            }
            Ok(all)
        };
        read().map_err(|error: InvalidFile| {
            error.to_string().replace(&file.display().to_string(), "FILE")
        })
    }

    fn row(values: &[(&str, &str)]) -> Row {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn csv_has_a_header_and_keeps_text() {
        let text = "\u{feff}name,zip\n\"Ada, \"\"A\"\"\nx\",007\n,\r\n";
        let found = rows(Format::Csv, text.as_bytes()).unwrap();
        let expected =
            [row(&[("name", "Ada, \"A\"\nx"), ("zip", "007")]), row(&[("name", ""), ("zip", "")])];
        assert_eq!(found, expected);
        assert_eq!(rows(Format::Csv, b"").unwrap(), Vec::<Row>::new());
    }

    #[test]
    fn json_lines_are_leads_or_flat_objects() {
        for (line, expected) in [
            (
                "{\"a\": \"x\", \"b\": 1.50, \"c\": true, \"d\": null}",
                row(&[("a", "x"), ("b", "1.5"), ("c", "true"), ("d", "")]),
            ),
            (
                "{\"id\": \"7\", \"createTime\": \"x\", \"properties\": {\"a\": \"1\", \"hs_object_id\": \"7\", \"id\": \"o\"}}",
                row(&[("id", "7"), ("a", "1"), ("properties.id", "o")]),
            ),
            ("{\"a\": [\"x\", \"y\"]}", row(&[("a", "x;y")])),
            ("{\"properties\": \"x\"}", row(&[("properties", "x")])),
        ] {
            let text = format!("\n{line}\n\n");
            assert_eq!(rows(Format::Ndjson, text.as_bytes()).unwrap(), [expected], "{line}");
        }
    }

    #[test]
    fn errors_name_the_row() {
        for (format, text, expected) in [
            (Format::Ndjson, &b"{}\n[1]\n"[..], "FILE: row 2: it is no JSON object"),
            (Format::Ndjson, b"{\"a\": {\"b\": 1}}", "FILE: row 1: a is a JSON object"),
            (Format::Ndjson, b"{\"a\": ", "FILE: row 1: EOF while"),
            (Format::Csv, b"a,b\n1,2\n1\n", "FILE: row 2: CSV error"),
            (Format::Csv, b"a\n\xff\n", "FILE: row 1: CSV"),
        ] {
            let error = rows(format, text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
