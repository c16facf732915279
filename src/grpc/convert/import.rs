//! Converts the messages of ImportLeads. Each row is converted as the request of a single call.

use prost::Message as _;

use super::{
    request::archive,
    writes::{create_row, update_row, upsert_row},
};
use crate::{
    grpc::{pb, validate::FieldFaults},
    leads::{
        Error, FieldFault, RequestId,
        import::{ImportRow, ImportSettings, RowWrite, StopRule},
    },
};

/// Number of rows with results from which an error ratio counts by default.
const DEFAULT_MIN_ROWS: u64 = 100;

/// Maximum length of a key in bytes.
const MAX_KEY: usize = 255;

pub(crate) fn import_settings(settings: &pb::ImportSettings) -> Result<ImportSettings, Error> {
    let pb::ImportSettings {
        import_id,
        stop_on_error_ratio,
        stop_on_error_min_rows,
        validate_only,
    } = settings;
    let mut faults = FieldFaults::default();
    let id = RequestId::parse(import_id);
    let id = id.map_err(|description| faults.add("settings.import_id", description)).ok();
    if !(0.0..=1.0).contains(stop_on_error_ratio) {
        faults.add("settings.stop_on_error_ratio", "must be from 0 to 1");
    }
    let min_rows = u64::try_from(*stop_on_error_min_rows);
    let min_rows = min_rows.unwrap_or_else(|_| {
        faults.add("settings.stop_on_error_min_rows", "must not be negative");
        0
    });
    let rule = StopRule {
        error_ratio: *stop_on_error_ratio,
        min_rows: if min_rows == 0 { DEFAULT_MIN_ROWS } else { min_rows },
    };
    let stop = (*stop_on_error_ratio > 0.0).then_some(rule);
    faults.finish(id.map(|id| ImportSettings { id, stop, validate_only: *validate_only }))
}

/// Converts a row. An invalid write is an error of the row; an invalid key is one of the stream, since no
/// result could name it.
pub(crate) fn import_row(row: pb::ImportRow) -> Result<ImportRow, Error> {
    let bytes = row.encoded_len();
    let pb::ImportRow { key, write } = row;
    if key.is_empty() || key.len() > MAX_KEY || key.chars().any(char::is_control) {
        let description = "must be 1 to 255 bytes without control characters";
        return Err(Error::invalid(vec![FieldFault::new("row.key", description)]));
    }
    Ok(ImportRow { key, write: row_write(write), bytes })
}

fn row_write(write: Option<pb::import_row::Write>) -> Result<RowWrite, Error> {
    use pb::import_row::Write;
    match write {
        Some(Write::Create(input)) => create_row(input),
        Some(Write::Update(input)) => update_row(input),
        Some(Write::Upsert(input)) => upsert_row(input),
        Some(Write::Archive(pb::LeadArchive { id })) => {
            let request =
                pb::ArchiveLeadRequest { id, request_id: String::new(), validate_only: false };
            Ok(RowWrite::Archive(archive(&request)?.0))
        }
        None => Err(Error::invalid(vec![FieldFault::new(
            "write",
            "is required: create, update, upsert or archive",
        )])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(ratio: f64, min_rows: i32) -> Result<ImportSettings, Error> {
        import_settings(&pb::ImportSettings {
            import_id: "spring-2026".to_owned(),
            stop_on_error_ratio: ratio,
            stop_on_error_min_rows: min_rows,
            validate_only: false,
        })
    }

    #[test]
    fn settings_have_a_name_and_maybe_a_rule() {
        assert_eq!(settings(0.0, 5).unwrap().stop, None);
        let rule = |min_rows| Some(StopRule { error_ratio: 0.5, min_rows });
        assert_eq!(settings(0.5, 0).unwrap().stop, rule(100));
        assert_eq!(settings(0.5, 7).unwrap().stop, rule(7));
        for (ratio, min_rows, field) in [
            (-0.1, 0, "settings.stop_on_error_ratio"),
            (1.1, 0, "settings.stop_on_error_ratio"),
            (f64::NAN, 0, "settings.stop_on_error_ratio"),
            (0.5, -1, "settings.stop_on_error_min_rows"),
        ] {
            assert_eq!(settings(ratio, min_rows).unwrap_err().fields()[0].field, field);
        }
        let unnamed = import_settings(&pb::ImportSettings::default()).unwrap_err();
        assert_eq!(unnamed.fields()[0].field, "settings.import_id");
    }

    #[test]
    fn an_invalid_write_is_an_error_of_its_row_and_an_invalid_key_one_of_the_stream() {
        let row = |key: &str, write| import_row(pb::ImportRow { key: key.to_owned(), write });
        let archive =
            |id: &str| Some(pb::import_row::Write::Archive(pb::LeadArchive { id: id.to_owned() }));
        assert!(matches!(row("a", archive("7")).unwrap().write, Ok(RowWrite::Archive(_))));
        let fields = |row: ImportRow| row.write.unwrap_err().fields()[0].field.clone();
        assert_eq!(fields(row("a", archive("")).unwrap()), "id");
        assert_eq!(fields(row("a", None).unwrap()), "write");
        for key in ["", "a\nb", &"x".repeat(256)] {
            assert_eq!(row(key, archive("7")).unwrap_err().fields()[0].field, "row.key");
        }
    }
}
