//! Rows of an import that have no result: those that were read, and the rest of the file.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;

use super::{
    inputs::{InputError, Inputs},
    reader::InvalidFile,
    row_set::RowSet,
};
use crate::grpc::pb;

/// Maximum number of rows that were read and have no result: twice those that the service reads ahead, so that
/// it always has further ones.
const MAX_ROWS: usize = 4_000;

/// Maximum size of these rows in bytes, unless a single one is larger. Maps need a multiple in memory.
const MAX_BYTES: usize = 8 << 20;

/// Rows without a result.
pub(super) struct Backlog {
    inputs: Inputs,
    /// Rows that had a result when the import was continued.
    done: RowSet,
    /// Number of rows of the file that were not read and have no result.
    unread: u64,
    /// Rows that were read, by number.
    unanswered: BTreeMap<u64, pb::ImportRow>,
    bytes: usize,
}

/// Rows that a stream has to repeat, by number.
#[derive(Debug, Default)]
pub(super) struct Repeats(VecDeque<u64>);

// === impl Backlog ===

impl Backlog {
    /// Rows of a file of which `done` have results. `rows` is the number of all.
    pub(super) fn new(inputs: Inputs, rows: u64, done: RowSet) -> Self {
        let unread = rows.saturating_sub(done.len());
        Self { inputs, done, unread, unanswered: BTreeMap::new(), bytes: 0 }
    }

    /// True if every row has a result.
    pub(super) fn is_empty(&self) -> bool {
        self.unread == 0 && self.unanswered.is_empty()
    }

    /// Rows that a new stream repeats.
    pub(super) fn repeats(&self) -> Repeats {
        Repeats(self.unanswered.keys().copied().collect())
    }

    /// True if a stream with these repeats has a further row to send, now or after results.
    pub(super) fn has_more(&self, repeats: &Repeats) -> bool {
        !repeats.0.is_empty() || self.unread > 0
    }

    /// True if a further row may be sent now.
    pub(super) fn has_room(&self, repeats: &Repeats) -> bool {
        let has_room = self.unanswered.len() < MAX_ROWS && self.bytes < MAX_BYTES;
        !repeats.0.is_empty() || (self.unread > 0 && has_room)
    }

    /// The next row to send. `None` if there is none.
    pub(super) fn next(
        &mut self,
        repeats: &mut Repeats,
    ) -> Result<Option<pb::ImportRow>, InputError> {
        if let Some(number) = repeats.0.pop_front() {
            return Ok(self.unanswered.get(&number).cloned());
        }
        if self.unread == 0 {
            return Ok(None);
        }
        loop {
            let input = self.inputs.next()?.ok_or(InvalidFile::Changed)?;
            if self.done.contains(input.number) {
                continue;
            }
            self.unread -= 1;
            self.bytes += input.row.encoded_len();
            self.unanswered.insert(input.number, input.row.clone());
            return Ok(Some(input.row));
        }
    }

    /// Removes the row that has a result; returns its number. `None` if no row without one has this key.
    pub(super) fn answer(&mut self, key: &str) -> Option<u64> {
        let number = key.parse().ok()?;
        let row = self.unanswered.remove(&number)?;
        self.bytes -= row.encoded_len();
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{
        file_kind::{Compression, Format},
        import::{mapping::Mapping, reader::Rows, results::Options},
    };

    fn backlog(rows: u64, value: &str, done: &[u64]) -> Backlog {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leads.csv");
        std::fs::write(
            &file,
            format!(
                "hs_lead_name\n{}",
                format!("{value}\n").repeat(if value.len() == 1 { 20_000 } else { 20 })
            ),
        )
        .unwrap();
        let reader = Rows::open(&file, Format::Csv, Compression::None).unwrap();
        let inputs = Inputs::new(reader, Mapping::new(&[], None), &Options::default());
        let mut set = RowSet::default();
        for row in done {
            set.insert(*row);
        }
        Backlog::new(inputs, rows, set)
    }

    fn keys(backlog: &mut Backlog, repeats: &mut Repeats, count: usize) -> Vec<String> {
        let next = |_| backlog.next(repeats).unwrap().map(|row| row.key);
        (0..count).map_while(next).collect()
    }

    #[test]
    fn rows_with_results_are_left_out_and_those_without_are_repeated() {
        let mut backlog = backlog(6, "x", &[2, 3]);
        let mut first = backlog.repeats();
        assert_eq!(keys(&mut backlog, &mut first, 3), ["1", "4", "5"]);
        assert_eq!(backlog.answer("4"), Some(4));
        for key in ["4", "2", "6", "x", ""] {
            assert_eq!(backlog.answer(key), None, "{key}");
        }
        let mut second = backlog.repeats();
        assert_eq!(keys(&mut backlog, &mut second, 9), ["1", "5", "6"]);
        assert!(!backlog.has_more(&second) && !backlog.is_empty());
        for (key, is_empty) in [("6", false), ("1", false), ("5", true)] {
            assert!(backlog.answer(key).is_some());
            assert_eq!(backlog.is_empty(), is_empty);
        }
        assert_eq!(backlog.bytes, 0);
    }

    #[test]
    fn rows_without_results_are_bounded_in_number_and_bytes() {
        for (value, expected) in [("x", MAX_ROWS), (&*"x".repeat(1 << 20), 8)] {
            let rows = if value.len() == 1 { 20_000 } else { 20 };
            let mut backlog = backlog(rows, value, &[]);
            let mut repeats = Repeats::default();
            let mut sent = 0;
            while backlog.has_room(&repeats) {
                backlog.next(&mut repeats).unwrap();
                sent += 1;
            }
            assert_eq!(sent, expected);
            assert!(backlog.has_more(&repeats));
            backlog.answer("1").unwrap();
            assert!(backlog.has_room(&repeats));
        }
    }

    #[test]
    fn a_file_that_has_lost_rows_is_an_error() {
        let mut backlog = backlog(20_001, "x", &[]);
        let mut repeats = Repeats::default();
        let error = loop {
            match backlog.next(&mut repeats) {
                Ok(row) => backlog.answer(&row.unwrap().key).unwrap(),
                Err(error) => break error,
            };
        };
        assert!(error.to_string().contains("has fewer rows than before"), "{error}");
    }
}
