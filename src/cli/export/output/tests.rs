//! Tests of the partial file: chunks, checkpoints, and what is replaced.

use std::{io::Read as _, path::Path};

use flate2::read::MultiGzDecoder;

use super::*;
use crate::cli::{export::state::Selection, file_kind::Format};

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

fn state(compression: Compression) -> State {
    State::new(Selection {
        format: Format::Ndjson,
        compression,
        properties: Vec::new(),
        history: Vec::new(),
        associations: Vec::new(),
        filters: Vec::new(),
        query: String::new(),
    })
}

fn add(output: &mut Output, text: &str) {
    output.rows().extend_from_slice(text.as_bytes());
    output.added().unwrap();
}

fn text(file: &Path, compression: Compression) -> String {
    let bytes = fs::read(file).unwrap();
    let mut text = String::new();
    match compression {
        Compression::None => text = String::from_utf8(bytes).unwrap(),
        Compression::Gzip => {
            MultiGzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        }
        Compression::Zstd => {
            text = String::from_utf8(zstd::stream::decode_all(&*bytes).unwrap()).unwrap();
        }
    }
    text
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_file_that_is_continued_equals_one_that_was_not_interrupted() {
    for compression in ALL {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(&folder.path().join("leads"));
        let mut state = state(compression);
        let mut output = Output::open(paths.clone(), compression, 0).unwrap();
        add(&mut output, "one\n");
        output.checkpoint(&mut state).unwrap();
        add(&mut output, "two\n");
        output.checkpoint(&mut state).unwrap();
        let kept = fs::read(&paths.partial).unwrap().len() as u64;
        assert_eq!(state.bytes, kept);
        // Rows after the last state, as a killed process leaves them.
        add(&mut output, "lost\n");
        output.flush().unwrap();
        assert!(fs::read(&paths.partial).unwrap().len() as u64 > kept);
        drop(output);
        assert_eq!(names(folder.path()), ["leads.partial", "leads.resume.json"]);
        let mut output = Output::open(paths.clone(), compression, kept).unwrap();
        add(&mut output, "three\n");
        let length = output.complete().unwrap();
        assert_eq!(text(&paths.out, compression), "one\ntwo\nthree\n");
        assert_eq!(fs::metadata(&paths.out).unwrap().len(), length);
        assert_eq!(names(folder.path()), ["leads"]);
    }
}

#[test]
fn chunks_bound_the_buffer() {
    for compression in ALL {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(&folder.path().join("leads"));
        let mut output = Output::open(paths.clone(), compression, 0).unwrap();
        let row = format!("{}\n", "x".repeat(100_000));
        let mut expected = String::new();
        for _ in 0..50 {
            add(&mut output, &row);
            expected.push_str(&row);
            assert!(output.rows.len() < CHUNK);
        }
        output.complete().unwrap();
        assert!(text(&paths.out, compression) == expected);
    }
}

#[test]
fn nothing_is_replaced_without_an_option() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(&folder.path().join("leads"));
    assert!(Output::check(&paths, false, false).is_ok());
    fs::write(&paths.out, "earlier").unwrap();
    for (resume, force, is_allowed) in
        [(false, false, false), (true, false, false), (false, true, true), (true, true, true)]
    {
        assert_eq!(Output::check(&paths, resume, force).is_ok(), is_allowed, "{resume} {force}");
    }
    fs::remove_file(&paths.out).unwrap();
    fs::write(&paths.state, "{}").unwrap();
    for (resume, force, is_allowed) in
        [(false, false, false), (true, false, true), (false, true, true)]
    {
        assert_eq!(Output::check(&paths, resume, force).is_ok(), is_allowed, "{resume} {force}");
    }
}

#[test]
fn a_file_has_one_writer_and_is_as_long_as_its_state_says() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(&folder.path().join("leads"));
    let mut output = Output::open(paths.clone(), Compression::None, 0).unwrap();
    let second = Output::open(paths.clone(), Compression::None, 0).unwrap_err();
    assert!(matches!(second, OutputError::Locked(_)), "{second}");
    add(&mut output, "one\n");
    output.checkpoint(&mut state(Compression::None)).unwrap();
    drop(output);
    let short = Output::open(paths.clone(), Compression::None, 5).unwrap_err();
    assert!(matches!(short, OutputError::Short(_)), "{short}");
    Output::open(paths, Compression::None, 0).unwrap().discard().unwrap();
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let paths = Paths::new(Path::new("/nonexistent/leads.csv"));
    let error = Output::open(paths, Compression::None, 0).unwrap_err().to_string();
    assert!(error.starts_with("cannot write /nonexistent/leads.csv.partial: No such"), "{error}");
}
