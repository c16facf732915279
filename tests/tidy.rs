//! Rules about the repository that the compiler cannot check: who may name whom, how files open and
//! how long they get, what no file may hold. The modules `planted` prove that the rules bite.

#![expect(clippy::wildcard_enum_match_arm, reason = "the lexer skips all tokens but a few")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/logs.rs"]
mod logs;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

/// Folders that nobody writes by hand.
const GENERATED: &[&str] = &["target", ".git", "node_modules", "__pycache__", "gen", ".venv"];

/// Files that come from elsewhere as they are.
const FOREIGN: &[&str] = &["Cargo.lock", "LICENSE", "go.sum", "package-lock.json"];

#[test]
fn modules_keep_to_their_neighbours() {
    let mut faults = Vec::new();
    for (file, text) in service_files() {
        faults.extend(layers::faults(&file, &source::production(&text)));
    }
    report(&faults);
}

#[test]
fn files_of_one_folder_do_not_import_each_other_in_circles() {
    let files: Vec<_> =
        production_files().map(|(file, text)| (file, source::production(&text))).collect();
    let found = circles::circles(&files);
    report(&found.into_iter().filter(|circle| !is_known(circle)).collect::<Vec<_>>());
}

#[test]
fn the_table_of_layers_names_what_exists() {
    report(&layers::table_faults(&dependencies()));
}

#[test]
fn rust_files_open_with_their_purpose_and_stay_readable() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        if file.extension() == Some(OsStr::new("rs")) {
            // Tests are long lists by nature; everything else counts.
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
fn half_of_all_files_are_short() {
    let lines = production_files().map(|(_, text)| source::production(&text).lines).collect();
    let median = rules::median(lines);
    assert!(median <= rules::MAX_MEDIAN, "{median} lines, at most {}", rules::MAX_MEDIAN);
}

#[test]
fn crates_and_folders_open_with_a_page_of_rustdoc() {
    let all: Vec<PathBuf> = production_files().map(|(file, _)| file).collect();
    // A folder with nothing but tests is none.
    let is_folder = |folder: &Path| all.iter().any(|file| file.parent() == Some(folder));
    let is_head = |file: &Path| file.ends_with("lib.rs") || is_folder(&file.with_extension(""));
    let files = production_files().filter(|(file, _)| is_head(file));
    report(&files.filter_map(|(file, text)| rules::page_fault(&file, &text)).collect::<Vec<_>>());
}

#[test]
fn fields_of_the_log_are_those_that_are_documented() {
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
fn no_file_holds_what_must_not_stay() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        faults.extend(rules::text_faults(&file, &text));
    }
    report(&faults);
}

#[test]
fn documents_point_at_files_that_exist() {
    let mut faults = Vec::new();
    for (file, text) in all_files() {
        if file.extension() == Some(OsStr::new("md")) {
            faults.extend(rules::broken_links(&file, &text, |path| root().join(path).exists()));
        }
    }
    report(&faults);
}

/// Whether a circle is part of a known one.
fn is_known(circle: &str) -> bool {
    let names = |circle: &str| -> BTreeSet<String> {
        circle.split([':', ',']).map(|name| name.trim().to_owned()).collect()
    };
    circles::KNOWN.iter().any(|known| names(known).is_superset(&names(circle)))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn report(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Every written file with its content, by path from the root. What is not text is left out.
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
