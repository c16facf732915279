//! Rules about the repository that the compiler cannot check: dependencies between modules, layout
//! and length of files, forbidden text, language. The module `planted` proves that the rules find
//! faults.

#![expect(clippy::wildcard_enum_match_arm, reason = "the lexer skips all tokens but a few")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

#[path = "tidy/cycles.rs"]
mod cycles;
#[path = "tidy/language.rs"]
mod language;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/logs.rs"]
mod logs;
#[path = "tidy/old_names.rs"]
mod old_names;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

/// Generated folders.
const GENERATED: &[&str] = &["target", ".git", "node_modules", "__pycache__", "gen", ".venv"];

/// Files that are generated or copied without a change.
const FOREIGN: &[&str] = &["Cargo.lock", "LICENSE", "go.sum", "package-lock.json"];

#[test]
fn modules_name_only_permitted_modules_and_crates() {
    let mut faults = Vec::new();
    for (file, text) in service_files() {
        faults.extend(layers::faults(&file, &source::production(&text)));
    }
    report(&faults);
}

#[test]
fn no_import_cycles_inside_a_folder() {
    let files: Vec<_> =
        production_files().map(|(file, text)| (file, source::production(&text))).collect();
    let found = cycles::cycles(&files);
    report(&found.into_iter().filter(|cycle| !is_known(cycle)).collect::<Vec<_>>());
}

#[test]
fn table_of_layers_has_no_stale_names() {
    report(&layers::table_faults(&dependencies()));
}

#[test]
fn rust_files_have_a_header_and_a_bounded_length() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        if file.extension() == Some(OsStr::new("rs")) {
            // Tests have no maximum length.
            let mut code = source::production(&text);
            if !is_production(&file) {
                code.lines = 0;
            }
            faults.extend(rules::rust_faults(&file, &text, &code));
        }
    }
    report(&faults);
}

#[test]
fn median_file_length_is_bounded() {
    let lines = production_files().map(|(_, text)| source::production(&text).lines).collect();
    let median = rules::median(lines);
    assert!(median <= rules::MAX_MEDIAN, "{median} lines, at most {}", rules::MAX_MEDIAN);
}

#[test]
fn crates_and_folders_have_a_page_of_rustdoc() {
    let all: Vec<PathBuf> = production_files().map(|(file, _)| file).collect();
    // A folder that contains only tests needs no page.
    let is_folder = |folder: &Path| all.iter().any(|file| file.parent() == Some(folder));
    let is_head = |file: &Path| file.ends_with("lib.rs") || is_folder(&file.with_extension(""));
    let files = production_files().filter(|(file, _)| is_head(file));
    report(&files.filter_map(|(file, text)| rules::page_fault(&file, &text)).collect::<Vec<_>>());
}

#[test]
fn log_fields_equal_the_documented_fields() {
    let known: BTreeSet<String> =
        leadsd::telemetry::names::FIELDS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut used = BTreeSet::new();
    for (_, text) in production_files() {
        used.extend(logs::fields(source::without_test_module(&text)));
    }
    let undocumented: Vec<_> = used.difference(&known).collect();
    let unused: Vec<_> = known.difference(&used).collect();
    assert!(undocumented.is_empty(), "not in telemetry/names.rs: {undocumented:?}");
    assert!(unused.is_empty(), "only in telemetry/names.rs: {unused:?}");
}

#[test]
fn no_file_contains_forbidden_text() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        faults.extend(rules::text_faults(&file, &text));
    }
    report(&faults);
}

#[test]
fn no_file_contains_a_banned_phrase() {
    let is_exempt = |file: &Path| language::EXEMPT.iter().any(|exempt| file == Path::new(exempt));
    let files = all_files().into_iter().filter(|(file, _)| !is_exempt(file));
    let faults = files.flat_map(|(file, text)| language::banned_phrases(&file, &text));
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn no_file_contains_an_old_public_name() {
    let files = all_files().into_iter();
    let faults = files.flat_map(|(file, text)| old_names::faults(&file, &text));
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn doc_comments_start_with_a_noun_or_a_third_person_verb() {
    let faults = production_files().flat_map(|(file, text)| language::doc_faults(&file, &text));
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn documents_link_to_existing_files() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        if file.extension() == Some(OsStr::new("md")) {
            faults.extend(rules::broken_links(&file, &text, |path| root().join(path).exists()));
        }
    }
    report(&faults);
}

#[test]
fn each_walk_through_the_code_is_as_short_as_the_page_says() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    for (heading, expected) in [("## One GetLead", 25), ("## One token refresh", 12)] {
        let section = page.split(&format!("\n{heading}\n")).nth(1).unwrap();
        // The steps are the first block of lines that start with a number.
        let steps = section
            .lines()
            .skip_while(|line| !is_step(line))
            .take_while(|line| is_step(line))
            .collect::<Vec<_>>()
            .join("\n");
        let files: BTreeSet<&str> = steps.split('`').filter(|text| text.ends_with(".rs")).collect();
        assert_eq!(files.len(), expected, "{heading}: {files:?}");
    }
}

/// True for a numbered line of a list, or of a table.
fn is_step(line: &str) -> bool {
    line.trim_start_matches("| ").starts_with(|first: char| first.is_ascii_digit())
}

/// Number of findings that the recovery page answers.
const FINDINGS: usize = 13;

#[test]
fn the_recovery_page_answers_every_finding_with_tests_that_exist() {
    let files = all_files();
    let page = files.iter().find(|(file, _)| file == Path::new("docs/RECOVERY.md"));
    let (_, page) = page.expect("docs/RECOVERY.md");
    let code: Vec<&str> = files
        .iter()
        .filter(|(file, _)| file.extension() == Some(OsStr::new("rs")))
        .map(|(_, text)| text.as_str())
        .collect();
    report(&rules::missing_tests(page, &code));
    report(&rules::missing_findings(page, FINDINGS));
}

/// True if a cycle is part of a known one.
fn is_known(cycle: &str) -> bool {
    let names = |cycle: &str| -> BTreeSet<String> {
        cycle.split([':', ',']).map(|name| name.trim().to_owned()).collect()
    };
    cycles::KNOWN.iter().any(|known| names(known).is_superset(&names(cycle)))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Every text file except generated ones, by path from the root.
fn all_files() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("readable folder") {
            let entry = entry.expect("readable entry");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_str().expect("file names are text");
            if GENERATED.contains(&name) || FOREIGN.contains(&name) {
                continue;
            }
            let kind = entry.file_type().expect("readable entry");
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file()
                && let Ok(text) = fs::read_to_string(&path)
            {
                let file = path.strip_prefix(root()).expect("below the root");
                found.push((file.to_owned(), text));
            }
        }
    }
    assert!(found.len() > 20, "the walk found only {} files", found.len());
    found.sort();
    found
}

/// The files of `src/` and `crates/` that are compiled into the product.
fn production_files() -> impl Iterator<Item = (PathBuf, String)> {
    let in_product = |file: &Path| file.starts_with("src") || file.starts_with("crates");
    all_files().into_iter().filter(move |(file, _)| in_product(file) && is_production(file))
}

/// The files of the root package. The compiler keeps the other crates apart.
fn service_files() -> impl Iterator<Item = (PathBuf, String)> {
    production_files().filter(|(file, _)| file.starts_with("src"))
}

fn is_production(file: &Path) -> bool {
    let rust = file.extension() == Some(OsStr::new("rs"));
    rust && !file.iter().any(|part| matches!(part.to_str(), Some("tests" | "tests.rs")))
}

/// The crates of `Cargo.toml`, as they are written in code.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("readable manifest");
    let manifest: toml::Table = manifest.parse().expect("valid manifest");
    let table = manifest["dependencies"].as_table().expect("a table of dependencies");
    table.keys().map(|name| name.replace('-', "_")).collect()
}
